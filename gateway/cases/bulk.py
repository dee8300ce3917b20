"""Many rows through one statement of constant text: SQLAlchemy compiles an IN list and prepares every row of an executemany
anew each time, which was a third of the store's time.

Rows go to SQLite as they are, one prepared statement run for each; to PostgreSQL, to which each row of an executemany is a
message of its own, as one JSON parameter that the server unfolds. Keys to look for go to both as one JSON parameter. Where
JSON is unfolded the planner guesses how many rows there are, so the store's connections prefer indexes. The columns of the
case core are text and whole numbers and need no conversion on the way.
"""
# ruff: noqa: S608 - SQL is put together from the names of our own tables; every value is a parameter

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, Text

Row = Mapping[str, Any]

_encode = msgspec.json.Encoder().encode


class Bulk:
    """One writing statement for many rows; each row has all of `names`, and to PostgreSQL may have more."""

    def __init__(self, names: Sequence[str], single: str, together: str) -> None:
        self._single, self._together = single, together
        pick = itemgetter(*names)
        self._pick: Callable[[Row], tuple[Any, ...]] = pick if len(names) > 1 else lambda row: (pick(row),)

    @classmethod
    def inserting(cls, table: Table) -> Bulk:
        """INSERT of whole rows."""
        names = [column.name for column in table.columns]
        columns = ", ".join(map(_quoted, names))
        into = f"INSERT INTO {table.name} ({columns})"
        return cls(
            names,
            f"{into} VALUES ({', '.join('?' * len(names))})",
            f"{into} SELECT {columns} FROM {_given(table, names, is_sqlite=False)}",
        )

    @classmethod
    def updating(
        cls, table: Table, key: str, changing: Sequence[str] = (), fixed: str = "", only: str = ""
    ) -> Bulk:
        """UPDATE of the rows whose `key` is given: `changing` are set to the row's values, `fixed` is more of the SET
        clause, `only` more of the condition, both as SQL.
        """
        names = [*changing, key]
        also = f" AND {only}" if only else ""
        plain = ", ".join([*(f"{_quoted(name)} = ?" for name in changing), *filter(None, [fixed])])
        drawn = ", ".join(
            [*(f"{_quoted(name)} = given.{_quoted(name)}" for name in changing), *filter(None, [fixed])]
        )
        given = _given(table, names, is_sqlite=False)
        return cls(
            names,
            f"UPDATE {table.name} SET {plain} WHERE {_quoted(key)} = ?{also}",
            f"UPDATE {table.name} SET {drawn} FROM {given} WHERE {_matching(table, [key])}{also}",
        )

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Run it for all rows; the driver's errors come as SQLAlchemy's."""
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(self._single, [self._pick(row) for row in rows])
        else:
            connection.exec_driver_sql(self._together, (_encode(rows).decode(),))


class Matching:
    """One statement over the rows that match given keys, with rows as its answer: in its SQL {given} stands for the keys and
    {matching} for the condition; `shared` is more of it where others write too.
    """

    def __init__(self, table: Table, key: Sequence[str], sql: str, shared: str = "") -> None:
        matching = _matching(table, key)
        self._names = tuple(key)
        self._sqlite = sql.format(given=_given(table, key, is_sqlite=True), matching=matching)
        self._postgresql = sql.format(given=_given(table, key, is_sqlite=False), matching=matching) + shared

    @classmethod
    def finding(
        cls, table: Table, key: Sequence[str], columns: Sequence[str], *, locking: bool = False
    ) -> Matching:
        """SELECT of `columns`; with `locking`, where others write too, in the order of the key and held until COMMIT."""
        wanted = ", ".join(f"{table.name}.{_quoted(name)}" for name in columns)
        # CROSS JOIN: SQLite then goes through the keys and looks each up
        sql = f"SELECT {wanted} FROM {{given}} CROSS JOIN {table.name} WHERE {{matching}}"
        order = ", ".join(f"{table.name}.{_quoted(name)}" for name in key)
        held = f" ORDER BY {order} FOR UPDATE OF {table.name}" if locking else ""
        return cls(table, key, sql, held)

    def __call__(self, connection: Connection, keys: Sequence[Any]) -> Sequence[Any]:
        """The rows. A key of one column is its value, of several a tuple."""
        is_sqlite = connection.dialect.name == "sqlite"
        if is_sqlite:
            given: Sequence[Any] = keys
        elif len(self._names) == 1:
            given = [{self._names[0]: key} for key in keys]
        else:
            given = [dict(zip(self._names, key, strict=True)) for key in keys]
        statement = self._sqlite if is_sqlite else self._postgresql
        return connection.exec_driver_sql(statement, (_encode(given).decode(),)).all()


def _given(table: Table, names: Sequence[str], *, is_sqlite: bool) -> str:
    """A FROM item of the given rows: `given` with columns of these names."""
    if is_sqlite:
        drawn = (
            f"value AS {_quoted(names[0])}"
            if len(names) == 1
            else ", ".join(
                f"json_extract(value, '$[{at}]') AS {_quoted(name)}" for at, name in enumerate(names)
            )
        )
        return f"(SELECT {drawn} FROM json_each(?)) AS given"
    kinds = ", ".join(
        f"{_quoted(name)} {'text' if isinstance(table.c[name].type, Text) else 'bigint'}" for name in names
    )
    return f"json_to_recordset(%s::json) AS given({kinds})"


def _matching(table: Table, key: Sequence[str]) -> str:
    return " AND ".join(f"{table.name}.{_quoted(name)} = given.{_quoted(name)}" for name in key)


def _quoted(name: str) -> str:
    return f'"{name}"'
