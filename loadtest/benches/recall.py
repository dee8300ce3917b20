"""Whether the right record stands among the first ten although one thing in the question is wrong, and false alarms.

The index is built by the real import; the people come from `loadtest/people.py`, the errors from `loadtest/slips.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

from federation.scoring import Decision
from loadtest.bench import Figure, Scale
from loadtest.people import Truth, truths, write_csv
from loadtest.slips import SINGLE_ERRORS, misspelt
from node_agent.index import Lookup
from node_agent.searching import decision_of, query_from

RECALL_GOAL, FALSE_ALARM_GOAL = 0.99, 0.03
_TEN = 10
_IMPORTED_AT_LEAST = (
    0.999  # a drawn name may look damaged to the import by chance; recall is measured over all
)
_SEED, _STRANGERS_SEED = 1, 2


@dataclass
class Tally:
    """What became of the questions of one kind; `missed` names records, never people."""

    asked: int = 0
    first: int = 0
    ten: int = 0
    likely: int = 0
    likely_and_right: int = 0
    missed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def build(folder: Path, count: int) -> None:
    """Import `count` drawn people into `folder`, as an archive would."""
    source = folder.with_name(f"{folder.name}.csv")
    write_csv(source, count, _SEED)
    command = [sys.executable, "-m", "node_agent", "import", str(source), "--data", str(folder), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    source.unlink()
    imported = json.loads(done.stdout.splitlines()[-1])["imported"]
    if imported < count * _IMPORTED_AT_LEAST:
        raise RuntimeError(f"{imported} of {count} rows imported")


def ask(lookup: Lookup, asked: dict[str, str], truth: Truth, tally: Tally) -> None:
    """One question into the tally."""
    began = time.perf_counter()
    answer = lookup.search(query_from(asked), limit=_TEN)
    tally.seconds.append(time.perf_counter() - began)
    codes = [found.raw_code for found in answer.found]
    tally.asked += 1
    right = codes[:1] == [truth.code]
    tally.first += right
    if truth.code in codes:
        tally.ten += 1
    else:
        tally.missed.append(truth.code)
    if decision_of(answer) is Decision.LIKELY:
        tally.likely += 1
        tally.likely_and_right += right


def ask_all(lookup: Lookup, people: Iterable[Truth], kind: str, wanted: int) -> Tally:
    """`wanted` questions with one error of a kind, the same at every run."""
    random, tally = Random(f"{_SEED}{kind}"), Tally()
    for truth in people:
        if tally.asked == wanted:
            break
        asked = misspelt(random, truth, kind)
        if asked is not None:
            ask(lookup, asked, truth, tally)
    return tally


def run(scale: Scale) -> Iterator[Figure]:
    """Recall in total and by kind, false alarms, and what the questions cost."""
    wanted = 100 if scale.quick else 200
    with tempfile.TemporaryDirectory(prefix="lantai-recall-") as folder:
        data = Path(folder) / "archive"
        build(data, scale.records)
        lookup = Lookup(data)
        people = truths(
            scale.records, _SEED, wanted * 40
        )  # so many because few names can have some kinds of error
        tallies = {kind: ask_all(lookup, people, kind, wanted) for kind in SINGLE_ERRORS}
        strangers = ask_all(lookup, truths(scale.records, _STRANGERS_SEED, wanted * 10), "clean", wanted * 10)
        lookup.close()
    yield from figures(tallies, strangers)


def figures(tallies: dict[str, Tally], strangers: Tally) -> Iterator[Figure]:
    """The promised figures first, then what explains them."""
    present = list(tallies.values())
    asked = sum(one.asked for one in present)

    def share(number: int, of: int = asked) -> float:
        return number / max(1, of)

    yield Figure(
        "recall@10",
        share(sum(one.ten for one in present)),
        "share",
        least=RECALL_GOAL,
        note=f"{asked} questions",
    )
    yield Figure(
        "false alarms",
        share(strangers.likely, strangers.asked),
        "share",
        most=FALSE_ALARM_GOAL,
        note="absent people answered `likely`",
    )
    yield Figure("recall@1", share(sum(one.first for one in present)), "share")
    yield Figure("likely and right", share(sum(one.likely_and_right for one in present)), "share")
    yield Figure(
        "likely but wrong", share(sum(one.likely - one.likely_and_right for one in present)), "share"
    )
    for kind, one in tallies.items():
        yield Figure(
            f"recall@10 {kind}",
            share(one.ten, one.asked),
            "share",
            note=f"@1 {share(one.first, one.asked):.3f}, likely {share(one.likely_and_right, one.asked):.2f}, n {one.asked}",
        )
    seconds = [second for one in present for second in one.seconds]
    yield Figure("a question, median", median(seconds) * 1000, "ms")
