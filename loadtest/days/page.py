"""One self-contained HTML page about a day: verdicts, the spread of minutes, stages, and what each measure brought."""

from __future__ import annotations

from html import escape

from gateway.cases.policy import TARGET_CROSS_CITY_S, TARGET_IN_CITY_S
from loadtest import plots
from loadtest.days.figures import STAGES, DayFigures, Figures
from loadtest.days.outcome import DECIDERS, Loaded, is_passed, rows
from loadtest.days.scenario import Scenario
from loadtest.plots import Plot
from loadtest.report import STYLE, environment, legend

_STAGE_COLOURS = (plots.GREY, plots.RED, plots.ORANGE, plots.BLUE, plots.INK, plots.GREEN)


def page(scenario: Scenario, header: str, loads: list[Loaded]) -> str:
    """The whole report."""
    passed = is_passed(loads)
    missed = any(not verdict.is_met for one in loads for verdict in one.verdicts)
    surroundings = "".join(_row(key, value) for key, value in environment().items())
    parts = "".join(_load(scenario, one) for one in loads)
    said = "承诺达到 · the promise is kept" if passed else "承诺未达到 · the promise is missed"
    more = "<p class=missed>有数字未达到，见下 · some figures are missed, see below</p>" if missed else ""
    return f"""<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Lantai 虚拟一日 · a day in virtual time: {escape(scenario.name)}</title>
<style>{STYLE}</style></head><body>
<header><h1>虚拟一日 · a day in virtual time <b>{escape(scenario.name)}</b></h1>
<p class="verdict {"met" if passed else "missed"}">{said}</p></header>
<p>{"<br>".join(escape(line) for line in header.splitlines())}</p>{more}{parts}
<h2>环境 · environment</h2><table>{surroundings}</table>
</body></html>
"""


def _load(scenario: Scenario, one: Loaded) -> str:
    day = one.day
    verdicts = "".join(
        f'<tr class="{"met" if verdict.is_met else "missed"}"><td>{escape(verdict.kind)}</td>'
        f"<td>{escape(verdict.name)}</td><td>{verdict.wanted:g}</td>"
        f"<td>{verdict.measured:.3f}</td><td>"
        f"{'✓ 达到 met' if verdict.is_met else '✗ 未达到 missed'}</td></tr>"
        for verdict in one.verdicts
    )
    deciders = "".join(
        _row(DECIDERS[who], str(figures.cases), f"{figures.mean / 60:.1f}")
        for who, figures in day.deciders.items()
        if figures.cases
    )
    return f"""
<h2>每馆每日 {day.load} 件 · {day.load} cases per archive and day</h2>
<p>{day.everyone.cases} 件 cases, 遗失 lost {day.lost}; 引擎 engine {day.everyone.mean / 60:.3f}, 排队模型 plain model
{one.model_mean / 60:.3f} 分 min, 最多相差 differ by at most {one.model_difference:.2%}; 含窗口受理 with intake
{(day.everyone.mean + scenario.intake_s) / 60:.1f} 分 min; 暂停 paused {day.paused_cases} 件, {day.paused_share:.1%}.</p>
<table><tr><th></th><th></th><th>应 wanted</th><th>实 measured</th><th></th></tr>{verdicts}</table>
<h3>分钟 · minutes</h3>{_spread(day)}
<table>{_head("")}{"".join(_figures(name, figures) for name, figures in rows(day))}</table>
<h3>各环节占时 · share of each stage</h3>{_stages(day)}
<h3>由谁决定 · decided by</h3><table><tr><th></th><th>件 cases</th><th>均值 mean</th></tr>{deciders}</table>
<h3>措施逐项 · measures, each added to those before</h3>
<table>{_head("引擎 engine" if one.by_engine else "排队模型 plain model")}{"".join(_figures(name, figures) for name, figures in one.measures)}</table>
<h3>假如 · what would help</h3>
<table>{_head("排队模型 plain model")}{"".join(_figures(name, figures) for name, figures in one.what_ifs)}</table>"""


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _head(first: str) -> str:
    names = (first, "件 cases", "均值 mean", "p50", "p90", "p95", "p99", "≤15 分 min")
    return "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in names) + "</tr>"


def _figures(name: str, figures: Figures) -> str:
    minutes = [f"{getattr(figures, key) / 60:.1f}" for key in ("mean", "p50", "p90", "p95", "p99")]
    return _row(name, str(figures.cases), *minutes, f"{figures.within_900:.1%}")


def _spread(day: DayFigures) -> str:
    """Minutes by percentile, in city and across."""
    shares = ("p50", "p90", "p95", "p99")
    drawn = ((day.in_city, plots.BLUE), (day.cross_city_held, plots.ORANGE))
    top = max(16.0, *(figures.p99 / 60 for figures, _colour in drawn if figures.cases))
    plot = Plot("minutes by percentile", lambda place: 0.05 + 0.9 * place / (len(shares) - 1), top, " min")
    for figures, colour in drawn:
        if figures.cases:
            plot.line([(n, getattr(figures, key) / 60) for n, key in enumerate(shares)], colour)
    plot.limit(TARGET_IN_CITY_S / 60, "同城时限 in-city target")
    plot.limit(TARGET_CROSS_CITY_S / 60, "跨城时限 cross-city target")
    plot.ticks([(n, key) for n, key in enumerate(shares)])
    names = ((plots.BLUE, "同城 in city"), (plots.ORANGE, "跨城、有保管馆 cross-city, held"))
    return legend(*names) + plot.svg


def _stages(day: DayFigures) -> str:
    """One bar, and the same in numbers."""
    at, bars = 0.0, ""
    for stage, colour in zip(STAGES, _STAGE_COLOURS, strict=True):
        width = day.stages[stage] * plots.WIDTH
        bars += f'<rect x="{at:.1f}" y="0" width="{width:.1f}" height="24" fill="{colour}"><title>{stage}</title></rect>'
        at += width
    names = [
        (colour, f"{stage} {day.stages[stage]:.1%}")
        for stage, colour in zip(STAGES, _STAGE_COLOURS, strict=True)
    ]
    bar = f'<svg viewBox="0 0 {plots.WIDTH} 24" role="img"><title>share of each stage</title>{bars}</svg>'
    return bar + legend(*names)
