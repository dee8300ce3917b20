"""Parts of a case core that runs without a gateway: tables without a history, a writer for virtual time, archives without hours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from gateway.cases.schema import METADATA
from gateway.cases.store import Done, Store, Unit
from gateway.cases.writer import settle

_T = TypeVar("_T")


def make_tables(store: Store) -> None:
    """Make the tables where they are missing, without the migrations that a gateway's store comes by."""
    METADATA.create_all(store.engine)


class AlwaysOpen:
    """Hours of archives that announced none."""

    def service_ms(self, archive: str, from_ms: int, to_ms: int) -> int:  # noqa: ARG002
        return to_ms - from_ms

    def done_ms(self, archive: str, now_ms: int, work_ms: int) -> int | None:  # noqa: ARG002
        return now_ms + work_ms


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
            result: Any
            try:
                result = self._store.transact([work])[0] if isinstance(work, Unit) else work(self._store)
            except Exception as error:
                result = error
            settle([(future, result)])

    async def close(self) -> None:
        """Nothing to end."""
