"""Group commit: one thread appends what has gathered, so that many waiting callers share one fsync.

Alone an event waits for nothing; under load one transaction carries up to `MOST_IN_BATCH`. Callers are told after COMMIT.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from concurrent.futures import Future

from federation.tlog.event import Event
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.log import EvidenceLog

MOST_IN_BATCH = 256
MOST_WAITING = 8_192


class GroupCommit:
    """Appends to one log from any thread or event loop; owns a thread, not the log."""

    def __init__(self, log: EvidenceLog) -> None:
        self._log = log
        self._queue: queue.Queue[tuple[Event, Future[int]] | None] = queue.Queue(MOST_WAITING)
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="evidence writer", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread still works."""
        return self._thread.is_alive()

    def submit(self, event: Event) -> Future[int]:
        """Log an event; the future has its place once it is durable, or an EvidenceError (`overloaded` at once)."""
        future: Future[int] = Future()
        with self._closing:
            if self._closed:
                future.set_exception(EvidenceError(Flaw.LOG_UNAVAILABLE, "closed"))
                return future
            try:
                self._queue.put_nowait((event, future))
            except queue.Full:
                future.set_exception(EvidenceError(Flaw.OVERLOADED, f"{MOST_WAITING} waiting"))
        return future

    async def append(self, event: Event) -> int:
        """As `submit`, for coroutines. Cancelling the wait does not take the event back."""
        return await asyncio.shield(asyncio.wrap_future(self.submit(event)))

    def _run(self) -> None:
        closing = False
        while not closing:
            taken = [self._queue.get()]
            while len(taken) < MOST_IN_BATCH:
                try:
                    taken.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            closing = None in taken
            waiting = [one for one in taken if one is not None]
            if not waiting:
                continue
            try:
                results = self._log.append_each([event for event, _future in waiting])
            except Exception as error:  # every waiter is told; the next batch is tried again
                trouble = (
                    error
                    if isinstance(error, EvidenceError)
                    else EvidenceError(Flaw.LOG_UNAVAILABLE, type(error).__name__)
                )
                results = [trouble] * len(waiting)
            for (_event, future), result in zip(waiting, results, strict=True):
                if not future.set_running_or_notify_cancel():
                    continue
                if isinstance(result, EvidenceError):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def close(self, wait_s: float = 10.0) -> None:
        """Write what waits, then end the thread; later events are refused."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join(wait_s)
