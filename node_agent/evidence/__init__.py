"""The archive's evidence: its log of every exchange, the proofs inside its documents, its word as witness of other logs."""
