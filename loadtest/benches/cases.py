"""Cases: five-step cases a second through engine, writer and store, durable on SQLite and on PostgreSQL, and how soon an
accepted case is with its holder's desk.

Locator and desks answer at once, so that only the case core is measured. Each case is accepted and takes five steps:
located and dispatched, claimed, approved, issued, delivered. Nothing counts before its COMMIT has returned. The floor is
as many rows written bare through the driver, as many to a transaction, just as durable.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from sqlalchemy import func, select

from federation import mail
from federation.mail import FromDesk, mail_id, write
from federation.process import collector
from federation.tlog.note import Signer
from federation.tlog.reader import LogReader
from gateway.adapters.case_evidence import CaseEvidence
from gateway.cases.case import Case, Event
from gateway.cases.cases import Cases, NewCase
from gateway.cases.engine import Engine
from gateway.cases.policy import Policy
from gateway.cases.ports import HookAnswer, Located
from gateway.cases.schema import METADATA
from gateway.cases.states import Kind
from gateway.cases.store import Done, Store, Unit, new_owner
from gateway.cases.writer import ThreadedWriter
from gateway.evidence.log import GatewayLog
from loadtest.bench import Figure, Scale
from loadtest.case_core import AlwaysOpen, make_tables
from loadtest.postgres import NoPostgresError, Postgres, postgres

HOLDER, WINDOW = "330483", "330402"
TOGETHER = 400
"""Cases in flight while throughput is measured: enough to fill the writer's batches."""

RATE = 100.0
"""Cases a second of the open loop; a day of the whole delta has one every seven seconds."""

_REQUEST = {
    "category": "marriage",
    "purpose": "marriage_proof",
    "applicant": {"relation": "SELF"},
    "subject": {"name": "錢偉明", "birth": "1963", "other_name": "王芳"},
    "event": {"from": "1985", "to": "1990", "place": HOLDER},
    "scope": {"regions": ["3304"]},
}
_FOUND = {
    "ref": f"{HOLDER}.r1", "archive": HOLDER, "score": 31.2, "decision": "likely", "name": "錢*明", "other_name": "王*",
    "year": 1987, "level": "variant", "explanation": "姓名異體一致；出生年一致；配偶同音", "digitised": True,
}  # fmt: skip
_OTHERS = ("330400", "330402", "330411", "330421", "330424", "330481", "330482")


class _Quiet:
    """Counts batches and nothing else."""

    def __init__(self) -> None:
        self.batches = self.units = 0

    def committed(self, _seconds: float, units: int, _waiting: int) -> None:
        self.batches += 1
        self.units += units

    def happened(self, _kind: str, _stage: str) -> None: ...
    def stage_ended(self, _stage: str, _seconds: float) -> None: ...
    def stopped(self, _outcome: str, _scope: str, _seconds: float) -> None: ...
    def lease_lost(self, _kind: str) -> None: ...
    def task_failed(self, _kind: str) -> None: ...


class _NoHooks:
    def wants(self, _client: str) -> bool:
        return False

    async def call(self, _client: str, _message_id: str, _body: bytes) -> HookAnswer:
        return HookAnswer(410)


