"""Killing the node agent at random moments of real exchanges: no case is lost, none is decided or issued twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest import agent_kills

POINTS = 30
"""`make bench ARGS=kills` does 200."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_random_points_nothing_is_lost_and_nothing_doubled(tmp_path: Path):
    report = agent_kills.run(tmp_path, POINTS)
    assert report.faults == []
    assert (report.points, report.lost, report.doubled) == (POINTS, 0, 0)
    assert report.accepted >= POINTS, "hardly anything was going on"
