"""What a network does to a session in the middle of its life, whichever side dialled: each is one archive's outcome, in
time; the others do not notice; and when it is over the archive is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter

import pytest
from msgspec.structs import replace

from federation.rpc.links import LINK, DialledLink
from federation.session.answering import CREDITS, AnsweringSession
from federation.session.base import SessionEndedError
from federation.wire.v1 import holdings_pb2 as pb
from gateway.search.roster import Member
from node_agent.dialling import Dialler
from tests.fakes import proxy, rogue
from tests.fakes.waiting import soon
from tests.faults.test_session_faults import (
    ASKED,
    HONEST,
    LATE_S,
    PATIENT,
    PLAIN,
    ROGUE,
    gateway,
    honest,
    serving,
)

OTHER = ROGUE  # the archive behind the bad network; honest itself
ASK_S = replace(ASKED, deadline_s=1.0)


class Archive:
    """Answers everything as empty; counts what it was asked, by identifier."""

    def __init__(self, code, *, holds=()):
        self.code, self.asked, self.holds = code, Counter(), set(holds)
        self.held = []

    def begin(self, item, _ends_at, done):
        self.asked[bytes(item.subrequest_id)] += 1
        if "all" in self.holds:
            self.held.append((item.cid, done))
            return
        done(pb.ResultItem(cid=item.cid, status=pb.STATUS_OK, index_epoch=1))
        return

    def turn(self):
        return contextlib.nullcontext()

    def manifest(self):
        return pb.Frame.FromString(rogue.hello(self.code)).hello.manifest

    async def serve(self, link, opened=lambda: None):
        session = AnsweringSession(link, self.code, self, observe=lambda _e: None)
        await session.greet(pb.Frame.FromString(rogue.hello(self.code, credits=CREDITS)).hello)
        opened()
        await session.run()


@contextlib.asynccontextmanager
async def dialled(archive, **options):
    """The gateway dials the archive through the proxy."""
    async with serving(honest) as good, serving(archive.serve) as port, proxy.before(port) as between:
        members = Member(HONEST, "a", f"127.0.0.1:{good}"), Member(OTHER, "b", f"127.0.0.1:{between.port}")
        async with gateway(*members, **options) as (searches, nodes, events):
            await soon(lambda: nodes.connected(HONEST) and nodes.connected(OTHER))
            yield searches, nodes, events, between


@contextlib.asynccontextmanager
async def dialling_in(archive, *, session_age_s=None, **options):
    """The archive dials the gateway through the proxy."""
    async with serving(honest) as good:
        members = Member(HONEST, "a", f"127.0.0.1:{good}"), Member(OTHER, "b")
        async with gateway(*members, listen=True, **options) as (searches, nodes, events):
            async with proxy.before(nodes.link_port) as between:
                dialler = Dialler(PLAIN, "gateway")

                def serve(channel, opened):
                    return archive.serve(DialledLink(channel, LINK), opened)

                keeping = asyncio.create_task(
                    dialler.keep(f"127.0.0.1:{between.port}", serve, age_s=session_age_s)
                )
                try:
                    await soon(lambda: nodes.connected(HONEST) and nodes.connected(OTHER))
                    yield searches, nodes, events, between
                finally:
                    keeping.cancel()
                    await asyncio.gather(keeping, return_exceptions=True)
                    await dialler.close()


DIRECTIONS = pytest.mark.parametrize("direction", [dialled, dialling_in], ids=lambda one: one.__name__)


async def ask(searches, question=ASK_S, within_s=None):
    """The other archive's outcome of one search, which is in time and full for everybody else."""
    began = time.monotonic()
    answer = await searches.search(question)
    assert time.monotonic() - began < (within_s or question.deadline_s) + LATE_S
    outcomes = {one.archive: one.outcome for one in answer.completeness.outcomes}
    assert outcomes[HONEST] == "empty"
    failed = outcomes[OTHER] != "empty"
    assert answer.completeness.verdict == ("partial" if failed else "complete")
    assert [gap.archive for gap in answer.completeness.gaps] == ([OTHER] if failed else [])
    return outcomes[OTHER]


@DIRECTIONS
@pytest.mark.parametrize(
    ("mode", "outcomes"), [("hole", {"timeout"}), ("drip", {"timeout"}), ("slow", {"empty", "timeout"})]
)
async def test_a_bad_network_is_one_gap_in_time_and_heals(direction, mode, outcomes):
    async with direction(Archive(OTHER)) as (searches, _nodes, _events, between):
        assert await ask(searches) == "empty"
        between.turn(mode)
        for _ in range(3):
            assert await ask(searches) in outcomes
        between.turn("pass")
        ends_at = time.monotonic() + 20
        while await ask(searches) != "empty":
            assert time.monotonic() < ends_at, "the archive did not come back"
            await asyncio.sleep(0.1)


