"""One self-contained HTML page about a run: the verdict, targets, percentiles, the timeline with its faults, the environment."""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter
from html import escape
from math import log10
from pathlib import Path

from loadtest import plots
from loadtest.driver import Point, Result
from loadtest.plan import Plan
from loadtest.plots import Plot

_PERCENTILES = (0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99)
_NAMES = {
    "p50_ms": "中位时延 · median",
    "p90_ms": "九成以内 · p90",
    "p99_ms": "99% 以内 · p99",
    "max_ms": "最慢 · slowest",
    "error_share": "出错 · errors",
    "partial_share": "不完整 · partial answers",
    "partial_share_least": "如实说不完整 · partial answers, at least",
    "found_share": "应查得的查得 · records found, at least",
}
_KINDS = {
    "exact": "原名 · as registered",
    "variant": "异体 · a variant of the name",
    "absent": "无此人 · nobody",
}


def environment() -> dict[str, str]:
    """What the figures depend on; names no machine."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, timeout=10
    ).stdout.strip()
    return {
        "版本 commit": commit or "unknown",
        "Python": platform.python_version(),
        "处理器 cores": f"{os.cpu_count()}, {platform.machine()}",
        "系统 system": platform.system(),
    }


def percentile_plot(plan: Plan, result: Result) -> str:
    """Latency by percentile; the axis stretches towards the rare ones, as HdrHistogram plots do."""
    latencies = result.latencies()
    most = 1 - _PERCENTILES[-1] / 100
    grid = sorted({*_PERCENTILES, *(100 - 100 * 10 ** (-step / 20) for step in range(81))})
    values = [(one, latencies.get_value_at_percentile(one) / 1000) for one in grid]
    plot = Plot(
        "latency by percentile",
        lambda one: log10(max(most, 1 - one / 100)) / log10(most),
        max(value for _one, value in values),
        " ms",
    )
    plot.line(values, plots.BLUE)
    plot.ticks([(one, f"{one:g}%") for one in _PERCENTILES if one not in {25, 95, 99.5}])
    for name in ("p50_ms", "p90_ms", "p99_ms", "max_ms"):
        if name in plan.targets:
            plot.limit(
                plan.targets[name], f"目标 target {name.removesuffix('_ms')} {plan.targets[name]:g} ms"
            )
    return plot.svg


def _by_second(result: Result) -> dict[int, list[Point]]:
    seconds: dict[int, list[Point]] = {}
    for point in result.points:
        seconds.setdefault(int(point.at_s), []).append(point)
    return dict(sorted(seconds.items()))


def _over_time(plan: Plan, title: str, top: float, unit: str) -> Plot:
    plot = Plot(title, lambda second: min(1.0, second / plan.duration_s), top, unit)
    for fault in plan.faults:
        kind = {"stop": "冻结 frozen", "kill": "终止 killed"}[fault.kind]
        plot.shade(fault.at_s, min(plan.duration_s, fault.at_s + fault.for_s), f"{kind} {fault.archive}")
    marks = [mark for mark in plots.steps(plan.duration_s, 8) if mark <= plan.duration_s]
    plot.ticks([(mark, f"{mark:g} s") for mark in marks])
    return plot


def timeline_plot(plan: Plan, result: Result) -> str:
    """Worst and middle latency of the requests planned in each second."""
    seconds = {second: sorted(point.ms for point in points) for second, points in _by_second(result).items()}
    plot = _over_time(plan, "latency by second", max(values[-1] for values in seconds.values()), " ms")
    plot.line([(second + 0.5, values[-1]) for second, values in seconds.items()], plots.ORANGE)
    plot.line([(second + 0.5, values[len(values) // 2]) for second, values in seconds.items()], plots.BLUE)
    if "max_ms" in plan.targets:
        plot.limit(plan.targets["max_ms"], f"目标 target {plan.targets['max_ms']:g} ms")
    return plot.svg


def answers_plot(plan: Plan, result: Result) -> str:
    """What became of the requests planned in each second."""
    seconds = _by_second(result)
    plot = _over_time(plan, "answers by second", max(len(points) for points in seconds.values()), "")
    for second, points in seconds.items():
        errors = sum(point.status != 200 for point in points)
        partial = sum(point.status == 200 and point.verdict == "partial" for point in points)
        base = 0
        for count, colour in (
            (len(points) - errors - partial, plots.GREEN), (partial, plots.ORANGE), (errors, plots.RED),
        ):  # fmt: skip
            if count:
                plot.bar(second, second + 1, base, base + count, colour)
            base += count
    return plot.svg


def _shown(name: str, value: float) -> str:
    return f"{value * 100:.4g}%" if "share" in name else f"{value:,.4g} ms"


def legend(*entries: tuple[str, str]) -> str:
    return (
        "<p class=legend>"
        + " ".join(f'<span style="--c:{colour}">{words}</span>' for colour, words in entries)
        + "</p>"
    )


def page(plan: Plan, result: Result, rows: list[tuple[str, float, float, bool]]) -> str:
    """The whole report."""
    missed = [name for name, *_rest, held in rows if not held]
    verdict = (
        f"未达 {len(missed)} 项目标 · {len(missed)} of {len(rows)} targets missed"
        if missed
        else "全部目标达到 · all targets met"
    )
    targets = "".join(
        f'<tr class="{"met" if held else "missed"}"><td>{_NAMES[name]}</td><td>{_shown(name, wanted)}</td><td>{_shown(name, got)}</td>'
        f"<td>{'✓ 达到 met' if held else '✗ 未达到 missed'}</td></tr>"
        for name, wanted, got, held in rows
    )
    figures = "".join(
        f"<tr><td>{_NAMES[name].removesuffix(', at least')}</td><td>{_shown(name, value)}</td></tr>"
        for name, value in result.measured().items()
        if name != "partial_share_least"
    )
    kinds = Counter(point.kind for point in result.points)
    shares = "".join(
        f"<tr><td>{_KINDS.get(kind, escape(kind))}</td><td>{count}</td></tr>"
        for kind, count in sorted(kinds.items())
    )
    statuses = Counter(str(point.status or "无答复 none") for point in result.points)
    statuses_rows = "".join(
        f"<tr><td>HTTP {status}</td><td>{count}</td></tr>" for status, count in sorted(statuses.items())
    )
    surroundings = "".join(
        f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in environment().items()
    )
    late = (
        f"<p class=missed>发生器迟发 {result.late_starts} 次，数字偏乐观 · the generator itself sent {result.late_starts} requests late:"
        " the machine was too small for this plan</p>"
        if result.late_starts > len(result.points) / 100
        else ""
    )
    return f"""<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Lantai 负载测试 · load test: {escape(plan.name)}</title>