@dataclass(slots=True)
class _World:
    """Archives whose answers take no time, and callers who take theirs at once."""

    engine: Engine = field(init=False)
    cases: Cases = field(init=False)
    sent_at: dict[str, float] = field(default_factory=dict)
    delivered: dict[str, asyncio.Event] = field(default_factory=dict)

    async def locate(self, _case: Case, _archives: list[str]) -> Located:
        return Located({HOLDER: "hit", **dict.fromkeys(_OTHERS, "empty")}, [_FOUND])

    def send(self, archive: str, name: bytes, case_id: str, body: bytes) -> bool:
        self.engine.receipted(archive, name, "")
        if case_id not in self.sent_at:
            self.sent_at[case_id] = time.perf_counter()
            group = mail.read_to_desk(body).group
            self._say(archive, case_id, mail.Claimed(group=group))
        return True

    def _say(self, archive: str, case_id: str, message: FromDesk) -> None:
        name = mail_id(f"{archive}:{case_id}:{type(message).__name__}:{message.group}")
        self.cases.desk_said(archive, name, case_id, write(message), lambda _reason: None)

    def changed(self, case_id: str, done: Done) -> None:
        """Each party's next step, once the one before is durable."""
        for entry in done.entries:
            match entry.kind:
                case Kind.CLAIMED:
                    self._say(HOLDER, case_id, mail.Approved("D-1", archival_code="J1-2-3", group=1))
                case Kind.APPROVED:
                    self._say(HOLDER, case_id, mail.Issued("D-1", group=1))
                case Kind.ISSUED:
                    event = Event(Kind.DELIVERED, "gateway", {"by": "caller"})
                    self.engine.begin(Unit(case_id, event))
                case Kind.DELIVERED:
                    self.delivered.setdefault(case_id, asyncio.Event()).set()

    async def whole(self, number: int) -> Case:
        """One case from acceptance until its delivery is durable."""
        case, _again = await self.cases.accept(
            NewCase("platform", f"bench-{number}", f"{number:064x}", _REQUEST, WINDOW)
        )
        await self.delivered.setdefault(case.id, asyncio.Event()).wait()
        return case


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement. `cpu_s` is of this process; `waits_ms` are from the planned start until the desk has the case."""

    cases: int
    wall_s: float
    cpu_s: float
    batches: int
    units: int
    rows: int
    waits_ms: list[float]


async def _measure(store: Store, count: int, rate: float = 0.0, log: Path | None = None) -> Run:
    """Run `count` cases: as fast as they go, or leaving `rate` a second whatever becomes of them; with an evidence log."""
    counts, hooks, world = _Quiet(), _NoHooks(), _World()
    writer = ThreadedWriter(store, counts)
    evidence_log = None if log is None else _log(log)
    evidence = None if evidence_log is None else CaseEvidence(evidence_log, store, store.now_ms)
    world.engine = Engine(store, writer, world, world, hooks, counts, evidence=evidence)
    world.cases = Cases(store, world.engine, hooks, AlwaysOpen(), evidence)
    inform = world.engine.on_change

    def changed(case_id: str, done: Done) -> None:
        inform(case_id, done)
        world.changed(case_id, done)

    world.engine.on_change = changed
    serving = asyncio.create_task(world.engine.run())
    waits: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        if rate:
            await asyncio.gather(*[_timed(world, n, wall + 0.1 + n / rate, waits) for n in range(count)])
        else:
            numbers = iter(range(count))

            async def one_after_another() -> None:
                for number in numbers:
                    await world.whole(number)

            await asyncio.gather(*[one_after_another() for _ in range(TOGETHER)])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    finally:
        await world.engine.drain()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await writer.close()
        if evidence_log is not None:
            evidence_log.close()
    return Run(count, wall, cpu, counts.batches, counts.units, _rows(store), waits)


async def _timed(world: _World, number: int, planned: float, waits: list[float]) -> None:
    await asyncio.sleep(planned - time.perf_counter())
    case = await world.whole(number)
    waits.append((world.sent_at[case.id] - planned) * 1000)


def _rows(store: Store) -> int:
    """Rows in all tables of the case core."""

    def work(connection: Any) -> int:
        return sum(
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in METADATA.sorted_tables
        )

    return store.read(work)


def _open(url: str) -> Store:
    store = Store(url, Policy(), clock_ms=lambda: int(time.time() * 1000), owner=new_owner())
    make_tables(store)
    return store


def _log(path: Path) -> GatewayLog:
    class Nobody:
        def logged(self, _kind: str) -> None: ...
        def log_failed(self, why: str) -> None:
            raise AssertionError(why)

        def log_size(self, _entries: int) -> None: ...
        def stamp_age(self, _seconds: float) -> None: ...
        def stamp_failed(self, _what: str, why: str) -> None:
            raise AssertionError(why)

    return GatewayLog(path, Signer.generate("bench/gateway"), lambda: int(time.time() * 1000), Nobody())


def _run(url: str, count: int, rate: float = 0.0, log: Path | None = None) -> Run:
    """One measurement on an empty database, with the loop and the collector's settings of the gateway."""
    collector.spare()
    store = _open(url)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_measure(store, count, rate, log))
    finally:
        store.close()


# the floor -----------------------------------------------------------------------------------------------------

_TABLE = "CREATE TABLE floor (id text PRIMARY KEY, a bigint, b text, c text)"
_FILLING = "x" * 180
"""About what a row of the case core weighs on average."""


def _rows_of(count: int) -> list[tuple[str, int, str, str]]:
    return [(f"{number:032x}", number, "filling", _FILLING) for number in range(count)]


