"""The background tasks of a process, until it is told to stop; one that ends by itself ends the process and says why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from federation.process.log_lines import raised_at
from federation.reasons import Refusal


class Tell(Protocol):
    """Writes the log line of a task that ended."""

    def __call__(self, *, task: str, **why: str) -> None: ...


def why_ended(error: BaseException | None) -> dict[str, str]:
    """What a log line may say of a task's end: the error's kind and where in the code it was raised, of a refusal its reason;
    never its text, which may quote what somebody sent. A task that nothing was raised in just "returned".
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is None:
        return {"kind": "returned"}
    why = {"kind": type(error).__name__, "where": raised_at(error)}
    return {**why, "reason": error.reason.value} if isinstance(error, Refusal) else why


async def until_stopped(
    stop: asyncio.Event,
    loops: Mapping[str, Awaitable[None]],
    tell: Tell,
    why: Callable[[BaseException | None], Mapping[str, str]] = why_ended,
) -> None:
    """Run the loops, by name, until `stop`, then cancel them. SystemExit(1) when one has ended by itself: `tell` is given its
    name, and `why` of what was raised in it.
    """
    tasks: dict[asyncio.Future[Any], str] = {
        asyncio.ensure_future(loop): name for name, loop in loops.items()
    }
    stopping = asyncio.create_task(stop.wait(), name="wait for stop")
    done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for task in [*tasks, stopping]:
        task.cancel()
    await asyncio.gather(*tasks, stopping, return_exceptions=True)
    ended = [task for task in tasks if task in done]
    for task in ended:
        tell(task=tasks[task], **why(asyncio.CancelledError() if task.cancelled() else task.exception()))
    if ended:
        raise SystemExit(1)
