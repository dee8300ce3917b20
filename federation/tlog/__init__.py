"""The evidence log: what happened in an exchange, kept so that rewriting it shows (RFC 6962 tree, C2SP formats).

Inward order: flaws < merkle < tiles, note < checkpoint < proof, event < store < reader < log < the rest. docs/evidence.md
says what is logged and what it proves.
"""
