"""Which records of a file stand in the index already under other files: a sample is looked up by archival code.

Two rows are the same record here when category, archival code, title, names and day of event are the same, as they were
understood: that outlives another encoding, format, notation of dates or order of columns, and ID numbers that a spreadsheet
spoilt. A code alone says little: two categories, or two registers of one, may number alike.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain

from node_agent.index.calls import Elsewhere
from node_agent.index.packing import CATEGORY_NUMBER, year_of
from node_agent.index.payload import Codec
from node_agent.index.schema import meta
from node_agent.record import Person, Record, Records

SAMPLE = 150
"""Records of a file that are looked up, up to twice as many: of a file that is known by half, so many show it to 4 %."""

_MOST_ROWS = 4_000  # read for a sample: 40 ms; what is not reached is left out

_STRIDE = 16

Likeness = tuple[str, str, str, frozenset[str], int, int]
"""What the same record has in common in two files: category, code, title, names, and the first and last day of its event."""


class Sample:
    """Some of the records that pass, evenly spread over all of them."""

    def __init__(self, size: int = SAMPLE) -> None:
        self.records: list[Record] = []
        self._most = 2 * size
        self._step, self._next, self._passed = 1, 0, 0

    def take(self, one: Record | Records) -> None:
        """What passes now."""
        count = len(one) if isinstance(one, Records) else 1
        while self._next < self._passed + count:
            self.records.append(one.record(self._next - self._passed) if isinstance(one, Records) else one)
            self._next += self._step
            if len(self.records) == self._most:
                self.records, self._step = self.records[::2], self._step * 2
        self._passed += count


def likeness(record: Record) -> Likeness:
    """What is compared of a record."""
    first, last = (record.event.first, record.event.last) if record.event else (0, 0)
    return record.category, record.archival_code, record.title, _names(record.persons), first, last


def _names(persons: Iterable[Person]) -> frozenset[str]:
    return frozenset([one.name for one in persons])


def look_up(connection: sqlite3.Connection, own: str, sample: Sequence[Record]) -> Elsewhere:
    """Where the records of a sample of the file `own` stand already."""
    codec = Codec(bytes(meta(connection)["dictionary"]))
    result, left = Elsewhere(), _MOST_ROWS
    for (category, code, year), records in _filed(sample).items():
        rows = connection.execute(
            "select file, payload from rec join source on source=id where code=? and cat=? and year=? limit ?",
            (code, CATEGORY_NUMBER[category], year, left + 1),
        ).fetchall()
        left -= len(rows)
        if left < 0:
            break
        files: defaultdict[Likeness, set[str]] = defaultdict(set)
        for file, payload in rows:
            held = codec.glimpse(payload)
            alike = category, code, held.title, _names(held.persons), held.first, held.last
            files[alike].add(file)
        for record in records:
            result.count(files.get(likeness(record), ()), own)
    return result


def _filed(sample: Sequence[Record]) -> dict[tuple[str, str, int], list[Record]]:
    """Records by category, code and year. Whichever comes first of these, it comes from all over the sample."""
    filed: defaultdict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for record in chain.from_iterable(sample[start::_STRIDE] for start in range(_STRIDE)):
        filed[record.category, record.archival_code, year_of(record.event)].append(record)
    return filed
