"""Notices of what was signed anew, from an archive that answers as its agent does, to a gateway's cases, log and caller; over both
databases.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select

from federation import mail, signed_anew
from federation.reasons import Reason, Refusal
from federation.signed_anew import Notice
from federation.tlog.auditor import audit
from federation.tlog.flaws import EvidenceError, Flaw
from gateway.adapters import signed_anew as asking
from gateway.adapters.case_evidence import CaseEvidence
from gateway.adapters.signed_anew import SignedAnewNotices
from gateway.cases.case import HOOK, Case, Event
from gateway.cases.clock import wall_ms
from gateway.cases.schema import TASKS
from gateway.cases.states import Kind, State
from gateway.cases.store import Store, Unit
from gateway.cases.upkeep import Keep
from gateway.evidence.log import GatewayLog, signer_at
from loadtest.case_core import make_tables
from tests.fakes.case_engines import core
from tests.fakes.case_stores import Stores, dispatched, do, made, told
from tests.fakes.cases import FAR, HOLDER, Clock, FakeHooks, located
from tests.fakes.evidence_sides import Counts, sides
from tests.fakes.waiting import soon

FIRST, NEW, NEWEST = (hashlib.sha256(text).hexdigest() for text in (b"first", b"new", b"newest"))
DOCUMENT = "ab" * 32
ROOT = Path(__file__).parents[3]


def number_of(case_id: str) -> str:
    return f"{HOLDER}-2026-{int(case_id[-5:]):06d}"


def notice(case_id: str, digest: str = NEW, at_ms: int = 2_000, **changes) -> Notice:
    said = {"number": number_of(case_id), "form": "credential", "digest": digest, "at_ms": at_ms}
    return Notice(case_id, **{**said, **changes})


class Agent:
    """The archive's end of the bulk stream: a list that grows. `away` refuses; `pages` may be anything instead."""

    def __init__(self, *notices: Notice, page: int = 2) -> None:
        self.notices, self.page = list(notices), page
        self.asked: list[tuple[str, int]] = []
        self.refuses: Reason | None = None
        self.answers: bytes | None = None

    async def fetch(self, archive: str, name: str, most: int, body: bytes = b"") -> bytes:
        kind, _, after = name.partition("/")
        assert (kind, most, body) == ("signed-anew", signed_anew.LARGEST_PAGE, b"")
        self.asked.append((archive, int(after)))
        if self.refuses is not None:
            raise Refusal(self.refuses)
        if self.answers is not None:
            return self.answers
        shown = self.notices[int(after) : int(after) + self.page]
        return signed_anew.write(int(after) + len(shown), shown)


class Alone:
    """Writes units by itself, as an engine would; a unit of `broken` finds the store in trouble."""

    def __init__(self, store: Store) -> None:
        self.store, self.written = store, 0
        self.broken = False

    async def happen(self, unit: Unit):
        if self.broken:
            raise Refusal(Reason.STORE_UNAVAILABLE)
        done = do(self.store, unit)
        self.written += 1
        return done


@contextlib.contextmanager
def opened_log(folder: Path):
    log = GatewayLog(
        folder / "evidence.sqlite",
        signer_at(folder / "log.key", "lantai.lantai/gateway/g"),
        wall_ms,
        Counts(),
    )
    try:
        yield log
    finally:
        log.close()


def notices_of(store: Store, agent: Agent, log: GatewayLog, engine=None) -> SignedAnewNotices:
    return SignedAnewNotices([HOLDER, FAR], agent, lambda _code: True, store, engine or Alone(store), log)


def issued(
    store: Store,
    number: int = 1,
    *,
    credential: str = FIRST,
    is_delivered: bool = True,
    told_as: str = "",
) -> Case:
    """A case whose document the holder has issued, under `told_as` if that is not its own number."""
    case = dispatched(store, number).case
    do(store, told(case.id, Kind.APPROVED, number="2026-1"))
    said = {
        "number": told_as or number_of(case.id),
        "document": DOCUMENT,
        "form": "recorded_facts",
        "credential": credential,
    }
    done = do(store, told(case.id, Kind.ISSUED, **said))
    if is_delivered:
        done = do(store, told(case.id, Kind.DELIVERED, "gateway", by="caller"))
    return done.case


def logged(log: GatewayLog, case: Case) -> list[str]:
    """Digests of what was logged as signed anew."""
    events = [entry.read() for entry in log._reader.of_request(case.id) if entry.kind == "signed_anew"]
    return [str(event.fields["digest"]) for event in events]


