"""Rows that are no records: totals, signatures, notes, titles, the headings once more, and blank rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from node_agent.catalogue.cells import is_filled
from node_agent.catalogue.columns import Columns
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.headings import field_of, is_header, normal

_TOTAL = re.compile(r"^\s*(?:本页)?(?:合\s*计|小\s*计|总\s*计|共\s*计|累\s*计|共\s*\d+)")
_SIGNATURE = re.compile(r"(?:填表|审核|制表|录入|经办|负责)人?\s*[:：]")
_NOTE = re.compile(r"^\s*(?:注|说明|备注)\s*[:：]|^本表")


class NoRecords:
    """Knows the rows of one table that are no records. Only sparse rows and headers can be none."""

    def __init__(
        self, header: list[Any], second: list[Any], columns: Columns, extra: dict[str, str] | None = None
    ) -> None:
        """`extra` is what a mapping says of headings."""
        self._header, self._second, self._width = header, second, len(columns.headings)
        self._extra = extra or {}
        code = "archival_code" if columns.has("archival_code") else "volume"
        self._code_at = next(iter(columns.places.get(code, ())), None)
        self._second_words = _words(second)
        self._meanings = [self._meaning(heading) for heading in columns.headings]
        self._first_heading = header[0] if header else None
        self._enough = max(
            3, self._width // 3
        )  # so many filled cells a row that is no record may have at most

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

    def is_like(self, cells: list[Any]) -> bool | None:
        """Of a header row below the first one, in other words or other spacing: whether it gives the columns the same meaning. None
        for any other row. A record is none: its code is no heading.
        """
        at = self._code_at
        code = cells[at] if at is not None and at < len(cells) else ""
        if at is None or not isinstance(code, str) or not code.strip() or any(map(str.isdigit, code)):
            return None
        if not (field_of(code) or normal(code) == normal(self._above(at))):
            return None
        if not (is_header(cells) or self._repeats_first(cells)):
            return None
        for place, (cell, meant) in enumerate(zip(cells, self._meanings, strict=False)):
            said = self._meaning(cell)
            if said and meant and said != meant and normal(cell) != normal(self._above(place)):
                return False
        return True

    def is_second(self, cells: list[Any]) -> bool:
        """Whether a row is the second of a header of two, in whatever spacing."""
        words = self._second_words
        return bool(words) and normal(cells[0]) == words[0] and _words(cells) == words

    def _repeats_first(self, cells: list[Any]) -> bool:
        """Whether most of its texts are those of the first header, in whatever spacing."""
        filled = [place for place, cell in enumerate(cells) if is_filled(cell)]
        same = sum(normal(cells[place]) == normal(self._above(place)) != "" for place in filled)
        return same >= max(2, 0.6 * len(filled))

    def _meaning(self, heading: Any) -> str:
        """What a heading says of its column; a blank one says nothing."""
        text = str(heading).strip() if heading is not None else ""
        return next(iter(Columns.of([text], self._extra).places), "") or normal(text)

    def _above(self, place: int) -> Any:
        """The first header's cell of a column, which a second row may have joined to another one."""
        return self._header[place] if place < len(self._header) else ""

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


def _words(cells: list[Any]) -> list[str]:
    """Headings as they are compared, without blank ones at the end."""
    words = [normal(cell) for cell in cells]
    while words and not words[-1]:
        words.pop()
    return words
