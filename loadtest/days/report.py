"""Running a day's plan and saying how it came out: promise and aims, stages, clocks, what each measure brought."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from loadtest.days import engine_day, model, page
from loadtest.days.draw import draw
from loadtest.days.figures import DayFigures, Figures, difference, model_figures, of_day
from loadtest.days.outcome import AIM, DECIDERS, TARGET, Loaded, Verdict, is_passed, rows
from loadtest.days.scenario import STEPS, Measures, Scenario

MOST_BY_ENGINE = 600
"""Up to so many cases the engine itself runs the day again for each measure; above, the plain model does, which by then
has been held against it.
"""


def run(scenario: Scenario, out: Path, say: Callable[[str], None] = print) -> bool:
    """Run all loads of a plan, print and write the report; whether every target was met and no case lost."""
    loads = []
    say(header(scenario))
    for load in scenario.loads:
        loads.append(one_load(scenario, load))
        for line in lines(scenario, loads[-1]):
            say(line)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{scenario.name}.json").write_text(
        json.dumps([asdict(one) for one in loads], ensure_ascii=False, indent=1) + "\n", "utf-8"
    )
    path = out / f"{scenario.name}.html"
    path.write_text(page.page(scenario, header(scenario), loads), "utf-8")
    say(f"\n报告 report: {path}")
    return is_passed(loads)


def one_load(scenario: Scenario, load: int) -> Loaded:
    """Run one day through the engine and through the model, and the measures one by one."""
    began = time.perf_counter()
    drawn = draw(scenario, load)
    day = of_day(engine_day.run(scenario, drawn), load)
    took = time.perf_counter() - began
    modelled = model.run(scenario, drawn)
    differs = difference(day, modelled)
    by_engine = len(drawn) <= MOST_BY_ENGINE
    steps = [(name, _mean(replace(scenario, measures=step), load, by_engine)) for name, step in STEPS]
    return Loaded(
        day=day,
        verdicts=judge(scenario, day, differs),
        model_mean=model_figures(modelled)[0].mean,
        model_difference=differs,
        measures=steps,
        what_ifs=[(name, _mean(one, load, by_engine=False)) for name, one in what_ifs(scenario)],
        by_engine=by_engine,
        real_s=took,
    )


def _mean(scenario: Scenario, load: int, by_engine: bool) -> Figures:
    drawn = draw(scenario, load)
    if by_engine:
        return of_day(engine_day.run(scenario, drawn), load).everyone
    return model_figures(model.run(scenario, drawn))[0]


def what_ifs(scenario: Scenario) -> list[tuple[str, Scenario]]:
    """Days with other inputs than the plan's, to see what would help most. They decide nothing."""
    full = Measures()
    known = replace(scenario, measures=full, known_id_share=1.0)
    return [
        ("两名审核员 two reviewers in each archive", replace(scenario, measures=full, reviewers=2)),
        ("申请与记录都有证件号 an ID number in every request and record", known),
        ("二者兼有 both", replace(known, reviewers=2)),
        ("通知后 30 秒接手 picked up 30 s after the push", replace(scenario, measures=full, notice_s=30.0)),
        ("审核中位 2 分 reviews of 2 minutes", replace(scenario, measures=full, review_median_s=120.0)),
    ]


def judge(scenario: Scenario, day: DayFigures, differs: float) -> list[Verdict]:
    """What the plan demands, and no case lost; then what it aims for."""
    measured = {**day.measured, "model_difference": differs}
    verdicts = [Verdict(TARGET, "lost", day.lost, 0, day.lost == 0)]
    for kind, wanted in ((TARGET, scenario.targets), (AIM, scenario.aims)):
        for name, limit in wanted.items():
            got = measured[name]
            is_met = got >= limit if name == "share_within_900_s" else got <= limit
            verdicts.append(Verdict(kind, name, got, limit, is_met))
    return verdicts


# for people ----------------------------------------------------------------------------------------------------


