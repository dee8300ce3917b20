"""Importing: a file's records become the index's, all of them or none.

A small change is one transaction in the current file; a large one builds a new file and switches to it, while searches
go on over the old one. The same file again changes nothing; a changed file touches only the rows that changed.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from federation.keys import Keyer
from federation.process.os_errors import said
from node_agent.index import postings
from node_agent.index.builder import BATCH, Builder, Places, Tally, filed_under, flags_of, record_keys
from node_agent.index.calls import Agree, Part, SourceCounts, agreed
from node_agent.index.folder import BusyError, DataFolder
from node_agent.index.key_check import KEY_CHECK
from node_agent.index.packing import CATEGORY_KEY, CATEGORY_NUMBER, Numbers, pack, year_of
from node_agent.index.payload import Codec, digests_of, encode, restore
from node_agent.index.schema import (
    FLAG_COPY,
    FLAG_DIGITISED,
    IMPORTED_AT,
    meta,
    open_for_change,
    open_for_reading,
)
from node_agent.index.seen import Seen, has_repeats
from node_agent.index.standing import Held, Preview, Standing, open_preview, set_apart
from node_agent.index.titles import bigrams
from node_agent.index.troubles import Trouble, UnusableIndexError, is_damage
from node_agent.record import Record, Records, side_by_side

_REBUILD_SHARE = 0.05  # measured: above about 5 % changed rows a new file is cheaper than upserts
_SMALL_CHANGE = 500  # rows always worth a transaction
_LARGEST_BUFFER = 50_000  # rows held in memory before deciding


class ImportRefusedError(Exception):
    """The import could not start or finish; the message says what to do. The index is as it was."""


@dataclass(slots=True)
class _Changed:
    """A record that is not in the index as it is, waiting for the decision between transaction and new file."""

    record: Record
    part: int
    encoded: bytes
    digest: int


@contextlib.contextmanager
def open_for_import(data_dir: Path | str) -> Iterator[Importer]:
    """The one importer of a data folder; ImportRefusedError when another is at work or the index can not be used."""
    folder = DataFolder(Path(data_dir))
    with _refused_by_name(), folder.import_lock():
        folder.sweep()
        yield Importer(folder)


@contextlib.contextmanager
def open_for_preview(data_dir: Path | str) -> Iterator[Preview]:
    """What an import would do to the index of a data folder, which is only read and need not be there;
    ImportRefusedError when the index can not be used.
    """
    with _refused_by_name(), open_preview(data_dir) as preview:
        yield preview


@contextlib.contextmanager
def _refused_by_name() -> Iterator[None]:
    try:
        yield
    except BusyError as error:
        raise ImportRefusedError(
            "另一个导入正在进行 · another import is running in this folder; wait for it to end"
        ) from error
    except UnusableIndexError as error:
        raise ImportRefusedError(str(error)) from error
    except sqlite3.Error as error:
        if is_damage(error):
            raise ImportRefusedError(str(UnusableIndexError(Trouble.FILE_DAMAGED))) from error
        raise ImportRefusedError(
            f"索引写入失败，原索引未变 · writing the index failed, the old one stands: {error}"
        ) from error
    except OSError as error:
        raise ImportRefusedError(
            f"数据目录无法读写，原索引未变 · the data folder can not be read or written, the old index stands: {said(error)}"
        ) from error


class Importer(Held):
    """Replaces files in the index, one at a time."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._keyer = Keyer(folder.index_key())

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        current = self._folder.current()
        if current is None:
            yield None
            return
        with contextlib.closing(open_for_reading(current, self._keyer)) as connection:
            yield connection

    def put(
        self, file_name: str, digest: bytes, parts: Iterable[Part], agree: Agree = agreed
    ) -> SourceCounts:
        """Make the index hold exactly these records for `file_name`; all or nothing, durable on return."""
        with self._changing(file_name, digest) as change:
            return change.run(parts, agree)

    def remove(self, file_name: str) -> SourceCounts:
        """Make the index hold nothing of `file_name`, not even its name; all or nothing, durable on return."""
        with self._changing(file_name, b"") as change:
            return change.take_out()

    @contextlib.contextmanager
    def _changing(self, file_name: str, digest: bytes) -> Iterator[_Change]:
        current = self._folder.current()
        change = _Change(self._folder, self._keyer, current, file_name, digest)
        try:
            yield change
        except BaseException:
            change.abandon()
            raise


