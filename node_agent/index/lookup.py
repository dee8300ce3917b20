"""Looking up: probes → key scans → fetch → compare → score, best first, inside a deadline.

A reader notices by itself that an import switched to another file or changed the current one; it never blocks an import
and is never blocked by one.
"""

from __future__ import annotations

import contextlib
import heapq
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import log2
from operator import itemgetter
from pathlib import Path

from federation.comparison import Comparer, Vector
from federation.dates import DateSpan
from federation.keys import Keyer, KeyKind
from federation.levels import IdLevel, Levels, NameLevel, TextLevel
from federation.query import Query
from federation.scoring import (
    NAME_BITS_CEILING,
    POSSIBLE_BELOW_LIKELY,
    Decision,
    decide,
    likely_from,
    score_vector,
)
from node_agent.index import postings
from node_agent.index.folder import DataFolder
from node_agent.index.importer import imported_at
from node_agent.index.packing import (
    CATEGORY_KEY,
    CATEGORY_NUMBER,
    RID_MASK,
    UNDATED_RANGE,
    WHOLE_RANGE,
    category_in,
    place_in,
    rid_of,
    stored_key,
    year_in,
    year_range,
)
from node_agent.index.payload import Codec, Stored, restore
from node_agent.index.schema import FLAG_COPY, FLAG_DIGITISED, meta, open_for_reading
from node_agent.index.titles import contains, match_expression
from node_agent.record import Record

MOST_CANDIDATES = 400
"""Rows fetched and compared at most; above it those nearest by year and place (measured: recall unchanged at 5M)."""

MOST_PER_SCAN = 2_000
"""Key rows read at most for one key; a scan without years under a two-character name would not end otherwise."""

_CERTAIN = frozenset({KeyKind.ID, KeyKind.CERTIFICATE})
_SAME_NAME = frozenset({KeyKind.NAME, KeyKind.SOUND})
_SAME_NAME_YEARS = 8.0  # years a record of the same name or sound may stand farther off than another

_FEW_CHUNKS = 1_000_000  # records up to which few keys have more than one chunk
_FETCH = 100
_LOOK_AGAIN_S = 0.02  # an import is seen within this; looking costs 9 us, half of an exact look-up
_CHECK_EVERY = 4_000  # SQLite steps between looks at the deadline
_UNKNOWN_BITS = 12.0
_MOST_MISJUDGED = (
    NAME_BITS_CEILING - _UNKNOWN_BITS
)  # how much a name's real frequency can raise a first score


@lru_cache(16_384)
def _first_score(vector: Vector) -> float:
    """The score before the real frequency of the name is known. Few vectors make up nearly all that is compared."""
    return score_vector(vector, _UNKNOWN_BITS)


class NoIndexError(Exception):
    """Nothing has been imported yet."""


@dataclass(frozen=True, slots=True)
class CategoryCount:
    """What the archive holds of one category; years 0 = none dated."""

    records: int
    first_year: int
    last_year: int
    undated: int
    copies: int
    digitised: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the archive holds, as of `epoch`; `age_s` is seconds since the last import."""

    epoch: int
    records: int
    categories: dict[str, CategoryCount]
    age_s: int


@dataclass(frozen=True, slots=True)
class Found:
    """A record that may be the one asked for, with the evidence."""

    rid: int
    digest: int
    category: str
    code: str
    place: str
    stored: Stored
    flags: int
    levels: Levels
    person: int
    name_bits: float
    score: float

    @property
    def is_copy(self) -> bool:
        return bool(self.flags & FLAG_COPY)

    @property
    def digitised(self) -> bool:
        return bool(self.flags & FLAG_DIGITISED)

    @property
    def record(self) -> Record:
        """The whole record with its original texts; unmasked, for the archive itself."""
        return restore(
            self.stored,
            category=self.category,
            code=self.code,
            place=self.place,
            digitised=self.digitised,
            is_copy=self.is_copy,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """Candidates best first. `soft_timeout`: the deadline ended the search, these are the best found so far."""

    found: tuple[Found, ...]
    epoch: int
    records: int
    truncated: bool = False
    soft_timeout: bool = False


_Row = tuple[int, int, int, int, int, str, bytes]
"""rid, category, place, flags, digest, code, payload"""


class _OutOfTime(Exception):
    pass


class _Places(dict[int, str]):
    """The archive's numbering of places; looks again when an import has just added one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection.execute("select idx, code from place"))
        self._connection = connection

    def __missing__(self, number: int) -> str:
        self.update(self._connection.execute("select idx, code from place"))
        return self.setdefault(number, "")


