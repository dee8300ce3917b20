"""A day through the real case engine: its store, its clock rules and its messages, with simulated archives and callers.

Only time and people are simulated. The loop's clock is virtual, so a day of waiting passes in the seconds its
transactions take.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import looptime

from federation import mail
from federation.mail import FromDesk, mail_id, read_to_desk, write
from gateway.cases.case import Case, Event
from gateway.cases.cases import Cases, new_case_id
from gateway.cases.engine import Engine
from gateway.cases.minutes import Minutes, minutes
from gateway.cases.policy import Policy
from gateway.cases.ports import AlwaysOpen, HookAnswer, Located
from gateway.cases.states import ENDED, Kind, State
from gateway.cases.store import Done, Store, Unit, new_owner
from gateway.cases.writer import InlineWriter
from loadtest.days.pool import Pool
from loadtest.days.scenario import HOUR, Drawn, Scenario

MIDNIGHT_MS = 1_772_380_800_000  # 2026-03-02 00:00 in Shanghai, a Monday
_LONGEST_S = 3 * 24 * HOUR


@dataclass(frozen=True, slots=True)
class DayResult:
    """What a day came to. `minutes` are of every case of the day, in order of arrival; `lost` are cases without an end."""

    scenario: Scenario
    minutes: tuple[Minutes, ...]
    lost: int


def run(scenario: Scenario, cases: list[Drawn]) -> DayResult:
    """Run the day; real time is what the transactions take."""
    with (
        tempfile.TemporaryDirectory(prefix="lantai-day-") as folder,
        asyncio.Runner(loop_factory=lambda: looptime.new_event_loop(start=8 * HOUR)) as runner,
    ):
        return runner.run(_Day(scenario, cases, Path(folder)).run())


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
    """One run: the locator, the desks and the callers of it."""

    def __init__(self, scenario: Scenario, drawn: list[Drawn], folder: Path) -> None:
        self.scenario, self.drawn, self.folder = scenario, drawn, folder
        self.by_case: dict[str, Drawn] = {}
        self.told: set[bytes] = set()
        self.left = len(drawn)
        self.all_done = asyncio.Event()
        self.running: set[asyncio.Task[None]] = set()

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def run(self) -> DayResult:
        scenario = self.scenario
        policy = Policy(deputies=scenario.deputies() if scenario.measures.deputy else {})
        store = Store(
            f"sqlite:///{self.folder / 'day.sqlite'}",
            policy,
            clock_ms=lambda: MIDNIGHT_MS + int(self.now_s() * 1000),
            owner=new_owner(),
        )
        store.create()
        writer = InlineWriter(store)
        hooks = _NoHooks()
        self.engine = Engine(store, writer, self, self, hooks, _Nobody(), read=_inline)
        self.cases = Cases(store, self.engine, hooks, AlwaysOpen())
        inform = self.engine.on_change

        def on_change(case_id: str, done: Done) -> None:
            inform(case_id, done)
            self._caller(case_id, done)

        self.engine.on_change = on_change
        self.pools = {
            code: Pool(scenario.reviewers, scenario.next_duty_s, self.now_s) for code in scenario.codes
        }
        always_noon = replace(scenario, measures=replace(scenario.measures, noon_rota=True))
        self.deputies = {
            city: Pool(scenario.deputies_per_city, always_noon.next_duty_s, self.now_s)
            for city in {scenario.city_of(code) for code in scenario.codes}
        }
        self.store = store
        serving = asyncio.create_task(self.engine.run(), name="engine")
        self._spawn(self._arrive())
        self._spawn(self._outages())
        try:
            async with asyncio.timeout(_LONGEST_S):
                await self.all_done.wait()
        except TimeoutError:
            pass
        finally:
            for task in (serving, *self.running):
                task.cancel()
            await asyncio.gather(serving, *self.running, return_exceptions=True)
            for pool in (*self.pools.values(), *self.deputies.values()):
                await pool.close()
        found = [
            minutes(store.journal(case_id), store.now_ms())
            for case_id, _one in sorted(self.by_case.items(), key=lambda one: one[1].number)
        ]
        store.close()
        whole = [one for one in found if one is not None]
        return DayResult(
            scenario, tuple(whole), len(self.drawn) - sum(one.stopped_ms is not None for one in whole)
        )

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def _arrive(self) -> None:
        for one in self.drawn:
            await asyncio.sleep(one.arrives_s - self.now_s())
            case_id = new_case_id(self.store.now_ms())
            self.by_case[case_id] = one
            case = Case(
                id=case_id, client="window", created_ms=self.store.now_ms(), request={}, window=one.window
            )
            self._spawn(self._accept(case, one))

    async def _accept(self, case: Case, one: Drawn) -> None:
        # the locator's target is known from the window before the holder is: the same city is the usual guess
        await self.engine.happen(
            Unit(
                case.id,
                Event(Kind.ACCEPTED, "caller", {"expected_holder": one.holder}),
                new=case,
                key=f"day-{one.number}",
                digest="",
            )
        )

    async def _outages(self) -> None:
        """Tell the engine when an archive is back, as its session would."""
        for outage in sorted(self.scenario.outages, key=lambda one: one.from_hour * 60 + one.minutes):
            await asyncio.sleep(outage.from_hour * HOUR + outage.minutes * 60 - self.now_s())
            self.engine.archive_returned(outage.archive)

    def _is_out(self, archive: str) -> bool:
        now = self.now_s()
        return any(
            one.archive == archive and one.from_hour * HOUR <= now < one.from_hour * HOUR + one.minutes * 60
            for one in self.scenario.outages
        )

    # Locator ---------------------------------------------------------------------------------------------------

    async def locate(self, case: Case, archives: list[str]) -> Located:
        one = self.by_case[case.id]
        await asyncio.sleep(one.locate_s)
        asked = archives or self.scenario.codes
        out = {code for code in asked if self._is_out(code)}
        outcomes = {code: "unreachable" if code in out else "empty" for code in asked}
        gaps = [{"archive": code, "outcome": "unreachable", "reason": ""} for code in sorted(out)]
        if not one.held or one.holder not in outcomes or one.holder in out:
            return Located(outcomes, [], gaps)
        outcomes[one.holder] = "hit"
        decision = "possible" if one.select_s else "likely"
        found = {
            "ref": f"{one.holder}.{one.number}", "archive": one.holder, "score": 30.0, "decision": decision
        }  # fmt: skip
        return Located(outcomes, [found], gaps)

    # Desks -----------------------------------------------------------------------------------------------------

    def send(self, archive: str, mail_id: bytes, case_id: str, body: bytes) -> bool:
        if self._is_out(archive):
            return False
        self.engine.receipted(mail_id, "")
        if mail_id not in self.told:
            self.told.add(mail_id)
            message = read_to_desk(body)
            if isinstance(message, mail.Dispatch):
                self._spawn(self._dispatched(archive, case_id, message))
            elif isinstance(message, mail.Issue):
                self._say(archive, case_id, mail.Issued(f"{archive}-{case_id}", group=message.group))
        return True

    async def _dispatched(self, archive: str, case_id: str, message: mail.Dispatch) -> None:
        one, now = self.by_case[case_id], self.now_s()
        group, by_deputy = message.group, bool(message.on_behalf_of)
        self._say(archive, case_id, mail.Received(group=group))
        if one.is_auto and not by_deputy and archive == one.holder:
            self._approve(archive, case_id, group, rule="day/1", by_deputy=False)
            return
        if by_deputy:
            pool = self.deputies[self.scenario.city_of(archive)]
            await pool.offer(
                now + one.deputy_notice_s, lambda: self._review(archive, case_id, group, by_deputy=True)
            )
            return
        await self.pools[archive].offer(
            noticed(self.scenario, now, one.notice_s),
            lambda: self._review(archive, case_id, group, by_deputy=False),
        )

    async def _review(self, archive: str, case_id: str, group: int, *, by_deputy: bool) -> None:
        """What a reviewer does with a case: nothing when somebody else has it."""
        case = self.store.case(case_id)
        if case is None or case.state is not State.DISPATCHED or case.group != group:
            return
        one = self.by_case[case_id]
        done = self._say(archive, case_id, mail.Claimed(group=group))
        await done
        case = self.store.case(case_id)
        if case is None or case.deciding != archive:
            return
        first = archive == one.holder and not by_deputy
        if first and one.end == "referred":
            await asyncio.sleep(one.review_s * EARLY)
            self._say(archive, case_id, mail.Referred(one.other, group=group))
            return
        if first and one.end == "evidence":
            await asyncio.sleep(one.review_s * EARLY)
            self._say(archive, case_id, mail.EvidenceWanted(("kinship",), group=group))
            self._spawn(self._evidence(archive, case_id, group, one))
            return
        await asyncio.sleep(one.review_s)
        if first and one.end == "refused":
            self._say(archive, case_id, mail.Refused("not_entitled", group=group))
        else:
            self._approve(archive, case_id, group, rule="", by_deputy=by_deputy)

    async def _evidence(self, archive: str, case_id: str, group: int, one: Drawn) -> None:
        """The caller brings it; the reviewer goes on with the case as soon as free."""
        await asyncio.sleep(one.evidence_s)
        await self.engine.happen(
            Unit(case_id, Event(Kind.EVIDENCE_GIVEN, "caller", {"items": ["kinship"], "evidence": []}))
        )

        async def finish() -> None:
            await asyncio.sleep(one.review_s * (1 - EARLY))
            self._approve(archive, case_id, group, rule="", by_deputy=False)

        await self.pools[archive].offer(self.now_s(), finish)

    def _approve(self, archive: str, case_id: str, group: int, *, rule: str, by_deputy: bool) -> None:
        number = f"{archive}-{self.by_case[case_id].number}"
        self._say(archive, case_id, mail.Approved(number, rule=rule, group=group))
        if not by_deputy:  # else the holder issues when it is told
            self._say(archive, case_id, mail.Issued(number, group=group))

    def _say(self, archive: str, case_id: str, message: FromDesk) -> asyncio.Future[None]:
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answer(_reason: str) -> None:
            if not answered.done():
                answered.set_result(None)

        name = mail_id(f"{archive}:{case_id}:{type(message).__name__}:{message.group}")
        self.cases.desk_said(archive, name, case_id, write(message), answer)
        return answered

    # callers ---------------------------------------------------------------------------------------------------

    def _caller(self, case_id: str, done: Done) -> None:
        """What the window does when its case changes: choose, take the answer."""
        one = self.by_case.get(case_id)
        if one is None:
            return
        for entry in done.entries:
            if entry.state is State.AWAITING_SELECTION and entry.kind is Kind.LOCATED:
                self._spawn(
                    self._later(
                        case_id,
                        one.select_s,
                        Event(Kind.SELECTED, "caller", {"ref": done.case.candidates[0].ref}),
                    )
                )
            elif entry.kind in {Kind.ISSUED, Kind.REFUSED, Kind.EXPIRED} or (
                entry.state is State.NO_RECORD and entry.kind is Kind.LOCATED
            ):
                self._spawn(
                    self._later(case_id, one.deliver_s, Event(Kind.DELIVERED, "gateway", {"by": "caller"}))
                )
            elif entry.kind is Kind.DELIVERED and entry.state in ENDED:
                self.left -= 1
                if not self.left:
                    self.all_done.set()

    async def _later(self, case_id: str, seconds: float, event: Event) -> None:
        await asyncio.sleep(seconds)
        await self.engine.happen(Unit(case_id, event))


EARLY = 0.3
"""Share of a review after which a reviewer sees that evidence is missing or that another archive holds the record."""


def noticed(scenario: Scenario, now_s: float, notice_s: float) -> float:
    """When the holder's reviewer notices what came at `now_s`: a while after the push, or at the next look at the list."""
    ready = now_s + scenario.next_duty_s(now_s)
    if scenario.measures.push:
        return ready + notice_s
    return math.ceil(ready / scenario.glance_s) * scenario.glance_s


async def _inline(work: Callable[[], Any]) -> Any:
    return work()