@DIRECTIONS
async def test_after_five_silences_the_circuit_spares_the_caller_the_wait(direction):
    async with direction(Archive(OTHER)) as (searches, _nodes, _events, between):
        between.turn("hole")
        for _ in range(5):
            assert await ask(searches) == "timeout"
        assert await ask(searches, PATIENT, within_s=0.5) == "circuit_open"


@DIRECTIONS
async def test_questions_on_a_cut_connection_are_asked_at_most_twice_and_all_told(direction):
    """Two hundred in flight when the connection is reset: each ends, the archive sees no identifier more than twice, and
    no more second attempts than the budget of retries.
    """
    archive = Archive(OTHER, holds={"all"})
    async with direction(archive) as (searches, nodes, _events, between):
        question = replace(ASKED, deadline_s=3.0)
        asking = [asyncio.create_task(ask(searches, question)) for _ in range(60)]
        await soon(lambda: len(archive.held) >= 60)
        archive.holds.clear()
        between.cut()
        told = await asyncio.gather(*asking)
        assert len(told) == 60
        assert set(told) <= {"empty", "unreachable"}
        assert max(archive.asked.values()) <= 2
        again = sum(count - 1 for count in archive.asked.values())
        assert again <= 0.1 * 120 + 100
        await soon(lambda: nodes.connected(OTHER))
        assert await ask(searches) == "empty"


@DIRECTIONS
async def test_a_network_that_resets_every_connection_is_dialled_ever_more_seldom(direction):
    async with direction(Archive(OTHER)) as (searches, nodes, _events, between):
        between.turn("refuse")
        between.cut()
        await soon(lambda: not nodes.connected(OTHER))
        before = between.connections
        for _ in range(5):
            assert await ask(searches) in {"unreachable", "circuit_open"}
            await asyncio.sleep(0.5)
        assert between.connections - before <= 12  # gRPC tries an address again within one attempt of ours
        between.turn("pass")
        await soon(lambda: nodes.connected(OTHER))
        assert await ask(searches) == "empty"


async def test_a_host_that_drops_connection_attempts_is_unreachable_at_once():
    """A listening socket whose queue is full: the kernel drops further attempts, as a firewall does."""
    with contextlib.ExitStack() as sockets, socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            one = sockets.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(full.getsockname())
        async with serving(honest) as good:
            members = (
                Member(HONEST, "a", f"127.0.0.1:{good}"),
                Member(OTHER, "b", f"127.0.0.1:{full.getsockname()[1]}"),
            )
            async with gateway(*members) as (searches, nodes, _events):
                await soon(lambda: nodes.connected(HONEST))
                assert await ask(searches, PATIENT, within_s=0.5) == "unreachable"


@pytest.mark.parametrize("direction", ["gateway dials", "archive dials"])
async def test_renewing_under_load_fails_no_question_and_asks_none_twice(direction):
    archive = Archive(OTHER)
    if direction == "gateway dials":
        context = dialled(archive, session_age_s=0.6)
    else:
        context = dialling_in(archive, session_age_s=0.6)
    async with context as (searches, nodes, events, between):
        outcomes = Counter()
        ends_at = time.monotonic() + 4

        async def load():
            while time.monotonic() < ends_at:
                outcomes[await ask(searches)] += 1

        await asyncio.gather(*[load() for _ in range(8)])
        assert set(outcomes) == {"empty"}
        assert outcomes["empty"] > 50
        assert set(archive.asked.values()) == {1}
        assert between.connections >= 4  # it was renewed
        assert nodes.connected(OTHER)
        assert events.up[OTHER]


async def test_of_two_sessions_of_one_archive_the_newer_carries_on_and_the_older_is_closed():
    first, second = Archive(OTHER, holds={"all"}), Archive(OTHER)
    async with dialling_in(first) as (searches, nodes, _events, _between):
        held = asyncio.create_task(ask(searches, replace(ASKED, deadline_s=3.0)))
        await soon(lambda: first.held)
        dialler = Dialler(PLAIN, "gateway")

        async def serve(channel, opened):
            with contextlib.suppress(SessionEndedError):
                await second.serve(DialledLink(channel, LINK), opened)

        keeping = asyncio.create_task(dialler.keep(f"127.0.0.1:{nodes.link_port}", serve))
        await soon(lambda: second.asked or nodes._lines[OTHER].generation >= 2)
        assert await ask(searches) == "empty"
        assert sum(second.asked.values()) == 1
        cid, done = first.held[0]
        done(
            pb.ResultItem(cid=cid, status=pb.STATUS_OK, index_epoch=1)
        )  # the older session still finishes its own
        assert await held == "empty"
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await dialler.close()
