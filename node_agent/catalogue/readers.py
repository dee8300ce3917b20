"""Files → tables of rows, whatever the format. Knows encodings and containers, nothing of what cells mean.

A row is (number, cells, problem): the physical row number from 1, the cells as the file holds them (text, or a
spreadsheet's numbers and dates), and what was wrong with reading it, if anything.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import html.parser
import io
import re
import stat
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import python_calamine

from node_agent.catalogue.findings import Finding
from node_agent.catalogue.mapping import Mapping

Row = tuple[int, list[Any], Finding | None]


@dataclass(frozen=True, slots=True)
class EvenRows:
    """Rows of texts that follow one another, one a line, all of one width and with nothing wrong: given as columns."""

    first: int  # number of the first row
    columns: list[list[str]]

    def __len__(self) -> int:
        return len(self.columns[0])

    def row(self, place: int) -> Row:
        """One of them by itself."""
        return self.first + place, [column[place] for column in self.columns], None

    def after(self, count: int) -> EvenRows:
        """All but the first so many."""
        return EvenRows(self.first + count, [column[count:] for column in self.columns])


_SAMPLE = 512 * 1024
_TOGETHER = 256 * 1024  # bytes of lines read together
_DELIMITERS = (",", "\t", ";", "|")
_ENCODINGS = ("utf-8", "gb18030", "big5")


class NotACatalogueError(Exception):
    """The file is no catalogue this reader knows; the message is one line."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table: a sheet, or the whole file. `fixed` headings stand for files that have no header row of their own."""

    name: str
    rows: Iterable[Row | EvenRows]
    fixed: tuple[str, ...] = ()


class RowStream:
    """The rows of a table one by one, and from any of them on in blocks."""

    def __init__(self, rows: Iterable[Row | EvenRows]) -> None:
        self._source = iter(rows)
        self._even: EvenRows | None = None
        self._at = 0  # in the even rows
        self._back: list[Row] = []

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        if self._back:
            return self._back.pop()
        if self._even is None:
            one = next(self._source)
            if not isinstance(one, EvenRows):
                return one
            self._even, self._at = one, 0
        row = self._even.row(self._at)
        self._at += 1
        if self._at == len(self._even):
            self._even = None
        return row

    def give_back(self, row: Row) -> None:
        """The row comes again next."""
        self._back.append(row)

    def blocks(self, most: int) -> Iterator[list[Row] | EvenRows]:
        """What is left: even rows as they stand, the others so many together."""
        even = self._even.after(self._at) if self._even is not None else None
        waiting, self._back, self._even = self._back[::-1], [], None
        if even is not None:
            if waiting:
                yield waiting
                waiting = []
            yield even
        for one in self._source:
            if isinstance(one, EvenRows):
                if waiting:
                    yield waiting
                    waiting = []
                yield one
            else:
                waiting.append(one)
                if len(waiting) == most:
                    yield waiting
                    waiting = []
        if waiting:
            yield waiting


