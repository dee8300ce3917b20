"""Tasks on both databases: who gets which, when, and how little the ones in the future cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from gateway.cases.case import HOOK, MAIL, SEARCH
from gateway.cases.schema import TASKS
from gateway.cases.store import Store, Unit
from tests.fakes.case_stores import Stores, accept, dispatched, do, lease, made, tasks, timers
from tests.fakes.cases import HOLDER, located


def postponed(store: Store, number: int, after_s: float) -> str:
    """A case whose search waits; the search's id."""
    [search] = do(store, accept(number)).tasks
    do(store, Unit(search.case_id, lease=lease(search), postpone_ms=store.now_ms() + int(after_s * 1000)))
    return search.id


def test_the_longest_due_tasks_are_claimed_first(stores: Stores, store: Store):
    waiting = [
        postponed(store, number, after) for number, after in ((1, 30), (2, 10), (3, 20), (4, 40), (5, 60))
    ]
    stores.clock.go(45)
    assert {task.id for task in store.claim(2)} == {waiting[1], waiting[2]}
    assert {task.id for task in store.claim(5)} == {waiting[0], waiting[3]}, "the fifth is not due"
    assert store.claim(5) == []


def test_a_claim_never_exceeds_its_limit_and_takes_each_task_once(stores: Stores, store: Store):
    timers(store, 500, stores.clock.now_ms - 500)
    seen: set[str] = set()
    for limit in (1, 7, 64, 128):
        claimed = {task.id for task in store.claim(limit)}
        assert len(claimed) == limit
        assert not claimed & seen
        seen |= claimed
    assert len(store.claim(10_000)) == 500 - len(seen)


def test_a_claim_takes_only_the_kinds_asked_for(stores: Stores, store: Store):
    timers(store, 30, stores.clock.now_ms - 30)
    assert {task.kind for task in store.claim(100, [HOOK])} == {HOOK}
    assert {task.kind for task in store.claim(100)} == {SEARCH, MAIL}


def test_a_claimed_task_carries_what_it_was_ordered_with(stores: Stores, store: Store):
    ordered = [task for task in dispatched(store).tasks if task.kind == MAIL]
    stores.clock.go(4)
    [claimed] = [task for task in store.claim(10) if task.kind == MAIL]
    assert (claimed.case_id, claimed.target, claimed.payload) == ("case-00001", HOLDER, ordered[0].payload)
    assert claimed.visible_at_ms == stores.clock.now_ms + store.lease_ms


def test_a_lease_that_is_extended_is_kept_and_one_that_is_not_is_lost(stores: Stores, store: Store):
    [search] = do(store, accept()).tasks
    for _ in range(5):
        stores.clock.go(2.5)
        assert store.extend([lease(search)]) == {search.id}
        assert store.claim(10) == []
    stores.clock.go(3.1)
    [again] = store.claim(10)
    assert again.fence == search.fence + 1
    assert store.extend([lease(search), lease(again)]) == {again.id}, "the older lease is lost"
    do(store, Unit(again.case_id, lease=lease(again)))
    assert store.extend([lease(again)]) == set(), "done"


def test_a_lease_nobody_extends_runs_out_whoever_extends_others(stores: Stores, store: Store):
    """A task whose worker is gone must not be kept from the others by its owner's being alive."""
    [first] = do(store, accept()).tasks
    [second] = do(store, accept(2)).tasks
    for _ in range(3):
        stores.clock.go(1.2)
        store.extend([lease(first)])
    assert [task.id for task in store.claim(10)] == [second.id]


def test_extending_leaves_timers_and_postponed_tasks_alone(stores: Stores, store: Store):
    [search] = do(store, accept(1)).tasks
    do(store, Unit(search.case_id, lease=lease(search), postpone_ms=store.now_ms() + 2000))
    timers(store, 10, stores.clock.now_ms + 1000)
    before = tasks(store)
    assert store.extend([lease(search), ("timer-1", 0)]) == set()
    assert tasks(store) == before


def test_draining_gives_leases_back_at_once_and_nothing_else(stores: Stores, store: Store):
    postponed(store, 1, 60)
    [search] = do(store, accept(2)).tasks
    store.release_all()
    assert [task.id for task in store.claim(10)] == [search.id]


