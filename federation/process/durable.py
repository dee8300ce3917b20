"""Files that must be whole, must stay, or are for their owner alone: secrets that are made once, lists that are put in place of
themselves, databases with names in them, folders whose entries are on disk.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Collection
from pathlib import Path

_UNFINISHED = re.compile(r"(?P<file>.+)\.[0-9]+\.new")
_WRITTEN_WITHIN_S = 86_400.0
"""Long after any writer, which takes milliseconds, has ended or was killed."""


def write_secret(path: Path, secret: bytes) -> None:
    """Write a secret file with mode 0600, whole or not at all; the first writer wins."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(handle, secret)
        os.fsync(handle)
    finally:
        os.close(handle)
    with contextlib.suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()


def put(path: Path, content: bytes, mode: int) -> None:
    """Put content in the place of a file, whole or not at all; the file keeps its mode and its owner, a new one gets `mode`. OSError
    when it can not be, and then the file is as it was.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        old = path.stat()
    except FileNotFoundError:
        old = None
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if old is not None and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                try:
                    os.chown(fresh, old.st_uid, old.st_gid)  # whoever reads it must not be shut out
                except OSError as error:
                    error.filename = os.fspath(path)  # it is that one's owner who may
                    raise
            os.fchmod(handle, mode if old is None else stat.S_IMODE(old.st_mode))
            file.flush()
            os.fsync(handle)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync(path.parent)


def remove_unfinished(folder: Path, of: Collection[str] = ()) -> None:
    """Remove what `put` and `write_secret` left in a folder when they were killed a day ago or before: of the files so named, or of
    any where none is named.
    """
    for path in folder.glob("*.new"):
        begun = _UNFINISHED.fullmatch(path.name)
        if begun is None or (of and begun["file"] not in of):
            continue
        with contextlib.suppress(FileNotFoundError):  # it has its place now
            if time.time() - path.stat().st_mtime > _WRITTEN_WITHIN_S:
                path.unlink()


def keep_private(path: Path) -> None:
    """Have a SQLite file before SQLite makes it, for its owner alone (0600), and take from it and its logs what an older version let
    others do. OSError when it can not be had. SQLite gives new logs the mode of the file.
    """
    if not path.exists():  # closing one that SQLite has open here would let its locks go, fcntl(2)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    for one in (path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm"))):
        with contextlib.suppress(FileNotFoundError):
            if one.stat().st_mode & 0o077:
                one.chmod(0o600)


def sync(path: Path) -> None:
    """Have a file, or the entries of a folder, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
