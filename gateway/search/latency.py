"""How long one archive takes to answer: a peak-sensitive average that rises at once and halves every ten seconds.

Rising at once and falling slowly errs towards "slow", which is what its two uses want: whether a second attempt can
still make it, and whether silence was long enough to be called a failure.
"""

from __future__ import annotations

from collections.abc import Callable

HALF_LIFE_S = 10.0
UNKNOWN_S = 0.5
"""Taken for an archive that has not answered yet."""


class Latency:
    """Seconds one archive is expected to take. `clock` is monotonic seconds."""

    __slots__ = ("_at", "_clock", "_value")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = 0.0
        self._value: float | None = None

    def observe(self, seconds: float, now: float) -> None:
        """An answer came after `seconds`, at `now` on the clock."""
        value = self._value
        if value is None or seconds >= value:
            self._value = seconds
        else:
            self._value = seconds + (value - seconds) * 0.5 ** ((now - self._at) / HALF_LIFE_S)
        self._at = now

    def expected(self) -> float:
        """Seconds the next answer should take; UNKNOWN_S before the first."""
        return UNKNOWN_S if self._value is None else self._value
