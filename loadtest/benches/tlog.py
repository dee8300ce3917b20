"""The evidence log: durable appends of whole events, and proofs from a tree of ten million leaves.

The floor of an append is one row of the same bytes in a plain SQLite table with the same settings and commits. A batch is
100 events, with salts, commitments, index and tiles; the tree of the proofs is built from leaf hashes alone.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from federation.tlog.auditor import audit
from federation.tlog.checkpoint import Checkpoint
from federation.tlog.event import Event, EventKind
from federation.tlog.log import EvidenceLog
from federation.tlog.merkle import HASH_BYTES
from federation.tlog.note import Signer, signed_note
from federation.tlog.proof import InclusionProof
from federation.tlog.reader import LogReader
from federation.tlog.store import SqliteTiles, transaction
from federation.tlog.tiles import TiledTree, extend
from federation.tlog.writing import GroupCommit
from loadtest.bench import Figure, Scale

_ROUNDS = 5
_BATCH = 100
_CALLERS = 64
_LEAVES = 10_000_000
_BUILD_BATCH = 4_096
_FIELDS = {"digest": "ab" * 32, "archive": "330483", "outcome": "approved", "rule": "open-records"}


def run(scale: Scale) -> Iterator[Figure]:
    """Appends, then proofs, then an audit."""
    with TemporaryDirectory(prefix="lantai-bench-") as name:
        folder = Path(name)
        yield from _appends(folder, 300 if scale.quick else 1_000)
        yield from _proofs(folder, _LEAVES // 10 if scale.quick else _LEAVES)


def _events(count: int) -> list[Event]:
    return [
        Event(
            EventKind.DECIDED,
            f"letter-{os.urandom(8).hex()}",
            1_795_000_000_000 + n,
            f"case-{n // 8:012}",
            _FIELDS,
        )
        for n in range(count)
    ]


def _appends(folder: Path, rounds: int) -> Iterator[Figure]:
    with EvidenceLog(folder / "evidence.sqlite", Signer.generate("log.example/bench")) as log:
        floor = _Floor(folder / "floor.sqlite")
        for size, goal in ((1, 1_500.0), (_BATCH, 30_000.0)):
            count = rounds if size == 1 else rounds // 5
            ours, theirs = [], []
            for _ in range(_ROUNDS):  # in turns, so that both meet the same disturbances
                ours.append(_seconds(log.append, size, count))
                theirs.append(_seconds(floor.append, size, count))
            wall, plain = min(wall for wall, _cpu in ours), min(wall for wall, _cpu in theirs)
            middle, middle_plain = median(wall for wall, _cpu in ours), median(wall for wall, _cpu in theirs)
            note = f"median {1 / middle:,.0f}; plain rows {1 / plain:,.0f}, median {1 / middle_plain:,.0f}"
            yield Figure(f"durable appends, {size} a commit", 1 / wall, "events/s", least=goal, note=note)
            yield Figure(f"durable appends, {size} a commit, times plain rows", plain / wall, "×", least=0.5)
            cpu = median(cpu for _wall, cpu in ours)
            yield Figure(f"durable appends, {size} a commit, by CPU time", 1 / cpu, "events/s", least=goal)
        commit = GroupCommit(log)
        yield Figure(
            f"durable appends, {_CALLERS} callers sharing commits", _shared(commit, rounds * 10), "events/s"
        )
        commit.close()
        log.checkpoint(1)
        began = time.process_time()
        result = audit(log, log.signer_key)
        spent = time.process_time() - began
        yield Figure(
            "audit", result.size / spent, "entries/s", note=f"{result.size:,} entries, in order: {result.ok}"
        )
        size = sum(one.stat().st_size for one in folder.glob("evidence.sqlite*"))
        yield Figure("file", size / result.size, "B an event", note="event, salt, index, tiles")


def _seconds(append: Callable[[list[Event]], object], size: int, count: int) -> tuple[float, float]:
    """Wall and CPU seconds an event; making the events is the caller's time, logging them is ours."""
    batches = [_events(size) for _ in range(count)]
    began, spent = time.perf_counter(), time.process_time()
    for batch in batches:
        append(batch)
    events = size * count
    return (time.perf_counter() - began) / events, (time.process_time() - spent) / events


def _shared(commit: GroupCommit, count: int) -> float:
    events = _events(count)
    began = time.perf_counter()
    waiting: list[Future[int]] = []
    for event in events:
        waiting.append(commit.submit(event))
        if len(waiting) >= _CALLERS:
            waiting.pop(0).result()
    for one in waiting:
        one.result()
    return count / (time.perf_counter() - began)


class _Floor:
    """The least a durable append can be: the bytes of an event, one plain table."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "pragma journal_mode=wal",
            "pragma synchronous=full",
            "create table rows(event blob)",
        ):
            self._connection.execute(statement)

    def append(self, events: list[Event]) -> None:
        """Write a batch in one commit."""
        self._connection.execute("begin immediate")
        self._connection.executemany("insert into rows values(?)", [(one.canonical(),) for one in events])
        self._connection.execute("commit")


def _proofs(folder: Path, leaves: int) -> Iterator[Figure]:
    signer = Signer.generate("log.example/large")
    path = folder / "large.sqlite"
    with EvidenceLog(path, signer) as log:
        connection = log._connection
        tiles, size = SqliteTiles(connection), 0
        began = time.process_time()
        while size < leaves:
            count = min(_BUILD_BATCH, leaves - size)
            hashes = os.urandom(HASH_BYTES * count)
            with transaction(connection):
                size = extend(
                    tiles, size, [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
                )
        spent = time.process_time() - began
        note = signed_note(Checkpoint(signer.name, size, TiledTree(tiles, size).root()).text(), signer)
        with transaction(connection):
            connection.execute("insert into checkpoints values(?, 1, ?)", (size, str(note)))
    yield Figure(f"tree of {size / 1e6:g}M leaves, built", size / spent, "leaves/s CPU")
    yield Figure(f"tree of {size / 1e6:g}M leaves, file", path.stat().st_size / 1e6, "MB")
    dice = random.Random(3)
    with LogReader(path) as reader:
        indexes = [dice.randrange(size) for _ in range(1_000)]
        times, proofs = [], []
        for index in indexes:
            began = time.perf_counter()
            proofs.append(reader.prove(index))
            times.append(time.perf_counter() - began)
        yield Figure(
            f"inclusion proof at {size / 1e6:g}M leaves", max(len(one.hashes) for one in proofs) * HASH_BYTES, "B",
            most=768, note=f"whole proof file {max(len(str(one)) for one in proofs):,} B",
        )  # fmt: skip
        tail = quantiles(times, n=100)[98] * 1e3
        yield Figure(
            f"inclusion proof at {size / 1e6:g}M leaves, made and checked", median(times) * 1e3, "ms",
            most=2, note=f"99 in 100 under {tail:.2f} ms",
        )  # fmt: skip
        with reader.moment():
            leaf = [reader.tree(size).leaf(index) for index in indexes]
        texts = [str(one) for one in proofs]
        began = time.process_time()
        for text, one in zip(texts, leaf, strict=True):
            InclusionProof.parse(text).verify(one, signer.key)
        spent = (time.process_time() - began) / len(texts)
        yield Figure("proof file read and verified, with the signature", spent * 1e6, "µs")
        checkpoint = Checkpoint.parse(note.text)
        began = time.process_time()
        for index in indexes[:200]:
            reader.consistency(index + 1, checkpoint)
        yield Figure("consistency proof, made and checked", (time.process_time() - began) / 200 * 1e3, "ms")
