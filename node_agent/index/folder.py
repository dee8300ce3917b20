"""The data folder of an archive: which file is the index now, and how another one takes its place.

CURRENT                 names the index file; replaced by rename, so that it names the old or the new one, never neither
index.<epoch>.sqlite    the index
index.key               32 random bytes under which the matching keys are computed; never leaves the archive, and is made
                        only where there is no index yet
federation.key          shared by the archives of a federation: event fingerprints
import.lock             held by the one importer
agent.lock              held by the one agent that serves
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from federation.process.durable import remove_unfinished, sync, write_secret
from node_agent.index.troubles import Trouble, UnusableIndexError

POINTER = "CURRENT"
LOCK, AGENT_LOCK = "import.lock", "agent.lock"
INDEX_KEY = "index.key"
FEDERATION_KEY = "federation.key"

_KEY_BYTES = 32
_INDEX_FILE = re.compile(r"index\.[0-9]+\.sqlite")
_MADE = re.compile(
    rf"(?P<index>{_INDEX_FILE.pattern})(-wal|-shm|-journal|(?P<spill>\.[0-9]+\.(keys|owners)\.spill))?"
)
"""An index with what SQLite keeps beside it, and the parts of one that is being built (`builder.py`)."""

_STORE = re.compile(r"[a-z]+\.sqlite(-wal|-shm|-journal)?")
"""Another store of this folder, with what SQLite keeps beside it."""

_SECRETS = (INDEX_KEY, FEDERATION_KEY, "messenger.key")
"""The secrets of this folder."""


class BusyError(Exception):
    """Another import is running in this data folder."""


class DataFolder:
    """A data folder; made on first use."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def current(self) -> Path | None:
        """The index file CURRENT names, or None before the first import; UnusableIndexError when it names none."""
        try:
            name = (self.path / POINTER).read_text("ascii").strip()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise UnusableIndexError(Trouble.POINTER_DAMAGED) from error
        if not _INDEX_FILE.fullmatch(name):
            raise UnusableIndexError(Trouble.POINTER_DAMAGED)
        return self.path / name

    def pointer_stamp(self) -> int:
        """Changes whenever another index file takes over; 0 before the first import. Costs one stat."""
        try:
            return os.stat(self.path / POINTER).st_mtime_ns  # noqa: PTH116 - the cheap call, once per search
        except FileNotFoundError:
            return 0

    def file_for(self, epoch: int) -> Path:
        return self.path / f"index.{epoch}.sqlite"

    def switch_to(self, built: Path) -> None:
        """Make a finished file the index: durable on return, and never half done."""
        sync(built)
        fresh = self.path / f"{POINTER}.new"
        fresh.write_text(built.name + "\n", "ascii")
        sync(fresh)
        fresh.replace(self.path / POINTER)
        sync(self.path)

    def sweep(self) -> None:
        """Remove what a killed import or an earlier index left behind, and secrets whose writing was killed a day ago or before;
        nothing else, for others keep files here too. Open readers keep their file until they close it.

        UnusableIndexError, and nothing is removed, when CURRENT names no file that is there: another may be all that is
        left of the index.
        """
        current = self.current()
        if current is not None and not current.exists():
            raise UnusableIndexError(Trouble.FILE_MISSING)
        keep = current.name if current is not None else ""
        for path in self.path.iterdir():
            made = _MADE.fullmatch(path.name)
            stale = made is not None and (made["index"] != keep or made["spill"] is not None)
            if stale or path.name == f"{POINTER}.new":
                path.unlink(missing_ok=True)
        remove_unfinished(self.path, _SECRETS)

    @contextlib.contextmanager
    def import_lock(self) -> Iterator[None]:
        """Hold the folder for one import; BusyError when another process has it. Freed by the kernel on any death."""
        with self._locked(LOCK):
            yield

    @contextlib.contextmanager
    def agent_lock(self) -> Iterator[None]:
        """Hold the folder for the one agent that serves it; BusyError when another process does: two would send each message twice,
        and make documents of one order at once. Commands go beside it. Freed by the kernel on any death. OSError where nothing can
        be locked.
        """
        with self._locked(AGENT_LOCK):
            yield

    def is_served(self) -> bool:
        """Whether an agent holds the folder now. Asked by trying its lock: an agent that starts in that very microsecond would be told
        that another one runs.
        """
        try:
            with (self.path / AGENT_LOCK).open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # none was ever started here, or the file is another user's
            return False
        return False

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self.make()
        with _opened(self.path / name) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError from error
            except OSError as error:  # a file system without locks: nobody else is at work
                raise OSError(error.errno, error.strerror, str(self.path / name)) from error
            yield

    def check_access(self) -> None:
        """PermissionError that names the first file of the index or of another store that this user can not use, as when an
        import ran as another. Else it would show in the middle of the work. What nobody uses may be anybody's: a store's copy
        under another ending, an index that CURRENT does not name.
        """
        current = self.current()
        for path in sorted(self.path.glob("*")):
            made = _MADE.fullmatch(path.name)
            if _STORE.fullmatch(path.name):
                wanted = os.R_OK | os.W_OK
            elif path.name in (POINTER, INDEX_KEY, FEDERATION_KEY) or (
                made is not None and current is not None and made["index"] == current.name
            ):
                wanted = os.R_OK
            else:
                continue
            if not os.access(path, wanted, effective_ids=True) and path.exists():  # else it went meanwhile
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def index_key(self) -> bytes:
        """The key of the matching keys, made where there is no index yet: under a new one an index that is there would find
        nothing. UnusableIndexError when it is missing or cut short.
        """
        path = self.path / INDEX_KEY
        if not path.exists():
            if self.current() is not None:
                raise UnusableIndexError(Trouble.KEY_MISSING)
            self.make()
            write_secret(path, secrets.token_bytes(_KEY_BYTES))
        key = path.read_bytes()
        if len(key) < _KEY_BYTES:
            raise UnusableIndexError(Trouble.KEY_OTHER)
        return key

    def federation_key(self) -> bytes | None:
        """The federation's fingerprint key, or None when the archive has not joined one."""
        try:
            return (self.path / FEDERATION_KEY).read_bytes()
        except FileNotFoundError:
            return None


def _opened(lock: Path) -> IO[bytes]:
    """A file to lock, made where there is none. One that was made by another user, as when an agent was once tried out by root, is
    locked all the same: local file systems do not ask for the right to write.
    """
    try:
        return lock.open("a+b")
    except PermissionError:
        return lock.open("rb")


def imported_at(path: Path, told: float) -> float:
    """When an import last wrote the index, as a wall-clock time; its age goes into the manifest, and onto no-record notes.

    It is what the index tells of itself, for the file's own time is that of a copy: a backup put back is not of today. Only
    where it tells nothing (0), the time of the file. An import that finds nothing changed does not move it. FileNotFoundError.
    """
    newest = path.stat().st_mtime
    if told:
        return min(told, time.time())
    wal = path.with_name(path.name + "-wal")
    with contextlib.suppress(FileNotFoundError):
        newest = max(newest, wal.stat().st_mtime) if wal.stat().st_size else newest
    return min(newest, time.time())