<style>{STYLE}</style></head><body>
<header><h1>负载测试 · load test <b>{escape(plan.name)}</b></h1>
<p class="verdict {"missed" if missed else "met"}">{verdict}</p></header>
<p>{len(result.points):,} 个请求 requests, {plan.duration_s:g} s, {plan.rate[0]:g} → {plan.rate[1]:g} /s.
开环：按计划发出，时延从计划时刻起算，服务停顿不会少算 · open loop: requests leave on schedule and latency counts from it, so that a stall is not measured away.</p>
{late}<table><tr><th>目标 target</th><th>应 wanted</th><th>实 measured</th><th></th></tr>{targets}</table>
<h2>时延分位 · latency by percentile</h2>{percentile_plot(plan, result)}
<h2>时延随时间 · latency over time</h2>{legend((plots.ORANGE, "每秒最慢 slowest of a second"), (plots.BLUE, "每秒中位 median of a second"))}{timeline_plot(plan, result)}
<h2>答复随时间 · answers over time</h2>{legend((plots.GREEN, "完整 complete"), (plots.ORANGE, "不完整，已说明 partial, and said so"), (plots.RED, "出错 error"))}{answers_plot(plan, result)}
<h2>数字 · figures</h2><div class=side><table>{figures}</table><table>{shares}</table><table>{statuses_rows}</table><table>{surroundings}</table></div>
</body></html>
"""


STYLE = """
:root{color-scheme:light}body{font:15px/1.6 "PingFang SC","Microsoft YaHei","Noto Sans CJK SC","Noto Sans SC",sans-serif;max-width:56rem;
margin:2rem auto;padding:0 1rem;color:#1f2329}header{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:center;justify-content:space-between}
h1{font-size:1.5rem;font-weight:400;margin:0}h2{font-size:1.1rem;margin:2rem 0 .3rem}svg{width:100%;display:block}
table{border-collapse:collapse}td,th{border-bottom:1px solid #e5e6eb;padding:.3rem 1rem .3rem 0;text-align:left;font-variant-numeric:tabular-nums}
td:nth-child(n+2):nth-child(-n+3){text-align:right}th:nth-child(n+2){text-align:right}.side{display:flex;flex-wrap:wrap;gap:1rem 3rem;align-items:start}
.met td:last-child{color:#2ba471}.missed td:last-child,p.missed{color:#d54941}
.verdict{padding:.3rem 1rem;border-radius:.4rem;color:#fff;margin:0;font-weight:600}.verdict.met{background:#2ba471}.verdict.missed{background:#d54941;color:#fff}
.legend{margin:0;font-size:.85rem;color:#646a73}.legend span{margin-right:1.2rem}.legend span::before{content:"";display:inline-block;width:.8rem;height:.8rem;
background:var(--c);border-radius:2px;margin-right:.4rem;vertical-align:-.1rem}
""".strip().replace("\n", "")


def write(plan: Plan, result: Result, rows: list[tuple[str, float, float, bool]], folder: Path) -> Path:
    """Write the report and give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{plan.name}.html"
    path.write_text(page(plan, result, rows), "utf-8")
    return path