class _Change:
    def __init__(
        self, folder: DataFolder, keyer: Keyer, current: Path | None, file_name: str, digest: bytes
    ) -> None:
        self._folder, self._keyer, self._current = folder, keyer, current
        self._file, self._digest = file_name, digest
        self._old: sqlite3.Connection | None = None
        self._epoch = 1
        total = 0
        if current is not None:
            self._old = open_for_reading(current, keyer)
            self._epoch = int(meta(self._old)["epoch"]) + 1
            total = self._old.execute("select coalesce(sum(records), 0) from holdings").fetchone()[0]
        self._standing = Standing(self._old, file_name, digest)
        share = max(_SMALL_CHANGE, int(total * _REBUILD_SHARE))
        self._digests: list[Numbers] = []  # of a new file
        self._threshold = min(_LARGEST_BUFFER, share) if current is not None else 0
        self._builder: Builder | None = None
        self._buffer: list[_Changed] = []
        self._parts: list[tuple[str, str]] = []
        self._built_sources: dict[int, int] = {}
        self._tallies: dict[int, Tally] = {}
        self._moved: dict[int, int] = {}  # rid of an unchanged row -> its part

    def run(self, parts: Iterable[Part], agree: Agree) -> SourceCounts:
        counts = SourceCounts()
        standing = self._standing
        unseen = standing.unseen
        seen_here = Seen()
        changed_codes: list[str] = []
        for number, part in enumerate(parts):
            self._parts.append((part.name, json.dumps(part.headings, ensure_ascii=False)))
            tally = self._tallies[number] = Tally()
            for batch in side_by_side(part.records, BATCH):
                encoded = encode(batch)
                digests = digests_of(batch, encoded)
                if standing.is_new:
                    self._digests.append(digests)  # nothing to compare with: told apart at the end
                else:
                    set_apart(digests, seen_here)
                if self._builder is not None and not unseen:  # a first import: nothing to compare with
                    counts.imported += len(batch)
                    self._builder.add(
                        batch, np.full(len(batch), self._built_source(number)), encoded, digests
                    )
                    continue
                tally.add(*filed_under(batch))
                for place, (whole, digest) in enumerate(zip(encoded, digests.tolist(), strict=True)):
                    rid = unseen.pop(digest, None) if unseen else None
                    if rid is not None:
                        counts.unchanged += 1
                        self._moved[rid] = number
                        continue
                    counts.imported += 1
                    if unseen or counts.unchanged:
                        changed_codes.append(batch.codes[place])
                    self._buffer.append(_Changed(batch.record(place), number, whole, digest))
                self._settle()
        self._set_all_apart()
        standing.settle(counts, changed_codes)
        agree(counts)
        same = standing.is_new or standing.has_digest  # else the file is known by its new bytes from now on
        if not self._buffer and not unseen and self._builder is None and self._current is not None and same:
            self._close_old()
            return counts
        if (
            self._builder is None
            and self._current is not None
            and len(self._buffer) + len(unseen) <= self._threshold
        ):
            self._apply(set(unseen.values()))
        else:
            self._rebuild(set(unseen.values()))
        return counts

    def take_out(self) -> SourceCounts:
        """Write the index without the file. One it does not hold changes nothing."""
        gone = set(self._standing.unseen.values())
        if self._current is None or not self._is_held():
            self._close_old()
        elif len(gone) <= self._threshold:
            self._apply(gone)
        else:
            self._rebuild(gone)
        return SourceCounts(removed=len(gone))

    def _is_held(self) -> bool:
        """Whether the index holds the file, if only its name."""
        assert self._old is not None
        return (
            self._old.execute("select 1 from source where file=? limit 1", (self._file,)).fetchone()
            is not None
        )

    def _set_all_apart(self) -> None:
        """The same as `set_apart` for a new file; its rows are the first of the builder, or all in the buffer."""
        digests = np.concatenate((*self._digests, np.array([], dtype=np.int64)))
        if not has_repeats(digests):
            return
        before, seen = digests.copy(), Seen()
        for start in range(0, len(digests), BATCH):
            set_apart(digests[start : start + BATCH], seen)
        for place in np.flatnonzero(digests != before).tolist():
            if self._builder is not None:
                self._builder.redigest(place + 1, int(digests[place]))
            else:
                self._buffer[place].digest = int(digests[place])

    def _settle(self) -> None:
        """Begin a new file once the change is too large for a transaction; what is to go into it goes at once."""
        if self._builder is None and len(self._buffer) > self._threshold:
            self._begin_build()
        if self._builder is not None:
            self._add_buffered()

    def _begin_build(self) -> None:
        self._builder = Builder(self._folder.file_for(self._epoch), self._keyer, self._epoch)
        self._add_buffered()

    def _add_buffered(self) -> None:
        assert self._builder is not None
        for start in range(0, len(self._buffer), BATCH):
            some = self._buffer[start : start + BATCH]
            self._builder.add(
                Records.of([one.record for one in some]),
                np.array([self._built_source(one.part) for one in some]),
                [one.encoded for one in some],
                np.array([one.digest for one in some]),
            )
        self._buffer.clear()

    def _built_source(self, part: int) -> int:
        found = self._built_sources.get(part)
        if found is None:
            assert self._builder is not None
            name, headings = self._parts[part]
            found = self._built_sources[part] = self._builder.source(self._file, name, self._digest, headings)
        return found

    def _rebuild(self, gone: set[int]) -> None:
        """A new file: this file's new rows, then everything that stays."""
        if self._builder is None:
            self._begin_build()
        builder = self._builder
        assert builder is not None
        if self._old is not None:
            self._copy_rest(builder, self._old, gone)
        for part in range(len(self._parts)):
            self._built_source(part)
        builder.finish()
        self._close_old()
        self._folder.switch_to(builder.path)
        self._folder.sweep()

    def _copy_rest(self, builder: Builder, old: sqlite3.Connection, gone: set[int]) -> None:
        codec = Codec(bytes(meta(old)["dictionary"]))
        places = dict(old.execute("select idx, code from place"))
        others: dict[int, int] = {}
        for number, file, name, digest, headings in old.execute(
            "select * from source where file<>?", (self._file,)
        ):
            others[number] = builder.source(file, name, digest, headings)
        rows = old.execute("select rid, source, cat, place, flags, digest, code, payload from rec")
        while some := rows.fetchmany(BATCH):
            staying = [row for row in some if row[0] not in gone]
            if not staying:
                continue
            records = Records.of(
                [
                    restore(
                        codec.read(payload),
                        category=CATEGORY_KEY[category],
                        code=code,
                        place=places[place],
                        digitised=bool(flags & FLAG_DIGITISED),
                        is_copy=bool(flags & FLAG_COPY),
                    )
                    for _rid, _source, category, place, flags, _digest, code, payload in staying
                ]
            )
            sources = [
                others[row[1]] if row[1] in others else self._built_source(self._moved[row[0]])
                for row in staying
            ]
            builder.add(records, np.array(sources), encode(records), np.array([row[5] for row in staying]))

    def _apply(self, gone: set[int]) -> None:
        """One transaction in the current file, beside its readers."""
        self._close_old()
        assert self._current is not None
        connection = open_for_change(self._current, self._keyer)
        try:
            connection.execute("begin immediate")
            self._write(connection, gone)
            connection.execute("commit")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("rollback")
            raise
        finally:
            connection.close()

    def _write(self, connection: sqlite3.Connection, gone: set[int]) -> None:
        codec = Codec(bytes(meta(connection)["dictionary"]))
        places = Places({code: idx for idx, code in connection.execute("select idx, code from place")})
        known_places = len(places.numbers)
        for rid in gone:
            _delete(connection, codec, self._keyer, rid)
        old_sources = [
            row[0]
            for row in connection.execute("select id from source where file=? order by id", (self._file,))
        ]
        next_source = connection.execute("select coalesce(max(id), 0) + 1 from source").fetchone()[0]
        sources = [
            old_sources[part] if part < len(old_sources) else next_source + part
            for part in range(len(self._parts))
        ]
        connection.executemany("delete from holdings where source=?", [(number,) for number in old_sources])
        connection.executemany("delete from source where id=?", [(number,) for number in old_sources])
        connection.executemany(
            "insert into source values(?,?,?,?,?)",
            [
                (number, self._file, name, self._digest, headings)
                for number, (name, headings) in zip(sources, self._parts, strict=True)
            ],
        )
        next_rid = connection.execute("select coalesce(max(rid), 0) + 1 from rec").fetchone()[0]
        for rid, changed in enumerate(self._buffer, start=next_rid):
            _insert(connection, codec, self._keyer, places, rid, sources[changed.part], changed)
        connection.executemany(
            "update rec set source=? where rid=? and source<>?",
            [(sources[part], rid, sources[part]) for rid, part in self._moved.items()],
        )
        fresh = list(places.numbers.items())[known_places:]
        connection.executemany("insert into place values(?,?)", [(idx, code) for code, idx in fresh])
        connection.executemany(
            "insert into holdings values(?,?,?,?,?,?,?,?)",
            [
                (sources[part], cat, *row)
                for part, tally in self._tallies.items()
                for cat, row in tally.rows.items()
            ],
        )
        connection.execute("update meta set value=? where name='epoch'", (self._epoch,))
        connection.executemany(
            "insert or replace into meta values(?,?)",
            [(KEY_CHECK, self._keyer.check_value), (IMPORTED_AT, time.time())],
        )

    def _close_old(self) -> None:
        if self._old is not None:
            self._old.close()
            self._old = None

    def abandon(self) -> None:
        """Leave the index as it was."""
        self._close_old()
        if self._builder is not None:
            self._builder.abandon()


