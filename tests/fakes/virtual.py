"""Running a coroutine in virtual time: an hour of waiting passes at once, and the loop's clock says an hour."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import looptime


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """The coroutine's result."""
    with asyncio.Runner(loop_factory=lambda: looptime.new_event_loop(start=1000.0)) as runner:
        return runner.run(work)


def now() -> float:
    """The running loop's clock."""
    return asyncio.get_running_loop().time()
