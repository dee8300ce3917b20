"""The same day as a plain discrete-event model: queues and people without engine, store or messages.

It shares nothing with the engine but the drawn inputs. The published rules (targets, budgets, when a deputy is asked, how
often a search is repeated, what the release rule needs) are written down here again, so that both agreeing is evidence
that the engine keeps them, adds no waiting of its own and loses nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count
from typing import Any

import simpy

from loadtest.days.draw import EARLY, Drawn
from loadtest.days.scenario import HOUR, LATEST_S, Scenario

TARGET_S = {"in_city": 600, "cross_city": 900}
PICK_UP_S = {"in_city": 90, "cross_city": 180}
DEPUTY_AFTER = 0.8
"""Share of the pick-up budget after which the deputy archive is asked too."""

SEARCH_AGAIN_S, LONGEST_SEARCH_AGAIN_S = 2.0, 60.0
"""Pause before silent archives are asked again: doubling; an archive's return ends it."""

RELEASED = frozenset({
    "marriage", "remarriage_cert", "student", "recruitment", "one_child", "rural_house", "urban_house", "demolition",
    "land_contract", "forest_tenure", "zhiqing", "zhiqing_child", "hukou_move", "title_honor", "cremation",
})  # fmt: skip
"""Categories low enough for the release rule where an archive allows it all that the federation allows."""

Process = Generator[simpy.Event, Any, Any]


@dataclass(slots=True)
class _Open:
    """One case: who holds it, who has it, and when its answer was delivered."""

    drawn: Drawn
    holder: str = ""
    question: int = 0
    taken_by: str = ""
    deputy_had_it: bool = False
    is_decided: bool = False
    paused_s: float = 0.0
    done_s: float | None = None

    @property
    def scope(self) -> str:
        """Nobody's city until a holder is known."""
        return "in_city" if self.holder and self.drawn.window[:4] == self.holder[:4] else "cross_city"


class _Reviewers:
    """People who take what they have noticed, first noticed first, while on duty."""

    def __init__(self, environment: simpy.Environment, people: int, off_duty_s: Any) -> None:
        self.environment, self.off_duty_s = environment, off_duty_s
        self.waiting: list[tuple[float, int, Any]] = []
        self.order = count()
        self.news = environment.event()
        for _ in range(people):
            environment.process(self._work())

    def offer(self, noticed_s: float, work: Any) -> None:
        heapq.heappush(self.waiting, (noticed_s, next(self.order), work))
        self.news.succeed()
        self.news = self.environment.event()

    def _work(self) -> Process:
        while True:
            if not self.waiting:
                yield self.news
                continue
            now = self.environment.now
            pause = max(self.waiting[0][0] - now, self.off_duty_s(now))
            if pause > 0.0005:
                yield self.environment.timeout(pause) | self.news
                continue
            yield from heapq.heappop(self.waiting)[2]()


