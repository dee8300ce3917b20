"""The writer: one thread that owns the writing connection and commits what has gathered together.

While one transaction is being written the next units gather, so under load one fsync carries many of them and alone a
unit waits for nothing. Whoever waits is told after COMMIT, all of a batch in one turn of the loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from federation.reasons import Reason, Refusal
from gateway.cases.store import Done, Result, Store, Unit

MOST_IN_BATCH = 256
MOST_WAITING = 8_192
SHED_ABOVE = 4_096
"""New cases are turned away above this many waiting units; work on accepted cases still goes on."""

_T = TypeVar("_T")


class WriterObserver(Protocol):
    """Counts what the writer does."""

    def committed(self, seconds: float, units: int, waiting: int) -> None: ...


class Writer(Protocol):
    """Writes units and runs writing calls, in order."""

    def submit(self, unit: Unit) -> asyncio.Future[Done]: ...
    def call(self, work: Callable[[Store], _T]) -> asyncio.Future[_T]: ...
    @property
    def is_busy(self) -> bool: ...
    async def close(self) -> None: ...


def settle(settled: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    """Tell each future its result, or what was raised; in the loop's thread. Whoever waits no more is left alone."""
    for future, result in settled:
        if future.done():
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


class ThreadedWriter:
    """The writer of a running gateway."""

    def __init__(self, store: Store, observer: WriterObserver) -> None:
        self._store, self._observer = store, observer
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._bell = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="case writer", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        return len(self._waiting) > SHED_ABOVE

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, unit: Unit) -> asyncio.Future[Done]:
        """Apply a unit; the future resolves after COMMIT."""
        return self._put(unit)

    def call(self, work: Callable[[Store], _T]) -> asyncio.Future[_T]:
        """Run another writing call (claim, extend …) in its turn."""
        return self._put(work)

    def _put(self, work: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if len(self._waiting) >= MOST_WAITING:
            future.set_exception(Refusal(Reason.OVERLOADED, retry_after_s=2.0))
            return future
        self._waiting.append((work, future))
        if not self._bell.is_set():  # cleared before it looks, so that a unit is either seen or rings
            self._bell.set()
        return future

    def _take(self) -> list[tuple[Any, asyncio.Future[Any]]]:
        """What has gathered, up to a batch; waits for the first. Nothing = there will be no more."""
        while not self._waiting:
            if self._closing:
                return []
            self._bell.wait()
            self._bell.clear()
        return [self._waiting.popleft() for _ in range(min(MOST_IN_BATCH, len(self._waiting)))]

    def _run(self) -> None:
        import time

        while taken := self._take():
            began = time.perf_counter()
            settled: list[tuple[asyncio.Future[Any], Any]] = []
            units: list[tuple[Unit, asyncio.Future[Any]]] = []
            for work, future in taken:
                if isinstance(work, Unit):
                    units.append((work, future))
                else:
                    self._flush(units, settled)
                    settled.append((future, self._called(work)))
            self._flush(units, settled)
            self._observer.committed(time.perf_counter() - began, len(settled), len(self._waiting))
            try:
                self._loop.call_soon_threadsafe(settle, settled)
            except RuntimeError:
                return  # the loop has ended: nobody waits any more

    def _flush(
        self, units: list[tuple[Unit, asyncio.Future[Any]]], settled: list[tuple[asyncio.Future[Any], Any]]
    ) -> None:
        if not units:
            return
        try:
            results: Sequence[Result] = self._store.transact([unit for unit, _future in units])
        except Exception as error:
            results = [error] * len(units)
        settled += [(future, result) for (_unit, future), result in zip(units, results, strict=True)]
        units.clear()

    def _called(self, work: Callable[[Store], Any]) -> Any:
        try:
            return work(self._store)
        except Exception as error:
            return error

    async def close(self) -> None:
        """Write what waits, then end the thread; bounded."""
        self._closing = True
        self._bell.set()
        await asyncio.to_thread(self._thread.join, 10.0)
