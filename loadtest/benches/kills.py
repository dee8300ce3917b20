"""`kill -9` of the gateway at random points: what was lost, what was doubled, how soon it went on."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

from loadtest import kills
from loadtest.bench import Figure, Scale

POINTS, QUICK_POINTS = 200, 20


def run(scale: Scale) -> Iterator[Figure]:
    """On SQLite. Recovery is told with the part of it that is starting a Python process on this machine."""
    points = QUICK_POINTS if scale.quick else POINTS
    with tempfile.TemporaryDirectory(prefix="lantai-kills-") as folder:
        report = asyncio.run(kills.run(Path(folder), points))
    recovery, ready = sorted(report.recovery_s), sorted(report.ready_s)
    yield Figure("kill -9: points", report.points, "kills", least=points)
    yield Figure("kill -9: cases acknowledged", report.accepted, "cases")
    yield Figure("kill -9: lost", report.lost, "cases", most=0)
    yield Figure("kill -9: doubled", report.doubled, "cases", most=0)
    yield Figure(
        "kill -9: anything else wrong", len(report.faults), "faults", most=0, note="; ".join(sorted(set(report.faults)))[:200]
    )  # fmt: skip
    yield Figure("kill -9: recovery, median", recovery[len(recovery) // 2], "s", most=5.0)
    yield Figure("kill -9: recovery, worst", recovery[-1], "s", most=5.0)
    yield Figure(
        "kill -9: of it until requests are taken", ready[len(ready) // 2], "s", note="starting the process"
    )
