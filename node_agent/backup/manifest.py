"""What a backup says of itself: of what moment it is, and size and digest of each file; `backup.json` in it."""

from __future__ import annotations

from pathlib import Path

import msgspec

NAME = "backup.json"
VERSION = 1


class Copied(msgspec.Struct, frozen=True):
    """One file: its path below the folder, bytes, and SHA-256 (hex)."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """`at` is the moment (RFC 3339, UTC) as of which all SQLite files stand. `outside` are settings whose files lie elsewhere and
    are not in the backup, `left_out` folders that are links to elsewhere, `flaws` files that were missing or altered already.
    """

    at: str
    archive: str
    software: str
    index: str
    files: tuple[Copied, ...]
    left_out: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()
    version: int = VERSION

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in self.files)

    def write(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def read(folder: Path) -> Manifest | None:
    """Of a folder that is a backup, or was restored from one and not yet put in order; None where there is none that can be read."""
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeError):
        return None
