"""The timer wheel: it calls back on time and once, and holds nothing of what is no longer wanted."""

from __future__ import annotations

import asyncio
import weakref

from federation.session.timers import SLOT_S, TimerWheel
from tests.fakes.virtual import now, run


class Held:
    """Something a callback needs."""

    def __init__(self) -> None:
        self.called = 0

    def call(self) -> None:
        self.called += 1


async def test_each_timer_ends_once_and_not_before_its_time():
    wheel, loop = TimerWheel(), asyncio.get_running_loop()
    ended: list[tuple[float, float]] = []
    began = loop.time()
    for delay in (0.05, 0.0, 0.02, 0.02):
        wheel.arm(delay, lambda delay=delay: ended.append((delay, loop.time() - began)))
    async with asyncio.timeout(5):
        while len(ended) < 4:
            await asyncio.sleep(SLOT_S)
    await asyncio.sleep(3 * SLOT_S)
    assert [delay for delay, _at in ended] == [0.0, 0.02, 0.02, 0.05]
    assert all(at >= delay for delay, at in ended)


async def test_a_cancelled_timer_calls_nothing_and_lets_go_at_once():
    wheel = TimerWheel()
    held, kept = Held(), Held()
    timer = wheel.arm(2 * SLOT_S, held.call)
    wheel.arm(2 * SLOT_S, kept.call)
    gone = weakref.ref(held)
    timer.cancel()
    del held
    assert gone() is None
    async with asyncio.timeout(5):
        while not kept.called:
            await asyncio.sleep(SLOT_S)
    timer.cancel()  # again, and when its time is over: nothing happens


def test_a_timer_that_fails_keeps_no_other_from_its_end():
    async def work():
        wheel, called, told = TimerWheel(), [], []
        asyncio.get_running_loop().set_exception_handler(
            lambda _l, context: told.append(context["exception"])
        )

        def failing():
            raise KeyError

        for delay_s in (0.5, 0.5, 1.0):
            wheel.arm(delay_s, lambda: called.append(now()))
            wheel.arm(delay_s, failing)
        wheel.arm(0.5, lambda: called.append(now()))
        await asyncio.sleep(2)
        assert len(called) == 4
        assert [type(one) for one in told] == [KeyError] * 3

    run(work())
