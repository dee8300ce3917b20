"""A whole case core in this process over a real store: engine, writer thread and feature, with fakes around it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from gateway.cases.case import Case
from gateway.cases.cases import Cases, NewCase
from gateway.cases.clock import wall_ms
from gateway.cases.engine import Engine
from gateway.cases.policy import Policy
from gateway.cases.ports import Evidence
from gateway.cases.store import Store
from gateway.cases.writer import ThreadedWriter
from loadtest.case_core import AlwaysOpen, make_tables
from tests.fakes.cases import WINDOW, CountingObserver, FakeDesks, FakeHooks, FakeLocator


@dataclass
class Core:
    """One running gateway's case core."""

    store: Store
    writer: ThreadedWriter
    engine: Engine
    cases: Cases
    locator: FakeLocator
    desks: FakeDesks
    hooks: FakeHooks
    observer: CountingObserver
    serving: asyncio.Task[None]

    async def accept(self, key: str, client: str = "platform", **request: Any) -> Case:
        asked = {"category": "marriage", "subject": {"name": "錢偉明"}, **request}
        return (await self.cases.accept(NewCase(client, key, "d", asked, WINDOW)))[0]


@contextlib.asynccontextmanager
async def core(
    url: str,
    *,
    locator: FakeLocator | None = None,
    hooks: FakeHooks | None = None,
    owner: str = "one",
    clock: Callable[[], int] = wall_ms,
    lease_ms: int = 600,
    create: bool = True,
    evidence: Callable[[Store], Evidence] | None = None,
) -> AsyncIterator[Core]:
    store = Store(url, Policy(), clock_ms=clock, owner=owner, lease_ms=lease_ms)
    if create:
        make_tables(store)
    observer = CountingObserver()
    writer = ThreadedWriter(store, observer)
    locator, hooks, desks = locator or FakeLocator(), hooks or FakeHooks(clients=()), FakeDesks()
    log = None if evidence is None else evidence(store)
    engine = Engine(store, writer, locator, desks, hooks, observer, evidence=log)
    cases = Cases(store, engine, hooks, AlwaysOpen(), log)
    serving = asyncio.create_task(engine.run(), name="engine")
    try:
        yield Core(store, writer, engine, cases, locator, desks, hooks, observer, serving)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await engine.drain(0.1)
        await writer.close()
        store.close()
