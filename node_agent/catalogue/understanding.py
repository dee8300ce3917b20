"""Rows → records: the plain rows of a table many at once, all others one by one with care, in the order they stand.

What is sure is used, what is doubtful is reported, and the original text of every cell is kept beside both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any

from node_agent.catalogue.account import TableAccount
from node_agent.catalogue.careful import CarefulReader
from node_agent.catalogue.cells import is_filled
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.head import Head
from node_agent.catalogue.households import Households
from node_agent.catalogue.no_records import NoRecords
from node_agent.catalogue.notation import SettledYears
from node_agent.catalogue.plain import PlainRows
from node_agent.catalogue.repeats import Repeats
from node_agent.catalogue.tables import EvenRows, Row, RowStream
from node_agent.record import Record, Records

_BLOCK = 1_000  # rows read together


class TableReader:
    """Reads the rows of one table below its head."""

    def __init__(
        self, head: Head, account: TableAccount, *, category: str, division: str, is_copy: bool
    ) -> None:
        columns = head.columns
        self._width, self._widest = len(columns.headings), head.width
        self._columns, self._where = columns, head.where
        self._account = account
        self._years = SettledYears()
        self._repeats = Repeats(account, columns.places.get("seq", ()))
        self._no_records = NoRecords(head.header, head.second, columns, head.extra)
        self._other_columns = 0  # row of the header with other columns that we are below
        self._careful = CarefulReader(
            head,
            account,
            self._repeats,
            self._years,
            category=category,
            division=division,
            is_copy=is_copy,
        )
        self._households = Households(columns, self._careful, account) if Households.are_in(columns) else None
        self._plain_rows = (
            PlainRows(
                columns.places,
                self._width,
                category=category,
                division=division,
                is_copy=is_copy,
                place_said=head.place,
                day_zero=head.day_zero,
            )
            if PlainRows.can_read(columns.places)
            else None
        )

    def records(self, rows: RowStream) -> Iterator[Record | Records]:
        """All records of the table, while counting and reporting."""
        for block in rows.blocks(_BLOCK):
            plain, places = self._plain(block)
            if len(plain) == len(block):
                yield self._noted(plain)
                continue
            told = 0  # plain rows
            for place in sorted(set(range(len(block))).difference(places)):
                before = bisect_left(places, place)
                if before > told:
                    yield self._noted(plain.part(told, before))
                    told = before
                yield from self._with_care(_row(block, place))
                if self._other_columns:  # what follows may not be what it looks like
                    for later in range(place + 1, len(block)):
                        yield from self._with_care(_row(block, later))
                    told = len(plain)
                    break
            if told < len(plain):
                yield self._noted(plain.part(told, len(plain)))
        if self._households is not None:
            yield from self._households.close()

    def _plain(self, block: list[Row] | EvenRows) -> tuple[Records, list[int]]:
        """The records of the plain rows of a block, and the places of these rows."""
        if self._plain_rows is None or self._other_columns:
            return Records.of(()), []
        at, numbers, columns = self._whole_rows(block)
        if at and (doubtful := self._no_records.perhaps(columns)):
            wanted = [place not in doubtful for place in range(len(at))]
            at, numbers = list(compress(at, wanted)), list(compress(numbers, wanted))
            columns = [list(compress(column, wanted)) for column in columns]
        if not at:
            return Records.of(()), []
        records, places = self._plain_rows.read(numbers, columns)
        return records, [at[place] for place in places]

    def _whole_rows(
        self, block: list[Row] | EvenRows
    ) -> tuple[Sequence[int], Sequence[int], Sequence[Sequence[Any]]]:
        """Places, numbers and columns of the rows of a block that have as many cells as the header and nothing wrong."""
        if isinstance(block, EvenRows):
            if len(block.columns) != self._width:
                return (), (), ()
            return range(len(block)), range(block.first, block.first + len(block)), block.columns
        at = [
            place
            for place, (_number, cells, problem) in enumerate(block)
            if problem is None and len(cells) == self._width
        ]
        columns = list(zip(*[block[place][1] for place in at], strict=True))
        return at, [block[place][0] for place in at], columns

    def _noted(self, plain: Records) -> Records:
        """Plain records that follow one another, without those that repeat a row; all are counted."""
        records = self._repeats.noted(plain)
        self._years.add_days(list(filter(None, records.firsts)))
        return records

    def _with_care(self, row: Row) -> Iterator[Record]:
        """The record of any row, if it has one; in a table of households the one before it."""
        number, cells, problem = row
        if problem is not Finding.DELETED and (
            cells or problem is None
        ):  # what could not be read is not blank
            kind = self._kind_of(number, cells)
            if kind is not None:
                self._account.skip(number, kind)
                return
            if self._other_columns:
                where = f"第 {self._other_columns} 行 · row {self._other_columns}"
                self._account.set_aside(number, Finding.OTHER_COLUMNS, detail=where)
                if self._households is not None:
                    yield from self._households.pass_over(number, [])
                return
        if self._is_passed_over(number, cells, problem):
            if self._households is not None:
                yield from self._households.pass_over(number, cells)
            return
        if self._households is not None:
            yield from self._households.take(number, cells, problem)
            return
        record = self._careful.read(number, cells, problem)
        if record is not None:
            yield record

    def _kind_of(self, number: int, cells: list[Any]) -> Finding | None:
        """Why a row is no record, or None. Of a header row it is noted whether the columns mean the same below it."""
        kind = self._no_records.kind_of(cells)
        if not cells or (kind is not None and kind is not Finding.HEADER):
            return kind
        if self._no_records.is_second(cells):
            return Finding.HEADER
        is_like = True if kind is Finding.HEADER else self._no_records.is_like(cells)
        if is_like is None:
            return None
        self._other_columns = 0 if is_like else number
        return Finding.HEADER

    def _is_passed_over(self, number: int, cells: list[Any], problem: Finding | None) -> bool:
        """Whether a row is deleted, or can not be cut into the cells of the table or decoded; it is told of then."""
        if problem is Finding.DELETED:
            self._account.skip(number, Finding.DELETED)
            return True
        if not cells and problem is not None:
            self._account.set_aside(number, problem)
            return True
        found = len(cells)
        if found != self._width and not self._fits(cells):
            counts = f"应为 {self._width} 列，实为 {found} 列 · {self._width} cells expected, {found} found"
            self._account.set_aside(number, Finding.WRONG_COLUMNS, detail=counts)
            return True
        if problem is Finding.UNDECODABLE or problem is Finding.WRONG_COLUMNS:
            where = self._columns.called(self._where.pop(number, ()))
            self._account.set_aside(number, problem, where)
            return True
        return False

    def _fits(self, cells: list[Any]) -> bool:
        """A row whose surplus is as blank as the header's, as spreadsheets export it; a surplus beyond is a shift."""
        if self._width < len(cells) <= self._widest:
            fits = not any(is_filled(cell) for cell in cells[self._width :])
            del cells[self._width :]
            return fits
        return False


def _row(block: list[Row] | EvenRows, place: int) -> Row:
    return block.row(place) if isinstance(block, EvenRows) else block[place]
