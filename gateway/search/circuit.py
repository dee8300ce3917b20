"""The circuit of one archive: stop asking what just failed again and again; never take it off the roster.

Opens after five failures in a row, or half of at least ten in thirty seconds; then five seconds, doubling to five
minutes, a fifth of jitter. Half-open lets one real question through at a time. Any answer, and any new session, closes it.

What counts as a failure is chosen so that no caller can open a healthy archive's circuit: silence counts only when the
archive had a fair time to answer, a lost session counts once however many questions were in flight on it, a missing
session does not count at all (asking without one costs nothing, and `unreachable` says more than `circuit_open`), and
"busy" never counts towards the five in a row.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

FAILURES_IN_A_ROW = 5
WINDOW_S, WINDOW_LEAST, WINDOW_SHARE = 30.0, 10, 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
FAIR_BUDGET_S = 0.5
"""Silence within less says nothing about an archive; healthy ones answer in well under 100 ms."""

_ONE_LOSS_S = 0.1  # losses within this belong to one lost session
_MOST_REMEMBERED = 200


class Circuit:
    """State of one archive. `clock` is monotonic seconds; `jitter` gives numbers from 0 to 1."""

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        self._clock, self._jitter = clock, jitter
        self._row = 0
        self._recent: deque[tuple[float, bool]] = deque(maxlen=_MOST_REMEMBERED)
        self._failing_since: float | None = None
        self._last_failure = self._last_loss = float("-inf")
        self._open_since: float | None = None
        self._pause = 0.0
        self._probing_until = float("-inf")

    def retry_after(self) -> float:
        """Seconds until the next question may be tried; 0 while closed."""
        if self._open_since is None:
            return 0.0
        return max(0.0, self._open_since + self._pause - self._clock())

    def admits(self, budget_s: float) -> bool:
        """Whether to ask now. Half-open admits one question with a fair budget at a time; its place is held until it
        answers or fails, at most for `budget_s`.
        """
        if self._open_since is None:
            return True
        now = self._clock()
        if now < self._open_since + self._pause or now < self._probing_until or budget_s < FAIR_BUDGET_S:
            return False
        self._probing_until = now + budget_s
        return True

    def succeeded(self) -> None:
        """An answer came, of whatever content: the archive works."""
        if self._failing_since is None and not self._recent:
            return  # the usual case costs nothing
        if self._open_since is not None:
            self.reset()
            return
        self._row = 0
        self._failing_since = None
        now = self._clock()
        if now - self._last_failure > WINDOW_S:
            self._recent.clear()
        else:
            self._recent.append((now, True))

    def failed(self, asked_at: float) -> None:
        """No answer to a question asked at `asked_at`."""
        self._fail(asked_at, in_a_row=True)

    def busy(self, asked_at: float) -> None:
        """The archive said that it has too much to do."""
        self._fail(asked_at, in_a_row=False)

    def lost_session(self, asked_at: float) -> None:
        """The session ended under a question; all questions of one session together count once."""
        now = self._clock()
        if now - self._last_loss > _ONE_LOSS_S:
            self._last_loss = now
            self._fail(asked_at, in_a_row=True)

    def _fail(self, asked_at: float, *, in_a_row: bool) -> None:
        now = self._last_failure = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        self._row += in_a_row
        self._recent.append((now, False))
        if self._open_since is not None:
            if asked_at >= self._open_since + self._pause:  # else it was asked before the circuit opened
                self._open(now)
            return
        recent = [ok for at, ok in self._recent if now - at <= WINDOW_S]
        many = len(recent) >= WINDOW_LEAST and recent.count(False) >= WINDOW_SHARE * len(recent)
        if self._row >= FAILURES_IN_A_ROW or many:
            self._pause = 0.0
            self._open(now)

    def _open(self, now: float) -> None:
        base = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, self._pause * 2))
        self._pause = min(LONGEST_PAUSE_S, base * (0.8 + 0.4 * self._jitter()))
        self._open_since = now
        self._probing_until = float("-inf")

    def reset(self) -> None:
        """The archive showed that it is back."""
        self._row = 0
        self._recent.clear()
        self._failing_since = None
        self._open_since = None
        self._pause = 0.0
        self._last_loss = self._probing_until = float("-inf")
