"""One thread for all of the desk's work on disk, so that neither searches nor sessions ever wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from federation.reasons import Reason, Refusal

MOST_WAITING = 512
"""Calls that may wait for the thread; at a millisecond or two each, about a second of work."""

P = ParamSpec("P")
R = TypeVar("R")


class DeskThread:
    """Runs calls one after the other, in the order they were given. Lives on the event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="desk")
        self.waiting = 0

    def call(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """The call's result; Refusal(OVERLOADED) at once when too many are waiting."""
        if self.waiting >= MOST_WAITING:
            raise Refusal(Reason.OVERLOADED, retry_after_s=1.0)
        self.waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _done: asyncio.Future[R]) -> None:
        self.waiting -= 1

    def close(self) -> None:
        """Finish what is waiting. Blocks until it is done."""
        self._thread.shutdown(wait=True)
