"""Waiting in a test for what other tasks and processes do: as short as it can be, and long enough for a busy machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 60.0
"""Long enough for a process to start on a machine whose cores do other work as well; a test that states no time of its own
waits as long before it fails."""


def until(
    condition: Callable[[], Any], what: str = "did not happen in time", seconds: float = PATIENCE_S
) -> Any:
    """What `condition` gives as soon as that is true; an AssertionError that says `what` where it does not come about."""
    ends_at = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends_at, what
        time.sleep(0.03)
    return found


async def soon(condition: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """The same on an event loop: what `condition` gives as soon as that is true."""
    async with asyncio.timeout(seconds):
        while not (found := condition()):
            await asyncio.sleep(0.01)
    return found
