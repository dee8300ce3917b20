"""Units of work on both databases: once, all or nothing, and nobody pays for a neighbour."""

from __future__ import annotations

import pytest

from federation.reasons import Reason, Refusal
from gateway.cases.case import MAIL, SEARCH, Event
from gateway.cases.machine import TICK
from gateway.cases.policy import LADDERS, Policy, Rung
from gateway.cases.states import Kind, Stage, State
from gateway.cases.store import Done, Store, Unit
from loadtest.case_core import make_tables
from tests.fakes.case_stores import Stores, accept, agrees, dispatched, do, lease, made, tasks, told
from tests.fakes.cases import DEPUTY, HOLDER, found, located, new_case

TAKEN = Event(Kind.CLAIMED, HOLDER)


def reason(result: Done | Exception) -> Reason:
    assert isinstance(result, Refusal), result
    return result.reason


# creation ------------------------------------------------------------------------------------------------------


def test_an_accepted_case_is_there_with_journal_and_a_search_already_leased(store: Store):
    done = do(store, accept())
    assert [task.kind for task in done.tasks] == [SEARCH]
    assert (done.tasks[0].fence, done.tasks[0].attempts) == (1, 1)
    case = store.case("case-00001")
    assert case == done.case
    assert case.state is State.LOCATING
    assert agrees(case, store.journal(case.id))
    assert store.claim(10) == [], "the search is this process's already"


def test_the_same_key_twice_is_one_case(store: Store):
    first = do(store, accept(1, key="k", digest="d"))
    again = do(store, accept(2, key="k", digest="d"))
    assert (first.status, again.status) == ("applied", "replayed")
    assert again.case == first.case
    assert again.tasks == []
    assert store.case("case-00002") is None
    assert len(tasks(store)) == 1


@pytest.mark.parametrize("key", ["'; --", 'a"b\\c', "𠮷\u2028錢", "[1, 2]", "null", "7", "%s {0} :x ?"])
def test_a_key_is_told_from_others_character_by_character(store: Store, key: str):
    assert do(store, accept(1, key=key, digest="d")).status == "applied"
    assert do(store, accept(2, key=key, digest="d")).status == "replayed"
    assert do(store, accept(3, key=key + " ", digest="d")).status == "applied"


def test_the_same_key_twice_in_one_batch_is_one_case(store: Store):
    first, again = store.transact([accept(1, key="k", digest="d"), accept(2, key="k", digest="d")])
    assert isinstance(first, Done)
    assert isinstance(again, Done)
    assert (first.status, again.status) == ("applied", "replayed")
    assert again.case.id == first.case.id


def test_a_replay_shows_the_case_as_it_is_now(store: Store):
    do(store, accept(1, key="k", digest="d"))
    do(store, told("case-00001", Kind.WITHDRAWN, "caller"))
    assert do(store, accept(2, key="k", digest="d")).case.state is State.WITHDRAWN


def test_the_same_key_with_another_body_is_refused_and_names_why(store: Store):
    do(store, accept(1, key="k", digest="d"))
    [result] = store.transact([accept(2, key="k", digest="other")])
    assert reason(result) is Reason.IDEMPOTENCY_MISMATCH
    assert store.case("case-00002") is None


def test_another_client_may_use_the_same_key(store: Store):
    do(store, accept(1, key="k", digest="d"))
    assert do(store, accept(2, key="k", digest="other", client="another")).status == "applied"


def test_a_refused_creation_leaves_no_case_behind(store: Store):
    wrong = Unit("case-00001", Event(Kind.CLAIMED, HOLDER), new=new_case(), key="k", digest="d")
    refused, fine = store.transact([wrong, accept(2)])
    assert reason(refused) is Reason.ILLEGAL_TRANSITION
    assert isinstance(fine, Done)
    assert store.case("case-00001") is None
    assert do(store, accept(1, key="k", digest="d")).status == "applied", "and none of its key"


# messages ------------------------------------------------------------------------------------------------------


def test_a_desk_message_counts_once(store: Store):
    dispatched(store)
    unit = Unit("case-00001", TAKEN, message="m-1")
    assert do(store, unit).status == "applied"
    assert do(store, unit).status == "duplicate"
    assert [entry.kind for entry in store.journal("case-00001")].count(Kind.CLAIMED) == 1


def test_a_desk_message_twice_in_one_batch_counts_once(store: Store):
    dispatched(store)
    results = store.transact([Unit("case-00001", TAKEN, message="m-1")] * 2)
    assert [one.status for one in results if isinstance(one, Done)] == ["applied", "duplicate"]


