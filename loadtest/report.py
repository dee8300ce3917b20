"""One self-contained HTML page about a run: targets, percentiles, the timeline with its faults, the environment."""

from __future__ import annotations

import os
import platform
import subprocess
from html import escape
from pathlib import Path

from loadtest.driver import Result
from loadtest.plan import Plan

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 860, 260, 60, 30
_PERCENTILES = (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100)


def environment() -> dict[str, str]:
    """What the figures depend on; names no machine."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, timeout=10
    ).stdout.strip()
    return {
        "commit": commit or "unknown",
        "python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "machine": platform.machine(),
        "system": platform.system(),
    }


def _polyline(points: list[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>'


def _frame(inside: str, title: str, top: float, unit: str) -> str:
    lines = []
    for step in range(5):
        y = _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - 10) * step / 4
        lines.append(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e6eb"/>')
        lines.append(
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" font-size="11">{top * step / 4:.0f} {unit}</text>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>{escape(title)}</title>{"".join(lines)}{inside}</svg>'


def percentile_plot(result: Result) -> str:
    """Latency by percentile."""
    latencies = result.latencies()
    values = [latencies.get_value_at_percentile(one) / 1000 for one in _PERCENTILES]
    top = max([*values, 1.0])
    step = (_WIDTH - _LEFT) / (len(values) - 1)
    points = [
        (_LEFT + index * step, _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - 10) * value / top)
        for index, value in enumerate(values)
    ]
    labels = "".join(
        f'<text x="{x:.1f}" y="{_HEIGHT - 10}" text-anchor="middle" font-size="11">{one:g}</text>'
        for (x, _y), one in zip(points, _PERCENTILES, strict=True)
    )
    return _frame(_polyline(points, "#0052d9") + labels, "latency by percentile", top, "ms")


def timeline_plot(plan: Plan, result: Result) -> str:
    """Worst and middle latency of each second; faults shaded, errors as red marks."""
    seconds: dict[int, list[float]] = {}
    for point in result.points:
        seconds.setdefault(int(point.at_s), []).append(point.ms)
    top = max([1.0, *(max(values) for values in seconds.values())])

    def at(second: float) -> float:
        return _LEFT + (_WIDTH - _LEFT) * second / plan.duration_s

    def level(ms: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - 10) * ms / top

    shades = "".join(
        f'<rect x="{at(fault.at_s):.1f}" y="10" width="{at(fault.at_s + fault.for_s) - at(fault.at_s):.1f}" height="{_HEIGHT - _BOTTOM - 10}" fill="#fbe6e6"/>'
        f'<text x="{at(fault.at_s) + 4:.1f}" y="22" font-size="11">{escape(fault.kind)} {escape(fault.archive)}</text>'
        for fault in plan.faults
    )
    worst = [(at(second + 0.5), level(max(values))) for second, values in sorted(seconds.items())]
    middle = [
        (at(second + 0.5), level(sorted(values)[len(values) // 2]))
        for second, values in sorted(seconds.items())
    ]
    errors = "".join(
        f'<circle cx="{at(point.at_s):.1f}" cy="14" r="2" fill="#d54941"/>'
        for point in result.points
        if point.status != 200
    )
    return _frame(
        shades + _polyline(worst, "#ed7b2f") + _polyline(middle, "#0052d9") + errors,
        "latency by second",
        top,
        "ms",
    )


def page(plan: Plan, result: Result, rows: list[tuple[str, float, float, bool]]) -> str:
    """The whole report."""
    passed = all(held for *_rest, held in rows)
    targets = "".join(
        f"<tr><td>{escape(name)}</td><td>{wanted:g}</td><td>{got:.4g}</td><td>{'✓ 达到 met' if held else '✗ 未达到 missed'}</td></tr>"
        for name, wanted, got, held in rows
    )
    figures = "".join(
        f"<tr><td>{escape(name)}</td><td>{value:.4g}</td></tr>" for name, value in result.measured().items()
    )
    kinds = sorted({point.kind for point in result.points})
    shares = "".join(
        f"<tr><td>{kind}</td><td>{sum(point.kind == kind for point in result.points)}</td></tr>"
        for kind in kinds
    )
    surroundings = "".join(
        f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in environment().items()
    )
    return f"""<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><title>Lantai 负载测试 · load test: {escape(plan.name)}</title>
<style>body{{font:15px/1.6 "PingFang SC","Microsoft YaHei","Noto Sans SC",sans-serif;max-width:58rem;margin:2rem auto;padding:0 1rem;color:#1f2329}}
table{{border-collapse:collapse;margin:.5rem 0}}td,th{{border:1px solid #dcdfe6;padding:.2rem .6rem;text-align:left}}h1{{color:#0052d9}}svg{{width:100%}}
.met{{color:#2ba471}}.missed{{color:#d54941}}</style></head><body>
<h1>负载测试 · load test: {escape(plan.name)}</h1>
<p class="{"met" if passed else "missed"}"><b>{"全部目标达到 · all targets met" if passed else "有目标未达到 · a target was missed"}</b></p>
<p>开环：按计划发出请求，时延从计划时刻起算 · open loop: latency counts from the planned start. {len(result.points)} 个请求 requests,
{plan.duration_s:g} s, {plan.rate[0]:g} → {plan.rate[1]:g} /s; 迟发 sent late by the generator: {result.late_starts}.</p>
<table><tr><th>目标 target</th><th>应 wanted</th><th>实 measured</th><th></th></tr>{targets}</table>
<h2>时延分位 · latency by percentile</h2>{percentile_plot(result)}
<h2>时间线 · timeline</h2><p>橙：每秒最差 worst · 蓝：每秒中位 median · 红点：错误 errors · 粉：故障 faults</p>{timeline_plot(plan, result)}
<h2>数字 · figures</h2><table>{figures}</table><table>{shares}</table>
<h2>环境 · environment</h2><table>{surroundings}</table>
</body></html>
"""


def write(plan: Plan, result: Result, rows: list[tuple[str, float, float, bool]], folder: Path) -> Path:
    """Write the report and give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{plan.name}.html"
    path.write_text(page(plan, result, rows), "utf-8")
    return path
