"""The gateway's carrier against agents that dial and are dialled: resumption, strangers, archives that are away."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random

import pytest

from federation.bulk.answering import BulkAnswering, Object
from federation.reasons import Reason, Refusal
from federation.rpc import transport
from federation.rpc.links import HOLDINGS, LINK, DialledLink, open_handler, stream_handler
from federation.session.link import LinkLostError
from gateway.adapters import carrier as carrier_module
from gateway.adapters.carrier import Carrier
from gateway.search.roster import Member, Roster
from loadtest.authorities.tls import Authority
from node_agent.objects import Shelf, in_memory
from tests.fakes import rogue

BIG = random.Random(2).randbytes(3_000_000)


async def nobody(_link, _context):
    raise AssertionError


class Archive:
    """One archive's objects, and its server when it is dialled."""

    def __init__(self, credentials, code="330483"):
        self.credentials, self.code = credentials, code
        self.shelf = Shelf()
        self.shelf.put("document", self._document)
        self.shelf.put("echo", lambda rest, body: in_memory(rest.encode() + body, "text/plain"))
        self.data = BIG
        self.links = []
        self.server = None
        self.port = 0

    def _document(self, _rest, _body):
        data = self.data

        return Object(
            len(data),
            hashlib.sha256(data).digest(),
            "application/pdf",
            lambda offset, length: data[offset : offset + length],
        )

    async def answer(self, link, _context=None):
        self.links.append(link)
        await BulkAnswering(link, self.code, self.shelf).run()

    async def listen(self, port=0):
        self.server = transport.server()
        handler = open_handler(HOLDINGS, nobody, {"Bulk": stream_handler(self.answer)})
        self.server.add_generic_rpc_handlers((handler,))
        self.port = transport.listen(self.server, f"127.0.0.1:{port}", self.credentials)
        await self.server.start()
        return self.port

    async def stop(self):
        if self.server is not None:
            await self.server.stop(0)


@pytest.fixture
def tls(tmp_path):
    authority = Authority(tmp_path)

    def credentials(role, name):
        issued = authority.issue(role, name)
        return transport.Credentials(ca=issued.ca, certificate=issued.certificate, key=issued.key)

    return credentials


def carrier(port, credentials):
    members = (Member("330482", "平湖市档案馆"), Member("330483", "桐乡市档案馆", f"127.0.0.1:{port}"))
    return Carrier(Roster(1, members), credentials)


async def read(carried):
    return b"".join([chunk async for chunk in carried.chunks()])


async def test_an_object_is_carried_from_an_archive_that_is_dialled(tls):
    archive = Archive(tls("node", "330483"))
    carrying = carrier(await archive.listen(), tls("gateway", "gateway"))
    try:
        carried = await carrying.open("330483", "document/x")
        assert (carried.size, carried.media_type) == (len(BIG), "application/pdf")
        assert await read(carried) == BIG
        assert await read(await carrying.open("330483", "document/x", 2_999_990)) == BIG[-10:]
        assert await carrying.fetch("330483", "echo/a", 10, b"b") == b"ab"
        assert len(archive.links) == 1
    finally:
        await carrying.stop()
        await archive.stop()


async def test_while_the_certificate_is_being_replaced_an_archive_is_unreachable_and_nothing_else(tls):
    mine = tls("gateway", "gateway")
    key = mine.key.read_bytes()
    archive = Archive(tls("node", "330483"))
    carrying = carrier(await archive.listen(), mine)
    try:
        mine.key.write_bytes(tls("gateway", "second").key.read_bytes())
        with pytest.raises(Refusal) as refused:
            await carrying.fetch("330483", "echo/a", 10)
        assert refused.value.reason is Reason.HOLDER_UNREACHABLE
        mine.key.write_bytes(key)
        assert await carrying.fetch("330483", "echo/a", 10) == b"a"
    finally:
        await carrying.stop()
        await archive.stop()


async def test_an_object_goes_on_where_a_lost_stream_left_it(tls, monkeypatch):
    monkeypatch.setattr(carrier_module, "_PAUSE_S", 0.02)
    archive = Archive(tls("node", "330483"))
    port = await archive.listen()
    carrying = carrier(port, tls("gateway", "gateway"))
    try:
        carried = await carrying.open("330483", "document/x")
        got = []
        restarted = False
        async for chunk in carried.chunks():
            got.append(chunk)
            if not restarted and sum(map(len, got)) > 600_000:
                restarted = True
                await archive.stop()
                assert await archive.listen(port) == port
        assert b"".join(got) == BIG
        assert len(archive.links) == 2
    finally:
        await carrying.stop()
        await archive.stop()


async def test_an_object_that_changed_meanwhile_is_not_taken(tls, monkeypatch):
    monkeypatch.setattr(carrier_module, "_PAUSE_S", 0.02)
    archive = Archive(tls("node", "330483"))
    port = await archive.listen()
    carrying = carrier(port, tls("gateway", "gateway"))
    try:
        carried = await carrying.open("330483", "document/x")

        async def read_while_it_changes():
            async for _chunk in carried.chunks():
                if archive.data is BIG:
                    archive.data = bytes(len(BIG))
                    await archive.stop()
                    await archive.listen(port)

        with pytest.raises(Refusal) as refused:
            await read_while_it_changes()
        assert refused.value.reason is Reason.ALTERED
    finally:
        await carrying.stop()
        await archive.stop()


