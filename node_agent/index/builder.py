"""Building a whole index file: rows as they come, keys collected, sorted and written in order at the end.

Inserting keys at random into a large b-tree is what makes imports slow; so keys wait in memory, spill by range above a
bound, and are written sorted. Peak memory does not grow with the archive.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from federation.keys import Keyer
from node_agent.index import postings
from node_agent.index.packing import CATEGORY_NUMBER, LAST_PLACE, pack, year_of
from node_agent.index.payload import TRAINING_ROWS, Codec, digest_of, encode, train
from node_agent.index.schema import FLAG_COPY, FLAG_DIGITISED, create, finish, versions
from node_agent.index.titles import bigrams
from node_agent.record import Record

_BATCH = 2_000
_SPILL_AT = 3_000_000  # keys in memory: 24 MB, and some 150 MB while they are sorted
_PARTITIONS = 32
_PARTITION_SHIFT = 48 - 5


class Places:
    """The archive's own numbering of division codes; 0 = none. Full after 16,383 places: the rest count as none."""

    def __init__(self, known: dict[str, int] | None = None) -> None:
        self.numbers = {"": 0} if known is None else known

    def number(self, code: str) -> int:
        found = self.numbers.get(code)
        if found is None:
            if len(self.numbers) > LAST_PLACE:
                return 0
            found = self.numbers[code] = len(self.numbers)
        return found


class Tally:
    """Counts of one source, by category: what the manifest tells the gateway."""

    def __init__(self) -> None:
        self.rows: dict[int, list[int]] = {}

    def add(self, category: int, year: int, flags: int) -> None:
        row = self.rows.get(category)
        if row is None:
            row = self.rows[category] = [0, 0, 0, 0, 0, 0]
        row[0] += 1
        if year:
            row[1] = year if not row[1] or year < row[1] else row[1]
            row[2] = max(year, row[2])
        else:
            row[3] += 1
        row[4] += flags & FLAG_COPY
        row[5] += (flags & FLAG_DIGITISED) >> 1


def packed_keys(record: Record, keyer: Keyer) -> bytes:
    """All matching keys of a record, packed; a key that two of its people share stands there twice."""
    packed = b""
    for person in record.persons:
        packed += keyer.packed_name_keys(person.name)
        for alias in person.aliases:
            packed += keyer.packed_name_keys(alias)
        if person.id_number:
            packed += keyer.packed_id_key(person.id_number)
    if record.certificate_no:
        packed += keyer.packed_certificate_key(record.certificate_no)
    return packed


def record_keys(record: Record, keyer: Keyer) -> set[int]:
    """All matching keys of a record."""
    return set(array("q", packed_keys(record, keyer)))


def flags_of(record: Record) -> int:
    return (FLAG_COPY if record.is_copy else 0) | (FLAG_DIGITISED if record.digitised else 0)


