"""Import: a clean CSV to a finished index, in records a second of one core, bytes a record, and peak memory."""

from __future__ import annotations

import csv
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from loadtest.bench import Figure, Scale
from loadtest.people import write_csv

_LARGE = 5_000_000
_MEASURED = """
import resource, sys, time
began = time.perf_counter()
from node_agent.__main__ import main
status = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(status, used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss, file=sys.stderr)
"""


def _import(file: Path, folder: Path) -> tuple[float, float, float]:
    """(CPU seconds, wall seconds, peak megabytes) of one import in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, "import", str(file), "--data", str(folder), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    status, cpu, wall, peak_kb = done.stderr.split()[-4:]
    if status != "0":
        raise RuntimeError(done.stderr)
    return float(cpu), float(wall), int(peak_kb) / 1024


def _floor(file: Path, folder: Path) -> float:
    """CPU seconds to read the CSV and write its raw rows into a plain SQLite table: no names read, no keys, no search."""
    began = time.process_time()
    connection = sqlite3.connect(folder / "floor.sqlite", isolation_level=None)
    connection.execute("pragma journal_mode=off")
    connection.execute("pragma synchronous=off")
    with file.open(encoding="utf-8", newline="") as handle:
        rows = csv.reader(handle)
        width = len(next(rows))
        connection.execute(f"create table raw({', '.join(f'c{n}' for n in range(width))})")
        connection.execute("begin")
        connection.executemany(f"insert into raw values({', '.join('?' * width)})", rows)
        connection.execute("commit")
    connection.close()
    return time.process_time() - began


def run(scale: Scale) -> Iterator[Figure]:
    """The rate at `scale.records`; the peak at five million, or at the scale of a quick run."""
    with tempfile.TemporaryDirectory(prefix="lantai-bench-") as name:
        folder = Path(name)
        file = folder / "people.csv"
        write_csv(file, scale.records, seed=1)
        floor = _floor(file, folder)
        cpu, wall, peak = _import(file, folder / "archive")
        size = sum(path.stat().st_size for path in (folder / "archive").glob("index.*.sqlite"))
        yield Figure("import, records a second of one core", scale.records / cpu, "/s", least=33_000)
        yield Figure("  by the wall clock", scale.records / wall, "/s", note=f"{scale.records:,} records")
        yield Figure("  times the raw floor (csv → plain table)", cpu / floor, "×")
        yield Figure("index, bytes a record", size / scale.records, "B", most=400)
        if not scale.quick and scale.records < _LARGE:
            file.unlink()
            write_csv(file, _LARGE, seed=2)
            _cpu, _wall, peak = _import(file, folder / "large")
            note = f"{_LARGE:,} records"
        else:
            note = f"{scale.records:,} records"
        yield Figure("import, peak memory", peak / 1024, "GB", most=1.5, note=note)
