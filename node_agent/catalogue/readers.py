"""Files → tables of rows, whatever the format. Knows encodings and containers, nothing of what cells mean."""

from __future__ import annotations

import codecs
import html.parser
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from node_agent.catalogue.delimited import read_delimited
from node_agent.catalogue.encodings import SAMPLE, decodes, encoding_of
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.lines import line_end, read_lines
from node_agent.catalogue.mapping import Mapping
from node_agent.catalogue.tables import NotACatalogueError, Row, Table
from node_agent.catalogue.workbooks import read_workbook


def open_tables(path: Path, mapping: Mapping) -> list[Table]:
    """The tables of a file; NotACatalogueError when it is none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise NotACatalogueError("不是文件（管道或设备）· not a file but a pipe or a device")
        with path.open("rb") as handle:
            head = handle.read(SAMPLE)
    except OSError as error:
        raise NotACatalogueError(f"无法读取文件 · can not read the file: {error.strerror}") from error
    if not head.strip(b"\0 \r\n\t\x1a"):
        raise NotACatalogueError("空文件 · the file is empty")
    if mapping.columns:
        where: dict[int, tuple[int, ...]] = {}
        rows = _fixed_rows(path, line_end(head), mapping, where)
        return [Table("", rows, tuple(column.heading for column in mapping.columns), where=where)]
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return read_workbook(path)
    if _is_dbf(head, path):
        return [_dbf(path, mapping)]
    if _is_binary(head) and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise NotACatalogueError("不是目录文件（二进制内容）· not a catalogue: binary content")
    start = head[:2048].lower()
    if b"<table" in head.lower() and (b"<html" in start or b"<table" in start or b"<!doctype" in start):
        return _html(path, mapping)
    return [read_delimited(path, head, mapping)]


_CONTROLS = bytes({*range(32)} - set(b"\t\n\r\x1a"))
_MOST_CONTROLS = (
    0.02  # of the first bytes: random bytes are a tenth control characters, damaged text a few in all
)


def _is_binary(head: bytes) -> bool:
    start = head[:4096]
    return b"\0" in start and len(start) - len(start.translate(None, _CONTROLS)) > _MOST_CONTROLS * len(start)


# text --------------------------------------------------------------------------------------------------------------


_TOGETHER = 64 * 1024  # bytes of lines read together


def _fixed_rows(path: Path, end: bytes, mapping: Mapping, where: dict[int, tuple[int, ...]]) -> Iterator[Row]:
    """Fixed positions count bytes, so cells are cut before they are decoded."""
    encoding = mapping.encoding or "gb18030"
    bounds = [(column.start - 1, column.start - 1 + column.length) for column in mapping.columns]
    needed = bounds[-1][0]  # the last column may be cut when it is blank
    with path.open("rb") as handle:
        lines = chain.from_iterable(read_lines(handle, end, _TOGETHER))
        for number, raw in enumerate(lines, start=1):
            line = raw.rstrip(b"\r\n")
            if line.strip(b"\x1a \t") == b"":
                if line.strip(b" \t") != b"\x1a":
                    yield number, [""] * len(bounds), None
                continue
            use, problem = _encoding_of_line(line, encoding, bounds)
            if use != encoding and decodes(line, use) and len(line) != bounds[-1][1]:
                # written in another encoding afterwards: positions were meant in the file's own
                line, use = line.decode(use).encode(encoding, "replace"), encoding
            if len(line) <= needed:
                problem = Finding.WRONG_COLUMNS
            cells, cut = [], []
            for place, (low, high) in enumerate(bounds):
                cell, found = _fixed_cell(line[low:high], use, high - low)
                cells.append(cell)
                if found is not None:
                    cut.append(place)
            if cut and problem is None:
                problem, where[number] = Finding.TEXT_CUT, tuple(cut)
            elif problem is Finding.OTHER_ENCODING:
                where[number] = tuple([place for place, cell in enumerate(cells) if not cell.isascii()])
            elif problem is Finding.UNDECODABLE:
                texts = [line[low:high].rstrip() for low, high in bounds]
                where[number] = tuple([place for place, text in enumerate(texts) if not decodes(text, use)])
            yield number, cells, problem


def _encoding_of_line(
    line: bytes, encoding: str, bounds: list[tuple[int, int]]
) -> tuple[str, Finding | None]:
    """The encoding a fixed-width line is written in: the file's, else UTF-8 whole or cut at the field widths."""
    if line.isascii():
        return encoding, None
    if encoding != "utf-8" and _is_utf8_cut(line, bounds):
        return "utf-8", Finding.OTHER_ENCODING  # valid UTF-8 by chance does not happen to Chinese lines
    return encoding, None if decodes(line, encoding) else Finding.UNDECODABLE


