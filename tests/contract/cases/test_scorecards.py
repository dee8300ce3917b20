"""What a scorecard counts, from both databases: no case leaves it because of its age."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from gateway.cases.case import Case, Event
from gateway.cases.ports import Located
from gateway.cases.schema import CASES, RESULTS
from gateway.cases.scorecard import Scorecard
from gateway.cases.states import Kind, State
from gateway.cases.store import Done, Store, Unit
from gateway.cases.upkeep import DAY_MS
from tests.fakes.case_engines import Core, core
from tests.fakes.case_stores import Stores, accept, dispatched, do, told
from tests.fakes.cases import HOLDER, Clock, FakeLocator, found, located
from tests.fakes.waiting import soon

DAY_S = DAY_MS // 1000
FOUND = Located({HOLDER: "hit"}, [found()])


def ended(store: Store, number: int) -> str:
    """A case whose answer was fetched; its id."""
    case = dispatched(store, number).case.id
    do(store, told(case, Kind.REFUSED, reason="secret"))
    do(store, Unit(case, Event(Kind.DELIVERED, "gateway")))
    return case


def unstopped(store: Store, since_ms: int, accepted_ms: int) -> set[str]:
    cases, unreadable = store.unstopped(HOLDER, since_ms, accepted_ms)
    assert not unreadable
    return {one.id for one in cases}


async def is_(running: Core, case: Case, wanted: State) -> None:
    await soon(lambda: (now := running.store.case(case.id)) is not None and now.state is wanted)


async def card(running: Core) -> Scorecard:
    return await running.cases.scorecard(HOLDER, 30)


def test_cases_whose_clock_still_runs_are_found_by_their_holder(stores: Stores, store: Store):
    ended(store, 1)
    open_ = dispatched(store, 2).case.id
    refused = dispatched(store, 3).case.id
    do(store, told(refused, Kind.REFUSED, reason="secret"))  # nobody has fetched the answer
    dispatched(store, 4, "310115")
    now = store.now_ms()
    assert unstopped(store, 0, 0) == {open_, refused}
    assert unstopped(store, now, 0) == {open_, refused}
    assert unstopped(store, now + 1, 0) == {open_}, "its end was before"
    assert unstopped(store, now + 1, now + 1) == set()


async def test_an_archive_that_never_answers_is_late_for_as_long_as_the_case_lives(stores: Stores):
    clock = Clock()
    async with core(stores.url, locator=FakeLocator(FOUND), clock=clock) as running:
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)
        for day in (31, 89):
            clock.now_ms = case.created_ms + day * DAY_MS
            now = await card(running)
            assert (now.cases, now.overdue, now.met_share) == (1, 1, 0.0), day
        clock.now_ms = case.created_ms + 91 * DAY_MS
        running.engine.archive_returned(HOLDER)  # rings the bell: the clock looks
        await is_(running, case, State.EXPIRED)
        clock.go(29 * DAY_S)
        assert (await card(running)).met_share == 0.0, "it ended 29 days ago, and nobody has seen it"
        clock.go(2 * DAY_S)
        assert (await card(running)).cases == 0


@pytest.mark.parametrize("spent", ["{", '{"pick_up": "long"}', "[]"])
async def test_rows_nobody_can_read_are_counted_and_spoil_neither_scorecard_nor_estimate(
    stores: Stores, spent: str
):
    async with core(stores.url, locator=FakeLocator(FOUND), clock=Clock()) as running:
        store = running.store
        damaged, open_ = await running.accept("1"), await running.accept("2")
        for case in (damaged, open_):
            await is_(running, case, State.DISPATCHED)
        stopped = [await running.accept(f"{number}") for number in range(3, 5)]
        for case in stopped:
            await is_(running, case, State.DISPATCHED)
            await running.engine.happen(told(case.id, Kind.REFUSED, reason="secret"))
            await running.engine.happen(Unit(case.id, Event(Kind.DELIVERED, "gateway")))
        with store.engine.begin() as connection:
            connection.execute(sa.update(CASES).where(CASES.c.id == damaged.id).values(data="{"))
            connection.execute(
                sa.update(RESULTS).where(RESULTS.c.case_id == stopped[0].id).values(spent=spent)
            )
        now = await card(running)
        assert (now.cases, now.open, now.unreadable, now.met_share) == (1, 1, 2, 1.0)
        assert running.observer.count("task_failed", "scorecard") == 2
        case = store.case(open_.id)
        assert case is not None
        assert await running.cases.estimate_s(case)
        assert running.observer.count("task_failed", "scorecard") == 3


@pytest.mark.parametrize("count", [0, 2500])
def test_no_result_is_left_out(store: Store, count: int):
    units = []
    for number in range(1, count + 1):
        case = f"case-{number:05d}"
        units += [
            accept(number),
            Unit(case, located({HOLDER: "hit"}, [found()])),
            told(case, Kind.REFUSED, reason="secret"),
            Unit(case, Event(Kind.DELIVERED, "gateway")),
        ]
    for start in range(0, len(units), 120):
        assert all(isinstance(one, Done) for one in store.transact(units[start : start + 120]))
    assert len(store.results(HOLDER, 0)[0]) == count
    assert len(store.results(HOLDER, 0, 100)[0]) == min(count, 100)
