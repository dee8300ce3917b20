"""An archive's service over a real index and a session: every question ends once, and one that goes wrong spoils only itself."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import msgspec
import pytest
from structlog.testing import capture_logs

from federation.dates import DateSpan
from federation.query import Query
from federation.session.answering import CREDITS, AnsweringSession
from federation.session.asking import Asked, AskingSession, Item
from federation.session.base import PROTOCOL
from federation.session.timers import TimerWheel
from federation.wire.translate import query_to_wire
from federation.wire.v1 import holdings_pb2 as pb
from node_agent.disclosure import Disclosure
from node_agent.index import Lookup, Part, open_for_import, search
from node_agent.index.opened import OpenIndex
from node_agent.index.search import Search
from node_agent.record import Person, Record
from node_agent.service import ArchiveService
from tests.fakes.links import MemoryLink

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
    assert all(one["where"].startswith("node_agent.service:") for one in logged)
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


def endless_statement(index, *_asked):
    """One statement of SQLite that never ends by itself."""
    return index.connection.execute(
        "with recursive n(n) as (select 1 union all select n + 1 from n) select max(n) from n"
    ).fetchall()


@pytest.fixture(params=["statement", "rows"])
def begun(request, monkeypatch):
    """Set once the search of a title has begun; it never ends by itself, inside SQLite or between its rows."""
    begun = threading.Event()

    def by_title(index, *asked):
        begun.set()
        return endless_statement(index) if request.param == "statement" else []

    def nearest(search, plain=Search._nearest):
        return range(1 << 60) if search._query.title else plain(search)

    monkeypatch.setattr(OpenIndex, "by_title", by_title)
    if request.param == "rows":
        monkeypatch.setattr(Search, "_nearest", nearest)
        monkeypatch.setattr(OpenIndex, "rows", lambda _index, _rids: [])
    return begun


TITLE = Query(title="结婚登记")


@pytest.mark.parametrize("ending", ["cancelled", "session lost"])
async def test_a_slow_search_nobody_waits_for_leaves_the_worker_to_the_next(folder, begun, ending):
    async with asking(folder) as (ask, service), asyncio.timeout(BUDGET_S):
        put = ask(TITLE)
        waits = ask(TITLE)  # never begun
        await asyncio.to_thread(begun.wait)
        if ending == "cancelled":
            put.cancel()
            waits.cancel()
        else:
            await put._session.close()
        while service._waiting:
            await asyncio.sleep(0.01)
        told = []
        end = asyncio.get_running_loop().time() + BUDGET_S
        service.begin(pb.QueryItem(cid=9, query=query_to_wire(slow("李秀英"))), end, told.append)
        while not told:
            await asyncio.sleep(0.01)
        assert [one.status for one in told] == [pb.STATUS_OK]


async def test_a_cancelled_search_has_its_place_until_it_has_ended_and_is_told_to_nobody(folder, begun):
    lookup = Lookup(folder)
    service = ArchiveService("330483", "", lookup, Disclosure(bytes(32), None), worker_queue=1)
    end = asyncio.get_running_loop().time() + BUDGET_S
    told = []

    def put(cid, query):
        return service.begin(pb.QueryItem(cid=cid, query=query_to_wire(query)), end, told.append)

    cancel = put(1, TITLE)
    await asyncio.to_thread(begun.wait)
    cancel()
    put(2, slow("李秀英"))
    while service._waiting:
        await asyncio.sleep(0.01)
    put(3, slow("李秀英"))
    while len(told) < 2:
        await asyncio.sleep(0.01)
    assert [(one.cid, one.status) for one in told] == [(2, pb.STATUS_OVERLOADED), (3, pb.STATUS_OK)]
    service._worker.shutdown()
    lookup.close()


async def test_a_unary_call_that_is_given_up_stops_its_search(folder, begun):
    lookup = Lookup(folder)
    service = ArchiveService("330483", "", lookup, Disclosure(bytes(32), None))
    query = pb.Query.FromString(query_to_wire(TITLE))
    calling = asyncio.create_task(
        service.search(pb.SearchRequest(query=query, budget_ms=int(BUDGET_S * 1000)))
    )
    await asyncio.to_thread(begun.wait)
    calling.cancel()
    async with asyncio.timeout(BUDGET_S / 2):
        while service._waiting:
            await asyncio.sleep(0.01)
    assert calling.cancelled()
    service._worker.shutdown()
    lookup.close()


@pytest.mark.parametrize("query", [quick, slow], ids=["many at once", "many in the worker"])
async def test_what_is_not_compared_in_full_is_never_an_empty_answer(tmp_path, monkeypatch, query):
    """One in the middle of many namesakes is compared, by the worker; of too many the answer says that it is not whole."""
    with open_for_import(tmp_path) as importer:
        rows = [record(number, GOOD) for number in range(900)]
        importer.put("a.csv", bytes(16), [Part("", ("x",), rows)])
    asked = msgspec.structs.replace(query(GOOD), other_name="赵六", place="330402")  # none of them is it
    async with asking(tmp_path) as (ask, _service), asyncio.timeout(BUDGET_S):
        assert await ask(query(GOOD)).told == "STATUS_OK"
        monkeypatch.setattr(search, "MOST_COMPARED", 500)
        monkeypatch.setattr(search, "likely_from", lambda _records: 99.0)
        monkeypatch.setattr(search, "decide", lambda *_args: search.Decision.NONE)
        assert await ask(asked).told == "STATUS_TOO_MANY"


async def test_nothing_of_a_closed_category_leaves_whatever_it_was_found_by(folder):
    closed = Disclosure(bytes(32), None, frozenset({"marriage"}))
    everything = Query(name=GOOD, event=YEARS)
    by_code = Query(category="student", name=GOOD, archival_code="J1-2")
    by_title = Query(category="student", name=GOOD, title="结婚登记")
    async with asking(folder) as (ask, _service):
        for query in (quick(GOOD), everything, by_code, by_title):
            assert await ask(query).told == "STATUS_OK", "there is something to be found"
    async with asking(folder, closed) as (ask, _service):
        for query in (quick(GOOD), everything):
            assert await ask(query).told == "STATUS_REFUSED_POLICY"
        for query in (by_code, by_title):
            assert await ask(query).told == "empty"
