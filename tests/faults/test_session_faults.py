"""Agents that lie, stall, flood or are no agents, dialled and dialling in: each is its own outcome and nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from federation.dates import DateSpan
from federation.query import Query, Relation
from federation.rpc import transport
from federation.rpc.links import HOLDINGS, LINK, DialledLink, open_handler
from federation.session.answering import AnsweringSession
from federation.session.base import CASES, SessionEndedError
from federation.session.link import LinkLostError
from federation.wire.v1 import holdings_pb2 as pb
from gateway import telemetry as gateway_telemetry
from gateway.adapters import nodes as nodes_module
from gateway.adapters.nodes import NodeSessions
from gateway.search.question import Question
from gateway.search.roster import Member, Roster
from gateway.search.search import Searches
from loadtest.authorities.tls import Authority
from loadtest.fleet import free_port
from node_agent import dialling as dialling_module
from node_agent import telemetry as node_telemetry
from node_agent.app import Agent
from node_agent.objects import Shelf
from node_agent.settings import NodeSettings
from tests.fakes import rogue
from tests.fakes.waiting import soon

PLAIN = transport.Credentials(plaintext_on_loopback=True)
HONEST, ROGUE = "330402", "330483"
DEADLINE_S = 1.0
LATE_S = 1.0  # what a busy machine may add; make bench holds the promised 0.1
ASKED = Question(
    query=Query(
        category="marriage", purpose="marriage_proof", relation=Relation.SELF, name="钱伟明",
        birth=DateSpan.of_year(1963), event=DateSpan.of_years(1985, 1988),
    ),
    deadline_s=DEADLINE_S,
    caller="p",
)  # fmt: skip


class Events:
    def __init__(self):
        self.seen = []
        self.missing = []
        self.up = {}

    def session_event(self, archive, event):
        self.seen.append((archive, event))

    def connected(self, archive, *, up):
        self.up[archive] = up

    def no_session(self, archive, reason):
        self.missing.append((archive, reason))

    def searched(self, seconds, verdict, asked): ...
    def outcome(self, archive, outcome): ...
    def event(self, name): ...


class HonestArchive:
    def begin(self, item, _ends_at, done):
        done(pb.ResultItem(cid=item.cid, status=pb.STATUS_OK, index_epoch=1))

    def turn(self):
        return contextlib.nullcontext()

    def manifest(self):
        return pb.Frame.FromString(rogue.hello(HONEST)).hello.manifest


class Described(HonestArchive):
    """An archive's service as an agent uses it."""

    def manifest(self):
        return pb.Frame.FromString(rogue.hello(ROGUE)).hello.manifest


class NoDesk:
    """An office whose courier carries nothing."""

    def __init__(self):
        self.courier = self

    def joined(self, line): ...
    def left(self, line): ...