def open_tables(path: Path, mapping: Mapping) -> list[Table]:
    """The tables of a file; NotACatalogueError when it is none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise NotACatalogueError("不是文件（管道或设备）· not a file but a pipe or a device")
        with path.open("rb") as handle:
            head = handle.read(_SAMPLE)
    except OSError as error:
        raise NotACatalogueError(f"无法读取文件 · can not read the file: {error.strerror}") from error
    if not head.strip(b"\0 \r\n\t\x1a"):
        raise NotACatalogueError("空文件 · the file is empty")
    if mapping.columns:
        return [Table("", _fixed_rows(path, mapping), tuple(column.heading for column in mapping.columns))]
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return _workbook(path)
    if _is_dbf(head, path):
        return [_dbf(path, mapping)]
    if _is_binary(head) and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise NotACatalogueError("不是目录文件（二进制内容）· not a catalogue: binary content")
    start = head[:2048].lower()
    if b"<table" in head.lower() and (b"<html" in start or b"<table" in start or b"<!doctype" in start):
        return _html(path, mapping)
    return [_delimited(path, head, mapping)]


_CONTROLS = bytes({*range(32)} - set(b"\t\n\r\x1a"))
_MOST_CONTROLS = (
    0.02  # of the first bytes: random bytes are a tenth control characters, damaged text a few in all
)


def _is_binary(head: bytes) -> bool:
    start = head[:4096]
    return b"\0" in start and len(start) - len(start.translate(None, _CONTROLS)) > _MOST_CONTROLS * len(start)


# text --------------------------------------------------------------------------------------------------------------


def _encoding_of(head: bytes, mapping: Mapping) -> str:
    if mapping.encoding:
        return mapping.encoding
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8"
    lines = head.split(b"\n")[:4000]
    if len(head) >= _SAMPLE:
        lines = lines[:-1]
    marked = [line for line in lines if not line.isascii()]
    failures = {encoding: sum(not _decodes(line, encoding) for line in marked) for encoding in _ENCODINGS}
    return min(_ENCODINGS, key=lambda encoding: (failures[encoding], _ENCODINGS.index(encoding)))


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _stretches(path: Path, encoding: str, odd: dict[int, Finding]) -> Iterator[str]:
    """A text file, some hundred whole lines at a time; `odd` is told before which of their lines were in another
    encoding or could not be decoded.
    """
    if encoding == "utf-16":
        with path.open(encoding="utf-16", errors="replace", newline="") as handle:
            while texts := handle.readlines(_TOGETHER):
                yield "".join(texts)
        return
    with path.open("rb") as handle:
        number = 0
        if handle.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            handle.seek(0)
        while lines := handle.readlines(_TOGETHER):
            yield _decoded(lines, encoding, number, odd)
            number += len(lines)


def _decoded(lines: list[bytes], encoding: str, before: int, odd: dict[int, Finding]) -> str:
    """Lines as text, together where all of them are UTF-8, else one by one; `before` of them came earlier."""
    if encoding == "utf-8":
        with contextlib.suppress(UnicodeDecodeError):
            return b"".join(lines).decode("utf-8")
    texts = []
    for number, line in enumerate(lines, start=before + 1):
        if encoding != "utf-8" and not line.isascii() and _decodes(line, "utf-8"):
            odd[number] = Finding.OTHER_ENCODING  # valid UTF-8 by chance does not happen to Chinese lines
            texts.append(line.decode("utf-8"))
        else:
            texts.append(_line(line, encoding, number, odd))
    return "".join(texts)


def _line(raw: bytes, encoding: str, number: int, odd: dict[int, Finding]) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        others = (one for one in ("utf-8", "gb18030", "big5") if one != encoding)
        other = next((one for one in others if _decodes(raw, one)), "")
        odd[number] = Finding.OTHER_ENCODING if other else Finding.UNDECODABLE
        return raw.decode(other) if other else raw.decode(encoding, "replace")


def _delimited(path: Path, head: bytes, mapping: Mapping) -> Table:
    encoding = _encoding_of(head, mapping)
    sample = head.decode("utf-16" if encoding == "utf-16" else encoding, "replace").lstrip("\ufeff")
    delimiter = _delimiter_of(sample)
    if not delimiter:
        raise NotACatalogueError(
            "不是目录文件：找不到分隔的列 · not a catalogue: no columns found (fixed-width files need --mapping)"
        )
    return Table("", _csv_rows(path, encoding, delimiter, _width_of(sample, delimiter)))


def _width_of(sample: str, delimiter: str) -> int:
    """How many cells most lines of a sample have."""
    widths = Counter(len(_cells_of(line, delimiter, strict=False)) for line in sample.splitlines()[:300])
    return widths.most_common(1)[0][0]


def _delimiter_of(sample: str) -> str:
    """The delimiter that most lines agree on; "" when none does."""
    lines = [line for line in sample.splitlines()[:300] if line.strip("\x1a ")]
    if len(lines) > 2 and len(sample) >= _SAMPLE // 4:
        lines = lines[:-1]
    best, best_share = "", 0.0
    for delimiter in _DELIMITERS:
        counts = [line.count(delimiter) for line in lines]
        usual = max(set(counts), key=counts.count) if counts else 0
        share = counts.count(usual) / len(counts) if usual else 0.0
        if usual >= 1 and share * usual**0.5 > best_share:
            best, best_share = delimiter, share * usual**0.5
    return best


def _csv_rows(path: Path, encoding: str, delimiter: str, usual: int) -> Iterator[Row | EvenRows]:
    csv.field_size_limit(_LONGEST_CELL)
    odd: dict[int, Finding] = {}
    stretches = _stretches(path, encoding, odd)
    lines = _Lines(stretches, universal=encoding == "utf-16")
    for text in stretches:
        even = None if odd else _even_rows(text, delimiter, lines.given + 1)
        if even is not None:
            lines.given += len(even)
            yield even
        else:
            lines.begin(text)
            yield from _rows_of_lines(lines, delimiter, usual, odd)
            odd.clear()


_LONGEST_CELL = 1 << 20  # characters


def _even_rows(text: str, delimiter: str, first: int) -> EvenRows | None:
    """The rows of some lines, cut at their delimiters all at once; None where that is not what the csv module would do,
    or the lines are not of one width.
    """
    text = text.replace("\r\n", "\n").removesuffix("\n")
    if '"' in text or "\r" in text or "\0" in text or len(text) > _LONGEST_CELL:
        return None
    width = text.partition("\n")[0].count(delimiter) + 1
    lines = text.count("\n") + 1
    # a cell of its own for each end of a line: when they stand where they must, so does all between them
    cells = text.replace("\n", f"{delimiter}\n{delimiter}").split(delimiter)
    step = width + 1
    if width == 1 or len(cells) != lines * step - 1 or cells[width::step].count("\n") != lines - 1:
        return None
    return EvenRows(first, [cells[place::step] for place in range(width)])


class _Lines:
    """The lines of one stretch after the other, for the csv module, which asks for more inside a cell of several lines."""

    def __init__(self, stretches: Iterator[str], *, universal: bool) -> None:
        self._stretches = stretches
        self._newline = "" if universal else "\n"
        self._lines = io.StringIO()
        self._left = 0  # characters of this stretch
        self.given = 0
        self.held: list[str] = []  # the lines of the row being read

    def begin(self, text: str) -> None:
        """Go on with this stretch."""
        # the csv module of some versions refuses NUL: a control character that the cleaning of cells reports stands in
        self._lines = io.StringIO(text.replace("\0", "\x01"), newline=self._newline)
        self._left = len(text)

    @property
    def at_end(self) -> bool:
        """Whether the stretch is used up."""
        return not self._left

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._left:
            self.begin(next(self._stretches))
        line = self._lines.readline()
        self._left -= len(line)
        self.given += 1
        self.held.append(line)
        return line


def _rows_of_lines(lines: _Lines, delimiter: str, usual: int, odd: dict[int, Finding]) -> Iterator[Row]:
    """The rows of a stretch, and of what follows it where a cell goes on there."""
    reader = csv.reader(lines, delimiter=delimiter)
    while not lines.at_end:
        number = lines.given + 1
        lines.held.clear()
        try:
            cells = next(reader)
        except csv.Error:  # a cell without end, or the end of a line in the middle of one
            rows = _swallowed(lines.held, delimiter, usual, []) or [([], Finding.WRONG_COLUMNS)]
            yield from _each(rows, number, odd)
            continue
        if lines.given > number and (rows := _swallowed(lines.held, delimiter, usual, cells)):
            yield from _each(rows, number, odd)
            continue
        problem = None
        if odd:
            problem = next((odd.pop(line) for line in range(number, lines.given + 1) if line in odd), None)
        if len(cells) != 1 or cells[0].strip() != "\x1a":
            yield number, cells, problem


def _swallowed(
    lines: list[str], delimiter: str, usual: int, cells: list[str]
) -> list[tuple[list[str], Finding | None]]:
    """The rows that a quote without an end has made into one, each line of its own, and what is wrong with it.

    Nothing when the row is one, as with a cell of several lines: its first or its last line may have as many cells as a row,
    but not both.
    """
    if usual <= 2:
        return []
    whole = [len(_cells_of(line, delimiter, strict=False)) == usual for line in lines]
    if sum(whole) < 2 and (len(cells) == usual or not any(whole[1:])):
        return []
    found = [(line, _cells_of(line, delimiter, strict=True)) for line in lines]
    return [(one, None if one or not line.strip() else Finding.WRONG_COLUMNS) for line, one in found]


def _each(
    rows: list[tuple[list[str], Finding | None]], number: int, odd: dict[int, Finding]
) -> Iterator[Row]:
    for line, (cells, problem) in enumerate(rows, start=number):
        yield line, cells, problem or odd.pop(line, None)


def _cells_of(line: str, delimiter: str, *, strict: bool) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=strict), [])
    except csv.Error:
        return []


def _fixed_rows(path: Path, mapping: Mapping) -> Iterator[Row]:
    """Fixed positions count bytes, so cells are cut before they are decoded."""
    encoding = mapping.encoding or "gb18030"
    bounds = [(column.start - 1, column.start - 1 + column.length) for column in mapping.columns]
    needed = bounds[-1][0]  # the last column may be cut when it is blank
    with path.open("rb") as handle:
        for number, raw in enumerate(handle, start=1):
            line = raw.rstrip(b"\r\n")
            if line.strip(b"\x1a \t") == b"":
                if line.strip(b" \t") != b"\x1a":
                    yield number, [""] * len(bounds), None
                continue
            use, problem = _encoding_of_line(line, encoding, bounds)
            if use != encoding and _decodes(line, use) and len(line) != bounds[-1][1]:
                # written in another encoding afterwards: positions were meant in the file's own
                line, use = line.decode(use).encode(encoding, "replace"), encoding
            if len(line) <= needed:
                problem = Finding.WRONG_COLUMNS
            cells = []
            for low, high in bounds:
                cell, cut = _fixed_cell(line[low:high], use, high - low)
                problem = problem or cut
                cells.append(cell)
            yield number, cells, problem


def _encoding_of_line(
    line: bytes, encoding: str, bounds: list[tuple[int, int]]
) -> tuple[str, Finding | None]:
    """The encoding a fixed-width line is written in: the file's, else UTF-8 whole or cut at the field widths."""
    if line.isascii():
        return encoding, None
    if encoding != "utf-8" and _is_utf8_cut(line, bounds):
        return "utf-8", Finding.OTHER_ENCODING  # valid UTF-8 by chance does not happen to Chinese lines
    return encoding, None if _decodes(line, encoding) else Finding.UNDECODABLE


