"""A day in virtual time: nothing lost, always the same minutes, hours and rules kept, and every measure worth its name."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from federation.service_hours import local_date, local_minute
from gateway.cases.minutes import minutes
from gateway.cases.states import Kind
from gateway.cases.store import Store
from loadtest.days import engine_day, scenario
from loadtest.days.draw import Drawn, draw
from loadtest.days.engine_day import DayResult, Told
from loadtest.days.figures import of_day
from loadtest.days.model import RELEASED
from loadtest.days.scenario import FAR_WINDOWS, JIAXING, Measures, Outage, Scenario

DAY = replace(scenario.load("jiaxing-day"), outages=(Outage("330424", 9.5, 20.0),))


@pytest.fixture(scope="module")
def day() -> DayResult:
    return engine_day.run(DAY, draw(DAY, 4))


def one_case(**about: object) -> Drawn:
    """A case with nothing special about it, changed by `about`."""
    drawn = Drawn(
        number=0, arrives_s=36_000.0, holder="330483", window="330402", scope=JIAXING, held=True, category="marriage",
        relation="SELF", is_id_exact=False, is_name_exact=True, is_digitised=True, is_single=True, locate_s=0.1,
        select_s=40.0, notice_s=60.0, deputy_notice_s=60.0, review_s=200.0, end="approved", evidence_s=600.0,
        other="330481", deliver_s=50.0,
    )  # fmt: skip
    return replace(drawn, **about)  # type: ignore[arg-type]


def alone(about: Scenario = DAY, **case: object) -> Told:
    """The only case of a day."""
    result = engine_day.run(replace(about, outages=()), [one_case(**case)])
    assert result.lost == 0
    return result.cases[0]


def at(told: Told, kind: Kind) -> float:
    """Seconds from acceptance to the first entry of a kind."""
    return next(entry.at_ms for entry in told.journal if entry.kind is kind) / 1000 - (
        told.minutes.started_ms / 1000
    )


# nothing lost, nothing left out, always the same -----------------------------------------------------------------


def test_every_case_ends_and_is_in_exactly_one_mean(day: DayResult):
    figures = of_day(day, 4)
    assert day.lost == 0
    assert len(day.cases) == 32
    assert figures.in_city.cases + figures.cross_city.cases == 32
    assert sum(one.cases for one in figures.deciders.values()) == 32
    total = figures.in_city.mean * figures.in_city.cases + figures.cross_city.mean * figures.cross_city.cases
    assert total == pytest.approx(figures.everyone.mean * 32)


def test_the_same_seed_gives_the_same_minutes_and_another_seed_others(day: DayResult):
    again = engine_day.run(DAY, draw(DAY, 4))
    assert again.minutes == day.minutes
    other = replace(DAY, seed=2)
    assert engine_day.run(other, draw(other, 4)).minutes != day.minutes


def test_replaying_a_journal_at_any_time_gives_the_minutes_the_engine_counted(day: DayResult):
    for told in day.cases:
        replayed = minutes(told.journal, told.minutes.started_ms + 400 * 86_400_000)
        assert replayed is not None
        assert replayed.counted_s == told.minutes.counted_s == pytest.approx(told.recorded_s, abs=0.002)
        assert replayed.stages == told.minutes.stages
        assert sum(replayed.stages.values()) == pytest.approx(replayed.counted_s)


def test_virtual_time_knows_nothing_of_real_time(day: DayResult, monkeypatch: pytest.MonkeyPatch):
    write = Store.transact

    def slowly(store, units):
        time.sleep(0.003)
        return write(store, units)

    monkeypatch.setattr(Store, "transact", slowly)
    assert engine_day.run(DAY, draw(DAY, 4)).minutes == day.minutes


def test_both_kinds_of_case_occur_although_the_archives_are_one_city(day: DayResult):
    windows = {told.drawn.window for told in day.cases}
    assert windows & set(JIAXING)
    assert windows & set(FAR_WINDOWS)
    for told in day.cases:
        in_city = bool(told.minutes.holder) and told.drawn.window.startswith("3304")
        assert told.minutes.target_s == (600 if in_city else 900)


# people and hours ----------------------------------------------------------------------------------------------


def test_nobody_reviews_at_noon_without_a_rota_and_somebody_does_with_one():
    without = replace(DAY, measures=Measures(noon_rota=False, deputy=False, auto_release=False))
    noon = {"arrives_s": 12.0 * 3600}
    assert at(alone(without, **noon), Kind.CLAIMED) == pytest.approx(1.5 * 3600 + 60, abs=1)
    assert at(alone(replace(without, measures=Measures()), **noon), Kind.CLAIMED) == pytest.approx(
        60.1, abs=0.2
    )


def test_what_a_holiday_evening_leaves_waits_for_the_next_working_day_and_counts():
    before = replace(
        DAY, date="2026-04-03", measures=Measures(deputy=False, auto_release=False)
    )  # Friday; 4 to 6 April are closed
    told = alone(before, arrives_s=16.99 * 3600, notice_s=2400.0)
    claimed = next(entry.at_ms for entry in told.journal if entry.kind is Kind.CLAIMED)
    assert local_date(claimed).isoformat() == "2026-04-07"
    assert local_minute(claimed) == 510
    assert told.minutes.wall_s > 3 * 86_400
    assert told.minutes.counted_s == told.minutes.wall_s, "closed days do not stop the clock"
    assert told.minutes.service_s is not None
    assert told.minutes.service_s < 600


def test_the_deputy_is_asked_after_its_share_of_the_pick_up_and_takes_the_case():
    told = alone(notice_s=900.0, deputy_notice_s=30.0)
    assert at(told, Kind.DEPUTISED) == pytest.approx(0.1 + 72, abs=0.1)
    assert told.decided_by == "deputy"
    assert at(told, Kind.CLAIMED) == pytest.approx(0.1 + 72 + 30, abs=0.1)
    nobody = replace(DAY, deputies_per_city=0)
    assert alone(nobody, notice_s=900.0).decided_by == "holder"


def test_two_deputies_do_not_review_three_cases_at_once():
    busy = replace(DAY, outages=(), deputies_per_city=2)
    cases = [one_case(number=n, notice_s=3000.0, deputy_notice_s=1.0) for n in range(3)]
    result = engine_day.run(busy, cases)
    starts = sorted(at(told, Kind.CLAIMED) for told in result.cases)
    assert starts[1] - starts[0] < 1
    assert starts[2] - starts[0] == pytest.approx(200, abs=1)


def test_a_deputy_that_may_not_refer_hands_back_and_the_holder_refers():
    told = alone(notice_s=100.0, deputy_notice_s=5.0, end="referred")
    kinds = [entry.kind for entry in told.journal]
    assert kinds.index(Kind.RELEASED) < kinds.index(Kind.REFERRED) < kinds.index(Kind.APPROVED)
    assert told.minutes.holder == "330481"


def test_waiting_for_evidence_stops_the_clock_and_is_told_beside_it():
    told = alone(end="evidence")
    assert told.minutes.paused_s == pytest.approx(600, abs=0.1)
    assert told.minutes.wall_s == pytest.approx(told.minutes.counted_s + 600, abs=0.1)


def test_the_rule_releases_only_what_its_conditions_allow(day: DayResult):
    assert alone(is_id_exact=True).decided_by == "rule"
    for condition in (
        {"relation": "AGENT"}, {"is_id_exact": False}, {"is_name_exact": False}, {"is_single": False},
        {"is_digitised": False}, {"category": "birth_cert"},
    ):  # fmt: skip
        assert alone(**{"is_id_exact": True, **condition}).decided_by in {"holder", "deputy"}, condition
    off = replace(DAY, measures=Measures(auto_release=False))
    assert alone(off, is_id_exact=True).decided_by != "rule"
    released = [told.drawn for told in day.cases if told.decided_by == "rule"]
    assert released
    assert all(one.category in RELEASED and one.relation == "SELF" for one in released)


# lines ---------------------------------------------------------------------------------------------------------


def test_an_archive_without_a_line_is_waited_for_and_nobody_says_there_is_no_record():
    out = replace(DAY, outages=(Outage("330483", 9.9, 15.0),))
    found = engine_day.run(out, [one_case()]).cases[0]
    assert at(found, Kind.LOCATED) < 1
    assert found.journal[1].data["verdict"] == "partial"
    assert found.minutes.outcome == "delivered"
    assert found.minutes.stages["locate"] == pytest.approx(9 * 60, abs=1), "its return ends the wait"
    nothing = engine_day.run(out, [one_case(held=False)]).cases[0]
    assert nothing.minutes.outcome == "no_record"
    assert nothing.minutes.counted_s > 500, "not before everyone has answered"
    all_day = engine_day.run(replace(out, outages=(Outage("330483", 0.0, 1440.0),)), [one_case(held=False)])
    assert all_day.cases[0].minutes.outcome == "expired"


def test_what_a_desk_decides_without_a_line_arrives_when_it_is_back():
    out = replace(
        DAY, outages=(Outage("330483", 10.005, 20.0),), measures=Measures(deputy=False)
    )  # breaks 18 s after the case is accepted, before its reviewer looks
    told = engine_day.run(out, [one_case()]).cases[0]
    assert at(told, Kind.APPROVED) == pytest.approx(18 + 20 * 60, abs=1)
    assert told.minutes.outcome == "delivered"


# measures ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["push", "noon_rota", "deputy", "auto_release"])
def test_a_day_without_a_measure_is_worse(measure: str):
    with_all = of_day(engine_day.run(DAY, draw(DAY, 8)), 8).everyone.mean
    without = replace(DAY, measures=replace(DAY.measures, **{measure: False}))
    assert of_day(engine_day.run(without, draw(without, 8)), 8).everyone.mean > with_all
