"""Rows that are no records: totals, signatures, notes, titles, the headings once more, and blank rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from node_agent.catalogue.cells import is_filled
from node_agent.catalogue.findings import Finding

_TOTAL = re.compile(r"^\s*(?:本页)?(?:合\s*计|小\s*计|总\s*计|共\s*计|累\s*计|共\s*\d+)")
_SIGNATURE = re.compile(r"(?:填表|审核|制表|录入|经办|负责)人?\s*[:：]")
_NOTE = re.compile(r"^\s*(?:注|说明|备注)\s*[:：]|^本表")


class NoRecords:
    """Knows the rows of one table that are no records. Only sparse rows and repeated headers can be none."""

    def __init__(self, header: list[Any], second: list[Any], width: int) -> None:
        self._header, self._second, self._width = header, second, width
        self._first_heading = header[0] if header else None
        self._enough = max(3, width // 3)  # so many filled cells a row that is no record may have at most

    def kind_of(self, cells: list[Any]) -> Finding | None:
        """Why a row is no record, or None."""
        if not cells:
            return Finding.BLANK
        first = cells[0]
        if self._header and first == self._header[0]:
            if cells[: len(self._header)] == self._header[: len(cells)]:
                return Finding.HEADER
        elif self._second and cells == self._second:
            return Finding.HEADER
        if first and cells[-1] and self._width > 3 and not isinstance(first, str):
            return None
        filled: list[Any] = []
        for cell in cells:
            if is_filled(cell):
                filled.append(cell)
                if len(filled) > self._enough:
                    return None
        if not filled:
            return Finding.BLANK
        return self._by_words(filled, alone_in_front=len(filled) == 1 and cells[0] is filled[0])

    def _by_words(self, filled: list[Any], *, alone_in_front: bool) -> Finding | None:
        """What the first filled cell of a sparse row says that the row is."""
        words = str(filled[0])
        if _TOTAL.match(words):
            return Finding.TOTAL
        if _SIGNATURE.search(words):
            return Finding.SIGNATURE
        if _NOTE.match(words):
            return Finding.NOTE
        if alone_in_front and self._width > 3 and isinstance(filled[0], str) and len(words) > 4:
            return Finding.TITLE if not any(char.isdigit() for char in words) or "档案" in words else None
        return None

    def perhaps(self, columns: Sequence[Sequence[Any]]) -> set[int]:
        """Places of the rows, given as columns, for which `kind_of` must be asked: all others are records."""
        found = {place for place, cell in enumerate(columns[0]) if cell == self._first_heading}
        full = 0
        for column in columns:
            full += "" not in column
            if full > self._enough:  # no row has fewer filled cells than these columns
                return found
        most_blank = len(columns) - self._enough
        return found.union(
            place for place, cells in enumerate(zip(*columns, strict=True)) if cells.count("") >= most_blank
        )
