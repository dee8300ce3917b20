"""Files of people that nothing names: left by a process that died after it began to write one and before a row named it."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

FORGOTTEN_S = 3600.0
"""A file that nothing names after this long was left behind: writing and naming one takes less than a second."""


def sweep(
    folder: Path,
    named: Callable[[], set[str]],
    nothing_is_kept: AbstractContextManager[object],
    older_than_s: float,
) -> int:
    """Remove the files below a folder whose names are not among `named()`, if they are that old; returns how many. Looking through
    the folder holds up nobody: only what is no row's is looked at again, and removed, while `nothing_is_kept`. OSError.
    """
    before, removed = time.time() - older_than_s, 0
    names = named()
    left = [one for one in folder.rglob("*") if one.name not in names and _is_old(one, before)]
    if not left:
        return 0
    with nothing_is_kept:
        names = named()
        for path in left:
            if path.name not in names and _is_old(path, before):
                path.unlink()
                removed += 1
    return removed


def _is_old(path: Path, before: float) -> bool:
    """Whether it is a file that was last written before then; one that is gone is not."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_mtime < before
