"""Benches: one module a figure or a family of figures; see loadtest/bench.py."""