class Builder:
    """Fills one new index file. Call `add` for every record, then `finish`, or `abandon`."""

    def __init__(self, path: Path, keyer: Keyer, epoch: int) -> None:
        self.path = path
        self._keyer = keyer
        self._epoch = epoch
        path.unlink(missing_ok=True)
        self._connection = create(path)
        self._connection.execute("begin")
        self._codec: Codec | None = None
        self._dictionary = b""
        self._waiting: list[tuple[int, int, int, int, int, int, int, str, bytes]] = []
        self._titles: list[tuple[int, str]] = []
        self._keys, self._values, self._counts = (
            array("q"),
            array("q"),
            array("q"),
        )  # keys, and of how many a value
        self._spills: list[Path] = []
        self._next_rid = 1
        self.places = Places()
        self._tallies: dict[int, Tally] = {}
        self._sources: list[tuple[int, str, str, bytes, str]] = []

    def source(self, file: str, name: str, digest: bytes, headings: str) -> int:
        """Register a source of rows and give its number."""
        number = len(self._sources) + 1
        self._sources.append((number, file, name, digest, headings))
        self._tallies[number] = Tally()
        return number

    def add(
        self, record: Record, source: int, encoded: bytes | None = None, digest: int | None = None
    ) -> None:
        """Add one record."""
        if encoded is None:
            encoded = encode(record)
        if digest is None:
            digest = digest_of(record, encoded)
        rid = self._next_rid
        self._next_rid = rid + 1
        year = year_of(record.event)
        category = CATEGORY_NUMBER[record.category]
        place = self.places.number(record.place)
        flags = (1 if record.is_copy else 0) | (2 if record.digitised else 0)
        self._waiting.append(
            (rid, source, category, year, place, flags, digest, record.archival_code, encoded)
        )
        if record.title:
            self._titles.append((rid, bigrams(record.title)))
        value = pack(year, category, place, rid)
        packed = packed_keys(record, self._keyer)
        self._keys.frombytes(packed)
        self._values.append(value)
        self._counts.append(len(packed) // 8)
        self._tallies[source].add(category, year, flags)
        if len(self._waiting) >= (TRAINING_ROWS if self._codec is None else _BATCH):
            self._flush()

    def _flush(self) -> None:
        if self._codec is None:
            self._dictionary = train([row[8] for row in self._waiting])
            self._codec = Codec(self._dictionary)
        pack_payload = self._codec.pack
        self._connection.executemany(
            "insert into rec values(?,?,?,?,?,?,?,?,?)",
            [(*row[:8], pack_payload(row[8])) for row in self._waiting],
        )
        self._connection.executemany("insert into title(rowid, x) values(?,?)", self._titles)
        self._waiting.clear()
        self._titles.clear()
        if len(self._keys) >= _SPILL_AT:
            self._spill()

    def _spill(self) -> None:
        keys, values = self._taken()
        partition = keys >> _PARTITION_SHIFT
        order = np.argsort(partition, kind="stable")
        keys, values, partition = keys[order], values[order], partition[order]
        bounds = np.searchsorted(partition, np.arange(_PARTITIONS + 1))
        if not self._spills:
            self._spills = [
                self.path.with_name(f"{self.path.name}.{number}.spill") for number in range(_PARTITIONS)
            ]
        for number, path in enumerate(self._spills):
            low, high = bounds[number], bounds[number + 1]
            with path.open("ab") as handle:
                np.column_stack((keys[low:high], values[low:high])).tofile(handle)

    def _taken(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        keys = np.frombuffer(self._keys, dtype=np.int64).copy()
        values = np.repeat(
            np.frombuffer(self._values, dtype=np.int64), np.frombuffer(self._counts, dtype=np.int64)
        )
        self._keys, self._values, self._counts = array("q"), array("q"), array("q")
        return keys, values

    def _runs(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        if self._spills:
            self._spill()
            for path in self._spills:
                pairs = np.fromfile(path, dtype=np.int64).reshape(-1, 2)
                path.unlink()
                yield pairs[:, 0], pairs[:, 1]
        else:
            yield self._taken()

    def finish(self) -> None:
        """Write what waited, sort and write the keys, and close the file ready for readers."""
        self._flush()
        connection = self._connection
        for keys, values in self._runs():
            postings.write(connection, keys, values)
        connection.executemany("insert into source values(?,?,?,?,?)", self._sources)
        connection.executemany(
            "insert into place values(?,?)", [(idx, code) for code, idx in self.places.numbers.items()]
        )
        connection.executemany(
            "insert into holdings values(?,?,?,?,?,?,?,?)",
            [
                (source, cat, *row)
                for source, tally in self._tallies.items()
                for cat, row in tally.rows.items()
            ],
        )
        settings = {**versions(), "epoch": self._epoch, "dictionary": self._dictionary}
        connection.executemany("insert into meta values(?,?)", list(settings.items()))
        connection.execute("commit")
        finish(connection)

    def abandon(self) -> None:
        """Throw the half-built file away."""
        self._connection.close()
        for path in [self.path, *self._spills]:
            path.unlink(missing_ok=True)
