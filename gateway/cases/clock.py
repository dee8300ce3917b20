"""The clock of one process: the time of day that never jumps, so that setting the machine's clock changes no minute.

It starts at the time of day and goes on by the machine's steady clock. What the reference (the database's clock, or the
machine's own time of day where there is one process) says otherwise later is taken in slowly, or, when it is a jump, only
as slowly as that; a jump is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable

JUMP_MS = 1_000
"""A reference that is off by more than this has jumped: network time keeps machines far closer."""

_FASTEST = 0.005
"""The share by which the clock may run fast or slow while it takes in a difference: 3 s in ten minutes."""

_TAKEN_IN_MS = 60_000


def steady_ns() -> int:
    """Nanoseconds that also pass while the machine sleeps."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def wall_ms() -> int:
    """The machine's time of day in milliseconds of UTC since 1970."""
    return time.time_ns() // 1_000_000


class SteadyClock:
    """Call it for milliseconds of UTC since 1970. They never run backwards."""

    def __init__(self, wall: Callable[[], int] = wall_ms, steady: Callable[[], int] = steady_ns) -> None:
        self._steady = steady
        self._anchor = (float(wall()), steady(), 1.0)  # milliseconds then, steady nanoseconds then, pace
        self._told_ms = 0

    def __call__(self) -> int:
        then_ms, then_ns, pace = self._anchor
        return int(then_ms + (self._steady() - then_ns) / 1e6 * pace)

    def steer(self, error_ms: int) -> int:
        """Take in that the reference is `error_ms` ahead (negative: behind). The milliseconds of a jump that has not been
        told yet, 0 otherwise.
        """
        then_ms, then_ns, pace = self._anchor
        now_ns = self._steady()
        wanted = max(-_FASTEST, min(_FASTEST, error_ms / _TAKEN_IN_MS))
        self._anchor = (then_ms + (now_ns - then_ns) / 1e6 * pace, now_ns, 1.0 + wanted)
        known, self._told_ms = self._told_ms, error_ms if abs(error_ms) > JUMP_MS else 0
        return error_ms if abs(error_ms - known) > JUMP_MS and self._told_ms else 0