def journal(store: Store, case: Case) -> list[tuple[str, dict]]:
    return [(one.actor, one.data) for one in store.journal(case.id) if one.kind is Kind.SIGNED_ANEW]


def credential(store: Store, case: Case) -> tuple[str, int]:
    found = store.case(case.id)
    return found.decision["credential"], found.signed_anew_ms


# what is taken ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_delivered", [False, True])
async def test_the_new_one_takes_the_place_of_the_first_and_the_journal_tells_both(
    store, tmp_path, is_delivered
):
    case = issued(store, is_delivered=is_delivered)
    with opened_log(tmp_path) as log:
        assert await notices_of(store, Agent(notice(case.id)), log).ask(HOLDER)
        assert credential(store, case) == (NEW, 2_000)
        assert journal(store, case) == [(HOLDER, {"credential": NEW, "before": FIRST})]
        assert logged(log, case) == [NEW]
    after = store.case(case.id)
    assert (after.state, after.version) == (case.state, case.version + 1)
    assert {**after.decision, "credential": FIRST} == case.decision
    kept = ("ended_ms", "delivered_ms", "stopped_ms", "stage", "spent_ms", "wake_at_ms", "deadline_ms")
    assert [getattr(after, name) for name in kept] == [getattr(case, name) for name in kept]


async def test_asked_again_it_changes_nothing_and_reads_on_from_where_it_was(store, tmp_path):
    cases = [issued(store, number) for number in range(1, 6)]
    agent, engine = Agent(*[notice(one.id) for one in cases], page=2), Alone(store)
    with opened_log(tmp_path) as log:
        notices = notices_of(store, agent, log, engine)
        while await notices.ask(HOLDER):
            pass
        assert engine.written == 5
        assert agent.asked[-1] == (HOLDER, 5)
        again = notices_of(
            store, agent, log, engine
        )  # another process: it reads all, at once, since nothing is to be written
        agent.asked.clear()
        assert not await again.ask(HOLDER)
        assert [after for _archive, after in agent.asked] == [0, 2, 4, 5]
        assert [logged(log, one) for one in cases] == [[NEW]] * 5
    assert engine.written == 5
    assert [len(journal(store, one)) for one in cases] == [1] * 5


async def test_one_that_was_signed_later_counts_in_whatever_order_they_come(store, tmp_path):
    one, other = issued(store, 1), issued(store, 2)
    agent = Agent(
        notice(one.id, NEW, 2_000), notice(one.id, NEWEST, 3_000),
        notice(other.id, NEWEST, 3_000), notice(other.id, NEW, 2_000), notice(other.id, FIRST, 4_000, form="qr"),
    )  # fmt: skip
    with opened_log(tmp_path) as log:
        notices = notices_of(store, agent, log)
        while await notices.ask(HOLDER):
            pass
        assert [credential(store, case) for case in (one, other)] == [(NEWEST, 3_000), (FIRST, 4_000)]
        agent.notices = [
            notice(one.id, NEW, 2_000), notice(one.id, FIRST, 2_999), notice(one.id, NEWEST, 5_000)
        ]  # fmt: skip
        assert not await notices_of(store, agent, log).ask(HOLDER)
    assert credential(store, one) == (NEWEST, 3_000)


async def test_of_an_archive_or_a_certificate_that_is_not_the_cases_nothing_is_taken(store, tmp_path):
    case = issued(store)
    wrong = [
        notice(case.id, number=number_of("case-00002")),
        notice("case-00009"),
        notice(case.id, number=f"{FAR}-2026-000001"),
        notice(case.id, number="2026-1"),
        notice(case.id, digest="x" * 64),
        notice(case.id, digest=NEW[:63]),
        notice(case.id, digest=NEW.upper()),
        notice(case.id, form="document"),
        notice(case.id, at_ms=0),
        notice(case.id, at_ms=store.now_ms() + 7_200_000),
        msgspec.structs.replace(notice(case.id), case_id=f"{case.id}\0"),
    ]
    with opened_log(tmp_path) as log:
        for one in wrong:
            assert not await notices_of(store, Agent(one), log).ask(HOLDER), one
        assert not await notices_of(store, Agent(notice(case.id)), log).ask(FAR)
        far = Agent(notice(case.id, number=f"{FAR}-2026-000001"))
        assert not await notices_of(store, far, log).ask(FAR)
        assert (log._log.size, store.case(case.id)) == (0, case)
        assert await notices_of(store, Agent(*wrong, notice(case.id), page=20), log).ask(HOLDER)
    assert credential(store, case) == (NEW, 2_000)  # what is wrong spoils only itself


