"""Time budgets on the monotonic clock; what crosses the wire is the remaining milliseconds, never a clock time."""

MEANINGFUL_WORK_S = 0.005
"""With less than this left, work is refused instead of begun."""
