"""Catalogue import: files as archives have them → records, with an account of every row. Nothing is silently dropped
or silently repaired.
"""
