"""`kill -9` of the gateway and of the holder's agent at random points: what was lost, what was doubled, how soon it went on."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

from loadtest import agent_kills, kills
from loadtest.bench import Figure, Scale

POINTS, QUICK_POINTS = 200, 20


def run(scale: Scale) -> Iterator[Figure]:
    """On SQLite. Recovery is told with the part of it that is starting a Python process on this machine."""
    points = QUICK_POINTS if scale.quick else POINTS
    with tempfile.TemporaryDirectory(prefix="lantai-kills-") as folder:
        yield from _figures("gateway", asyncio.run(kills.run(Path(folder), points)), points)
    with tempfile.TemporaryDirectory(prefix="lantai-kills-") as folder:
        yield from _figures("agent", agent_kills.run(Path(folder), points), points)


def _figures(who: str, report: kills.KillReport, points: int) -> Iterator[Figure]:
    recovery, ready = sorted(report.recovery_s), sorted(report.ready_s)
    faults = "; ".join(sorted(set(report.faults)))[:200]
    yield Figure(f"kill -9 of the {who}: points", report.points, "kills", least=points)
    yield Figure("  cases acknowledged", report.accepted, "cases")
    yield Figure("  lost", report.lost, "cases", most=0)
    yield Figure("  doubled", report.doubled, "cases", most=0)
    yield Figure("  anything else wrong", len(report.faults), "faults", most=0, note=faults)
    within = sum(one <= 5.0 for one in recovery)
    yield Figure("  recovery, median", recovery[len(recovery) // 2], "s", most=5.0)
    yield Figure(
        "  recovery, worst", recovery[-1], "s", most=5.0, note=f"{within} of {len(recovery)} within 5 s"
    )
    yield Figure(
        "  of it until the process works again", ready[len(ready) // 2], "s", note=f"worst {ready[-1]:.1f} s"
    )
