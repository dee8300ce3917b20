"""Offline verification by anyone: numbered checks against a pinned trust list and the status lists at hand."""
