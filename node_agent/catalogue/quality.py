"""The data-quality report of a dry run: what is filled, how precise, how usable. Counts only, never a value."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table

from node_agent.record import Record


class Quality:
    """Counts over the records of one file."""

    def __init__(self) -> None:
        self._records = 0
        self._filled: Counter[str] = Counter()
        self._dates: Counter[str] = Counter()
        self._people = 0
        self._ids = 0
        self._births = 0

    def take(self, record: Record) -> None:
        """Count one record."""
        self._records += 1
        for field in ("title", "place_text", "place", "certificate_no", "open_status"):
            self._filled[field] += bool(getattr(record, field))
        event = record.event
        if event is None:
            self._dates["none"] += 1
        elif event.is_day:
            self._dates["day"] += 1
        elif event.first // 100 == event.last // 100:
            self._dates["month"] += 1
        elif event.first_year == event.last_year:
            self._dates["year or part"] += 1
        else:
            self._dates["longer"] += 1
        for person in record.persons:
            self._people += 1
            self._ids += bool(person.id_number)
            self._births += person.birth is not None

    def print(self) -> None:
        """Show the shares."""
        console = Console()
        table = Table(title="数据质量 · data quality")
        table.add_column("项 · item")
        table.add_column("数 · count", justify="right")
        table.add_column("%", justify="right")
        rows = [(f"字段 filled {name}", number, self._records) for name, number in self._filled.items()]
        rows += [(f"日期 date to the {name}", number, self._records) for name, number in self._dates.items()]
        rows += [
            ("人 persons with ID", self._ids, self._people),
            ("人 persons with birth", self._births, self._people),
        ]
        for name, number, whole in rows:
            table.add_row(name, str(number), f"{100 * number / whole:.1f}" if whole else "-")
        console.print(table)
