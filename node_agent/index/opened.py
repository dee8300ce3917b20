"""One open index file, for one thread: its state and counts, and the statements that read postings and rows."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from math import log2
from pathlib import Path

from federation.keys import Keyer
from node_agent.index import postings
from node_agent.index.packing import (
    CATEGORY_KEY,
    CATEGORY_NUMBER,
    UNDATED_RANGE,
    WHOLE_RANGE,
    year_range,
)
from node_agent.index.payload import Codec, restore
from node_agent.index.schema import FLAG_COPY, FLAG_DIGITISED, IMPORTED_AT, meta, open_for_reading
from node_agent.index.titles import contains, match_expression
from node_agent.index.troubles import Trouble, UnusableIndexError, is_damage
from node_agent.record import CatalogueRow, Record

MOST_PER_SCAN = 2_000
"""Key rows read at most for one key; a scan without years under a two-character name would not end otherwise."""

FETCH = 100  # rows a statement
_FEW_CHUNKS = 1_000_000  # records up to which few keys have more than one chunk
_CHECK_EVERY = 4_000  # SQLite steps between looks at the clock

Row = tuple[int, int, int, int, int, str, bytes]
"""rid, category, place, flags, digest, code, payload"""


@dataclass(frozen=True, slots=True)
class CategoryCount:
    """What the archive holds of one category; years 0 = none dated."""

    records: int
    first_year: int
    last_year: int
    undated: int
    copies: int
    digitised: int


_COLUMNS = "rid, cat, place, flags, digest, code, payload"
_ROW = f"select {_COLUMNS} from rec where rid=?"  # noqa: S608 - our own columns


@lru_cache(FETCH)
def _reading(count: int) -> str:
    """The statement that reads so many rows by their ids; a list of ids after `in` would first be sorted."""
    asked = ",".join(["(?)"] * count)
    return f"with p(id) as (values {asked}) select {_COLUMNS} from p cross join rec on rid=id"  # noqa: S608 - our own columns


class Places(dict[int, str]):
    """The archive's numbering of places; looks again when an import has just added one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection.execute("select idx, code from place"))
        self._connection = connection

    def __missing__(self, number: int) -> str:
        self.update(self._connection.execute("select idx, code from place"))
        return self.setdefault(number, "")


