"""Households over several rows: a row with a code or a head opens one, the rows below it add their members, also where they say
its code or its head again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from federation.identity_number import birth_of, of_century
from federation.names import fold
from node_agent.catalogue.account import TableAccount
from node_agent.catalogue.careful import CarefulReader
from node_agent.catalogue.cells import text_of
from node_agent.catalogue.columns import Columns
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.names import read_id, read_name
from node_agent.record import Person, Record, Role

_OF_THE_HOUSEHOLD = ("name", "event", "event_year", "place", "certificate_no", "category")


class Households:
    """Makes one record of the rows of each household of a table."""

    def __init__(self, columns: Columns, careful: CarefulReader, account: TableAccount) -> None:
        self._columns, self._careful, self._account = columns, careful, account
        self._open: Record | None = None
        self._opened_at = 0  # row that opened the last one
        self._opening: list[Any] = []  # cells of that row
        self._lost = False  # the last one was rejected or set aside

    @staticmethod
    def are_in(columns: Columns) -> bool:
        """Whether a table gives each member of a household a row."""
        return columns.has("member")

    def take(self, number: int, cells: list[Any], problem: Finding | None) -> Iterator[Record]:
        """Read the next row; the household before it when it opens another."""
        if self._is_opening(cells) and not (self._open is not None and self._goes_on(cells, self._open)):
            record = self._careful.read(number, cells, problem)
            if self._open is not None and self._careful.repeated == self._account.base | self._opened_at:
                return  # its opening row again, as on the next page of a register: the household goes on
            yield from self.close()
            self._open, self._lost, self._opened_at = record, record is None, number
            self._opening = cells
            if record is not None:
                self._add_member(cells, number, record, said=True)
            return
        if self._open is None:
            if self._lost:  # told row by row: who looks for a member must find why it is not there
                self._account.report.read += 1
                above = self._opened_at
                self._account.reject(number, "", Finding.LOST_MEMBER, f"第 {above} 行 · row {above}")
            else:
                self._account.set_aside(number, Finding.ORPHAN_MEMBER)
            return
        self._account.skip(number, Finding.MEMBER)
        self._add_member(cells, number, self._open)

    def pass_over(self, number: int, cells: list[Any]) -> Iterator[Record]:
        """A row that could not be read or does not count, without `cells` when nothing of it is known. Where it may have opened a
        household, the members below it are not of the one above, which ends.
        """
        missing = [""] * (len(self._columns.headings) - len(cells))
        if not cells or self._is_opening([*cells, *missing]):
            yield from self.close()
            self._lost, self._opened_at = True, number

    def close(self) -> Iterator[Record]:
        """The household that is still open."""
        if self._open is not None:
            yield self._open
            self._open = None

    def _goes_on(self, cells: list[Any], household: Record) -> bool:
        """Whether a row is of somebody new in the open household, and says nothing else of that than its opening row: merged cells
        were filled down.
        """
        code = self._careful.code(cells)[1]
        if code and code != household.archival_code:
            return False
        for name in _OF_THE_HOUSEHOLD:
            said = fold(self._columns.text(cells, name))
            if said and said != fold(self._columns.text(self._opening, name)):
                return False
        member = fold(read_name(self._columns.text(cells, "member"))[0])
        return bool(member) and all(fold(person.name) != member for person in household.persons)

    def _is_opening(self, cells: list[Any]) -> bool:
        return bool(self._careful.code(cells)[1] or self._columns.value(cells, "name"))

    def _add_member(self, cells: list[Any], number: int, household: Record, *, said: bool = False) -> None:
        """A member into its household; what is amiss with the row is told here unless it was `said` before."""
        name, aliases, finding = read_name(self._columns.text(cells, "member"))
        number_id, wrong = read_id(self._columns.value(cells, "id_number"))
        for field_name, found in (("member", finding), ("id_number", wrong)):
            if found is not None and not (said and field_name == "id_number"):
                self._warn(number, field_name, found, household)
        originals = tuple(cell if isinstance(cell, str) else text_of(cell) for cell in cells)
        if originals != household.cells:
            household.cells = (*household.cells, *originals)
        if not name:
            return
        if number_id and household.event is not None:
            number_id = of_century(number_id, household.event.first_year)
        birth = birth_of(number_id) if number_id else None
        folded = fold(name)
        for person in household.persons:
            if fold(person.name) == folded:
                person.id_number = person.id_number or number_id
                if birth is not None and not person.born_from:
                    person.born_from, person.born_to = birth.first, birth.last
                return
        household.persons = (*household.persons, Person.born(name, Role.MEMBER, number_id, birth, aliases))

    def _warn(self, number: int, field_name: str, finding: Finding, household: Record) -> None:
        self._account.warn(number, field_name, finding)
        household.flags = tuple(dict.fromkeys((*household.flags, finding.value)))
        self._account.count_warned(self._opened_at)
