"""When an agent dials a gateway, in virtual time: seldom while it is away, at once when a good connection is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
from itertools import pairwise

import pytest

from federation.rpc import transport
from federation.session.base import SessionEndedError
from node_agent import telemetry
from node_agent.dialling import Dialler
from tests.fakes.virtual import now, run

LONG_AGO_S, AGE_S = 300.0, 750.0


class Channel:
    """A channel that is connected."""

    async def channel_ready(self): ...
    async def close(self, _grace): ...


def dialled(serve, until_s, monkeypatch, **options):
    """Times at which `serve(number, opened)` was called, in so many seconds of keeping one connection."""
    times = []
    monkeypatch.setattr(transport, "channel", lambda *_to: Channel())

    async def work():
        began = now()

        async def one(_channel, opened):
            times.append(now() - began)
            await serve(len(times), opened)

        dialler = Dialler(transport.Credentials(plaintext_on_loopback=True), "gateway")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until_s):
                await dialler.keep("127.0.0.1:1", one, **options)
        await dialler.close()

    run(work())
    return times


@pytest.mark.parametrize("lost_after_s", [0.0, 1.0, 59.0])
def test_after_a_renewal_a_loss_is_dialled_again_at_once_however_long_the_outage_before(monkeypatch, lost_after_s):  # fmt: skip
    renewed = []  # by which number of dialling

    async def serve(number, opened):
        if now() - 1000.0 < LONG_AGO_S:
            raise SessionEndedError
        opened()
        renewed.append(number - 1)
        if len(renewed) == 2:  # the one that took over
            await asyncio.sleep(lost_after_s)
            raise SessionEndedError
        await asyncio.Event().wait()

    times = dialled(serve, LONG_AGO_S + 2 * AGE_S, monkeypatch, age_s=AGE_S)
    first, second, third = renewed[:3]
    assert times[first] - times[first - 1] > 2.0  # the pauses had grown
    assert times[third] - times[second] <= lost_after_s + 0.5


def test_a_gateway_that_hangs_up_again_and_again_is_dialled_ever_more_seldom(monkeypatch):
    async def serve(_number, opened):
        opened()
        await asyncio.sleep(1)
        raise SessionEndedError

    times = dialled(serve, 600.0, monkeypatch, age_s=AGE_S)
    assert len(times) < 120
    assert max(later - before for before, later in pairwise(times)) > 8.0


def test_while_the_certificate_is_being_replaced_a_gateway_is_unreachable_and_dialled_again(
    monkeypatch, capsys
):
    """Certificate and key are two files: between one and the other they do not belong together."""
    telemetry.configure_logs()
    tries = []

    def channel(*_to):
        tries.append(now())
        if len(tries) < 4:
            raise transport.TransportRefusedError("no pair")
        return Channel()

    async def work():
        monkeypatch.setattr(transport, "channel", channel)
        dialler, served = (
            Dialler(transport.Credentials(plaintext_on_loopback=True), "gateway"),
            asyncio.Event(),
        )

        async def serve(_channel, _opened):
            served.set()
            await asyncio.Event().wait()

        keeping = asyncio.create_task(dialler.keep("127.0.0.1:1", serve))
        await served.wait()
        keeping.cancel()
        await dialler.close()

    run(work())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(one["action"], one["reason"]) for one in lines] == [("agent.no_session", "unreachable")]