async def test_bytes_of_another_digest_are_never_handed_on_whole(tls):
    archive = Archive(tls("node", "330483"))
    lie = Object(len(BIG), bytes(32), "application/pdf", lambda offset, length: BIG[offset : offset + length])
    archive.shelf.put("document", lambda _rest, _body: lie)
    carrying = carrier(await archive.listen(), tls("gateway", "gateway"))
    got = []

    async def read_on():
        async for chunk in (await carrying.open("330483", "document/x")).chunks():
            got.append(chunk)  # noqa: PERF401 - what came before the refusal counts

    try:
        with pytest.raises(Refusal) as refused:
            await read_on()
        assert refused.value.reason is Reason.ALTERED
        assert sum(map(len, got)) < len(BIG)
        with pytest.raises(Refusal) as refused:
            await carrying.fetch("330483", "document/x", len(BIG))
        assert refused.value.reason is Reason.ALTERED
    finally:
        await carrying.stop()
        await archive.stop()


async def test_an_archive_that_is_away_is_named_and_found_again(tls, monkeypatch):
    monkeypatch.setattr(carrier_module, "CONNECT_WITHIN_S", 0.2)
    monkeypatch.setattr(carrier_module, "RESUME_WITHIN_S", 0.3)
    archive = Archive(tls("node", "330483"))
    port = await archive.listen()
    carrying = carrier(port, tls("gateway", "gateway"))
    try:
        carried = await carrying.open("330483", "document/x")
        await archive.stop()
        with pytest.raises(Refusal) as refused:
            await read(carried)
        assert refused.value.reason is Reason.HOLDER_UNREACHABLE
        for name in ("330483", "330482"):
            with pytest.raises(Refusal) as refused:
                await carrying.open(name, "document/x")
            assert refused.value.reason is Reason.HOLDER_UNREACHABLE
        with pytest.raises(Refusal) as refused:
            await carrying.open("999999", "document/x")
        assert refused.value.reason is Reason.NOT_A_MEMBER
        await archive.listen(port)
        assert await carrying.fetch("330483", "echo/back", 10) == b"back"
    finally:
        await carrying.stop()
        await archive.stop()


@contextlib.asynccontextmanager
async def dialling_in(carrying, gateway_credentials, archive, *, certificate=None):
    """The gateway's link server, and an archive that has dialled its bulk stream."""
    server = transport.server()
    server.add_generic_rpc_handlers((open_handler(LINK, nobody, {"Bulk": carrying.handler()}),))
    port = transport.listen(server, "127.0.0.1:0", gateway_credentials)
    await server.start()
    channel = transport.channel(f"127.0.0.1:{port}", certificate or archive.credentials, "gateway", "gateway")
    answering = asyncio.create_task(archive.answer(DialledLink(channel, LINK, "Bulk")))
    try:
        yield answering
    finally:
        await carrying.stop()
        await asyncio.wait_for(answering, 5)
        await channel.close(None)
        await server.stop(0)


async def test_an_object_is_carried_from_an_archive_that_dials_in(tls):
    gateway = tls("gateway", "gateway")
    archive = Archive(tls("node", "330482"), "330482")
    carrying = carrier(1, gateway)
    async with dialling_in(carrying, gateway, archive):
        assert await read(await carrying.open("330482", "document/x")) == BIG


async def test_an_archive_can_not_answer_in_another_ones_name(tls, monkeypatch):
    monkeypatch.setattr(carrier_module, "CONNECT_WITHIN_S", 0.3)
    gateway = tls("gateway", "gateway")
    archive = Archive(tls("node", "330482"), "330482")
    carrying = carrier(1, gateway)
    async with dialling_in(carrying, gateway, archive, certificate=tls("node", "330411")) as answering:
        await asyncio.wait_for(asyncio.shield(answering), 5)  # turned away
        with pytest.raises(Refusal) as refused:
            await carrying.open("330482", "document/x")
        assert refused.value.reason is Reason.HOLDER_UNREACHABLE


async def test_a_dialled_archive_that_says_another_name_is_refused(tls):
    archive = Archive(tls("node", "330483"), "330400")
    carrying = carrier(await archive.listen(), tls("gateway", "gateway"))
    try:
        with pytest.raises(Refusal) as refused:
            await carrying.open("330483", "document/x")
        assert refused.value.reason is Reason.WRONG_ARCHIVE
    finally:
        await carrying.stop()
        await archive.stop()


async def test_an_object_of_an_archive_that_ignores_windows_is_carried_whole_to_a_slow_reader(tls):
    archive = Archive(tls("node", "330483"))

    async def answer(link, _context=None):
        archive.links.append(link)
        with contextlib.suppress(LinkLostError):
            await rogue.ignores_windows(link, archive.code, archive.data)

    archive.answer = answer
    carrying = carrier(await archive.listen(), tls("gateway", "gateway"))
    try:
        carried = await carrying.open("330483", "document/x")
        got = []
        async for chunk in carried.chunks():
            got.append(chunk)
            if len(archive.links) == 1:
                async with asyncio.timeout(5):
                    while carrying._lines["330483"].stream is not None:
                        await asyncio.sleep(0.01)
        assert b"".join(got) == BIG
        assert len(archive.links) > 1
    finally:
        await carrying.stop()
        await archive.stop()