async def test_a_number_of_another_archive_in_a_case_lets_that_archive_say_nothing(store, tmp_path):
    case = issued(store, told_as=f"{FAR}-2026-000001")
    far = Agent(notice(case.id, number=f"{FAR}-2026-000001"))
    with opened_log(tmp_path) as log:
        assert not await notices_of(store, far, log).ask(FAR)
        assert log._log.size == 0
    assert store.case(case.id) == case


async def test_where_the_gateway_was_never_told_of_a_credential_none_appears(store, tmp_path):
    sealed = issued(store, credential="")
    with opened_log(tmp_path) as log:
        assert not await notices_of(store, Agent(notice(sealed.id)), log).ask(HOLDER)
    assert store.case(sealed.id) == sealed


async def test_an_ended_case_without_a_document_takes_none(store, tmp_path):
    case = issued(store, is_delivered=False)
    do(store, told(case.id, Kind.WITHDRAWN, "caller"))
    with opened_log(tmp_path) as log:
        assert not await notices_of(store, Agent(notice(case.id)), log).ask(HOLDER)
    assert store.case(case.id).state is State.WITHDRAWN
    assert credential(store, case) == (FIRST, 0)


def note_over_a_search(case_id: str) -> list[Unit]:
    """Nobody holds a record, and the holder's note that it is so is issued."""
    empty = located({HOLDER: "empty", FAR: "empty"})
    more = {"noting": HOLDER, "searched": dict.fromkeys((HOLDER, FAR), "2026-11-25")}
    said = {"number": number_of(case_id), "document": DOCUMENT, "form": "no_record", "credential": FIRST}
    return [
        Unit(case_id, Event(Kind.LOCATED, "gateway", {**empty.data, **more})),
        told(case_id, Kind.ISSUED, group=1, **said),
    ]


async def test_of_a_note_over_a_search_the_archive_it_was_ordered_from_speaks(store, tmp_path):
    case = made(store)
    for unit in note_over_a_search(case.id):
        done = do(store, unit)
    assert done.case.state is State.NO_RECORD
    with opened_log(tmp_path) as log:
        assert await notices_of(store, Agent(notice(case.id)), log).ask(HOLDER)
    assert credential(store, case) == (NEW, 2_000)


async def test_a_case_whose_personal_data_are_forgotten_gets_it_too_and_stays_forgotten(
    stores, store, tmp_path
):
    case = issued(store)
    stores.clock.go(1)
    store.tidy(Keep(tasks=-1, personal_data=-1))
    store.tidy(Keep(tasks=-1, personal_data=-1))
    forgotten = store.case(case.id)
    assert forgotten.forgotten_ms
    assert forgotten.request.keys() <= {"category", "purpose", "applicant"}
    with opened_log(tmp_path) as log:
        assert await notices_of(store, Agent(notice(case.id)), log).ask(HOLDER)
    stores.clock.go(1_000)
    store.tidy(Keep(tasks=-1, personal_data=-1))
    store.tidy(Keep(tasks=-1, personal_data=-1))
    after = store.case(case.id)
    assert credential(store, case) == (NEW, 2_000)
    assert (after.forgotten_ms, after.request) == (forgotten.forgotten_ms, forgotten.request)


# what goes wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"[]", b"\xff", b'{"upto":1}', b'{"upto":-1,"notices":[]}', b'{"upto":1e300,"notices":[]}', b"[" * 100_000,
        json.dumps({"upto": 1, "notices": [{}] * 501}).encode(), b'{"upto":1,"notices":[' + b" " * (1 << 20) + b"]}",
    ],
)  # fmt: skip
async def test_what_is_no_page_is_as_if_nothing_had_come(file, tmp_path, answer):
    store = file.open()
    make_tables(store)
    case, agent = issued(store), Agent(notice(case_id := "case-00001"))
    assert case.id == case_id
    agent.answers = answer
    with opened_log(tmp_path) as log:
        notices = notices_of(store, agent, log)
        assert not await notices.ask(HOLDER)
        agent.answers = None
        assert await notices.ask(HOLDER)
    assert credential(store, case) == (NEW, 2_000)


