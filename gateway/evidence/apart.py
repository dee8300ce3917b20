"""The same work for each of many archives, apart: one that hangs holds up its own alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

ANSWER_WITHIN_S = 15.0
"""How long one archive's answer may take. It is shorter than the bulk stream waits for a part: what is asked here is small, and asked
again soon.
"""

_AT_ONCE = 32
"""Answers waited for at a time, so that a federation is not fetched into memory at once. Only more archives than this that hang
together hold up others, by `ANSWER_WITHIN_S` at a time.
"""


class Apart:
    """`name` is what the tasks are called."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def run(self, archives: Iterable[str], keep: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        """`keep(archive)` for each, which does not return, until cancelled; one that raises ends all, and that is told."""
        async with asyncio.TaskGroup() as tasks:
            for archive in archives:
                tasks.create_task(keep(archive), name=f"{self._name} {archive}")
            await asyncio.Event().wait()  # also where there is no archive

    @contextlib.asynccontextmanager
    async def answer(self) -> AsyncIterator[None]:
        """Around the wait for one archive's answer; TimeoutError."""
        async with self._room, asyncio.timeout(ANSWER_WITHIN_S):
            yield
