"""Evidence: verifying what anyone presents, keeping the archives' status lists at hand, and this gateway's own log."""