def test_a_refused_message_is_refused_again_with_the_same_reason_and_never_called_a_duplicate(store: Store):
    dispatched(store)
    do(store, told("case-00001", Kind.WITHDRAWN, "caller"))
    late = Unit("case-00001", Event(Kind.APPROVED, HOLDER), message="m-1")
    for _ in range(2):
        [result] = store.transact([late])
        assert reason(result) is Reason.ILLEGAL_TRANSITION


def test_a_receipt_completes_its_mail_even_when_it_tells_old_news(store: Store):
    [mail] = [task for task in dispatched(store).tasks if task.kind == MAIL]
    do(store, Unit("case-00001", TAKEN))
    do(store, told("case-00001", Kind.APPROVED))
    receipt = Unit("case-00001", Event(Kind.RECEIVED, HOLDER), message="m-1", completes=(mail.id,))
    [result] = store.transact([receipt])
    assert reason(result) is Reason.ILLEGAL_TRANSITION
    assert tasks(store)[mail.id].visible_at is None


# leases --------------------------------------------------------------------------------------------------------


def test_a_fenced_unit_does_nothing_at_all(stores: Stores, store: Store):
    [search] = do(store, accept()).tasks
    stores.clock.go(3.1)
    [again] = store.claim(10)
    assert (again.id, again.fence) == (search.id, search.fence + 1)
    before = store.case("case-00001"), store.journal("case-00001"), tasks(store)
    late = Unit("case-00001", located({HOLDER: "hit"}, [found()]), lease=lease(search), completes=(again.id,))
    assert do(store, late).status == "fenced"
    assert (store.case("case-00001"), store.journal("case-00001"), tasks(store)) == before


def test_an_old_and_a_new_lease_of_one_task_in_one_batch_are_told_apart(stores: Stores, store: Store):
    [old] = do(store, accept()).tasks
    stores.clock.go(3.1)
    [new] = store.claim(10)
    late = Unit("case-00001", located({HOLDER: "timeout"}), lease=lease(old))
    real = Unit("case-00001", located({HOLDER: "hit"}, [found()]), lease=lease(new))
    results = store.transact([late, real, real])
    assert [one.status for one in results if isinstance(one, Done)] == ["fenced", "applied", "fenced"]
    assert store.journal("case-00001")[-1].state is State.DISPATCHED


def test_a_result_under_a_held_lease_completes_the_task(store: Store):
    [search] = do(store, accept()).tasks
    assert do(store, Unit("case-00001", located({HOLDER: "empty"}), lease=lease(search))).status == "applied"
    assert tasks(store)[search.id].visible_at is None
    assert store.case("case-00001").state is State.NO_RECORD


def test_a_postponed_task_comes_back_then_and_remembers_its_tries(stores: Stores, store: Store):
    [search] = do(store, accept()).tasks
    due = stores.clock.now_ms + 20_000
    assert do(store, Unit("case-00001", lease=lease(search), postpone_ms=due)).status == "applied"
    stores.clock.go(19.9)
    assert store.claim(10) == []
    stores.clock.go(0.1)
    [again] = store.claim(10)
    assert (again.id, again.attempts, again.fence, again.payload) == (search.id, 2, 2, search.payload)


def test_a_buried_task_stays_for_the_operator_and_is_never_due(stores: Stores, store: Store):
    [search] = do(store, accept()).tasks
    do(store, Unit("case-00001", lease=lease(search), postpone_ms=1, bury=True))
    stores.clock.go(1e6)
    assert store.claim(10) == []
    assert tasks(store)[search.id].dead == 1
    assert tasks(store)[search.id].payload != "{}"


def test_a_receipt_and_the_resending_of_its_mail_in_one_batch_end_the_mail(store: Store):
    [mail] = [task for task in dispatched(store).tasks if task.kind == MAIL]
    receipt = Unit("case-00001", Event(Kind.RECEIVED, HOLDER), message="m-1", completes=(mail.id,))
    later = Unit("case-00001", lease=lease(mail), postpone_ms=store.now_ms() + 10_000)
    store.transact([receipt, later])
    assert tasks(store)[mail.id].visible_at is None


def test_a_selection_ends_the_searches_that_still_wait(store: Store):
    case = made(store)
    do(store, Unit(case.id, located({HOLDER: "hit", DEPUTY: "timeout"}, [found(decision="possible")])))
    waiting = [row for row in tasks(store).values() if row.kind == SEARCH and row.visible_at is not None]
    assert len(waiting) == 2  # the first, never completed here, and the one that asks again
    do(store, told(case.id, Kind.SELECTED, "caller", ref=f"{HOLDER}.r1"))
    assert [
        row.id for row in tasks(store).values() if row.kind == SEARCH and row.visible_at is not None
    ] == []


