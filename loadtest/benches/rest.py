"""REST search over eight archives with 32 in flight, against a gateway written the obvious way; and one agent stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median

from loadtest.bench import Figure, Scale
from loadtest.closed_loop import Run, hammer, request
from loadtest.fleet import Archive, Fleet, free_port
from loadtest.people import write_csv
from loadtest.questions import Questions

CODES = ("330400", "330402", "330411", "330421", "330424", "330481", "330482", "330483")
_RECORDS = 100_000
_DEADLINE_MS = 2_000
_ROUNDS = 3


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def obvious(fleet: Fleet) -> Iterator[tuple[int, int]]:
    """The obvious gateway over the fleet's agents: its port and process."""
    settings = fleet.folder / "obvious.json"
    gateway = tomllib.loads((fleet.folder / "gateway.toml").read_text("utf-8"))
    archives = {code: fleet.agent_address(code) for code in CODES}
    settings.write_text(
        json.dumps({name: gateway[name] for name in ("ca", "certificate", "key")} | {"archives": archives})
    )
    port = free_port()
    with (fleet.folder / "obvious.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.peers.obvious_gateway", str(settings), "--port", str(port)],
            stdout=log,
            stderr=log,
        )
    try:
        ends_at = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if time.monotonic() > ends_at:
                raise RuntimeError("the obvious gateway did not come up")
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(10)


def run(scale: Scale) -> Iterator[Figure]:
    """Alternating rounds against both gateways over the same agents, then with one agent stopped."""
    records = 10_000 if scale.quick else _RECORDS
    seconds = 2.0 if scale.quick else 6.0
    with tempfile.TemporaryDirectory(prefix="lantai-bench-") as parent:
        folder = Path(parent)
        archives = [Archive(code, f"{code} 档案馆") for code in CODES]
        fleet = Fleet(folder, archives, gateway_settings={"requests_per_minute": 6_000_000})
        fleet.prepare()
        for number, code in enumerate(CODES):
            write_csv(folder / f"{code}.csv", records, seed=number)
            fleet.node("import", str(folder / f"{code}.csv"), "--data", str(fleet.data(code)))
        questions = Questions(folder, list(CODES), _DEADLINE_MS)
        random = Random(7)
        bodies = [json.dumps(questions.draw("exact", random).body).encode() for _ in range(2_000)]
        with fleet:
            token = fleet.mint_token()
            ours = [request("/v1/searches", body, token) for body in bodies]
            theirs = [request("/v1/searches", body) for body in bodies]
            port = int(fleet.gateway_url.rsplit(":", 1)[1])
            with obvious(fleet) as (obvious_port, obvious_pid):
                sides = {
                    "Lantai": (port, ours, fleet.gateway_pid()),
                    "obvious": (obvious_port, theirs, obvious_pid),
                }
                runs: dict[str, list[Run]] = {name: [] for name in sides}
                cpu: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
                for round_no in range(_ROUNDS + 1):
                    for name, (at, requests, pid) in sides.items():
                        before = cpu_s(pid), sum(cpu_s(fleet.agent_pid(code)) for code in CODES)
                        one = hammer(at, requests, seconds=seconds)
                        after = cpu_s(pid), sum(cpu_s(fleet.agent_pid(code)) for code in CODES)
                        if round_no:  # the first round warms both
                            runs[name].append(one)
                            count = len(one.answers)
                            cpu[name].append(((after[0] - before[0]) / count, (after[1] - before[1]) / count))
            mine, plain = runs["Lantai"], runs["obvious"]
            if any(status != 200 for one in plain for _at, _ms, status, _mark in one.answers):
                raise RuntimeError("the obvious gateway failed; nothing was compared")
            rate, floor = median(one.rate for one in mine), median(one.rate for one in plain)
            yield Figure("REST search, ratio to the obvious gateway", rate / floor, "×", least=5.0)
            yield Figure(
                "  Lantai, 32 in flight",
                rate,
                "searches/s",
                note=f"p99 {mine[-1].percentile_ms(0.99):.0f} ms",
            )
            yield Figure(
                "  obvious gateway", floor, "searches/s", note=f"p99 {plain[-1].percentile_ms(0.99):.0f} ms"
            )
            wrong = sum(status != 200 for one in mine for _at, _ms, status, _mark in one.answers)
            yield Figure("  answers other than 200", wrong, "", most=0)
            work = {name: median(one + other for one, other in values) for name, values in cpu.items()}
            yield Figure(
                "  CPU of all processes a search, obvious to ours", work["obvious"] / work["Lantai"], "×"
            )
            for name, values in cpu.items():
                gateway, agents = (median(column) for column in zip(*values, strict=True))
                yield Figure(
                    f"  {name}: gateway CPU a search",
                    gateway * 1e6,
                    "µs",
                    note=f"agents {agents * 1e6:.0f} µs",
                )
            healthy = median(one.rate for one in mine)
            fleet.send("330481", signal.SIGSTOP)
            try:
                stopped = hammer(port, ours, seconds=max(8.0, seconds))
            finally:
                fleet.send("330481", signal.SIGCONT)
            worst = max(ms for _at, ms, _status, _mark in stopped.answers)
            partial = sum(mark for _at, _ms, _status, mark in stopped.answers) / len(stopped.answers)
            later = [
                at
                for at, _ms, status, _mark in stopped.answers
                if status == 200 and at > _DEADLINE_MS / 1000 + 1
            ]
            steady = len(later) / (stopped.seconds - _DEADLINE_MS / 1000 - 1)
            yield Figure("one of eight stopped: worst answer", worst, "ms", most=_DEADLINE_MS + 100)
            yield Figure("  answers that say partial", partial, "share", least=1.0)
            yield Figure("  throughput once its circuit is open", steady / healthy, "× healthy", least=0.9)
