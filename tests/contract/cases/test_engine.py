"""The engine over both databases: it outlives its store's troubles, and nobody's hanging or broken work holds up others."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from federation.mail import Claimed, mail_id, write
from federation.reasons import Reason, Refusal
from gateway.adapters.hooks import WebHooks
from gateway.cases.case import MAIL, Case, Entry
from gateway.cases.engine import MOST_RUNNING
from gateway.cases.machine import TICK
from gateway.cases.ports import HookAnswer, Located
from gateway.cases.schema import CASES, JOURNAL, TASKS
from gateway.cases.states import Kind, State
from gateway.cases.store import Done, Store, Unit
from gateway.cases.tasks import HOOK_SCHEDULE_S
from gateway.cases.upkeep import calls_stopped, dead_letters, replay
from gateway.edge.case_rendering import event_body
from tests.fakes.case_engines import Core, core
from tests.fakes.case_stores import Stores, tasks, told
from tests.fakes.cases import FAR, HOLDER, Clock, FakeHooks, FakeLocator, found
from tests.fakes.waiting import PATIENCE_S, soon

FOUND = Located({HOLDER: "hit"}, [found()])


def stored(store: Store, case: Case) -> Case:
    there = store.case(case.id)
    assert there is not None
    return there


def state(store: Store, case: Case) -> State:
    return stored(store, case).state


def mailed(running: Core) -> set[bytes]:
    """The messages the holder's desk was sent, each as often as it will."""
    return {name for name, _body in running.desks.to(HOLDER)}


async def is_(running: Core, case: Case, wanted: State) -> None:
    await soon(lambda: state(running.store, case) is wanted)


def rename(store: Store, old: str, new: str) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))


async def test_the_engine_outlives_a_store_that_is_gone_for_a_while(stores: Stores):
    """Everything the engine does at the store fails meanwhile; afterwards it goes on by itself."""
    async with core(stores.url, locator=FakeLocator(FOUND)) as running:
        first = await running.accept("1")
        await is_(running, first, State.DISPATCHED)
        rename(running.store, "tasks", "tasks_away")
        running.engine.archive_returned(HOLDER)  # rings the bell: it must look now
        await soon(lambda: running.observer.count("task_failed", "store") >= 3)
        assert not running.serving.done(), "the engine ended: the process would end"
        rename(running.store, "tasks_away", "tasks")
        second = await running.accept("2")
        await is_(running, second, State.DISPATCHED)
        assert not running.serving.done()


async def test_a_store_in_trouble_is_not_asked_without_pause(stores: Stores):
    async with core(stores.url, locator=FakeLocator(FOUND)) as running:
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)
        rename(running.store, "cases", "cases_away")
        running.engine.archive_returned(HOLDER)
        await soon(lambda: running.observer.count("task_failed", "store") >= 1)
        before = running.observer.count("task_failed", "store")
        await asyncio.sleep(1.0)  # lets it ask as often as it likes
        assert running.observer.count("task_failed", "store") - before < 20
        rename(running.store, "cases_away", "cases")


async def test_watching_other_replicas_outlives_trouble_too(replicas: Stores):
    async with core(replicas.url, locator=FakeLocator(FOUND)) as running:
        case = await running.accept("1")
        looking = asyncio.create_task(running.cases.look())
        await is_(running, case, State.DISPATCHED)
        known = running.store.case(case.id)
        assert known is not None
        waiting = asyncio.create_task(running.cases.wait(known, known.version, 60))
        await asyncio.sleep(0)
        rename(running.store, "cases", "cases_away")
        await asyncio.sleep(1.2)  # two looks
        assert not looking.done()
        rename(running.store, "cases_away", "cases")
        looking.cancel()
        waiting.cancel()
        await asyncio.gather(looking, waiting, return_exceptions=True)


