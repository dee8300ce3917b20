"""An archive's service over a real index and a session: every question ends once, and one that goes wrong spoils only itself."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs

from federation.dates import DateSpan
from federation.query import Query
from federation.session.answering import CREDITS, AnsweringSession
from federation.session.asking import Asked, AskingSession, Item
from federation.session.base import PROTOCOL
from federation.session.link import MemoryLink
from federation.session.timers import TimerWheel
from federation.wire.translate import query_to_wire
from federation.wire.v1 import holdings_pb2 as pb
from node_agent.disclosure import Disclosure
from node_agent.index import Lookup, Part, open_for_import
from node_agent.index.opened import OpenIndex
from node_agent.record import Person, Record
from node_agent.service import ArchiveService

GOOD, BAD = "王芳", "钱伟明"
BUDGET_S = 20.0  # longer than any test waits: nothing here ends because it was late
YEARS = DateSpan(19850101, 19891231)


def record(number, name):
    return Record("marriage", f"J1-{number}", "", "结婚登记", (Person(name), Person("李娜")), DateSpan(19870506, 19870506), "330483")  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    with open_for_import(tmp_path) as importer:
        rows = [record(number, (GOOD, BAD)[number % 2]) for number in range(20)]
        importer.put("a.csv", bytes(16), [Part("", ("x",), rows)])
    return tmp_path


class Put(Asked):
    """One question; `told` is what became of it."""

    def __init__(self, query):
        end = asyncio.get_running_loop().time() + BUDGET_S
        super().__init__(Item(query_to_wire(query), bytes(16), end, end, 50))
        self.told = asyncio.get_running_loop().create_future()

    def on_result(self, result):
        self.told.set_result("none" if result is None else pb.Status.Name(result.status))

    def on_empty(self, _epoch):
        self.told.set_result("empty")

    def on_lost(self):
        self.told.set_result("lost")


@contextlib.asynccontextmanager
async def asking(folder, disclosure=None):
    """(ask, service) of an archive that is asked over a session; `ask` gives the question, its future is `told`."""
    lookup = Lookup(folder)
    service = ArchiveService("330483", "", lookup, disclosure or Disclosure(bytes(32), None))
    here, there = MemoryLink.pair()
    asker = AskingSession(here, "asker", TimerWheel(), on_manifest=lambda _m: True, observe=lambda _e: None)
    answerer = AnsweringSession(there, "answerer", service, observe=lambda _e: None)
    hello = pb.Hello(protocol_min=PROTOCOL, protocol_max=PROTOCOL, credits=CREDITS)
    await asyncio.gather(asker.greet(hello), answerer.greet(hello))
    running = [asyncio.create_task(asker.run()), asyncio.create_task(answerer.run())]

    def ask(query):
        put = Put(query)
        assert asker.ask(put, asyncio.get_running_loop().time())
        return put

    try:
        yield ask, service
    finally:
        await asker.close()
        await answerer.close()
        await asyncio.gather(*running)
        service.close()
        service._worker.shutdown()
        lookup.close()


def quick(name):
    return Query(category="marriage", name=name, event=YEARS)


def slow(name):
    return Query(category="marriage", name=name)


class Fault(Exception):
    """What nobody foresaw; its text is a person's name, which goes nowhere."""


class UnreadyToCheck(Disclosure):
    """Fails before anything is looked up."""

    def check(self, query):
        if query.name == BAD:
            raise Fault(BAD)


class UnreadyToMask(Disclosure):
    """Fails at what was found."""

    def candidate(self, found):
        if found.told.persons[0].name == BAD:
            raise Fault(BAD)
        return super().candidate(found)


@pytest.mark.parametrize("query", [quick, slow], ids=["inline", "worker"])
@pytest.mark.parametrize("disclosure", [UnreadyToCheck, UnreadyToMask])
async def test_a_fault_in_the_archives_rules_fails_that_question_and_no_other(folder, disclosure, query):
    with capture_logs() as logged:
        async with asking(folder, disclosure(bytes(32), None)) as (ask, _service), asyncio.timeout(BUDGET_S):
            put = [ask(query(name)) for name in (GOOD, BAD, GOOD, BAD, GOOD)]
            told = [await one.told for one in put]
            later = await ask(query(GOOD)).told
    assert told == ["STATUS_OK", "STATUS_FAILED", "STATUS_OK", "STATUS_FAILED", "STATUS_OK"]
    assert later == "STATUS_OK"
    assert [(one["action"], one["kind"]) for one in logged] == [("search.failed", "Fault")] * 2
    assert all(one["where"].startswith(f"{__name__}:") for one in logged)
    assert BAD not in str(logged)


async def test_an_index_that_can_not_end_a_turn_spoils_no_session(folder, monkeypatch):
    def failing(_index):
        monkeypatch.undo()
        raise Fault(BAD)

    with capture_logs() as logged:
        async with asking(folder) as (ask, _service), asyncio.timeout(BUDGET_S):
            monkeypatch.setattr(OpenIndex, "end", failing)
            assert await ask(quick(GOOD)).told == "STATUS_OK"
            assert await ask(quick(GOOD)).told == "STATUS_OK"
    assert [(one["action"], one["kind"]) for one in logged] == [("search.failed", "Fault")]
