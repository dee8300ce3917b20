"""What a day came to under each load, held against what its plan demands; both reports, lines and page, show this."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.days.figures import DayFigures, Figures

TARGET, AIM = "承诺 promise", "志在 aim"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One demand: TARGET or AIM, what was measured, what was wanted."""

    kind: str
    name: str
    measured: float
    wanted: float
    is_met: bool


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything about one load of a plan."""

    day: DayFigures
    verdicts: list[Verdict]
    model_mean: float
    model_difference: float
    measures: list[tuple[str, Figures]]
    what_ifs: list[tuple[str, Figures]]
    by_engine: bool
    real_s: float


def is_passed(loads: list[Loaded]) -> bool:
    """Whether every target was met; an aim that is missed is said, and fails nothing."""
    return all(verdict.is_met for one in loads for verdict in one.verdicts if verdict.kind == TARGET)


DECIDERS = {"holder": "保管馆 holder", "deputy": "代理馆 deputy", "rule": "规则 rule", "": "无须 nobody"}


def rows(day: DayFigures) -> list[tuple[str, Figures]]:
    """The lines of the main table, in order."""
    return [
        ("同城 in city", day.in_city),
        ("跨城 cross-city", day.cross_city),
        ("跨城、有保管馆 cross-city, held", day.cross_city_held),
        ("全部 all", day.everyone),
        ("全部、挂钟 all, wall clock", day.wall),
        ("服务时间内受理、挂钟 begun in hours, wall", day.wall_in_hours),
        ("有保管馆、服务时间 held, service time", day.service),
    ]
