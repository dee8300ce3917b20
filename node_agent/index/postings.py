"""Postings: under each key, the packed values of the records that carry it, sorted, in chunks of at most 250.

A chunk is one row: its last value, and all its values as eight-byte numbers when there is more than one. A popular name
is then a few rows instead of hundreds: a third of the rows to write, and one step instead of hundreds to read.
Not 256: SQLite keeps at most 2,030 bytes of a row inside a page of 8,192, and gives what is beyond a page of its own.
"""

from __future__ import annotations

import sqlite3
import sys
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from node_agent.index import rows
from node_agent.index.packing import CATEGORY_SHIFT, stored_key

CHUNK = 250
TABLE = "create table k(h int, last int, v blob, primary key(h, last)) without rowid;"

_INSERT = "insert into k values(?,?,?)"
_FROM = "select last, v from k where h=? and last>=? order by last"
_BATCH = 20_000


def _values(last: int, packed: bytes | None) -> array[int]:
    if packed is None:
        return array("q", (last,))
    values = array("q", packed)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _packed(values: array[int]) -> bytes | None:
    if len(values) == 1:
        return None
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


_TO_THE_END = "with p(number, h, low) as (values {}) select number, last, v from p cross join k where k.h=p.h and last>=p.low"
_BOUNDED = (
    "with p(number, h, low, high) as (values {}) select number, last, v from p cross join k where k.h=p.h and last>=p.low"
    " and last<=ifnull((select last from k where h=p.h and last>=p.high order by last limit 1), 0x7fffffffffffffff)"
)


@lru_cache(256)
def _reading(ranges: int, *, bounded: bool) -> str:
    """The statement that reads the chunks of so many ranges, in their order."""
    form, row = (_BOUNDED, "(?,?,?,?)") if bounded else (_TO_THE_END, "(?,?,?)")
    return form.format(",".join([row] * ranges))


def scan(
    connection: sqlite3.Connection,
    asked: Sequence[tuple[int, int, int]],
    category: int,
    limit: int,
    *,
    bounded: bool,
) -> list[list[int]]:
    """Of each (key, low, high) the values under that key from `low` to `high`, in order, of one category (0 = all), at
    most `limit`. All of them are one statement: fifteen cost 26 us, one by one 84.

    `bounded` stops reading at `high`: without, a key is read to its end, which costs less (38 against 26 us) where few
    keys have more than a chunk.
    """
    if len(asked) == 1:
        return [scan_one(connection, *asked[0], category, limit)]
    found: list[list[int]] = [[] for _one in asked]
    if not asked:
        return found
    parameters: list[int] = []
    for number, (key, low, high) in enumerate(asked):
        parameters += (number, stored_key(key), low, high) if bounded else (number, stored_key(key), low)
    for number, last, packed in connection.execute(_reading(len(asked), bounded=bounded), parameters):
        if len(found[number]) < limit:
            _key, low, high = asked[number]
            _take(found[number], last, packed, low, high, category)
    for kept in found:
        del kept[limit:]
    return found


def scan_one(
    connection: sqlite3.Connection, key: int, low: int, high: int, category: int, limit: int
) -> list[int]:
    """`scan` of one range, read only until it has ended or given `limit` values."""
    found: list[int] = []
    for last, packed in connection.execute(_FROM, (stored_key(key), low)):
        _take(found, last, packed, low, high, category)
        if last > high or len(found) >= limit:
            break
    return found[:limit]


def _take(found: list[int], last: int, packed: bytes | None, low: int, high: int, category: int) -> None:
    """Add what a chunk that ends at `low` or later has inside the range."""
    if packed is None:
        if last <= high and (not category or last >> CATEGORY_SHIFT & 0xFF == category):
            found.append(last)
        return
    # where they lie, copied by nobody: half the cost, and 15 keys a search have a chunk or more
    values = memoryview(packed).cast("q") if sys.byteorder == "little" else _values(last, packed)
    start = bisect_left(values, low)
    inside = values[start : bisect_right(values, high, start)]
    if category:
        found += [value for value in inside if value >> CATEGORY_SHIFT & 0xFF == category]
    else:
        found += inside


def count(connection: sqlite3.Connection, key: int) -> int:
    """How many records carry a key."""
    found = connection.execute(
        "select coalesce(sum(coalesce(length(v) / 8, 1)), 0) from k where h=?", (stored_key(key),)
    ).fetchone()
    return int(found[0])


def add(connection: sqlite3.Connection, key: int, value: int) -> None:
    """Put one value under a key."""
    h = stored_key(key)
    row = connection.execute(f"{_FROM} limit 1", (h, value)).fetchone()
    if row is None:
        row = connection.execute(
            "select last, v from k where h=? and last<? order by last desc limit 1", (h, value)
        ).fetchone()
    if row is None:
        connection.execute(_INSERT, (h, value, None))
        return
    values = _values(*row)
    insort(values, value)
    connection.execute("delete from k where h=? and last=?", (h, row[0]))
    half = len(values) // 2
    parts = [values] if len(values) <= CHUNK else [values[:half], values[half:]]
    connection.executemany(_INSERT, [(h, part[-1], _packed(part)) for part in parts])


def remove(connection: sqlite3.Connection, key: int, value: int) -> None:
    """Take one value from under a key; nothing happens when it is not there."""
    h = stored_key(key)
    row = connection.execute(f"{_FROM} limit 1", (h, value)).fetchone()
    if row is None:
        return
    values = _values(*row)
    place = bisect_left(values, value)
    if place >= len(values) or values[place] != value:
        return
    del values[place]
    connection.execute("delete from k where h=? and last=?", (h, row[0]))
    if values:
        connection.execute(_INSERT, (h, values[-1], _packed(values)))


def write(connection: sqlite3.Connection, keys: NDArray[np.int64], values: NDArray[np.int64]) -> None:
    """Write postings of many records at once, in order of key and value; keys greater than all written before."""
    begins = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))  # where another key begins
    run = np.repeat(begins, np.diff(np.append(begins, len(keys))))
    places = np.arange(len(keys))
    # where a chunk begins: at another key, and every CHUNK values of one
    starts = np.flatnonzero((places - run) % CHUNK == 0)
    ends = np.append(starts[1:], len(keys))
    data = bytearray(values.astype("<i8", copy=False).tobytes())
    hs, lasts = keys[starts] + stored_key(0), values[ends - 1]
    for low in range(0, len(starts), _BATCH):  # as numbers of Python only so many at a time
        part = slice(low, low + _BATCH)
        packed: list[bytearray | int] = [0] * len(starts[part])
        several = np.flatnonzero(ends[part] - starts[part] > 1)
        for place, start, end in zip(
            several.tolist(),
            (starts[part][several] * 8).tolist(),
            (ends[part][several] * 8).tolist(),
            strict=True,
        ):
            packed[place] = data[start:end]
        rows.insert(connection, "k", (hs[part].tolist(), lasts[part].tolist(), packed), "?,?,nullif(?,0)")
