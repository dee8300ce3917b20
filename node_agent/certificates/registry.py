"""What lies beside the documents: which status index and short code belong to which number, what may be fetched under which digest.

An index or a code is given to a number once and for ever, so that issuing again after a crash says the same. What is fetched is a
file named by its SHA-256; the same bytes go out whenever they are asked for. What was signed anew under a number stands beside
what was delivered of it first, and takes nothing away.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from federation import short_code
from federation.credential.status_list import Allocation
from federation.process.durable import sync
from federation.reasons import Reason, Refusal
from node_agent.certificates import left_behind
from node_agent.certificates.left_behind import FORGOTTEN_S

FILE, FOLDER = "deliverables.sqlite", "deliverables"
PDF, SEALED = "application/pdf", "application/vnd.lantai.sealed"
"""Media types of a document as it is delivered: plain, or sealed to the applicant's key together with its credential."""

LIST_SIZE = 1 << 20
"""Entries of the status list; at one in a hundred revoked it travels in 18 KB (Token Status List, measured)."""

_TABLES = """
create table if not exists statuses(number text not null, use text not null, idx integer not null unique,
  primary key(number, use)) strict, without rowid;
create table if not exists short_codes(number text primary key, code text not null unique) strict, without rowid;
create table if not exists deliverables(reference text primary key, number text not null, kind text not null,
  media_type text not null, size integer not null) strict, without rowid;
create index if not exists of_number on deliverables(number);
create table if not exists stated(number text not null, kind text not null, content blob not null,
  primary key(number, kind)) strict, without rowid;
create table if not exists signed_anew(seq integer primary key autoincrement, number text not null, kind text not null,
  reference text not null unique, media_type text not null, size integer not null, at_ms integer not null,
  unique(number, kind)) strict;
"""
_MOST_AT_ONCE = 500
_NAMED = "select reference from deliverables union select reference from signed_anew"

_OF_GATEWAYS = """
create temp view of_gateways as
  select s.seq, s.at_ms, s.reference, s.number, s.kind, s.media_type, s.size from signed_anew s
  join deliverables c on c.number = s.number and c.kind = 'credential'
  join deliverables d on d.number = s.number and d.kind = 'document' and d.media_type = 'application/pdf'
  where s.kind = case c.media_type when 'text/plain' then 'qr' else 'credential' end
"""
# Of what was signed anew: what takes the place of a credential that a gateway may fetch. What went out in a sealed package no gateway
# may read; and beside the credentials of phones, the QR text of their paper was never a gateway's.


@dataclass(frozen=True, slots=True)
class Deliverable:
    """Something that may be fetched: `reference` is its SHA-256 (hex), `kind` document or credential; of what was signed
    anew qr or credential.
    """

    reference: str
    number: str
    kind: str
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class SignedAnew:
    """Something that was signed anew, and when (UTC ms); `seq` grows with each."""

    seq: int
    at_ms: int
    kept: Deliverable


