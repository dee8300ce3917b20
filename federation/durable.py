"""Small files that must be whole and must stay: secrets that are made once, folders whose entries are on disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


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


def sync(path: Path) -> None:
    """Have a file, or the entries of a folder, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
