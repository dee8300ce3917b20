"""One row of a catalogue, understood: what the import hands to the index, and the index hands back.

The original text of every cell is kept beside what was understood of it; characters are never converted.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from federation.dates import DateSpan


class Role(StrEnum):
    """What a person is in a record."""

    SUBJECT = "subject"
    PARTY = "party"  # either spouse: both are found by name, each is the other's other party
    PARENT = "parent"
    CHILD = "child"
    MEMBER = "member"  # of a household


class Person(msgspec.Struct):
    """A person a record names. `name` has spaces and padding removed, characters untouched.

    `id_number` holds 18 digits (a 15-digit number widened) when it is usable for matching, else "".
    """

    name: str
    role: Role = Role.SUBJECT
    id_number: str = ""
    birth: DateSpan | None = None
    aliases: tuple[str, ...] = ()


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