async def test_what_another_replica_writes_before_the_first_look_at_a_case_is_told_too(replicas: Stores):
    async with core(replicas.url, locator=FakeLocator(FOUND)) as running:
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)
        known = running.store.case(case.id)
        assert known is not None
        looking = asyncio.create_task(running.cases.look())
        waiting = asyncio.create_task(running.cases.wait(known, known.version, 10))
        await asyncio.sleep(0.1)  # it has read the case, and nobody has looked yet
        other = replicas.open("two")
        [done] = other.transact([told(case.id, Kind.CLAIMED)])
        assert isinstance(done, Done)
        assert (await waiting).version > known.version
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def test_work_that_takes_longer_than_a_lease_is_done_once_and_counts(stores: Stores):
    """A platform that needs several leases' time to say yes is called once, not once for each lease for ever."""
    hooks = FakeHooks()

    async def slow(_client: str, _message: str, _body: bytes) -> None:
        await asyncio.sleep(1.0)

    hooks.on_call = slow
    async with core(stores.url, locator=FakeLocator(FOUND), hooks=hooks, lease_ms=300) as running:
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)

        def called() -> bool:
            rows = [row for row in tasks(running.store).values() if row.kind == "hook"]
            return len(rows) >= 2 and all(row.visible_at is None for row in rows)

        await soon(called)
        messages = [message for _client, message, _body in hooks.calls]
        assert len(messages) == len(set(messages)), "called again while the first call was still open"
        told = {msgspec.json.decode(body)["timestamp"] for _client, _message, body in hooks.calls}
        journal = running.store.journal(case.id)
        assert told <= {event_body(entry)["at"] for entry in journal}, "as the API writes times"
        assert running.observer.count("lease_lost") == 0


async def test_a_search_slower_than_a_lease_is_asked_once(stores: Stores):
    locator = FakeLocator(FOUND)

    async def slow(_case: Case, _archives: list[str]) -> None:
        await asyncio.sleep(1.0)

    locator.on_ask = slow
    async with core(stores.url, locator=locator, lease_ms=300) as running:
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)
        assert len(locator.asked) == 1


async def test_work_goes_on_while_what_came_of_other_work_waits_to_be_written(stores: Stores, monkeypatch):
    locator, opened, written = FakeLocator(FOUND), asyncio.Event(), threading.Event()

    async def wait(_case: Case, _archives: list[str]) -> None:
        await opened.wait()

    locator.on_ask = wait
    async with core(stores.url, locator=locator, lease_ms=60_000) as running:
        cases = [await running.accept(str(n)) for n in range(MOST_RUNNING + 20)]
        await soon(lambda: len(locator.asked) == MOST_RUNNING)
        transact = running.store.transact

        def slow(units: Any) -> Any:
            written.wait(30)
            return transact(units)

        monkeypatch.setattr(running.store, "transact", slow)
        opened.set()
        try:
            await soon(lambda: len(locator.asked) == len(cases))
        finally:
            written.set()
        for case in cases:
            await is_(running, case, State.DISPATCHED)
        assert len(locator.asked) == len(cases)


async def test_a_result_that_could_not_be_written_is_worked_out_again(stores: Stores):
    """The lease of work whose result was lost runs out although its owner lives and extends others."""
    locator = FakeLocator(FOUND)
    async with core(stores.url, locator=locator, lease_ms=300) as running:
        once = iter([True])

        async def trouble(_case: Case, _archives: list[str]) -> None:
            if next(once, False):
                rename(running.store, "journal", "journal_away")

        locator.on_ask = trouble
        case = await running.accept("1")
        await soon(lambda: running.observer.count("task_failed", "search") >= 1)
        rename(running.store, "journal_away", "journal")
        await is_(running, case, State.DISPATCHED)
        assert len(locator.asked) == 2


async def test_platforms_that_hang_hold_up_nobody(stores: Stores):
    """More hanging platforms than places for all tasks: searches and desks do not wait for one of them."""
    forever = asyncio.Event()
    broken = [f"broken-{n}" for n in range(40)]
    hooks = FakeHooks(clients=broken)

    async def hang(_client: str, _message: str, _body: bytes) -> None:
        await forever.wait()

    hooks.on_call = hang
    async with core(stores.url, locator=FakeLocator(FOUND), hooks=hooks) as running:
        for client in broken:
            for n in range(3):
                await running.accept(f"{client}-{n}", client)
        await soon(lambda: len(hooks.calls) >= 64)
        healthy = await running.accept("1", "healthy")
        await is_(running, healthy, State.DISPATCHED)
        await soon(lambda: any(case_id == healthy.id for _a, _m, case_id, _b in running.desks.sent))
        forever.set()


async def test_a_case_the_clock_can_not_read_holds_up_no_other(stores: Stores):
    await holds_up_no_other(stores, "{")