@contextlib.asynccontextmanager
async def serving(behave, credentials=PLAIN, port=0):
    """A gRPC server whose Open streams are served by `behave(link)`; its port."""

    async def accept(link, _context):
        with contextlib.suppress(LinkLostError, SessionEndedError):
            await behave(link)

    server = transport.server([("grpc.max_send_message_length", 8 << 20)])
    server.add_generic_rpc_handlers((open_handler(HOLDINGS, accept),))
    port = transport.listen(server, f"127.0.0.1:{port}", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def honest(link):
    session = AnsweringSession(link, "honest", HonestArchive(), observe=lambda _e: None)
    await session.greet(pb.Frame.FromString(rogue.hello(HONEST)).hello)
    await session.run()


@contextlib.asynccontextmanager
async def gateway(*members, credentials=PLAIN, listen=False, session_age_s=750.0):
    """(searches, sessions, events) of a gateway over these members."""
    roster = Roster(1, members)
    events = Events()
    nodes = NodeSessions(
        roster, credentials, events, link_listen="127.0.0.1:0" if listen else "", session_age_s=session_age_s
    )
    searches = Searches(roster, nodes, events, clock=time.monotonic)
    nodes.on_session = searches.session_opened
    await nodes.start()
    try:
        yield searches, nodes, events
    finally:
        await nodes.stop()


async def heard(link):
    """Everything the other side says before it ends the link."""
    messages = []
    with contextlib.suppress(LinkLostError):
        while True:
            messages.append(await asyncio.wait_for(link.receive(), 5))
    return messages


PATIENT = replace(ASKED, deadline_s=10.0)


async def ask(searches, question=ASKED, within_s=DEADLINE_S):
    """Outcomes of one search, which must be in time and leave the honest archive alone."""
    began = time.monotonic()
    answer = await searches.search(question)
    assert time.monotonic() - began < within_s + LATE_S
    outcomes = {one.archive: one for one in answer.completeness.outcomes}
    assert outcomes[HONEST].outcome == "empty"
    assert answer.completeness.verdict == "partial"
    assert [gap.archive for gap in answer.completeness.gaps] == [ROGUE]
    for one in outcomes.values():
        assert "钱" not in one.reason
    return outcomes[ROGUE]


@pytest.mark.parametrize("behave", list(rogue.ROGUES), ids=lambda one: one.__name__)
async def test_a_rogue_that_is_dialled(behave):
    async with serving(honest) as good, serving(lambda link: behave(link, ROGUE)) as bad:
        members = Member(HONEST, "a", f"127.0.0.1:{good}"), Member(ROGUE, "b", f"127.0.0.1:{bad}")
        async with gateway(*members) as (searches, nodes, _events):
            await soon(lambda: nodes.connected(HONEST))
            await asyncio.sleep(0.3)
            for _ in range(3):
                assert (await ask(searches)).outcome in rogue.ROGUES[behave]


@pytest.mark.parametrize("behave", list(rogue.ROGUES), ids=lambda one: one.__name__)
async def test_a_rogue_that_dials_in(behave):
    async with serving(honest) as good:
        members = Member(HONEST, "a", f"127.0.0.1:{good}"), Member(ROGUE, "b")
        async with gateway(*members, listen=True) as (searches, nodes, _events):
            await soon(lambda: nodes.connected(HONEST))

            async def dial_for_ever():
                while True:
                    channel = transport.channel(f"127.0.0.1:{nodes.link_port}", PLAIN, "gateway", "gateway")
                    with contextlib.suppress(LinkLostError, SessionEndedError):
                        await behave(DialledLink(channel, LINK), ROGUE)
                    await channel.close(None)
                    await asyncio.sleep(0.05)

            dialling = asyncio.create_task(dial_for_ever())
            try:
                await asyncio.sleep(0.4)
                for _ in range(3):
                    outcome = (await ask(searches)).outcome
                    assert outcome in rogue.ROGUES[behave] | {"unreachable"}  # it may just be dialling again
            finally:
                dialling.cancel()
                await asyncio.gather(dialling, return_exceptions=True)


@pytest.mark.parametrize(
    "behave", [rogue.swallows, rogue.talks_http, rogue.drips], ids=lambda one: one.__name__
)
async def test_a_port_that_is_no_agent_is_unreachable_at_once(behave):
    async with serving(honest) as good, rogue.tcp(behave) as bad:
        members = Member(HONEST, "a", f"127.0.0.1:{good}"), Member(ROGUE, "b", f"127.0.0.1:{bad}")
        async with gateway(*members) as (searches, nodes, _events):
            await soon(lambda: nodes.connected(HONEST))
            assert (await ask(searches, PATIENT, within_s=0.5)).outcome == "unreachable"


async def test_garbage_thrown_at_the_port_where_archives_dial_in_hurts_nobody():
    async with serving(honest) as good:
        members = Member(HONEST, "a", f"127.0.0.1:{good}"), Member(ROGUE, "b")
        async with gateway(*members, listen=True) as (searches, nodes, _events):
            await soon(lambda: nodes.connected(HONEST))
            for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(200), bytes(10_000)):
                _reader, writer = await asyncio.open_connection("127.0.0.1", nodes.link_port)
                with contextlib.suppress(ConnectionError):
                    writer.write(data)
                    await writer.drain()
                writer.close()
            assert (await ask(searches)).outcome == "unreachable"