async def test_a_page_that_never_ends_is_left_for_the_next_turn(file, tmp_path):
    store = file.open()
    make_tables(store)

    class Endless(Agent):
        async def fetch(self, archive, name, most, body=b""):
            await super().fetch(archive, name, most, body)
            return signed_anew.write(self.asked[-1][1] + 1, [])

    agent = Endless()
    with opened_log(tmp_path) as log:
        assert await notices_of(store, agent, log).ask(HOLDER)
    assert len(agent.asked) == 40


async def test_pages_that_come_slowly_do_not_hold_up_other_archives(file, tmp_path, monkeypatch):
    store = file.open()
    make_tables(store)
    monkeypatch.setattr(asking, "FETCH_WITHIN_S", 0.5)

    class Slow(Agent):
        async def fetch(self, archive, name, most, body=b""):
            await asyncio.sleep(0.05)
            await super().fetch(archive, name, most, body)
            return signed_anew.write(self.asked[-1][1] + 1, [])

    agent = Slow()
    with opened_log(tmp_path) as log:
        notices = notices_of(store, agent, log)
        assert not await notices.ask(HOLDER)
        turn = len(agent.asked)
        assert turn < asking.MOST_PAGES
        await notices.ask(HOLDER)
    assert agent.asked[turn] == (HOLDER, turn)  # it goes on where it was


async def test_of_a_case_the_newest_of_a_page_is_taken_and_the_platform_called_once(store, tmp_path):
    case, engine = issued(store), Alone(store)
    many = [notice(case.id, hashlib.sha256(bytes([n])).hexdigest(), 2_000 + n) for n in range(100)]
    agent = Agent(*many[50:], *many[:50], page=100)
    with opened_log(tmp_path) as log:
        assert await notices_of(store, agent, log, engine).ask(HOLDER)
        assert (engine.written, credential(store, case)) == (1, (many[-1].digest, 2_099))
        assert logged(log, case) == [many[-1].digest]


@pytest.mark.parametrize("reason", [Reason.NOT_FOUND, Reason.HOLDER_UNREACHABLE, Reason.ALTERED])
async def test_an_archive_that_is_away_or_older_is_asked_again(store, tmp_path, reason):
    case, agent = issued(store), Agent(notice("case-00001"))
    agent.refuses = reason
    with opened_log(tmp_path) as log:
        notices = notices_of(store, agent, log)
        assert not await notices.ask(HOLDER)
        agent.refuses = None
        assert await notices.ask(HOLDER)
    assert credential(store, case) == (NEW, 2_000)


@pytest.mark.parametrize("trouble", ["log", "store"])
async def test_what_can_not_be_logged_or_written_is_asked_for_again(store, tmp_path, trouble):
    case, engine = issued(store), Alone(store)
    with opened_log(tmp_path) as log:
        append, broken = log._log.append_each, [True]

        def maybe(events):
            if broken and trouble == "log":
                raise EvidenceError(Flaw.LOG_UNAVAILABLE, "disk full")
            return append(events)

        log._log.append_each = maybe
        engine.broken = trouble == "store"
        notices = notices_of(store, Agent(notice(case.id)), log, engine)
        assert not await notices.ask(HOLDER)
        assert credential(store, case) == (FIRST, 0)
        broken.clear()
        engine.broken = False
        assert await notices.ask(HOLDER)
        assert logged(log, case) == [NEW]
    assert credential(store, case) == (NEW, 2_000)


async def test_what_comes_before_its_case_was_told_of_the_document_is_taken_when_all_is_read_again(
    store, tmp_path
):
    case = dispatched(store).case
    do(store, told(case.id, Kind.APPROVED, number="2026-1"))
    with opened_log(tmp_path) as log:
        notices = notices_of(store, Agent(notice(case.id)), log)
        assert not await notices.ask(HOLDER)
        said = {
            "number": number_of(case.id),
            "document": DOCUMENT,
            "form": "recorded_facts",
            "credential": FIRST,
        }
        do(store, told(case.id, Kind.ISSUED, **said))
        assert not await notices.ask(HOLDER)
        notices._reading[HOLDER].again_at = 0.0  # an hour later
        assert await notices.ask(HOLDER)
    assert credential(store, case) == (NEW, 2_000)


