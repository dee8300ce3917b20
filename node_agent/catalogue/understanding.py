"""Rows → records: a plan made once from the headings, then one pass over the rows with a finding for all that is amiss.

What is sure is used, what is doubtful is reported, and the original text of every cell is kept beside both.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from itertools import compress
from typing import Any

import numpy as np

from federation.archival_code import comparison_form, from_columns
from federation.categories import CATEGORIES
from federation.dates import DateSpan
from federation.identity_number import birth_of, of_century
from federation.names import fold
from federation.places import find
from node_agent.catalogue.findings import SEVERITY, Finding, RowFinding, Severity, TableReport
from node_agent.catalogue.headings import (
    category_in,
    field_of,
    is_header,
    is_second_header,
    joined,
    school_in,
)
from node_agent.catalogue.names import (
    NO_ALIASES,
    any_garbled,
    clean_text,
    is_clean,
    may_be_garbled,
    owner_of,
    read_aliases,
    read_child_name,
    read_id,
    read_name,
    says_namesake,
    split_people,
)
from node_agent.catalogue.notation import SettledYears, read_birth, read_date
from node_agent.catalogue.plain import PlainRows
from node_agent.catalogue.tables import EvenRows, Row, RowStream, Table
from node_agent.index.seen import Seen
from node_agent.record import Person, Record, Records, Role

_HEADER_WITHIN = 20  # rows looked at for a header
_TOTAL = re.compile(r"^\s*(?:本页)?(?:合\s*计|小\s*计|总\s*计|共\s*计|累\s*计|共\s*\d+)")
_SIGNATURE = re.compile(r"(?:填表|审核|制表|录入|经办|负责)人?\s*[:：]")
_NOTE = re.compile(r"^\s*(?:注|说明|备注)\s*[:：]|^本表")
_FONDS = re.compile(r"全宗号?\s*[:：]\s*([A-Za-z0-9]+)")
_SERIES = re.compile(r"(?:目录|类别)号?\s*[:：]\s*([A-Za-z0-9·]+)")
_BLOCK = 1_000  # rows read together
_YES = frozenset({"是", "y", "yes", "true", "t", "1", "已数字化", "有"})

Report = Callable[[RowFinding], None]


@dataclass(slots=True)
class Columns:
    """Where each field stands; several columns may mean one field, the first filled one counts."""

    headings: tuple[str, ...]
    places: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(cls, headings: list[str], extra: dict[str, str]) -> Columns:
        places: dict[str, list[int]] = {}
        unknown = []
        for place, heading in enumerate(headings):
            found = _canonical(extra.get(heading, "")) or field_of(heading)
            if found:
                places.setdefault(found, []).append(place)
            elif heading.strip():
                unknown.append(heading.strip())
        if "place" not in places and "place_else" in places:
            places["place"] = places.pop("place_else")
        return cls(tuple(headings), {key: tuple(value) for key, value in places.items()}, tuple(unknown))

    def has(self, name: str) -> bool:
        return name in self.places


_CANONICAL_FIELDS = {"birth_date": "birth", "other_id_number": "other_id", "event_date": "event"}


def _canonical(name: str) -> str:
    return _CANONICAL_FIELDS.get(name, name)


@dataclass(slots=True)
class Memory:
    """What must be known across the tables of one file: rows and codes seen, as 64-bit hashes → place."""

    rows: Seen = field(default_factory=Seen)
    codes: Seen = field(default_factory=Seen)
    tables: list[TableReport] = field(default_factory=list)
    warned: set[int] = field(default_factory=set)  # places of the rows that were warned about

    def where(self, place: int) -> tuple[str, int]:
        """(table, row) of a place: the number of the table above 40 bits of the row."""
        return self.tables[place >> 40].name, place & ((1 << 40) - 1)

    def count_warned(self, place: int) -> None:
        """One row with a warning, counted once however many it has."""
        if place not in self.warned:
            self.warned.add(place)
            self.tables[place >> 40].warned += 1


class TableReader:
    """Reads one table. `headings` and `columns` are known after the header was found by `prepare`."""

    def __init__(
        self,
        table: Table,
        *,
        category: str,
        file_words: str,
        extra_headings: dict[str, str],
        is_copy: bool,
        division: str,
        memory: Memory,
        report: Report,
    ) -> None:
        self._table, self.category, self._words = table, category, file_words
        self._extra, self._is_copy, self._division = extra_headings, is_copy, division
        self._memory, self._tell = memory, report
        self._base = len(memory.tables) << 40
        self._counters: tuple[int, ...] = ()
        self.report = TableReport(table.name)
        memory.tables.append(self.report)
        self.columns = Columns(())
        self.title = ""
        self._fonds = self._series = ""
        self._rows = RowStream(table.rows)
        self._header: list[Any] = []
        self._width = 0  # cells of the header row, blank ones too
        self._place_said = ""  # a place that only the sheet's name or the title says
        self._years = SettledYears()
        self._second: list[Any] = []
        self._plain_rows: PlainRows | None = None
        self._household: Record | None = None
        self._household_row = 0
        self._household_lost = False

    # the header --------------------------------------------------------------------------------------------------

    def prepare(self) -> bool:
        """Find the header; False when the table has none (a notes sheet): then all its rows are counted as notes."""
        if self._table.fixed:
            self.columns = Columns.of(list(self._table.fixed), self._extra)
            self._width = len(self._table.fixed)
            return True
        before: list[Row] = []
        for row in self._rows:
            before.append(row)
            number, cells, _problem = row
            if is_header(cells) or self._is_mapped(cells):
                self._count_before(before[:-1])
                self._use_header(number, cells)
                return True
            if len(before) >= _HEADER_WITHIN:
                break
        for number, cells, _problem in [*before, *self._rows]:
            self._skip(number, Finding.NOTE if any(_filled(cell) for cell in cells) else Finding.BLANK)
        return False

    def _is_mapped(self, cells: list[Any]) -> bool:
        return bool(self._extra) and sum(cell in self._extra for cell in cells if isinstance(cell, str)) >= 2

    def _count_before(self, rows: list[Row]) -> None:
        for number, cells, problem in rows:
            if not cells and problem is not None:
                self._set_aside(number, "", problem)
                continue
            words = " ".join(str(cell) for cell in cells if _filled(cell))
            self._skip(number, Finding.TITLE if words else Finding.BLANK)
            self.title = f"{self.title} {words}".strip()
            if match := _FONDS.search(words):
                self._fonds = match[1]
            if match := _SERIES.search(words):
                self._series = match[1]

    def _use_header(self, number: int, cells: list[Any]) -> None:
        self._skip(number, Finding.HEADER)
        self._header, self._width = cells, len(cells)
        headings = [str(cell).strip() if cell is not None else "" for cell in cells]
        following = next(self._rows, None)
        if following is not None:
            if is_second_header(following[1]):
                self._skip(following[0], Finding.HEADER)
                self._second = following[1]
                headings = joined(cells, following[1])
            else:
                self._rows.give_back(following)
        while headings and not headings[-1] and len(headings) > 1:
            headings.pop()
        self.columns = Columns.of(headings, self._extra)
        if not self.columns.has("place"):
            self._place_said = school_in(self._table.name, self.title)

    # the rows ----------------------------------------------------------------------------------------------------

    def records(self) -> Iterator[Record | Records]:
        """All records of the table, while counting and reporting. Call once, after `prepare`."""
        columns = self.columns
        width = len(columns.headings)
        self._counters = columns.places.get("seq", ())
        household = "member" in columns.places
        if PlainRows.can_read(columns.places):
            self._plain_rows = PlainRows(
                columns.places,
                width,
                category=self.category,
                division=self._division,
                is_copy=self._is_copy,
                place_said=self._place_said,
                category_of=_category_said,
                yes=_YES,
            )
        for block in self._rows.blocks(_BLOCK):
            plain, places = self._plain(block)
            if len(plain) == len(block):
                yield self._noted(plain)
                continue
            told = 0  # plain rows
            for place in sorted(set(range(len(block))).difference(places)):
                before = bisect_left(places, place)
                if before > told:
                    yield self._noted(plain.part(told, before))
                    told = before
                row = block.row(place) if isinstance(block, EvenRows) else block[place]
                yield from self._with_care(row, household=household)
            if told < len(plain):
                yield self._noted(plain.part(told, len(plain)))
        if self._household is not None:
            yield self._household
            self._household = None

    def _plain(self, block: list[Row] | EvenRows) -> tuple[Records, list[int]]:
        """The records of the plain rows of a block, and the places of these rows."""
        if self._plain_rows is None:
            return Records.of(()), []
        at, numbers, columns = self._whole_rows(block)
        if at and (doubtful := self._perhaps_no_rows(columns)):
            wanted = [place not in doubtful for place in range(len(at))]
            at, numbers = list(compress(at, wanted)), list(compress(numbers, wanted))
            columns = [list(compress(column, wanted)) for column in columns]
        if not at:
            return Records.of(()), []
        records, places = self._plain_rows.read(numbers, columns)
        return records, [at[place] for place in places]

    def _whole_rows(
        self, block: list[Row] | EvenRows
    ) -> tuple[Sequence[int], Sequence[int], Sequence[Sequence[Any]]]:
        """Places, numbers and columns of the rows of a block that have as many cells as the header and nothing wrong."""
        width = len(self.columns.headings)
        if isinstance(block, EvenRows):
            if len(block.columns) != width:
                return (), (), ()
            return range(len(block)), range(block.first, block.first + len(block)), block.columns
        at = [
            place
            for place, (_number, cells, problem) in enumerate(block)
            if problem is None and len(cells) == width
        ]
        columns = list(zip(*[block[place][1] for place in at], strict=True))
        return at, [block[place][0] for place in at], columns

    def _perhaps_no_rows(self, columns: Sequence[Sequence[Any]]) -> set[int]:
        """Places of the rows that may be a header again, or have so few filled cells that they may be no rows of data."""
        heading = self._header[0] if self._header else None
        found = {place for place, cell in enumerate(columns[0]) if cell == heading}
        enough = _enough(len(columns))
        full = 0
        for column in columns:
            full += "" not in column
            if full > enough:  # no row has fewer filled cells than these columns
                return found
        most_blank = len(columns) - enough
        return found.union(
            place for place, cells in enumerate(zip(*columns, strict=True)) if cells.count("") >= most_blank
        )

    def _with_care(self, row: Row, *, household: bool) -> Iterator[Record]:
        """The record of any row, if it has one; in a table of households the one before it."""
        number, cells, problem = row
        width = len(self.columns.headings)
        if problem is Finding.DELETED:
            self._skip(number, Finding.DELETED)
            return
        if not cells and problem is not None:  # what could not be read is not blank
            self._set_aside(number, "", problem)
            return
        skipped = self._no_row(cells, width)
        if skipped is not None:
            self._skip(number, skipped)
            return
        if len(cells) != width and not self._fits(cells, width):
            self._set_aside(number, "", Finding.WRONG_COLUMNS)
            return
        if problem is Finding.UNDECODABLE or problem is Finding.WRONG_COLUMNS:
            self._set_aside(number, "", problem)
            return
        if household:
            yield from self._household_rows(number, cells, problem)
            return
        record = self._read(number, cells, problem)
        if record is not None:
            yield record

    def _fits(self, cells: list[Any], width: int) -> bool:
        """A row whose surplus is as blank as the header's, as spreadsheets export it; a surplus beyond is a shift."""
        if width < len(cells) <= self._width:
            fits = not any(_filled(cell) for cell in cells[width:])
            del cells[width:]
            return fits
        return False

    def _no_row(self, cells: list[Any], width: int) -> Finding | None:
        """Why this is no row of data, or None. Only sparse rows and repeated headers can be none."""
        if not cells:
            return Finding.BLANK
        first = cells[0]
        if first == self._header[0] if self._header else False:
            if cells[: len(self._header)] == self._header[: len(cells)]:
                return Finding.HEADER
        elif self._second and cells == self._second:
            return Finding.HEADER
        if first and cells[-1] and width > 3 and not isinstance(first, str):
            return None
        enough = _enough(width)
        filled: list[Any] = []
        for cell in cells:
            if _filled(cell):
                filled.append(cell)
                if len(filled) > enough:
                    return None
        if not filled:
            return Finding.BLANK
        words = str(filled[0])
        if _TOTAL.match(words):
            return Finding.TOTAL
        if _SIGNATURE.search(words):
            return Finding.SIGNATURE
        if _NOTE.match(words):
            return Finding.NOTE
        if (
            len(filled) == 1
            and width > 3
            and isinstance(filled[0], str)
            and cells[0] is filled[0]
            and len(words) > 4
        ):
            return Finding.TITLE if not any(char.isdigit() for char in words) or "档案" in words else None
        return None

    def _value(self, cells: list[Any], name: str) -> Any:
        """The first filled cell of a field, "" when there is none."""
        places = self.columns.places.get(name)
        if places is not None:
            for place in places:
                cell = cells[place]
                if cell and (not isinstance(cell, str) or not cell.isspace()):
                    return cell
                if cell is not None and not isinstance(cell, str):
                    return cell  # a zero
        return ""

    def _text(self, cells: list[Any], name: str) -> str:
        value = self._value(cells, name)
        return value if isinstance(value, str) else text_of(value)

    def _read(self, number: int, cells: list[Any], problem: Finding | None) -> Record | None:
        """One row as a record, or None when it was rejected or set aside."""
        self.report.read += 1
        try:
            whole = "\x1f".join(cells)
            originals = tuple(cells)
        except TypeError:  # a spreadsheet's numbers and dates
            originals = tuple([cell if isinstance(cell, str) else text_of(cell) for cell in cells])
            whole = "\x1f".join(originals)
        if may_be_garbled(whole) and any_garbled(originals):
            self.report.read -= 1
            self._set_aside(number, "", Finding.GARBLED)
            return None
        row = _RowBeingRead(self, number)
        if problem is not None:
            row.warn("", problem)
        plain: Callable[[str], str] = str.strip
        if not is_clean(whole):
            plain = _plain
            if _has_control(whole):
                row.warn("", Finding.CONTROL_CHARACTERS)
        category = self._row_category(cells)
        if not category:
            row.reject("category", Finding.UNKNOWN_CATEGORY)
            return None
        raw_code, code = self._code(cells, plain)
        event = self._event(cells, _year_in(code), row)
        persons = self._persons(cells, category, event, row)
        if Finding.SHIFTED.value in row.flags:
            self.report.quarantined += 1
            return None
        if not any(person.name for person in persons):
            row.reject("name", Finding.NO_NAME)
            return None
        if not code:
            row.reject("archival_code", Finding.NO_CODE)
            return None
        place = self._base | number
        first = self._memory.rows.first(self._row_key(originals), place)
        if first:
            self._reject_repeated(first, row)
            return None
        found = self._memory.codes.first(hash(code), place)
        if found:
            self._warn_shared(found, number, row)
        remark = self._text(cells, "remark")
        self._add_aliases(cells, remark, persons)
        if remark and says_namesake(remark):
            row.warn("remark", Finding.NAMESAKE)
        place_text = plain(self._text(cells, "place")) or self._place_said
        record = Record(
            category=category,
            archival_code=code,
            raw_code=raw_code,
            title=plain(self._text(cells, "title")),
            persons=tuple([person for person in persons if person.name or person.id_number]),
            event=event,
            place=self._place(cells, place_text),
            place_text=place_text,
            certificate_no=plain(self._text(cells, "certificate_no")),
            open_status=plain(self._text(cells, "open_status")),
            digitised=self._text(cells, "digitised").strip().lower() in _YES,
            is_copy=self._is_copy,
            cells=originals,
            row=number,
            flags=tuple(dict.fromkeys(row.flags)) if row.flags else (),
        )
        self.report.taken += 1
        if row.flags:
            self._memory.count_warned(place)
        return record

    def _noted(self, records: Records) -> Records:
        """Counts plain records that follow one another, and leaves out those whose row repeats another. All else that can
        be amiss is that a code is shared.
        """
        places = self._base + np.array(records.rows, dtype=np.int64)
        keys = map(self._row_key, records.cells) if self._counters else map(hash, records.cells)
        repeats = self._memory.rows.first_of(np.array(list(keys), dtype=np.int64), places)
        codes = np.array(list(map(hash, records.codes)), dtype=np.int64)
        new = repeats == 0
        shared = np.zeros_like(repeats)
        shared[new] = self._memory.codes.first_of(codes[new], places[new])
        for place in np.flatnonzero(repeats | shared).tolist():
            row = _RowBeingRead(self, records.rows[place])
            if repeats[place]:
                self.report.read += 1
                self._reject_repeated(int(repeats[place]), row)
            else:
                self._warn_shared(int(shared[place]), records.rows[place], row)
                self._memory.count_warned(int(places[place]))
                records.flags[place] = tuple(row.flags)
        if not new.all():
            records = records.only(new.tolist())
        self.report.read += len(records)
        self.report.taken += len(records)
        self._years.add_days(list(filter(None, records.firsts)))
        return records

    def _row_category(self, cells: list[Any]) -> str:
        if not self.columns.has("category"):
            return self.category
        said = self._text(cells, "category").strip()
        return _category_said(said) if said else self.category

    def _event(self, cells: list[Any], hint: int, row: _RowBeingRead) -> DateSpan | None:
        if self.columns.has("event_year"):
            span, _finding = read_date(self._value(cells, "event_year"))
            hint = span.first_year if span is not None else hint
        worst: Finding | None = Finding.NO_DATE
        for name in ("event", "event_year"):
            for place in self.columns.places.get(name, ()):
                span, finding = read_date(cells[place], hint)
                if span is not None and finding is None and worst in {None, Finding.NO_DATE}:
                    self._years.add(span.first_year)
                    return span
                if finding is Finding.AMBIGUOUS_DATE and not hint:
                    settled = self._years.settle(cells[place])
                    if settled is not None:
                        row.warn(name, Finding.YEAR_BY_CONTEXT)
                        return settled
                if finding is not Finding.NO_DATE and finding is not None and name == "event":
                    row.warn(name, finding)
                    return span
                worst = finding if span is None else None
        if self.columns.has("event") or self.columns.has("event_year"):
            row.warn("event", Finding.NO_DATE)
        return None

    def _persons(
        self, cells: list[Any], category: str, event: DateSpan | None, row: _RowBeingRead
    ) -> list[Person]:
        roles = CATEGORIES[category].roles
        columns = self.columns.places
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
            for one in split_people(self._text(cells, "members")):
                name, aliases, finding = read_name(one)
                if finding is Finding.CHARACTER_REPLACED:
                    row.warn("members", finding)
                if name:
                    persons.append(Person(name, Role.MEMBER, aliases=aliases))
            if not persons[0].name and len(persons) > 1:
                row.warn("name", Finding.HEAD_UNNAMED)
        return persons

    def _person(
        self,
        cells: list[Any],
        name_field: str,
        id_field: str,
        birth_field: str,
        role: Role,
        event: DateSpan | None,
        row: _RowBeingRead,
    ) -> Person:
        raw = self._value(cells, name_field)
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
        number = ""
        if id_field:
            places = self.columns.places.get(id_field)
            if places:
                cell = cells[places[0]]
                if cell:
                    number, wrong = read_id(cell)
                    if wrong is not None:
                        row.warn(id_field, wrong)
                    elif number and event is not None:
                        number = of_century(number, event.first_year)
                        if int(number[6:10]) > event.last_year:
                            row.warn(id_field, Finding.ID_BORN_AFTER_EVENT)
                            number = ""
        birth = None
        if birth_field:
            places = self.columns.places.get(birth_field)
            if places:
                cell = cells[places[0]]
                if cell:
                    birth, wrong = read_birth(cell, event)
                    if wrong is not None:
                        row.warn(birth_field, wrong)
        if birth is None and number:
            birth = birth_of(number)
        return Person(name, role, number, birth, aliases)

    def _add_aliases(self, cells: list[Any], remark: str, persons: list[Person]) -> None:
        found = read_aliases(remark) if remark else NO_ALIASES
        written = self._text(cells, "alias") if self.columns.has("alias") else ""
        if written:
            found += tuple(one for part in split_people(written) if (one := read_name(part)[0]))
        names = [person.name for person in persons]
        for alias in found:
            person = persons[owner_of(alias, names)]
            if alias not in person.aliases and alias != person.name:
                person.aliases = (*person.aliases, alias)

    def _code(self, cells: list[Any], plain: Callable[[str], str]) -> tuple[str, str]:
        """(as written, comparison form) of the archival code, from one cell or joined from columns."""
        raw = plain(self._text(cells, "archival_code"))
        if raw:
            return raw, comparison_form(raw)
        if not self.columns.has("volume"):
            return "", ""
        volume, item = self._text(cells, "volume"), self._text(cells, "item")
        fonds = self._text(cells, "fonds") or self._fonds
        series = self._text(cells, "series") or self._series
        if not volume.strip() or not fonds.strip() or (self.columns.has("item") and not item.strip()):
            return "", ""
        raw = from_columns(fonds, series, volume, item)
        return raw, comparison_form(raw)

    def _place(self, cells: list[Any], place_text: str) -> str:
        """Division code: what the place says, else what the county that handed the row over says, else the archive's own."""
        found = find(place_text) if place_text else ""
        if not found and self.columns.has("place_more"):
            found = find(self._text(cells, "place_more"))
        return found or (self._division if place_text else "")

    def _row_key(self, originals: tuple[str, ...]) -> int:
        """What two rows share that say the same, running number aside."""
        if not self._counters:
            return hash(originals)
        return hash(tuple(cell for place, cell in enumerate(originals) if place not in self._counters))

    def _reject_repeated(self, first: int, row: _RowBeingRead) -> None:
        where = self._where(*self._memory.where(first))
        row.reject("", Finding.REPEATED_ROW, f"第 {where} 行 · row {where}")

    def _where(self, table: str, row: int) -> str:
        return f"{table}#{row}" if table and table != self._table.name else str(row)

    def _warn_shared(self, found: int, number: int, row: _RowBeingRead) -> None:
        """Two records under one code: both are told of."""
        first = self._memory.where(found)
        where = self._where(*first)
        row.warn("archival_code", Finding.SHARED_CODE, f"第 {where} 行 · row {where}")
        here = f"{self._table.name}#{number}" if first[0] != self._table.name else str(number)
        self._tell(
            RowFinding(first[0], first[1], "archival_code", Finding.SHARED_CODE, f"第 {here} 行 · row {here}")
        )
        self._memory.tables[found >> 40].reasons[Finding.SHARED_CODE.value] += 1
        self._memory.count_warned(found)

    # households --------------------------------------------------------------------------------------------------

    def _household_rows(self, number: int, cells: list[Any], problem: Finding | None) -> Iterator[Record]:
        """One record a household: the row with a code opens it, the rows below add members."""
        code = self._code(cells, _plain)[1]
        if code or self._value(cells, "name"):
            if self._household is not None:
                yield self._household
            self._household = self._read(number, cells, problem)
            self._household_lost = self._household is None
            self._household_row = number
            if self._household is not None:
                self._add_member(cells, number, self._household, said=True)
            return
        if self._household is None:
            if self._household_lost:  # its household was reported; it goes with it
                self._skip(number, Finding.MEMBER)
            else:
                self._set_aside(number, "", Finding.ORPHAN_MEMBER)
            return
        self._skip(number, Finding.MEMBER)
        self._add_member(cells, number, self._household)

    def _add_member(self, cells: list[Any], number: int, household: Record, *, said: bool = False) -> None:
        """A member into its household; what is amiss with the row is told here unless it was `said` before."""
        name, aliases, finding = read_name(self._text(cells, "member"))
        number_id, wrong = read_id(self._value(cells, "id_number"))
        for field_name, found in (("member", finding), ("id_number", wrong)):
            if found is not None and not (said and field_name == "id_number"):
                self._warn_household(number, field_name, found, household)
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
                person.birth = person.birth or birth
                return
        household.persons = (*household.persons, Person(name, Role.MEMBER, number_id, birth, aliases))

    def _warn_household(self, number: int, field_name: str, finding: Finding, household: Record) -> None:
        self._tell(RowFinding(self._table.name, number, field_name, finding))
        self.report.reasons[finding.value] += 1
        household.flags = tuple(dict.fromkeys((*household.flags, finding.value)))
        self._memory.count_warned(self._base | self._household_row)

    # counting ----------------------------------------------------------------------------------------------------

    def _skip(self, number: int, finding: Finding) -> None:
        self.report.read += 1
        self.report.skipped += 1
        self.report.reasons[finding.value] += 1
        if finding is Finding.DELETED:
            self._tell(RowFinding(self._table.name, number, "", finding))

    def _set_aside(self, number: int, field_name: str, finding: Finding) -> None:
        self.report.read += 1
        self.report.quarantined += 1
        self.report.reasons[finding.value] += 1
        self._tell(RowFinding(self._table.name, number, field_name, finding))


