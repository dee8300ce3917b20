"""Running a day's plan and saying how it came out: means and percentiles in city and across, stages, targets, measures."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.cases.minutes import Minutes
from gateway.cases.policy import TARGET_IN_CITY_S
from loadtest.days import engine_day, model
from loadtest.days.scenario import STEPS, Scenario, draw

STAGES = ("locate", "select", "pick_up", "review", "issue", "deliver")


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds over some cases, none left out."""

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
            return cls(0, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan)

        def at(share: float) -> float:
            return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

        within = sum(one <= 900 for one in ordered) / len(ordered)
        return cls(len(ordered), sum(ordered) / len(ordered), at(0.5), at(0.9), at(0.95), at(0.99), within)


def run(scenario: Scenario, out: Path, *, compare: bool = True) -> bool:
    """Run all loads of a plan, print and write the report; whether every target was met."""
    met = True
    written: list[dict[str, Any]] = []
    for load in scenario.loads:
        began = time.perf_counter()
        drawn = draw(scenario, load)
        result = engine_day.run(scenario, drawn)
        took = time.perf_counter() - began
        rows = list(result.minutes)
        near = [one for one in rows if one.target_s == TARGET_IN_CITY_S]
        far = [one for one in rows if one.target_s != TARGET_IN_CITY_S]
        print(
            f"\n每馆每日 {load} 件 cases per archive and day: {len(rows)} 件 cases,"
            f" 遗失 lost {result.lost}, {took:.1f} 秒真实时间 s of real time"
        )
        figures = {"in_city": _line("同城 in city", near), "cross_city": _line("跨城 cross city", far)}
        everything = Figures.of([one.counted_s for one in rows])
        _stages(rows)
        window = everything.mean + scenario.intake_s
        print(
            f"  含窗口受理 with {scenario.intake_s:.0f} s of intake before acceptance: 均值 mean {window / 60:.1f} 分 min"
        )
        measured = {
            "in_city_mean_s": figures["in_city"].mean,
            "cross_city_mean_s": figures["cross_city"].mean,
            "share_within_900_s": everything.within_900,
        }
        if compare:
            measured["model_difference"] = _compare(scenario, load)
        met &= _judge(measured, scenario.targets) and not result.lost
        if compare and not scenario.cities > 1:
            _measures(scenario, load)
        written.append({"load": load, "lost": result.lost, **measured})
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{scenario.name}.json"
    path.write_text(json.dumps(written, indent=1) + "\n", "utf-8")
    print(f"\n报告 report: {path}")
    return met


def _line(name: str, rows: Sequence[Minutes]) -> Figures:
    figures = Figures.of([one.counted_s for one in rows])
    minutes = [f"{getattr(figures, key) / 60:5.1f}" for key in ("mean", "p50", "p90", "p95", "p99")]
    print(
        f"  {name:<16} {figures.cases:5d} 件  均值 mean {minutes[0]}  p50 {minutes[1]}  p90 {minutes[2]}"
        f"  p95 {minutes[3]}  p99 {minutes[4]} 分 min  ≤15: {figures.within_900:.1%}"
    )
    return figures


def _stages(rows: Sequence[Minutes]) -> None:
    total = sum(one.counted_s for one in rows) or 1.0
    shares = [f"{stage} {sum(one.stages.get(stage, 0.0) for one in rows) / total:.0%}" for stage in STAGES]
    print("  各环节占时 share of each stage: " + "  ".join(shares))


def _compare(scenario: Scenario, load: int) -> float:
    """The relative difference of the engine's mean from the plain model's, on the day without outages."""
    quiet = replace(scenario, outages=())
    drawn = draw(quiet, load)
    engine = [one.counted_s for one in engine_day.run(quiet, drawn).minutes]
    plain = [counted for _target, counted in model.run(quiet, drawn)]
    ours, theirs = sum(engine) / len(engine), sum(plain) / len(plain)
    difference = abs(ours / theirs - 1)
    print(
        f"  引擎 engine {ours / 60:.2f}, 排队模型 plain model {theirs / 60:.2f} 分 min: 相差 differ {difference:.2%}"
    )
    return difference if len(engine) == len(plain) else 1.0


def _judge(measured: dict[str, float], targets: dict[str, float]) -> bool:
    met = True
    for key, wanted in targets.items():
        got = measured.get(key)
        if got is None:
            continue
        held = got >= wanted if key == "share_within_900_s" else got <= wanted
        met &= held
        print(f"  {'达到 met   ' if held else '未达 missed'}  {key:<20} {got:9.3f}  (目标 target {wanted:g})")
    return met


def _measures(scenario: Scenario, load: int) -> None:
    """What each measure contributes: the same day, one measure more each time."""
    print("  措施逐项 measures, one more each time:        均值 mean   p95   ≤15 分 min")
    for name, measures in STEPS:
        if measures.auto_release:
            measures = replace(measures, auto_release=scenario.measures.auto_release)  # noqa: PLW2901
        step = replace(scenario, measures=measures)
        figures = Figures.of([one.counted_s for one in engine_day.run(step, draw(step, load)).minutes])
        print(f"    {name:<38} {figures.mean / 60:8.1f} {figures.p95 / 60:7.1f}   {figures.within_900:.1%}")
        sys.stdout.flush()