async def test_replicas_that_are_told_at_once_write_it_once(replicas: Stores, tmp_path):
    one, two = replicas.open("one"), replicas.open("two")
    make_tables(one)
    cases = [issued(one, number) for number in range(1, 9)]
    agent = Agent(*[notice(case.id) for case in cases], page=8)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    with opened_log(tmp_path / "one") as log, opened_log(tmp_path / "two") as other:
        seen = two.case
        stale = {case.id: seen(case.id) for case in cases}
        assert await notices_of(one, agent, log).ask(HOLDER)
        late = notices_of(two, agent, other)
        late._cases = lambda ids: {one: stale[one] for one in ids}  # it had read them a moment before
        assert await late.ask(HOLDER)
    assert [len(journal(one, case)) for case in cases] == [1] * 8
    assert [credential(two, case) for case in cases] == [(NEW, 2_000)] * 8


# who hears of it --------------------------------------------------------------------------------------------------------


async def test_a_running_gateway_asks_when_the_archive_returns_and_calls_the_platform(stores, tmp_path):
    agent, hooks = Agent(), FakeHooks()
    with opened_log(tmp_path) as log:
        async with core(
            stores.url, hooks=hooks, evidence=lambda store: CaseEvidence(log, store, store.now_ms)
        ) as running:
            store = running.store
            case = issued_with_hook(store)
            there: set[str] = set()
            notices = SignedAnewNotices([HOLDER, FAR], agent, there.__contains__, store, running.engine, log)
            serving = asyncio.create_task(notices.run())
            await asyncio.sleep(0)
            agent.notices.append(notice(case.id))
            there.add(HOLDER)
            notices.returned(HOLDER)
            async with running.cases.follow(case.id, case.version, 30.0) as lines:
                [entry] = await anext(lines)
            assert (entry.kind, entry.data) == (Kind.SIGNED_ANEW, {"credential": NEW, "before": FIRST})
            calls = await soon(lambda: [body for _c, _id, body in hooks.calls if b"signed_anew" in body])
            assert json.loads(calls[0])["data"] == {
                "case": case.id,
                "seq": case.version + 1,
                "state": "delivered",
            }
            assert {archive for archive, _after in agent.asked} == {HOLDER}
            assert not serving.done()
            serving.cancel()
            clock = await running.cases.minutes(store.case(case.id))
            assert clock.stopped_ms == case.delivered_ms
            # its end was logged when it ended: another replica that writes this line must not log it as its own
            assert [entry.kind for entry in log._reader.of_request(case.id)] == ["signed_anew"]


async def test_a_platform_that_answers_the_call_has_not_got_a_note_that_nobody_fetched(stores, tmp_path):
    hooks, clock = FakeHooks(), Clock()
    async with core(stores.url, hooks=hooks, clock=clock) as running:
        store = running.store
        case = made(store, has_hook=True)
        for unit in note_over_a_search(case.id):
            await running.engine.happen(unit)
        await soon(
            lambda: len(hooks.calls) == 2 and waiting_calls(store) == 1
        )  # that it was accepted is not told yet
        assert not store.case(case.id).delivered_ms  # the note has its time to be fetched
        clock.go(90 * 86_400)
        with opened_log(tmp_path) as log:
            assert await notices_of(store, Agent(notice(case.id)), log, running.engine).ask(HOLDER)
        await soon(
            lambda: any(b"signed_anew" in body for _c, _id, body in hooks.calls) and not waiting_calls(store)
        )
        assert (credential(store, case), store.case(case.id).delivered_ms) == ((NEW, 2_000), 0)


def waiting_calls(store: Store) -> int:
    waiting = select(func.count()).where(TASKS.c.kind == HOOK, TASKS.c.visible_at.is_not(None))
    return store.read(lambda c: c.execute(waiting).scalar_one())


def issued_with_hook(store: Store) -> Case:
    case = made(store, has_hook=True)
    for unit in (
        Unit(case.id, located({HOLDER: "hit"}, [{"ref": f"{HOLDER}.r1", "archive": HOLDER, "score": 30.0, "decision": "likely"}])),
        told(case.id, Kind.APPROVED, number="2026-1"),
        told(case.id, Kind.ISSUED, number=number_of(case.id), document=DOCUMENT, form="recorded_facts", credential=FIRST),
        told(case.id, Kind.DELIVERED, "gateway", by="caller"),
    ):  # fmt: skip
        done = do(store, unit)
    return done.case