def _floor(write: Callable[[list[tuple[str, int, str, str]]], None], run: Run) -> float:
    """Seconds to insert the run's rows bare, as many to a transaction as the run's batches had."""
    rows = _rows_of(run.rows)
    together = max(1, round(run.rows / run.batches))
    began = time.perf_counter()
    for at in range(0, len(rows), together):
        write(rows[at : at + together])
    return time.perf_counter() - began


def _sqlite_floor(folder: Path, run: Run) -> float:
    connection = sqlite3.connect(folder / "floor.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(_TABLE)

    def write(rows: list[tuple[str, int, str, str]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO floor VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")

    try:
        return _floor(write, run)
    finally:
        connection.close()


def _postgres_floor(server: Postgres, run: Run) -> float:
    server.create_database("floor")
    with psycopg.connect(server.dsn("floor"), autocommit=True) as connection:
        connection.execute(_TABLE)

        def write(rows: list[tuple[str, int, str, str]]) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany("INSERT INTO floor VALUES (%s, %s, %s, %s)", rows)

        return _floor(write, run)


# figures -------------------------------------------------------------------------------------------------------


def _figures(name: str, best: Run, floor_s: float, open_loop: Run, least: float) -> Iterator[Figure]:
    yield Figure(
        f"five-step cases, {name}", best.cases / best.wall_s, "/s", least=least, note="best of three"
    )
    yield Figure("  CPU of the gateway a case", best.cpu_s / best.cases * 1000, "ms")
    yield Figure(
        "  time of the bare insert of as many rows",
        floor_s / best.wall_s,
        "×",
        note=f"{best.rows / best.cases:.0f} rows a case, {best.units / best.batches:.0f} units a transaction",
    )
    waits = sorted(open_loop.waits_ms)
    note = f"{RATE:g}/s, open loop, {len(waits)} cases, from the planned start"
    yield Figure(f"accepted to dispatched, {name}, p50", waits[len(waits) // 2], "ms")
    yield Figure(
        f"accepted to dispatched, {name}, p99", waits[int(len(waits) * 0.99)], "ms", most=50, note=note
    )


def _logged(folder: Path, count: int) -> Iterator[Figure]:
    """The same cases with the gateway's evidence log, pair by pair: five durable events of each case beside it."""
    bare, logged = [], []
    for n in range(3):
        bare.append(_run(f"sqlite:///{folder}/bare-{n}.db", count))
        logged.append(_run(f"sqlite:///{folder}/logged-{n}.db", count, log=folder / f"evidence-{n}.sqlite"))
    walls = [min(one.wall_s for one in runs) for runs in (bare, logged)]
    cpus = [min(one.cpu_s for one in runs) for runs in (bare, logged)]
    with LogReader(folder / "evidence-0.sqlite") as reader:
        events = reader.size / count
    yield Figure(
        "  cases a second with the evidence log", walls[0] / walls[1], "×",
        note=f"of those without, best of three each; {events:.1f} events a case",
    )  # fmt: skip
    yield Figure("  CPU of the gateway a case with it", cpus[1] / cpus[0], "×")


def run(scale: Scale) -> Iterator[Figure]:
    """Throughput, best of three because other work on the machine only ever slows it; then the open loop."""
    count, steady = (2_000, 500) if scale.quick else (8_000, 3_000)
    with tempfile.TemporaryDirectory(prefix="lantai-bench-") as name:
        folder = Path(name)
        runs = [_run(f"sqlite:///{folder}/cases-{n}.db", count) for n in range(3)]
        best = min(runs, key=lambda one: one.wall_s)
        floor = _sqlite_floor(folder, best)
        yield from _figures(
            "SQLite", best, floor, _run(f"sqlite:///{folder}/open.db", steady, RATE), least=2_000
        )
        yield from _logged(folder, count)
    try:
        with postgres("fsync=on", "synchronous_commit=on") as server:
            for database in ("one", "two", "three", "open"):
                server.create_database(database)
            runs = [_run(server.url(database), count) for database in ("one", "two", "three")]
            best = min(runs, key=lambda one: one.wall_s)
            floor = _postgres_floor(server, best)
            yield from _figures(
                "PostgreSQL", best, floor, _run(server.url("open"), steady, RATE), least=1_000
            )
    except NoPostgresError as error:
        print(f"  {error}")