# neighbours ----------------------------------------------------------------------------------------------------


def test_a_refused_unit_does_not_touch_its_neighbours(store: Store):
    made(store, 1)
    results = store.transact(
        [accept(2), told("case-00001", Kind.CLAIMED), told("nobody", Kind.CLAIMED), accept(3)]
    )
    assert [isinstance(one, Done) for one in results] == [True, False, False, True]
    assert reason(results[1]) is Reason.ILLEGAL_TRANSITION
    assert reason(results[2]) is Reason.UNKNOWN_CASE
    assert all(store.case(f"case-{number:05d}") for number in (2, 3))


BROKEN = Event(Kind.LOCATED, "gateway", {"outcomes": {HOLDER: "hit"}, "gaps": [], "candidates": [{"ref": 7}]})
UNWRITABLE = Event(Kind.EVIDENCE_GIVEN, "caller", {"items": [object()]})


def test_a_broken_unit_fails_alone(store: Store):
    made(store, 1)
    broken, fine = store.transact([Unit("case-00001", BROKEN), accept(2)])
    assert isinstance(broken, Exception)
    assert not isinstance(broken, Refusal)
    assert isinstance(fine, Done)
    assert store.case("case-00001").outcomes == {}, "half a change was kept"
    assert do(store, Unit("case-00001", located({HOLDER: "empty"}))).case.version == 2


def test_a_broken_unit_on_a_case_its_own_batch_changed_fails_alone(store: Store):
    """The batch can not be kept and must not be lost: it is applied unit by unit."""
    made(store, 1)
    results = store.transact(
        [
            accept(3),
            Unit("case-00001", located({HOLDER: "timeout"})),
            Unit("case-00001", BROKEN),
            Unit("case-00001", located({HOLDER: "hit"}, [found()])),
            accept(2),
        ]
    )
    assert [isinstance(one, Done) for one in results] == [True, True, False, True, True]
    case = store.case("case-00001")
    assert case.state is State.DISPATCHED
    assert agrees(case, store.journal(case.id))


def test_a_unit_that_can_not_be_written_leaves_no_line_and_no_change(store: Store):
    dispatched(store)
    do(store, told("case-00001", Kind.EVIDENCE_WANTED, items=["id_card"]))
    before = store.case("case-00001"), store.journal("case-00001"), tasks(store)
    for units in ([Unit("case-00001", UNWRITABLE)], [accept(2), Unit("case-00001", UNWRITABLE), accept(3)]):
        results = store.transact(units)
        assert [isinstance(one, TypeError) for one in results] == [unit.event is UNWRITABLE for unit in units]
    assert (store.case("case-00001"), store.journal("case-00001")) == before[:2]
    assert store.case("case-00003").state is State.LOCATING
    assert do(store, told("case-00001", Kind.EVIDENCE_GIVEN, "caller")).case.state is State.IN_REVIEW


def test_a_creation_that_breaks_fails_alone_and_leaves_nothing(store: Store):
    bad = new_case(1)
    bad.request = {"category": object()}
    broken, fine = store.transact([Unit(bad.id, Event(Kind.ACCEPTED, "caller"), new=bad), accept(2)])
    assert isinstance(broken, TypeError)
    assert isinstance(fine, Done)
    assert store.case("case-00001") is None
    assert store.journal("case-00001") == []


def test_the_task_of_a_broken_result_is_done_again(stores: Stores, store: Store):
    """Whatever goes wrong with a result, its work is not lost."""
    [search] = do(store, accept()).tasks
    [result] = store.transact([Unit("case-00001", BROKEN, lease=lease(search))])
    assert isinstance(result, Exception)
    stores.clock.go(3.1)
    assert [task.id for task in store.claim(10)] == [search.id]


def test_the_result_of_a_case_that_moved_on_completes_its_task(stores: Stores, store: Store):
    [search] = do(store, accept()).tasks
    do(store, told("case-00001", Kind.WITHDRAWN, "caller"))
    do(store, accept(2))
    [late] = store.transact([Unit("case-00001", located({HOLDER: "empty"}), lease=lease(search))])
    assert isinstance(late, Done)
    assert late.status == "fenced", "withdrawing ended the search"


def test_units_of_one_batch_on_one_case_apply_in_order(store: Store):
    dispatched(store)
    results = store.transact(
        [
            told("case-00001", Kind.CLAIMED),
            told("case-00001", Kind.EVIDENCE_WANTED, items=["id_card"]),
            told("case-00001", Kind.EVIDENCE_GIVEN, "caller"),
            told("case-00001", Kind.APPROVED),
        ]
    )
    assert all(isinstance(one, Done) for one in results)
    case = store.case("case-00001")
    assert case.state is State.ISSUING
    assert agrees(case, store.journal(case.id))


