"""All SQLite files of a data folder as they stood at one moment, while others go on writing them.

What the stores say of one another holds only at one moment: a document's number stands in one file, its status index and what is
fetched of it in another, the decision in a third and the event in a fourth. Copied one after the other, an archive restored from
them might give a number anew under which another applicant's document is kept. So for some milliseconds nobody may write any of
them, and each is read as of then, by a read transaction that WAL lets stand while others write (https://sqlite.org/wal.html#concurrency).

What is copied is what a process killed at that moment would have left, which the agent is made to start over.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from node_agent.backup.refusals import BackupRefusedError, Why
from node_agent.index.folder import DataFolder
from node_agent.index.troubles import UnusableIndexError

LOCK_WITHIN_S = 0.25
"""How long one file's writer is waited for while the others are held: far less than the five seconds that writers wait for us."""

WAIT_S = 30.0
"""How long the moment is tried for in all; an action's transaction takes milliseconds."""

_SWITCHES = 20  # an import makes a new index in seconds; opening takes a millisecond


@dataclass(frozen=True)
class Moment:
    """`stores` are the connections that read each file as of `at`, by its name, in the order they are to be copied: the index, by far
    the largest, last. `index` is the name CURRENT had, "" = there is no index.
    """

    at: datetime
    stores: dict[str, sqlite3.Connection]
    index: str


@contextlib.contextmanager
def one_moment(folder: Path) -> Iterator[Moment]:
    """Close each connection once its file is copied: until then the file keeps what it replaces. BackupRefusedError."""
    ends_at = time.monotonic() + WAIT_S
    with contextlib.ExitStack() as stack:
        while (taken := _taken(folder, stack)) is None:
            if time.monotonic() >= ends_at:
                raise BackupRefusedError(Why.STORE_BUSY)
            time.sleep(random.uniform(0.02, 0.1))  # noqa: S311 - jitter, not a secret
        yield taken


def stores_of(folder: Path) -> list[Path]:
    """The SQLite files of a data folder but for the index, in one order for all who lock them."""
    return sorted(path for path in folder.glob("*.sqlite") if not path.name.startswith("index."))


def _taken(folder: Path, stack: contextlib.ExitStack) -> Moment | None:
    """None, and nothing held, when somebody is writing."""
    with contextlib.ExitStack() as reading:
        with contextlib.ExitStack() as writing:
            for path in stores_of(folder):
                if _transaction(path, writing, "begin immediate") is None:
                    return None
            at = datetime.now(UTC)
            stores: dict[str, sqlite3.Connection] = {}
            for path in stores_of(folder):
                connection = _transaction(path, reading, "begin")
                if connection is None:
                    return None
                stores[path.name] = connection
            index = _index(folder, reading)
        if index is not None:
            stores[index[0]] = index[1]
        stack.push(reading.pop_all())
    return Moment(at, stores, "" if index is None else index[0])


def _index(folder: Path, stack: contextlib.ExitStack) -> tuple[str, sqlite3.Connection] | None:
    """The index CURRENT names, being read; None before the first import."""
    data = DataFolder(folder)
    for _try in range(_SWITCHES):
        stamp = data.pointer_stamp()
        try:
            path = data.current()
        except UnusableIndexError as error:
            raise BackupRefusedError(Why.INDEX_UNUSABLE, detail=str(error)) from error
        if path is None:
            return None
        with contextlib.ExitStack() as trying:
            try:
                connection = _transaction(path, trying, "begin")
            except BackupRefusedError:
                if data.pointer_stamp() == stamp:
                    raise
                continue
            # had another file taken over, this one's log of newest pages might have been removed before it was opened
            if connection is not None and data.pointer_stamp() == stamp:
                stack.push(trying.pop_all())
                return path.name, connection
    raise BackupRefusedError(Why.STORE_BUSY)


def _transaction(path: Path, stack: contextlib.ExitStack, begin: str) -> sqlite3.Connection | None:
    """A connection in a transaction, closed with the stack; None when another process is writing."""
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=LOCK_WITHIN_S
        )
        stack.callback(connection.close)
        connection.execute(begin)
        connection.execute(
            "select count(*) from sqlite_schema"
        ).fetchone()  # from here on it is read as it is now
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return None
        damaged = code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
        raise BackupRefusedError(
            Why.STORE_DAMAGED if damaged else Why.UNREADABLE, path.name, str(error)
        ) from error
    return connection