def _is_utf8_cut(line: bytes, bounds: list[tuple[int, int]]) -> bool:
    if decodes(line, "utf-8"):
        return True
    try:
        cells = [_UTF8().decode(line[low:high].rstrip()) for low, high in bounds]
    except UnicodeDecodeError:
        return False
    return not all(map(str.isascii, cells))


_UTF8 = codecs.getincrementaldecoder("utf-8")  # leaves a character cut at the end aside


def _fixed_cell(cell: bytes, encoding: str, width: int) -> tuple[str, Finding | None]:
    if cell.isascii():
        return cell.decode("ascii").strip(), None
    text = cell.rstrip()
    if decodes(text, encoding):
        whole = text.decode(encoding)
        return whole.strip(), Finding.TEXT_CUT if _looks_cut(whole, len(text), width) else None
    return text.decode(encoding, "replace").strip(" \ufffd"), Finding.TEXT_CUT


_SHORT_NAME = 4  # characters: a field of eight bytes is filled by 欧阳正明 without being too narrow for it


def _looks_cut(text: str, used: int, width: int) -> bool:
    """Whether a text that fills its field goes on beyond it: a long name, or a bracket that never closes. Codes do not."""
    return (
        used >= width - 1
        and len(text) > _SHORT_NAME
        and not text[-1].isascii()
        and not text.endswith(("）", "〕"))
    )


# HTML --------------------------------------------------------------------------------------------------------------


