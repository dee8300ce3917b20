"""Time budgets on the monotonic clock; what crosses the wire is the remaining milliseconds, never a clock time."""

from __future__ import annotations

import time
from dataclasses import dataclass

RETURN_MARGIN_S = 0.020
"""Kept back at each hop, so that the callee's own answer or error can still travel home."""

MEANINGFUL_WORK_S = 0.005
"""With less than this left, work is refused instead of begun."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on this process's monotonic clock, in seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds left; negative when passed."""
        return self.at - time.monotonic()

    def passed(self) -> bool:
        return self.remaining() <= 0

    def for_callee(self) -> float:
        """Seconds to hand on to the next hop, RETURN_MARGIN_S kept back; never negative."""
        return max(0.0, self.remaining() - RETURN_MARGIN_S)
