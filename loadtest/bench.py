"""`make bench`: measure the figures the project promises, each as a ratio to a peer or a raw floor of the same run.

A bench is a module of `loadtest/benches/` with one function `run(scale) -> Iterator[Figure]`. A figure that misses its
goal is printed as missed and turns the exit status to 1; nothing is left out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

BENCHES = Path(__file__).parent / "benches"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Scale:
    """How large to measure. `records` is the size of the large index, `quick` asks for the smallest honest run."""

    records: int
    quick: bool


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; `least` or `most` is its goal, none when it only explains another."""

    name: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.least is not None:
            return self.value >= self.least
        return None if self.most is None else self.value <= self.most


class Bench(Protocol):
    """What a module of `benches/` offers."""

    def run(self, scale: Scale) -> Iterator[Figure]: ...


def names() -> list[str]:
    """All benches, in the order they run."""
    return sorted(path.stem for path in BENCHES.glob("[a-z]*.py"))


def line(figure: Figure) -> str:
    """One line for people."""
    goal = ""
    if figure.least is not None:
        goal = f"  (目标 goal ≥ {figure.least:g})"
    elif figure.most is not None:
        goal = f"  (目标 goal ≤ {figure.most:g})"
    verdict = {True: "达到 met   ", False: "未达 MISSED", None: "           "}[figure.met]
    note = f"  {figure.note}" if figure.note else ""
    return f"  {verdict} {figure.name:<44} {figure.value:>12,.4g} {figure.unit}{goal}{note}"


def main(argv: list[str] | None = None) -> int:
    """Run the named benches, or all."""
    parser = argparse.ArgumentParser(
        prog="make bench", description="测量承诺的指标 / measure the promised figures"
    )
    parser.add_argument(
        "benches", nargs="*", metavar="BENCH", help=f"其中几项 / some of: {', '.join(names())}"
    )
    parser.add_argument(
        "--records", type=int, default=1_000_000, help="大索引的记录数 / records of the large index"
    )
    parser.add_argument("--quick", action="store_true", help="小规模试跑 / a small run, for a first look")
    options = parser.parse_args(argv)
    unknown = set(options.benches) - set(names())
    if unknown:
        parser.error(f"没有这项 / no such bench: {', '.join(sorted(unknown))}")
    scale = Scale(min(options.records, 100_000) if options.quick else options.records, options.quick)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; records {scale.records:,}"
    )
    missed = 0
    for name in options.benches or names():
        print(f"\n{name}", flush=True)
        began = time.perf_counter()
        figures = []
        bench: Bench = importlib.import_module(f"loadtest.benches.{name}")
        for figure in bench.run(scale):
            figures.append(figure)
            missed += figure.met is False
            print(line(figure), flush=True)
        print(f"  {time.perf_counter() - began:.0f} s", flush=True)
        RESULTS.mkdir(exist_ok=True)
        data = {"bench": name, "scale": asdict(scale), "figures": [asdict(one) for one in figures]}
        (RESULTS / f"bench-{name}.json").write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # clears away its processes and folders, as Ctrl-C does
    sys.exit(main())