def test_an_archive_that_is_back_gets_its_waiting_mail_now(stores: Stores, store: Store):
    mails = {}
    for number, archive in ((1, HOLDER), (2, "310115"), (3, HOLDER)):
        [mail] = [task for task in dispatched(store, number, archive).tasks if task.kind == MAIL]
        mails[number] = mail
        if number != 3:  # the third is on its way: its lease is held
            later = store.now_ms() + 60_000
            do(store, Unit(mail.case_id, lease=lease(mail), postpone_ms=later))
    stores.clock.go(1)
    store.wake(HOLDER)
    assert [task.id for task in store.claim(10)] == [mails[1].id]
    assert store.wake("nobody") is None


def test_an_archive_that_is_back_wakes_the_searches_that_miss_it_and_no_others(stores: Stores, store: Store):
    """Hundreds of archives that come back after a gateway's restart must not each wake every search."""
    for number, missing in ((1, HOLDER), (2, "310115")):
        case = made(store, number)
        again = located({missing: "unreachable", "330421": "timeout"})
        do(store, Unit(case.id, again, completes=(f"{case.id}:search:1:",)))
    stores.clock.go(1)
    store.wake(HOLDER)
    assert [task.case_id for task in store.claim(10)] == ["case-00001"]
    store.wake("330421")
    assert [task.case_id for task in store.claim(10)] == ["case-00002"]


def test_waking_does_not_bring_back_what_is_done_or_dead(stores: Stores, store: Store):
    done, dead = (
        next(task for task in dispatched(store, number).tasks if task.kind == MAIL) for number in (1, 2)
    )
    do(store, Unit(done.case_id, lease=lease(done)))
    do(store, Unit(dead.case_id, lease=lease(dead), postpone_ms=1, bury=True))
    store.wake(HOLDER)
    assert [task.id for task in store.claim(10) if task.kind == MAIL] == []


# what lies in the future ---------------------------------------------------------------------------------------


def plans(store: Store, work: Callable[[], Any]) -> list[str]:
    """How the database goes about each reading or changing statement `work` makes it run."""
    ran: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.lstrip().split()[0] in {"SELECT", "UPDATE", "WITH"}:
            ran.append((statement, parameters))

    sa.event.listen(store.engine, "before_cursor_execute", note)
    work()
    sa.event.remove(store.engine, "before_cursor_execute", note)
    word = "EXPLAIN QUERY PLAN " if store.is_exclusive else "EXPLAIN "

    def explain(connection: sa.Connection) -> list[str]:
        told = []
        for statement, parameters in ran:
            rows = connection.exec_driver_sql(word + statement, parameters).all()
            told.append("\n".join(str(row[-1]) for row in rows))
        return told

    return store.read(explain)


def test_ten_thousand_timers_neither_come_early_nor_are_looked_through(stores: Stores, store: Store):
    timers(store, 10_000, stores.clock.now_ms + 3_600_000)
    for number in range(1, 4):
        made(store, number)
    if not stores.is_sqlite:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("ANALYZE"))
    stores.clock.go(4)
    assert len(store.claim(64)) == 3
    stores.clock.go(4)
    index, whole = "tasks_due", ("SCAN tasks", "Seq Scan on tasks")
    for work in (lambda: store.claim(64), store.next_due_ms, lambda: store.next_due_ms([MAIL])):
        told = plans(store, work)
        assert told
        assert index in told[0], told[0]
        assert not any(
            word in line and index not in line for one in told for line in one.splitlines() for word in whole
        )
    for waking in plans(store, lambda: store.wake("7")):
        assert "tasks_waiting" in waking or index in waking, waking


def test_ten_thousand_sleeping_cases_are_not_looked_through_either(stores: Stores, store: Store):
    case = made(store)
    row = store.read(lambda c: c.execute(sa.text("SELECT * FROM cases")).mappings().one())
    rows = [{**row, "id": f"other-{n}", "wake_at": stores.clock.now_ms + 10**8 + n} for n in range(10_000)]
    names = ", ".join(row)
    with store.engine.begin() as connection:
        values = ", ".join(f":{name}" for name in row)
        connection.execute(sa.text(f"INSERT INTO cases ({names}) VALUES ({values})"), rows)
    if not stores.is_sqlite:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("ANALYZE"))
    stores.clock.now_ms = case.wake_at_ms
    assert store.due_cases(256) == [case.id]
    [told] = plans(store, lambda: store.due_cases(256))
    assert "cases_wake" in told
    assert "cases_wake" in plans(store, store.next_due_ms)[1]
    store.change(lambda connection, _now: connection.execute(TASKS.delete()))
    assert store.oldest_due_ms() == 0
    stores.clock.now_ms += 7_000
    assert store.oldest_due_ms() == 7_000, "a case the clock has not looked at counts like a task"
