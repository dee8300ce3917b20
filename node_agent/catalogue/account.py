"""The account of a table: every row counted once, as what it was taken for, and every finding counted and told."""

from __future__ import annotations

from collections.abc import Callable

from node_agent.catalogue.findings import SEVERITY, TOLD_OF, Finding, RowFinding, Severity, TableReport
from node_agent.catalogue.memory import Memory

Tell = Callable[[RowFinding], None]


class TableAccount:
    """Keeps the report of one table, the next one of its file, and tells of the findings."""

    def __init__(self, name: str, memory: Memory, tell: Tell) -> None:
        self.name, self.memory, self.tell = name, memory, tell
        self.report = TableReport(name)
        self.base = memory.begin(self.report)  # the place of row n is base | n

    def skip(self, number: int, finding: Finding) -> None:
        """A row that is no record by itself."""
        self.report.read += 1
        self.report.skipped += 1
        self.report.reasons[finding.value] += 1
        if finding in TOLD_OF:
            self.tell(RowFinding(self.name, number, "", finding))

    def set_aside(self, number: int, finding: Finding, field_name: str = "", detail: str = "") -> None:
        """A row that can not be read as it stands."""
        self.report.read += 1
        self.report.quarantined += 1
        self.report.reasons[finding.value] += 1
        self.tell(RowFinding(self.name, number, field_name, finding, detail))

    def warn(self, number: int, field_name: str, finding: Finding, detail: str = "") -> None:
        """A warning about a row; that the row was warned about is counted by who knows that it becomes a record."""
        self.report.reasons[finding.value] += 1
        self.tell(RowFinding(self.name, number, field_name, finding, detail))

    def count_warned(self, number: int) -> None:
        """A row that became a record with warnings."""
        self.memory.count_warned(self.base | number)

    def reject(self, number: int, field_name: str, finding: Finding, detail: str = "") -> None:
        """A row, read before, that becomes no record."""
        if SEVERITY[finding] is Severity.REJECTED:
            self.report.rejected += 1
        else:
            self.report.quarantined += 1
        self.report.reasons[finding.value] += 1
        self.tell(RowFinding(self.name, number, field_name, finding, detail))


class RowAccount:
    """Collects what is found about one row: a warning of one kind is told once, codes shared with several records aside."""

    __slots__ = ("_account", "flags", "number")

    def __init__(self, account: TableAccount, number: int) -> None:
        self._account, self.number = account, number
        self.flags: list[str] = []

    def warn(self, field_name: str, finding: Finding, detail: str = "") -> None:
        if finding.value in self.flags and finding is not Finding.SHARED_CODE:
            return
        self.flags.append(finding.value)
        self._account.warn(self.number, field_name, finding, detail)

    def reject(self, field_name: str, finding: Finding, detail: str = "") -> None:
        self._account.reject(self.number, field_name, finding, detail)
