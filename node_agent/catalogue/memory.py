"""What a file remembers across its tables: where each row and each code was first met, and which rows were warned about."""

from __future__ import annotations

from dataclasses import dataclass, field

from node_agent.catalogue.findings import TableReport
from node_agent.index.seen import Seen

_ROW_BITS = 40


@dataclass(slots=True)
class Memory:
    """Rows and codes seen, as 64-bit hashes → place: the number of the table above 40 bits of the row."""

    rows: Seen = field(default_factory=Seen)
    codes: Seen = field(default_factory=Seen)
    tables: list[TableReport] = field(default_factory=list)
    warned: set[int] = field(default_factory=set)  # places of the rows that were warned about

    def begin(self, table: TableReport) -> int:
        """The next table; the place of its row 0."""
        self.tables.append(table)
        return len(self.tables) - 1 << _ROW_BITS

    def table(self, place: int) -> TableReport:
        return self.tables[place >> _ROW_BITS]

    def where(self, place: int) -> tuple[str, int]:
        """(table, row) of a place."""
        return self.table(place).name, place & ((1 << _ROW_BITS) - 1)

    def count_warned(self, place: int) -> None:
        """One row with a warning, counted once however many it has."""
        if place not in self.warned:
            self.warned.add(place)
            self.table(place).warned += 1
