"""A case's events over HTTP and a real store: a stream ends with its case, and does not begin once all of it was read."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from federation.http.limits import RateLimit
from federation.http.problems import language_of
from federation.reasons import Refusal
from gateway.cases import cases as feature
from gateway.cases.case import Case, Event
from gateway.cases.ports import Located
from gateway.cases.states import Kind, State
from gateway.cases.store import Unit
from gateway.edge import cases as edge
from gateway.edge.cases import CaseRoutes, Handler
from gateway.edge.problems import problem
from gateway.edge.tokens import Caller
from tests.fakes.case_engines import Core, core
from tests.fakes.case_stores import Stores, told
from tests.fakes.cases import HOLDER, Clock, FakeLocator, found
from tests.fakes.waiting import soon

pytestmark = pytest.mark.timeout(60)

ENDS = ("refused", "expired", "no_record", "withdrawn", "delivered")


class World:
    """A case core and its routes; `follows` is how often the edge began to follow a case."""

    def __init__(self, running: Core, clock: Clock, client: TestClient[Any, Any]) -> None:
        self.running, self.clock, self.client = running, clock, client
        self.follows = 0
        follow = running.cases.follow

        def counting(*given: Any) -> Any:
            self.follows += 1
            return follow(*given)

        running.cases.follow = counting  # type: ignore[method-assign]

    async def happen(self, case: Case, kind: Kind, actor: str = HOLDER, **data: Any) -> None:
        await self.running.engine.happen(told(case.id, kind, actor, **data))

    async def is_(self, case: Case, state: State) -> Case:
        def there() -> Case | None:
            now = self.running.store.case(case.id)
            return now if now is not None and now.state is state else None

        now: Case = await soon(there)
        return now

    async def dispatched(self) -> Case:
        """A case that is with its holder."""
        self.running.locator.rounds = [Located({HOLDER: "hit"}, [found()])]
        return await self.is_(await self.running.accept("1"), State.DISPATCHED)

    async def ended(self, how: str) -> Case:
        """A case of this end, which nobody has seen yet."""
        if how != "no_record":
            self.running.locator.rounds = [Located({HOLDER: "hit"}, [found()])]
        case = await self.running.accept(how)
        if how != "no_record":
            await self.is_(case, State.DISPATCHED)
        if how == "refused":
            await self.happen(case, Kind.REFUSED, reason="secret")
        elif how == "withdrawn":
            await self.happen(case, Kind.WITHDRAWN, "caller")
        elif how == "expired":
            self.clock.go(91 * 86_400)
            self.running.engine.archive_returned(HOLDER)
        elif how == "delivered":
            for kind in (Kind.CLAIMED, Kind.APPROVED, Kind.ISSUED):
                await self.happen(case, kind, number="N1")
            await self.running.engine.happen(Unit(case.id, Event(Kind.DELIVERED, "gateway")))
        return await self.is_(case, State(how))

    async def events(self, case: Case, after: int) -> tuple[int, list[str]]:
        """(status, the names of the events) of a stream read to its end."""
        headers = {"Last-Event-ID": str(after)} if after else {}
        async with self.client.get(f"/v1/cases/{case.id}/events", headers=headers) as answer:
            text = await answer.text()
            assert answer.headers["Cache-Control"] == "no-store"
        return answer.status, [line[7:] for line in text.splitlines() if line.startswith("event: ")]


def traced(handler: Handler) -> Any:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request, "trace")
        except Refusal as refusal:
            return problem(refusal, language_of(request), "trace")

    return handle


@contextlib.asynccontextmanager
async def world(stores: Stores) -> AsyncIterator[World]:
    clock = Clock()
    async with core(stores.url, locator=FakeLocator(), clock=clock) as running:
        routes = CaseRoutes(
            running.cases,
            lambda _request, _scope: Caller("platform", frozenset({edge.SCOPE})),
            RateLimit(60_000, time.monotonic),
            lambda: False,
            lambda _question: {},
            lambda _code: None,
        )
        app = web.Application()
        for method, path, handler in routes.routes():
            app.router.add_route(method, path, traced(handler))
        async with TestClient(TestServer(app)) as client:
            yield World(running, clock, client)


@pytest.mark.parametrize("how", ENDS)
async def test_a_stream_that_is_resumed_after_the_end_does_not_begin(stores: Stores, how: str):
    async with world(stores) as there:
        case = await there.ended(how)
        status, names = await there.events(case, 0)
        whole = len(names)
        assert (status, names[-1]) == (200, "withdrawn" if how == "withdrawn" else "delivered")
        followed = there.follows
        for after in (whole, whole + 7):
            assert await there.events(case, after) == (204, [])
        assert there.follows == followed, "nobody watches a case that is over"
        assert await there.events(case, whole - 1) == (200, names[-1:])


@pytest.mark.parametrize("how", ["refused", "expired", "no_record"])
async def test_an_answer_that_was_read_before_a_line_broke_is_delivered_and_ends_the_stream(
    stores: Stores, how: str
):
    async with world(stores) as there:
        case = await there.ended(how)
        assert not case.delivered_ms
        assert await there.events(case, case.version) == (200, ["delivered"])
        assert await there.events(case, case.version + 1) == (204, [])


async def test_a_stream_that_ends_gives_its_watchers_place_back(stores: Stores):
    async with world(stores) as there:
        case = await there.ended("refused")
        await there.events(case, 0)
        assert there.follows == 1
        assert there.running.cases._watchers == 0


async def test_whoever_finds_no_watchers_place_is_refused_before_a_stream_begins(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feature, "_MOST_WATCHERS", 1)
    async with world(stores) as there:
        case = await there.dispatched()
        path = f"/v1/cases/{case.id}/events"
        async with there.client.get(path) as followed:
            assert followed.status == 200
            async with there.client.get(path) as answer:
                assert answer.status == 503
                assert answer.content_type == "application/problem+json"


async def test_a_case_that_goes_on_is_followed_whatever_was_read(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(edge, "_HEARTBEAT_S", 0.01)
    async with world(stores) as there:
        case = await there.dispatched()
        headers = {"Last-Event-ID": str(case.version)}
        async with there.client.get(f"/v1/cases/{case.id}/events", headers=headers) as answer:
            assert answer.status == 200
            while b"still here" not in await answer.content.readline():
                pass
            await there.happen(case, Kind.WITHDRAWN, "caller")
            async with asyncio.timeout(30):
                assert b"event: withdrawn" in await answer.content.read()


async def test_an_answer_the_caller_has_already_is_delivered_though_nothing_changed(stores: Stores):
    """A note that was ordered may never come: from the end of its stage on the case is the answer, and who asks with
    If-None-Match has it. 304 alone would leave the clock running for ever.
    """
    async with world(stores) as there:
        there.running.locator.rounds = [
            Located({HOLDER: "empty"}, searched={HOLDER: "2023-11-01"}, noting=HOLDER)
        ]
        case = await there.is_(await there.running.accept("note"), State.NO_RECORD)
        assert case.awaits_note
        path = f"/v1/cases/{case.id}"

        async def asked(known: str) -> tuple[int, str]:
            async with there.client.get(path, headers={"If-None-Match": known} if known else {}) as answer:
                return answer.status, answer.headers["ETag"]

        status, known = await asked("")
        assert status == 200
        assert await asked(known) == (304, known), "the note may yet come"
        there.clock.go(91)
        assert await asked("*") == (304, known), "whoever asks so has been shown nothing"
        status, told = await asked(known)
        assert (status, told) == (200, f'W/"{case.version + 1}"')
        assert await asked(told) == (304, told)
        delivered = await there.is_(case, State.NO_RECORD)
        assert delivered.stopped_ms == delivered.delivered_ms > 0