def header(scenario: Scenario) -> str:
    """What kind of day it is."""
    cross = (
        "跨城件指在上海、苏州、杭州、湖州窗口申请的件（八馆同属一市）"
        " · cross-city cases are asked for in Shanghai, Suzhou, Hangzhou or Huzhou: the archives are one city"
        if scenario.cities == 1
        else "跨城件指在另一市窗口申请的件 · cross-city cases are asked for at a window of another city"
    )
    return (
        f"{scenario.name}: {scenario.date}, {scenario.archives} 馆 archives, {scenario.cities} 市 cities,"
        f" 每馆审核员 reviewers in each {scenario.reviewers}, 每市代审 deputies in each city {scenario.deputies_per_city}\n{cross}\n"
        "查无记录、无保管馆的件按跨城计时 · a case nobody holds has the cross-city target; cases with a holder are shown apart"
    )


def lines(scenario: Scenario, one: Loaded) -> list[str]:
    """The report of one load, for a terminal."""
    day = one.day
    written = [
        (f"\n每馆每日 {day.load} 件 cases per archive and day: {day.everyone.cases} 件 cases,"
        f" 遗失 lost {day.lost}, {one.real_s:.1f} 秒真实时间 s of real time"),
        *table(day),
        (f"  各自时限内 within their own target: {day.met:.1%}; 暂停 paused for the applicant: {day.paused_cases} 件 cases,"
        f" {day.paused_share:.1%} 时间 of the time"),
        "  各环节占时 share of each stage: " + "  ".join(f"{name} {share:.0%}" for name, share in day.stages.items()),
        "  由谁决定 decided by: "
        + "  ".join(
            f"{DECIDERS[who]} {figures.cases} ({figures.mean / 60:.1f} 分 min)"
            for who, figures in day.deciders.items()
            if figures.cases
        ),
        "  结果 outcomes: " + "  ".join(f"{name} {count}" for name, count in sorted(day.outcomes.items())),
        (f"  含窗口受理 with {scenario.intake_s:.0f} s of intake before acceptance:"
        f" 均值 mean {(day.everyone.mean + scenario.intake_s) / 60:.1f} 分 min"),
        (f"  引擎 engine {day.everyone.mean / 60:.3f}, 排队模型 plain model {one.model_mean / 60:.3f} 分 min:"
        f" 最多相差 differ by at most {one.model_difference:.2%}"),
    ]  # fmt: skip
    written += [f"  {_judged(verdict)}" for verdict in one.verdicts]
    how = "引擎 engine" if one.by_engine else "排队模型 plain model"
    written.append(f"  措施逐项 measures, each added to those before ({how}): 均值 mean, p95 分 min, ≤15 分")
    before: float | None = None
    for name, figures in one.measures:
        gain = "" if before is None else f"  {figures.mean / 60 - before:+.1f}"
        before = figures.mean / 60
        written.append(f"    {name:<34}{before:8.1f}{figures.p95 / 60:8.1f}  {figures.within_900:6.1%}{gain}")
    written.append("  假如 what would help (排队模型 plain model; decides nothing):")
    written += [
        f"    {figures.mean / 60:8.1f}{figures.p95 / 60:8.1f}  {figures.within_900:6.1%}  {name}"
        for name, figures in one.what_ifs
    ]
    return written


def table(day: DayFigures) -> list[str]:
    """Minutes."""
    return [
        f"  {figures.cases:5d} 件  均值 mean {figures.mean / 60:5.1f}  p50 {figures.p50 / 60:5.1f}  p90 {figures.p90 / 60:5.1f}"
        f"  p95 {figures.p95 / 60:5.1f}  p99 {figures.p99 / 60:6.1f} 分 min  ≤15: {figures.within_900:6.1%}  {name}"
        for name, figures in rows(day)
    ]


def _judged(verdict: Verdict) -> str:
    word = "达到 met   " if verdict.is_met else "未达 MISSED"
    return f"{word} {verdict.kind:<11} {verdict.name:<24}{verdict.measured:9.3f}  ({verdict.wanted:g})"
