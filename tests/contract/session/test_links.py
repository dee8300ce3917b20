"""Every link carries messages whole and in order, and ends for both sides for good, whatever it is made of."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import grpc.aio
import pytest

from federation.rpc import transport
from federation.rpc.links import HOLDINGS, DialledLink, open_handler
from federation.session.link import LinkLostError
from tests.fakes import proxy
from tests.fakes.links import MemoryLink

PLAIN = transport.Credentials(plaintext_on_loopback=True)


@contextlib.asynccontextmanager
async def memory():
    yield MemoryLink.pair()


@contextlib.asynccontextmanager
async def over_grpc(*, swapped=False, cut=None):
    """A dialled link and its accepted other end; `cut`, a list, is given what cuts the connection between them."""
    accepted = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def serve(link, _context):
        accepted.set_result(link)
        await done.wait()

    server = transport.server()
    server.add_generic_rpc_handlers((open_handler(HOLDINGS, serve),))
    port = transport.listen(server, "127.0.0.1:0", PLAIN)
    await server.start()
    stack = contextlib.AsyncExitStack()
    if cut is not None:
        between = await stack.enter_async_context(proxy.before(port))
        port = between.port
        cut.append(between.cut)
    channel = transport.channel(f"127.0.0.1:{port}", PLAIN, "node", "330483")
    dialled = DialledLink(channel, HOLDINGS)
    try:
        await dialled.send(b"first")  # the stream opens with its first message
        other = await asyncio.wait_for(accepted, 5)
        assert await other.receive() == b"first"
        yield (other, dialled) if swapped else (dialled, other)
    finally:
        done.set()
        await dialled.close()
        await server.stop(0)
        await stack.aclose()


KINDS = {"memory": memory, "dialled": over_grpc, "accepted": lambda: over_grpc(swapped=True)}


@pytest.fixture(params=list(KINDS))
def pair(request):
    return KINDS[request.param]


async def test_messages_arrive_whole_and_in_order(pair):
    async with pair() as (here, there):
        sent = [bytes([number % 256]) * (number * 37) for number in range(40)] + [b"x" * 900_000]

        async def send():
            for message in sent:
                await here.send(message)

        sending = asyncio.create_task(send())
        got = [await asyncio.wait_for(there.receive(), 5) for _ in sent]
        await sending
        assert got == sent


async def test_both_directions_at_once(pair):
    async with pair() as (here, there):

        async def talk(link, word):
            for number in range(50):
                await link.send(b"%s %d" % (word, number))

        async def hear(link):
            return [await asyncio.wait_for(link.receive(), 5) for _ in range(50)]

        _a, _b, first, second = await asyncio.gather(
            talk(here, b"h"), talk(there, b"t"), hear(here), hear(there)
        )
        assert first == [b"t %d" % number for number in range(50)]
        assert second == [b"h %d" % number for number in range(50)]


async def test_closing_one_end_ends_a_waiting_receive_at_that_end(pair):
    async with pair() as (here, _there):
        receiving = asyncio.create_task(here.receive())
        await asyncio.sleep(0.05)
        await here.close()
        with pytest.raises(LinkLostError):
            await asyncio.wait_for(receiving, 5)
        with pytest.raises(LinkLostError):
            await here.send(b"late")
        await here.close()  # again is nothing


@pytest.mark.parametrize(
    "kind", ["memory", "accepted"]
)  # an accepted link ends with its handler, not by close
async def test_an_ended_peer_is_noticed(kind):
    async with KINDS[kind]() as (here, there):
        receiving = asyncio.create_task(here.receive())
        await asyncio.sleep(0.05)
        await there.close()
        with pytest.raises(LinkLostError):
            await asyncio.wait_for(receiving, 5)


@pytest.mark.parametrize("swapped", [False, True], ids=["dialled", "accepted"])
async def test_a_connection_that_is_cut_under_a_message_that_waits_for_room_is_a_lost_link(swapped):
    cut = []
    async with over_grpc(swapped=swapped, cut=cut) as (here, _there):
        sent = 0

        async def send():
            nonlocal sent
            while True:  # the other side reads nothing, so one of them waits
                await here.send(bytes(200_000))
                sent += 1

        sending = asyncio.create_task(send())
        before = -1
        while before < sent:
            before = sent
            await asyncio.sleep(0.3)
        cut[0]()
        with pytest.raises(LinkLostError):
            await asyncio.wait_for(sending, 10)


@pytest.mark.parametrize("kind", ["fault", "turned away", "lost"])
async def test_a_fault_of_whoever_serves_an_accepted_stream_is_told_and_nothing_else_is(kind):
    async def serve(link, context):
        match kind:
            case "fault":
                raise KeyError("钱伟明")
            case "turned away":
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not_a_member")
            case "lost":
                raise LinkLostError("lost")

    told = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: told.append(type(context["exception"])))
    server = transport.server()
    server.add_generic_rpc_handlers((open_handler(HOLDINGS, serve),))
    port = transport.listen(server, "127.0.0.1:0", PLAIN)
    await server.start()
    link = DialledLink(transport.channel(f"127.0.0.1:{port}", PLAIN, "node", "330483"), HOLDINGS)
    with pytest.raises(LinkLostError):
        await asyncio.wait_for(link.receive(), 5)
    assert "钱" not in await link._call.details()
    await link.close()
    await server.stop(0)
    loop.set_exception_handler(None)
    assert told == ([KeyError] if kind == "fault" else [])


async def test_plaintext_is_for_loopback_only():
    with pytest.raises(transport.TransportRefusedError, match="loopback"):
        transport.channel("192.0.2.1:4000", PLAIN, "node", "330483")
    with pytest.raises(transport.TransportRefusedError, match="loopback"):
        transport.listen(grpc.aio.server(), "0.0.0.0:0", PLAIN)
    with pytest.raises(transport.TransportRefusedError, match="TLS"):
        transport.channel("127.0.0.1:4000", transport.Credentials(), "node", "330483")
