"""Several replicas over one PostgreSQL: nothing is done twice, nothing is lost, a dead one's work is taken over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from federation.reasons import Reason, Refusal
from gateway.cases.case import SEARCH, Event
from gateway.cases.states import Kind, State
from gateway.cases.store import Done, Store, StoreError, Unit
from loadtest.case_core import make_tables
from tests.fakes.case_stores import Stores, accept, agrees, dispatched, do, lease, made, tasks, timers, told
from tests.fakes.cases import DEPUTY, HOLDER, found, located

ROUNDS = 30


@pytest.fixture
def pair(replicas: Stores) -> tuple[Store, Store]:
    first = replicas.open("first")
    make_tables(first)
    return first, replicas.open("second")


def at_once(*works):
    """Run each in a thread of its own, all starting together; their results."""
    start = Barrier(len(works))

    def run(work):
        start.wait(10)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(60) for future in [pool.submit(run, work) for work in works]]


def both(pair: tuple[Store, Store], units: list[Unit]) -> list[Any]:
    """One unit at each replica, at the same time."""
    pairs = zip(pair, units, strict=True)
    return at_once(*[lambda store=store, unit=unit: store.transact([unit])[0] for store, unit in pairs])


def test_no_task_is_claimed_twice(replicas: Stores, pair: tuple[Store, Store]):
    timers(pair[0], 600, replicas.clock.now_ms - 600)

    def all_of(store: Store) -> list[str]:
        ids: list[str] = []
        while claimed := store.claim(16):
            assert len(claimed) <= 16
            ids += [task.id for task in claimed]
        return ids

    mine, theirs = at_once(*(lambda store=store: all_of(store) for store in pair))
    assert len(mine) + len(theirs) == 600
    assert len({*mine, *theirs}) == 600
    owners = {row.id: row.owner for row in tasks(pair[0]).values()}
    assert all(owners[task] == "first" for task in mine)
    assert all(owners[task] == "second" for task in theirs)


def test_a_dead_replicas_task_is_taken_over_and_its_late_result_fenced(
    replicas: Stores, pair: tuple[Store, Store]
):
    first, second = pair
    [search] = do(first, accept()).tasks
    assert second.claim(10) == []
    replicas.clock.go(3.1)
    [taken] = second.claim(10)
    assert (taken.id, taken.fence, taken.attempts) == (search.id, 2, 2)
    zombie = Unit("case-00001", located({HOLDER: "timeout"}), lease=lease(search))
    assert do(first, zombie).status == "fenced"
    assert first.extend([lease(search)]) == set(), "what is another's is not extended"
    assert (
        do(second, Unit("case-00001", located({HOLDER: "hit"}, [found()]), lease=lease(taken))).status
        == "applied"
    )
    assert do(first, zombie).status == "fenced"
    assert [entry.state for entry in second.journal("case-00001")] == [State.LOCATING, State.DISPATCHED]


def test_a_replica_gives_back_only_its_own_leases(pair: tuple[Store, Store]):
    first, second = pair
    made(first, 1)
    made(second, 2)
    second.release_all()
    assert [task.case_id for task in first.claim(10)] == ["case-00002"]


def test_one_key_at_two_replicas_at_once_is_one_case(pair: tuple[Store, Store]):
    for number in range(ROUNDS):
        results = both(pair, [accept(100 * n + number, key=f"k{number}", digest="d") for n in (1, 2)])
        assert sorted(one.status for one in results if isinstance(one, Done)) == ["applied", "replayed"]
        assert len({one.case.id for one in results if isinstance(one, Done)}) == 1


def test_one_message_at_two_replicas_at_once_counts_once(pair: tuple[Store, Store]):
    for number in range(1, ROUNDS):
        dispatched(pair[0], number)
        unit = Unit(f"case-{number:05d}", Event(Kind.CLAIMED, HOLDER), message=f"m{number}")
        results = both(pair, [unit, unit])
        assert sorted(one.status for one in results if isinstance(one, Done)) == ["applied", "duplicate"]


def test_concurrent_events_on_one_case_come_one_after_the_other(pair: tuple[Store, Store]):
    """Handing a case over many times from two replicas: every event that was said to be applied is in the journal."""
    dispatched(pair[0])
    do(pair[0], told("case-00001", Kind.CLAIMED))

    def work(store: Store) -> int:
        done = 0
        for _ in range(ROUNDS):
            results = store.transact([told("case-00001", Kind.CLAIMED)] * 2)
            done += sum(isinstance(one, Done) for one in results)
        return done

    counts = at_once(*(lambda store=store: work(store) for store in pair))
    assert counts == [2 * ROUNDS, 2 * ROUNDS]
    case = pair[1].case("case-00001")
    assert case.version == 3 + sum(counts)
    assert agrees(case, pair[0].journal("case-00001"))


def test_of_two_opposite_decisions_at_once_exactly_one_counts(pair: tuple[Store, Store]):
    first = pair[0]
    for number in range(1, ROUNDS):
        case = dispatched(first, number).case.id
        results = both(pair, [told(case, Kind.APPROVED), told(case, Kind.REFUSED, reason="other")])
        assert sum(isinstance(one, Done) for one in results) == 1
        [refused] = [one for one in results if isinstance(one, Refusal)]
        assert refused.reason is Reason.ILLEGAL_TRANSITION
        assert agrees(first.case(case), first.journal(case))


def test_results_and_selections_that_cross_neither_deadlock_nor_get_lost(pair: tuple[Store, Store]):
    """One replica writes a search's result (a task, then its case), the other a selection (the case, then its tasks)."""
    first = pair[0]
    for number in range(1, ROUNDS):
        do(first, accept(number))
        case = f"case-{number:05d}"
        do(first, Unit(case, located({HOLDER: "hit", DEPUTY: "timeout"}, [found(decision="possible")])))
        [search] = [
            row for row in tasks(first).values()
            if row.case_id == case and row.kind == SEARCH and row.visible_at is not None and row.fence
        ]  # fmt: skip
        late = Unit(case, located({DEPUTY: "empty"}), lease=(search.id, search.fence))
        results = both(pair, [late, told(case, Kind.SELECTED, "caller", ref=f"{HOLDER}.r1")])
        assert isinstance(results[1], Done), results[1]
        assert isinstance(results[0], Done) or results[0].reason is Reason.ILLEGAL_TRANSITION
        assert first.case(case).state is State.DISPATCHED
        assert agrees(first.case(case), first.journal(case))


