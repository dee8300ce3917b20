"""One look at an archive's installation, whether its agent runs or not: what is well, what is not, and what to do. See
docs/operations.md#is-all-well.
"""
