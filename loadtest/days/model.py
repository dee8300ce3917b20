"""The same day as a plain discrete-event model: queues and people without engine, store or messages.

It shares nothing with the engine but the drawn inputs and the published rules (budgets, the share at which a deputy is
asked), so that both agreeing is evidence that the engine adds no waiting of its own and loses nothing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import simpy

from gateway.cases.policy import CROSS_CITY, IN_CITY, LADDERS
from gateway.cases.states import Stage
from loadtest.days.scenario import HOUR, Drawn, Scenario

_EARLY = 0.3  # of a review: when missing evidence or another holder shows
_DEPUTY_SHARE = next(rung.share for rung in LADDERS[Stage.PICK_UP] if rung.action == "deputy")

Process = Generator[simpy.Event, Any, Any]


@dataclass(slots=True)
class _Open:
    """One case in the model: whether somebody has it, and when its answer was delivered."""

    drawn: Drawn
    is_taken: bool = False
    paused_s: float = 0.0
    done_s: float | None = None
    target_s: int = 0
    stages: dict[str, float] = field(default_factory=dict)


class _Reviewers:
    """People who take what they have noticed, first noticed first, while on duty."""

    def __init__(self, environment: simpy.Environment, people: int, duty: Scenario) -> None:
        self.environment, self.duty = environment, duty
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
            pause = max(self.waiting[0][0] - now, self.duty.next_duty_s(now))
            if pause > 1e-9:
                yield self.environment.timeout(pause) | self.news
                continue
            yield from heapq.heappop(self.waiting)[2]()


class _Model:
    def __init__(self, scenario: Scenario, drawn: list[Drawn]) -> None:
        self.scenario = scenario
        self.environment = simpy.Environment(initial_time=8 * HOUR)
        self.deputy_of = scenario.deputies() if scenario.measures.deputy else {}
        always = replace(scenario, measures=replace(scenario.measures, noon_rota=True))
        self.reviewers = {
            code: _Reviewers(self.environment, scenario.reviewers, scenario) for code in scenario.codes
        }
        self.deputies = {
            city: _Reviewers(self.environment, scenario.deputies_per_city, always)
            for city in {scenario.city_of(code) for code in scenario.codes}
        }
        self.cases = [_Open(one) for one in drawn]
        for case in self.cases:
            self.environment.process(self._life(case))

    def _life(self, case: _Open) -> Process:
        one, environment = case.drawn, self.environment
        yield environment.timeout(one.arrives_s - environment.now)
        case.target_s = self._budgets(case, one.holder).target
        yield environment.timeout(one.locate_s)
        if not one.held:
            yield from self._deliver(case)
            return
        if one.select_s:
            yield environment.timeout(one.select_s)
        if one.is_auto:
            yield from self._deliver(case)
            return
        yield from self._dispatch(case, one.holder, is_first=True)

    def _budgets(self, case: _Open, holder: str) -> Any:
        return IN_CITY if case.drawn.window[:4] == holder[:4] else CROSS_CITY

    def _dispatch(self, case: _Open, holder: str, *, is_first: bool) -> Process:
        one, now = case.drawn, self.environment.now
        case.is_taken = False
        self.reviewers[holder].offer(
            self._noticed(now, one.notice_s), lambda: self._review(case, holder, is_first=is_first)
        )
        if deputy := self.deputy_of.get(holder):
            yield self.environment.timeout(self._budgets(case, holder).pick_up * _DEPUTY_SHARE)
            if not case.is_taken:
                self.deputies[self.scenario.city_of(deputy)].offer(
                    self.environment.now + one.deputy_notice_s,
                    lambda: self._review(case, holder, is_first=False),
                )

    def _noticed(self, now: float, notice_s: float) -> float:
        ready = now + self.scenario.next_duty_s(now)
        if self.scenario.measures.push:
            return ready + notice_s
        return math.ceil(ready / self.scenario.glance_s) * self.scenario.glance_s

    def _review(self, case: _Open, holder: str, *, is_first: bool) -> Process:
        if case.is_taken:
            return
        case.is_taken = True
        one, environment = case.drawn, self.environment
        end = one.end if is_first else "approved"
        if end == "referred":
            yield environment.timeout(one.review_s * _EARLY)
            case.target_s = self._budgets(case, one.other).target
            environment.process(self._dispatch(case, one.other, is_first=False))
            return
        if end == "evidence":
            yield environment.timeout(one.review_s * _EARLY)
            environment.process(self._evidence(case, holder))
            return
        yield environment.timeout(one.review_s)
        environment.process(self._deliver(case))

    def _evidence(self, case: _Open, holder: str) -> Process:
        yield self.environment.timeout(case.drawn.evidence_s)
        case.paused_s += case.drawn.evidence_s

        def finish() -> Process:
            yield self.environment.timeout(case.drawn.review_s * (1 - _EARLY))
            self.environment.process(self._deliver(case))

        self.reviewers[holder].offer(self.environment.now, finish)

    def _deliver(self, case: _Open) -> Process:
        yield self.environment.timeout(case.drawn.deliver_s)
        case.done_s = self.environment.now


def run(scenario: Scenario, drawn: list[Drawn]) -> list[tuple[int, float]]:
    """(target in seconds, counted seconds) of every case, in order of arrival; pauses left out, as the clock does.

    Outages are the engine's business: the model knows none.
    """
    model = _Model(scenario, drawn)
    model.environment.run(until=3 * 24 * HOUR)
    return [
        (case.target_s, case.done_s - case.drawn.arrives_s - case.paused_s)
        for case in model.cases
        if case.done_s is not None
    ]