class _TableParser(html.parser.HTMLParser):
    """Collects the rows of all tables of a page; entities are decoded by the parser."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self._row: list[str] | None = None
        self._cell: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self._close_row()
            self._row = []
        elif tag in {"td", "th"} and self._row is not None:
            self._close_cell()
            self._cell = []
            span = dict(attrs).get("colspan") or "1"
            self._span = min(int(span), 200) if span.isdecimal() and len(span) < 5 else 1
        elif tag == "br" and self._cell is not None:
            self._cell.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self._close_cell()
        elif tag in {"tr", "table"}:
            self._close_row()

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def _close_cell(self) -> None:
        if self._cell is not None and self._row is not None:
            self._row.append("".join(self._cell).replace("\xa0", " ").strip())
            self._row.extend([""] * (self._span - 1))
        self._cell = None

    def _close_row(self) -> None:
        self._close_cell()
        if self._row is not None:
            self.rows.append(self._row)
        self._row = None


def _html(path: Path, mapping: Mapping) -> list[Table]:
    raw = path.read_bytes()
    encoding = mapping.encoding or encoding_of(raw[:SAMPLE], mapping)
    parser = _TableParser()
    parser.feed(raw.decode(encoding, "replace"))
    parser.close()
    if not parser.rows:
        raise NotACatalogueError("网页中没有表格 · the page holds no table")
    return [Table("", ((number, row, None) for number, row in enumerate(parser.rows, start=1)))]


# DBF ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _DbfField:
    name: str
    kind: str
    length: int


def _is_dbf(head: bytes, path: Path) -> bool:
    if len(head) < 65 or head[0] not in {0x02, 0x03, 0x30, 0x31, 0x43, 0x83, 0x8B, 0xF5, 0xFB}:
        return False
    header_length, record_length = struct.unpack("<HH", head[8:12])
    return path.suffix.lower() == ".dbf" or (
        1 <= head[2] <= 12 and 1 <= head[3] <= 31 and header_length > 32 and record_length > 1
    )


def _dbf(path: Path, mapping: Mapping) -> Table:
    raw = path.read_bytes()
    count, header_length, record_length = struct.unpack("<IHH", raw[4:12])
    encoding = mapping.encoding or "gb18030"
    fields: list[_DbfField] = []
    place = 32
    while place + 32 <= min(header_length, len(raw)) and raw[place : place + 1] not in {b"\r", b""}:
        name = raw[place : place + 11].split(b"\0")[0].decode(encoding, "replace")
        fields.append(_DbfField(name, chr(raw[place + 11]), raw[place + 16]))
        place += 32
    if not fields or record_length != 1 + sum(field.length for field in fields):
        raise NotACatalogueError("不是可读的 DBF 文件 · not a readable DBF file")
    where: dict[int, tuple[int, ...]] = {}
    rows = _dbf_rows(raw, count, header_length, record_length, fields, encoding, where)
    return Table("", rows, tuple(field.name for field in fields), where=where)


def _dbf_rows(
    raw: bytes,
    count: int,
    start: int,
    length: int,
    fields: list[_DbfField],
    encoding: str,
    where: dict[int, tuple[int, ...]],
) -> Iterator[Row]:
    for number in range(1, count + 1):
        record = raw[start + (number - 1) * length : start + number * length]
        if len(record) < length:  # the file ends here, whatever its header counts
            yield number, [], Finding.CUT_SHORT
            return
        if record[:1] == b"*":
            yield number, [], Finding.DELETED
            continue
        cells: list[str] = []
        amiss: list[Finding | None] = []
        place = 1
        parts: list[bytes] = []
        for field in fields:
            parts.append(record[place : place + field.length].rstrip(b" \0"))
            place += field.length
        other = any(_only_big5(part) for part in parts)
        for field, part in zip(fields, parts, strict=True):
            if other and _more_likely_big5(part):
                cells.append(part.decode("big5").strip())
                amiss.append(Finding.OTHER_ENCODING)
            else:
                text, found = _dbf_cell(part, encoding, field.length)
                cells.append(text)
                amiss.append(found)
        problem = Finding.OTHER_ENCODING if other else next(filter(None, amiss), None)
        if problem is not None:
            where[number] = tuple([at for at, one in enumerate(amiss) if one is problem])
        yield number, cells, problem


def _dbf_cell(plain: bytes, encoding: str, width: int) -> tuple[str, Finding | None]:
    if plain.isascii():
        return plain.decode("ascii").strip(), None
    try:
        text = plain.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start >= len(plain) - 3 and error.reason.startswith("incomplete"):
            return plain[: error.start].decode(encoding, "replace").strip(), Finding.TEXT_CUT
    else:
        return text.strip(), Finding.TEXT_CUT if _looks_cut(text, len(plain), width) else None
    for other in ("utf-8", "big5"):
        if decodes(plain, other):
            return plain.decode(other).strip(), Finding.OTHER_ENCODING
    return plain.decode(encoding, "replace").strip(), Finding.UNDECODABLE


_NOT_IN_NAMES = re.compile(r"[\u3040-\u30ff\ue000-\uf8ff\ufffd]")  # kana, private use
_BIG5_COMMON = (0xA4, 0xC6)  # lead bytes of the 5,401 commonest characters


def _only_big5(cell: bytes) -> bool:
    """Whether a cell typed in Big5 betrays itself: read as GBK it holds what no Chinese text does."""
    return (
        not cell.isascii()
        and _NOT_IN_NAMES.search(cell.decode("gb18030", "replace")) is not None
        and _is_common_big5(cell)
    )


def _more_likely_big5(cell: bytes) -> bool:
    """Of a row that holds Big5: whether this cell is Big5 too, and not the GBK of the rows around it."""
    if cell.isascii() or not _is_common_big5(cell):
        return False
    return _only_big5(cell) or not decodes(cell, "gb2312")


def _is_common_big5(cell: bytes) -> bool:
    try:
        text = cell.decode("big5")
    except UnicodeDecodeError:
        return False
    return all(
        char.isascii() or _BIG5_COMMON[0] <= char.encode("big5")[0] <= _BIG5_COMMON[1] for char in text
    )
