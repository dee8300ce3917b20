"""Upkeep on both databases: what is forgotten and what stays, dead letters, stopped calls, availability."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from federation.reasons import Reason, Refusal
from gateway.cases.case import HOOK, MAIL, Event
from gateway.cases.minutes import minutes
from gateway.cases.schema import CASES, METADATA
from gateway.cases.states import Kind, State
from gateway.cases.store import Store, Unit
from gateway.cases.upkeep import (
    BATCH,
    DAY_MS,
    Keep,
    Presence,
    add_availability,
    availability,
    calls_stopped,
    dead_letters,
    replay,
    stop_calls,
    tidy,
)
from loadtest.case_core import make_tables
from tests.fakes.case_stores import Stores, accept, agrees, dispatched, do, lease, made, tasks, told
from tests.fakes.cases import HOLDER, located

KEEP = Keep()
SECRET = ("錢偉明", "钱*明", "錢*明", "Y-0001")


def ended(store: Store, number: int = 1) -> str:
    """A case that was approved, issued and fetched; its id."""
    case = dispatched(store, number).case.id
    do(store, told(case, Kind.CLAIMED))
    do(store, told(case, Kind.APPROVED, number="N1", archival_code="Y-0001"))
    do(store, told(case, Kind.ISSUED, number="N2"))
    do(store, Unit(case, Event(Kind.DELIVERED, "gateway")))
    return case


def tidied(store: Store, keep: Keep = KEEP) -> int:
    """One round; how many cases could not be read."""
    done = store.tidy(keep)
    unreadable = done.unreadable
    while not done.is_last:
        done = store.tidy(keep, done.upto)
        unreadable += done.unreadable
    return unreadable


def everything(store: Store) -> str:
    """All that the database holds, as one text."""
    return "\n".join(
        str(tuple(row))
        for table in METADATA.sorted_tables
        for row in store.read(lambda c, t=table: c.execute(sa.select(t)).all())
    )


def days(stores: Stores, count: float) -> None:
    stores.clock.now_ms += int(count * DAY_MS)


def test_tasks_of_ended_cases_go_after_a_day_and_those_of_open_ones_stay(stores: Stores, store: Store):
    gone, open_ = ended(store, 1), dispatched(store, 2).case.id
    done = [row.id for row in tasks(store).values() if row.case_id == gone]
    for id_ in done:
        do(store, Unit(gone, completes=(id_,)))
    days(stores, 0.9)
    tidied(store)
    assert len([row for row in tasks(store).values() if row.case_id == gone]) == len(done)
    days(stores, 0.2)
    tidied(store)
    assert {row.case_id for row in tasks(store).values()} == {open_}
    assert store.case(gone).state is State.DELIVERED


def test_messages_that_wait_are_not_swept_away_with_the_done_ones(stores: Stores, store: Store):
    case = dispatched(store).case.id
    do(store, told(case, Kind.WITHDRAWN, "caller"))
    days(stores, 2)
    tidied(store)
    waiting = [row.payload for row in tasks(store).values() if row.visible_at is not None]
    assert any("withdrawn" in payload for payload in waiting)


def test_personal_data_go_after_the_configured_days_the_journal_and_the_minutes_stay(
    stores: Stores, store: Store
):
    case = ended(store)
    journal, before = store.journal(case), store.case(case)
    days(stores, KEEP.personal_data - 1)
    tidied(store)
    assert any(word in everything(store) for word in SECRET)
    days(stores, 2)
    tidied(store)
    assert not any(word in everything(store) for word in SECRET)
    after = store.case(case)
    assert store.journal(case) == journal
    assert agrees(after, journal)
    assert (after.state, after.stopped_ms, after.spent_ms) == (
        before.state,
        before.stopped_ms,
        before.spent_ms,
    )
    assert after.request["category"] == "marriage"
    assert after.forgotten_ms == store.now_ms()
    assert minutes(journal, store.now_ms()) == minutes(journal, before.stopped_ms)
    assert len(store.results(HOLDER, 0)[0]) == 1, "it stays on the scorecard"


def test_open_cases_are_never_forgotten(stores: Stores, store: Store):
    case = dispatched(store).case.id
    days(stores, 10 * KEEP.personal_data)
    tidied(store)
    assert store.case(case).request["subject"] == {"name": "錢偉明"}


def test_a_forgotten_case_still_answers_a_repeated_event(stores: Stores, store: Store):
    """What was remembered of it before must not come back with the next write."""
    case = made(store).id
    do(store, Unit(case, located({HOLDER: "empty"})))
    days(stores, KEEP.personal_data + 1)
    tidied(store)
    do(store, Unit(case, Event(Kind.DELIVERED, "gateway")))
    assert "錢偉明" not in everything(store)
    assert store.case(case).delivered_ms


def test_idempotency_keys_are_kept_seven_days(stores: Stores, store: Store):
    do(store, accept(1, key="k", digest="d"))
    days(stores, 6.9)
    tidied(store)
    assert do(store, accept(2, key="k", digest="d")).status == "replayed"
    [other] = store.transact([accept(2, key="k", digest="other")])
    assert isinstance(other, Refusal)
    assert other.reason is Reason.IDEMPOTENCY_MISMATCH
    days(stores, 0.2)
    tidied(store)
    assert do(store, accept(2, key="k", digest="other")).status == "applied"


def test_upkeep_goes_in_small_batches_to_the_end(stores: Stores, store: Store):
    for number in range(1, 451):
        case = made(store, number).id
        do(store, told(case, Kind.WITHDRAWN, "caller"))
    days(stores, KEEP.personal_data + 1)
    sizes, done = [], store.tidy(KEEP)
    while not done.is_last:
        sizes.append(done.gone)
        done = store.tidy(KEEP, done.upto)
    assert max(sizes) <= 2 * 200
    assert "錢偉明" not in everything(store)


OF_ANOTHER_VERSION = '{"id":"c","client":"c","created_ms":1,"request":{},"state":"contested"}'
DAMAGED = '{"id":"c","client":'
TOO_DEEP = '{"id":"c","client":"c","created_ms":1,"request":{"a":' + "[" * 20_000


def put_data(store: Store, case_id: str, data: str) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.update(CASES).where(CASES.c.id == case_id).values(data=data))
    store.forget(case_id)


@pytest.mark.parametrize(
    "data", [OF_ANOTHER_VERSION, DAMAGED, TOO_DEEP], ids=["another version", "damaged", "too deep"]
)
def test_an_ended_case_nobody_can_read_holds_up_no_other(stores: Stores, store: Store, data: str):
    for number in range(1, 7):
        do(store, told(made(store, number).id, Kind.WITHDRAWN, "caller"))
        stores.clock.go(1)
    for case_id in ("case-00001", "case-00004"):
        put_data(store, case_id, data)
    days(stores, KEEP.personal_data + 1)
    assert tidied(store) == 2, "each is counted once in a round"
    assert "錢偉明" not in everything(store)
    left = sa.select(CASES.c.id, CASES.c.data).where(CASES.c.kept == 1).order_by(CASES.c.id)
    rows = [tuple(row) for row in store.read(lambda c: c.execute(left).all())]
    assert rows == [("case-00001", data), ("case-00004", data)]


def test_a_case_that_can_be_read_again_is_forgotten_in_the_next_round(stores: Stores, store: Store):
    case = ended(store)
    whole = store.read(lambda c: c.execute(sa.select(CASES.c.data)).scalar_one())
    put_data(store, case, OF_ANOTHER_VERSION)
    days(stores, KEEP.personal_data + 1)
    assert tidied(store) == 1
    put_data(store, case, whole)
    assert tidied(store) == 0
    assert store.case(case).forgotten_ms == store.now_ms()
    assert not any(word in everything(store) for word in SECRET)


def test_more_unreadable_cases_than_a_batch_hold_up_no_other(stores: Stores, store: Store):
    """All of one moment, so that only their ids tell where a batch has come to."""
    do(store, told(made(store).id, Kind.WITHDRAWN, "caller"))
    columns = "client, created_ms, version, state, stage, holder, ended_ms"
    copy = f"insert into cases(id, data, kept, {columns}) select :id, :data, 1, {columns} from cases where id = 'case-00001'"
    others = [f"case-0{number:04d}x" for number in range(BATCH + 50)]
    with store.engine.begin() as connection:
        connection.execute(sa.text(copy), [{"id": id_, "data": DAMAGED} for id_ in others])
    do(store, told(made(store, 90_000).id, Kind.WITHDRAWN, "caller"))
    days(stores, KEEP.personal_data + 1)
    assert tidied(store) == len(others)
    assert "錢偉明" not in everything(store)


def test_two_replicas_tidy_at_once(replicas: Stores):
    first, second = replicas.open("first"), replicas.open("second")
    make_tables(first)
    for number in range(1, 30):
        do(first, told(made(first, number).id, Kind.WITHDRAWN, "caller"))
    days(replicas, KEEP.personal_data + 1)
    with first.engine.begin() as held:
        tidy(held, first.now_ms(), KEEP)  # another replica in the middle of it
        assert second.tidy(KEEP).is_last, "it waits for nobody"
    tidied(second)
    assert "錢偉明" not in everything(first)


# dead letters --------------------------------------------------------------------------------------------------


def buried(store: Store, number: int) -> str:
    """A call that was given up; its id."""
    [hook] = [task for task in do(store, accept(number, has_hook=True)).tasks if task.kind == HOOK]
    do(store, Unit(hook.case_id, lease=lease(hook), bury=True))
    return hook.id


def test_dead_letters_are_listed_oldest_first_and_replayed(stores: Stores, store: Store):
    first = buried(store, 1)
    stores.clock.go(10)
    second = buried(store, 2)
    listed = store.read(dead_letters)
    assert [one.id for one in listed] == [first, second]
    assert (listed[0].case_id, listed[0].kind, listed[0].target) == ("case-00001", HOOK, "platform")
    assert store.read(lambda c: dead_letters(c, "nobody")) == []
    days(stores, 5)
    assert store.change(lambda c, now: replay(c, now, ids=[first])) == 1
    [again] = store.claim(10, [HOOK])
    assert (again.id, again.attempts) == (first, 1)
    assert again.ordered_ms == store.now_ms(), "its whole schedule is before it again"
    assert [one.id for one in store.read(dead_letters)] == [second]
    assert store.change(replay) == 1
    assert store.read(dead_letters) == []


def test_a_replay_touches_nothing_that_is_done_or_waiting(stores: Stores, store: Store):
    done = next(task for task in dispatched(store).tasks if task.kind == MAIL)
    do(store, Unit(done.case_id, lease=lease(done)))
    before = tasks(store)
    assert store.change(replay) == 0
    assert tasks(store) == before


def test_stopping_a_platforms_calls_puts_all_that_wait_aside_and_a_replay_brings_them_back(
    stores: Stores, store: Store
):
    hooks = [
        task.id for n in (1, 2, 3) for task in do(store, accept(n, has_hook=True)).tasks if task.kind == HOOK
    ]
    do(store, accept(4, has_hook=True, client="other"))
    store.change(lambda c, now: stop_calls(c, "platform", now))
    store.change(lambda c, now: stop_calls(c, "platform", now))
    assert store.read(lambda c: calls_stopped(c, "platform"))
    assert not store.read(lambda c: calls_stopped(c, "other"))
    assert sorted(one.id for one in store.read(dead_letters)) == sorted(hooks)
    assert store.change(lambda c, now: replay(c, now, target="platform")) == 3
    assert not store.read(lambda c: calls_stopped(c, "platform"))


# availability --------------------------------------------------------------------------------------------------


def test_availability_adds_up_over_replicas_and_days(stores: Stores, store: Store):
    day = store.now_ms() // DAY_MS
    store.change(lambda c, _now: add_availability(c, {("a", day): (500, 1000), ("b", day): (0, 1000)}))
    store.change(lambda c, _now: add_availability(c, {("a", day): (500, 1000), ("a", day - 40): (7, 7)}))
    store.change(lambda c, _now: add_availability(c, {}))
    assert store.read(lambda c: availability(c, "a", day - 30)) == (1000, 2000)
    assert store.read(lambda c: availability(c, "b", day)) == (0, 1000)
    assert store.read(lambda c: availability(c, "nobody", 0)) == (0, 0)


def test_presence_counts_only_what_was_watched():
    presence = Presence(["a", "b"])
    presence.look(DAY_MS - 1500, ["a"])
    presence.look(DAY_MS - 500, ["a"])
    presence.look(DAY_MS + 500, ["b"])
    presence.look(DAY_MS + 60_000, ["a", "b"])  # asleep for a minute: nobody watched
    presence.look(DAY_MS + 61_000, [])
    assert presence.take() == {
        ("a", 0): (1000, 1000), ("b", 0): (0, 1000), ("a", 1): (0, 2000), ("b", 1): (1000, 2000),
    }  # fmt: skip
    presence.give_back({("a", 1): (1, 2)})
    assert presence.take() == {("a", 1): (1, 2)}
