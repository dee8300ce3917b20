"""The archives of a simulated day: each one's desk with what it knows of its cases, its line, and its reviewers.

A desk knows only what the gateway told it. While its line is down nothing reaches it, and what it says waits and is sent
when the line is back. Whether a case is released without a person is asked of the node agent's own rule.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from federation import mail
from federation.levels import DateLevel, IdLevel, Levels, NameLevel
from federation.mail import FromDesk, mail_id, read_to_desk, write
from gateway.cases.cases import Cases
from gateway.cases.engine import Engine
from loadtest.days.draw import EARLY, Drawn
from loadtest.days.pool import Pool
from loadtest.days.scenario import Scenario
from node_agent.desk.records import Holding
from node_agent.desk.rules import ReleaseRule


class Day(Protocol):
    """What desks need of the day they belong to."""

    engine: Engine
    cases: Cases
    by_case: dict[str, Drawn]

    def now_s(self) -> float: ...
    def spawn(self, work: Any) -> None: ...


@dataclass(slots=True)
class _Item:
    """One question at one desk."""

    group: int
    by_deputy: bool
    is_open: bool = True
    has_seen: bool = False
    """A reviewer here has had it."""
    is_lost: bool = False
    """Another desk has it, or nobody asks any more: what a reviewer here still does leads to nothing."""


@dataclass(slots=True)
class _Archive:
    code: str
    pool: Pool
    items: dict[str, _Item] = field(default_factory=dict)
    outbox: list[Callable[[], None]] = field(default_factory=list)
    released: int = 0


class Desks:
    """All desks of the day; the `Desks` port of the engine."""

    def __init__(self, scenario: Scenario, day: Day) -> None:
        self.scenario, self.day = scenario, day
        self.rule = ReleaseRule(
            enabled=scenario.measures.auto_release, sensitivity=scenario.release_sensitivity
        )
        self.archives = {
            code: _Archive(code, Pool(scenario.reviewers, scenario.next_duty_s, day.now_s))
            for code in scenario.codes
        }
        self.deputies = {
            city: Pool(
                scenario.deputies_per_city, lambda now: scenario.next_duty_s(now, noon=True), day.now_s
            )
            for city in sorted({scenario.city_of(code) for code in scenario.codes})
        }
        self._told: set[bytes] = set()

    def is_out(self, code: str) -> bool:
        now = self.day.now_s()
        return self.scenario.back_s(code, now) > now

    async def lines(self) -> None:
        """Bring archives back when their outages end: their session opens and their outbox is sent."""
        for outage in sorted(self.scenario.all_outages, key=lambda one: one.until_s):
            await asyncio.sleep(max(0.0, outage.until_s - self.day.now_s()))
            archive = self.archives[outage.archive]
            if self.is_out(outage.archive):
                continue  # the next outage has begun
            waiting, archive.outbox = archive.outbox, []
            for send in waiting:
                send()
            self.day.engine.archive_returned(outage.archive)

    async def close(self) -> None:
        for pool in (*(archive.pool for archive in self.archives.values()), *self.deputies.values()):
            await pool.close()

    # from the gateway ------------------------------------------------------------------------------------------

    def send(self, archive: str, name: bytes, case_id: str, body: bytes) -> bool:
        if self.is_out(archive):
            return False
        self.day.engine.receipted(archive, name, "")
        if name not in self._told:
            self._told.add(name)
            self._hear(self.archives[archive], case_id, read_to_desk(body))
        return True

    def _hear(self, at: _Archive, case_id: str, message: mail.ToDesk) -> None:
        item = at.items.get(case_id)
        match message:
            case mail.Dispatch():
                self._dispatched(at, case_id, message)
            case mail.Taken() | mail.Withdrawn():
                if item is not None and item.group == message.group:
                    item.is_open, item.is_lost = False, True
            case mail.Evidence():
                # the reviewer goes on with it as soon as free
                self._reviewers(at, item).offer(self.day.now_s(), lambda: self._finish(at, case_id))
            case mail.Issue():
                self.day.spawn(self._issue(at, case_id, message.group))

    def _dispatched(self, at: _Archive, case_id: str, message: mail.Dispatch) -> None:
        one, now = self.day.by_case[case_id], self.day.now_s()
        item = at.items.get(case_id)
        if item is None or item.group != message.group:
            item = at.items[case_id] = _Item(message.group, bool(message.on_behalf_of))
        item.is_open, item.is_lost = not item.has_seen, False
        self._say(at, case_id, mail.Received(group=item.group))
        holding = _holding(one) if at.code == one.holder else None
        if self.rule.judge(message, holding, at.released).released:
            at.released += 1
            self._decide(at, case_id, item, mail.Approved(_number(at, one), rule="day/1", group=item.group))
            return
        noticed_s = now + one.deputy_notice_s if item.by_deputy else noticed(self.scenario, now, one.notice_s)
        self._reviewers(at, item).offer(noticed_s, lambda: self._review(at, case_id, item))

    def _reviewers(self, at: _Archive, item: _Item | None) -> Pool:
        by_deputy = item is not None and item.by_deputy
        return self.deputies[self.scenario.city_of(at.code)] if by_deputy else at.pool

    # people ----------------------------------------------------------------------------------------------------

    async def _review(self, at: _Archive, case_id: str, item: _Item) -> None:
        """What a reviewer does with a case: nothing when it is no longer open here."""
        if not item.is_open or at.items[case_id] is not item:
            return
        one, group = self.day.by_case[case_id], item.group
        item.is_open, item.has_seen = False, True
        self._say(at, case_id, mail.Claimed(group=group))
        end = one.end if group == 1 else "approved"  # an archive it was referred to holds it
        await asyncio.sleep(one.review_s * (EARLY if end in {"referred", "evidence"} else 1))
        if item.is_lost:
            return
        match end:
            case "evidence":
                self._say(at, case_id, mail.EvidenceWanted(("kinship",), group=group))
            case "referred" if item.by_deputy:  # only the holder may refer: back to it
                self._say(at, case_id, mail.Released(group=group))
            case "referred":
                self._say(at, case_id, mail.Referred(one.other, group=group))
            case "refused":
                self._say(at, case_id, mail.Refused("not_entitled", group=group))
            case _:
                self._decide(at, case_id, item, mail.Approved(_number(at, one), group=group))

    async def _finish(self, at: _Archive, case_id: str) -> None:
        """The rest of a review, when the evidence has come."""
        one = self.day.by_case[case_id]
        await asyncio.sleep(one.review_s * (1 - EARLY))
        item = at.items[case_id]
        self._decide(at, case_id, item, mail.Approved(_number(at, one), group=item.group))

    def _decide(self, at: _Archive, case_id: str, item: _Item, message: mail.Approved) -> None:
        item.is_open, item.has_seen = False, True
        self._say(at, case_id, message)
        if not item.by_deputy:  # else the holder issues when it is told
            self.day.spawn(self._issue(at, case_id, item.group))

    async def _issue(self, at: _Archive, case_id: str, group: int) -> None:
        await asyncio.sleep(self.scenario.issue_s)
        self._say(at, case_id, mail.Issued(_number(at, self.day.by_case[case_id]), group=group))

    # to the gateway --------------------------------------------------------------------------------------------

    def _say(self, at: _Archive, case_id: str, message: FromDesk) -> None:
        """Send it, or keep it until the line is back."""
        name = mail_id(f"{at.code}:{case_id}:{type(message).__name__}:{message.group}")

        def send() -> None:
            self.day.cases.desk_said(at.code, name, case_id, write(message), lambda _reason: None)

        if self.is_out(at.code):
            at.outbox.append(send)
        else:
            send()


def noticed(scenario: Scenario, now_s: float, notice_s: float) -> float:
    """When the holder's reviewer notices what came at `now_s`: a while after the push, or at the next look at the list."""
    ready = now_s + scenario.next_duty_s(now_s)
    if scenario.measures.push:
        return ready + notice_s
    return math.ceil(ready / scenario.glance_s) * scenario.glance_s


def _holding(one: Drawn) -> Holding:
    """The record as the holder's index has it, compared with what was asked."""
    return Holding(
        archival_code=f"J001-002-{one.number:04d}",
        category=one.category,
        digitised=one.is_digitised,
        hits=1 if one.is_single else 2,
        levels=Levels(
            name=NameLevel.EXACT if one.is_name_exact else NameLevel.HOMOPHONE,
            id_number=IdLevel.EQUAL if one.is_id_exact else IdLevel.NOT_COMPARED,
            event=DateLevel.YEAR,
        ),
        dates_meet=True,
    )


def _number(at: _Archive, one: Drawn) -> str:
    return f"{at.code}-{one.number}"