class OpenIndex:
    """One open index file, for one thread."""

    def __init__(self, path: Path, keyer: Keyer, stamp: int) -> None:
        self.path, self.keyer, self.stamp = path, keyer, stamp
        self.connection = open_for_reading(path, keyer)
        self.connection.set_progress_handler(self.is_over, _CHECK_EVERY)
        self.deadline: float | None = None
        self.cancelled: threading.Event | None = None
        self.version = -1
        self.looked_at = 0.0
        try:
            self.refresh()
        except Exception:
            self.close()
            raise

    def is_over(self) -> bool:
        """Whether what reads now should stop: its deadline has come, or nobody waits for it any more."""
        if self.cancelled is not None and self.cancelled.is_set():
            return True
        return self.deadline is not None and time.monotonic() >= self.deadline

    def refresh(self) -> None:
        """Look again at what a change of the current file may have altered."""
        try:
            version = self.connection.execute("pragma data_version").fetchone()[0]
            if version != self.version:
                self._read_state()
                self.version = version  # last: what failed in the middle is looked at again
        except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
            if isinstance(error, sqlite3.Error) and not is_damage(error, opening=True):
                raise
            raise UnusableIndexError(Trouble.FILE_DAMAGED) from error

    def _read_state(self) -> None:
        found = meta(self.connection)
        self.epoch = int(found["epoch"])
        self.imported_at = float(found.get(IMPORTED_AT, 0.0))  # 0 = the file does not say
        self.codec = Codec(bytes(found["dictionary"]))
        self.places = Places(self.connection)
        self.holdings = self._count_holdings()
        self.records = sum(count.records for count in self.holdings.values())
        self.undated = {CATEGORY_NUMBER[key]: bool(count.undated) for key, count in self.holdings.items()} | {
            0: any(count.undated for count in self.holdings.values())
        }
        self.bits = lru_cache(65_536)(self._count_bits)

    def scan(self, asked: Sequence[tuple[int, int, int]], category: int, limit: int) -> list[list[int]]:
        """`postings.scan` of this index; names are given with years, because some keys of names fill hundreds of chunks."""
        bounded = self.records > _FEW_CHUNKS
        return postings.scan(self.connection, asked, category, limit, bounded=bounded)

    def scan_one_by_one(
        self, asked: Sequence[tuple[int, int, int]], category: int, limit: int
    ) -> list[list[int]]:
        """The same without years: each is read only until `limit`."""
        return [postings.scan_one(self.connection, *one, category, limit) for one in asked]

    def ranges(self, first_year: int, last_year: int, category: int) -> list[tuple[int, int]]:
        """Ranges of packed values of the years asked (0 = all), with the undated ones where there are any."""
        if not first_year:
            return [WHOLE_RANGE]
        years = year_range(first_year, last_year)
        return [years, UNDATED_RANGE] if self.undated.get(category) else [years]

    def rows(self, rids: Sequence[int]) -> list[Row]:
        """The rows of these ids; an id that is gone is left out."""
        if len(rids) == 1:  # most exact look-ups
            return self.connection.execute(_ROW, rids).fetchall()
        found: list[Row] = []
        for start in range(0, len(rids), FETCH):
            part = rids[start : start + FETCH]
            found.extend(self.connection.execute(_reading(len(part)), part).fetchall())
        return found

    def record(self, row: Row) -> Record:
        """The whole record of a row."""
        _rid, category, place, flags, _digest, code, payload = row
        return restore(
            self.codec.read(payload),
            category=CATEGORY_KEY[category],
            code=code,
            place=self.places[place],
            digitised=bool(flags & FLAG_DIGITISED),
            is_copy=bool(flags & FLAG_COPY),
        )

    def catalogue_row(self, rid: int) -> CatalogueRow | None:
        """The row of this id as the archive wrote it; None when it is gone."""
        row = self.connection.execute(
            "select payload, file, name, headings from rec join source on id=source where rid=?", (rid,)
        ).fetchone()
        if row is None:
            return None
        payload, file, table, headings = row
        # a household is several rows one after the other, under the same headings
        named = zip(cycle(json.loads(headings) or [""]), self.codec.read(payload).cells, strict=False)
        return CatalogueRow(file, table, tuple((heading, cell) for heading, cell in named if cell.strip()))

    def by_title(self, words: str, limit: int, after: int) -> list[int]:
        """Ids of records whose title holds every word, in record order from `after` on."""
        expression = match_expression(words)
        if not expression:
            return []
        found: list[int] = []
        cursor = self.connection.execute(
            "select rowid from title where title match ? and rowid > ? order by rowid",
            (expression, after),
        )
        for (rid,) in cursor:
            payload = self.connection.execute("select payload from rec where rid=?", (rid,)).fetchone()
            if contains(self.codec.glimpse(payload[0]).title if payload else "", words):
                found.append(rid)
                if len(found) >= limit:
                    break
        return found

    def by_code(self, begins: str, limit: int, after: str) -> list[int]:
        """Ids of records whose archival code begins so, in code order from `after` on."""
        end = begins[:-1] + chr(ord(begins[-1]) + 1) if begins else "\U0010ffff"
        found = self.connection.execute(
            "select rid from rec where code >= ? and code < ? and code > ? order by code limit ?",
            (begins, end, after, limit),
        )
        return [rid for (rid,) in found]

    def _count_holdings(self) -> dict[str, CategoryCount]:
        rows = self.connection.execute(
            "select cat, sum(records), coalesce(min(nullif(first, 0)), 0), max(last), sum(undated), sum(copies),"
            " sum(digitised) from holdings group by cat"
        )
        return {CATEGORY_KEY[row[0]]: CategoryCount(*row[1:]) for row in rows}

    def _count_bits(self, name: str) -> float:
        """-log2 of the share of records that carry the name."""
        held = postings.count(self.connection, self.keyer.exact_name_key(name))
        return log2(max(1, self.records) / max(1, held))

    @property
    def is_reading(self) -> bool:
        """Whether one state is being read by several statements."""
        return self.connection.in_transaction

    def begin(self) -> bool:
        """Read one state from now on; False when that is so already."""
        if self.is_reading:
            return False
        self.connection.execute("begin")
        return True

    def end(self) -> None:
        """Read the newest state again. Nothing when a fault of the file has ended it already."""
        if self.is_reading:
            self.connection.execute("commit")

    def close(self) -> None:
        self.connection.close()
