"""`kill -9` of a real gateway in the middle of cases: what was acknowledged is there, once, and goes on by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.cases.case import Entry
from gateway.cases.states import Kind, State
from loadtest import kills

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
POINTS = 12
"""`make bench ARGS=kills` does 200."""


def test_killed_at_random_points_nothing_is_lost_and_nothing_happens_twice(tmp_path: Path):
    report = asyncio.run(kills.run(tmp_path, POINTS, seed=7))
    assert report.faults == []
    assert (report.points, report.lost, report.doubled) == (POINTS, 0, 0)
    assert report.accepted > POINTS, "hardly anything was going on"
    # what comes on top of starting a process, whose time on a busy machine says nothing
    after_ready = [
        recovery - ready for recovery, ready in zip(report.recovery_s, report.ready_s, strict=True)
    ]
    assert sorted(after_ready)[len(after_ready) // 2] <= 5.0


def test_the_judge_sees_what_is_wrong():
    """The run above is worth what its judge is worth."""

    def line(seq: int, at_ms: int, kind: Kind, state: State) -> Entry:
        return Entry(seq, at_ms, kind, "x", state, "locate")

    whole = [
        line(1, 0, Kind.ACCEPTED, State.LOCATING),
        line(2, 1, Kind.LOCATED, State.DISPATCHED),
        line(3, 2, Kind.RECEIVED, State.DISPATCHED),
        line(4, 3, Kind.CLAIMED, State.IN_REVIEW),
        line(5, 4, Kind.APPROVED, State.ISSUING),
        line(6, 5, Kind.ISSUED, State.ISSUED),
        line(7, 6, Kind.DELIVERED, State.DELIVERED),
    ]
    assert kills._wrong(whole, is_fetched=True) == []
    assert "a journal has a gap" in kills._wrong([whole[0], whole[2]], is_fetched=False)
    twice = [*whole[:5], line(6, 5, Kind.APPROVED, State.ISSUING)]
    assert "approved happened 2 times" in kills._wrong(twice, is_fetched=False)
    assert "delivered never happened" in kills._wrong(whole[:6], is_fetched=True)
    assert "a journal's times run backwards" in kills._wrong([whole[1], whole[0]], is_fetched=False)