class Registry:
    """One archive's registry. Blocking; any thread may call. Refusal(STORE_UNAVAILABLE) when disk or file refuse."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._lock = threading.RLock()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / FILE
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        self._do("pragma journal_mode=wal")
        self._do("pragma synchronous=full")
        for statement in _TABLES.split(";\n"):
            self._do(statement)
        self._do(_OF_GATEWAYS)
        self._allocation: Allocation | None = None

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _do(self, sql: str, *values: object) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, values)
        except sqlite3.DatabaseError as error:
            raise Refusal(Reason.STORE_UNAVAILABLE, retry_after_s=1.0) from error

    # status indexes ----------------------------------------------------------------------------------------------

    def status_index(self, number: str, use: str) -> int:
        """The index of one use (`paper`, `credential-0` …) of a number: random at the first time, the same ever after.

        IndexError when the list is full.
        """
        with self._lock:
            row = self._do("select idx from statuses where number = ? and use = ?", number, use).fetchone()
            if row is not None:
                return int(row[0])
            index = self._free().take()
            self._do("insert into statuses(number, use, idx) values (?, ?, ?)", number, use, index)
            return index

    def _free(self) -> Allocation:
        if self._allocation is None:
            data = bytearray(LIST_SIZE // 8)
            for (index,) in self._do("select idx from statuses"):
                data[index // 8] |= 1 << index % 8  # bits of the list begin at the least significant (§4.1)
            self._allocation = Allocation(LIST_SIZE, bytes(data))
        return self._allocation

    def listed_numbers(self) -> set[str]:
        """The numbers that have an index."""
        with self._lock:
            return {row[0] for row in self._do("select distinct number from statuses")}

    def list_again(self, number: str, indexes: Mapping[str, int], short_code: str) -> bool:
        """Give a number the indexes and the short code its document bears; False when another one has one of them by now."""
        with self._lock, self._writing():
            taken = self._do(
                f"select 1 from statuses where idx in ({','.join('?' * len(indexes))})",  # noqa: S608
                *indexes.values(),
            ).fetchone()
            if taken is not None:
                return False
            for use, index in indexes.items():
                self._do("insert into statuses(number, use, idx) values (?, ?, ?)", number, use, index)
            if short_code:
                self._do(
                    "insert into short_codes(number, code) values (?, ?) on conflict do nothing",
                    number,
                    short_code,
                )
        return True

    def indexes(self, number: str) -> list[int]:
        """All indexes of a number."""
        with self._lock:
            return [row[0] for row in self._do("select idx from statuses where number = ?", number)]

    def known_numbers(self) -> list[str]:
        """All numbers of which anything was kept."""
        with self._lock:
            return [
                row[0]
                for row in self._do(
                    "select number from statuses union select number from short_codes union select number from deliverables"
                )
            ]

    # short codes -------------------------------------------------------------------------------------------------

    def short_code(self, number: str) -> str:
        """The short code printed on the document of a number: random at the first time, the same ever after."""
        with self._lock:
            known = self.known_short_code(number)
            if not known:
                known = short_code.new()
                self._do("insert into short_codes(number, code) values (?, ?)", number, known)
            return known

    def known_short_code(self, number: str) -> str:
        """The short code of a number; "" for a document that was made before there were any."""
        with self._lock:
            row = self._do("select code from short_codes where number = ?", number).fetchone()
        return "" if row is None else str(row[0])

    # deliverables ------------------------------------------------------------------------------------------------

    def keep(
        self, number: str, kind: str, media_type: str, data: Callable[[], bytes], content: bytes = b""
    ) -> Deliverable:
        """What is delivered of a number: kept from `data()` the first time, the same ever after. Durable on return.

        `content` is the digest of the content it states. A number's content may be corrected until it has a document, and so
        long nothing of it was handed out: what was kept of another content is then replaced.
        """
        with self._lock:
            known = self._kept_of(number, kind, content)
            if known is not None:
                return known
            made = data()
            reference = hashlib.sha256(made).hexdigest()
            self._write(reference, made)
            with self._writing():
                known = self._kept_of(number, kind, content)  # another process may have been faster
                if known is not None:
                    return known
                self._do("delete from deliverables where number = ? and kind = ?", number, kind)
                self._do(
                    "insert into deliverables(reference, number, kind, media_type, size) values (?, ?, ?, ?, ?)",
                    reference, number, kind, media_type, len(made),
                )  # fmt: skip
                if content:
                    self._do(
                        "insert or replace into stated(number, kind, content) values (?, ?, ?)",
                        number,
                        kind,
                        content,
                    )
            return Deliverable(reference, number, kind, media_type, len(made))

    def _kept_of(self, number: str, kind: str, content: bytes) -> Deliverable | None:
        """What was kept of a number; None when that states another content than the one asked for."""
        known = self.of_number(number, kind)
        if known is None or not content:
            return known
        row = self._do("select content from stated where number = ? and kind = ?", number, kind).fetchone()
        return known if row is not None and row[0] == content else None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of it or nothing."""
        self._do("begin immediate")
        try:
            yield
            self._do("commit")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("rollback")
            raise

    def of_number(self, number: str, kind: str) -> Deliverable | None:
        """What is delivered of a number, None when nothing of this kind was kept."""
        with self._lock:
            row = self._do(
                "select reference, number, kind, media_type, size from deliverables where number = ? and kind = ?",
                number, kind,
            ).fetchone()  # fmt: skip
        return Deliverable(*row) if row else None

    def find(self, kind: str, reference: str) -> Deliverable:
        """What may be fetched, also what takes a credential's place; Refusal(NOT_FOUND) when nothing of this kind has this digest."""
        with self._lock:
            row = self._do(
                "select reference, number, kind, media_type, size from deliverables where reference = ? and kind = ?",
                reference, kind,
            ).fetchone()  # fmt: skip
            if row is None and kind == "credential":
                row = self._do(
                    "select reference, number, kind, media_type, size from of_gateways where reference = ?", reference
                ).fetchone()  # fmt: skip
        if row is None:
            raise Refusal(Reason.NOT_FOUND)
        return Deliverable(*row)

    def numbers(self, kind: str) -> list[str]:
        """The numbers of which something of a kind was kept, in their order."""
        with self._lock:
            return [
                row[0]
                for row in self._do("select number from deliverables where kind = ? order by number", kind)
            ]

    def read(self, one: Deliverable) -> bytes:
        """Refusal(STORE_UNAVAILABLE) when the file is gone or no longer what its name says."""
        try:
            content = self.path(one).read_bytes()
        except OSError as error:
            raise Refusal(Reason.STORE_UNAVAILABLE) from error
        if hashlib.sha256(content).hexdigest() != one.reference:
            raise Refusal(Reason.STORE_UNAVAILABLE)
        return content

    # what was signed anew ----------------------------------------------------------------------------------------

    def keep_anew(self, number: str, made: Mapping[str, tuple[str, bytes]], at_ms: int) -> None:
        """Keep what was signed anew of a number, kind -> (media type, content): all of it durable on return, or nothing of it.

        The first that is kept stays, whoever comes later.
        """
        with self._lock:
            kept = [
                (hashlib.sha256(content).hexdigest(), kind, media_type, content)
                for kind, (media_type, content) in made.items()
            ]
            for reference, _kind, _media_type, content in kept:
                self._write(reference, content)
            with self._writing():
                if not self.anew(number):
                    for reference, kind, media_type, content in kept:
                        self._do(
                            "insert into signed_anew(number, kind, reference, media_type, size, at_ms)"
                            " values (?, ?, ?, ?, ?, ?)",
                            number, kind, reference, media_type, len(content), at_ms,
                        )  # fmt: skip

    def anew(self, number: str) -> dict[str, Deliverable]:
        """What was signed anew of a number, by kind; empty when nothing was."""
        with self._lock:
            rows = self._do(
                "select reference, number, kind, media_type, size from signed_anew where number = ?", number
            ).fetchall()
        return {row[2]: Deliverable(*row) for row in rows}

    def signed_anew(self, after: int = 0) -> list[SignedAnew]:
        """What was signed anew after a sequence number, the oldest first; not more than 500 at once."""
        with self._lock:
            rows = self._do(
                "select seq, at_ms, reference, number, kind, media_type, size from signed_anew where seq > ?"
                " order by seq limit ?",
                after, _MOST_AT_ONCE,
            ).fetchall()  # fmt: skip
        return [SignedAnew(row[0], row[1], Deliverable(*row[2:])) for row in rows]

    def of_gateways(self, after: int, upto: int) -> list[SignedAnew]:
        """Of what was signed anew between two sequence numbers: what takes the place of credentials a gateway may fetch."""
        with self._lock:
            rows = self._do(
                "select seq, at_ms, reference, number, kind, media_type, size from of_gateways"
                " where seq > ? and seq <= ? order by seq",
                after, upto,
            ).fetchall()  # fmt: skip
        return [SignedAnew(row[0], row[1], Deliverable(*row[2:])) for row in rows]

    # files -------------------------------------------------------------------------------------------------------

    def sweep(self, older_than_s: float = FORGOTTEN_S) -> int:
        """Remove files no row names, left by a process that died; returns how many."""
        try:
            return left_behind.sweep(self._folder, self._named, self._lock, older_than_s)
        except OSError as error:
            raise Refusal(Reason.STORE_UNAVAILABLE, retry_after_s=1.0) from error

    def _named(self) -> set[str]:
        """The names of the files of all that is kept."""
        with self._lock:
            return {row[0] for row in self._do(_NAMED).fetchall()}

    def path(self, one: Deliverable) -> Path:
        return self._folder / one.reference[:2] / one.reference

    def _write(self, reference: str, content: bytes) -> None:
        """The file, whole and durable before anything names it."""
        path = self._folder / reference[:2] / reference
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            partial = path.with_suffix(".partial")
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync(path.parent)
        except OSError as error:
            raise Refusal(Reason.STORE_UNAVAILABLE, retry_after_s=1.0) from error


def named(connection: sqlite3.Connection) -> set[str]:
    """The names of the files that rows of a deliverables.sqlite name."""
    return {row[0] for row in connection.execute(_NAMED).fetchall()}
