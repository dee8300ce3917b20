"""Many rows at once: one statement for a hundred of them, because what a statement costs by itself is as much as its rows.

Measured: 0.65 us a row of three columns, where `executemany` takes 1.4. For every value that is no int, float, str or
bytearray, sqlite3 first asks around whether somebody adapts it, 0.3 us each: so give bytearrays for bytes, and numbers
that the form of the row makes null.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

_TOGETHER = 100  # rows a statement; more gains nothing, and SQLite allows 32,766 values


def insert(
    connection: sqlite3.Connection, table: str, columns: Sequence[Sequence[Any]], form: str = ""
) -> None:
    """Insert rows given as their columns, all of one length; `form` is a row of the statement, if not only marks."""
    width, count = len(columns), len(columns[0])
    form = form or ",".join("?" * width)
    values: list[Any] = [None] * (width * count)
    for place, column in enumerate(columns):
        values[place::width] = column
    step = width * _TOGETHER
    whole = len(values) // step * step
    connection.executemany(
        _statement(table, form, _TOGETHER), [values[start : start + step] for start in range(0, whole, step)]
    )
    if whole < len(values):
        connection.execute(_statement(table, form, count % _TOGETHER), values[whole:])


def _statement(table: str, form: str, count: int) -> str:
    return f"insert into {table} values{','.join([f'({form})'] * count)}"