# reading back --------------------------------------------------------------------------------------------------


def test_case_and_journal_agree_after_the_store_is_opened_again(stores: Stores, store: Store):
    dispatched(store)
    do(store, told("case-00001", Kind.CLAIMED))
    before = store.case("case-00001"), store.journal("case-00001")
    stores.close(store)
    again = stores.open("two")
    assert (again.case("case-00001"), again.journal("case-00001")) == before
    assert agrees(*before)
    assert [entry.seq for entry in again.journal("case-00001", after=2)] == [3]
    assert again.versions(["case-00001", "nobody"]) == {"case-00001": 3}
    assert do(again, told("case-00001", Kind.APPROVED)).case.version == 4


def test_ended_cases_are_read_but_never_looked_at(stores: Stores, store: Store):
    made(store)
    do(store, told("case-00001", Kind.WITHDRAWN, "caller"))
    stores.clock.go(1e7)
    assert store.due_cases(10) == []
    assert store.case("case-00001").state is State.WITHDRAWN


def test_due_cases_come_in_the_order_they_are_due(stores: Stores, store: Store):
    for number, after in ((1, 3), (2, 0), (3, 9)):
        stores.clock.go(after)
        dispatched(store, number)
    assert store.due_cases(10) == []
    stores.clock.go(1e3)
    assert store.due_cases(10) == ["case-00001", "case-00002", "case-00003"]
    assert store.due_cases(2) == ["case-00001", "case-00002"]


def test_a_tick_takes_a_case_off_the_list_even_when_its_rung_says_nothing(stores: Stores):
    """A deputy rung without a deputy writes no journal line; the case must not be due again at once for ever."""
    store = stores.open(
        policy=Policy(ladders={**LADDERS, Stage.PICK_UP: (Rung(0.5, "deputy"), Rung(0.9, "warn"))})
    )
    make_tables(store)
    dispatched(store)
    stores.clock.now_ms = store.case("case-00001").wake_at_ms
    assert store.due_cases(10) == ["case-00001"]
    assert do(store, Unit("case-00001", TICK)).entries == []
    assert store.due_cases(10) == []
    assert store.case("case-00001").ladder == 1


def test_the_next_due_moment_is_the_first_of_tasks_and_cases(stores: Stores, store: Store):
    assert store.next_due_ms() is None
    [search] = do(store, accept()).tasks
    assert store.next_due_ms() == stores.clock.now_ms + store.lease_ms, "when its lease would end"
    do(store, Unit("case-00001", lease=lease(search), postpone_ms=stores.clock.now_ms + 10**9))
    assert store.next_due_ms() == store.case("case-00001").wake_at_ms
    do(store, told("case-00001", Kind.WITHDRAWN, "caller"))
    assert store.next_due_ms() is None


@pytest.mark.parametrize("name", ["錢偉明", "𠮷野", "é", 'a"b\\c', "\u0000"])
def test_any_character_of_a_request_comes_back_as_it_was(store: Store, name: str):
    unit = accept()
    assert unit.new is not None
    unit.new.request = {"subject": {"name": name}}
    do(store, unit)
    assert store.case("case-00001").request == {"subject": {"name": name}}


@pytest.mark.parametrize("count", [1, 7, 130])
def test_a_batch_of_any_length_is_written_whole(store: Store, count: int) -> None:
    """Rows travel in lists of several lengths: none may be left between two of them, and none may get another's values."""
    results = store.transact([accept(n, key=f"k{n}", digest=str(n)) for n in range(count)])
    cases = [result.case for result in results if isinstance(result, Done)]
    assert len(cases) == count
    moved = store.transact([
        Unit(case.id, located({HOLDER: "hit"}, [found(ref=f"{HOLDER}.{n}")]), completes=(f"{case.id}:search:1:",))
        for n, case in enumerate(cases)
    ])  # fmt: skip
    assert all(isinstance(result, Done) for result in moved)
    for n, case in enumerate(cases):
        kept = store.case(case.id)
        assert kept is not None
        assert (kept.state, kept.selected) == (State.DISPATCHED, f"{HOLDER}.{n}")
        assert agrees(kept, store.journal(case.id))
    waiting = tasks(store).values()
    assert sum(row.kind == "search" and row.visible_at is None for row in waiting) == count
    assert sum(row.kind == "mail" and row.visible_at is not None for row in waiting) == count
