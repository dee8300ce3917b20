"""From which day a workbook counts its days, which the library that reads its cells does not say.

Workbooks begin with 1900, those of an old Macintosh with 1904. It matters for days kept as plain numbers; the library
itself reads a cell that is formatted as a date.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date
from itertools import islice
from pathlib import Path
from typing import IO

from node_agent.catalogue.tables import DAY_ZERO, DAY_ZERO_1904

_COMPOUND_FILE = b"\xd0\xcf\x11\xe0"
_DAMAGED = (OSError, KeyError, IndexError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)


def day_zero_of(path: Path) -> date:
    """Day 0 of an XLS or XLSX workbook that can be read; of any other, and where it does not say, the usual one."""
    from_1904 = False
    with contextlib.suppress(*_DAMAGED), path.open("rb") as handle:
        if handle.read(len(_COMPOUND_FILE)) == _COMPOUND_FILE:
            from_1904 = _xls_from_1904(_CompoundFile(handle))
        else:
            from_1904 = _xlsx_from_1904(handle)
    return DAY_ZERO_1904 if from_1904 else DAY_ZERO


_WORKBOOK_PART = "xl/workbook.xml"
_DATE_1904 = re.compile(rb"""<(?:\w+:)?workbookPr\s[^>]*\bdate1904\s*=\s*["'](?:1|true|on)["']""")


def _xlsx_from_1904(handle: IO[bytes]) -> bool:
    """The property of the workbook (ECMA-376 part 1, 18.2.28), which stands before its list of sheets."""
    with zipfile.ZipFile(handle) as archive, archive.open(_WORKBOOK_PART) as part:
        return _DATE_1904.search(part.read(_NEAR)) is not None


_NEAR = 64 * 1024  # bytes at the beginning; workbooks say it among the first thousand
_DATE_MODE, _END_OF_GLOBALS = 0x22, 0x0A


def _xls_from_1904(file: _CompoundFile) -> bool:
    """The record Date1904 (MS-XLS) among the first of the workbook's stream."""
    stream = file.beginning_of(("Workbook", "Book"), _NEAR)
    at = 0
    while at + 6 <= len(stream):
        kind, length, value = struct.unpack_from("<3H", stream, at)
        if kind == _DATE_MODE:
            return bool(value == 1)
        if kind == _END_OF_GLOBALS:
            break
        at += 4 + length
    return False


_SECTOR = 512  # bytes, in the version of compound files that workbooks are kept in
_MARKS = 0xFFFFFFFA  # sector numbers from here on are marks: the end of a chain, a free sector
_MOST_SECTORS = 1 << 16  # of a chain: a damaged one may go round
_ENTRY = 128  # bytes of a directory entry
_SMALLEST = 4096  # bytes; smaller streams are kept in another way, and workbooks are padded to this


class _CompoundFile:
    """The streams of a compound file (MS-CFB): a little file system of sectors, each chain of them kept in a table.

    Chains are not followed beyond the first 7 MB, whose table the header lists: the stream looked for begins with the file,
    and the first sector of the directory names it.
    """

    def __init__(self, handle: IO[bytes]) -> None:
        handle.seek(0)
        header = handle.read(_SECTOR)
        self._handle = handle
        (self._directory,) = struct.unpack_from("<I", header, 48)
        self._tables = struct.unpack_from("<109I", header, 76)  # the sectors of the table of chains

    def beginning_of(self, names: tuple[str, ...], most: int) -> bytes:
        """At most so many bytes of the first stream of such a name; nothing when there is none."""
        for sector in self._chain(self._directory):
            for at in range(0, len(sector), _ENTRY):
                name, length = struct.unpack_from("<64sH", sector, at)
                if name[: max(0, length - 2)].decode("utf-16le", "replace") in names:
                    first, size = struct.unpack_from("<2I", sector, at + 116)
                    sectors = islice(self._chain(first), most // _SECTOR)
                    return b"".join(sectors) if size >= _SMALLEST else b""
        return b""

    def _sector(self, number: int) -> bytes:
        self._handle.seek((number + 1) * _SECTOR)  # the header has one for itself
        return self._handle.read(_SECTOR)

    def _chain(self, number: int) -> Iterator[bytes]:
        in_a_table = _SECTOR // 4
        for _turn in range(_MOST_SECTORS):
            if number >= _MARKS:
                return
            yield self._sector(number)
            table = self._sector(self._tables[number // in_a_table])
            (number,) = struct.unpack_from("<I", table, number % in_a_table * 4)
