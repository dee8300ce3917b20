"""One row of a catalogue, understood: what the import hands to the index, and the index hands back.

The original text of every cell is kept beside what was understood of it; characters are never converted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import compress
from typing import Any, Self

import msgspec

from federation.dates import DateSpan


class Role(StrEnum):
    """What a person is in a record."""

    SUBJECT = "subject"
    PARTY = "party"  # either spouse: both are found by name, each is the other's other party
    PARENT = "parent"
    CHILD = "child"
    MEMBER = "member"  # of a household


class Person(msgspec.Struct, array_like=True, gc=False):
    """A person a record names, in the form in which the index stores it. `name` has spaces and padding removed,
    characters untouched.

    `id_number` holds 18 digits (a 15-digit number widened) when it is usable for matching, else "". `born_from` and
    `born_to` are the first and last day of birth (yyyymmdd), 0 = not known.
    """

    name: str
    role: Role = Role.SUBJECT
    id_number: str = ""
    born_from: int = 0
    born_to: int = 0
    aliases: tuple[str, ...] = ()

    @classmethod
    def born(
        cls, name: str, role: Role, id_number: str, birth: DateSpan | None, aliases: tuple[str, ...]
    ) -> Self:
        """A person with a day of birth, or with none."""
        first, last = (birth.first, birth.last) if birth else (0, 0)
        return cls(name, role, id_number, first, last, aliases)

    @property
    def birth(self) -> DateSpan | None:
        return DateSpan(self.born_from, self.born_to) if self.born_from else None


class Record(msgspec.Struct):
    """One record. `archival_code` is the comparison form; `raw_code` and `cells` are as the archive wrote them."""

    category: str
    archival_code: str
    raw_code: str
    title: str
    persons: tuple[Person, ...]
    event: DateSpan | None = None
    place: str = ""  # GB/T 2260 code when the gazetteer knows the place, else ""
    place_text: str = ""
    certificate_no: str = ""
    open_status: str = ""
    digitised: bool = False
    is_copy: bool = False
    cells: tuple[str, ...] = ()  # original cell texts, in the order of the source's headings
    source: int = 0  # the source of the row: numbered by the index
    row: int = 0  # row number in the source, 1 = first physical row
    flags: tuple[str, ...] = ()  # warnings, as reasons of node_agent/catalogue


class CatalogueRow(msgspec.Struct, frozen=True):
    """A record as the archive wrote it: of which file and table, and its filled cells, each beside its heading."""

    file: str
    table: str  # the sheet's name; "" = the file has one table
    cells: tuple[tuple[str, str], ...]


PersonCells = tuple[str, str, str, int, int, tuple[str, ...]]
"""A person of `Records`: the fields of `Person`, in their order."""


@dataclass(slots=True)
class Records:
    """Many records side by side, a list for each field of `Record`: what is done for all of them at once costs a
    fraction of what each would cost.
    """

    categories: list[str]
    codes: list[str]
    raw_codes: list[str]
    titles: list[str]
    persons: list[tuple[PersonCells, ...]]
    firsts: list[int]  # first and last day of the event, yyyymmdd; 0 = no date
    lasts: list[int]
    places: list[str]
    place_texts: list[str]
    certificates: list[str]
    open_statuses: list[str]
    digitised: list[bool]
    copies: list[bool]
    cells: list[tuple[str, ...]]
    rows: list[int]
    flags: list[tuple[str, ...]]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Self:
        """These records, their sources aside."""
        return cls(
            [one.category for one in records],
            [one.archival_code for one in records],
            [one.raw_code for one in records],
            [one.title for one in records],
            [tuple(map(_cells_of, one.persons)) for one in records],
            [one.event.first if one.event else 0 for one in records],
            [one.event.last if one.event else 0 for one in records],
            [one.place for one in records],
            [one.place_text for one in records],
            [one.certificate_no for one in records],
            [one.open_status for one in records],
            [one.digitised for one in records],
            [one.is_copy for one in records],
            [one.cells for one in records],
            [one.row for one in records],
            [one.flags for one in records],
        )

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[Record]:
        return map(self.record, range(len(self)))

    def record(self, place: int) -> Record:
        """One of them, as a record by itself."""
        return Record(
            category=self.categories[place],
            archival_code=self.codes[place],
            raw_code=self.raw_codes[place],
            title=self.titles[place],
            persons=tuple(map(_person_of, self.persons[place])),
            event=DateSpan(self.firsts[place], self.lasts[place]) if self.firsts[place] else None,
            place=self.places[place],
            place_text=self.place_texts[place],
            certificate_no=self.certificates[place],
            open_status=self.open_statuses[place],
            digitised=self.digitised[place],
            is_copy=self.copies[place],
            cells=self.cells[place],
            row=self.rows[place],
            flags=self.flags[place],
        )

    def _columns(self) -> list[list[Any]]:
        return [getattr(self, name) for name in self.__slots__]

    def part(self, start: int, stop: int) -> Records:
        """Those from `start` up to `stop`."""
        return Records(*[column[start:stop] for column in self._columns()])

    def only(self, wanted: Sequence[bool]) -> Records:
        """Those that are marked."""
        return Records(*[list(compress(column, wanted)) for column in self._columns()])

    def extend(self, others: Records) -> None:
        """Add others behind these."""
        for column, more in zip(self._columns(), others._columns(), strict=True):
            column.extend(more)


def _cells_of(one: Person) -> PersonCells:
    return one.name, one.role.value, one.id_number, one.born_from, one.born_to, one.aliases


def _person_of(cells: PersonCells) -> Person:
    name, role, number, born_from, born_to, aliases = cells
    return Person(name, Role(role), number, born_from, born_to, aliases)


def one_by_one(records: Iterable[Record | Records]) -> Iterator[Record]:
    """Each record of a stream in which some come side by side."""
    for one in records:
        if isinstance(one, Records):
            yield from one
        else:
            yield one


def side_by_side(records: Iterable[Record | Records], least: int) -> Iterator[Records]:
    """The records of such a stream in their order, at least so many together but for the last."""
    held: list[Records] = []
    single: list[Record] = []
    count = 0
    for one in records:
        if isinstance(one, Records):
            if single:
                held.append(Records.of(single))
                single = []
            held.append(one)
            count += len(one)
        else:
            single.append(one)
            count += 1
        if count >= least:
            yield _joined(held, single)
            held, single, count = [], [], 0
    if count:
        yield _joined(held, single)


def _joined(held: list[Records], single: list[Record]) -> Records:
    if len(held) == 1 and not single:
        return held[0]
    whole = Records.of(())
    for part in held:
        whole.extend(part)
    whole.extend(Records.of(single))
    return whole
