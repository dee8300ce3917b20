"""Files into the backup, each read back from the disk: SQLite files page by page from a connection, any other as bytes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from federation.process.durable import sync
from node_agent.backup.manifest import Copied
from node_agent.backup.refusals import BackupRefusedError, Why

PAGES = 4_096
"""Pages copied at a step, 16 to 32 MB; in one step as fast, but nobody would see how far it is."""

_PIECE = 1 << 20
_TRIES = 3
_NOT_COPIED = re.compile(
    r"CURRENT(\.new)?|backup\.json|(import|agent)\.lock|.*\.key\.[0-9]+\.new|.*\.sqlite(-wal|-shm|-journal|\.lock|\..*\.spill)?",
    re.DOTALL,
)
"""Of the folder itself: what is written anew here (CURRENT, the SQLite files, what a backup says of itself), locks, and what somebody
is about to put in its place. Below it SQLite files are files like others.
"""

_BY_ROWS = ("documents", "deliverables")
"""Folders of files that rows name, each there before its row."""

_UNFINISHED = (".part", ".partial")
_NAMED_BY_CONTENT = re.compile(
    r"(?:documents/[0-9a-f]{2}/([0-9a-f]{64})\.pdf|deliverables/[0-9a-f]{2}/([0-9a-f]{64}))"
)

Advance = Callable[[int], None]
"""Told of bytes that were copied."""


def files_below(folder: Path, left_out: list[str]) -> Iterator[Path]:
    """The files to be copied as bytes, relative to the folder: what rows of the SQLite files name first. A link to a file is
    followed; one to a folder is not, and noted in `left_out`: originals may be linked to a store of their own.
    """
    for path in sorted(_listed(folder), key=lambda one: (one.name not in _BY_ROWS, one.name)):
        if path.is_dir() or not _NOT_COPIED.fullmatch(path.name):
            for one in _walk(path, folder, left_out):
                if path.name not in _BY_ROWS or one.suffix not in _UNFINISHED:
                    yield one.relative_to(folder)


def _walk(path: Path, folder: Path, left_out: list[str]) -> Iterator[Path]:
    if path.is_symlink() and not path.is_file():
        left_out.append(str(path.relative_to(folder)))
    elif path.is_dir():
        for below in sorted(_listed(path)):
            yield from _walk(below, folder, left_out)
    elif path.is_file():
        yield path


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise BackupRefusedError(Why.UNREADABLE, folder, error.strerror) from error


def size_of(path: Path) -> int:
    """Bytes of a file; 0 when it is gone by now."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise BackupRefusedError(Why.UNREADABLE, path, error.strerror) from error


def copy_file(source: Path, target: Path, advance: Advance) -> str | None:
    """The SHA-256 of what was copied; None when the file is gone by now. BackupRefusedError when it kept changing."""
    for _try in range(_TRIES):
        digest, copied = hashlib.sha256(), 0
        try:
            opened = source.open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BackupRefusedError(Why.UNREADABLE, source, error.strerror) from error
        with opened as reading:
            before = os.fstat(reading.fileno())
            if not stat.S_ISREG(before.st_mode):
                return None
            with writing(target) as write:
                # no further than it was long: somebody might write as fast as it is read
                while copied <= before.st_size and (piece := _piece(reading, source)):
                    digest.update(piece)
                    write(piece)
                    advance(len(piece))
                    copied += len(piece)
            after = os.fstat(reading.fileno())
        if (before.st_size, before.st_mtime_ns) == (
            after.st_size,
            after.st_mtime_ns,
        ) and copied == after.st_size:
            os.utime(
                target, ns=(after.st_atime_ns, after.st_mtime_ns)
            )  # what nobody names is swept by its age
            return digest.hexdigest()
        advance(-copied)
    raise BackupRefusedError(Why.CHANGING, source)


def _piece(reading: IO[bytes], source: Path) -> bytes:
    try:
        return reading.read(_PIECE)
    except OSError as error:
        raise BackupRefusedError(Why.UNREADABLE, source, error.strerror) from error


@contextlib.contextmanager
def writing(target: Path) -> Iterator[Callable[[bytes], object]]:
    """A file for its owner alone, on the disk when the block has ended."""
    with (
        naming_trouble(target),
        os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file,
    ):
        yield file.write
        file.flush()
        os.fsync(file.fileno())


def copy_store(reading: sqlite3.Connection, target: Path, advance: Advance) -> None:
    """What a connection reads, as a SQLite file that nobody has open."""
    (page,) = reading.execute("pragma page_size").fetchone()
    before = 0

    def step(_status: int, remaining: int, total: int) -> None:
        nonlocal before
        advance((total - remaining - before) * page)
        before = total - remaining

    with naming_trouble(target):
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.execute("pragma journal_mode=off")  # half a copy is never kept
            copy.execute("pragma synchronous=off")  # it is on the disk below
            reading.backup(copy, pages=PAGES, progress=step)
        sync(target)


@contextlib.contextmanager
def naming_trouble(target: Path) -> Iterator[None]:
    """Around writing the backup: a full disk and any other trouble of it by name."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        damaged = code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
        why = (
            Why.NO_SPACE if code == sqlite3.SQLITE_FULL else Why.STORE_DAMAGED if damaged else Why.UNWRITABLE
        )
        raise BackupRefusedError(why, target.name, str(error)) from error
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise BackupRefusedError(
            Why.NO_SPACE if full else Why.UNWRITABLE, target.name, error.strerror
        ) from error


def checked(copy: Path, name: str, expected: str) -> Copied:
    """A copied file as it is on the disk. `expected` is the digest of what was read, "" = a SQLite file, which is looked through
    instead. BackupRefusedError.
    """
    if not expected:
        _look_through(copy)
    with naming_trouble(copy), copy.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # from the disk, not from memory
        digest, size = digest_of(file)
    if expected and digest != expected:
        raise BackupRefusedError(Why.COPY_DIFFERS, name)
    return Copied(name, size, digest)


def digest_of(file: IO[bytes]) -> tuple[str, int]:
    """SHA-256 and length of what is left of a file."""
    digest, size = hashlib.sha256(), 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def open_copy(copy: Path) -> sqlite3.Connection:
    """A SQLite file that nobody writes, read so that nothing is left beside it."""
    return sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def _look_through(copy: Path) -> None:
    """BackupRefusedError when SQLite finds a page of it damaged."""
    try:
        with contextlib.closing(open_copy(copy)) as reading:
            ((said,), *_more) = reading.execute("pragma quick_check(1)").fetchall()
    except sqlite3.Error as error:
        raise BackupRefusedError(Why.STORE_DAMAGED, copy.name, str(error)) from error
    if said != "ok":
        raise BackupRefusedError(Why.STORE_DAMAGED, copy.name)


def is_altered(name: str, sha256: str) -> bool:
    """Whether a document is not what its name says."""
    found = _NAMED_BY_CONTENT.fullmatch(name)
    return found is not None and sha256 not in found.groups()