def _insert(
    connection: sqlite3.Connection,
    codec: Codec,
    keyer: Keyer,
    places: Places,
    rid: int,
    source: int,
    changed: _Changed,
) -> None:
    record = changed.record
    year, category, place = (
        year_of(record.event),
        CATEGORY_NUMBER[record.category],
        places.number(record.place),
    )
    connection.execute(
        "insert into rec values(?,?,?,?,?,?,?,?,?)",
        (
            rid,
            source,
            category,
            year,
            place,
            flags_of(record),
            changed.digest,
            record.archival_code,
            codec.pack(changed.encoded),
        ),
    )
    if record.title:
        connection.execute("insert into title(rowid, x) values(?,?)", (rid, bigrams([record.title])[0]))
    value = pack(year, category, place, rid)
    for key in record_keys(record, keyer):
        postings.add(connection, key, value)


def _delete(connection: sqlite3.Connection, codec: Codec, keyer: Keyer, rid: int) -> None:
    category, year, place, code, payload = connection.execute(
        "select cat, year, place, code, payload from rec where rid=?", (rid,)
    ).fetchone()
    record = restore(
        codec.read(payload),
        category=CATEGORY_KEY[category],
        code=code,
        place="",
        digitised=False,
        is_copy=False,
    )
    value = pack(year, category, place, rid)
    for key in record_keys(record, keyer):
        postings.remove(connection, key, value)
    if record.title:
        # a contentless full-text table forgets a row only when told what it held
        connection.execute(
            "insert into title(title, rowid, x) values('delete', ?, ?)", (rid, bigrams([record.title])[0])
        )
    connection.execute("delete from rec where rid=?", (rid,))
