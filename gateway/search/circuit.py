"""The circuit of one archive: stop asking what just failed again and again; never take it off the roster.

Opens after five failures in a row, or half of at least ten in thirty seconds; then five seconds, doubling to five
minutes, a fifth of jitter. Half-open lets one real question through. A new session closes it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

FAILURES_IN_A_ROW = 5
_WINDOW_S, _WINDOW_LEAST, _WINDOW_SHARE = 30.0, 10, 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0


class Circuit:
    """State of one archive. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        self._clock, self._jitter = clock, jitter
        self._row = 0
        self._recent: deque[tuple[float, bool]] = deque(maxlen=200)
        self._open_since: float | None = None
        self._pause = 0.0
        self._probing_until = 0.0

    @property
    def open_since(self) -> float | None:
        """When it opened, on the clock; None while closed."""
        return self._open_since

    def retry_after(self) -> float:
        """Seconds until the next question may be tried; 0 while closed."""
        if self._open_since is None:
            return 0.0
        return max(0.0, self._open_since + self._pause - self._clock())

    def admits(self, budget_s: float) -> bool:
        """Whether to ask now. Half-open admits one question at a time; its place is held for `budget_s`."""
        if self._open_since is None:
            return True
        now = self._clock()
        if now < self._open_since + self._pause or now < self._probing_until:
            return False
        self._probing_until = now + budget_s
        return True

    def succeeded(self) -> None:
        """An answer came, of whatever content: the archive works."""
        if self._open_since is None and not self._row and not self._recent:
            return  # the usual case costs nothing
        if self._open_since is not None:
            self.reset()
            return
        self._row = 0
        self._recent.append((self._clock(), True))

    def failed(self) -> None:
        """No answer, no session, or too busy."""
        now = self._clock()
        self._row += 1
        self._recent.append((now, False))
        if self._open_since is not None:
            self._reopen(now)
            return
        recent = [ok for at, ok in self._recent if now - at <= _WINDOW_S]
        many = len(recent) >= _WINDOW_LEAST and recent.count(False) >= _WINDOW_SHARE * len(recent)
        if self._row >= FAILURES_IN_A_ROW or many:
            self._pause = 0.0
            self._reopen(now)

    def _reopen(self, now: float) -> None:
        if self._open_since is not None and now < self._open_since + self._pause:
            return  # a late failure of a question asked before it opened
        base = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, self._pause * 2))
        self._pause = min(LONGEST_PAUSE_S, base * (0.8 + 0.4 * self._jitter()))
        self._open_since = now
        self._probing_until = 0.0

    def reset(self) -> None:
        """The archive showed that it is back."""
        self._row = 0
        self._recent.clear()
        self._open_since = None
        self._pause = 0.0
        self._probing_until = 0.0