def _is_utf8_cut(line: bytes, bounds: list[tuple[int, int]]) -> bool:
    if _decodes(line, "utf-8"):
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
    if _decodes(text, encoding):
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


# workbooks ---------------------------------------------------------------------------------------------------------


_LARGEST_WORKBOOK = 4 << 30  # bytes unpacked
_BOMB_BYTES, _BOMB_RATIO = (
    64 << 20,
    100,
)  # sheets pack ten to twenty times, what is made to burst a thousand times


def _is_bomb(entry: zipfile.ZipInfo) -> bool:
    return entry.file_size > _BOMB_BYTES and entry.file_size > _BOMB_RATIO * entry.compress_size


_LOCKED = "工作簿有密码，请另存为无密码的文件 · the workbook is protected by a password; save it without one"


def _is_encrypted(path: Path) -> bool:
    """Whether this is the container a workbook with a password is kept in (MS-OFFCRYPTO)."""
    with path.open("rb") as handle:
        head = handle.read(_SAMPLE)
    return head.startswith(b"\xd0\xcf\x11\xe0") and "EncryptedPackage".encode("utf-16le") in head


def _workbook(path: Path) -> list[Table]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                if sum(entry.file_size for entry in entries) > _LARGEST_WORKBOOK or any(
                    map(_is_bomb, entries)
                ):
                    raise NotACatalogueError("工作簿解压后过大 · the workbook is too large when unpacked")
        if _is_encrypted(path):
            raise NotACatalogueError(_LOCKED)
        _check_workbook(path)
        with path.open("rb") as handle:  # what it is says its content, not its name
            book = python_calamine.CalamineWorkbook.from_filelike(handle)
    except python_calamine.PasswordError as error:
        raise NotACatalogueError(_LOCKED) from error
    except (python_calamine.CalamineError, zipfile.BadZipFile, OSError, ValueError) as error:
        raise NotACatalogueError(_UNREADABLE) from error
    return [Table(name, _sheet_rows(book, name)) for name in book.sheet_names]