class _Index:
    """One open index file, for one thread."""

    def __init__(self, path: Path, keyer: Keyer, stamp: int) -> None:
        self.path, self.keyer, self.stamp = path, keyer, stamp
        self.connection = open_for_reading(path)
        self.connection.set_progress_handler(self._late, _CHECK_EVERY)
        self.deadline: float | None = None
        self.version = -1
        self.looked_at = 0.0
        self.refresh()

    def _late(self) -> int:
        return int(self.deadline is not None and time.monotonic() >= self.deadline)

    def refresh(self) -> None:
        """Look again at what a change of the current file may have altered."""
        version = self.connection.execute("pragma data_version").fetchone()[0]
        if version == self.version:
            return
        self.version = version
        found = meta(self.connection)
        self.epoch = int(found["epoch"])
        self.codec = Codec(bytes(found["dictionary"]))
        self.places = _Places(self.connection)
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
        return [postings.scan(self.connection, [one], category, limit, bounded=False)[0] for one in asked]

    def ranges(self, first_year: int, last_year: int, category: int) -> list[tuple[int, int]]:
        """Ranges of packed values of the years asked (0 = all), with the undated ones where there are any."""
        if not first_year:
            return [WHOLE_RANGE]
        years = year_range(first_year, last_year)
        return [years, UNDATED_RANGE] if self.undated.get(category) else [years]

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

    def close(self) -> None:
        self.connection.close()


