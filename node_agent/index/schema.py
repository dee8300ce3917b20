"""Tables of the index file, and how connections to it are opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from federation.keys import Keyer
from federation.names import FOLD_VERSION, PINYIN_VERSION
from node_agent.index import key_check, postings
from node_agent.index.troubles import Trouble, UnusableIndexError, is_damage

SCHEMA_VERSION = 3

PAGE = 8192
_TABLES = """
create table rec(rid integer primary key, source int, cat int, year int, place int, flags int, digest int, code text, payload blob);
{postings}
create virtual table title using fts5(x, tokenize='ascii', content='', detail=none, columnsize=0);
create table source(id integer primary key, file text, name text, digest blob, headings text);
create table place(idx integer primary key, code text unique);
create table holdings(source int, cat int, records int, first int, last int, undated int, copies int, digitised int,
                      primary key(source, cat)) without rowid;
create table meta(name text primary key, value) without rowid;
"""
_INDEXES = "create index rec_code on rec(code);"

# terms wait in memory (bytes) and are merged once, at the end; afterwards as FTS5 has it by itself
_BUILDING = {"hashsize": 32 << 20, "automerge": 0, "crisismerge": 1_000}
_CHANGING = {"hashsize": 1 << 20, "automerge": 4, "crisismerge": 16}

FLAG_COPY, FLAG_DIGITISED = 1, 2

IMPORTED_AT = "imported_at"
"""In `meta`: when an import last wrote the index (UTC, seconds); not there in files of before it was kept."""


def create(path: Path) -> sqlite3.Connection:
    """A new, empty file for a bulk build: no journal, because a half-built file is never switched to."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"pragma page_size={PAGE}")
    connection.execute("pragma journal_mode=off")
    connection.execute("pragma synchronous=off")
    connection.execute("pragma cache_size=-65536")  # all is written in order
    connection.execute("pragma locking_mode=exclusive")
    connection.executescript(_TABLES.format(postings=postings.TABLE))
    _configure_titles(connection, _BUILDING)
    return connection


def finish(connection: sqlite3.Connection) -> None:
    """Add what is cheaper to add last, and leave the file ready for readers beside a writer."""
    connection.execute("insert into title(title) values('optimize')")
    _configure_titles(connection, _CHANGING)
    connection.executescript(_INDEXES)
    connection.execute("pragma locking_mode=normal")
    connection.execute("pragma journal_mode=wal")
    connection.close()


def _configure_titles(connection: sqlite3.Connection, settings: dict[str, int]) -> None:
    connection.executemany("insert into title(title, rank) values(?,?)", list(settings.items()))


def open_for_reading(path: Path, keyer: Keyer) -> sqlite3.Connection:
    """A read-only connection. Usable from any one thread at a time. UnusableIndexError, or OSError when the file may not
    be read.
    """
    try:
        path.open("rb").close()  # SQLite says the same of a file that is missing and one that may not be read
    except FileNotFoundError as error:
        raise UnusableIndexError(Trouble.FILE_MISSING) from error
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
    )
    _check(connection, keyer)
    connection.execute("pragma cache_size=-65536")
    connection.execute("pragma query_only=on")
    return connection


def open_for_change(path: Path, keyer: Keyer) -> sqlite3.Connection:
    """A connection for one durable transaction beside readers."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    _check(connection, keyer)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    return connection


def versions() -> dict[str, int]:
    return {"schema": SCHEMA_VERSION, "fold": FOLD_VERSION, "pinyin": PINYIN_VERSION}


def meta(connection: sqlite3.Connection) -> dict[str, Any]:
    return dict(connection.execute("select name, value from meta").fetchall())


def _check(connection: sqlite3.Connection, keyer: Keyer) -> None:
    """UnusableIndexError, and the connection closed, when the file is no whole index, or its keys were computed with other
    tables of names or under another key.
    """
    try:
        trouble = _trouble(connection, keyer)
    except sqlite3.Error as error:
        connection.close()
        if not is_damage(error, opening=True):
            raise
        raise UnusableIndexError(Trouble.FILE_DAMAGED) from error
    if trouble is not None:
        connection.close()
        raise UnusableIndexError(trouble)


def _trouble(connection: sqlite3.Connection, keyer: Keyer) -> Trouble | None:
    found = meta(connection)
    if any(found.get(name) != value for name, value in versions().items()):
        return Trouble.OTHER_VERSION
    if not {"epoch", "dictionary"} <= found.keys():
        return Trouble.FILE_DAMAGED
    return None if key_check.fits(connection, keyer, found) else Trouble.KEY_OTHER