async def test_both_logs_tell_the_same_and_are_reconciled_as_before(tmp_path):
    async with sides(tmp_path) as both:
        case = await both.accept("1")
        await soon(lambda: both.logged(case, "dispatched"))
        assert await both.say(case, mail.Approved(number="2026-1", group=1)) == ""
        number = f"{HOLDER}-2026-000001"
        issue = mail.Issued(
            number=number, group=1, document=DOCUMENT, form="recorded_facts", credential=FIRST
        )
        assert await both.say(case, issue) == ""
        before = both.reconcile()
        at_ms = wall_ms()
        side = both.side.log
        side.add([side.signed_anew(case.id, number, "credential", NEW, at_ms)])
        agent = Agent(Notice(case.id, number, "credential", NEW, at_ms))
        notices = SignedAnewNotices(
            [HOLDER], agent, lambda _c: True, both.core.store, both.core.engine, both.log
        )
        assert await notices.ask(HOLDER)
        result = both.reconcile()
        assert result.ok, result.differences
        assert (result.agreed, result.requests) == (before.agreed, before.requests)
        ours, theirs = (
            [one.read() for one in log.of_request(case.id) if one.kind == "signed_anew"]
            for log in (both.log._reader, side._log)
        )
        assert [one.canonical() for one in ours] == [one.canonical() for one in theirs]
        both.log._log.checkpoint(wall_ms(), gap_ms=0)
        assert audit(both.log._log, [both.log.key]).ok


# kill -9 ----------------------------------------------------------------------------------------------------------------

KILLED_AT_EACH_STEP = """
import asyncio, os, signal, sys
from pathlib import Path
from federation.tlog.log import EvidenceLog
from gateway.cases.batch import Batch
from gateway.cases.policy import Policy
from gateway.cases.store import Store
from tests.contract.cases import test_new_credentials as tests
from tests.fakes.cases import HOLDER, Clock

url, last, steps = sys.argv[1], 0, 0

def step():
    global steps
    steps += 1
    if steps == last:
        os.kill(os.getpid(), signal.SIGKILL)

def before_and_after(of, name):
    work = getattr(of, name)
    def counted(*given):
        step()
        result = work(*given)
        step()
        return result
    setattr(of, name, counted)

before_and_after(EvidenceLog, "append_each")
before_and_after(Batch, "write")
before_and_after(Store, "transact")

async def take(folder, ids):
    store = Store(url, Policy(), clock_ms=Clock(), owner="killed")
    agent = tests.Agent(*[tests.notice(one) for one in ids], page=1)
    with tests.opened_log(folder) as log:
        notices = tests.notices_of(store, agent, log)
        while await notices.ask(HOLDER):
            pass
    store.close()

for last, words in enumerate(sys.argv[2:], 1):
    folder, *ids = words.split()
    child = os.fork()
    if not child:
        asyncio.run(take(Path(folder), ids))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


async def test_killed_before_any_step_each_case_has_the_old_or_the_new_one_and_the_next_run_goes_on(
    stores, tmp_path
):
    """Two notices of six steps each: before and after the log's write, the case's batch and its whole transaction."""
    store = stores.open()
    make_tables(store)
    runs = []
    for last in range(1, 14):
        folder = tmp_path / str(last)
        folder.mkdir()
        runs.append((folder, [issued(store, 100 * last + place) for place in range(2)]))
    stores.close(store)
    words = [" ".join([str(folder), *(case.id for case in cases)]) for folder, cases in runs]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED_AT_EACH_STEP, stores.url, *words],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.split() == ["-9"] * 12 + ["0"], done.stderr
    store, seen = stores.open(), set()
    for folder, cases in runs:
        with opened_log(folder) as log:
            has = [credential(store, case) for case in cases]
            assert set(has) <= {(FIRST, 0), (NEW, 2_000)}
            for case, (digest, _at) in zip(cases, has, strict=True):
                assert digest == FIRST or logged(log, case) == [NEW]  # no new digest without its event
                assert len(journal(store, case)) == (digest == NEW)
            seen.add(tuple(digest == NEW for digest, _at in has))
            notices = notices_of(store, Agent(*[notice(case.id) for case in cases], page=1), log)
            while await notices.ask(HOLDER):
                pass
            assert [credential(store, case) for case in cases] == [(NEW, 2_000)] * 2
            assert [logged(log, case) for case in cases] == [[NEW]] * 2
            assert [len(journal(store, case)) for case in cases] == [1] * 2
    assert seen == {(False, False), (True, False), (True, True)}
