"""Delimited text → rows: by the csv module where a quote or a damage asks for it, many lines at once where none does."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from node_agent.catalogue.encodings import SAMPLE, decodes, encoding_of
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.lines import line_end, read_lines
from node_agent.catalogue.mapping import Mapping
from node_agent.catalogue.tables import EvenRows, NotACatalogueError, Row, Table

_TOGETHER = 256 * 1024  # bytes of lines read together
_DELIMITERS = (",", "\t", ";", "|")

_MARK = "\ud800"  # half a character: in no text that was decoded
_MARKING = "lantai.mark"
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Decodes like "replace", with a mark for what can not be decoded."""
    assert isinstance(error, UnicodeDecodeError)
    return _MARK, error.end


codecs.register_error(_MARKING, _mark)


@dataclass(frozen=True, slots=True)
class _OddLine:
    """`marked` is the line once more, with marks where it is odd: cut like the line itself, it tells in which cells."""

    finding: Finding
    marked: str


class _OddLines:
    """Lines in another encoding or that could not be decoded, by their numbers; `where` is told in which cells of their
    rows that shows.
    """

    def __init__(self, delimiter: str, where: dict[int, tuple[int, ...]]) -> None:
        self._delimiter, self._where = delimiter, where
        self._lines: dict[int, _OddLine] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def clear(self) -> None:
        """Nothing is odd in what comes now."""
        self._lines.clear()

    def is_other(self, number: int, text: str) -> None:
        """A line was in another encoding, which says nothing of its ASCII."""
        self._lines[number] = _OddLine(Finding.OTHER_ENCODING, _NOT_ASCII.sub(_MARK, text))

    def is_undecodable(self, number: int, raw: bytes, encoding: str) -> None:
        """A line could not be decoded."""
        self._lines[number] = _OddLine(Finding.UNDECODABLE, raw.decode(encoding, _MARKING))

    def problem(self, lines: list[str], number: int, width: int) -> Finding | None:
        """The worst that is odd about a row of these lines, the first of this number, and of so many cells."""
        found = [self._lines.pop(number + at, None) for at in range(len(lines))]
        findings = {one.finding for one in found if one is not None}
        if not findings:
            return None
        worst = Finding.UNDECODABLE if Finding.UNDECODABLE in findings else Finding.OTHER_ENCODING
        marked = [
            one.marked.replace("\0", "\x01") if one is not None and one.finding is worst else line
            for line, one in zip(lines, found, strict=True)
        ]
        with contextlib.suppress(csv.Error):
            cells = next(csv.reader(marked, delimiter=self._delimiter))
            if len(cells) == width:  # else it can not be said in which it is
                self._where[number] = tuple([place for place, cell in enumerate(cells) if _MARK in cell])
        return worst


def _stretches(path: Path, encoding: str, end: bytes, odd: _OddLines) -> Iterator[str]:
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
        for lines in read_lines(handle, end, _TOGETHER):
            yield _decoded(lines, encoding, number, odd)
            number += len(lines)


def _decoded(lines: list[bytes], encoding: str, before: int, odd: _OddLines) -> str:
    """Lines as text, together where all of them are UTF-8, else one by one; `before` of them came earlier."""
    if encoding == "utf-8":
        with contextlib.suppress(UnicodeDecodeError):
            return b"".join(lines).decode("utf-8")
    texts = []
    for number, line in enumerate(lines, start=before + 1):
        if encoding != "utf-8" and not line.isascii() and decodes(line, "utf-8"):
            # valid UTF-8 by chance does not happen to Chinese lines
            texts.append(line.decode("utf-8"))
            odd.is_other(number, texts[-1])
        else:
            texts.append(_line(line, encoding, number, odd))
    return "".join(texts)


def _line(raw: bytes, encoding: str, number: int, odd: _OddLines) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        others = (one for one in ("utf-8", "gb18030", "big5") if one != encoding)
        other = next((one for one in others if decodes(raw, one)), "")
        if other:
            text = raw.decode(other)
            odd.is_other(number, text)
            return text
        odd.is_undecodable(number, raw, encoding)
        return raw.decode(encoding, "replace")


def read_delimited(path: Path, head: bytes, mapping: Mapping) -> Table:
    encoding = encoding_of(head, mapping)
    sample = head.decode("utf-16" if encoding == "utf-16" else encoding, "replace").lstrip("\ufeff")
    delimiter = _delimiter_of(sample)
    if not delimiter:
        raise NotACatalogueError(
            "不是目录文件：找不到分隔的列 · not a catalogue: no columns found (fixed-width files need --mapping)"
        )
    where: dict[int, tuple[int, ...]] = {}
    rows = _csv_rows(path, encoding, line_end(head), delimiter, _width_of(sample, delimiter), where)
    return Table("", rows, where=where)


def _width_of(sample: str, delimiter: str) -> int:
    """How many cells most lines of a sample have."""
    widths = Counter(len(_cells_of(line, delimiter, strict=False)) for line in sample.splitlines()[:300])
    return widths.most_common(1)[0][0]


def _delimiter_of(sample: str) -> str:
    """The delimiter that most lines agree on; "" when none does."""
    lines = [line for line in sample.splitlines()[:300] if line.strip("\x1a ")]
    if len(lines) > 2 and len(sample) >= SAMPLE // 4:
        lines = lines[:-1]
    best, best_share = "", 0.0
    for delimiter in _DELIMITERS:
        counts = [line.count(delimiter) for line in lines]
        usual = max(set(counts), key=counts.count) if counts else 0
        share = counts.count(usual) / len(counts) if usual else 0.0
        if usual >= 1 and share * usual**0.5 > best_share:
            best, best_share = delimiter, share * usual**0.5
    return best


def _csv_rows(
    path: Path, encoding: str, end: bytes, delimiter: str, usual: int, where: dict[int, tuple[int, ...]]
) -> Iterator[Row | EvenRows]:
    csv.field_size_limit(_LONGEST_CELL)
    odd = _OddLines(delimiter, where)
    stretches = _stretches(path, encoding, end, odd)
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


def _rows_of_lines(lines: _Lines, delimiter: str, usual: int, odd: _OddLines) -> Iterator[Row]:
    """The rows of a stretch, and of what follows it where a cell goes on there."""
    reader = csv.reader(lines, delimiter=delimiter)
    while not lines.at_end:
        number = lines.given + 1
        lines.held.clear()
        try:
            cells = next(reader)
        except csv.Error:  # a cell without end, or the end of a line in the middle of one
            rows = _swallowed(lines.held, delimiter, usual, []) or [([], Finding.WRONG_COLUMNS)]
            yield from _each(rows, lines.held, number, odd)
            continue
        if lines.given > number and (rows := _swallowed(lines.held, delimiter, usual, cells)):
            yield from _each(rows, lines.held, number, odd)
            continue
        problem = odd.problem(lines.held, number, len(cells)) if odd else None
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
    rows: list[tuple[list[str], Finding | None]], lines: list[str], number: int, odd: _OddLines
) -> Iterator[Row]:
    """Rows of a line each, the first of this number."""
    for at, (line, (cells, problem)) in enumerate(zip(lines, rows, strict=False), start=number):
        yield at, cells, problem or odd.problem([line], at, len(cells))


def _cells_of(line: str, delimiter: str, *, strict: bool) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=strict), [])
    except csv.Error:
        return []