async def test_a_case_whose_bytes_are_no_text_holds_up_no_other(file: Stores):
    """PostgreSQL holds no such bytes."""
    await holds_up_no_other(file, sa.cast(sa.literal(b'{"id":"\xff"}'), sa.Text))


async def holds_up_no_other(stores: Stores, damaged: Any) -> None:
    clock = Clock()
    async with core(stores.url, locator=FakeLocator(FOUND), clock=clock) as running:
        bad, good = await running.accept("1"), await running.accept("2")
        for case in (bad, good):
            await is_(running, case, State.DISPATCHED)
        with running.store.engine.begin() as connection:
            connection.execute(sa.update(CASES).where(CASES.c.id == bad.id).values(data=damaged))
        running.store.forget(bad.id)
        clock.go(50)  # half of picking up: both are to be warned
        running.engine.archive_returned(HOLDER)

        def warned() -> bool:
            return any(entry.kind == "warned" for entry in running.store.journal(good.id))

        await soon(warned)
        await soon(lambda: running.observer.count("task_failed", "tick") >= 1)
        await soon(
            lambda: bad.id not in running.store.due_cases(10)
        )  # or it would be looked at without pause
        assert (await running.cases.scorecard(HOLDER, 30)).unreadable == 1


async def test_a_tick_the_store_refuses_keeps_nothing_of_the_others_from_being_told(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
):
    """Whoever follows those cases hears of it, and what they ordered is started now, not when its lease has run out."""
    clock = Clock()
    async with core(stores.url, locator=FakeLocator(FOUND), clock=clock) as running:
        cases = [await running.accept(f"{number}") for number in range(5)]
        for case in cases:
            await is_(running, case, State.DISPATCHED)
        await soon(lambda: len(mailed(running)) == len(cases))
        refused, write = cases[0].id, running.writer.submit

        def submit(unit: Unit) -> asyncio.Future[Done]:
            if unit.event is not TICK or unit.case_id != refused:
                return write(unit)
            full: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
            full.set_exception(Refusal(Reason.STORE_UNAVAILABLE))
            return full

        monkeypatch.setattr(running.writer, "submit", submit)
        kept = [stored(running.store, case) for case in cases]

        async def next_of(case: Case) -> list[Entry]:
            async with running.cases.follow(case.id, case.version, 600.0) as lines:
                return await anext(lines)

        waiting = [asyncio.create_task(next_of(case)) for case in kept[1:]]
        await asyncio.sleep(0)
        clock.now_ms = max(case.wake_at_ms for case in kept)  # all desks are to be warned
        running.engine.archive_returned(HOLDER)
        async with asyncio.timeout(PATIENCE_S):
            heard = await asyncio.gather(*waiting)
        assert {entries[0].kind for entries in heard} == {Kind.WARNED}
        await soon(lambda: len(mailed(running)) == len(cases) + len(heard))


async def test_a_task_nobody_can_read_is_put_aside_and_holds_up_no_other(stores: Stores):
    async with core(stores.url, locator=FakeLocator(FOUND)) as running:
        row = {
            "id": "broken", "case_id": "x", "kind": "search", "target": "", "visible_at": 1, "owner": "", "fence": 0,
            "attempts": 0, "dead": 0, "payload": "{",
        }  # fmt: skip
        with running.store.engine.begin() as connection:
            connection.execute(sa.insert(TASKS), [row])
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)
        await soon(lambda: tasks(running.store)["broken"].dead == 1)


async def test_a_desk_that_is_away_gets_its_message_when_it_is_back(stores: Stores):
    async with core(stores.url, locator=FakeLocator(FOUND)) as running:
        running.desks.away.add(HOLDER)
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)
        assert running.desks.to(HOLDER) == []
        running.desks.away.clear()
        running.engine.archive_returned(HOLDER)
        [(name, _body), *more] = await soon(lambda: running.desks.to(HOLDER))
        assert more == []
        [mail] = [row for row in tasks(running.store).values() if row.kind == MAIL]
        assert name == mail_id(mail.id)
        running.engine.receipted(HOLDER, name, "")
        await soon(lambda: tasks(running.store)[mail.id].visible_at is None)


