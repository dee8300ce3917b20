"""One row read with care: what each cell says is judged by itself, and what is doubtful about it is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from federation.archival_code import comparison_form, from_columns
from federation.dates import DateSpan
from federation.places import find
from node_agent.catalogue.account import RowAccount, TableAccount
from node_agent.catalogue.cells import cleaned, number_in, quoted, says_yes, text_of
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.head import Head
from node_agent.catalogue.headings import category_named
from node_agent.catalogue.names import any_garbled, is_clean, may_be_garbled, says_namesake
from node_agent.catalogue.notation import SettledYears, read_date
from node_agent.catalogue.people import People
from node_agent.catalogue.repeats import Repeats
from node_agent.record import Record


class CarefulReader:
    """Reads any row of one table. `category` is that of rows which name none, `division` the archive's own."""

    def __init__(
        self,
        head: Head,
        account: TableAccount,
        repeats: Repeats,
        years: SettledYears,
        *,
        category: str,
        division: str,
        is_copy: bool,
    ) -> None:
        self._head, self._columns, self._people = head, head.columns, People(head.columns, head.day_zero)
        self._account, self._repeats, self._years = account, repeats, years
        self._category, self._division, self._is_copy = category, division, is_copy
        self.repeated = 0
        """The place of the earlier row that the last one read repeats; 0 = it repeats none."""

    def read(self, number: int, cells: list[Any], problem: Finding | None) -> Record | None:
        """One row as a record, or None when it was rejected or set aside."""
        self.repeated = 0
        try:
            whole = "\x1f".join(cells)
            originals = tuple(cells)
        except TypeError:  # a spreadsheet's numbers and dates
            originals = tuple([cell if isinstance(cell, str) else text_of(cell) for cell in cells])
            whole = "\x1f".join(originals)
        if may_be_garbled(whole) and any_garbled(originals):
            where = [place for place, text in enumerate(originals) if any_garbled((text,))]
            self._account.set_aside(number, Finding.GARBLED, self._columns.called(where))
            return None
        report = self._account.report
        report.read += 1
        row = RowAccount(self._account, number)
        if problem is not None:
            row.warn(self._columns.called(self._head.where.pop(number, ())), problem)
        plain: Callable[[str], str] = str.strip
        if not is_clean(whole):
            plain = cleaned
            if _CONTROLS.search(whole):
                where = [place for place, text in enumerate(originals) if _CONTROLS.search(text)]
                row.warn(self._columns.called(where), Finding.CONTROL_CHARACTERS)
        category = self._category_of(cells)
        if not category:
            row.reject("category", Finding.UNKNOWN_CATEGORY)
            return None
        raw_code, code = self.code(cells, plain)
        event = self._event(cells, _year_in(code), row)
        persons = self._people.read(cells, category, event, row)
        if Finding.SHIFTED.value in row.flags:
            report.quarantined += 1
            return None
        if not any(person.name for person in persons):
            row.reject("name", Finding.NO_NAME)
            return None
        if not code:
            row.reject("archival_code", Finding.NO_CODE)
            return None
        self.repeated = self._repeats.rejects(row, originals)
        if self.repeated:
            return None
        self._repeats.check_code(row, code)
        text = self._columns.text
        remark = text(cells, "remark")
        self._people.add_aliases(cells, remark, persons)
        if remark and says_namesake(remark):
            row.warn("remark", Finding.NAMESAKE)
        place_text = plain(text(cells, "place")) or self._head.place
        report.taken += 1
        if row.flags:
            self._account.count_warned(number)
        return Record(
            category=category,
            archival_code=code,
            raw_code=raw_code,
            title=plain(text(cells, "title")),
            persons=tuple([person for person in persons if person.name or person.id_number]),
            event=event,
            place=self._place(cells, place_text),
            place_text=place_text,
            certificate_no=number_in(plain(text(cells, "certificate_no"))),
            open_status=plain(text(cells, "open_status")),
            digitised=says_yes(text(cells, "digitised")),
            is_copy=self._is_copy,
            cells=originals,
            row=number,
            flags=tuple(dict.fromkeys(row.flags)) if row.flags else (),
        )

    def code(self, cells: list[Any], plain: Callable[[str], str] = cleaned) -> tuple[str, str]:
        """(as written, comparison form) of the archival code, from one cell or joined from columns."""
        text, columns = self._columns.text, self._columns
        raw = plain(text(cells, "archival_code"))
        if raw:
            return raw, comparison_form(raw)
        if not columns.has("volume"):
            return "", ""
        volume, item = text(cells, "volume"), text(cells, "item")
        fonds = text(cells, "fonds") or self._head.title.fonds
        series = text(cells, "series") or self._head.title.series
        if not volume.strip() or not fonds.strip() or (columns.has("item") and not item.strip()):
            return "", ""
        raw = from_columns(fonds, series, volume, item)
        return raw, comparison_form(raw)

    def _category_of(self, cells: list[Any]) -> str:
        if not self._columns.has("category"):
            return self._category
        said = self._columns.text(cells, "category").strip()
        return category_named(said) if said else self._category

    def _event(self, cells: list[Any], hint: int, row: RowAccount) -> DateSpan | None:
        columns, day_zero = self._columns, self._head.day_zero
        if columns.has("event_year"):
            span, _finding = read_date(columns.value(cells, "event_year"), day_zero=day_zero)
            hint = span.first_year if span is not None else hint
        worst: Finding | None = Finding.NO_DATE
        for name in ("event", "event_year"):
            for place in columns.places.get(name, ()):
                span, finding = read_date(cells[place], hint, day_zero)
                if span is not None and finding is None and worst in {None, Finding.NO_DATE}:
                    self._years.add(span.first_year)
                    return span
                if finding is Finding.AMBIGUOUS_DATE and not hint:
                    settled = self._years.settle(cells[place])
                    if settled is not None:
                        row.warn(name, Finding.YEAR_BY_CONTEXT)
                        return settled
                if finding is not Finding.NO_DATE and finding is not None and name == "event":
                    row.warn(name, finding, quoted(cells[place]))
                    return span
                worst = finding if span is None else None
        if columns.has("event") or columns.has("event_year"):
            row.warn("event", Finding.NO_DATE)
        return None

    def _place(self, cells: list[Any], place_text: str) -> str:
        """Division code: what the place says, else what the county that handed the row over says, else the archive's own."""
        found = find(place_text) if place_text else ""
        if not found and self._columns.has("place_more"):
            found = find(self._columns.text(cells, "place_more"))
        return found or (self._division if place_text else "")


_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1e\x7f-\x9f]")
_YEAR_IN_CODE = re.compile(r"[·-](1[89]\d\d|20[0-3]\d)(?=[·-])")


def _year_in(code: str) -> int:
    """The year an archival code carries (J024-ZY·XJ·1950·Y-0001), 0 when it carries none."""
    match = _YEAR_IN_CODE.search(code)
    return int(match[1]) if match else 0
