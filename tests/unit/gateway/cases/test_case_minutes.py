"""The written rules of the clock: what starts it, stops it and pauses it, and that nothing else does."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from gateway.cases.case import Entry
from gateway.cases.minutes import Minutes, minutes
from gateway.cases.states import ENDED, STAGE_OF, Kind, State
from tests.fakes.cases import HOLDER, START_MS

MANY = settings(max_examples=150, deadline=None)


def journal(*lines: tuple[float, Kind, State] | tuple[float, Kind, State, dict]) -> list[Entry]:
    """Lines as (seconds since the start, kind, state after it, data)."""
    entries = []
    for seq, (at_s, kind, state, *data) in enumerate(lines, 1):
        stage = STAGE_OF.get(state)
        about = data[0] if data else {}
        entries.append(
            Entry(
                seq, START_MS + int(at_s * 1000), kind, "x", state, stage.value if stage else "review", about
            )
        )
    return entries


def told(entries: list[Entry], now_s: float = 10_000, **about) -> Minutes:
    result = minutes(entries, START_MS + int(now_s * 1000), **about)
    assert result is not None
    return result


START = (0, Kind.ACCEPTED, State.LOCATING, {"target_s": 900})
SENT = (2, Kind.LOCATED, State.DISPATCHED, {"archive": HOLDER, "target_s": 600})
WHOLE = journal(
    START,
    SENT,
    (50, Kind.CLAIMED, State.IN_REVIEW),
    (80, Kind.EVIDENCE_WANTED, State.AWAITING_EVIDENCE),
    (1080, Kind.EVIDENCE_GIVEN, State.IN_REVIEW),
    (1100, Kind.RETRIEVING, State.RETRIEVING_ORIGINAL, {"pauses": True}),
    (1400, Kind.RETRIEVED, State.IN_REVIEW),
    (1410, Kind.APPROVED, State.ISSUING),
    (1415, Kind.ISSUED, State.ISSUED),
    (1440, Kind.DELIVERED, State.DELIVERED),
)


def test_a_whole_case_in_full():
    assert told(WHOLE) == Minutes(
        started_ms=START_MS,
        stopped_ms=START_MS + 1_440_000,
        wall_s=1440,
        paused_s=1300,
        counted_s=140,
        target_s=600,
        stages={"locate": 2, "pick_up": 48, "review": 60, "issue": 5, "deliver": 25},
        holder=HOLDER,
        outcome="delivered",
    )


def test_nothing_without_an_acceptance():
    assert minutes([], START_MS) is None
    assert minutes(WHOLE[1:], START_MS) is None


def test_the_minutes_of_a_stopped_case_stand_still():
    assert told(WHOLE, 1440) == told(WHOLE, 1e6)


@pytest.mark.parametrize("kind", [Kind.WARNED, Kind.ESCALATED, Kind.DEPUTISED, Kind.BREACHED])
def test_the_words_of_the_clock_itself_change_no_minute(kind: Kind):
    quiet = told(journal(START, SENT), 300)
    assert told(journal(START, SENT, (100, kind, State.DISPATCHED)), 300) == quiet


def test_a_fetched_original_counts_where_the_holder_does_not_pause():
    lines = [START, SENT, (10, Kind.CLAIMED, State.IN_REVIEW)]
    away = (20, Kind.RETRIEVING, State.RETRIEVING_ORIGINAL, {"pauses": False})
    assert told(journal(*lines, away, (90, Kind.RETRIEVED, State.IN_REVIEW)), 100).paused_s == 0


def test_what_is_said_in_a_pause_does_not_end_it():
    lines = [START, SENT, (10, Kind.CLAIMED, State.IN_REVIEW)]
    away = (20, Kind.RETRIEVING, State.RETRIEVING_ORIGINAL, {"pauses": True})
    word = (50, Kind.WARNED, State.RETRIEVING_ORIGINAL)
    assert told(journal(*lines, away, word), 120).paused_s == 100


@pytest.mark.parametrize("end", [State.REFUSED, State.NO_RECORD, State.EXPIRED])
def test_the_clock_of_an_answer_runs_until_it_is_delivered(end: State):
    ended = [START, (100, Kind.LOCATED, end)]
    assert told(journal(*ended), 300).stopped_ms is None
    assert told(journal(*ended), 300).counted_s == 300
    delivered = told(journal(*ended, (160, Kind.DELIVERED, end)), 300)
    assert (delivered.counted_s, delivered.outcome) == (160, end.value)


def test_a_withdrawal_stops_the_clock_by_itself():
    gone = told(journal(START, SENT, (42, Kind.WITHDRAWN, State.WITHDRAWN)))
    assert (gone.counted_s, gone.outcome, gone.stopped_ms) == (42, "withdrawn", START_MS + 42_000)


def test_the_target_is_met_up_to_its_last_millisecond():
    for counted, is_met in ((600.0, True), (600.001, False)):
        lines = [START, SENT, (10, Kind.REFUSED, State.REFUSED), (counted, Kind.DELIVERED, State.REFUSED)]
        assert told(journal(*lines)).is_met is is_met


def test_a_clock_set_back_takes_nothing_away_and_gives_no_negative_stage():
    lines = [START, SENT, (50, Kind.CLAIMED, State.IN_REVIEW), (40, Kind.APPROVED, State.ISSUING)]
    assert told(journal(*lines), 45).stages == {"locate": 2, "pick_up": 48, "issue": 5}


def test_service_hours_are_asked_of_the_holder_for_exactly_the_time_that_counted():
    asked = []

    def hours(archive: str, first: int, last: int) -> int:
        asked.append((archive, first - START_MS, last - START_MS))
        return (last - first) // 2

    result = told(WHOLE, service_ms=hours)
    assert {archive for archive, _first, _last in asked} == {HOLDER}
    assert sum(last - first for _archive, first, last in asked) == 140_000
    assert not any(first < 1_080_000 and last > 80_000 for _a, first, last in asked), (
        "the pause was asked for"
    )
    assert result.service_s == 70
    assert told(journal(START), 5, service_ms=hours).service_s is None, "nobody's hours while nobody holds it"


@st.composite
def journals(draw):
    lines, at = [START], 0.0
    for kind, state in draw(
        st.lists(
            st.tuples(st.sampled_from(Kind), st.sampled_from([one for one in State if one not in ENDED])),
            max_size=12,
        )
    ):
        at += draw(st.integers(-50, 400)) / 10
        at = max(at, 0.0)
        lines.append((at, kind, state, {"pauses": True} if draw(st.booleans()) else {}))
    if draw(st.booleans()):
        at += draw(st.integers(0, 400)) / 10
        lines.append((at, Kind.DELIVERED, State.DELIVERED))
    return journal(*lines), at


@MANY
@given(journals(), st.integers(0, 1000), st.integers(0, 1000))
def test_the_parts_add_up_and_time_never_runs_backwards(written, first, second):
    entries, at = written
    early, late = (told(entries, at + length) for length in sorted((first, second)))
    for one in (early, late):
        assert all(length > 0 for length in one.stages.values())
        assert sum(one.stages.values()) == pytest.approx(one.counted_s)
        assert one.counted_s + one.paused_s == pytest.approx(one.wall_s)
    assert late.counted_s >= early.counted_s
    assert late.paused_s >= early.paused_s
    assert early.stopped_ms is None or early == late
    assert told(list(entries), at + first) == told(entries, at + first)