_MOST_MEMORY = 2 << 30  # of the sheets as read: some eighty million cells
_LONGEST_READING_S = 600.0
_READ_ALL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import python_calamine
try:
    with open(sys.argv[1], "rb") as handle:
        book = python_calamine.CalamineWorkbook.from_filelike(handle)
        for name in book.sheet_names:
            book.get_sheet_by_name(name)
except Exception:  # told better by who reads it in earnest
    pass
"""


def _check_workbook(path: Path) -> None:
    """Read a workbook in a process of its own first: a damaged one, or one cell a million rows below the others, can end the
    process that reads it.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _READ_ALL, str(path), str(_MOST_MEMORY)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_LONGEST_READING_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotACatalogueError("工作簿读取超时 · reading the workbook took too long") from error
    if done.returncode < 0:
        raise NotACatalogueError(
            "工作表单元格分布过远，内存不足；请删去表外的单元格再存 · cells lie too far apart for the memory; delete what is outside the table"
        )
    if done.returncode > 0:
        raise NotACatalogueError(_UNREADABLE)


_UNREADABLE = "不是可读的工作簿（可能不完整）· not a readable workbook, perhaps cut short"


def _sheet_rows(book: python_calamine.CalamineWorkbook, name: str) -> Iterator[Row]:
    try:
        rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except (python_calamine.CalamineError, OSError, ValueError) as error:
        raise NotACatalogueError(f"工作表无法读取 · a sheet can not be read: {name}") from error
    for number, cells in enumerate(rows, start=1):
        yield number, cells, None


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
    encoding = mapping.encoding or _encoding_of(raw[:_SAMPLE], mapping)
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
    return Table(
        "",
        _dbf_rows(raw, count, header_length, record_length, fields, encoding),
        tuple(field.name for field in fields),
    )


def _dbf_rows(
    raw: bytes, count: int, start: int, length: int, fields: list[_DbfField], encoding: str
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
        problem: Finding | None = None
        place = 1
        parts: list[bytes] = []
        for field in fields:
            parts.append(record[place : place + field.length].rstrip(b" \0"))
            place += field.length
        other = any(_only_big5(part) for part in parts)
        for field, part in zip(fields, parts, strict=True):
            if other and _more_likely_big5(part):
                text, found = part.decode("big5").strip(), None
            else:
                text, found = _dbf_cell(part, encoding, field.length)
            problem = problem or found
            cells.append(text)
        yield number, cells, Finding.OTHER_ENCODING if other else problem


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
        if _decodes(plain, other):
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
    return _only_big5(cell) or not _decodes(cell, "gb2312")


def _is_common_big5(cell: bytes) -> bool:
    try:
        text = cell.decode("big5")
    except UnicodeDecodeError:
        return False
    return all(
        char.isascii() or _BIG5_COMMON[0] <= char.encode("big5")[0] <= _BIG5_COMMON[1] for char in text
    )
