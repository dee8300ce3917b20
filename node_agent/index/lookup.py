"""Looking up in an archive's index: the calls of `calls.py` for readers, and whole searches inside a deadline.

A reader notices by itself that an import switched to another file or changed the current one; it never blocks an import
and is never blocked by one.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from federation.keys import Keyer
from federation.query import Query
from node_agent.index import postings
from node_agent.index.folder import DataFolder, imported_at
from node_agent.index.opened import MOST_PER_SCAN, CategoryCount, OpenIndex
from node_agent.index.packing import CATEGORY_NUMBER
from node_agent.index.search import Answer, OutOfTimeError, Search
from node_agent.index.troubles import Trouble, UnusableIndexError
from node_agent.record import CatalogueRow, Record

_LOOK_AGAIN_S = 0.02  # an import is seen within this; looking costs 9 us, half of an exact look-up


class NoIndexError(Exception):
    """Nothing has been imported yet."""


class SearchCancelledError(Exception):
    """Nobody waits for the search any more."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the archive holds, as of `epoch`; `age_s` is seconds since the last import."""

    epoch: int
    records: int
    categories: dict[str, CategoryCount]
    age_s: int


class Lookup:
    """Searches one archive's index. Safe to use from several threads: each has its own connection."""

    def __init__(self, data_dir: Path | str) -> None:
        self._folder = DataFolder(Path(data_dir))
        self._local = threading.local()
        self._open: list[OpenIndex] = []
        self._lock = threading.Lock()

    def _index(self) -> OpenIndex:
        held: OpenIndex | None = getattr(self._local, "index", None)
        now = time.monotonic()
        if held is not None and (now - held.looked_at < _LOOK_AGAIN_S or held.is_reading):
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
        try:
            fresh = OpenIndex(path, Keyer(self._folder.index_key()), stamp)
        except UnusableIndexError:
            if self._folder.pointer_stamp() == stamp:
                raise
            return self._index()  # an import has just put another file in its place and removed this one
        fresh.looked_at = now
        self._local.index = fresh
        with self._lock:
            self._open.append(fresh)
        return fresh

    def _forget(self, index: OpenIndex) -> None:
        self._local.index = None  # first: what takes its place may not open, and is looked for again then
        with self._lock:
            self._open.remove(index)
        index.close()

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
        """What the archive holds now; NoIndexError before the first import, UnusableIndexError."""
        index = self._index()
        try:
            imported = imported_at(index.path, index.imported_at)
        except FileNotFoundError as error:
            if self._folder.pointer_stamp() == index.stamp:
                raise UnusableIndexError(Trouble.FILE_MISSING) from error
            imported = time.time()  # an import has just put another file in its place and removed this one
        age = max(0, int(time.time() - imported))
        return Holdings(index.epoch, index.records, index.holdings, age)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read one state of the index in all that this thread asks for inside: an import that ends meanwhile is seen
        afterwards, so what one call names the next one finds. Keep it short: the file keeps what it replaces so long.

        Also cheaper: a statement by itself takes and gives back a lock, 3 us of the 5 that an exact one costs.
        """
        index = self._index()
        if not index.begin():
            yield
            return
        try:
            yield
        finally:
            if index is getattr(self._local, "index", None):  # a fault can end in another file being opened
                index.end()

    def search(
        self,
        query: Query,
        *,
        limit: int = 50,
        deadline: float | None = None,
        cancelled: threading.Event | None = None,
        weak: bool = True,
        at_once: int = 0,
    ) -> Answer:
        """The best `limit` candidates. `deadline` is a time.monotonic() point: at it, the best found so far.
        SearchCancelledError soon after `cancelled` is set, by any thread. LongSearchError when more than `at_once` records
        are to be compared (5 us each), 0 = however many.
        Without `weak`, only those that may be the record asked for: likely or possible ones.
        """
        with self.reading():
            index = self._index()
            search = Search(index, query, limit, weak=weak)
            index.deadline, index.cancelled = deadline, cancelled
            try:
                search.run(at_once)
            except (OutOfTimeError, sqlite3.OperationalError) as error:
                if isinstance(error, sqlite3.OperationalError) and "interrupt" not in str(error):
                    raise
                if cancelled is not None and cancelled.is_set():
                    raise SearchCancelledError from None
                return search.answer(soft_timeout=True)
            finally:
                index.deadline = index.cancelled = None
            return search.answer(soft_timeout=False)

    # The five calls of the index ---------------------------------------------------------------------------------

    def scan(
        self,
        keys: Sequence[int],
        first_year: int = 0,
        last_year: int = 0,
        category: str = "",
        limit: int = MOST_PER_SCAN,
    ) -> list[int]:
        """Packed values under any of `keys`, of the years given (0 = all) and undated, of one category or all."""
        index = self._index()
        number = CATEGORY_NUMBER.get(category, 0)
        ranges = index.ranges(first_year, last_year, number)
        if len(keys) == len(ranges) == 1:
            return postings.scan_one(index.connection, keys[0], *ranges[0], number, limit)
        asked = [(key, low, high) for key in keys for low, high in ranges]
        found = (index.scan if first_year else index.scan_one_by_one)(asked, number, limit)
        return list(chain.from_iterable(found))

    def fetch(self, rids: Sequence[int]) -> dict[int, Record]:
        """The records of these ids; an id that is gone is left out."""
        index = self._index()
        return {row[0]: index.record(row) for row in index.rows(rids)}

    def catalogue_row(self, rid: int) -> CatalogueRow | None:
        """The record of this id as the archive wrote it, for its own people; None when it is gone."""
        return self._index().catalogue_row(rid)

    def title(self, words: str, limit: int = 20, after: int = 0) -> list[int]:
        """Record ids whose title holds every word, in record order from `after` on."""
        index = self._index()
        return index.by_title(words, limit, after)

    def prefix(self, code: str, limit: int = 50, after: str = "") -> list[int]:
        """Record ids whose archival code starts with `code`, in code order from `after` on."""
        index = self._index()
        return index.by_code(code, limit, after)
