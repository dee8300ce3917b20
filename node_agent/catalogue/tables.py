"""What a file is read into: tables, and their rows one by one or many side by side.

A row is (number, cells, problem): the physical row number from 1, the cells as the file holds them (text, or a
spreadsheet's numbers and dates), and what was wrong with reading it, if anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from node_agent.catalogue.findings import Finding

Row = tuple[int, list[Any], Finding | None]

DAY_ZERO, DAY_ZERO_1904 = date(1899, 12, 30), date(1904, 1, 1)
"""From which day spreadsheets count days kept as plain numbers: nearly all, and those an old Macintosh made."""


class NotACatalogueError(Exception):
    """The file is no catalogue this reader knows; the message is one line."""


@dataclass(frozen=True, slots=True)
class EvenRows:
    """Rows of texts that follow one another, one a line, all of one width and with nothing wrong: given as columns."""

    first: int  # number of the first row
    columns: list[list[str]]

    def __len__(self) -> int:
        return len(self.columns[0])

    def row(self, place: int) -> Row:
        """One of them by itself."""
        return self.first + place, [column[place] for column in self.columns], None

    def after(self, count: int) -> EvenRows:
        """All but the first so many."""
        return EvenRows(self.first + count, [column[count:] for column in self.columns])


@dataclass(frozen=True, slots=True)
class Table:
    """One table: a sheet, or the whole file. `fixed` headings stand for files that have no header row of their own.

    `where` fills while the rows are read: in which cells of a row its problem is, where that is known.
    """

    name: str
    rows: Iterable[Row | EvenRows]
    fixed: tuple[str, ...] = ()
    day_zero: date = DAY_ZERO
    where: dict[int, tuple[int, ...]] = field(default_factory=dict)


class RowStream:
    """The rows of a table one by one, and from any of them on in blocks."""

    def __init__(self, rows: Iterable[Row | EvenRows]) -> None:
        self._source = iter(rows)
        self._even: EvenRows | None = None
        self._at = 0  # in the even rows
        self._back: list[Row] = []

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        if self._back:
            return self._back.pop()
        if self._even is None:
            one = next(self._source)
            if not isinstance(one, EvenRows):
                return one
            self._even, self._at = one, 0
        row = self._even.row(self._at)
        self._at += 1
        if self._at == len(self._even):
            self._even = None
        return row

    def give_back(self, row: Row) -> None:
        """The row comes again next."""
        self._back.append(row)

    def blocks(self, most: int) -> Iterator[list[Row] | EvenRows]:
        """What is left: even rows as they stand, the others so many together."""
        even = self._even.after(self._at) if self._even is not None else None
        waiting, self._back, self._even = self._back[::-1], [], None
        if even is not None:
            if waiting:
                yield waiting
                waiting = []
            yield even
        for one in self._source:
            if isinstance(one, EvenRows):
                if waiting:
                    yield waiting
                    waiting = []
                yield one
            else:
                waiting.append(one)
                if len(waiting) == most:
                    yield waiting
                    waiting = []
        if waiting:
            yield waiting
