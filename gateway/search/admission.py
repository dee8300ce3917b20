"""Admission: at most 64 searches run, at most 100 wait, the rest are told to come back; never an empty answer instead.

More running searches would not finish sooner: they share one core and the archives' credits. A search waits for at most
half of its time, because one that starts later could only time out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from federation.reasons import Reason, Refusal
from gateway.search.ports import SearchObserver

MOST_RUNNING, MOST_WAITING = 64, 100
RETRY_AFTER_S = 1.0


class Admission:
    """Places for running searches, handed over first come first served. Whoever entered must `leave`."""

    def __init__(self, clock: Callable[[], float], observer: SearchObserver) -> None:
        self._clock, self._observer = clock, observer
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def enter_at_once(self) -> bool:
        """Take a place if one is free."""
        if self._running < MOST_RUNNING:
            self._running += 1
            return True
        return False

    async def enter(self, ends_at: float) -> None:
        """Take a place, waiting for at most half of the time until `ends_at`; Refusal(OVERLOADED) when there is none."""
        if self.enter_at_once():
            return
        if len(self._waiting) >= MOST_WAITING:
            raise self._refused()
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(max(0.0, (ends_at - self._clock()) / 2), turn.cancel)
        try:
            await turn  # whoever leaves hands its place over
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place came, but its owner was cancelled in the same turn of the loop
                raise
            if turn in self._waiting:
                self._waiting.remove(turn)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._refused() from None
        finally:
            timer.cancel()

    def _refused(self) -> Refusal:
        self._observer.event("shed")
        return Refusal(Reason.OVERLOADED, retry_after_s=RETRY_AFTER_S)

    def leave(self) -> None:
        """Give the place to whoever has waited longest, or free it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
