"""Load: a local fleet of real processes, an open-loop driver, and the benchmarks with their peers."""
