"""One catalogue file, read whole: its tables, its category, its account."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from federation.categories import CATEGORIES
from node_agent.catalogue.account import TableAccount
from node_agent.catalogue.columns import Columns
from node_agent.catalogue.findings import RowFinding, TableReport
from node_agent.catalogue.head import Head, find_head
from node_agent.catalogue.headings import category_in, says_copy
from node_agent.catalogue.mapping import Mapping
from node_agent.catalogue.memory import Memory
from node_agent.catalogue.readers import open_tables
from node_agent.catalogue.tables import NotACatalogueError, RowStream
from node_agent.catalogue.understanding import TableReader
from node_agent.index import Part
from node_agent.record import Record, Records

_CODE_IN_NAME = re.compile(r"^(\d{6})(?!\d)")


@dataclass(slots=True)
class FileReport:
    """The account of one file, table by table, and all findings in the order they were made."""

    file: str
    tables: list[TableReport] = field(default_factory=list)
    category: str = ""

    def total(self, name: str) -> int:
        return int(sum(getattr(table, name) for table in self.tables))

    def reasons(self) -> dict[str, int]:
        counted: dict[str, int] = {}
        for table in self.tables:
            for reason, number in table.reasons.items():
                counted[reason] = counted.get(reason, 0) + number
        return dict(sorted(counted.items()))


class CatalogueFile:
    """One file on its way into the index. `parts` may be iterated once; the report is whole when that is done."""

    def __init__(
        self,
        path: Path,
        *,
        mapping: Mapping,
        category: str = "",
        division: str = "",
        report: Callable[[RowFinding], None] = lambda _finding: None,
    ) -> None:
        self.path, self._mapping = path, mapping
        self.name = name_of(path)
        self._division = division or division_in(self.name)
        self._tell = report
        self.report = FileReport(self.name)
        self._tables = open_tables(path, mapping)
        self._wanted = category or mapping.category
        self.unmapped: tuple[str, ...] = ()  # headings of the mapping that no table has had so far
        self._copy = mapping.copy if mapping.copy is not None else says_copy(self.name)

    def digest(self) -> bytes:
        """Digest of the file's bytes."""
        state = blake2b(digest_size=16)
        with self.path.open("rb") as handle:
            while block := handle.read(1 << 20):
                state.update(block)
        return state.digest()

    def parts(self, on_thousand: Callable[[], None] = lambda: None) -> Iterator[Part]:
        """The tables as parts for the index; NotACatalogueError when none of them can be understood."""
        memory = Memory()
        understood = 0
        self.unmapped = tuple(self._mapping.headings)
        for table in self._tables:
            account = TableAccount(table.name, memory, self._tell)
            self.report.tables.append(account.report)
            rows = RowStream(table.rows)
            head = find_head(table, rows, self._mapping.headings, account)
            if head is None:
                continue
            understood += 1
            self.unmapped = tuple([one for one in self.unmapped if one not in head.columns.headings])
            _check_columns(head.columns, self.unmapped)
            reader = TableReader(
                head,
                account,
                category=self._category_of(head, table.name),
                division=self._division,
                is_copy=self._copy,
            )
            yield Part(table.name, head.columns.headings, _counted(reader.records(rows), on_thousand))
        if not understood:
            raise NotACatalogueError(
                "找不到可识别的表头 · no header row could be recognised; describe the columns with --mapping"
            )

    def _category_of(self, head: Head, table_name: str) -> str:
        """Category of a table: asked for, or said by the file name, the title, the sheet or the headings."""
        found = self._wanted
        for words in (self.name, head.title.words, table_name, " ".join(head.columns.headings)):
            found = found or category_in(words)
        if not found and not head.columns.has("category"):
            raise NotACatalogueError(
                f"无法判断类别，请用 --category 指定 · the category can not be known; give --category (one of {', '.join(CATEGORIES)})"
            )
        self.report.category = self.report.category or found
        return found


def unmapped_told(headings: tuple[str, ...]) -> str:
    """What to say of headings that a mapping explains and no table has."""
    return f"映射中的标题不在文件里 · headings of the mapping that are not in the file: {', '.join(headings)}"


def _check_columns(columns: Columns, unmapped: tuple[str, ...]) -> None:
    named = any(columns.has(name) for name in ("name", "husband", "wife", "child", "father", "mother"))
    coded = columns.has("archival_code") or columns.has("volume")
    if not named or not coded:
        missing = "姓名 · name" if not named else "档号 · archival_code"
        raise NotACatalogueError(
            f"缺少必要的列：{missing} · a necessary column is missing; name it with --mapping"
            + (f"; {unmapped_told(unmapped)}" if unmapped else "")
        )


def _counted(
    records: Iterator[Record | Records], on_thousand: Callable[[], None]
) -> Iterator[Record | Records]:
    count = 0
    for one in records:
        more = len(one) if isinstance(one, Records) else 1
        for _thousand in range(count // 1000, (count + more) // 1000):
            on_thousand()
        count += more
        yield one


def name_of(path: Path) -> str:
    """The name a file is known by: as archives unpack them, names may be bytes of GBK, or hold the end of a line."""
    name = path.name
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        name = os.fsencode(name).decode("gb18030", "replace")
    return "".join([char if char.isprintable() else "_" for char in name])


def division_in(file_name: str) -> str:
    """The division code a file name starts with, as archives name their exports; "" when it does not."""
    match = _CODE_IN_NAME.match(file_name)
    return match[1] if match else ""
