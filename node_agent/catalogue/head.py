"""The head of a table: its header row, and what the title above says of all rows below."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from node_agent.catalogue.account import TableAccount
from node_agent.catalogue.cells import is_filled
from node_agent.catalogue.columns import Columns
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.headings import is_header, is_second_header, joined, school_in
from node_agent.catalogue.tables import DAY_ZERO, Row, RowStream, Table

_HEADER_WITHIN = 20  # rows looked at for a header
_FONDS = re.compile(r"全宗号?\s*[:：]\s*([A-Za-z0-9]+)")
_SERIES = re.compile(r"(?:目录|类别)号?\s*[:：]\s*([A-Za-z0-9·]+)")


@dataclass(frozen=True, slots=True)
class Title:
    """What stands above the header: its words, and the fonds and series named there."""

    words: str = ""
    fonds: str = ""
    series: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """`header` and `second` are the cells of the header row and of one below it that names the columns under merged
    headings; `width` counts the header's cells, blank ones too.
    """

    columns: Columns
    width: int
    title: Title = Title()
    header: list[Any] = field(default_factory=list)
    second: list[Any] = field(default_factory=list)
    place: str = ""  # a place that only the sheet's name or the title says
    day_zero: date = DAY_ZERO
    where: dict[int, tuple[int, ...]] = field(default_factory=dict)  # of the table
    extra: dict[str, str] = field(default_factory=dict)  # what a mapping says of headings


def find_head(table: Table, rows: RowStream, extra: dict[str, str], account: TableAccount) -> Head | None:
    """The head, taken from the rows and counted; None when the table has none (a notes sheet): then all its rows are
    counted as notes. `extra` is what a mapping says of headings.
    """
    if table.fixed:
        columns = Columns.of(list(table.fixed), extra)
        return Head(columns, len(table.fixed), day_zero=table.day_zero, where=table.where, extra=extra)
    before: list[Row] = []
    for row in rows:
        number, cells, _problem = row
        if is_header(cells) or _is_mapped(cells, extra):
            title = _title_of(before, account)
            account.skip(number, Finding.HEADER)
            return _head(table, title, cells, _second_of(rows, account), extra)
        before.append(row)
        if len(before) >= _HEADER_WITHIN:
            break
    for number, cells, _problem in [*before, *rows]:
        account.skip(number, Finding.NOTE if any(is_filled(cell) for cell in cells) else Finding.BLANK)
    return None


def _is_mapped(cells: list[Any], extra: dict[str, str]) -> bool:
    return bool(extra) and sum(cell in extra for cell in cells if isinstance(cell, str)) >= 2


def _title_of(rows: list[Row], account: TableAccount) -> Title:
    """What the rows above the header say."""
    title = fonds = series = ""
    for number, cells, problem in rows:
        if not cells and problem is not None:
            account.set_aside(number, problem)
            continue
        words = " ".join(str(cell) for cell in cells if is_filled(cell))
        account.skip(number, Finding.TITLE if words else Finding.BLANK)
        title = f"{title} {words}".strip()
        if match := _FONDS.search(words):
            fonds = match[1]
        if match := _SERIES.search(words):
            series = match[1]
    return Title(title, fonds, series)


def _second_of(rows: RowStream, account: TableAccount) -> list[Any]:
    """The row below the header when it belongs to it, else nothing."""
    following = next(rows, None)
    if following is None:
        return []
    if not is_second_header(following[1]):
        rows.give_back(following)
        return []
    account.skip(following[0], Finding.HEADER)
    return following[1]


def _head(table: Table, title: Title, header: list[Any], second: list[Any], extra: dict[str, str]) -> Head:
    headings = [str(cell).strip() if cell is not None else "" for cell in header]
    if second:
        headings = joined(header, second)
    while headings and not headings[-1] and len(headings) > 1:
        headings.pop()
    columns = Columns.of(headings, extra)
    place = "" if columns.has("place") else school_in(table.name, title.words)
    return Head(columns, len(header), title, header, second, place, table.day_zero, table.where, extra)
