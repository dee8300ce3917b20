"""Rows that need no judgement: every cell clean, complete and in a usual notation, as nearly all rows of a good catalogue are.

What a cell says is remembered, because names, days, places and categories repeat. A row with one cell that is not of the
plain kind is left to the reader that knows all kinds, so that what is read and what is reported stay the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from federation.categories import CATEGORIES
from federation.dates import DateSpan
from federation.identity_number import birth_of, canonical
from federation.places import find
from node_agent.catalogue.names import (
    PLAIN_NAME,
    any_garbled,
    is_clean,
    is_plain,
    looks_garbled,
    may_be_garbled,
    read_name,
)
from node_agent.catalogue.notation import PLACEHOLDERS, read_birth, read_date
from node_agent.record import Person, Record, Role

_REMEMBERED = 250_000  # cells of one kind; then all are forgotten
_PLAIN_CODE = re.compile(r"[0-9A-Z·-]+")  # its own comparison form
_FIRST_BORN = 1900
_YEAR_DIGITS = 4  # a birth cell with fewer digits may hold an age
_OTHER_READING = frozenset({"event_year", "place_more", "alias", "member", "members", "volume", "item"})

T = TypeVar("T")


class NotPlainError(Exception):
    """A cell that is not of the plain kind."""


class _Cells(dict[str, T], Generic[T]):
    """What each cell met says; None = it is not plain."""

    def __init__(self, read: Callable[[str], T]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, cell: str) -> T:
        if not isinstance(cell, str):
            raise NotPlainError
        if not is_plain(cell) and (not is_clean(cell) or (may_be_garbled(cell) and looks_garbled(cell))):
            raise NotPlainError
        if len(self) >= _REMEMBERED:
            self.clear()
        found = self[cell] = self._read(cell)
        return found


def _name(cell: str) -> str:
    """A name; the row's cells are known to be clean. Not remembered: among many names that costs more than reading."""
    if not cell or (PLAIN_NAME.fullmatch(cell) and cell not in PLACEHOLDERS):
        return cell
    name, aliases, finding = read_name(cell)
    if aliases or finding is not None or cell.isspace():
        raise NotPlainError
    return name


def _event(cell: str) -> DateSpan:
    span, finding = read_date(cell)
    if span is None or finding is not None:
        raise NotPlainError
    return span


def _birth(cell: str) -> DateSpan | None:
    if not cell:
        return None
    if sum(map(str.isdigit, cell)) < _YEAR_DIGITS:
        raise NotPlainError
    span, finding = read_birth(cell, None)
    if finding is not None:
        raise NotPlainError
    return span


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
        category_of: Callable[[str], str],
        yes: frozenset[str],
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
        coded = {self._code, self._certificate, *[number for _role, _name, number, _birth in self._people]}
        self._words = [column for column in range(width) if column not in remembered | coded]
        self._marks = sorted(coded - {width})
        self._days, self._births = _Cells(_event), _Cells(_birth)
        self._categories = _Cells(lambda cell: category_of(cell.strip()) if cell.strip() else category)
        self._found = _Cells(lambda cell: _placed(cell.strip() or place_said, division))
        self._texts = _Cells(str.strip)
        self._digitised = _Cells(lambda cell: cell.strip().lower() in yes)

    @staticmethod
    def can_read(places: dict[str, tuple[int, ...]]) -> bool:
        """Whether the table says each thing in one column, and nothing that takes several columns to read."""
        return (
            "archival_code" in places
            and not _OTHER_READING & places.keys()
            and ("husband" in places) == ("wife" in places)
            and all(len(columns) == 1 for columns in places.values())
        )

    def read(self, number: int, originals: tuple[Any, ...]) -> Record | None:
        """The row as a record without findings; None when it is not plain. Remembers nothing of rows or codes."""
        cells = (*originals, "")
        try:
            # numbers and codes are ASCII: only the words need the dear look for a wrong encoding
            words = "\x1f".join([cells[column] for column in self._words])
            marks = "\x1f".join([cells[column] for column in self._marks])
            if "名" in cells[self._remark]:
                return None
            if not (is_plain(words) and is_plain(marks)) and self._is_damaged(words + marks, originals):
                return None
            code = cells[self._code].strip()
            if not _PLAIN_CODE.fullmatch(code):
                return None
            category = self._categories[cells[self._category]]
            event = self._days[cells[self._event]] if self._dated else None
            parties = CATEGORIES[category].roles == "parties"
            persons = self._persons(cells, parties, event.last // 10000 if event is not None else 9999)
            place_text, place = self._found[cells[self._place]]
            return Record(
                category,
                code,
                code,
                cells[self._title].strip(),
                persons,
                event,
                place,
                place_text,
                cells[self._certificate].strip(),
                self._texts[cells[self._status]],
                self._digitised[cells[self._scanned]],
                self._is_copy,
                originals,
                0,
                number,
            )
        except (NotPlainError, TypeError, KeyError):  # a number or a date of a spreadsheet; no category
            return None

    @staticmethod
    def _is_damaged(whole: str, originals: tuple[Any, ...]) -> bool:
        """Whether a doubtful row is unclean or garbled after all."""
        if not is_clean(whole):
            return True
        return may_be_garbled(whole) and any_garbled(cell for cell in originals if isinstance(cell, str))

    def _persons(self, cells: tuple[Any, ...], parties: bool, year: int) -> tuple[Person, ...]:
        persons = []
        unnamed = 0
        for role, name_at, number_at, birth_at in self._people:
            name = _name(cells[name_at])
            if role is Role.CHILD and not PLAIN_NAME.fullmatch(name):
                raise NotPlainError
            written = cells[number_at]
            number = canonical(written) if written else ""
            if number is None:
                raise NotPlainError
            if number and not _FIRST_BORN <= int(number[6:10]) <= year:  # perhaps of another century
                raise NotPlainError
            birth = self._births[cells[birth_at]]
            if birth is None and number:
                birth = birth_of(number)
            if not name:
                unnamed += 1
            if name or number:
                persons.append(
                    Person(name, Role.PARTY if parties and role is Role.SUBJECT else role, number, birth)
                )
        if unnamed and (unnamed == len(self._people) or self._couple or (parties and self._two_parties)):
            raise NotPlainError
        return tuple(persons)


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