async def test_a_message_is_receipted_by_the_archive_it_went_to_and_by_no_other(stores: Stores):
    """Whoever knows a case can compute what its messages are called."""
    async with core(stores.url, locator=FakeLocator(FOUND)) as running:
        case = await running.accept("1")
        [(name, _body)] = await soon(lambda: running.desks.to(HOLDER))
        [mail] = [row for row in tasks(running.store).values() if row.kind == MAIL]
        assert name == mail_id(mail.id)
        for reason in ("", "bad_frame"):
            assert not running.engine.receipted(FAR, name, reason)
        await running.writer.call(lambda _store: None)  # behind whatever a receipt would have had written
        kept = tasks(running.store)[mail.id]
        assert kept.visible_at is not None
        assert kept.dead == 0
        assert running.engine.receipted(HOLDER, name, "")
        await soon(lambda: tasks(running.store)[mail.id].visible_at is None)
        assert state(running.store, case) is State.DISPATCHED


async def test_one_desk_message_counted_by_many_deliveries_has_one_effect(stores: Stores):
    async with core(stores.url, locator=FakeLocator(FOUND)) as running:
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)
        answers: list[str] = []
        for _ in range(20):
            running.cases.desk_said(HOLDER, b"m" * 16, case.id, write(Claimed(group=1)), answers.append)
        await soon(lambda: len(answers) == 20)
        assert set(answers) == {""}
        claims = [entry for entry in running.store.journal(case.id) if entry.kind == "claimed"]
        assert len(claims) == 1


async def test_a_case_id_no_database_takes_is_refused_before_it_reaches_others(stores: Stores):
    async with core(stores.url, locator=FakeLocator(FOUND)) as running:
        answers: list[str] = []
        running.cases.desk_said(HOLDER, b"m" * 16, "case\0", write(Claimed(group=1)), answers.append)
        assert answers == ["unknown_case"]


async def test_draining_gives_back_what_was_being_done(stores: Stores):
    never = asyncio.Event()
    locator = FakeLocator(FOUND)

    async def hang(_case: Case, _archives: list[str]) -> None:
        await never.wait()

    locator.on_ask = hang
    async with core(stores.url, locator=locator) as running:
        await running.accept("1")
        await soon(lambda: locator.asked)
        await running.engine.drain(0.05)
        [search] = running.store.claim(10)
        assert search.kind == "search"


async def test_many_cases_at_once_all_end_once(stores: Stores):
    """More work than there are places: everything is done, each once."""
    async with core(stores.url, locator=FakeLocator(Located({HOLDER: "empty"})), lease_ms=3000) as running:
        cases = await asyncio.gather(*[running.accept(str(n)) for n in range(200)])
        for case in cases:
            await is_(running, case, State.NO_RECORD)
        assert len(running.locator.asked) == 200
        kinds: dict[str, list[Any]] = {}
        rows = running.store.read(lambda c: c.execute(sa.select(JOURNAL.c.case_id, JOURNAL.c.kind)).all())
        for case_id, kind in rows:
            kinds.setdefault(case_id, []).append(kind)
        assert all(one == ["accepted", "located"] for one in kinds.values())
        assert len(kinds) == 200


async def test_a_platform_that_answers_at_last_gets_each_message_under_one_name(stores: Stores):
    hooks = FakeHooks(HookAnswer(-1), HookAnswer(-1))
    async with core(stores.url, locator=FakeLocator(FOUND), hooks=hooks) as running:
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)
        await soon(lambda: len(hooks.calls) >= 4)
        names = [name for _client, name, _body in hooks.calls]
        assert max(len(list(group)) for _key, group in itertools.groupby(sorted(names))) >= 2
        assert len(set(names)) == 2


async def test_gone_stops_all_calls_to_that_platform_until_the_operator_sends_them_again(stores: Stores):
    hooks = FakeHooks(*[HookAnswer(410)] * 50, clients=("platform", "other"))
    async with core(stores.url, locator=FakeLocator(FOUND), hooks=hooks) as running:
        first = await running.accept("1")
        await is_(running, first, State.DISPATCHED)

        def all_dead() -> bool:
            rows = [row for row in tasks(running.store).values() if row.kind == "hook"]
            return len(rows) >= 2 and all(row.dead for row in rows)

        await soon(all_dead)
        second = await running.accept("2")
        await is_(running, second, State.DISPATCHED)
        await soon(lambda: all_dead() and len(running.store.read(dead_letters)) == 4)
        called = len(hooks.calls)
        assert called <= 2, "after it said gone, at most what was already on its way"
        hooks.answers.clear()
        other = await running.accept("3", "other")
        await soon(lambda: any(client == "other" for client, _m, _b in hooks.calls))
        await is_(running, other, State.DISPATCHED)
        replayed = running.writer.call(lambda s: s.change(lambda c, now: replay(c, now, target="platform")))
        assert await replayed == 4
        running.engine.archive_returned(HOLDER)
        await soon(lambda: sum(client == "platform" for client, _m, _b in hooks.calls) >= called + 4)
        await soon(lambda: running.store.read(dead_letters) == [])