def test_batches_over_the_same_cases_in_opposite_order_all_succeed(pair: tuple[Store, Store]):
    cases = [dispatched(pair[0], number).case.id for number in range(1, 9)]
    for case in cases:
        do(pair[0], told(case, Kind.CLAIMED))

    def work(store: Store, order: list[str]) -> int:
        done = 0
        for _ in range(ROUNDS // 2):
            results = store.transact([told(case, Kind.CLAIMED) for case in order])
            done += sum(isinstance(one, Done) for one in results)
        return done

    counts = at_once(lambda: work(pair[0], cases), lambda: work(pair[1], cases[::-1]))
    assert counts == [len(cases) * (ROUNDS // 2)] * 2
    assert all(pair[0].case(case).version == 3 + 2 * (ROUNDS // 2) for case in cases)


def test_a_replica_with_a_wrong_clock_is_told_to_set_it(replicas: Stores):
    store = replicas.open()
    with pytest.raises(StoreError, match="time synchronisation"):
        store.synchronise()
    replicas.clock.now_ms = store.now_ms()
    assert abs(store.synchronise()) < 2_000


def test_a_replica_whose_clock_differs_by_less_than_five_seconds_goes_by_the_databases(replicas: Stores):
    store = replicas.open()
    replicas.clock.now_ms += store.skew_ms() - 3_000
    assert 1_000 < store.synchronise() < 5_000
    assert abs(store.skew_ms()) < 1_000
