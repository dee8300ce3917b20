"""A day through the real case engine: its store, its clock rules and its messages, with simulated archives and callers.

Only time and people are simulated. The loop's clock is virtual, so a day of waiting passes in the seconds its
transactions take.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import looptime
from sqlalchemy import event

from gateway.cases.case import Case, Entry, Event
from gateway.cases.cases import Cases, NewCase
from gateway.cases.engine import Engine
from gateway.cases.minutes import Minutes, minutes
from gateway.cases.policy import Policy
from gateway.cases.ports import HookAnswer, Located
from gateway.cases.states import Kind, State
from gateway.cases.store import Done, Store, Unit, new_owner
from loadtest.case_core import AlwaysOpen, InlineWriter, make_tables
from loadtest.days.desks import Desks
from loadtest.days.draw import Drawn
from loadtest.days.scenario import HOUR, LATEST_S, Scenario


@dataclass(frozen=True, slots=True)
class Told:
    """One case of the day as its journal tells it."""

    drawn: Drawn
    minutes: Minutes
    journal: tuple[Entry, ...]
    recorded_s: float
    """What the engine itself counted when the clock stopped; the journal must tell the same."""

    @property
    def decided_by(self) -> str:
        """rule, deputy or holder; "" = nobody had to."""
        for entry in self.journal:
            if entry.kind in {Kind.APPROVED, Kind.REFUSED}:
                if entry.data.get("rule"):
                    return "rule"
                return "holder" if entry.actor == self.minutes.holder else "deputy"
        return ""


@dataclass(frozen=True, slots=True)
class DayResult:
    """What a day came to: every case in order of arrival; `lost` are cases that never ended, or of which nothing is known."""

    scenario: Scenario
    cases: tuple[Told, ...]
    lost: int

    @property
    def minutes(self) -> list[Minutes]:
        return [one.minutes for one in self.cases]


def run(scenario: Scenario, drawn: list[Drawn]) -> DayResult:
    """Run the day; real time is what the transactions take."""
    luck = random.getstate()
    random.seed(scenario.seed)  # the engine's jitter
    try:
        with (
            tempfile.TemporaryDirectory(prefix="lantai-day-") as folder,
            asyncio.Runner(
                loop_factory=lambda: looptime.new_event_loop(start=8 * HOUR, noop_cycles=1)
            ) as runner,
        ):
            return runner.run(_Day(scenario, drawn).run(Path(folder)))
    finally:
        random.setstate(luck)


class _Nobody:
    """Counts nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_more: None


class _NoHooks:
    def wants(self, _client: str) -> bool:
        return False

    async def call(self, _client: str, _message_id: str, _body: bytes) -> HookAnswer:
        return HookAnswer(410)