async def test_a_stranger_may_not_dial_in_as_a_member_that_is_dialled_elsewhere_nor_as_nobody():
    async with serving(honest) as good:
        async with gateway(Member(HONEST, "a", f"127.0.0.1:{good}"), listen=True) as (
            _searches,
            nodes,
            events,
        ):
            channel = transport.channel(f"127.0.0.1:{nodes.link_port}", PLAIN, "gateway", "gateway")
            link = DialledLink(channel, LINK)
            await link.send(rogue.hello("110101"))
            said = [pb.Frame.FromString(message) for message in await heard(link)]
            assert [one.error.reason for one in said if one.WhichOneof("body") == "error"] == ["not_a_member"]
            assert ("", "not_a_member") in events.seen
            await channel.close(None)


# what the logs say ---------------------------------------------------------------------------------------------


async def test_a_dead_address_is_told_once_however_often_it_is_dialled(monkeypatch):
    monkeypatch.setattr(nodes_module, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(nodes_module, "_LONGEST_PAUSE_S", 0.02)
    async with rogue.tcp(rogue.talks_http) as dead:
        async with gateway(Member(ROGUE, "b", f"127.0.0.1:{dead}")) as (_searches, _nodes, events):
            await soon(lambda: events.seen.count((ROGUE, "dial_failed")) >= 3)
            assert events.missing == [(ROGUE, "unreachable")]


async def test_an_archive_that_was_there_is_told_again_when_it_is_gone(monkeypatch):
    monkeypatch.setattr(nodes_module, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(nodes_module, "_LONGEST_PAUSE_S", 0.02)
    port = free_port()
    async with gateway(Member(HONEST, "a", f"127.0.0.1:{port}")) as (_searches, nodes, events):
        await soon(lambda: events.missing)
        async with serving(honest, port=port):
            await soon(lambda: nodes.connected(HONEST))
        await soon(lambda: len(events.missing) >= 2)
        assert events.missing == [(HONEST, "unreachable")] * 2


async def test_a_flood_of_refused_callers_is_told_once_with_archive_and_reason(tmp_path):
    authority = Authority(tmp_path / "tls")
    mine = credentials(authority.issue("gateway", "gateway"))
    shown = credentials(authority.issue("node", "330499"))
    async with gateway(Member(ROGUE, "b"), credentials=mine, listen=True) as (_searches, nodes, events):
        for claimed in (ROGUE, "330499") * 4:
            channel = transport.channel(f"127.0.0.1:{nodes.link_port}", shown, "gateway", "gateway")
            link = DialledLink(channel, LINK)
            await link.send(rogue.hello(claimed))
            await heard(link)
            await channel.close(None)
        assert len([one for one in events.seen if one[1] == "not_a_member"]) == 8
        assert events.missing == [(ROGUE, "not_a_member"), ("330499", "not_a_member")]


async def test_an_agent_says_once_why_it_is_refused_however_often_it_tries(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dialling_module, "_BACKOFF_S", (0.01, 0.02))
    node_telemetry.configure_logs()
    authority = Authority(tmp_path / "tls")
    mine = credentials(authority.issue("gateway", "gateway"))
    async with gateway(Member(ROGUE, "b"), credentials=mine, listen=True) as (_searches, nodes, events):
        settings = NodeSettings(
            archive=ROGUE, name="b", gateways=(address := f"127.0.0.1:{nodes.link_port}",)
        )
        agent = Agent(settings, credentials(authority.issue("node", HONEST)), Described(), NoDesk(), Shelf())
        dialling = asyncio.create_task(agent.dial_out(address))
        await soon(lambda: events.seen.count((ROGUE, "not_a_member")) >= 3)
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)
        await agent.drain()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(one["address"], one["reason"]) for one in lines if one["action"] == "agent.no_session"] == [
        (address, "not_a_member")
    ]


def test_an_agent_that_is_heard_again_says_so_once(capsys):
    node_telemetry.configure_logs()
    ways = dialling_module.Ways()
    for _ in range(3):
        for reason in ("unreachable", "out_of_time"):
            ways.failed("gateway:9443", reason)
    for _ in range(3):
        ways.open("gateway:9443")
    ways.failed("gateway:9443", "unreachable")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one.get("reason", "open") for one in lines] == [
        "unreachable",
        "out_of_time",
        "open",
        "unreachable",
    ]


