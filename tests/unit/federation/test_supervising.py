"""Background tasks: all run until the process is to stop, and one that ends by itself is named with what may be said of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from federation.process.supervising import until_stopped, why_ended
from federation.reasons import Reason, Refusal

SECRET = "钱伟明"


async def for_ever() -> None:
    await asyncio.Event().wait()


async def raising(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


async def grouped(error: Exception) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(for_ever())
        group.create_task(raising(error))


async def returning() -> None:
    await asyncio.sleep(0)


async def told_of(loop: Any) -> dict[str, str]:
    """What is told when one of two tasks ends like this; the other one is over then too."""
    told: list[dict[str, str]] = []
    other = asyncio.ensure_future(for_ever())
    with pytest.raises(SystemExit) as caught:
        await until_stopped(asyncio.Event(), {"other": other, "this": loop}, lambda **said: told.append(said))
    assert caught.value.code == 1
    assert other.cancelled()
    [said] = told
    assert said.pop("task") == "this"
    return said


@pytest.mark.parametrize("run", [raising, grouped])
async def test_the_kind_and_the_place_of_an_error_are_told_and_never_its_text(run):
    said = await told_of(run(ValueError(SECRET)))
    where = said.pop("where")
    assert said == {"kind": "ValueError"}
    module, line = where.split(":")
    assert module == __name__
    assert line.isdigit()


async def test_of_a_refusal_its_reason_is_told_too():
    said = await told_of(raising(Refusal(Reason.STORE_UNAVAILABLE)))
    assert (said["kind"], said["reason"]) == ("Refusal", "store_unavailable")


async def test_a_task_that_just_returns_or_is_cancelled_says_so():
    assert await told_of(returning()) == {"kind": "returned"}
    assert (await told_of(raising(asyncio.CancelledError())))["kind"] == "CancelledError"


async def test_told_to_stop_all_are_cancelled_and_nothing_is_told():
    stop, running = asyncio.Event(), asyncio.ensure_future(for_ever())
    asyncio.get_running_loop().call_soon(stop.set)
    await until_stopped(stop, {"one": running}, lambda **_said: pytest.fail("nothing ended by itself"))
    assert running.cancelled()


async def test_all_that_ended_are_told():
    told: list[str] = []
    with pytest.raises(SystemExit):
        await until_stopped(
            asyncio.Event(), {"a": returning(), "b": returning()}, lambda task, **_why: told.append(task)
        )
    assert sorted(told) == ["a", "b"]


def test_nothing_is_said_of_where_an_error_comes_from_that_was_never_raised():
    assert why_ended(KeyError(SECRET)) == {"kind": "KeyError", "where": ""}
