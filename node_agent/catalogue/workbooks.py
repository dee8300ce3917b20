"""Workbooks → tables, a sheet each; read first where a damaged one can do no harm."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import python_calamine

from node_agent.catalogue.day_zero import day_zero_of
from node_agent.catalogue.encodings import SAMPLE
from node_agent.catalogue.tables import NotACatalogueError, Row, Table

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
        head = handle.read(SAMPLE)
    return head.startswith(b"\xd0\xcf\x11\xe0") and "EncryptedPackage".encode("utf-16le") in head


def read_workbook(path: Path) -> list[Table]:
    """The sheets of a workbook; NotACatalogueError when it can not be read."""
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
    day_zero = day_zero_of(path)
    return [Table(name, _sheet_rows(book, name), day_zero=day_zero) for name in book.sheet_names]


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
