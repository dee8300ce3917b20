"""Objects arrive whole, from any offset, over every kind of link; a slow asker, a lost link and a lie stay their own trouble."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random

import pytest

from federation.bulk import LEAST_COUNTED, MOST_AT_ONCE, PART_SIZE, WINDOW
from federation.bulk.answering import BulkAnswering, Object
from federation.bulk.asking import BulkAsking, BulkLostError, WrongBytesError
from federation.reasons import Reason, Refusal
from federation.rpc import transport
from federation.rpc.links import HOLDINGS, DialledLink, open_handler, stream_handler
from federation.session.link import LinkLostError
from federation.wire.v1 import bulk_pb2 as pb
from tests.fakes import rogue
from tests.fakes.links import MemoryLink

PLAIN = transport.Credentials(plaintext_on_loopback=True)
BIG = random.Random(1).randbytes(5 * WINDOW + 12_345)


class Shelf:
    """Objects of a test. `lie` makes a digest wrong, `fail_at` makes reading fail there."""

    def __init__(self):
        self.objects = {"big": BIG, "empty": b"", "small": b"abc"}
        self.lie = False
        self.fail_at = None
        self.reads = 0

    def open(self, name, body):
        if name == "echo":
            data = body
        elif name in self.objects:
            data = self.objects[name]
        elif name == "crash":
            raise ZeroDivisionError
        else:
            raise Refusal(Reason.NOT_FOUND)

        def read(offset, length):
            self.reads += 1
            if self.fail_at is not None and offset >= self.fail_at:
                raise OSError
            return data[offset : offset + length]

        digest = hashlib.sha256(b"lie" if self.lie else data).digest()
        return Object(len(data), digest, "application/octet-stream", read)


@contextlib.asynccontextmanager
async def served(asking_link, answering_link, shelf):
    answering = asyncio.create_task(BulkAnswering(answering_link, "330483", shelf).run())
    asking = BulkAsking(asking_link)
    assert await asking.greet() == "330483"
    running = asyncio.create_task(asking.run())
    try:
        yield asking
    finally:
        await asking.close()
        await answering_link.close()
        await asyncio.wait_for(asyncio.gather(running, answering), 5)


@contextlib.asynccontextmanager
async def memory(shelf):
    here, there = MemoryLink.pair()
    async with served(here, there, shelf) as asking:
        yield asking


@contextlib.asynccontextmanager
async def over_grpc(shelf, *, asker_dials):
    """The stream opens with the answering side's greeting when it dials, with the server's when it is dialled."""
    accepted = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def serve(link, _context):
        accepted.set_result(link)
        await done.wait()

    async def nobody(_link, _context):
        raise AssertionError

    server = transport.server()
    server.add_generic_rpc_handlers((open_handler(HOLDINGS, nobody, {"Bulk": stream_handler(serve)}),))
    port = transport.listen(server, "127.0.0.1:0", PLAIN)
    await server.start()
    dialled = DialledLink(transport.channel(f"127.0.0.1:{port}", PLAIN, "node", "330483"), HOLDINGS, "Bulk")
    try:
        if asker_dials:
            asking = BulkAsking(dialled)
            greeting = asyncio.create_task(asking.greet())
            answering = asyncio.create_task(
                BulkAnswering(await asyncio.wait_for(accepted, 5), "330483", shelf).run()
            )
        else:
            answering = asyncio.create_task(BulkAnswering(dialled, "330483", shelf).run())
            asking = BulkAsking(await asyncio.wait_for(accepted, 5))
            greeting = asyncio.create_task(asking.greet())
        assert await greeting == "330483"
        running = asyncio.create_task(asking.run())
        yield asking
        await asking.close()
        await asyncio.wait_for(running, 5)
        done.set()
        await asyncio.wait_for(answering, 5)
    finally:
        done.set()
        await dialled.close()
        await server.stop(0)


KINDS = {
    "memory": memory,
    "gateway dials": lambda shelf: over_grpc(shelf, asker_dials=True),
    "agent dials": lambda shelf: over_grpc(shelf, asker_dials=False),
}


@pytest.fixture(params=list(KINDS))
def stream(request):
    return KINDS[request.param]


async def read(incoming):
    return b"".join([chunk async for chunk in incoming.chunks()])


@pytest.mark.parametrize("offset", [0, 1, PART_SIZE, WINDOW * 2 + 7, len(BIG) - 1, len(BIG)])
async def test_an_object_arrives_from_any_offset(stream, offset):
    async with stream(Shelf()) as asking:
        incoming = await asking.open("big", offset)
        assert (incoming.size, incoming.sha256) == (len(BIG), hashlib.sha256(BIG).digest())
        assert await read(incoming) == BIG[offset:]


async def test_several_objects_share_a_stream(stream):
    async with stream(Shelf()) as asking:
        opened = [await asking.open("big") for _ in range(3)]
        found = await asyncio.gather(*map(read, opened), asking.fetch("small", 10), asking.fetch("empty", 0))
        assert found == [BIG, BIG, BIG, b"abc", b""]
        assert await asking.fetch("echo", 100, body=b"question") == b"question"


async def test_what_is_not_given_is_refused_by_name_and_the_stream_goes_on(stream):
    shelf = Shelf()
    async with stream(shelf) as asking:
        for name, offset, reason in (
            ("nothing", 0, Reason.NOT_FOUND),
            ("small", 4, Reason.OUT_OF_RANGE),
            ("crash", 0, Reason.INTERNAL),
        ):
            with pytest.raises(Refusal) as refused:
                await asking.open(name, offset)
            assert refused.value.reason is reason
        with pytest.raises(Refusal) as refused:
            await asking.fetch("big", 1000)
        assert refused.value.reason is Reason.TOO_LARGE
        assert await asking.fetch("small", 10) == b"abc"


async def test_a_disk_that_fails_in_the_middle_ends_that_object_only(stream):
    shelf = Shelf()
    shelf.fail_at = PART_SIZE * 2
    async with stream(shelf) as asking:
        incoming = await asking.open("big")
        with pytest.raises(Refusal) as refused:
            await read(incoming)
        assert refused.value.reason is Reason.INTERNAL
        assert await asking.fetch("small", 10) == b"abc"


async def test_bytes_that_are_not_of_their_digest_are_not_taken(stream):
    shelf = Shelf()
    shelf.lie = True
    async with stream(shelf) as asking:
        with pytest.raises(WrongBytesError):
            await asking.fetch("small", 10)


async def test_an_asker_without_room_is_sent_no_more_than_its_window(stream):
    shelf = Shelf()
    async with stream(shelf) as asking:
        slow = await asking.open("big")
        assert await asking.fetch("small", 10) == b"abc"  # the other objects are not held up
        while True:
            before = shelf.reads
            await asking.fetch("small", 10)
            if shelf.reads == before + 1:  # nothing but this question was read for
                break
        assert shelf.reads * PART_SIZE <= WINDOW + 20 * PART_SIZE
        assert await read(slow) == BIG


async def test_who_asks_for_too_much_at_once_is_told(stream):
    async with stream(Shelf()) as asking:
        held = [await asking.open("big") for _ in range(MOST_AT_ONCE)]
        with pytest.raises(Refusal) as refused:
            await asking.open("small")
        assert refused.value.reason is Reason.OVERLOADED
        for incoming in held:
            await incoming.close()
        for _ in range(200):  # the other side hears of it a moment later
            with contextlib.suppress(Refusal):
                assert await asking.fetch("small", 10) == b"abc"
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("closed objects still hold their places")


async def test_a_lost_stream_is_told_to_everyone_who_waits(stream):
    async with stream(Shelf()) as asking:
        incoming = await asking.open("big")
        await asking.close()
        with pytest.raises((BulkLostError, LinkLostError)):
            await read(incoming)
        with pytest.raises((BulkLostError, LinkLostError)):
            await asking.open("small")


@pytest.mark.parametrize("frame", [b"\xff\xff", b"", pb.BulkFrame(want=pb.Want(id=1)).SerializeToString()])
async def test_garbage_ends_the_stream_of_the_asker(frame):
    here, there = MemoryLink.pair()
    asking = BulkAsking(here)
    await there.send(pb.BulkFrame(here=pb.BulkHere(archive="330483")).SerializeToString())
    await asking.greet()
    running = asyncio.create_task(asking.run())
    await there.send(frame)
    await asyncio.wait_for(running, 5)
    assert asking.is_lost


async def test_whoever_does_not_greet_is_not_asked(monkeypatch):
    monkeypatch.setattr("federation.bulk.asking.HELLO_WITHIN_S", 0.05)
    here, _there = MemoryLink.pair()
    with pytest.raises(BulkLostError):
        await BulkAsking(here).greet()


@pytest.mark.parametrize("behave", rogue.BULK_ROGUES, ids=lambda one: one.__name__)
async def test_a_sender_fills_no_memory_while_its_object_is_read_slowly(behave):
    """It loses the stream; what came within the window is still read, and then the object is lost as by any other end."""
    here, there = MemoryLink.pair()

    async def send():
        with contextlib.suppress(LinkLostError):
            await behave(there, "330483", BIG)

    sending = asyncio.create_task(send())
    asking = BulkAsking(here)
    assert await asking.greet() == "330483"
    running = asyncio.create_task(asking.run())
    incoming = await asking.open("big")
    await asyncio.wait_for(running, 10)
    assert asking.is_lost
    kept = [one for one in incoming._parts._queue if one is not None]
    assert sum(len(one.SerializeToString()) for one in kept) <= WINDOW + PART_SIZE + len(kept) * LEAST_COUNTED
    assert len(kept) <= (WINDOW + PART_SIZE) / LEAST_COUNTED
    got = []

    async def read_slowly():
        async for chunk in incoming.chunks():
            got.append(chunk)  # noqa: PERF401 - what came before the loss counts

    with pytest.raises(BulkLostError):
        await read_slowly()
    assert BIG.startswith(b"".join(got))
    if behave is rogue.ignores_windows:
        assert len(b"".join(got)) >= WINDOW
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
