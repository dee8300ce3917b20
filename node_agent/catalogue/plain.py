"""Rows that need no judgement: every cell clean, complete and in a usual notation, as nearly all rows of a good catalogue are.

What a cell says is remembered, because names, days, places and categories repeat. A row with one cell that is not of the
plain kind is left to the reader that knows all kinds, so that what is read and what is reported stay the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from itertools import compress, repeat
from typing import Any, Generic, TypeVar

import numpy as np

from federation.categories import CATEGORIES
from federation.placeholders import PLACEHOLDERS
from federation.places import find
from node_agent.catalogue.cells import number_in, says_yes
from node_agent.catalogue.headings import category_named
from node_agent.catalogue.identity_numbers import read_numbers
from node_agent.catalogue.names import (
    NO_ALIASES,
    PLAIN_NAME,
    doubtful_cells,
    is_damaged,
    is_plain,
    odd_names,
    read_name,
)
from node_agent.catalogue.notation import read_birth, read_date
from node_agent.record import PersonCells, Records, Role

_REMEMBERED = 250_000  # cells of one kind; then all are forgotten
_PLAIN_CODE = re.compile(r"[0-9A-Z·-]+")  # its own comparison form
_FIRST_BORN = 1900_00_00
_UNDATED_YEAR = 9999
_YEAR_DIGITS = 4  # a birth cell with fewer digits may hold an age
_OTHER_READING = frozenset({"event_year", "place_more", "alias", "member", "members", "volume", "item"})

T = TypeVar("T")
Days = tuple[int, int]
"""First and last day a cell says, yyyymmdd; 0 when it says none."""
_NO_DAYS: Days = (0, 0)


class NotPlainError(Exception):
    """A cell that is not of the plain kind."""


class _Cells(dict[str, T], Generic[T]):
    """What each cell met says; NotPlainError for one that is not plain. `instead` stands for it until its row is left."""

    def __init__(self, read: Callable[[str], T], instead: T) -> None:
        super().__init__()
        self._read, self.instead = read, instead

    def __missing__(self, cell: str) -> T:
        if not isinstance(cell, str) or (not is_plain(cell) and is_damaged((cell,))):
            raise NotPlainError
        if len(self) >= _REMEMBERED:
            self.clear()
        found = self[cell] = self._read(cell)
        return found


def _event(cell: str, day_zero: date) -> Days:
    span, finding = read_date(cell, day_zero=day_zero)
    if span is None or finding is not None:
        raise NotPlainError
    return span.first, span.last


def _birth(cell: str, day_zero: date) -> Days:
    if not cell:
        return _NO_DAYS
    if sum(map(str.isdigit, cell)) < _YEAR_DIGITS:
        raise NotPlainError
    span, finding = read_birth(cell, None, day_zero)
    if finding is not None:
        raise NotPlainError
    return (span.first, span.last) if span is not None else _NO_DAYS


def _known(category: str) -> str:
    if category not in CATEGORIES:
        raise NotPlainError
    return category


_PARTY = Role.PARTY.value
_HAS_PARTIES = {key: category.roles == "parties" for key, category in CATEGORIES.items()}


class PlainRows:
    """Reads the plain rows of one table. `places` says in which columns each field stands."""

    def __init__(
        self,
        places: dict[str, tuple[int, ...]],
        width: int,
        *,
        category: str,
        division: str,
        is_copy: bool,
        place_said: str,
        day_zero: date,
    ) -> None:
        at = {name: columns[0] for name, columns in places.items()}
        self._is_copy, self._dated = is_copy, "event" in at
        # a field without a column is read from one behind the last, which is always empty
        (
            self._category,
            self._code,
            self._event,
            self._place,
            self._title,
            self._certificate,
            self._status,
            self._scanned,
            self._remark,
        ) = (at.get(name, width) for name in _FIELDS)
        self._people = [
            (role, at[name], at.get(number, width), at.get(birth, width))
            for role, name, number, birth in _people(at)
        ]
        self._couple = "husband" in at or "wife" in at or ("father" in at and "mother" in at)
        self._two_parties = "name" in at and "other_name" in at
        remembered = {self._category, self._event, self._place, self._status, self._scanned}
        remembered.update(birth for _role, _name, _number, birth in self._people)
        self._looked_at = [column for column in range(width) if column not in remembered]
        self._days = _Cells(lambda cell: _event(cell, day_zero), _NO_DAYS)
        self._births = _Cells(lambda cell: _birth(cell, day_zero), _NO_DAYS)
        self._categories = _Cells(
            lambda cell: _known(category_named(cell.strip()) if cell.strip() else category),
            next(iter(CATEGORIES)),
        )
        self._found = _Cells(lambda cell: _placed(cell.strip() or place_said, division), ("", ""))
        self._texts = _Cells(str.strip, "")
        self._digitised = _Cells(says_yes, False)

    @staticmethod
    def can_read(places: dict[str, tuple[int, ...]]) -> bool:
        """Whether the table says each thing in one column, and nothing that takes several columns to read."""
        return (
            "archival_code" in places
            and not _OTHER_READING & places.keys()
            and ("husband" in places) == ("wife" in places)
            and all(len(columns) == 1 for columns in places.values())
        )

    def read(self, numbers: Sequence[int], columns: Sequence[Sequence[Any]]) -> tuple[Records, list[int]]:
        """The plain ones among rows, without findings, and their places. Remembers nothing of rows or codes.

        They are read column by column: what is done once for a thousand cells costs a fraction of what it costs a
        thousand times.
        """
        block = _Block(columns)
        try:
            block.leave_damaged(self._looked_at)
        except TypeError:  # a number or a date of a spreadsheet
            return self._read_texts(numbers, block.rows)
        if self._remark < len(columns):
            block.leave(["名" in cell for cell in block.columns[self._remark]])
        codes = list(map(str.strip, block.columns[self._code]))
        block.leave([not _PLAIN_CODE.fullmatch(code) for code in codes])
        categories = block.said(self._categories, self._category)
        events = block.said(self._days, self._event) if self._dated else [_NO_DAYS] * len(codes)
        lasts = [last for _first, last in events]
        placed = block.said(self._found, self._place)
        records = Records(
            categories,
            codes,
            list(codes),
            list(map(str.strip, block.columns[self._title])),
            self._persons(block, categories, lasts),
            [first for first, _last in events],
            lasts,
            [code for _text, code in placed],
            [text for text, _code in placed],
            list(map(number_in, map(str.strip, block.columns[self._certificate]))),
            block.said(self._texts, self._status),
            block.said(self._digitised, self._scanned),
            [self._is_copy] * len(codes),
            block.rows,
            list(numbers),
            [()] * len(codes),
        )
        plain = [row not in block.left for row in range(len(codes))] if block.left else []
        if plain:
            return records.only(plain), list(compress(range(len(codes)), plain))
        return records, list(range(len(codes)))

    def _read_texts(
        self, numbers: Sequence[int], rows: Sequence[tuple[Any, ...]]
    ) -> tuple[Records, list[int]]:
        """`read` where some rows hold other cells than texts: these are not plain."""
        texts = [row for row, cells in enumerate(rows) if all(isinstance(cell, str) for cell in cells)]
        if not texts:
            return Records.of(()), []
        columns = list(zip(*[rows[row] for row in texts], strict=True))
        records, places = self.read([numbers[row] for row in texts], columns)
        return records, [texts[place] for place in places]

    def _persons(
        self, block: _Block, categories: list[str], event_lasts: list[int]
    ) -> list[tuple[PersonCells, ...]]:
        parties = [_HAS_PARTIES[category] for category in categories]
        years = np.array(event_lasts, dtype=np.int64) // 10000
        years[years == 0] = _UNDATED_YEAR
        unnamed = [0] * len(categories)
        people: list[list[PersonCells | None]] = []
        for role, name_at, number_at, birth_at in self._people:
            names = self._names(block, block.columns[name_at])
            if role is Role.CHILD:
                block.leave([not PLAIN_NAME.fullmatch(name) for name in names])
            ids = read_numbers(block.columns[number_at])
            # wrong, or perhaps of another century
            other_century = (ids.births < _FIRST_BORN) | (ids.births // 10000 > years)
            block.leave((ids.wrong | (ids.births != 0) & other_century).tolist())
            firsts = lasts = ids.births.tolist()
            if birth_at < len(block.columns) - 1:
                births = block.said(self._births, birth_at)
                firsts = [said[0] or day for said, day in zip(births, firsts, strict=True)]
                lasts = [said[1] or day for said, day in zip(births, lasts, strict=True)]
            roles = (
                [_PARTY if one else role.value for one in parties]
                if role is Role.SUBJECT
                else repeat(role.value)
            )
            people.append(
                list(zip(names, roles, ids.numbers, firsts, lasts, repeat(NO_ALIASES), strict=False))
            )
            if "" in names:
                unnamed = [count + (name == "") for count, name in zip(unnamed, names, strict=True)]
                people[-1] = [one if one is not None and (one[0] or one[2]) else None for one in people[-1]]
        if not any(unnamed):
            return list(zip(*people, strict=True))
        block.leave(
            [
                count > 0 and (count == len(people) or self._couple or (of_parties and self._two_parties))
                for count, of_parties in zip(unnamed, parties, strict=True)
            ]
        )
        return list(map(tuple, map(filter, repeat(None), zip(*people, strict=True))))

    @staticmethod
    def _names(block: _Block, cells: Sequence[str]) -> list[str]:
        """The names of a column, known to be clean. None is remembered: among many that costs more than reading."""
        names = list(cells)
        odd = odd_names(cells)
        if not PLACEHOLDERS.isdisjoint(cells):
            odd += [row for row, cell in enumerate(cells) if cell and cell in PLACEHOLDERS]
        for row in odd:
            names[row], aliases, finding = read_name(cells[row])
            if aliases or finding is not None or cells[row].isspace():
                block.left.add(row)
        return names


class _Block:
    """Some rows on their way to becoming records, as columns, and which of them are left to the other reader."""

    def __init__(self, columns: Sequence[Sequence[str]]) -> None:
        self.rows: list[tuple[str, ...]] = list(zip(*columns, strict=True))
        # a field without a column is read from one behind the last, which is always empty
        self.columns: list[Sequence[str]] = [*columns, ("",) * len(self.rows)]
        self.left: set[int] = set()

    def leave(self, which: Sequence[bool]) -> None:
        """Leave the rows marked."""
        if True in which:
            self.left.update(row for row, marked in enumerate(which) if marked)

    def leave_damaged(self, columns: Iterable[int]) -> None:
        """Leave the rows that are unclean or garbled in one of these columns."""
        for column in columns:
            cells = self.columns[column]
            self.left.update(row for row in doubtful_cells(cells) if is_damaged((cells[row],)))

    def said(self, cells: _Cells[T], column: int) -> list[T]:
        """What the cells of a column say; the rows where that is not plain are left."""
        try:
            return list(map(cells.__getitem__, self.columns[column]))
        except NotPlainError:
            return [self._said(cells, row, cell) for row, cell in enumerate(self.columns[column])]

    def _said(self, cells: _Cells[T], row: int, cell: str) -> T:
        try:
            return cells[cell]
        except NotPlainError:
            self.left.add(row)
            return cells.instead


_FIELDS = (
    "category",
    "archival_code",
    "event",
    "place",
    "title",
    "certificate_no",
    "open_status",
    "digitised",
    "remark",
)


def _people(at: dict[str, int]) -> list[tuple[Role, str, str, str]]:
    """Role and the fields of name, number and birth of each person a row may name."""
    if "husband" in at or "wife" in at:
        people = [
            (Role.PARTY, "husband", "husband_id", "husband_birth"),
            (Role.PARTY, "wife", "wife_id", "wife_birth"),
        ]
    else:
        child_birth = "child_birth" if "child_birth" in at else ("birth" if "name" not in at else "")
        people = [
            (Role.SUBJECT, "name", "id_number", "birth"),
            (Role.PARTY, "other_name", "other_id", "") if "name" in at else (Role.PARTY, "", "", ""),
            (Role.CHILD, "child", "", child_birth),
            (Role.PARENT, "father", "father_id", ""),
            (Role.PARENT, "mother", "mother_id", ""),
        ]
    return [person for person in people if person[1] in at]


def _placed(text: str, division: str) -> tuple[str, str]:
    """The place as written and its division code."""
    return text, (find(text) or division) if text else ""
