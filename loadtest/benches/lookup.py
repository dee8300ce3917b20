"""Look-ups in the index of one archive, against PostgreSQL over the same rows on the same machine.

The peer gets what its manual recommends: b-tree indexes on the folded name with the year and on the number, a trigram
index for the fuzzy name, prepared statements, and a full analyse. It answers with raw rows; Lantai answers with
compared, scored and ranked candidates. Costs are processor time of client and server together: the clock of a shared machine
counts the neighbours too. Both are asked as an agent asks its index: the questions of a turn in one read transaction.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from federation.dates import DateSpan
from federation.identity_number import canonical
from federation.keys import Keyer
from federation.names import fold
from federation.process import collector
from federation.query import Query
from loadtest.bench import Figure, Scale
from loadtest.people import Truth, records, truths, write_csv
from loadtest.postgres import NoPostgresError, Postgres, postgres
from node_agent.index import Lookup
from node_agent.index.folder import DataFolder
from node_agent.index.packing import rid_of

_QUERIES = 400
_ROUNDS = 5
_TURN = 32  # as many as are in flight in the figure of REST


def run(scale: Scale) -> Iterator[Figure]:
    """Exact number, exact name with year, and a name with one wrong character."""
    with TemporaryDirectory(prefix="lantai-bench-") as name:
        folder = Path(name)
        write_csv(folder / "people.csv", scale.records, seed=3)
        # in a process of its own, as an archive does: what an import leaves in memory slows whoever looks up beside it
        command = [sys.executable, "-m", "node_agent", "import", str(folder / "people.csv")]
        subprocess.run(
            [*command, "--data", str(folder / "archive"), "--json"], capture_output=True, check=True
        )
        lookup = Lookup(folder / "archive")
        people = truths(scale.records, 3, _QUERIES * 3)
        random = Random(5)
        keyer = Keyer(DataFolder(folder / "archive").index_key())
        jobs = {
            "exact ID": [one for one in people if canonical(one.id_number)][:_QUERIES],
            "exact name + year": people[:_QUERIES],
            "fuzzy name": [one for one in people if len(one.name) == 3][:_QUERIES],
        }
        wrong = {one.code: _one_wrong(one.name, random) for one in jobs["fuzzy name"]}
        try:
            with postgres("shared_buffers=2GB", "maintenance_work_mem=512MB", "fsync=off") as server:
                peer = _Peer(server, scale)
                collector.spare()  # as an agent does
                for kind, chosen in jobs.items():

                    def ask(one: Truth, kind: str = kind) -> list[str]:
                        return _ask(lookup, keyer, kind, one, wrong)

                    def ask_peer(one: Truth, kind: str = kind) -> list[Any]:
                        return peer.ask(kind, one, wrong)

                    ours = _timed(ask, chosen, _cpu, lookup.reading)
                    theirs = _timed(ask_peer, chosen, peer.cpu, peer.reading)
                    found = sum(one.code in _ask(lookup, keyer, kind, one, wrong) for one in chosen)
                    note = (
                        f"CPU {ours.cpu_us:,.0f} µs against {theirs.cpu_us:,.0f} µs, client and server; "
                        f"wall {theirs.wall_us / ours.wall_us:.1f} ×; found {found}/{len(chosen)}"
                    )
                    ratio = theirs.cpu_us / ours.cpu_us
                    yield Figure(f"{kind}, times PostgreSQL", ratio, "×", least=5.0, note=note)
                    if kind.startswith("exact"):
                        ours = _timed(ask, chosen, _cpu, nullcontext)
                        theirs = _timed(ask_peer, chosen, peer.cpu, nullcontext)
                        yield Figure(
                            "  each by itself, on both sides",
                            theirs.cpu_us / ours.cpu_us,
                            "×",
                            note=f"CPU {ours.cpu_us:,.0f} µs against {theirs.cpu_us:,.0f} µs",
                        )
                whole = _timed(
                    lambda one: lookup.search(_query("exact name + year", one, wrong), limit=20),
                    people[:_QUERIES],
                    _cpu,
                    lookup.reading,
                )
                yield Figure("a whole search: all expansions, scored, ranked", whole.cpu_us, "µs CPU")
                strangers = truths(scale.records, 4, _QUERIES)
                yield Figure(
                    "questions about strangers that touch no key",
                    _untouched(lookup, keyer, strangers),
                    "share",
                )
                peer.close()
        except NoPostgresError as error:
            yield Figure("no peer on this machine", 0, "", least=1, note=str(error))
        lookup.close()


def _ask(lookup: Lookup, keyer: Keyer, kind: str, one: Truth, wrong: dict[str, str]) -> list[str]:
    """Archival codes found: exact questions by the index's own calls, fuzzy ones by a whole search."""
    match kind:
        case "exact ID":
            values = lookup.scan([keyer.id_key(canonical(one.id_number) or "")])
        case "exact name + year":
            key = keyer.exact_name_key(one.name)
            values = lookup.scan([key], one.event_year - 2, one.event_year + 2, one.category, 20)
        case _:
            return [told.code for told in lookup.search(_query(kind, one, wrong), limit=20).found]
    return [record.archival_code for record in lookup.fetch([rid_of(value) for value in values]).values()]


