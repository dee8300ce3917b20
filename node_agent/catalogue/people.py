"""The people a row names: their roles, names and other names, numbers and births."""

from __future__ import annotations

from datetime import date
from typing import Any

from federation.categories import CATEGORIES
from federation.dates import DateSpan
from federation.identity_number import birth_of, of_century
from node_agent.catalogue.account import RowAccount
from node_agent.catalogue.cells import quoted, text_of
from node_agent.catalogue.columns import Columns
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.names import (
    NO_ALIASES,
    owner_of,
    read_aliases,
    read_child_name,
    read_id,
    read_name,
    split_people,
)
from node_agent.catalogue.notation import read_birth
from node_agent.record import Person, Role


class People:
    """Reads the people of the rows of one table, where its columns say that they stand."""

    def __init__(self, columns: Columns, day_zero: date) -> None:
        self._columns, self._day_zero = columns, day_zero

    def read(self, cells: list[Any], category: str, event: DateSpan | None, row: RowAccount) -> list[Person]:
        """Everybody a row may name, the first first: those it does not name have an empty name."""
        roles = CATEGORIES[category].roles
        columns = self._columns.places
        if "husband" in columns or "wife" in columns:
            persons = [
                self._person(cells, "husband", "husband_id", "husband_birth", Role.PARTY, event, row),
                self._person(cells, "wife", "wife_id", "wife_birth", Role.PARTY, event, row),
            ]
            if bool(persons[0].name) != bool(persons[1].name):
                row.warn("other_name", Finding.PARTY_MISSING)
            return persons
        persons = []
        if "name" in columns:
            role = Role.PARTY if roles == "parties" else Role.SUBJECT
            persons.append(self._person(cells, "name", "id_number", "birth", role, event, row))
            if "other_name" in columns:
                other = self._person(cells, "other_name", "other_id", "", Role.PARTY, event, row)
                persons.append(other)
                if roles == "parties" and bool(other.name) != bool(persons[0].name):
                    row.warn("other_name", Finding.PARTY_MISSING)
        if "child" in columns:
            birth = "child_birth" if "child_birth" in columns else ("birth" if "name" not in columns else "")
            child = self._person(cells, "child", "", birth, Role.CHILD, event, row)
            if not child.name:
                row.warn("child", Finding.CHILD_UNNAMED)
            persons.append(child)
        for who in ("father", "mother"):
            if who in columns:
                persons.append(self._person(cells, who, f"{who}_id", "", Role.PARENT, event, row))
        if ("father" in columns and "mother" in columns) and bool(persons[-1].name) != bool(persons[-2].name):
            row.warn("other_name", Finding.PARTY_MISSING)
        if "members" in columns:
            persons += self._members(cells, row)
            if not persons[0].name and len(persons) > 1:
                row.warn("name", Finding.HEAD_UNNAMED)
        return persons

    def _members(self, cells: list[Any], row: RowAccount) -> list[Person]:
        """The members of a household that stand in one cell."""
        persons = []
        for one in split_people(self._columns.text(cells, "members")):
            name, aliases, finding = read_name(one)
            if finding is Finding.CHARACTER_REPLACED:
                row.warn("members", finding)
            if name:
                persons.append(Person(name, Role.MEMBER, aliases=aliases))
        return persons

    def _person(
        self,
        cells: list[Any],
        name_field: str,
        id_field: str,
        birth_field: str,
        role: Role,
        event: DateSpan | None,
        row: RowAccount,
    ) -> Person:
        raw = self._columns.value(cells, name_field)
        read = read_child_name if role is Role.CHILD else read_name
        name, aliases, finding = (
            read(raw if isinstance(raw, str) else text_of(raw)) if raw else ("", NO_ALIASES, None)
        )
        if (
            finding is not None
            and finding is not Finding.CHILD_UNNAMED
            and finding is not Finding.CONTROL_CHARACTERS
        ):
            row.warn(name_field, finding)
        number = self._number(cells, id_field, event, row) if id_field else ""
        birth = self._birth(cells, birth_field, event, row) if birth_field else None
        if birth is None and number:
            birth = birth_of(number)
        return Person.born(name, role, number, birth, aliases)

    def _number(self, cells: list[Any], id_field: str, event: DateSpan | None, row: RowAccount) -> str:
        places = self._columns.places.get(id_field)
        cell = cells[places[0]] if places else ""
        if not cell:
            return ""
        number, wrong = read_id(cell)
        if wrong is not None:
            row.warn(id_field, wrong)
        elif number and event is not None:
            number = of_century(number, event.first_year)
            if int(number[6:10]) > event.last_year:
                row.warn(id_field, Finding.ID_BORN_AFTER_EVENT)
                return ""
        return number

    def _birth(
        self, cells: list[Any], birth_field: str, event: DateSpan | None, row: RowAccount
    ) -> DateSpan | None:
        places = self._columns.places.get(birth_field)
        cell = cells[places[0]] if places else ""
        if not cell:
            return None
        birth, wrong = read_birth(cell, event, self._day_zero)
        if wrong is not None:
            row.warn(birth_field, wrong, quoted(cell))
        return birth

    def add_aliases(self, cells: list[Any], remark: str, persons: list[Person]) -> None:
        """Give the other names that the remark and a column of their own say to whom they belong."""
        found = read_aliases(remark) if remark else NO_ALIASES
        written = self._columns.text(cells, "alias") if self._columns.has("alias") else ""
        if written:
            found += tuple(one for part in split_people(written) if (one := read_name(part)[0]))
        names = [person.name for person in persons]
        for alias in found:
            person = persons[owner_of(alias, names)]
            if alias not in person.aliases and alias != person.name:
                person.aliases = (*person.aliases, alias)
