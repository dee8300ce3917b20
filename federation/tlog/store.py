"""The file of an evidence log: entries, tiles, checkpoints and stamps in one SQLite database.

Commits are durable before they return (WAL, synchronous=FULL); erased bytes are overwritten (secure_delete). Readers open
the file read-only beside the one writer.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from federation.process.durable import keep_private
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.merkle import HASH_BYTES
from federation.tlog.tiles import TILE_WIDTH

SCHEMA_VERSION = 1
APPLICATION_ID = 0x4C544C47  # "LTLG"
BUSY_S = 5.0
_LEVEL_SHIFT = 48  # numbers of tiles stay far below
_LEVEL_0 = (1 << _LEVEL_SHIFT) - 1
_TABLES = """
create table meta(key text primary key, value text not null) strict, without rowid;
create table entries(idx integer primary key, request text not null, id text not null, kind text not null,
  at integer not null, salt blob, event blob, commitment blob, unique(request, id)) strict;
create table tiles(place integer primary key, data blob not null) strict;
create table checkpoints(size integer primary key, at integer not null, note text not null) strict;
create table stamps(seq integer primary key, size integer not null, at integer not null, name text not null,
  kind text not null, receipt blob not null) strict;
create index stamps_by_kind on stamps(kind);
"""
"""An erased entry has lost salt and event and keeps its commitment.

The one index is by request first: events of a request are neighbours in it, so a batch touches few of its pages (an index
on random identifiers made a batch of 100 write four times the pages).
"""


@contextlib.contextmanager
def naming_trouble() -> Iterator[None]:
    """Turn what SQLite or the system says into a flaw: damaged, or not available (full, locked, unreadable, another's)."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise EvidenceError(Flaw.LOG_UNAVAILABLE, str(error)) from error
    except OSError as error:
        raise EvidenceError(Flaw.LOG_UNAVAILABLE, error.strerror or "") from error
    except sqlite3.DatabaseError as error:
        raise EvidenceError(Flaw.LOG_DAMAGED, str(error)) from error


def check_version(connection: sqlite3.Connection) -> None:
    """EvidenceError unless the file is an evidence log of this version."""
    (application,) = connection.execute("pragma application_id").fetchone()
    (version,) = connection.execute("pragma user_version").fetchone()
    if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
        raise EvidenceError(Flaw.LOG_FOREIGN, f"application {application}, version {version}")


def open_reading(path: Path) -> sqlite3.Connection:
    """A connection that can only read. Raises EvidenceError when there is no log of this version."""
    if not path.is_file():
        raise EvidenceError(Flaw.LOG_FOREIGN, f"no file {path.name}")
    with naming_trouble():
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            check_version(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def open_writing(path: Path) -> sqlite3.Connection:
    """A connection that reads and writes; makes the file, for its owner alone, when there is none."""
    with naming_trouble():
        keep_private(path)
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("pragma journal_mode=wal")
            connection.execute("pragma synchronous=full")
            connection.execute("pragma secure_delete=on")
            connection.execute("pragma cache_size=-16000")
            connection.execute(
                "pragma wal_autocheckpoint=4000"
            )  # 16 MB: pages of the id index are written back once
            connection.execute("begin immediate")
            (tables,) = connection.execute("select count(*) from sqlite_schema").fetchone()
            if not tables:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"pragma application_id={APPLICATION_ID}")
                connection.execute(f"pragma user_version={SCHEMA_VERSION}")
            connection.execute("commit")
            check_version(connection)
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "immediate") -> Iterator[None]:
    """All or nothing; durable when it has returned."""
    with naming_trouble():
        connection.execute(f"begin {kind}")
        try:
            yield
            connection.execute("commit")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("rollback")
            raise


class SqliteTiles:
    """Tiles of a log's file; the connection's transaction is the caller's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute

    def tile(self, level: int, number: int) -> bytes:
        """One tile, b"" when there is none."""
        row = self._run(
            "select data from tiles where place = ?", ((level << _LEVEL_SHIFT) | number,)
        ).fetchone()
        return row[0] if row else b""

    def put_tile(self, level: int, number: int, data: bytes) -> None:
        """Write one tile whole."""
        self._run(
            "insert into tiles(place, data) values(?, ?) on conflict(place) do update set data = excluded.data",
            ((level << _LEVEL_SHIFT) | number, data),
        )

    def size(self) -> int:
        """How many leaves the tiles of level 0 hold."""
        row = self._run(
            "select place, length(data) from tiles where place <= ? order by place desc limit 1", (_LEVEL_0,)
        ).fetchone()
        return row[0] * TILE_WIDTH + row[1] // HASH_BYTES if row else 0

    def addresses(self) -> Iterator[tuple[int, int, int]]:
        """Level, number and bytes of every tile there is."""
        for place, length in self._run("select place, length(data) from tiles order by place"):
            yield place >> _LEVEL_SHIFT, place & _LEVEL_0, length
