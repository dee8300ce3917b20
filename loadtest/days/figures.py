"""What a day came to, in numbers: means and percentiles in city and across, clocks side by side, stages, who decided."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.cases.policy import TARGET_CROSS_CITY_S, TARGET_IN_CITY_S
from gateway.cases.scorecard import percentile
from loadtest.days.engine_day import DayResult, Told
from loadtest.days.model import Modelled

STAGES = ("locate", "select", "pick_up", "review", "issue", "deliver")


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds over some cases, none left out; shares from 0 to 1."""

    cases: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    within_900: float

    @classmethod
    def of(cls, counted: Sequence[float]) -> Figures:
        ordered = sorted(counted)
        if not ordered:
            return cls(0, *[math.nan] * 6)

        within = sum(one <= TARGET_CROSS_CITY_S for one in ordered) / len(ordered)
        p50, p90, p95, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.95, 0.99))
        return cls(len(ordered), sum(ordered) / len(ordered), p50, p90, p95, p99, within)


@dataclass(frozen=True, slots=True)
class DayFigures:
    """One day. `in_city` and `cross_city` divide all cases by the target their clock had; `cross_city_held` are those of
    the second that a holder had to answer.
    """

    load: int
    lost: int
    everyone: Figures
    in_city: Figures
    cross_city: Figures
    cross_city_held: Figures
    wall: Figures
    """With the pauses, nights and noons."""
    wall_in_hours: Figures
    """The same, of the cases begun in service hours."""
    service: Figures
    """Only time inside the holder's service hours, without pauses; of cases that have a holder."""
    met: float
    """Share of cases within their own target."""
    paused_cases: int
    paused_share: float
    """Share of all wall time that the clocks stood still for an applicant."""
    stages: dict[str, float]
    """Share of the counted time in each stage."""
    deciders: dict[str, Figures]
    """By the holder, its deputy, the release rule, or nobody."""
    outcomes: dict[str, int]

    @property
    def measured(self) -> dict[str, float]:
        """What targets are held against."""
        return {
            "in_city_mean_s": self.in_city.mean,
            "cross_city_mean_s": self.cross_city.mean,
            "cross_city_held_mean_s": self.cross_city_held.mean,
            "share_within_900_s": self.everyone.within_900,
        }


def of_day(result: DayResult, load: int) -> DayFigures:
    """The figures of a run."""
    cases = result.cases
    near = [one for one in cases if one.minutes.target_s == TARGET_IN_CITY_S]
    far = [one for one in cases if one.minutes.target_s != TARGET_IN_CITY_S]
    is_open = result.scenario.service_hours.is_open
    wall = sum(one.minutes.wall_s for one in cases) or 1.0
    counted = sum(one.minutes.counted_s for one in cases) or 1.0
    return DayFigures(
        load=load,
        lost=result.lost,
        everyone=_counted(cases),
        in_city=_counted(near),
        cross_city=_counted(far),
        cross_city_held=_counted([one for one in far if one.minutes.holder]),
        wall=Figures.of([one.minutes.wall_s for one in cases]),
        wall_in_hours=Figures.of([one.minutes.wall_s for one in cases if is_open(one.minutes.started_ms)]),
        service=Figures.of([
            one.minutes.service_s for one in cases if one.minutes.service_s is not None
        ]),
        met=sum(one.minutes.is_met for one in cases) / max(1, len(cases)),
        paused_cases=sum(one.minutes.paused_s > 0 for one in cases),
        paused_share=sum(one.minutes.paused_s for one in cases) / wall,
        stages={
            stage: sum(one.minutes.stages.get(stage, 0.0) for one in cases) / counted for stage in STAGES
        },
        deciders={
            who: _counted([one for one in cases if one.decided_by == who])
            for who in ("holder", "deputy", "rule", "")
        },
        outcomes=dict(Counter(one.minutes.outcome for one in cases)),
    )  # fmt: skip


def _counted(cases: Sequence[Told]) -> Figures:
    return Figures.of([one.minutes.counted_s for one in cases])


def model_figures(modelled: Sequence[Modelled]) -> tuple[Figures, Figures, Figures]:
    """Everyone, in city, cross-city of the plain model; a case that never ended makes them infinite."""
    counted = [(one.scope, math.inf if one.counted_s is None else one.counted_s) for one in modelled]
    near = [seconds for scope, seconds in counted if scope == "in_city"]
    far = [seconds for scope, seconds in counted if scope != "in_city"]
    return Figures.of([seconds for _scope, seconds in counted]), Figures.of(near), Figures.of(far)


def difference(day: DayFigures, modelled: Sequence[Modelled]) -> float:
    """The largest relative difference of the engine's means from the plain model's: of all, in city, cross-city. Cases
    that only one of them knows make it 1.
    """
    worst = 0.0
    for ours, theirs in zip(
        (day.everyone, day.in_city, day.cross_city), model_figures(modelled), strict=True
    ):
        if ours.cases != theirs.cases:
            return 1.0
        if ours.cases:
            worst = max(worst, abs(ours.mean / theirs.mean - 1))
    return worst
