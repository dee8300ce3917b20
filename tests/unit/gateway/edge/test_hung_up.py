"""Callers who hang up: noticed however late they do, once, and nobody else is."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from gateway.edge import hung_up
from gateway.edge.hung_up import HungUp


class Caller:
    """A request as `HungUp` sees one; `leave` closes its connection."""

    def __init__(self) -> None:
        self.has_left = False
        self.transport = SimpleNamespace(is_closing=lambda: self.has_left)

    def leave(self) -> None:
        self.has_left = True


@pytest.fixture(autouse=True)
def looks(monkeypatch):
    monkeypatch.setattr(hung_up, "LOOK_EVERY_S", 0.01)


async def many_looks():
    await asyncio.sleep(0.1)


async def working(watch, caller, told, tidying_s=0.0):
    with watch.watching(caller):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.append("told")
            await asyncio.sleep(tidying_s)
            told.append("tidied up")
            raise


async def test_who_hangs_up_after_many_looks_is_noticed_and_others_are_left_alone():
    watch, early, late, staying = HungUp(), Caller(), Caller(), Caller()
    told = {caller: [] for caller in (early, late, staying)}
    running = {caller: asyncio.create_task(working(watch, caller, told[caller])) for caller in told}
    for caller in (early, late):
        await many_looks()
        caller.leave()
        async with asyncio.timeout(5):
            await asyncio.wait([running[caller]])
        assert running[caller].cancelled()
    assert not running[staying].done()
    assert told[staying] == []
    running[staying].cancel()


async def test_what_is_tidied_up_for_a_caller_who_hung_up_is_not_broken_off():
    watch, caller, told = HungUp(), Caller(), []
    running = asyncio.create_task(working(watch, caller, told, tidying_s=0.2))
    await many_looks()
    caller.leave()
    async with asyncio.timeout(5):
        await asyncio.wait([running])
    assert told == ["told", "tidied up"]


async def test_what_has_ended_is_not_watched_any_more_and_nothing_looks():
    watch, caller = HungUp(), Caller()

    async def answering():
        with watch.watching(caller):
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)  # the answer is being written
        return "answered"

    running = asyncio.create_task(answering())
    await asyncio.sleep(0)
    caller.leave()
    assert await running == "answered"
    assert (watch._running, watch._timer) == ({}, None)
    told = []
    again = asyncio.create_task(working(watch, caller, told))  # and it begins to look anew
    async with asyncio.timeout(5):
        await asyncio.wait([again])
    assert told == ["told", "tidied up"]
