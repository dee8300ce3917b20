"""What asking eight archives costs, with archives that answer out of a dictionary, so that no searching is measured.

The gateway's search feature and sessions against single unary calls of the same stack, then the whole REST gateway against
one written the obvious way, over the same agents and the same mutual TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from federation.dates import DateSpan
from federation.process import collector
from federation.query import Query, Relation
from federation.rpc import transport
from federation.wire.translate import query_to_wire
from federation.wire.v1 import holdings_pb2 as pb
from gateway.adapters.nodes import NodeSessions
from gateway.search.question import Question
from gateway.search.roster import Roster
from gateway.search.search import Searches
from loadtest.bench import Figure, Scale
from loadtest.benches.rest import CODES, cpu_s, obvious
from loadtest.closed_loop import Run, hammer, request
from loadtest.fleet import Archive, Fleet

_PEOPLE = 200  # an archive; each is known to one archive only
_SURNAMES, _GIVEN = "钱孙李周吴郑王冯", "伟芳娜敏静丽强磊军洋"
_ROUNDS = 3


def _names(number: int) -> list[str]:
    return [
        _SURNAMES[number] + _GIVEN[one // 10 % 10] + _GIVEN[one % 10] + "一二三"[one // 100]
        for one in range(_PEOPLE)
    ]


@contextlib.contextmanager
def _dictionary_agents(fleet: Fleet) -> Iterator[int]:
    """The process of all eight; its id."""
    tls = fleet.folder / "tls"
    archives = {
        code: {
            "address": fleet.agent_address(code),
            "certificate": str(tls / f"node-{code}.pem"),
            "key": str(tls / f"node-{code}.key"),
            "names": _names(number),
        }
        for number, code in enumerate(CODES)
    }
    settings = fleet.folder / "dictionary.json"
    settings.write_text(json.dumps({"ca": str(tls / "ca.pem"), "archives": archives}), "utf-8")
    with (fleet.folder / "dictionary.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.peers.dictionary_agents", str(settings)], stdout=log, stderr=log
        )
    try:
        for code in CODES:
            _wait_for(fleet.agent_address(code))
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _wait_for(address: str) -> None:
    host, port = address.rsplit(":", 1)
    ends_at = time.monotonic() + 20
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        if time.monotonic() > ends_at:
            raise RuntimeError("the dictionary agents did not come up")
        time.sleep(0.05)


class _Nobody:
    def session_event(self, archive: str, event: str) -> None: ...
    def connected(self, archive: str, *, up: bool) -> None: ...
    def no_session(self, archive: str, reason: str) -> None: ...
    def searched(self, seconds: float, verdict: str, asked: int) -> None: ...
    def outcome(self, archive: str, outcome: str) -> None: ...
    def event(self, name: str) -> None: ...


async def _loop(
    work: Callable[[int], Awaitable[object]], in_flight: int, seconds: float
) -> tuple[int, float, float]:
    """(how many, CPU seconds of this process for each, median seconds of each) with `in_flight` at a time."""
    ends_at = time.perf_counter() + seconds
    took: list[float] = []

    async def one(number: int) -> None:
        while (began := time.perf_counter()) < ends_at:
            await work(number + len(took))
            took.append(time.perf_counter() - began)

    before = time.process_time()
    await asyncio.gather(*[one(number) for number in range(in_flight)])
    return len(took), (time.process_time() - before) / len(took), median(took)


async def _compared(fleet: Fleet, seconds: float) -> dict[str, float]:
    """CPU and time of a full fan-out and of one unary call, alternating, in this process."""
    tls = fleet.folder / "tls"
    credentials = transport.Credentials(
        ca=tls / "ca.pem", certificate=tls / "gateway-gateway.pem", key=tls / "gateway-gateway.key"
    )
    roster = Roster.load(fleet.folder / "roster.toml")
    nodes = NodeSessions(roster, credentials, _Nobody())
    searches = Searches(roster, nodes, _Nobody(), clock=time.monotonic)
    nodes.on_session = searches.session_opened
    await nodes.start()
    questions = [
        Question(
            query=Query(
                category="marriage", purpose="marriage_proof", relation=Relation.SELF, name=name,
                birth=DateSpan.of_year(1963), event=DateSpan.of_years(1985, 1988),
            ),
            caller="bench",
        )
        for number in range(len(CODES)) for name in _names(number)[:20]
    ]  # fmt: skip
    channel = transport.channel(fleet.agent_address(CODES[0]), credentials, "node", CODES[0])
    call: Any = channel.unary_unary(
        "/federation.wire.v1.Holdings/Search",
        request_serializer=pb.SearchRequest.SerializeToString,
        response_deserializer=pb.SearchResponse.FromString,
    )
    message = pb.SearchRequest(
        query=pb.Query.FromString(query_to_wire(questions[0].query)), budget_ms=2000, max_candidates=50
    )

    async def search(number: int) -> None:
        answer = await searches.search(questions[number % len(questions)])
        if answer.completeness.answered != len(CODES) or len(answer.candidates) != 1:
            raise RuntimeError("the fan-out did not answer in full; nothing was compared")

    async def unary(_number: int) -> None:
        await call(message, timeout=2.0)

    collector.spare()  # as the gateway does
    try:
        async with asyncio.timeout(20):
            while not all(nodes.connected(code) for code in CODES):  # noqa: ASYNC110 - bounded above
                await asyncio.sleep(0.05)
        rounds: dict[str, list[float]] = {}
        for round_no in range(_ROUNDS + 1):
            for name, work, in_flight in (
                ("search cpu 64", search, 64), ("unary cpu 64", unary, 64), ("search p50 1", search, 1), ("unary p50 1", unary, 1),
            ):  # fmt: skip
                _count, cpu, middle = await _loop(work, in_flight, seconds)
                if round_no:  # the first round warms
                    rounds.setdefault(name, []).append(middle if "p50" in name else cpu)
        return {name: median(values) for name, values in rounds.items()}
    finally:
        await channel.close(None)
        await nodes.stop()


def run(scale: Scale) -> Iterator[Figure]:
    """Alternating rounds; medians."""
    seconds = 1.0 if scale.quick else 4.0
    with tempfile.TemporaryDirectory(prefix="lantai-bench-") as name:
        fleet = Fleet(
            Path(name),
            [Archive(code, f"{code} 档案馆") for code in CODES],
            gateway_settings={"requests_per_minute": 60_000_000},
        )
        fleet.prepare()
        with _dictionary_agents(fleet) as agents:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                got = runner.run(_compared(fleet, seconds / 2))
            ratio = got["search cpu 64"] / got["unary cpu 64"]
            yield Figure(
                "gateway CPU of a full fan-out to 8, 64 in flight", ratio, "× one unary call", most=0.15
            )
            yield Figure("  full fan-out", got["search cpu 64"] * 1e6, "µs")
            yield Figure("  one unary call", got["unary cpu 64"] * 1e6, "µs")
            yield Figure(
                "one search in flight, p50", got["search p50 1"] * 1e3, "ms",
                note=f"one unary call {got['unary p50 1'] * 1e3:.2f} ms",
            )  # fmt: skip
            try:
                fleet.start_gateway()
                fleet.wait_connected(CODES)
                yield from _over_rest(fleet, agents, seconds)
            finally:
                fleet.stop()


def _over_rest(fleet: Fleet, agents: int, seconds: float) -> Iterator[Figure]:
    token = fleet.mint_token()
    bodies = [
        json.dumps(
            {
                "purpose": "marriage_proof", "category": "marriage", "applicant": {"relation": "SELF"},
                "subject": {"name": one, "birth": "1963"}, "event": {"from": "1985", "to": "1988"}, "deadline_ms": 2000,
            }
        ).encode()
        for number in range(len(CODES)) for one in _names(number)
    ]  # fmt: skip
    port = int(fleet.gateway_url.rsplit(":", 1)[1])
    sides: dict[str, tuple[int, list[bytes], list[Run], list[Run], list[float]]] = {}
    with obvious(fleet) as (obvious_port, obvious_pid):
        sides["Lantai"] = (port, [request("/v1/searches", one, token) for one in bodies], [], [], [])
        sides["obvious gateway"] = (
            obvious_port,
            [request("/v1/searches", one) for one in bodies],
            [],
            [],
            [],
        )
        pids = {"Lantai": fleet.gateway_pid(), "obvious gateway": obvious_pid}
        agents_cpu: dict[str, list[float]] = {name: [] for name in sides}
        for round_no in range(_ROUNDS + 1):
            for name, (at, requests, many, single, cpu) in sides.items():
                before, agents_before = cpu_s(pids[name]), cpu_s(agents)
                one = hammer(at, requests, in_flight=32, seconds=seconds)
                after, agents_after = cpu_s(pids[name]), cpu_s(agents)
                alone = hammer(at, requests, in_flight=1, seconds=seconds / 2)
                if any(status != 200 for run in (one, alone) for _at, _ms, status, _mark in run.answers):
                    raise RuntimeError(f"{name} failed; nothing was compared")
                if round_no:
                    many.append(one)
                    single.append(alone)
                    cpu.append((after - before) / len(one.answers))
                    agents_cpu[name].append((agents_after - agents_before) / len(one.answers))
    rates = {name: median(one.rate for one in side[2]) for name, side in sides.items()}
    yield Figure(
        "REST over dictionary archives, ratio to the obvious gateway", rates["Lantai"] / rates["obvious gateway"], "×",
        least=5.0,
    )  # fmt: skip
    for name, (_port, _requests, many, single, cpu) in sides.items():
        p50, alone_ms = (median(one.percentile_ms(0.5) for one in runs) for runs in (many, single))
        yield Figure(
            f"  {name}, 32 in flight", rates[name], "searches/s",
            note=f"p50 {p50:.1f} ms, alone {alone_ms:.2f} ms; CPU gateway {median(cpu) * 1e6:.0f} µs, agents {median(agents_cpu[name]) * 1e6:.0f} µs",
        )  # fmt: skip
    work = {name: median(side[4]) + median(agents_cpu[name]) for name, side in sides.items()}
    yield Figure(
        "  CPU of gateway and archives a search, obvious to ours",
        work["obvious gateway"] / work["Lantai"],
        "×",
    )
    single_ms = {name: median(one.percentile_ms(0.5) for one in side[3]) for name, side in sides.items()}
    yield Figure(
        "  one search in flight, p50 to the obvious gateway's",
        single_ms["Lantai"] / single_ms["obvious gateway"],
        "×",
        most=1.0,
    )
