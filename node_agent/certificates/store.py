"""What this archive has issued: a number for each decision, the bytes under it, and whether it still stands.

Number and bytes are durable before anything is handed on. A decision has one number for ever and a number one document;
the bytes are files named by their SHA-256, the rows lie in certificates.sqlite. Any process of the archive may open it.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from federation.process.durable import sync
from federation.reasons import Reason, Refusal
from node_agent.certificates import left_behind
from node_agent.certificates.left_behind import FORGOTTEN_S

FILE, FOLDER = "certificates.sqlite", "documents"
SCHEMA_VERSION = 1
BUSY_S = 5.0

_TABLES = f"""
create table documents(decision text primary key, number text not null unique, kind text not null,
  asked blob not null, reserved_ms integer not null, sha256 text not null default '', size integer not null default 0,
  stamped integer not null default 0, issued_ms integer not null default 0, upgraded text not null default '',
  state text not null default 'valid', reason text not null default '', changed_ms integer not null default 0,
  successor text not null default '') strict, without rowid;
create index pending on documents(issued_ms) where sha256 <> '' and stamped = 0 and upgraded = '';
create table numbers(year integer primary key, last integer not null) strict;
create table changes(seq integer primary key autoincrement, at_ms integer not null, number text not null,
  state text not null, reason text not null, successor text not null) strict;
pragma user_version = {SCHEMA_VERSION};
"""
_NUMBER = re.compile(r"(?P<archive>[0-9]{6})-(?P<year>[0-9]{4})-(?P<serial>[0-9]{6})")
_Do = Callable[..., sqlite3.Cursor]
_FIELDS = (
    "decision, number, kind, asked, reserved_ms, sha256, size, stamped, issued_ms, upgraded, state, reason, changed_ms,"
    " successor"
)


class DocumentState(StrEnum):
    """Whether a document still stands."""

    VALID = "valid"
    REVOKED = "revoked"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. `asked` is the digest of what was to be issued; `sha256` is "" until the document exists. Times UTC ms."""

    decision: str
    number: str
    kind: str
    asked: bytes
    reserved_ms: int
    sha256: str
    size: int
    stamped: int
    issued_ms: int
    upgraded: str
    state: str
    reason: str
    changed_ms: int
    successor: str

    @property
    def case_id(self) -> str:
        """The case it was decided in."""
        return self.decision.rpartition(":")[0]

    @property
    def issued(self) -> bool:
        return bool(self.sha256)


