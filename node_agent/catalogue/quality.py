"""The data-quality report of a dry run: what is filled, how precise, how usable. Counts only, never a value."""

from __future__ import annotations

from collections import Counter
from io import StringIO

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
        shown = (
            StringIO()
        )  # written to standard output by rich itself, it would end the process when nobody reads
        console = Console(file=shown)
        table = Table(title="数据质量 · data quality")
        table.add_column("项 · item")
        table.add_column("数 · count", justify="right")
        table.add_column("%", justify="right")
        rows = [(_FILLED[name], number, self._records) for name, number in self._filled.items()]
        rows += [(_DATES[name], number, self._records) for name, number in self._dates.items()]
        rows += [
            ("有证件号的人 · persons with ID", self._ids, self._people),
            ("有出生日期的人 · persons with birth", self._births, self._people),
        ]
        for name, number, whole in rows:
            table.add_row(name, str(number), f"{100 * number / whole:.1f}" if whole else "-")
        console.print(table)
        print(shown.getvalue(), end="")


_FILLED = {
    "title": "题名 · title",
    "place_text": "地点 · place",
    "place": "地点可归入行政区划 · place with a division code",
    "certificate_no": "证书编号 · certificate number",
    "open_status": "开放状态 · open status",
}
_DATES = {
    "day": "日期到日 · date to the day",
    "month": "日期到月 · date to the month",
    "year or part": "日期到年或年内一段 · date to the year or a part of it",
    "longer": "日期跨年 · date of more than a year",
    "none": "无日期 · no date",
}