class _RowBeingRead:
    """Collects what is found about one row."""

    __slots__ = ("_number", "_reader", "flags")

    def __init__(self, reader: TableReader, number: int) -> None:
        self._reader, self._number = reader, number
        self.flags: list[str] = []

    def warn(self, field_name: str, finding: Finding, detail: str = "") -> None:
        if finding.value in self.flags and finding is not Finding.SHARED_CODE:
            return
        self.flags.append(finding.value)
        self._reader.report.reasons[finding.value] += 1
        self._reader._tell(RowFinding(self._reader._table.name, self._number, field_name, finding, detail))

    def reject(self, field_name: str, finding: Finding, detail: str = "") -> None:
        report = self._reader.report
        if SEVERITY[finding] is Severity.REJECTED:
            report.rejected += 1
        else:
            report.quarantined += 1
        report.reasons[finding.value] += 1
        self._reader._tell(RowFinding(self._reader._table.name, self._number, field_name, finding, detail))


def _enough(width: int) -> int:
    """So many filled cells a row that is no row of data may have at most."""
    return max(3, width // 3)


def _filled(cell: object) -> bool:
    return bool(cell.strip()) if isinstance(cell, str) else cell is not None


def text_of(cell: object) -> str:
    """A spreadsheet's value as text: whole numbers without a point, dates in ISO form."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "T" if cell else "F"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else repr(cell)
    if isinstance(cell, datetime):
        return cell.date().isoformat()
    if isinstance(cell, date):
        return cell.isoformat()
    return str(cell)


def _plain(text: str) -> str:
    return clean_text(text)[0] if text else ""


_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1e\x7f-\x9f]")


def _has_control(whole: str) -> bool:
    return _CONTROLS.search(whole) is not None


_YEAR_IN_CODE = re.compile(r"[·-](1[89]\d\d|20[0-3]\d)(?=[·-])")


def _year_in(code: str) -> int:
    """The year an archival code carries (J024-ZY·XJ·1950·Y-0001), 0 when it carries none."""
    match = _YEAR_IN_CODE.search(code)
    return int(match[1]) if match else 0


def _category_said(said: str) -> str:
    """The category a cell names by its key, its title or a word of it; "" when it names none."""
    return said if said in CATEGORIES else _category_by_name(said)


@lru_cache(1_000)
def _category_by_name(said: str) -> str:

    return next((key for key, category in CATEGORIES.items() if category.name.zh == said), "") or category_in(
        said
    )