class CertificateStore:
    """One archive's documents. Blocking; any thread may call. Refusal(STORE_UNAVAILABLE) when disk or file refuse."""

    def __init__(self, folder: Path, archive: str) -> None:
        self._folder, self._archive = folder / FOLDER, archive
        self._lock = threading.RLock()
        with _named_troubles():
            folder.mkdir(parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = folder / FILE
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=BUSY_S
            )
            self._connection.execute("pragma journal_mode=wal")
            self._connection.execute("pragma synchronous=full")
            with self._writing() as do:
                if do("pragma user_version").fetchone()[0] == 0:
                    for statement in _TABLES.split(";\n"):
                        if statement.strip():
                            do(statement)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def reserve(self, decision: str, kind: str, asked: bytes, year: int, now_ms: int) -> Entry:
        """The row of a decision, with its number; a new number if it is the first time. Durable on return.

        Refusal(DECISION_CHANGED) when the decision was issued before with other content. Until it is issued, the
        content may still be corrected under the same number (what was kept of it beside is then replaced, see Registry.keep).
        """
        with self._writing() as do:
            row = do(f"select {_FIELDS} from documents where decision = ?", (decision,)).fetchone()  # noqa: S608
            if row is not None:
                entry = Entry(*row)
                if entry.asked == asked:
                    return entry
                if entry.issued:
                    raise Refusal(Reason.DECISION_CHANGED)
                do("update documents set asked = ?, kind = ? where decision = ?", (asked, kind, decision))
            else:
                last = do(
                    "insert into numbers(year, last) values (?, 1) on conflict(year) do update set last = last + 1"
                    " returning last",
                    (year,),
                ).fetchone()[0]
                do(
                    "insert into documents(decision, number, kind, asked, reserved_ms) values (?,?,?,?,?)",
                    (decision, f"{self._archive}-{year:04d}-{last:06d}", kind, asked, now_ms),
                )
            row = do(f"select {_FIELDS} from documents where decision = ?", (decision,)).fetchone()  # noqa: S608
        return Entry(*row)

    def skip_to(self, number: str) -> str:
        """Never give a number up to this one of its year, for a store put back from a backup: what was issued after it bears them.
        The next one. A number below what was given changes nothing. ValueError when it is none of this archive's.
        """
        found = _NUMBER.fullmatch(number)
        if found is None or found["archive"] != self._archive:
            raise ValueError(number)
        year = int(found["year"])
        self.give_none_up_to(year, int(found["serial"]))
        with self._lock, _named_troubles():
            (last,) = self._connection.execute("select last from numbers where year = ?", (year,)).fetchone()
        return f"{self._archive}-{found['year']}-{last + 1:06d}"

    def keep(
        self,
        number: str,
        pdf: bytes,
        now_ms: int,
        *,
        stamped: bool,
        replaces: str = "",
        asked: bytes | None = None,
    ) -> Entry:
        """Make the document of a number durable; the first one kept is the only one, and is returned to all who come later.

        `replaces` names the document this one takes the place of, in the same transaction; `asked` is what the number was
        reserved for: Refusal(DECISION_CHANGED) when it was corrected meanwhile.
        """
        with self._kept(pdf) as (do, digest):
            done = do(
                "update documents set sha256 = ?, size = ?, stamped = ?, issued_ms = ? where number = ? and sha256 = ''"
                " and asked = coalesce(?, asked)",
                (digest, len(pdf), int(stamped), now_ms, number, asked),
            )
            if done.rowcount and replaces:
                self._change(do, replaces, DocumentState.REPLACED, "corrected", number, now_ms)
        entry = self.entry(number)
        if asked is not None and entry.asked != asked:
            raise Refusal(Reason.DECISION_CHANGED)
        return entry

    def keep_stamped(self, number: str, pdf: bytes) -> Entry:
        """Keep the version with a time stamp beside the first bytes, which stay what they are."""
        with self._kept(pdf) as (do, digest):
            do(
                "update documents set upgraded = ? where number = ? and sha256 <> '' and upgraded = ''",
                (digest, number),
            )
        return self.entry(number)

    def revoke(self, number: str, reason: str, now_ms: int) -> Entry:
        """Take a document back; `reason` is a constant word. The second time changes nothing."""
        with self._writing() as do:
            self._change(do, number, DocumentState.REVOKED, reason, "", now_ms)
        return self.entry(number)

    def end(
        self, number: str, state: DocumentState, *, reason: str, successor: str = "", at_ms: int
    ) -> Entry:
        """As `revoke`, of a document that was revoked or replaced before; `at_ms` is when."""
        with self._writing() as do:
            self._change(do, number, state, reason, successor, at_ms)
        return self.entry(number)

    def give_none_up_to(self, year: int, last: int) -> int:
        """Never give a number of a year up to `last`; returns how many would have been given."""
        with self._writing() as do:
            row = do("select last from numbers where year = ?", (year,)).fetchone()
            missing = max(0, last - (0 if row is None else int(row[0])))
            if missing:
                do("insert or replace into numbers(year, last) values (?, ?)", (year, last))
        return missing

    def entry(self, number: str) -> Entry:
        """The row of a number. Refusal(UNKNOWN_DOCUMENT)."""
        row = self._row("number = ?", number)
        if row is None:
            raise Refusal(Reason.UNKNOWN_DOCUMENT)
        return row

    def issued_numbers(self) -> list[str]:
        """The numbers of all documents there are."""
        with self._lock, _named_troubles():
            rows = self._connection.execute("select number from documents where sha256 <> '' order by number")
            return [row[0] for row in rows]

    def of_decision(self, decision: str) -> Entry | None:
        return self._row("decision = ?", decision)

    def read(self, number: str, *, stamped: bool = False) -> bytes:
        """The bytes as first handed on, or, if asked and there, the version with the later time stamp.

        Refusal: unknown_document, or store_unavailable when the file was changed or is gone.
        """
        entry = self.entry(number)
        digest = (entry.upgraded if stamped else "") or entry.sha256
        if not digest:
            raise Refusal(Reason.UNKNOWN_DOCUMENT)
        with _named_troubles():
            pdf = self._path(digest).read_bytes()
        if hashlib.sha256(pdf).hexdigest() != digest:
            raise Refusal(Reason.STORE_UNAVAILABLE)
        return pdf

    def pending(self) -> list[Entry]:
        """Documents whose trusted time is still missing, the oldest first."""
        with self._lock, _named_troubles():
            rows = self._connection.execute(
                f"select {_FIELDS} from documents where sha256 <> '' and stamped = 0 and upgraded = ''"  # noqa: S608
                " order by issued_ms"
            ).fetchall()
        return [Entry(*row) for row in rows]

    def changes(self, after: int = 0) -> list[tuple[int, int, str, str, str, str]]:
        """(seq, at_ms, number, state, reason, successor) after a sequence number: what a status list is made from."""
        with self._lock, _named_troubles():
            return self._connection.execute(
                "select seq, at_ms, number, state, reason, successor from changes where seq > ? order by seq",
                (after,),
            ).fetchall()

    def sweep(self, older_than_s: float = FORGOTTEN_S) -> int:
        """Remove files no row names, left by a process that died; returns how many."""
        with _named_troubles():
            return left_behind.sweep(self._folder, self._named, self._lock, older_than_s)

    def _named(self) -> set[str]:
        """The names of the files of all documents."""
        with self._lock:
            return named(self._connection)

    # ---------------------------------------------------------------------------------------------------------------

    def _change(
        self, do: _Do, number: str, state: DocumentState, reason: str, successor: str, now_ms: int
    ) -> None:
        done = do(
            "update documents set state = ?, reason = ?, changed_ms = ?, successor = ?"
            " where number = ? and sha256 <> '' and state = 'valid'",
            (state, reason, now_ms, successor, number),
        )
        if done.rowcount:
            do(
                "insert into changes(at_ms, number, state, reason, successor) values (?,?,?,?,?)",
                (now_ms, number, state, reason, successor),
            )
        elif do("select 1 from documents where number = ? and sha256 <> ''", (number,)).fetchone() is None:
            raise Refusal(Reason.UNKNOWN_DOCUMENT)

    def _row(self, where: str, value: str) -> Entry | None:
        with self._lock, _named_troubles():
            row = self._connection.execute(
                f"select {_FIELDS} from documents where {where}",  # noqa: S608 - our own columns
                (value,),
            ).fetchone()
        return Entry(*row) if row else None

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / f"{digest}.pdf"

    def _write(self, pdf: bytes) -> str:
        digest = hashlib.sha256(pdf).hexdigest()
        path = self._path(digest)
        with _named_troubles():
            if not path.parent.exists():
                path.parent.mkdir(mode=0o700, exist_ok=True)
                sync(self._folder)
            part = path.with_name(f"{digest}.{os.getpid()}-{threading.get_ident()}.part")
            try:
                with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(pdf)
                    file.flush()
                    os.fsync(file.fileno())
                part.rename(path)
            except BaseException:
                with suppress(OSError):
                    part.unlink()
                raise
            sync(path.parent)
        return digest

    @contextmanager
    def _kept(self, pdf: bytes) -> Iterator[tuple[_Do, str]]:
        """The file, then the row that names it; nothing is swept between the two."""
        with self._lock:
            digest = self._write(pdf)
            with self._writing() as do:
                yield do, digest

    @contextmanager
    def _writing(self) -> Iterator[_Do]:
        with self._lock, _named_troubles():
            self._connection.execute("begin immediate")
            try:
                yield self._connection.execute
                self._connection.execute("commit")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("rollback")
                raise


def named(connection: sqlite3.Connection) -> set[str]:
    """The names of the files that rows of a certificates.sqlite name."""
    rows = connection.execute("select sha256, upgraded from documents").fetchall()
    return {f"{digest}.pdf" for row in rows for digest in row if digest}


@contextmanager
def _named_troubles() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise Refusal(Reason.STORE_UNAVAILABLE) from error
