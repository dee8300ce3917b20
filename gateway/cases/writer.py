"""The writer: one thread that owns the writing connection and commits what has gathered together.

While one transaction is being written the next units gather, so under load one fsync carries many of them and alone a
unit waits for nothing. Whoever waits is told after COMMIT, all of a batch in one turn of the loop.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from federation.reasons import Reason, Refusal
from gateway.cases.store import Done, Result, Store, Unit

MOST_IN_BATCH = 128
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


def _settle(settled: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
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
        self._queue: queue.Queue[tuple[Any, asyncio.Future[Any]] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="case writer", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        return self._queue.qsize() > SHED_ABOVE

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
        try:
            self._queue.put_nowait((work, future))
        except queue.Full:
            future.set_exception(Refusal(Reason.OVERLOADED, retry_after_s=2.0))
        return future

    def _run(self) -> None:
        import time

        closing = False
        while not closing:
            taken = [self._queue.get()]
            while len(taken) < MOST_IN_BATCH:
                try:
                    taken.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            began = time.perf_counter()
            settled: list[tuple[asyncio.Future[Any], Any]] = []
            units: list[tuple[Unit, asyncio.Future[Any]]] = []
            for one in taken:
                if one is None:
                    closing = True
                elif isinstance(one[0], Unit):
                    units.append((one[0], one[1]))
                else:
                    self._flush(units, settled)
                    settled.append((one[1], self._called(one[0])))
            self._flush(units, settled)
            self._observer.committed(time.perf_counter() - began, len(settled), self._queue.qsize())
            try:
                self._loop.call_soon_threadsafe(_settle, settled)
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
        await asyncio.to_thread(self._queue.put, None, True, 10.0)
        await asyncio.to_thread(self._thread.join, 10.0)


class InlineWriter:
    """A writer on the event loop itself, for virtual time: a transaction takes no time at all."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self._loop = asyncio.get_running_loop()

    is_busy = False

    def submit(self, unit: Unit) -> asyncio.Future[Done]:
        return self._put(unit)

    def call(self, work: Callable[[Store], _T]) -> asyncio.Future[_T]:
        return self._put(work)

    def _put(self, work: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append((work, future))
        return future

    def _flush(self) -> None:
        taken, self._waiting = self._waiting, []
        for work, future in taken:
            try:
                result = self._store.transact([work])[0] if isinstance(work, Unit) else work(self._store)
            except Exception as error:
                result = error
            _settle([(future, result)])

    async def close(self) -> None:
        """Nothing to end."""
