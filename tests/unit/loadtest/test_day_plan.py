"""Plans of a day: both load, mistakes are named, figures are what they say, a missed target fails the run."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.days import report, scenario
from loadtest.days.draw import draw
from loadtest.days.figures import Figures
from loadtest.plan import PlanError


@pytest.mark.parametrize(("name", "archives", "cases"), [("jiaxing-day", 8, 96), ("delta-day", 349, 4188)])
def test_the_plans_load_and_draw_their_days(name: str, archives: int, cases: int):
    day = scenario.load(name)
    drawn = draw(day, 12)
    assert (len(day.codes), len(drawn)) == (archives, cases)
    assert drawn == draw(day, 12), "the same seed, the same luck"
    assert all(one.arrives_s <= other.arrives_s for one, other in itertools.pairwise(drawn))


def test_shares_are_those_of_the_plan():
    day = scenario.load("delta-day")
    drawn = draw(day, 24)

    def share(of: str, value: object) -> float:
        return sum(getattr(one, of) == value for one in drawn) / len(drawn)

    assert share("held", False) == pytest.approx(0.20, abs=0.02)
    assert share("relation", "SELF") == pytest.approx(0.78, abs=0.02)
    assert share("category", "marriage") == pytest.approx(0.38, abs=0.02)
    assert share("is_id_exact", True) == pytest.approx(0.45, abs=0.02)
    assert share("end", "evidence") == pytest.approx(0.08, abs=0.01)
    assert sum(one.window[:4] != one.holder[:4] for one in drawn) / len(drawn) == pytest.approx(0.3, abs=0.02)
    assert sum(8.5 <= one.arrives_s / 3600 < 10.5 for one in drawn) / len(drawn) == pytest.approx(
        0.43, abs=0.02
    )
    reviews = sorted(one.review_s for one in drawn)
    assert reviews[len(reviews) // 2] == pytest.approx(4.0 * 60, rel=0.15)


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"colour": 1}, "colour"),
        ({"none_share": 1.2}, "none_share"),
        ({"notice_s": 0}, "notice_s"),
        ({"loads": []}, "loads"),
        ({"targets": {"median": 1}}, "median"),
        ({"aims": {"median": 1}}, "median"),
        ({"outages": [{"archive": "110101", "from_hour": 9, "minutes": 5}]}, "110101"),
        ({"measures": {"coffee": True}}, "coffee"),
        ({"date": "2026-03-01"}, "no working day"),
        ({"date": "soon"}, "soon"),
        ({"hours": {"weekly": {"mon": ["9-5"]}}}, "08:30-11:30"),
    ],
)
def test_a_mistake_in_a_plan_is_named(table: dict[str, object], word: str):
    with pytest.raises(PlanError, match=word):
        scenario.parse("mine", table)


def test_figures_are_nearest_rank_over_every_case():
    figures = Figures.of([float(n) for n in range(100, 0, -1)])
    assert (figures.cases, figures.mean, figures.p50, figures.p95, figures.p99) == (100, 50.5, 50, 95, 99)
    assert Figures.of([899.0, 900.0, 901.0, 5000.0]).within_900 == 0.5
    assert Figures.of([]).cases == 0


def test_a_missed_target_fails_the_run_and_a_missed_aim_is_only_said(tmp_path: Path):
    day = replace(scenario.load("jiaxing-day"), loads=(1,), targets={}, aims={"in_city_mean_s": 1})
    said: list[str] = []
    assert report.run(day, tmp_path, said.append)
    assert any("MISSED" in line and "aim" in line for line in said)
    assert not report.run(replace(day, targets={"cross_city_mean_s": 1}), tmp_path, said.append)
    page = (tmp_path / "jiaxing-day.html").read_text("utf-8")
    assert "the promise is missed" in page
    assert "http" not in page.replace("http://www.w3.org", ""), "the page needs nothing from elsewhere"
    text = "\n".join(said)
    for word in (
        "in city",
        "cross-city",
        "pick_up",
        "noon rota",
        "automatic release",
        "plain model",
        "wall clock",
    ):
        assert word in text