@pytest.mark.parametrize("dials", ["gateway", "archive"])
async def test_a_fault_of_the_gateway_that_ends_a_session_is_counted_and_logged_without_a_word_of_it(
    dials, capsys
):
    """Whoever dialled: gRPC keeps to itself what a handler of its own raises."""
    gateway_telemetry.configure_logs()

    async def sends_mail(link):
        session = AnsweringSession(link, "honest", HonestArchive(), observe=lambda _e: None)
        await session.greet(pb.Frame.FromString(rogue.hello(HONEST, features=[CASES])).hello)
        session.mail(pb.Mail(id=bytes(16)))
        await session.run()

    def failing(_archive, _mail, _answer):
        raise KeyError("钱伟明")

    async with contextlib.AsyncExitStack() as stack:
        if dials == "gateway":
            port = await stack.enter_async_context(serving(sends_mail))
            member = Member(HONEST, "a", f"127.0.0.1:{port}")
        else:
            member = Member(HONEST, "a")
        _searches, nodes, events = await stack.enter_async_context(gateway(member, listen=True))
        nodes.on_mail = failing
        if dials == "archive":
            channel = transport.channel(f"127.0.0.1:{nodes.link_port}", PLAIN, "gateway", "gateway")
            await sends_mail(DialledLink(channel, LINK))
            await channel.close(None)
        await soon(lambda: (HONEST, "fault") in events.seen)
    err = capsys.readouterr().err
    lines = [json.loads(line) for line in err.splitlines() if "KeyError" in line]
    assert lines
    assert all(one["where"].startswith("gateway.adapters.nodes:") for one in lines)
    assert "钱" not in err


async def test_a_receipt_counts_as_its_sessions_archive_and_one_of_anothers_message_is_counted():
    async def receipts(link):
        session = AnsweringSession(link, "honest", HonestArchive(), observe=lambda _e: None)
        await session.greet(pb.Frame.FromString(rogue.hello(HONEST, features=[CASES])).hello)
        session.receipt(b"mine" * 4)
        session.receipt(b"not " * 4, "policy")
        await session.run()

    told = []

    def receipted(archive, name, reason):
        told.append((archive, name[:4], reason))
        return name[:4] == b"mine"

    async with (
        serving(receipts) as port,
        gateway(Member(HONEST, "a", f"127.0.0.1:{port}")) as (_, nodes, events),
    ):
        nodes.on_receipt = receipted
        await soon(lambda: len(told) == 2)
        assert told == [(HONEST, b"mine", ""), (HONEST, b"not ", "policy")]
        assert events.seen.count((HONEST, "foreign_receipt")) == 1


# quarantine ----------------------------------------------------------------------------------------------------