def _untouched(lookup: Lookup, keyer: Keyer, people: Sequence[Truth]) -> float:
    """The share of questions for which nothing of the category stands under any key, whatever the year: all that a
    membership filter over (key, category) could at best keep from being asked here.
    """
    untouched = 0
    for one in people:
        query = Query(category=one.category, name=one.name, id_number=one.id_number)
        keys = [probe.key for probe in keyer.probes(query)]
        untouched += not lookup.scan(keys, category=one.category, limit=1)
    return untouched / len(people)


def _one_wrong(name: str, random: Random) -> str:
    place = random.randrange(1, len(name))
    return name[:place] + random.choice("昊霖峥楠赫弘毅") + name[place + 1 :]


def _query(kind: str, one: Truth, wrong: dict[str, str]) -> Query:
    years = DateSpan.of_years(one.event_year - 2, one.event_year + 2)
    match kind:
        case "exact ID":
            return Query(id_number=one.id_number)
        case "exact name + year":
            return Query(category=one.category, name=one.name, event=years)
        case _:
            wider = DateSpan.of_years(one.event_year - 3, one.event_year + 3)
            return Query(category=one.category, name=wrong[one.code], event=wider, place=one.place)


@dataclass(frozen=True, slots=True)
class _Cost:
    """Median microseconds a question takes: of processors, and by the clock."""

    cpu_us: float
    wall_us: float


def _cpu() -> float:
    """Processor seconds of this process so far."""
    return time.process_time()


def _timed(
    work: Callable[[Truth], Any],
    people: Sequence[Truth],
    cpu: Callable[[], float],
    turn: Callable[[], AbstractContextManager[Any]],
) -> _Cost:
    """Medians over rounds of all questions, the first round warming. `cpu` counts every process that works for them,
    `turn` is around those of a turn.
    """
    cpus, walls = [], []
    for number in range(_ROUNDS + 1):
        began, used = time.perf_counter(), cpu()
        for start in range(0, len(people), _TURN):
            with turn():
                for one in people[start : start + _TURN]:
                    work(one)
        if number:
            cpus.append((cpu() - used) / len(people) * 1e6)
            walls.append((time.perf_counter() - began) / len(people) * 1e6)
    return _Cost(median(cpus), median(walls))


class _Peer:
    """The same rows in PostgreSQL."""

    def __init__(self, server: Postgres, scale: Scale) -> None:
        import psycopg

        self._connection = psycopg.connect(server.dsn(), autocommit=True, prepare_threshold=0)
        run = self._connection.execute
        try:
            run("create extension pg_trgm")
            self._has_trigrams = True
        except psycopg.errors.Error:
            self._has_trigrams = False
        run(
            "create table person(code text, title text, category text, year int, place text, birth int,"
            " name text, name_folded text, id18 text)"
        )
        copying = self._connection.cursor().copy("copy person from stdin")
        with copying as copy:
            for row in records(scale.records, 3):
                for name, number in ((row[3], row[4]), (row[6], row[7])):
                    if name:
                        copy.write_row(
                            (row[0], row[1], row[2], int(row[8][:4]), row[9][:3], int(row[5][:4]), name, fold(name),
                             canonical(number) or None)
                        )  # fmt: skip
        run("create index on person(name_folded, year)")
        run("create index on person(id18)")
        if self._has_trigrams:
            run("create index on person using gin(name_folded gin_trgm_ops)")
            run(
                "set pg_trgm.similarity_threshold = 0.14"
            )  # .3 loses every name whose middle character is wrong
        run("vacuum analyze person")

    def reading(self) -> AbstractContextManager[Any]:
        """One transaction for all that is asked inside."""
        return self._connection.transaction()

    def ask(self, kind: str, one: Truth, wrong: dict[str, str]) -> list[Any]:
        run = self._connection.execute
        match kind:
            case "exact ID":
                return run("select * from person where id18=%s", (canonical(one.id_number),)).fetchall()
            case "exact name + year":
                return run(
                    "select * from person where name_folded=%s and year between %s and %s and category=%s limit 20",
                    (fold(one.name), one.event_year - 2, one.event_year + 2, one.category),
                ).fetchall()
            case _:
                name = fold(wrong[one.code])
                where = "name_folded %% %s" if self._has_trigrams else "levenshtein(name_folded, %s) <= 1"
                return run(
                    f"select * from person where {where} and year between %s and %s and category=%s"
                    " order by similarity(name_folded, %s) desc limit 20",
                    (name, one.event_year - 3, one.event_year + 3, one.category, name),
                ).fetchall()

    def cpu(self) -> float:
        """Processor seconds of this process and of the server's process that answers it."""
        served = Path(f"/proc/{self._connection.info.backend_pid}/schedstat").read_text("ascii")
        return time.process_time() + int(served.split()[0]) / 1e9

    def close(self) -> None:
        self._connection.close()
