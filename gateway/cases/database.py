"""The database under the store: a SQLite file of one gateway process, or PostgreSQL that replicas share; how it is opened,
and its troubles by name.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from federation.process.durable import keep_private
from federation.reasons import Reason, Refusal
from gateway.cases import migrate

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",  # NORMAL may lose the last commits when the power goes
    "busy_timeout=10000",
    "wal_autocheckpoint=4000",
)
_LIMITS = "-c statement_timeout=10000 -c idle_in_transaction_session_timeout=5000"
# All writing is by keys that come as one JSON parameter; how many, the planner can only guess, and a young table has no
# statistics: it must not read whole tables for a handful of keys.
_BY_INDEX = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"


class StoreError(Exception):
    """The store can not be used; the message says what to do."""


class Database:
    """One database. There is one connection that writes, for one thread; reading takes another from the pool."""

    def __init__(self, url: str) -> None:
        self.is_exclusive = url.startswith("sqlite")
        self._lock = _locked(_file(url)) if self.is_exclusive else None
        keep_names_private(url)
        self.engine = _sqlite(url) if self.is_exclusive else _postgresql(url)
        self._writing: Connection | None = None

    def prepare(self) -> None:
        """Bring a SQLite file to this version's tables; StoreError when PostgreSQL's are not: replicas never migrate it."""
        try:
            self._prepare()
        except SQLAlchemyError as error:
            raise StoreError(
                f"案件库无法使用 · the case store can not be used: {type(error).__name__}"
            ) from error

    def _prepare(self) -> None:
        if self.is_exclusive:
            migrate.upgrade(self.engine)
            return
        found, wanted = migrate.current(self.engine), migrate.NEWEST
        if found != wanted:
            raise StoreError(
                f"案件库版本为 {found or '空'}，需要 {wanted}：请运行 lantai-gateway db upgrade"
                f" · the case store is at revision {found or 'none'}, {wanted} is needed: run lantai-gateway db upgrade"
            )

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction on the connection that writes; the driver's errors as they are."""
        connection = self._connection()
        with connection.begin():
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection of its own that only reads; the driver's errors as they are."""
        with self.engine.connect().execution_options(reads=True) as connection:
            yield connection

    def _connection(self) -> Connection:
        if self._writing is not None and self._writing.invalidated:
            self._writing.close()
            self._writing = None
        if self._writing is None:
            self._writing = self.engine.connect()
            if not self.is_exclusive:
                self._writing.exec_driver_sql(_BY_INDEX)
                self._writing.commit()
        return self._writing

    def close(self) -> None:
        if self._writing is not None:
            self._writing.close()
        self.engine.dispose()
        if self._lock is not None:
            self._lock.close()


def keep_names_private(url: str) -> None:
    """Have a SQLite store that only its owner may read, before anything opens it; StoreError when it can not be had."""
    if not url.startswith("sqlite"):
        return
    path = _file(url)
    try:
        keep_private(path)
    except OSError as error:
        raise StoreError(
            f"案件库 {path} 无法使用 · the case store can not be used: {error.strerror}"
        ) from error


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def _postgresql(url: str) -> Engine:
    return create_engine(
        url,
        poolclass=QueuePool,
        pool_size=4,
        hide_parameters=True,  # an error's text would hold the row, and with it names
        connect_args={"application_name": "lantai-gateway", "options": _LIMITS},
    )


def _sqlite(url: str) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=4,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": 10},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.text_factory = _text
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # a deferred transaction that reads first and writes then fails at once and ignores busy_timeout
        connection.exec_driver_sql(
            "BEGIN" if connection.get_execution_options().get("reads") else "BEGIN IMMEDIATE"
        )

    return engine


_text = partial(str, encoding="utf-8", errors="surrogateescape")
"""Text of a file. A damaged one is given as it can be, for whoever decodes the row to refuse it: the driver would refuse
the whole answer, with all the other rows in it.
"""


def _locked(path: Path) -> IO[bytes]:
    """One gateway process for a file: a stopped second writer would hold the database's own lock."""
    try:
        lock = path.with_suffix(path.suffix + ".lock").open("wb")
    except OSError as error:
        raise StoreError(
            f"案件库 {path} 无法使用 · the case store can not be used: {error.strerror}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise StoreError(
            f"案件库 {path} 正被另一网关进程使用 · the case database is in use by another gateway process;"
            " use PostgreSQL for more than one replica"
        ) from error
    return lock


# troubles ------------------------------------------------------------------------------------------------------


def is_race(error: BaseException | None) -> bool:
    """Whether another replica wrote the same first: the same again may well succeed."""
    return isinstance(error, IntegrityError) or (
        isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", "") in {"40001", "40P01"}
    )


def is_unavailable(error: BaseException | None) -> bool:
    """Whether the database is in trouble, whatever was asked of it: locked, full, gone."""
    if isinstance(error, PoolTimeoutError):
        return True
    return isinstance(error, DBAPIError) and not isinstance(error, DataError) and not is_race(error)


def named(error: Exception) -> Exception:
    """What whoever waits is told: the database's own troubles as one reason, anything else as it is."""
    if not is_unavailable(error) and not is_race(error):
        return error
    refusal = Refusal(Reason.STORE_UNAVAILABLE, retry_after_s=5.0)
    refusal.__cause__ = error
    return refusal


@contextlib.contextmanager
def naming_troubles() -> Iterator[None]:
    """Raises what `named` says."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        raise named(error) from error
