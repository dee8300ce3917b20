"""The retry budget: at most a tenth of what was sent in ten seconds, plus ten a second; one retry in flight an archive.

tenacity shapes the pauses and is used only when an attempt has failed: on the way of success it would cost 20 us a call.
"""

from __future__ import annotations

from collections.abc import Callable

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_random_exponential

WINDOW_S = 10.0
SHARE = 0.10
FLOOR_PER_S = 10.0
_PAUSES = wait_random_exponential(multiplier=0.025, max=0.25)
"""Full jitter: between nothing and 25 ms, 50 ms, … 250 ms."""


class RetryBudget:
    """Counts attempts and grants retries. `clock` is monotonic seconds.

    The share is taken of this window or the one before, whichever sent more, so that a retry just after the turn of a
    window is not refused for want of history; a window grants at most a tenth of the larger plus the floor.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._window_began = clock()
        self._sent = self._sent_before = 0
        self._retried = 0
        self._in_flight: set[str] = set()

    def sent(self, count: int) -> None:
        """Count first attempts."""
        now = self._clock()
        if now - self._window_began >= WINDOW_S:
            self._turn(now)
        self._sent += count

    def _turn(self, now: float) -> None:
        self._sent_before = self._sent if now - self._window_began < 2 * WINDOW_S else 0
        self._sent = self._retried = 0
        self._window_began = now

    def grant(self, archive: str) -> bool:
        """Whether one more attempt for `archive` is within the budget; a granted one must be `settled`."""
        now = self._clock()
        if now - self._window_began >= WINDOW_S:
            self._turn(now)
        allowed = SHARE * max(self._sent, self._sent_before) + FLOOR_PER_S * WINDOW_S
        if archive in self._in_flight or self._retried >= allowed:
            return False
        self._retried += 1
        self._in_flight.add(archive)
        return True

    def settled(self, archive: str) -> None:
        """The retry granted for `archive` has ended."""
        self._in_flight.discard(archive)


def pause_before(attempt: int) -> float:
    """Seconds to wait before attempt number `attempt` (2 = the first retry), with full jitter."""
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt - 1
    return _PAUSES(state)
