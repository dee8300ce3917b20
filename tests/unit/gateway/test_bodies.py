"""Who gets a place to send in, and how long it is kept, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from federation.reasons import Reason, Refusal
from gateway.bodies import LARGE, SLOWEST, SMALL, Bodies
from tests.fakes import virtual


class _From:
    """A connection of somebody at an address."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get_extra_info(self, name: str, default: object = None) -> object:
        return (self._address, 1) if name == "peername" else default


def sent(address: str = "203.0.113.7", length: int | None = 1 << 20, **headers: str) -> web.Request:
    said = {} if length is None else {"Content-Length": str(length)}
    return make_mocked_request("POST", "/", headers=said | headers, transport=_From(address))


def how_many(request_of, bodies: Bodies) -> int:
    """How many of the requests get a place at once."""

    async def main() -> int:
        async with contextlib.AsyncExitStack() as held:
            for number in range(200):
                try:
                    await held.enter_async_context(bodies.reading(request_of(number)))
                except Refusal:
                    return number
        raise AssertionError("no end")

    return virtual.run(main())


@pytest.mark.parametrize(
    ("request_of", "places"),
    [
        (lambda _n: sent(), LARGE.of_a_line),
        (lambda n: sent(f"2001:db8:1:2::{n:x}"), LARGE.of_a_line),
        (lambda n: sent(f"10.0.0.{n}"), LARGE.in_all),
        (lambda _n: sent(length=60), SMALL.of_a_line),
        (lambda n: sent(f"10.0.0.{n}", 60), SMALL.in_all),
        (lambda _n: sent(length=None), LARGE.of_a_line),  # it does not say how long it is
        (lambda _n: sent(length=60, **{"Content-Encoding": "gzip"}), LARGE.of_a_line),  # 60 bytes of what?
    ],
)
def test_places_are_bounded_in_all_and_of_each_line_and_are_given_back(request_of, places):
    bodies = Bodies()
    assert how_many(request_of, bodies) == places
    assert how_many(request_of, bodies) == places


async def drip(step: int, every_s: float, length: int | None) -> None:
    async with Bodies().reading(sent(length=length)) as came:
        while True:
            await asyncio.sleep(every_s)
            came(step)


def let_go_after(step: int, every_s: float, length: int | None = 64 << 20) -> float:
    """How long a sender of `step` bytes every `every_s` seconds keeps a place, in seconds."""

    async def main() -> float:
        began = virtual.now()
        with pytest.raises(Refusal) as refused:
            await drip(step, every_s, length)
        assert refused.value.reason is Reason.OUT_OF_TIME
        return virtual.now() - began

    return virtual.run(main())


def test_a_dripping_sender_is_let_go_and_a_slow_one_is_not():
    assert let_go_after(0, 3.0) == pytest.approx(10)
    assert let_go_after(1, 1.0) == pytest.approx(10, abs=0.1)
    assert let_go_after(SLOWEST // 2, 1.0) == pytest.approx(20, abs=1)
    assert let_go_after(SLOWEST, 1.0) == pytest.approx(120)
    assert let_go_after(8, 1.0, length=1_000) == pytest.approx(10)
