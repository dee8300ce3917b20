"""What the operating system refuses, in words for people: the file, why, and, where permission is missing, whose file it is."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def said(error: OSError) -> str:
    """The file an error names, why, and what to do about a missing permission."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}{whose(error)}"


def whose(error: OSError) -> str:
    """Of a missing permission whose the file is and who asks for it, where these are two; else ""."""
    if not isinstance(error, PermissionError) or not error.filename:
        return ""
    owner = _owner(Path(os.fsdecode(error.filename)))
    if owner is None or owner == os.geteuid():
        return ""
    theirs, ours = _name(owner), _name(os.geteuid())
    return (
        f"；文件属于 {theirs}，当前用户是 {ours}，请以 {theirs} 的身份运行"
        f" · it belongs to {theirs}, and this runs as {ours}: run it as {theirs}"
    )


def _owner(path: Path) -> int | None:
    """Of the file, or of the nearest folder above it that can be looked at."""
    for one in (path, *path.absolute().parents):
        try:
            return one.stat().st_uid
        except OSError:
            continue
    return None


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
