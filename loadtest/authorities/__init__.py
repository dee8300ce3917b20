"""Throw-away certificate authorities for try-outs, load tests and tests. A federation in service has its own."""
