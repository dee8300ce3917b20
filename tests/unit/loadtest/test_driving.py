"""The load driver is an open loop, its plans say what is wrong with them, and its report stands alone."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loadtest.driver import Point, Result, judged, run
from loadtest.plan import PLANS, Plan, PlanError, load, parse
from loadtest.questions import Asked
from loadtest.report import page, write

ROOT = Path(__file__).resolve().parents[3]
PLAN = Plan("p", 1.0, (100.0, 100.0), {"exact": 1.0}, {"p99_ms": 100.0})
FOUND = {"completeness": {"verdict": "complete"}, "candidates": [{"archive": "330483", "copies": []}]}


class People:
    def draw(self, _kind, _random):
        return Asked({}, "330483")


async def test_a_stalled_server_shows_in_the_percentiles_because_requests_leave_on_schedule():
    """For half of the run the server says nothing: half of the requests have waited, not one."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Event()
    sent = []

    async def send(_asked):
        sent.append(loop.time())
        if len(sent) == 1:
            loop.call_later(0.6, gate.set)
        await gate.wait()
        return 200, FOUND

    result = await run(PLAN, People(), send)
    assert len(sent) == len(result.points) == len(PLAN.schedule())
    waited = sum(point.ms >= 100 for point in result.points) / len(result.points)
    assert waited >= 0.4  # a closed loop would have sent one and waited
    assert result.measured()["p90_ms"] >= 400
    assert result.latencies().get_max_value() / 1000 >= 590


async def test_errors_and_records_not_found_are_counted_not_dropped():
    answers = iter([(200, FOUND), (503, {}), (200, {**FOUND, "candidates": []})])

    async def send(_asked):
        try:
            return next(answers)
        except StopIteration:
            raise OSError from None

    plan = Plan("p", 0.2, (40.0, 40.0), {"exact": 1.0}, {"error_share": 0.0})
    result = await run(plan, People(), send)
    planned = len(plan.schedule())
    assert planned > 3
    assert len(result.points) == planned
    got = result.measured()
    assert got["error_share"] == pytest.approx((planned - 2) / planned)
    assert got["found_share"] == pytest.approx(1 / planned)


def test_a_schedule_is_the_plans_alone():
    rising = Plan("p", 20.0, (1.0, 20.0), {"exact": 0.5, "absent": 0.5}, {"p99_ms": 1.0}, seed=4)
    assert rising.schedule() == rising.schedule()
    assert [at for at, _kind in rising.schedule()] == sorted(at for at, _kind in rising.schedule())
    assert len(rising.schedule()) == pytest.approx(210, rel=0.3)  # the mean of 1 and 20 for twenty seconds
    from_nothing = Plan("p", 20.0, (0.0, 20.0), {"exact": 1.0}, {"p99_ms": 1.0})
    assert len(from_nothing.schedule()) == pytest.approx(200, rel=0.3)
    late = sum(at > 10 for at, _kind in rising.schedule())
    assert late > 0.6 * len(rising.schedule())


@pytest.mark.parametrize(
    ("name", "wanted", "measured", "held"),
    [
        ("p99_ms", 100, 100, True), ("p99_ms", 100, 101, False), ("found_share", 0.99, 0.98, False),
        ("found_share", 0.99, 1.0, True), ("partial_share_least", 0.2, 0.1, False), ("error_share", 0.0, 0.01, False),
    ],
)  # fmt: skip
def test_targets_are_ceilings_but_for_what_must_be_reached(name, wanted, measured, held):
    assert judged({name: measured}, {name: wanted}) == [(name, wanted, measured, held)]


GOOD = {"duration_s": 5, "rate": [9, 9], "mix": {"exact": 1}, "targets": {"p50_ms": 1}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"duration": 1}, "unknown key: duration"),
        ({"duration_s": 0}, "duration_s"),
        ({"duration_s": "long"}, "duration_s"),
        ({"rate": 5}, "rate must be two numbers"),
        ({"rate": [-1, 2]}, "rate must be two numbers"),
        ({"rate": [0, 0]}, "rate must be two numbers"),
        ({"rate": [0.0001, 0.0001]}, "sends no request"),
        ({"mix": {}}, "mix gives a share"),
        ({"mix": {"fuzzy": 1}}, "mix gives a share"),
        ({"mix": {"exact": 0}}, "mix gives a share"),
        ({"targets": {}}, "targets must hold"),
        ({"targets": {"p42_ms": 1}}, "targets must hold"),
        ({"targets": {"p50_ms": "fast"}}, "targets"),
        ({"fault": [{"kind": "burn", "archive": "330483", "at_s": 1, "for_s": 1}]}, "fault"),
        ({"fault": [{"kind": "stop"}]}, "fault"),
        ({"seed": "x"}, "seed"),
        ({"deadline_ms": 5}, "deadline_ms"),
    ],
)
def test_a_wrong_plan_says_which_key_and_what_to_write(changes, says):
    with pytest.raises(PlanError, match=says):
        parse("p", {**GOOD, **changes})


def test_every_plan_of_the_house_can_be_read():
    days = {"jiaxing-day", "delta-day"}
    for path in PLANS.glob("*.toml"):
        if path.stem not in days:
            assert load(path.stem).schedule()


def test_a_plan_that_can_not_be_run_ends_with_status_2_and_one_line():
    for plan, says in (("nowhere", "there are:"), ("../README.md", "no plan")):
        done = subprocess.run(
            [sys.executable, "-m", "loadtest", plan], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert says in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_plan_that_is_not_toml_says_so(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text("rate = [1,")
    with pytest.raises(PlanError, match=r"p\.toml: not valid TOML"):
        load(str(path))


class Parts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.outside = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.outside += [value for name, value in attrs if name in {"src", "href"} and value]


def test_the_report_is_one_page_that_needs_nothing_else(tmp_path):
    plan = parse(
        "a<b>", {**GOOD, "fault": [{"kind": "stop", "archive": "330421", "at_s": 0.2, "for_s": 0.5}]}
    )
    result = Result(
        [Point(n / 50, 5.0 + n, "exact", 200 if n % 9 else 503, "complete", True) for n in range(50)]
    )
    rows = judged(result.measured(), {"p50_ms": 1.0, "found_share": 0.5})
    text = page(plan, result, rows)
    parts = Parts()
    parts.feed(text)
    assert parts.tags.count("svg") == 3
    assert not parts.outside
    assert "script" not in parts.tags
    assert "url(" not in text
    assert "@import" not in text
    assert "a&lt;b&gt;" in text
    assert "a<b>" not in text
    assert "330421" in text
    assert "未达" in text  # it says that it failed
    assert re.search(r"<title>[^<]+</title>", text)
    assert write(plan, result, rows, tmp_path).read_text("utf-8") == text