def quick_pauses(monkeypatch):
    monkeypatch.setattr(nodes_module, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(nodes_module, "_LONGEST_PAUSE_S", 0.02)


@contextlib.asynccontextmanager
async def dialled_in(nodes, hello=None):
    """A link on which an archive has greeted a gateway over plaintext."""
    channel = transport.channel(f"127.0.0.1:{nodes.link_port}", PLAIN, "gateway", "gateway")
    link = DialledLink(channel, LINK)
    await link.send(hello or rogue.hello(HONEST))
    try:
        yield link
    finally:
        await channel.close(None)


def only(answer):
    (one,) = answer.completeness.outcomes
    return one.outcome, one.reason


async def test_an_archive_whose_frames_ended_its_session_is_not_dialled_for_a_while(monkeypatch):
    quick_pauses(monkeypatch)
    opened = []

    async def garbage(link):
        opened.append(link)
        await rogue.garbage_frames(link, HONEST)

    async with serving(garbage) as bad:
        async with gateway(Member(HONEST, "a", f"127.0.0.1:{bad}")) as (searches, nodes, events):
            await soon(lambda: nodes.connected(HONEST))
            for _ in range(3):
                assert only(await searches.search(ASKED)) == ("bad_answer", "bad_frame")
                await asyncio.sleep(0.2)  # many pauses
            assert len(opened) == 1
            assert events.missing == [(HONEST, "bad_frame")]
            monkeypatch.setattr(nodes_module, "_QUARANTINE_S", 0.1)
    async with serving(garbage) as bad:
        async with gateway(Member(HONEST, "a", f"127.0.0.1:{bad}")) as (searches, nodes, _events):
            await soon(lambda: nodes.connected(HONEST))
            await searches.search(ASKED)
            await soon(lambda: len(opened) == 3)  # and then it is dialled again
            await soon(lambda: nodes.connected(HONEST))


async def test_an_archive_whose_frames_ended_its_session_is_turned_away_for_a_while_where_it_dials_in():
    async with gateway(Member(HONEST, "a"), listen=True) as (searches, nodes, events):
        async with dialled_in(nodes) as link:
            await soon(lambda: nodes.connected(HONEST))
            for _ in range(3):
                await link.send(rogue.GARBAGE)
            await soon(lambda: not nodes.connected(HONEST))
            async with dialled_in(nodes) as again:  # at once, while the first one may still be winding up
                said = [pb.Frame.FromString(message) for message in await heard(again)]
            assert [one.error.reason for one in said if one.WhichOneof("body") == "error"] == ["bad_frame"]
        async with dialled_in(nodes) as again:
            await heard(again)
        assert only(await searches.search(ASKED)) == ("bad_answer", "bad_frame")
        assert events.seen.count((HONEST, "quarantined")) == 2
        await soon(lambda: events.missing == [(HONEST, "bad_frame")])
        nodes._lines[HONEST].quarantined_until = 0.0
        assert only(await searches.search(ASKED)) == ("unreachable", "")
        async with dialled_in(nodes):
            await soon(lambda: nodes.connected(HONEST))


async def test_bad_frames_that_are_tolerated_are_no_reason_not_to_come_back():
    async with gateway(Member(HONEST, "a"), listen=True) as (searches, nodes, events):
        for bad in (2, 4, 6):
            async with dialled_in(nodes) as link:
                await soon(lambda: nodes.connected(HONEST))
                for _ in range(2):
                    await link.send(rogue.GARBAGE)
                await soon(lambda bad=bad: events.seen.count((HONEST, "bad_frame")) == bad)
            await soon(lambda: not nodes.connected(HONEST))
            assert only(await searches.search(ASKED)) == ("unreachable", "")
        assert events.missing == []


@contextlib.asynccontextmanager
async def replaced(searches, nodes, **newer):
    """The archive's session, once a newer one serves in its place and it drains: itself, and the search it carries."""
    await soon(lambda: nodes.connected(HONEST))
    asking = asyncio.create_task(searches.search(ASKED))  # so that it drains and is not closed
    await soon(lambda: nodes._lines[HONEST].session.in_flight)
    first = nodes._lines[HONEST].session
    async with dialled_in(nodes, **newer):
        await soon(lambda: nodes._lines[HONEST].session is not first)
        yield first, asking


@pytest.mark.parametrize("word", ["garbage", "another archive's name"])
async def test_what_a_replaced_session_says_at_its_end_is_no_fault_of_the_one_that_serves(word):
    other = pb.Beat(sequence=1, manifest=pb.Manifest(archive="110101", index_epoch=9, records=1))
    last = {
        "garbage": [rogue.GARBAGE] * 3,
        "another archive's name": [pb.Frame(beat=other).SerializeToString()],
    }
    async with gateway(Member(HONEST, "a"), listen=True) as (searches, nodes, events):
        async with dialled_in(nodes) as older:
            async with replaced(searches, nodes) as (first, asking):
                for frame in last[word]:
                    await older.send(frame)
                await soon(lambda: first.ended)
                await asking
                assert nodes.connected(HONEST)
                assert events.missing == []
            await soon(lambda: not nodes.connected(HONEST))
            assert only(await searches.search(ASKED)) == ("unreachable", "")


async def test_a_renewed_session_that_is_lost_is_dialled_again_at_once_whatever_came_before(monkeypatch):
    monkeypatch.setattr(nodes_module, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(nodes_module, "_LONGEST_PAUSE_S", 3600.0)
    monkeypatch.setattr(nodes_module, "CONNECT_WITHIN_S", 0.02)
    share = 1e-6  # of each pause
    monkeypatch.setattr(nodes_module.random, "uniform", lambda _least, _most: share)
    port = free_port()
    opened = []

    async def once(link):
        opened.append(link)
        await honest(link)

    async with gateway(Member(HONEST, "a", f"127.0.0.1:{port}"), session_age_s=0.2) as (_s, nodes, events):
        await soon(lambda: events.seen.count((HONEST, "dial_failed")) >= 10)
        monkeypatch.setattr(nodes_module, "CONNECT_WITHIN_S", 5.0)
        async with serving(once, port=port):
            await soon(lambda: len(opened) >= 3)  # opened, and renewed
            share = 1.0  # after ten failures that would be 51 s
            await soon(lambda: nodes.connected(HONEST))
        await soon(lambda: not nodes.connected(HONEST))
        async with serving(once, port=port):
            await soon(lambda: nodes.connected(HONEST))


async def test_a_renewal_that_fails_is_not_told_as_an_archive_without_a_session(monkeypatch):
    quick_pauses(monkeypatch)
    opened = []

    async def only_the_first(link):
        opened.append(link)
        await (honest(link) if len(opened) == 1 else rogue.no_greeting(link, HONEST))

    monkeypatch.setattr("federation.session.base.HELLO_WITHIN_S", 0.05)
    async with serving(only_the_first) as port:
        async with gateway(Member(HONEST, "a", f"127.0.0.1:{port}"), session_age_s=0.2) as (
            _s,
            nodes,
            events,
        ):
            await soon(lambda: events.seen.count((HONEST, "dial_failed")) >= 2)
            assert nodes.connected(HONEST)
            assert events.missing == []


async def test_a_certificate_that_is_being_replaced_keeps_no_archive_away(tmp_path, monkeypatch):
    """Certificate and key are two files: between one and the other they do not belong together."""
    quick_pauses(monkeypatch)
    authority = Authority(tmp_path / "tls")
    issued, other = authority.issue("gateway", "gateway"), authority.issue("gateway", "second")
    mine, key = credentials(issued), issued.key.read_bytes()
    issued.key.write_bytes(other.key.read_bytes())
    async with serving(honest, credentials(authority.issue("node", HONEST))) as port:
        async with gateway(Member(HONEST, "a", f"127.0.0.1:{port}"), credentials=mine) as (_s, nodes, events):
            await soon(lambda: events.seen.count((HONEST, "dial_failed")) >= 2)
            assert events.missing == [(HONEST, "unreachable")]
            issued.key.write_bytes(key)
            await soon(lambda: nodes.connected(HONEST))
    assert ("", "task_died") not in events.seen


# what a manifest rules out ---------------------------------------------------------------------------------------


def holding(epoch, *categories, archive=HONEST):
    manifest = pb.Manifest(archive=archive, name="x", index_epoch=epoch, records=10)
    for category in categories:
        manifest.categories.add(category=category, records=10, first_year=1950, last_year=2010)
    return manifest


async def test_what_an_archive_does_not_hold_is_forgotten_when_it_is_gone():
    """It may import during an outage: what it announces when it is back counts."""

    def archive(*categories):
        async def behave(link):
            session = AnsweringSession(link, "archive", HonestArchive(), observe=lambda _e: None)
            await session.greet(
                pb.Hello(protocol_min=1, protocol_max=1, credits=64, manifest=holding(1, *categories))
            )
            await session.run()

        return behave

    port = free_port()
    async with gateway(Member(HONEST, "a", f"127.0.0.1:{port}")) as (searches, nodes, _events):
        async with serving(archive("birth"), port=port):
            await soon(lambda: nodes.connected(HONEST))
            answer = await searches.search(ASKED)
            assert only(answer) == ("not_asked", "category_not_held")
            assert answer.completeness.verdict == "complete"
        await soon(lambda: not nodes.connected(HONEST))
        assert nodes.manifest(HONEST) is not None
        answer = await searches.search(ASKED)
        assert only(answer) == ("unreachable", "")
        assert answer.completeness.verdict == "partial"
        async with serving(archive("birth", "marriage"), port=port):
            await soon(lambda: nodes.connected(HONEST))
            assert only(await searches.search(ASKED)) == ("empty", "")


async def test_a_manifest_rules_nothing_out_once_a_newer_index_was_told_of():
    async def told(link, nodes, frame):
        """A frame, and another one whose coming shows that it was taken in."""
        credit = nodes._lines[HONEST].session.credits + 1
        for one in (frame, pb.Frame(credit=pb.Credit(subrequests=credit))):
            await link.send(one.SerializeToString())
        await soon(lambda: nodes._lines[HONEST].session.credits == credit)

    async def is_ruled_out(searches):
        (one,) = (await searches.search(replace(ASKED, deadline_s=0.2))).completeness.outcomes
        assert one.outcome in {"not_asked", "timeout"}
        return one.outcome == "not_asked"

    async with gateway(Member(HONEST, "a"), listen=True) as (searches, nodes, _events):
        async with dialled_in(nodes, hello=rogue.hello(HONEST, manifest=holding(1, "birth"))) as link:
            await soon(lambda: nodes.connected(HONEST))
            assert await is_ruled_out(searches)
            found = pb.Results(items=[pb.ResultItem(cid=4_000_000_000, status=pb.STATUS_OK, index_epoch=4)])
            tidings = {
                2: pb.Frame(beat=pb.Beat(sequence=1, index_epoch=2)),
                3: pb.Frame(results=pb.Results(index_epoch=3)),
                4: pb.Frame(results=found),
            }
            for epoch, frame in tidings.items():
                await told(link, nodes, frame)
                assert not await is_ruled_out(searches)
                beat = pb.Beat(sequence=1, index_epoch=epoch, manifest=holding(epoch, "birth"))
                await told(link, nodes, pb.Frame(beat=beat))
                assert await is_ruled_out(searches)


async def test_the_word_of_a_session_that_a_newer_one_replaced_does_not_count():
    async with gateway(Member(HONEST, "a"), listen=True) as (searches, nodes, _events):
        async with dialled_in(nodes) as older:
            newer = rogue.hello(HONEST, manifest=holding(2, "marriage"))
            async with replaced(searches, nodes, hello=newer) as (first, asking):
                late = pb.Frame(beat=pb.Beat(sequence=1, index_epoch=2, manifest=holding(2, "birth")))
                await older.send(late.SerializeToString())
                await soon(lambda: first.index_epoch == 2)
                assert "marriage" in nodes.current_manifest(HONEST).categories
                await asking


# certificates --------------------------------------------------------------------------------------------------


def credentials(issued):
    return transport.Credentials(ca=issued.ca, certificate=issued.certificate, key=issued.key)


async def sessions_with(tmp_path, node_issued):
    """Whether a gateway of the proper authority gets a session with an agent that shows `node_issued`."""
    authority = Authority(tmp_path / "tls")
    mine = credentials(authority.issue("gateway", "gateway"))
    async with serving(honest, credentials(node_issued)) as port:
        async with gateway(Member(HONEST, "a", f"127.0.0.1:{port}"), credentials=mine) as (_s, nodes, _e):
            ends_at = time.monotonic() + 1.5
            while time.monotonic() < ends_at and not nodes.connected(HONEST):
                await asyncio.sleep(0.02)
            return nodes.connected(HONEST)


async def test_the_right_certificate_opens_a_session(tmp_path):
    assert await sessions_with(tmp_path, Authority(tmp_path / "tls").issue("node", HONEST))


async def test_another_authoritys_certificate_does_not(tmp_path):
    assert not await sessions_with(tmp_path, Authority(tmp_path / "foreign").issue("node", HONEST))


async def test_another_archives_certificate_does_not(tmp_path):
    assert not await sessions_with(tmp_path, Authority(tmp_path / "tls").issue("node", ROGUE))


async def test_an_expired_certificate_does_not(tmp_path):
    old = datetime.now(UTC) - timedelta(days=3)
    issued = Authority(tmp_path / "tls").issue("node", HONEST, lifetime=timedelta(hours=1), starts=old)
    assert not await sessions_with(tmp_path, issued)


@pytest.mark.parametrize("who", ["nobody", "another archive", "a gateway"])
async def test_dialling_in_takes_the_archives_own_certificate(tmp_path, who):
    authority = Authority(tmp_path / "tls")
    mine = credentials(authority.issue("gateway", "gateway"))
    async with gateway(Member(ROGUE, "b"), credentials=mine, listen=True) as (_searches, nodes, events):
        address = f"127.0.0.1:{nodes.link_port}"
        shown = {
            "nobody": credentials(Authority(tmp_path / "foreign").issue("node", ROGUE)),
            "another archive": credentials(authority.issue("node", HONEST)),
            "a gateway": credentials(authority.issue("gateway", "second")),
        }[who]
        channel = transport.channel(address, shown, "gateway", "gateway")
        link = DialledLink(channel, LINK)
        with contextlib.suppress(LinkLostError):
            await link.send(rogue.hello(ROGUE))
        said = [pb.Frame.FromString(message).WhichOneof("body") for message in await heard(link)]
        assert set(said) <= {"hello", "error"}
        await channel.close(None)
        assert not nodes.connected(ROGUE)
        assert not events.up.get(ROGUE)


async def test_renewing_sessions_under_load_loses_no_search():
    async with serving(honest) as good:
        async with gateway(Member(HONEST, "a", f"127.0.0.1:{good}"), session_age_s=0.6) as (
            searches,
            nodes,
            events,
        ):
            await soon(lambda: nodes.connected(HONEST))
            ends_at = time.monotonic() + 4
            outcomes = []

            async def load():
                while time.monotonic() < ends_at:
                    answer = await searches.search(ASKED)
                    outcomes.append(answer.completeness.outcomes[0].outcome)

            await asyncio.gather(*[load() for _ in range(8)])
            assert set(outcomes) == {"empty"}
            assert len(outcomes) > 100
            assert events.up[HONEST]


# candidates ----------------------------------------------------------------------------------------------------


def masked(ref, **changes):
    return pb.Candidate(
        ref=ref, category="marriage", masked_name="钱*明", year=1987, levels=pb.Levels(name=1), **changes
    ).SerializeToString()


NAN = pb.Candidate(ref="nan", category="marriage", name_bits=float("nan")).SerializeToString()
UNKNOWN_FIELD = masked("newer") + b"\xfa\x07\x03new"  # field 127 of a later version
UNKNOWN_LEVEL = pb.Candidate(ref="level", category="marriage", levels=pb.Levels(name=999)).SerializeToString()
BAD_UTF8 = masked("utf").replace("钱".encode(), b"\xff\xff\xff")
UNMASKED = masked("open").replace(b"*", b"x")


@pytest.mark.parametrize(
    ("candidates", "told", "exact", "event"),
    [
        ([masked("a"), BAD_UTF8, masked("b")], ["a", "b"], False, "bad_candidate"),
        ([masked("a"), NAN], ["a"], False, "bad_candidate"),
        ([masked("a"), UNMASKED], ["a"], False, "bad_candidate"),
        ([masked("a"), b"c" * 5000], ["a"], False, "bad_candidate"),
        ([masked("a"), masked("a"), masked("b")], ["a", "b"], True, "duplicate_candidate"),
        ([UNKNOWN_FIELD], ["newer"], True, None),
        ([UNKNOWN_LEVEL], ["level"], True, None),
        ([masked(f"r{number}") for number in range(20_000)], [f"r{number}" for number in range(50)], False, None),
    ],
    ids=["bad UTF-8", "not a number", "unmasked", "too large", "told twice", "newer field", "newer level", "too many"],
)  # fmt: skip
async def test_one_bad_candidate_spoils_only_itself_and_is_not_kept_secret(candidates, told, exact, event):
    async def behave(link):
        await link.send(rogue.hello(HONEST))
        while True:
            frame = pb.Frame.FromString(await link.receive())
            for item in frame.queries.items:
                result = pb.ResultItem(cid=item.cid, status=pb.STATUS_OK, candidates=candidates)
                results = pb.Results(items=[result], frames_received=1)
                await link.send(pb.Frame(results=results).SerializeToString())

    async with serving(behave) as port:
        async with gateway(Member(HONEST, "a", f"127.0.0.1:{port}")) as (searches, nodes, events):
            await soon(lambda: nodes.connected(HONEST))
            answer = await searches.search(replace(ASKED, page_size=100))
            assert sorted(one.candidate.ref for one in answer.candidates) == sorted(told)
            assert answer.completeness.exact_count is exact
            is_whole = event != "bad_candidate"  # what could not be read may be the record asked for
            assert answer.completeness.outcomes[0].outcome == ("hit" if is_whole else "bad_answer")
            assert answer.completeness.verdict == ("complete" if is_whole else "partial")
            assert ((HONEST, event) in events.seen) == (event is not None)
            assert nodes.connected(HONEST)  # the session lives on
