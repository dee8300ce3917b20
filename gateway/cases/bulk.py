"""Many rows through one statement, handed to the driver as they are: SQLAlchemy prepares every row of an executemany anew,
which was a fifth of the store's time.

SQLite runs one prepared statement for each row. To PostgreSQL each row of an executemany is a message of its own, so
several rows share one as a VALUES list: as many as psycopg still remembers the statement of (50 parameters), and the rest
in powers of two, so that few statements are parsed and all are prepared. The columns of the case core are text and whole
numbers and need no conversion on the way.
"""
# ruff: noqa: S608 - SQL is put together from the names of our own tables; every value is a parameter

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Table, Text

_MOST_PARAMETERS = 50

Row = Mapping[str, Any]


class Bulk:
    """One statement for many rows; each row has all of `names`."""

    def __init__(self, table: Table, names: Sequence[str], single: str, many: Callable[[str], str]) -> None:
        self._single, self._many = single, many
        pick = itemgetter(*names)
        self._pick: Callable[[Row], tuple[Any, ...]] = pick if len(names) > 1 else lambda row: (pick(row),)
        kinds = ["text" if isinstance(table.c[name].type, Text) else "bigint" for name in names]
        self._group = "(" + ", ".join(f"%s::{kind}" for kind in kinds) + ")"
        self._longest = 1 << (_MOST_PARAMETERS // len(names)).bit_length() - 1
        self._list = lru_cache(maxsize=16)(self._of_length)

    @classmethod
    def inserting(cls, table: Table) -> Bulk:
        """INSERT of whole rows."""
        names = [column.name for column in table.columns]
        into = f"INSERT INTO {table.name} ({', '.join(map(_quoted, names))}) VALUES "
        marks = ", ".join("?" * len(names))
        return cls(table, names, f"{into}({marks})", lambda values: into + values)

    @classmethod
    def updating(
        cls, table: Table, key: str, changing: Sequence[str] = (), fixed: str = "", only: str = ""
    ) -> Bulk:
        """UPDATE of the rows whose `key` is given: `changing` are set to the row's values, `fixed` is more of the SET
        clause, `only` more of the condition, both as SQL.
        """
        plain = [f"{_quoted(name)} = ?" for name in changing]
        single = (
            f"UPDATE {table.name} SET {', '.join([*plain, *filter(None, [fixed])])} WHERE {_quoted(key)} = ?"
        )
        drawn = [f"{_quoted(name)} = given.{_quoted(name)}" for name in changing]
        names = [*changing, key]
        columns = ", ".join(map(_quoted, names))

        def many(values: str) -> str:
            return (
                f"UPDATE {table.name} SET {', '.join([*drawn, *filter(None, [fixed])])}"
                f" FROM (VALUES {values}) AS given({columns})"
                f" WHERE {table.name}.{_quoted(key)} = given.{_quoted(key)}"
                + (f" AND {only}" if only else "")
            )

        return cls(table, names, single + (f" AND {only}" if only else ""), many)

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Run it for all rows; the driver's errors come as SQLAlchemy's."""
        picked = [self._pick(row) for row in rows]
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(self._single, picked)
            return
        done, length = 0, self._longest
        while done < len(picked):
            lists = (len(picked) - done) // length
            if lists:
                upto = done + lists * length
                given = [tuple(chain(*picked[at : at + length])) for at in range(done, upto, length)]
                connection.exec_driver_sql(self._list(length), given if lists > 1 else given[0])
                done = upto
            length //= 2

    def _of_length(self, length: int) -> str:
        return self._many(", ".join([self._group] * length))


def _quoted(name: str) -> str:
    return f'"{name}"'