class _Model:
    def __init__(self, scenario: Scenario, drawn: list[Drawn]) -> None:
        self.scenario = scenario
        self.environment = environment = simpy.Environment(initial_time=8 * HOUR)
        self.deputy_of = scenario.deputies if scenario.measures.deputy else {}
        self.reviewers = {
            code: _Reviewers(environment, scenario.reviewers, scenario.next_duty_s) for code in scenario.codes
        }
        self.deputies = {
            city: _Reviewers(
                environment, scenario.deputies_per_city, lambda now: scenario.next_duty_s(now, noon=True)
            )
            for city in sorted({scenario.city_of(code) for code in scenario.codes})
        }
        self.cases = [_Open(one) for one in drawn]
        for case in self.cases:
            environment.process(self._life(case))

    # a case ----------------------------------------------------------------------------------------------------

    def _life(self, case: _Open) -> Process:
        one, environment = case.drawn, self.environment
        yield environment.timeout(one.arrives_s - environment.now)
        is_found = yield from self._locate(case)
        if is_found:
            if not one.is_single:
                yield environment.timeout(one.select_s)
            yield from self._dispatch(case, one.holder)
        else:
            yield from self._deliver(case)

    def _locate(self, case: _Open) -> Process:
        """Ask until the holder has answered, or everyone; give up at the target, which is the cross-city one."""
        one, environment = case.drawn, self.environment
        ends_s = one.arrives_s + TARGET_S["cross_city"]
        silent, pause = list(one.scope), SEARCH_AGAIN_S
        while True:
            yield environment.timeout(min(one.locate_s, max(0.0, ends_s - environment.now)))
            if environment.now >= ends_s:
                return False
            asked, silent = silent, [code for code in silent if self._back_s(code) > environment.now]
            if one.held and one.holder in asked and one.holder not in silent:
                return True
            if not silent:
                return False
            back_s = min(end for end in self._ends if end > environment.now)
            again_s = min(environment.now + pause, back_s)
            pause = min(LONGEST_SEARCH_AGAIN_S, pause * 2)
            yield environment.timeout(min(again_s, ends_s) - environment.now)
            if environment.now >= ends_s:
                return False

    @property
    def _ends(self) -> list[float]:
        return [*(one.until_s for one in self.scenario.all_outages), math.inf]

    def _back_s(self, code: str) -> float:
        return self.scenario.back_s(code, self.environment.now)

    def _dispatch(self, case: _Open, holder: str) -> Process:
        one, environment = case.drawn, self.environment
        case.holder, case.taken_by, case.deputy_had_it = holder, "", False
        case.question += 1
        question = case.question
        environment.process(self._at_holder(case, holder, question))
        deputy = self.deputy_of.get(holder, "")
        if not deputy or (question > 1 and deputy == one.holder):
            return
        yield environment.timeout(PICK_UP_S[case.scope] * DEPUTY_AFTER)
        if case.question == question and not case.taken_by and not case.is_decided:
            yield environment.timeout(self._back_s(deputy) - environment.now)
            self.deputies[self.scenario.city_of(deputy)].offer(
                environment.now + one.deputy_notice_s, lambda: self._review(case, deputy, question)
            )

    def _at_holder(self, case: _Open, holder: str, question: int) -> Process:
        one, environment = case.drawn, self.environment
        yield environment.timeout(self._back_s(holder) - environment.now)
        if case.question == question and not case.is_decided and self._is_released(case, holder):
            yield from self._decided(case, holder, environment.now)
            return
        self.reviewers[holder].offer(
            self._noticed(one.notice_s), lambda: self._review(case, holder, question)
        )

    def _is_released(self, case: _Open, holder: str) -> bool:
        one = case.drawn
        return (
            self.scenario.measures.auto_release
            and holder == one.holder
            and one.relation == "SELF"
            and one.category in RELEASED
            and one.is_id_exact and one.is_name_exact and one.is_single and one.is_digitised
        )  # fmt: skip

    def _noticed(self, notice_s: float) -> float:
        now = self.environment.now
        ready = now + self.scenario.next_duty_s(now)
        if self.scenario.measures.push:
            return ready + notice_s
        return math.ceil(ready / self.scenario.glance_s) * self.scenario.glance_s

    # people ----------------------------------------------------------------------------------------------------

    def _review(self, case: _Open, desk: str, question: int) -> Process:
        if case.question != question or case.taken_by or case.is_decided:
            return
        is_deputy = desk != case.holder
        if is_deputy and case.deputy_had_it:
            return
        one, environment = case.drawn, self.environment
        is_cut_off = self._back_s(desk) > environment.now
        if not is_cut_off:  # else nobody hears of it until it is decided
            case.taken_by = desk
        if is_deputy:
            case.deputy_had_it = True
        end = one.end if question == 1 else "approved"
        if end in {"referred", "evidence"}:
            yield environment.timeout(one.review_s * EARLY)
        else:
            yield environment.timeout(one.review_s)
        environment.process(self._said(case, desk, question, end))

    def _said(self, case: _Open, desk: str, question: int, end: str) -> Process:
        """What a reviewer said has effect when the desk has a line, unless another desk was quicker."""
        one, environment, said_s = case.drawn, self.environment, self.environment.now
        yield environment.timeout(self._back_s(desk) - environment.now)
        if case.question != question or case.is_decided:
            return
        if end == "referred" and desk != case.holder:
            case.taken_by = ""
            environment.process(self._at_holder(case, case.holder, question))
        elif end == "referred":
            environment.process(self._dispatch(case, one.other))
        elif end == "evidence":
            case.taken_by = desk
            yield environment.timeout(one.evidence_s)
            case.paused_s += one.evidence_s
            self._reviewers_of(case, desk).offer(environment.now, lambda: self._finish(case, desk))
        elif end == "refused":
            case.is_decided = True
            yield from self._deliver(case)
        else:
            yield from self._decided(case, desk, said_s)

    def _reviewers_of(self, case: _Open, desk: str) -> _Reviewers:
        return self.reviewers[desk] if desk == case.holder else self.deputies[self.scenario.city_of(desk)]

    def _finish(self, case: _Open, desk: str) -> Process:
        yield self.environment.timeout(case.drawn.review_s * (1 - EARLY))
        self.environment.process(self._decided(case, desk, self.environment.now))

    def _decided(self, case: _Open, desk: str, said_s: float) -> Process:
        """The holder issues; a deputy's decision has to reach it first, and its document the window."""
        environment = self.environment
        case.is_decided = True
        if desk == case.holder:
            issued_s = max(environment.now, said_s + self.scenario.issue_s)
        else:
            yield environment.timeout(self._back_s(desk) - environment.now)
            yield environment.timeout(self._back_s(case.holder) - environment.now)
            issued_s = environment.now + self.scenario.issue_s
        yield environment.timeout(issued_s - environment.now)
        yield environment.timeout(self._back_s(case.holder) - environment.now)
        yield from self._deliver(case)

    def _deliver(self, case: _Open) -> Process:
        yield self.environment.timeout(case.drawn.deliver_s)
        case.done_s = self.environment.now


@dataclass(frozen=True, slots=True)
class Modelled:
    """One case of the model. `counted_s` leaves pauses out, as the clock does; None = it never ended."""

    scope: str
    counted_s: float | None


def run(scenario: Scenario, drawn: list[Drawn]) -> list[Modelled]:
    """Every case, in order of arrival."""
    model = _Model(scenario, drawn)
    model.environment.run(until=LATEST_S)
    return [
        Modelled(
            case.scope,
            None if case.done_s is None else case.done_s - case.drawn.arrives_s - case.paused_s,
        )
        for case in model.cases
    ]