class _Day:
    """One run: the locator, the callers and the desks of it."""

    def __init__(self, scenario: Scenario, drawn: list[Drawn]) -> None:
        self.scenario, self.drawn = scenario, drawn
        self.by_case: dict[str, Drawn] = {}
        self._answered: set[str] = set()
        self._left = len(drawn)
        self._all_done = asyncio.Event()
        self._running: set[asyncio.Task[Any]] = set()

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def run(self, folder: Path) -> DayResult:
        scenario, hooks = self.scenario, _NoHooks()
        store = Store(
            f"sqlite:///{folder / 'day.sqlite'}",
            Policy(deputies=scenario.deputies if scenario.measures.deputy else {}),
            clock_ms=lambda: scenario.midnight_ms + round(self.now_s() * 1000),
            owner=new_owner(),
        )
        event.listen(store.engine, "connect", _for_a_moment)
        make_tables(store)
        # nobody but the engine orders anything here: between two things due it may sleep a whole night
        self.engine = Engine(
            store, InlineWriter(store), self, self, hooks, _Nobody(), read=_inline, longest_nap_s=24 * HOUR
        )
        self.cases = Cases(store, self.engine, hooks, AlwaysOpen())
        inform = self.engine.on_change

        def changed(case_id: str, done: Done) -> None:
            inform(case_id, done)
            self._caller(case_id, done)

        self.engine.on_change = changed
        self.desks = Desks(scenario, self)
        serving = asyncio.create_task(self.engine.run(), name="engine")
        self.spawn(self._arrive())
        self.spawn(self.desks.lines())
        try:
            async with asyncio.timeout(LATEST_S):
                await self._all_done.wait()
        except TimeoutError:
            pass  # what has not ended is counted as lost
        finally:
            for task in (serving, *self._running):
                task.cancel()
            await asyncio.gather(serving, *self._running, return_exceptions=True)
            await self.desks.close()
        result = self._result(store)
        store.close()
        return result

    def _result(self, store: Store) -> DayResult:
        def service_ms(_archive: str, first: int, last: int) -> int:
            return round(self.scenario.service_hours.service_seconds(first, last) * 1000)

        told = []
        for case_id, one in sorted(self.by_case.items(), key=lambda pair: pair[1].number):
            journal, case = tuple(store.journal(case_id)), store.case(case_id)
            counted = minutes(journal, store.now_ms(), service_ms)
            if counted is not None and case is not None:
                told.append(Told(one, counted, journal, case.counted_ms(case.stopped_ms) / 1000))
        ended = sum(one.minutes.stopped_ms is not None for one in told)
        return DayResult(self.scenario, tuple(told), len(self.drawn) - ended)

    # callers ---------------------------------------------------------------------------------------------------

    async def _arrive(self) -> None:
        for one in self.drawn:
            await asyncio.sleep(max(0.0, one.arrives_s - self.now_s()))
            self.spawn(self._ask(one))

    async def _ask(self, one: Drawn) -> None:
        request = {
            "category": one.category,
            "purpose": f"day {one.number}",
            "applicant": {"relation": one.relation},
            "subject": {"name": "某某"},
        }
        await self.cases.accept(
            NewCase("window", f"day-{one.number}", str(one.number), request, window=one.window)
        )

    def _caller(self, case_id: str, done: Done) -> None:
        """What the window does when its case changes: choose, bring evidence, take the answer."""
        one = self._drawn_of(case_id, done)
        for entry in done.entries:
            if entry.kind is Kind.LOCATED and entry.state is State.AWAITING_SELECTION:
                if self._once(case_id, "select"):
                    chosen = Event(Kind.SELECTED, "caller", {"ref": _ref(one)})
                    self.spawn(self._later(case_id, one.select_s, chosen))
            elif entry.kind is Kind.EVIDENCE_WANTED:
                given = Event(Kind.EVIDENCE_GIVEN, "caller", {"items": ["kinship"], "evidence": []})
                self.spawn(self._later(case_id, one.evidence_s, given))
            elif entry.kind is Kind.DELIVERED:
                self._left -= 1
                if not self._left:
                    self._all_done.set()
            elif entry.state in _ANSWERED and self._once(case_id, "deliver"):
                taken = Event(Kind.DELIVERED, "gateway", {"by": "caller"})
                self.spawn(self._later(case_id, one.deliver_s, taken))

    def _drawn_of(self, case_id: str, done: Done) -> Drawn:
        if case_id not in self.by_case:
            self.by_case[case_id] = self.drawn[int(done.case.request["purpose"].removeprefix("day "))]
        return self.by_case[case_id]

    def _once(self, case_id: str, what: str) -> bool:
        key = f"{case_id} {what}"
        is_first = key not in self._answered
        self._answered.add(key)
        return is_first

    async def _later(self, case_id: str, seconds: float, happens: Event) -> None:
        await asyncio.sleep(seconds)
        await self.engine.happen(Unit(case_id, happens))

    # ports of the engine ---------------------------------------------------------------------------------------

    async def locate(self, case: Case, archives: list[str]) -> Located:
        """Ask the archives of the question's scope; those without a line do not answer."""
        one = self.by_case[case.id]
        await asyncio.sleep(one.locate_s)
        asked = archives or one.scope
        out = {code for code in asked if self.desks.is_out(code)}
        outcomes = {code: "unreachable" if code in out else "empty" for code in asked}
        gaps = [{"archive": code, "outcome": "unreachable", "reason": ""} for code in sorted(out)]
        if not one.held or one.holder in out or one.holder not in asked:
            return Located(outcomes, [], gaps)
        outcomes[one.holder] = "hit"
        found = {"ref": _ref(one), "archive": one.holder, "score": 30.0, "decision": "likely"}
        rivals = [] if one.is_single else [{**found, "ref": f"{_ref(one)}b", "score": 28.0}]
        return Located(outcomes, [found, *rivals], gaps)

    def send(self, archive: str, mail_id: bytes, case_id: str, body: bytes) -> bool:
        return self.desks.send(archive, mail_id, case_id, body)


_ANSWERED = frozenset({State.ISSUED, State.REFUSED, State.NO_RECORD, State.EXPIRED})


def _ref(one: Drawn) -> str:
    return f"{one.holder}.{one.number}"


def _for_a_moment(connection: Any, _record: Any) -> None:
    """Nothing outlives the run: waiting for the disk would only make the day slow."""
    connection.execute("PRAGMA synchronous=OFF")


async def _inline(work: Callable[[], Any]) -> Any:
    return work()
