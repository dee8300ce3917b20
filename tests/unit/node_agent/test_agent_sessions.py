"""An agent's sessions, over links in memory and in virtual time: what each gateway is told, and when."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from federation.rpc import transport
from federation.session.base import HELLO_WITHIN_S, MOST_WAITING_FRAMES, PROTOCOL
from federation.session.link import LinkLostError
from federation.wire.v1 import holdings_pb2 as pb
from node_agent import telemetry
from node_agent.app import Agent
from node_agent.objects import Shelf
from node_agent.settings import NodeSettings
from tests.fakes.links import MemoryLink
from tests.fakes.virtual import run

ARCHIVE = "330483"


class Service:
    """An archive whose index is at `epoch`."""

    def __init__(self):
        self.epoch = 1

    def manifest(self):
        return pb.Manifest(archive=ARCHIVE, index_epoch=self.epoch, records=100 * self.epoch)

    def turn(self):
        return contextlib.nullcontext()

    def let_go_of_older_files(self): ...


class NoDesk:
    """An office whose courier carries nothing."""

    def __init__(self):
        self.courier = self

    def joined(self, line): ...
    def left(self, line): ...


class Gateway:
    """The other end of one session: keeps the epochs it was told, from the greeting on."""

    def __init__(self, link):
        self.link, self.epochs = link, []

    async def greet(self):
        await self.link.send(pb.Frame(hello=pb.Hello(protocol_min=PROTOCOL, protocol_max=PROTOCOL)).SerializeToString())  # fmt: skip

    async def listen(self):
        with contextlib.suppress(LinkLostError):
            while True:
                frame = pb.Frame.FromString(await self.link.receive())
                told = frame.hello if frame.WhichOneof("body") == "hello" else frame.beat
                if told.HasField("manifest"):
                    self.epochs.append(told.manifest.index_epoch)


@contextlib.asynccontextmanager
async def watching(office=None):
    """(service, join) of an agent that watches its index; `join` begins a session and gives the gateway's end."""
    service = Service()
    settings = NodeSettings(archive=ARCHIVE, name="b", gateways=("127.0.0.1:1",))
    agent = Agent(
        settings, transport.Credentials(plaintext_on_loopback=True), service, office or NoDesk(), Shelf()
    )
    tasks = [asyncio.create_task(agent.watch())]

    def join(bound=64):
        here, there = MemoryLink.pair(bound)
        tasks.append(asyncio.create_task(agent._session(there)))
        return Gateway(here)

    try:
        yield service, join
    finally:
        await agent.drain()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_every_gateway_is_told_of_an_import_once():
    async def work():
        async with watching() as (service, join):
            gateways = [join() for _ in range(3)]
            for one in gateways:
                await one.greet()
            listening = [asyncio.create_task(one.listen()) for one in gateways]
            await asyncio.sleep(3)
            service.epoch = 2
            await asyncio.sleep(5)
            service.epoch = 1  # a file of an earlier day was put in its place
            await asyncio.sleep(5)
        await asyncio.gather(*listening)
        assert [one.epochs for one in gateways] == [[1, 2, 1]] * 3

    run(work())


def test_a_gateway_that_greets_while_an_import_ends_is_told_of_it():
    async def work():
        async with watching() as (service, join):
            gateway = join()
            await asyncio.sleep(0.1)  # our own greeting is on its way
            service.epoch = 2
            await asyncio.sleep(HELLO_WITHIN_S - 0.2)  # the index was looked at meanwhile
            await gateway.greet()
            listening = asyncio.create_task(gateway.listen())
            await asyncio.sleep(5)
        await listening
        assert gateway.epochs == [1, 2]

    run(work())


@pytest.mark.parametrize("bound", [1, 4])
def test_a_gateway_whose_link_did_not_move_is_told_when_it_does(bound):
    async def work():
        async with watching() as (service, join):
            gateway = join(bound)
            await gateway.greet()
            for _ in range(MOST_WAITING_FRAMES + 10):  # one import a second, and nobody reads
                await asyncio.sleep(1)
                service.epoch += 1
                await gateway.link.send(pb.Frame(beat=pb.Beat(sequence=1)).SerializeToString())
            await asyncio.sleep(2)
            listening = asyncio.create_task(gateway.listen())
            await asyncio.sleep(10)
            assert gateway.epochs[-1] == service.epoch
        await listening

    run(work())


class FaultyDesk(NoDesk):
    """Its courier fails at what arrives."""

    def arrived(self, _line, _mail_id, _case_id, _body):
        raise KeyError("钱伟明")


def test_a_fault_of_the_agent_that_ends_a_session_is_counted_and_logged_without_a_word_of_it(capsys):
    async def work():
        async with watching(FaultyDesk()) as (_service, join):
            gateway = join()
            await gateway.greet()
            await gateway.link.send(pb.Frame(mails=pb.Mails(items=[pb.Mail()])).SerializeToString())
            await gateway.listen()  # until the session has ended

    telemetry.configure_logs()
    faults = telemetry.SESSION_EVENTS.labels(event="fault")._value
    before = faults.get()
    run(work())
    err = capsys.readouterr().err
    [line] = [json.loads(line) for line in err.splitlines() if "KeyError" in line]
    assert line["where"].startswith("node_agent.app:")
    assert "钱" not in err
    assert faults.get() == before + 1
