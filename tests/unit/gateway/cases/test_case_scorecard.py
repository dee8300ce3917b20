"""The scorecard tells the truth: no case is left out of a mean, however it stands."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.cases.case import Event, StoppedCase
from gateway.cases.machine import apply
from gateway.cases.policy import Policy
from gateway.cases.scorecard import scorecard
from gateway.cases.states import Kind
from tests.fakes.cases import ACCEPTED, HOLDER, START_MS, found, located, new_case

POLICY = Policy()


def dispatched(window: str = "330402"):
    case = new_case(window=window)
    apply(case, ACCEPTED, START_MS, POLICY)
    apply(case, located({HOLDER: "hit"}, [found()]), START_MS + 2_000, POLICY)
    return case


def stopped(outcome: str = "met", counted_ms: int = 300_000, scope: str = "in_city") -> StoppedCase:
    return StoppedCase(outcome, scope, "delivered", START_MS, counted_ms, {"pick_up": 60_000})


def test_an_answer_that_never_comes_is_late_and_counts_with_its_time_so_far():
    card = scorecard([stopped()], [dispatched()], START_MS + 3_600_000)
    assert (card.cases, card.overdue, card.open) == (2, 1, 0)
    assert card.met_share == 0.5
    assert card.mean_s == {"in_city": (300 + 3600) / 2}
    assert card.stages["pick_up"].mean_s == (60 + 3598) / 2


def test_a_case_within_its_target_is_open_and_counts_once_it_is_known_how_it_came_out():
    card = scorecard([stopped()], [dispatched()], START_MS + 600_000)
    assert (card.cases, card.overdue, card.open) == (1, 0, 1)
    assert card.met_share == 1.0
    assert scorecard([], [dispatched()], START_MS + 600_001).met_share == 0.0


def test_a_pause_is_not_the_archives_time():
    case = dispatched()
    apply(case, Event(Kind.EVIDENCE_WANTED, HOLDER, {"items": ["id_card"]}), START_MS + 60_000, POLICY)
    card = scorecard([], [case], START_MS + 86_400_000)
    assert (card.overdue, card.open) == (0, 1)


def test_an_archive_without_cases_has_no_shares():
    card = scorecard([])
    assert (card.met_share, card.available_share, card.mean_s, card.stages) == (None, None, {}, {})
    assert scorecard([], up_ms=900, watched_ms=1000).available_share == 0.9


def test_withdrawn_cases_are_told_and_in_no_mean():
    card = scorecard([stopped(), stopped("withdrawn", 9_999_999)])
    assert (card.cases, card.withdrawn, card.met_share) == (2, 1, 1.0)
    assert card.mean_s == {"in_city": 300}


@given(
    st.lists(st.tuples(st.sampled_from(["met", "late"]), st.integers(0, 10**7)), max_size=40),
    st.integers(0, 5),
)
def test_every_case_is_in_exactly_one_number(results: list[tuple[str, int]], running: int):
    card = scorecard([stopped(*one) for one in results], [dispatched()] * running, START_MS + 10**7)
    assert card.cases == len(results) + running
    if card.cases:
        late = sum(outcome == "late" for outcome, _ in results) + running
        assert card.met_share == pytest.approx(1 - late / card.cases)
        total = sum(counted for _outcome, counted in results) / 1000 + running * 10**4
        assert card.mean_s["in_city"] == pytest.approx(total / card.cases)