class Lookup:
    """Searches one archive's index. Safe to use from several threads: each has its own connection."""

    def __init__(self, data_dir: Path | str) -> None:
        self._folder = DataFolder(Path(data_dir))
        self._local = threading.local()
        self._open: list[_Index] = []
        self._lock = threading.Lock()
        self._keyer: Keyer | None = None

    def _index(self) -> _Index:
        held: _Index | None = getattr(self._local, "index", None)
        now = time.monotonic()
        if held is not None and (now - held.looked_at < _LOOK_AGAIN_S or held.connection.in_transaction):
            return held
        stamp = self._folder.pointer_stamp()
        if held is not None and held.stamp == stamp:
            held.refresh()
            held.looked_at = now
            return held
        path = self._folder.current()
        if path is None:
            raise NoIndexError
        if held is not None:
            self._forget(held)
        if self._keyer is None:
            self._keyer = Keyer(self._folder.index_key())
        fresh = _Index(path, self._keyer, stamp)
        fresh.looked_at = now
        self._local.index = fresh
        with self._lock:
            self._open.append(fresh)
        return fresh

    def _forget(self, index: _Index) -> None:
        index.close()
        with self._lock:
            self._open.remove(index)

    def close(self) -> None:
        """Close every thread's connection; no search may be running."""
        with self._lock:
            for index in self._open:
                index.close()
            self._open.clear()
        self._local = threading.local()

    @staticmethod
    def is_fast(query: Query) -> bool:
        """Whether a query is short work: bounded by an exact key or by years. Others belong in the worker thread."""
        return not (query.title or query.archival_code or (query.name and query.event is None))

    def holdings(self) -> Holdings:
        """What the archive holds now; NoIndexError before the first import."""
        index = self._index()
        age = max(0, int(time.time() - imported_at(index.path)))
        return Holdings(index.epoch, index.records, index.holdings, age)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read one state of the index in all that this thread asks for inside: an import that ends meanwhile is seen
        afterwards, so what one call names the next one finds. Keep it short: the file keeps what it replaces so long.

        Also cheaper: a statement by itself takes and gives back a lock, 3 us of the 5 that an exact one costs.
        """
        connection = self._index().connection
        if connection.in_transaction:
            yield
            return
        connection.execute("begin")
        try:
            yield
        finally:
            connection.execute("commit")

    def search(
        self, query: Query, *, limit: int = 50, deadline: float | None = None, weak: bool = True
    ) -> Answer:
        """The best `limit` candidates. `deadline` is a time.monotonic() point: at it, the best found so far.
        Without `weak`, only those that may be the record asked for: likely or possible ones.
        """
        with self.reading():
            index = self._index()
            search = _Search(index, query, limit, weak=weak)
            index.deadline = deadline
            try:
                search.run()
            except (_OutOfTime, sqlite3.OperationalError) as error:
                if isinstance(error, sqlite3.OperationalError) and "interrupt" not in str(error):
                    raise
                return search.answer(soft_timeout=True)
            finally:
                index.deadline = None
            return search.answer(soft_timeout=False)

    # The five calls of the index ---------------------------------------------------------------------------------

    def scan(
        self,
        keys: Iterable[int],
        first_year: int = 0,
        last_year: int = 0,
        category: str = "",
        limit: int = MOST_PER_SCAN,
    ) -> list[int]:
        """Packed values under any of `keys`, of the years given (0 = all) and undated, of one category or all."""
        index = self._index()
        number = CATEGORY_NUMBER.get(category, 0)
        ranges = index.ranges(first_year, last_year, number)
        asked = [(key, low, high) for key in keys for low, high in ranges]
        found = (index.scan if first_year else index.scan_one_by_one)(asked, number, limit)
        return found[0] if len(found) == 1 else list(chain.from_iterable(found))

    def fetch(self, rids: Sequence[int]) -> dict[int, Record]:
        """The records of these ids; an id that is gone is left out."""
        index = self._index()
        return {row[0]: _record(index, row) for row in _rows(index.connection, rids)}

    def read(
        self,
        keys: Sequence[int],
        first_year: int = 0,
        last_year: int = 0,
        category: str = "",
        limit: int = MOST_PER_SCAN,
    ) -> dict[int, Record]:
        """`scan` and `fetch` in one: the records under any of `keys`. For one key a single statement reads both, where
        each would take a lock of its own (6.6 us against 10.5).
        """
        index = self._index()
        number = CATEGORY_NUMBER.get(category, 0)
        ranges = index.ranges(first_year, last_year, number)
        if len(keys) > 1 or len(ranges) > 1:
            values = self.scan(keys, first_year, last_year, category, limit)
            return self.fetch([rid_of(value) for value in values])
        return {
            row[0]: _record(index, row)
            for key in keys
            for row in _under(index, key, *ranges[0], number, limit)
        }

    def title(self, words: str, limit: int = 20, after: int = 0) -> list[int]:
        """Record ids whose title holds every word, in record order from `after` on."""
        index = self._index()
        return [rid for rid, _row in _by_title(index, words, limit, after)]

    def prefix(self, code: str, limit: int = 50, after: str = "") -> list[int]:
        """Record ids whose archival code starts with `code`, in code order from `after` on."""
        index = self._index()
        return [rid for rid, _code in _by_prefix(index.connection, code, limit, after)]


_COLUMNS = "rid, cat, place, flags, digest, code, payload"
_ROW = f"select {_COLUMNS} from rec where rid=?"  # noqa: S608 - our own columns
_UNDER = (
    f"select last, v, {_COLUMNS} from k left join rec on rid=last&{RID_MASK} and v is null"  # noqa: S608 - our own columns
    " where h=? and last>=? order by last"
)
"""The chunks of a key; beside one of a single value, the row it stands for."""


@lru_cache(_FETCH)
def _reading(count: int) -> str:
    """The statement that reads so many rows by their ids; a list of ids after `in` would first be sorted."""
    asked = ",".join(["(?)"] * count)
    return f"with p(id) as (values {asked}) select {_COLUMNS} from p cross join rec on rid=id"  # noqa: S608 - our own columns


def _rows(connection: sqlite3.Connection, rids: Sequence[int]) -> list[_Row]:
    if len(rids) == 1:  # most exact look-ups
        return connection.execute(_ROW, rids).fetchall()
    rows: list[_Row] = []
    for start in range(0, len(rids), _FETCH):
        part = rids[start : start + _FETCH]
        rows.extend(connection.execute(_reading(len(part)), part).fetchall())
    return rows


def _under(index: _Index, key: int, low: int, high: int, category: int, limit: int) -> list[_Row]:
    """Rows under a key, of the packed values from `low` to `high`, of one category (0 = all), the first `limit`."""
    rows: list[_Row] = []
    values: list[int] = []  # of chunks: their rows are still to be read
    for row in index.connection.execute(_UNDER, (stored_key(key), low)):
        last, packed = row[0], row[1]
        if packed is not None:
            postings.take(values, last, packed, low, high, category)
        elif last <= high and category in {0, category_in(last)}:
            rows.append(row[2:])
        if last > high or len(rows) + len(values) >= limit:
            break
    if values:
        rows += _rows(index.connection, [rid_of(value) for value in values[: limit - len(rows)]])
    return rows


def _record(index: _Index, row: _Row) -> Record:
    _rid, category, place, flags, _digest, code, payload = row
    return restore(
        index.codec.read(payload),
        category=CATEGORY_KEY[category],
        code=code,
        place=index.places[place],
        digitised=bool(flags & FLAG_DIGITISED),
        is_copy=bool(flags & FLAG_COPY),
    )


def _by_title(index: _Index, words: str, limit: int, after: int) -> list[tuple[int, str]]:
    expression = match_expression(words)
    if not expression:
        return []
    found: list[tuple[int, str]] = []
    cursor = index.connection.execute(
        "select rowid from title where title match ? and rowid > ? order by rowid limit ?",
        (expression, after, MOST_PER_SCAN),
    )
    for (rid,) in cursor:
        payload = index.connection.execute("select payload from rec where rid=?", (rid,)).fetchone()
        title = index.codec.read(payload[0]).title if payload else ""
        if contains(title, words):
            found.append((rid, title))
            if len(found) >= limit:
                break
    return found


def _by_prefix(connection: sqlite3.Connection, code: str, limit: int, after: str) -> list[tuple[int, str]]:
    end = code[:-1] + chr(ord(code[-1]) + 1) if code else "\U0010ffff"
    return connection.execute(
        "select rid, code from rec where code >= ? and code < ? and code > ? order by code limit ?",
        (code, end, after, limit),
    ).fetchall()


def _agrees(vector: Vector) -> bool:
    """Whether a name, a number or the other party's name speaks for the record, and not years and places alone."""
    name, id_number, _birth, _event, _place, other_name, certificate_no = vector[:7]
    return bool(
        (name and name != NameLevel.DIFFERENT)
        or id_number in {IdLevel.EQUAL, IdLevel.TYPO}
        or certificate_no == TextLevel.EQUAL
        or (other_name and other_name <= NameLevel.ALIAS)
    )


