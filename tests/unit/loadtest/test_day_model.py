"""The plain model and the engine agree on the same day, and a broken rule of the engine makes them part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.cases import due
from gateway.cases.case import MAIL
from gateway.cases.step import Step
from loadtest.days import engine_day, model, scenario
from loadtest.days.draw import draw
from loadtest.days.figures import difference, of_day
from loadtest.days.scenario import Measures, Scenario

LOAD = 6
JIAXING_DAY = scenario.load("jiaxing-day")
BROKEN_LINES = replace(
    scenario.load("delta-day"), archives=16, cities=2, outages=(), down_share=0.1, flapping_share=0.3
)


def differs(day: Scenario, load: int = LOAD) -> tuple[float, int]:
    """How far the two are apart, and how many cases the engine lost."""
    drawn = draw(day, load)
    figures = of_day(engine_day.run(day, drawn), load)
    return difference(figures, model.run(day, drawn)), figures.lost


@pytest.mark.parametrize(
    "day",
    [
        JIAXING_DAY,
        pytest.param(BROKEN_LINES, marks=pytest.mark.slow),
        replace(JIAXING_DAY, measures=Measures(push=False, noon_rota=False, deputy=False, auto_release=False)),
    ],
    ids=["jiaxing", "broken lines", "no measures"],
)  # fmt: skip
def test_engine_and_model_agree(day: Scenario):
    apart, lost = differs(day)
    assert lost == 0
    assert apart < 0.02, "the plans allow 0.05; with the same luck they are closer"


def test_a_deputy_who_is_never_asked_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(due, "_deputise", lambda _step: None)
    apart, _lost = differs(JIAXING_DAY)
    assert apart > 0.05


def test_a_dispatch_that_waits_a_minute_is_noticed(monkeypatch: pytest.MonkeyPatch):
    order = Step.task

    def late(step, kind, target, payload, *, after_s=0.0, key=""):
        is_dispatch = kind == MAIL and payload["message"] == "dispatch"
        order(step, kind, target, payload, after_s=after_s + (60 if is_dispatch else 0), key=key)

    monkeypatch.setattr(Step, "task", late)
    apart, _lost = differs(JIAXING_DAY)
    assert apart > 0.05


def test_a_pause_that_is_not_taken_out_is_noticed(monkeypatch: pytest.MonkeyPatch):
    from gateway.cases import minutes

    monkeypatch.setattr(minutes, "_pauses", lambda _entry, _is_paused: False)
    apart, _lost = differs(replace(JIAXING_DAY, evidence_share=0.3))
    assert apart > 0.05


def test_a_message_that_is_never_sent_loses_cases_and_is_noticed(monkeypatch: pytest.MonkeyPatch):
    send = Step.mail

    def forgetful(step, archive, message, **data):
        if message != "issue":
            send(step, archive, message, **data)

    monkeypatch.setattr(Step, "mail", forgetful)
    _apart, lost = differs(JIAXING_DAY)
    assert lost > 0
