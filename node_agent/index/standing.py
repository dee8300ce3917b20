"""What the index holds of a file before it comes again, and what its new version would change: told without writing."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from federation.keys import Keyer
from node_agent.index.builder import BATCH
from node_agent.index.calls import Agree, Elsewhere, HeldFile, HeldTable, Part, SourceCounts, agreed
from node_agent.index.elsewhere import look_up
from node_agent.index.folder import DataFolder
from node_agent.index.packing import CATEGORY_KEY, Numbers
from node_agent.index.payload import digests_of, encode
from node_agent.index.schema import open_for_reading
from node_agent.index.seen import Seen
from node_agent.record import Record, side_by_side


class Standing:
    """The records of one file as they stand in the index; `connection` is None before the first import."""

    def __init__(self, connection: sqlite3.Connection | None, file_name: str, digest: bytes) -> None:
        self._connection = connection
        self.unseen: dict[int, int] = {}  # digest of a row -> rid, while the new version has not shown it
        self.has_digest = False  # whether it was imported from these very bytes
        if connection is not None:
            self.unseen = dict(
                connection.execute(
                    "select digest, rid from rec where source in (select id from source where file=?)",
                    (file_name,),
                )
            )
            self.has_digest = file_name in _files_of(connection, digest)
        self.is_new = not self.unseen

    def settle(self, counts: SourceCounts, changed_codes: Iterable[str]) -> None:
        """Tell updates from new and removed records, once all rows were compared: an update keeps its code."""
        gone: Counter[str] = Counter()
        if self._connection is not None:
            for rid in self.unseen.values():
                gone[self._connection.execute("select code from rec where rid=?", (rid,)).fetchone()[0]] += 1
        counts.updated = sum((gone & Counter(changed_codes)).values())
        counts.imported -= counts.updated
        counts.removed = len(self.unseen) - counts.updated


def _files_of(connection: sqlite3.Connection, digest: bytes) -> list[str]:
    """The files that were imported from bytes of this digest."""
    rows = connection.execute("select distinct file from source where digest=? order by file", (digest,))
    return [row[0] for row in rows]


def _held_files(connection: sqlite3.Connection) -> list[HeldFile]:
    """The files the index was made of, by name, each with its tables in their order."""
    rows = connection.execute(
        "select file, name, digest, id, cat, records from source left join holdings on source=id"
        " order by file, id, cat"
    )
    files = []
    for file, of_file in groupby(rows, itemgetter(0)):
        tables, digest = [], b""
        for _id, of_table in groupby(of_file, itemgetter(3)):
            table = list(of_table)
            _file, name, digest, *_counts = table[0]
            counted = {CATEGORY_KEY[row[4]]: row[5] for row in table if row[4] is not None}
            tables.append(HeldTable(name, counted))
        files.append(HeldFile(file, digest, tuple(tables)))
    return files


def set_apart(digests: Numbers, seen: Seen) -> None:
    """Make the digests of rows of a file different where the same row stands twice in it: that is two records."""
    for place in np.flatnonzero(seen.first_of(digests, np.ones(len(digests), dtype=np.int64))).tolist():
        digest = int(digests[place])
        while seen.first(digest, 1):
            digest = (digest + 1) % (1 << 62)
        digests[place] = digest


class Held:
    """What an importer and its preview tell alike of the index as it stands."""

    def _reading(self) -> AbstractContextManager[sqlite3.Connection | None]:
        """The index, None before the first import."""
        raise NotImplementedError

    def files_of(self, digest: bytes) -> list[str]:
        """The files that were imported from bytes of this digest."""
        with self._reading() as connection:
            return _files_of(connection, digest) if connection is not None else []

    def files(self) -> list[HeldFile]:
        """The files the index was made of, by name."""
        with self._reading() as connection:
            return _held_files(connection) if connection is not None else []

    def elsewhere(self, file_name: str, sample: Sequence[Record]) -> Elsewhere:
        """How many of these records of a file stand under other files already."""
        with self._reading() as connection:
            return look_up(connection, file_name, sample) if connection is not None else Elsewhere()


class Preview(Held):
    """Looks like the importer, and writes nothing."""

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        self._connection = connection

    def _reading(self) -> AbstractContextManager[sqlite3.Connection | None]:
        return contextlib.nullcontext(self._connection)

    def remove(self, file_name: str) -> SourceCounts:
        """What `Importer.remove` would do."""
        return SourceCounts(removed=len(Standing(self._connection, file_name, b"").unseen))

    def put(
        self, file_name: str, digest: bytes, parts: Iterable[Part], agree: Agree = agreed
    ) -> SourceCounts:
        """What `Importer.put` would do of the same."""
        standing, seen, counts = Standing(self._connection, file_name, digest), Seen(), SourceCounts()
        changed_codes: list[str] = []
        for part in parts:
            for batch in side_by_side(part.records, BATCH):
                if standing.is_new:
                    counts.imported += len(batch)
                    continue
                digests = digests_of(batch, encode(batch))
                set_apart(digests, seen)
                for place, row in enumerate(digests.tolist()):
                    if standing.unseen.pop(row, None) is not None:
                        counts.unchanged += 1
                    else:
                        counts.imported += 1
                        changed_codes.append(batch.codes[place])
        standing.settle(counts, changed_codes)
        agree(counts)
        return counts


@contextlib.contextmanager
def open_preview(data_dir: Path | str) -> Iterator[Preview]:
    """Compares files with the index of a data folder, which need not be there."""
    folder = DataFolder(Path(data_dir))
    current = folder.current()
    connection = open_for_reading(current, Keyer(folder.index_key())) if current is not None else None
    try:
        yield Preview(connection)
    finally:
        if connection is not None:
            connection.close()