async def test_a_platform_that_one_replica_does_not_know_is_called_by_another(stores: Stores):
    """While replicas are restarted with a platform more in their file, the older ones do not know it yet."""
    hooks = FakeHooks()
    hooks.call = WebHooks({}).call  # type: ignore[method-assign]
    async with core(stores.url, locator=FakeLocator(FOUND), hooks=hooks) as running:
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)
        await soon(lambda: running.observer.count("task_failed", "hook") >= 2)
        assert not running.store.read(lambda c: calls_stopped(c, "platform"))
        assert all(row.visible_at is not None for row in tasks(running.store).values() if row.kind == "hook")
        assert running.store.read(dead_letters) == []


async def test_a_call_that_fails_is_not_tried_again_before_its_schedule_and_then_once_more(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.cases.tasks.random.uniform", lambda least, _most: least)
    clock = Clock()
    hooks = FakeHooks(*[HookAnswer(500)] * 1000)
    async with core(stores.url, locator=FakeLocator(FOUND), hooks=hooks, clock=clock) as running:
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)

        ours = {row.id for row in tasks(running.store).values() if row.kind == "hook"}
        names = {mail_id(one).hex() for one in ours}

        def tried(times: int, next_after_s: int) -> bool:
            """Whether each of the first calls was made so often, and when it is due again."""
            rows = [row for row in tasks(running.store).values() if row.id in ours and not row.owner]
            calls = [name for _client, name, _body in hooks.calls if name in names]
            return (
                len(calls) == 2 * times
                and [row.visible_at - row.ordered_ms for row in rows if row.visible_at]
                == [next_after_s * 1_000] * len(rows)
                == [next_after_s * 1_000] * 2
            )

        await soon(lambda: tried(1, 5))
        clock.go(5)
        running.engine.archive_returned(HOLDER)
        await soon(lambda: tried(2, 20))
        clock.go(sum(HOOK_SCHEDULE_S) - 6)  # the last one is due soon: it is made, and was the last
        running.engine.archive_returned(HOLDER)
        await soon(lambda: tried(3, sum(HOOK_SCHEDULE_S)))
        clock.go(2)
        running.engine.archive_returned(HOLDER)
        await soon(lambda: ours <= {one.id for one in running.store.read(dead_letters)})
        assert sum(name in names for _client, name, _body in hooks.calls) == 8


async def test_a_call_that_fails_for_days_becomes_a_dead_letter_and_its_case_is_untouched(stores: Stores):
    clock = Clock()
    hooks = FakeHooks(*[HookAnswer(500)] * 1000)
    async with core(stores.url, locator=FakeLocator(FOUND), hooks=hooks, clock=clock) as running:
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)
        ours = {row.id for row in tasks(running.store).values() if row.kind == "hook"}
        for seconds in (*[600] * 3, *[86_400] * 5):
            clock.go(seconds)
            running.engine.archive_returned(HOLDER)
            await asyncio.sleep(0.1)  # lets a call be made; how many were does not matter
        await soon(lambda: ours <= {one.id for one in running.store.read(dead_letters)})
        assert state(running.store, case) is State.DISPATCHED
        names = [message for _client, message, _body in hooks.calls]
        assert len(names) > len(set(names)), "tried again under the same name"


async def test_a_message_a_desk_will_never_take_is_a_dead_letter(stores: Stores):
    async with core(stores.url, locator=FakeLocator(FOUND)) as running:
        case = await running.accept("1")
        await is_(running, case, State.DISPATCHED)
        [(name, _body)] = await soon(lambda: running.desks.to(HOLDER))
        running.engine.receipted(HOLDER, name, "bad_frame")
        [dead] = await soon(lambda: running.store.read(dead_letters))
        assert (dead.kind, dead.target, dead.case_id) == (MAIL, HOLDER, case.id)
        assert running.observer.count("task_failed", "mail_refused") == 1
