"""Building a whole index file: rows as they come, keys collected, sorted and written in order at the end.

Inserting keys at random into a large b-tree is what makes imports slow; so keys wait in memory, spill by range above a
bound, and are written sorted. Peak memory does not grow with the archive.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.keys import Keyer
from federation.names.many import fold_texts
from node_agent.index import postings, rows
from node_agent.index.key_check import KEY_CHECK
from node_agent.index.many_keys import ManyKeys
from node_agent.index.packing import CATEGORY_NUMBER, LAST_PLACE, UNDATED, Numbers, pack_all, years_of
from node_agent.index.payload import TRAINING_ROWS, Codec, train
from node_agent.index.schema import FLAG_COPY, FLAG_DIGITISED, IMPORTED_AT, create, finish, versions
from node_agent.index.titles import bigrams
from node_agent.record import Record, Records

BATCH = 2_000  # records taken together
_TITLES_AT = 50_000  # titles in memory: 10 MB
_SPILL_AT = 12_000_000  # keys in memory: 144 MB with their owners, and some 400 MB while they are sorted
_WORD = 64  # bits that a key and a rank must fit together
_PARTITIONS = 32
_PARTITION_SHIFT = 48 - 5


_RecordIds = NDArray[np.uint32]

_NONE = np.array([], dtype=np.int64)
_NOBODY = np.array([], dtype=np.uint32)


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

    def add(self, categories: Numbers, years: Numbers, flags: Numbers) -> None:
        """Count records, given as columns."""
        for category in np.flatnonzero(np.bincount(categories)).tolist():
            here = categories == category
            dated, marks = years[here][years[here] != UNDATED], flags[here]
            row = self.rows.setdefault(category, [0, 0, 0, 0, 0, 0])
            row[0] += len(marks)
            if len(dated):
                first, last = int(dated.min()), int(dated.max())
                row[1] = min(first, row[1] or first)
                row[2] = max(last, row[2])
            row[3] += len(marks) - len(dated)
            row[4] += int(np.count_nonzero(marks & FLAG_COPY))
            row[5] += int(np.count_nonzero(marks & FLAG_DIGITISED))


def filed_under(records: Records) -> tuple[Numbers, Numbers, Numbers]:
    """(categories, years, flags) of records, as the numbers the index stores."""
    first, last = np.array(records.firsts, dtype=np.int64), np.array(records.lasts, dtype=np.int64)
    return (
        np.array(list(map(CATEGORY_NUMBER.__getitem__, records.categories)), dtype=np.int64),
        years_of(first, last),
        np.array(records.copies, dtype=np.int64) * FLAG_COPY
        + np.array(records.digitised, dtype=np.int64) * FLAG_DIGITISED,
    )


def matching_keys(records: Records, many: ManyKeys) -> tuple[Numbers, Numbers]:
    """All matching keys of records, and beside each the place of its record; a key that two people of a record share
    stands there twice.
    """
    people = list(chain.from_iterable(records.persons))
    owners = np.repeat(np.arange(len(records)), list(map(len, records.persons)))
    names = [one[0] for one in people]
    ids = [one[2] for one in people]
    called = owners
    if renamed := [place for place, one in enumerate(people) if one[5]]:
        aliases = [people[place][5] for place in renamed]
        names += chain.from_iterable(aliases)
        called = np.concatenate((owners, np.repeat(owners[renamed], list(map(len, aliases)))))
    folded = fold_texts(names)
    if "" in folded:
        called = called[[name != "" for name in folded]]
        folded = list(filter(None, folded))
    keys, of = many.of_names(folded)
    packed = many.keyer.packed_id_keys(filter(None, ids))
    packed += many.keyer.packed_certificate_keys(filter(None, records.certificates))
    return (
        np.concatenate((keys, np.frombuffer(packed, dtype=np.int64))),
        np.concatenate(
            (called[of], owners[list(map(bool, ids))], np.flatnonzero(list(map(bool, records.certificates))))
        ),
    )


def record_keys(record: Record, keyer: Keyer) -> set[int]:
    """All matching keys of a record."""
    keys = {keyer.id_key(one.id_number) for one in record.persons if one.id_number}
    for one in record.persons:
        for name in (one.name, *one.aliases):
            keys.update(keyer.name_keys(name))
    if record.certificate_no:
        keys.add(keyer.certificate_key(record.certificate_no))
    return keys


def flags_of(record: Record) -> int:
    return (FLAG_COPY if record.is_copy else 0) | (FLAG_DIGITISED if record.digitised else 0)


class Builder:
    """Fills one new index file. Call `add` for every record, then `finish`, or `abandon`."""

    def __init__(self, path: Path, keyer: Keyer, epoch: int) -> None:
        self.path = path
        self._many_keys = ManyKeys(keyer)
        self._key_check = keyer.check_value
        self._epoch = epoch
        path.unlink(missing_ok=True)
        self._connection = create(path)
        self._connection.execute("begin")
        self._codec: Codec | None = None
        self._dictionary = b""
        self._waiting: list[list[Any]] = [
            [] for _column in range(9)
        ]  # columns of `rec`, the payload not packed
        self._titles: tuple[list[int], list[str]] = ([], [])
        self._keys: list[Numbers] = []
        self._owners: list[_RecordIds] = []  # as many: the record ids
        self._values: list[Numbers] = []  # the packed value of each record
        self._held = 0  # keys in memory
        self._spills: list[tuple[Path, Path]] = []  # of keys, and of their owners
        self._next_rid = 1
        self._redigested: list[tuple[int, int]] = []  # digest, record id
        self.places = Places()
        self._tallies: dict[int, Tally] = {}
        self._sources: list[tuple[int, str, str, bytes, str]] = []

    def source(self, file: str, name: str, digest: bytes, headings: str) -> int:
        """Register a source of rows and give its number."""
        number = len(self._sources) + 1
        self._sources.append((number, file, name, digest, headings))
        self._tallies[number] = Tally()
        return number

    def add(self, records: Records, sources: Numbers, encoded: Sequence[bytes], digests: Numbers) -> None:
        """Add records, some thousand at a time: what is done once for many costs a fraction."""
        rids = np.arange(self._next_rid, self._next_rid + len(records))
        self._next_rid += len(records)
        categories, years, flags = filed_under(records)
        places = list(map(self.places.number, records.places))
        columns = (
            rids.tolist(),
            sources.tolist(),
            categories.tolist(),
            years.tolist(),
            places,
            flags.tolist(),
            digests.tolist(),
            records.codes,
            encoded,
        )
        for waiting, column in zip(self._waiting, columns, strict=True):
            waiting.extend(column)
        titled = list(map(bool, records.titles))
        self._titles[0].extend(rids[titled].tolist())
        self._titles[1].extend(bigrams(list(filter(None, records.titles))))
        keys, owners = matching_keys(records, self._many_keys)
        self._keys.append(keys)
        self._owners.append(rids[owners].astype(np.uint32))
        self._values.append(pack_all(years, categories, np.array(places, dtype=np.int64), rids))
        self._held += len(keys)
        for source in np.flatnonzero(np.bincount(sources)).tolist():
            here = sources == source
            self._tallies[source].add(categories[here], years[here], flags[here])
        if len(self._waiting[0]) >= (TRAINING_ROWS if self._codec is None else BATCH):
            self._flush()

    def redigest(self, rid: int, digest: int) -> None:
        """Give a record another digest than it was added with."""
        self._redigested.append((digest, rid))

    def _flush(self) -> None:
        encoded = self._waiting[-1]
        if self._codec is None:
            self._dictionary = train(encoded[:TRAINING_ROWS])
            self._codec = Codec(self._dictionary)
        if encoded:
            rows.insert(self._connection, "rec", [*self._waiting[:-1], self._codec.pack_all(encoded)])
        for column in self._waiting:
            column.clear()
        if len(self._titles[0]) >= _TITLES_AT:
            self._write_titles()
        if self._held >= _SPILL_AT:
            self._spill()

    def _write_titles(self) -> None:
        """Titles are written one by one, and many at a time: a statement of several rows, into whatever table, is a
        savepoint, at which FTS5 writes out what it has gathered.
        """
        self._connection.executemany(
            "insert into title(rowid, x) values(?,?)", list(zip(*self._titles, strict=True))
        )
        for column in self._titles:
            column.clear()

    def _spill(self) -> None:
        keys, owners = self._taken()
        partition = (keys >> _PARTITION_SHIFT).astype(np.uint8)  # so small a number is sorted by counting
        order = np.argsort(partition, kind="stable")
        bounds = np.searchsorted(partition, np.arange(_PARTITIONS + 1), sorter=order).tolist()
        if not self._spills:
            self._spills = [
                (
                    self.path.with_name(f"{self.path.name}.{number}.keys.spill"),
                    self.path.with_name(f"{self.path.name}.{number}.owners.spill"),
                )
                for number in range(_PARTITIONS)
            ]
        for paths, low, high in zip(self._spills, bounds[:-1], bounds[1:], strict=True):
            here = order[low:high]
            with paths[0].open("ab") as handle:
                keys[here].tofile(handle)
            with paths[1].open("ab") as handle:
                owners[here].tofile(handle)

    def _taken(self) -> tuple[Numbers, _RecordIds]:
        keys, owners = np.concatenate((*self._keys, _NONE)), np.concatenate((*self._owners, _NOBODY))
        self._keys, self._owners, self._held = [], [], 0
        return keys, owners

    def _runs(self) -> Iterator[tuple[Numbers, _RecordIds]]:
        if self._spills:
            self._spill()
            for keys, owners in self._spills:
                yield np.fromfile(keys, dtype=np.int64), np.fromfile(owners, dtype=np.uint32)
                keys.unlink()
                owners.unlink()
        else:
            yield self._taken()

    def _postings(self) -> Iterator[tuple[Numbers, Numbers]]:
        """All keys and values in order, each pair once, in parts.

        A value is told by its rank among all values, so that key and rank fit one number, and numbers sort ten times as
        fast as pairs. Where they do not fit, a part is the keys that begin with the same bits.
        """
        values = np.concatenate((*self._values, _NONE))
        order = np.argsort(values)
        ranks = np.empty(len(values), dtype=np.uint64)
        ranks[order] = np.arange(len(values), dtype=np.uint64)
        values = values[order]
        rank_bits = len(values).bit_length()
        apart = max(0, _WORD - rank_bits)  # bits of a key that go beside a rank
        shift, mask = np.uint64(rank_bits), np.uint64((1 << rank_bits) - 1)
        for keys, owners in self._runs():
            if not len(keys):
                continue
            ranked, beginnings = ranks[owners - np.uint32(1)], keys >> apart
            for beginning in range(int(beginnings.min()), int(beginnings.max()) + 1):
                here = beginnings == beginning
                base = beginning << apart
                pairs = np.sort((keys[here] - base).astype(np.uint64) << shift | ranked[here])
                if len(pairs):
                    once = np.append(True, pairs[1:] != pairs[:-1])  # two people of a record may share a key
                    pairs = pairs[once]
                    yield (pairs >> shift).astype(np.int64) + base, values[pairs & mask]

    def finish(self) -> None:
        """Write what waited, sort and write the keys, and close the file ready for readers."""
        self._flush()
        self._write_titles()
        connection = self._connection
        connection.executemany("update rec set digest=? where rid=?", self._redigested)
        for keys, values in self._postings():
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
        settings = {
            **versions(),
            "epoch": self._epoch,
            "dictionary": self._dictionary,
            IMPORTED_AT: time.time(),
            KEY_CHECK: self._key_check,
        }
        connection.executemany("insert into meta values(?,?)", list(settings.items()))
        connection.execute("commit")
        finish(connection)

    def abandon(self) -> None:
        """Throw the half-built file away."""
        self._connection.close()
        for path in (self.path, *chain.from_iterable(self._spills)):
            path.unlink(missing_ok=True)