class _Search:
    """One search in progress."""

    def __init__(self, index: _Index, query: Query, limit: int, *, weak: bool) -> None:
        self._index, self._query, self._limit = index, query, limit
        self._weak = weak
        self._floor = -1e9 if weak else likely_from(index.records) - POSSIBLE_BELOW_LIKELY - _MOST_MISJUDGED
        self._category = CATEGORY_NUMBER.get(query.category, 0)
        self._values: dict[int, int] = {}
        self._by_slack: dict[int | None, list[tuple[int, int]]] = {}
        self._scored: list[tuple[float, int, str | None, int, Vector, _Row]] = []
        self._capped = False
        self._certain = self._same_name = (
            0  # of _values, in the order found: by number or code, by the name itself
        )
        event = query.event
        self._first_year = event.first_year if event else 0
        self._last_year = event.last_year if event else 0

    def run(self) -> None:
        self._collect()
        rids = self._nearest()
        comparer = Comparer(self._query)
        for start in range(0, len(rids), _FETCH):
            self._check_time()
            for row in _rows(self._index.connection, rids[start : start + _FETCH]):
                self._compare(comparer, row)

    def _check_time(self) -> None:
        deadline = self._index.deadline
        if deadline is not None and time.monotonic() >= deadline:
            raise _OutOfTime

    def _collect(self) -> None:
        index, query = self._index, self._query
        if query.archival_code:
            for rid, _code in _by_prefix(index.connection, query.archival_code, self._limit, ""):
                self._values.setdefault(rid, 0)
        if query.title:
            for rid, _title in _by_title(index, query.title, self._limit, 0):
                self._values.setdefault(rid, 0)
        self._certain = self._same_name = len(self._values)
        asked: list[tuple[int, int, int]] = []
        kinds: list[KeyKind] = []
        for probe in index.keyer.probes(query):
            slack = probe.year_slack
            unbounded = slack is None or not self._first_year
            if probe.kind is KeyKind.OTHER_NAME and unbounded:
                continue  # a spouse's name without years would bring everybody of that name
            for low, high in self._ranges(None if unbounded else slack):
                asked.append((probe.key, low, high))
                kinds.append(probe.kind)
        certain = sum(kind in _CERTAIN for kind in kinds)  # they come first
        found = index.scan(asked[:certain] if not self._first_year else asked, self._category, MOST_PER_SCAN)
        if not self._first_year:
            found += index.scan_one_by_one(asked[certain:], self._category, MOST_PER_SCAN)
        for kind, values in zip(kinds, found, strict=True):
            self._capped = self._capped or len(values) >= MOST_PER_SCAN
            for value in values:
                self._values.setdefault(rid_of(value), value)
            if kind in _CERTAIN:
                self._certain = self._same_name = len(self._values)
            elif kind in _SAME_NAME:
                self._same_name = len(self._values)
        self._check_time()

    def _ranges(self, slack: int | None) -> list[tuple[int, int]]:
        """Ranges of packed values of the years asked and `slack` around them; None = of all years."""
        found = self._by_slack.get(slack)
        if found is None:
            first, last = (0, 0) if slack is None else (self._first_year - slack, self._last_year + slack)
            found = self._by_slack[slack] = self._index.ranges(first, last, self._category)
        return found

    def _nearest(self) -> list[int]:
        """Ids to compare: all, or above MOST_CANDIDATES those found by a number or code, then the nearest by year,
        place and name: the name asked for may stand some years off, an inexact one only near.
        """
        if len(self._values) <= MOST_CANDIDATES:
            return list(self._values)
        self._capped = True
        middle = (self._first_year + self._last_year) / 2
        places = {idx for idx, code in self._index.places.items() if code and code == self._query.place}

        def distance(item: tuple[int, tuple[int, int]]) -> float:
            number, (_rid, value) = item
            year = year_in(value)
            apart = abs(year - middle) if year and middle else 6.0
            apart += 0 if place_in(value) in places else 4.0
            return apart - (_SAME_NAME_YEARS if number < same_name else 0)

        found = list(self._values.items())
        certain, rest = found[: self._certain][:MOST_CANDIDATES], found[self._certain :]
        same_name = self._same_name - self._certain
        nearest = heapq.nsmallest(MOST_CANDIDATES - len(certain), enumerate(rest), key=distance)
        return [rid for rid, _value in certain] + [rid for _number, (rid, _value) in nearest]

    def _compare(self, comparer: Comparer, row: _Row) -> None:
        rid, category, place, _flags, _digest, code, payload = row
        seen = self._index.codec.glimpse(payload)
        vector, person = comparer.vector(
            category=CATEGORY_KEY[category],
            persons=seen.persons,
            event=DateSpan(seen.first, seen.last) if seen.first and self._first_year else None,
            place=self._index.places[place],
            place_text=seen.place_text,
            certificate_no=seen.certificate_no,
        )
        value = _first_score(vector)
        if value < self._floor or not (_agrees(vector) or self._has_words(code, seen.title)):
            return  # too weak to be told, or a digest collision, or a household member's namesake
        name = seen.persons[person].name if seen.persons else None
        self._scored.append((value, -rid, name, person, vector, row))

    def _has_words(self, code: str, title: str) -> bool:
        asked = self._query
        if asked.archival_code and code.startswith(asked.archival_code):
            return True
        return bool(asked.title) and contains(title, asked.title)

    def answer(self, *, soft_timeout: bool) -> Answer:
        """Rank by the real frequency of the names, only for those that can still make the list."""
        index = self._index
        index.deadline = None
        ranked: list[tuple[float, str, int, float, int, Levels, _Row]] = []
        for _first, rid, name, person, vector, row in heapq.nlargest(
            self._limit * 2, self._scored, key=itemgetter(0, 1)
        ):
            bits = _UNKNOWN_BITS if name is None else index.bits(name)
            levels = Levels(*vector)
            value = score_vector(vector, bits)
            if self._weak or decide(value, index.records, levels) is not Decision.NONE:
                ranked.append((-value, row[5], -rid, bits, person, levels, row))
        ranked.sort(key=itemgetter(0, 1, 2))
        found = [
            self._found(row, levels, person, bits, -value)
            for value, _code, _rid, bits, person, levels, row in ranked[: self._limit]
        ]
        truncated = len(self._scored) > self._limit or self._capped
        return Answer(tuple(found), index.epoch, index.records, truncated, soft_timeout)

    def _found(self, row: _Row, levels: Levels, person: int, bits: float, value: float) -> Found:
        rid, category, place, flags, digest, code, payload = row
        index = self._index
        stored = index.codec.read(payload)
        return Found(
            rid, digest, CATEGORY_KEY[category], code, index.places[place], stored, flags, levels, person, bits, value
        )  # fmt: skip
