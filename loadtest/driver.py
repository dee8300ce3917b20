"""The open-loop driver: requests leave on schedule whatever the answers do, and latency counts from the planned start.

A closed loop waits for a slow server and so measures it less often: the same stall shows as p90 16 ms there and 1,526 ms
here (measured once on one server).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
from hdrh.histogram import HdrHistogram

from loadtest.plan import Plan
from loadtest.questions import Asked, Questions

MOST_OUTSTANDING = 2_000
"""Above it a request is not sent and counts as an error: the generator may not fall over with the server."""

_GIVE_UP_S = 30.0


@dataclass(frozen=True, slots=True)
class Point:
    """One request: planned start in seconds, latency from it in ms, what came back."""

    at_s: float
    ms: float
    kind: str
    status: int
    verdict: str
    found: bool | None  # None: nobody to be found


@dataclass(slots=True)
class Result:
    """All points of a run."""

    points: list[Point] = field(default_factory=list)
    late_starts: int = 0  # requests the generator itself sent more than 10 ms late

    def latencies(self) -> HdrHistogram:
        """Latencies in microseconds, three significant figures."""
        histogram = HdrHistogram(1, 120_000_000, 3)
        for point in self.points:
            histogram.record_value(max(1, int(point.ms * 1000)))
        return histogram

    def share(self, test: Callable[[Point], bool]) -> float:
        return sum(map(test, self.points)) / len(self.points) if self.points else 0.0

    def measured(self) -> dict[str, float]:
        """The figures targets speak of."""
        latencies = self.latencies()
        asked = [point for point in self.points if point.found is not None]
        partial = self.share(lambda point: point.verdict == "partial")
        return {
            "p50_ms": latencies.get_value_at_percentile(50) / 1000,
            "p90_ms": latencies.get_value_at_percentile(90) / 1000,
            "p99_ms": latencies.get_value_at_percentile(99) / 1000,
            "max_ms": latencies.get_max_value() / 1000,
            "error_share": self.share(lambda point: point.status != 200),
            "partial_share": partial,
            "partial_share_least": partial,
            "found_share": sum(bool(point.found) for point in asked) / len(asked) if asked else 1.0,
        }


def judged(measured: dict[str, float], targets: dict[str, float]) -> list[tuple[str, float, float, bool]]:
    """(target, wanted, measured, held) for each target; shares named _least or found are floors, the rest ceilings."""
    rows = []
    for name, wanted in targets.items():
        is_floor = name in {"found_share", "partial_share_least"}
        held = measured[name] >= wanted if is_floor else measured[name] <= wanted
        rows.append((name, wanted, measured[name], held))
    return rows


Send = Callable[[Asked], Awaitable[tuple[int, dict[str, Any]]]]


async def run(
    plan: Plan, questions: Questions, send: Send, on_second: Callable[[int, int], None] = lambda _s, _n: None
) -> Result:
    """Send every question of the plan at its time; returns when all have ended or been given up."""
    random = Random(plan.seed + 1)
    prepared = [(at, kind, questions.draw(kind, random)) for at, kind in plan.schedule()]
    result = Result()
    running: set[asyncio.Task[None]] = set()
    start = time.perf_counter()

    async def one(at: float, kind: str, asked: Asked) -> None:
        try:
            async with asyncio.timeout(_GIVE_UP_S):
                status, answer = await send(asked)
        except (TimeoutError, aiohttp.ClientError, OSError):
            status, answer = 0, {}
        ms = (time.perf_counter() - start - at) * 1000
        candidates = answer.get("candidates", [])
        found = None
        if asked.holder is not None:
            found = any(
                asked.holder == candidate["archive"] or asked.holder in candidate["copies"]
                for candidate in candidates
            )
        result.points.append(
            Point(at, ms, kind, status, answer.get("completeness", {}).get("verdict", ""), found)
        )

    said = -1
    for at, kind, asked in prepared:
        wait = at - (time.perf_counter() - start)
        if wait > 0:
            await asyncio.sleep(wait)
        elif wait < -0.010:
            result.late_starts += 1
        if int(at) != said:
            said = int(at)
            on_second(said, len(result.points))
        if len(running) >= MOST_OUTSTANDING:
            result.points.append(Point(at, 0.0, kind, 0, "", None))
            continue
        task = asyncio.create_task(one(at, kind, asked), name="request")
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running, timeout=_GIVE_UP_S + 1)
    return result


def http_sender(session: aiohttp.ClientSession, url: str, token: str) -> Send:
    """Sends to a gateway's REST edge."""
    headers = {"Authorization": f"Bearer {token}"}

    async def send(asked: Asked) -> tuple[int, dict[str, Any]]:
        async with session.post(f"{url}/v1/searches", json=asked.body, headers=headers) as answer:
            body = await answer.json(content_type=None)
            return answer.status, body if isinstance(body, dict) else {}

    return send
