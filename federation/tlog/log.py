"""The evidence log of one process: events in, durable before the call returns, then checkpoints, stamps and erasing.

One process writes (a lock file says so), many read. A batch is one transaction: its entries and tiles are there together
or not at all, whatever kills the process and wherever.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from federation.tlog.checkpoint import Checkpoint, Quorum
from federation.tlog.event import SALT_BYTES, Event, EventKind, leaf_of
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.merkle import verify_consistency
from federation.tlog.note import (
    KeyKind,
    Note,
    SecondSigner,
    SignatureLine,
    Signer,
    VerifierKey,
    signed_note,
)
from federation.tlog.reader import LogReader, Stamp
from federation.tlog.store import BUSY_S, naming_trouble, open_writing, transaction
from federation.tlog.tiles import extend

CHECKPOINT_GAP_MS = 1_000
"""Least time between two checkpoints of a growing log."""
_PAIRS_ASKED = 250  # well below SQLite's bound on variables


class EvidenceLog(LogReader):
    """The one writer of a log file; makes the file when there is none.

    `signer` is the log's key; its name is the log's origin, unless the file was begun under another (a changed key).
    `second`, a key of another suite, signs every checkpoint beside it.
    Raises EvidenceError `log_in_use` while another writer has the log open.
    """

    def __init__(self, path: Path | str, signer: Signer, second: SecondSigner | None = None) -> None:
        if signer.key.kind is not KeyKind.LOG:
            raise EvidenceError(Flaw.MALFORMED_KEY, "a log signs with a log key")
        self._signer = signer
        self._signers = (signer,) if second is None else (signer, second)
        self._to_overwrite = False
        path = Path(path)
        self._lock_file = _locked(path)
        try:
            connection = open_writing(path)
            super().__init__(path, connection=connection)
            with transaction(connection):
                connection.execute(
                    "insert into meta(key, value) values('origin', ?) on conflict do nothing", (signer.name,)
                )
            self._overwrite()  # a process killed while erasing left the pages there
        except BaseException:
            os.close(self._lock_file)
            raise

    @property
    def signer_key(self) -> VerifierKey:
        """The public key this log signs with now."""
        return self._signer.key

    def close(self) -> None:
        """Close the file and let another writer in."""
        super().close()
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def append(self, events: Iterable[Event]) -> list[int]:
        """Log events in one durable transaction; returns their places in the log.

        An event (known by its request and id) logged before keeps its place. Raises EvidenceError and logs nothing if it was
        logged with other contents (`event_conflict`) or the file can not be written (`log_unavailable`).
        """
        with self._lock, transaction(self._connection):
            return self._add_all(list(events))

    def append_each(self, events: Sequence[Event]) -> list[int | EvidenceError]:
        """As `append`, but an event in conflict gets its error in place of an index and the others are logged."""
        with self._lock, transaction(self._connection):
            return self._add(events)

    def _add_all(self, events: Sequence[Event]) -> list[int]:
        places = []
        for result in self._add(events):
            if isinstance(result, EvidenceError):
                raise result
            places.append(result)
        return places

    def _add(self, events: Sequence[Event]) -> list[int | EvidenceError]:
        salts = os.urandom(SALT_BYTES * len(events))
        size = self._tiles.size()
        known = self._known(events)
        leaves: list[bytes] = []
        rows: list[tuple[int, str, str, str, int, bytes, bytes]] = []
        results: list[int | EvidenceError] = []
        for number, event in enumerate(events):
            body = event.canonical()
            name = (event.request, event.id)
            if name in known:
                place, before = known[name]
                same = before is None or before == body  # of an erased one nothing is left to compare
                results.append(place if same else EvidenceError(Flaw.EVENT_CONFLICT, f"entry {place}"))
                continue
            salt = salts[number * SALT_BYTES : (number + 1) * SALT_BYTES]
            place = size + len(leaves)
            leaves.append(leaf_of(salt, body))
            rows.append((place, event.request, event.id, event.kind.value, event.at_ms, salt, body))
            known[name] = (place, body)
            results.append(place)
        self._connection.executemany(
            "insert into entries(idx, request, id, kind, at, salt, event) values(?, ?, ?, ?, ?, ?, ?)", rows
        )
        extend(self._tiles, size, leaves)
        return results

    def _known(self, events: Sequence[Event]) -> dict[tuple[str, str], tuple[int, bytes | None]]:
        known: dict[tuple[str, str], tuple[int, bytes | None]] = {}
        for at in range(0, len(events), _PAIRS_ASKED):
            part = [name for event in events[at : at + _PAIRS_ASKED] for name in (event.request, event.id)]
            pairs = ",".join(["(?,?)"] * (len(part) // 2))
            query = (
                f"with asked(r, i) as (values {pairs}) select request, id, idx, event"  # noqa: S608
                " from asked cross join entries on request = r and id = i"
            )
            known.update(
                ((row[0], row[1]), (row[2], row[3])) for row in self._connection.execute(query, part)
            )
        return known

    def erase(self, request: str, reason: str, now_ms: int, ids: Iterable[str] | None = None) -> int:
        """Erase contents and salts of a request's events, or only of these (retention, PIPL); the log stays verifiable.

        Every erased entry keeps its commitment and gets an `erased` event with `reason` (a lower-case word); those events
        themselves stay. Freed bytes are overwritten, in the write-ahead log too (at the next `checkpoint` call if a reader
        holds it now); older backups are the operator's. Returns how many were erased now.
        """
        if not request and ids is None:
            raise EvidenceError(Flaw.UNKNOWN_ENTRY, "events of no request are erased by id")
        wanted = None if ids is None else set(ids)
        with self._lock:
            with transaction(self._connection):
                where = "request = ? and event is not null and kind != ? order by idx"
                found = [
                    one
                    for one in self._entries(where, (request, EventKind.ERASED.value))
                    if wanted is None or one.id in wanted
                ]
                for entry in found:
                    self._connection.execute(
                        "update entries set salt = null, event = null, commitment = ? where idx = ?",
                        (entry.commitment(), entry.index),
                    )
                self._add([
                    Event(EventKind.ERASED, f"erased:{entry.index}", now_ms, request,
                          {"entry": entry.index, "reason": reason})
                    for entry in found
                ])  # fmt: skip
            self._overwrite()
        return len(found)

    def _overwrite(self) -> None:
        """Empty the write-ahead log, which still has the pages as they were; a reader in its moment puts it off."""
        with naming_trouble():
            self._connection.execute("pragma busy_timeout=0")
            try:
                (busy, *_rest) = self._connection.execute("pragma wal_checkpoint(truncate)").fetchone()
            finally:
                self._connection.execute(f"pragma busy_timeout={int(BUSY_S * 1_000)}")
        self._to_overwrite = bool(busy)

    def checkpoint(self, now_ms: int, *, gap_ms: int = CHECKPOINT_GAP_MS) -> Note | None:
        """Sign the tree as it is now, if it grew and the last checkpoint is `gap_ms` old; returns the newest, if any.

        Only durable entries are covered and the checkpoint is durable before it is returned. A tree that is not
        consistent with the last checkpoint is never signed (`log_damaged`).
        """
        if self._to_overwrite:
            with self._lock:
                self._overwrite()
        with self._lock, transaction(self._connection):
            query = "select size, at, note from checkpoints order by size desc limit 1"
            row = self._connection.execute(query).fetchone()
            last = Note.parse(row[2]) if row else None
            size = self._tiles.size()
            if last is not None and size == row[0]:
                return self._signed_by_all(last, size)
            if not size or (row and 0 <= now_ms - row[1] < gap_ms):
                return last
            tree = self.tree()
            root = tree.root()
            if last is not None:
                before = Checkpoint.parse(last.text)
                try:
                    verify_consistency(before.size, size, before.root, root, tree.consistency(before.size))
                except EvidenceError as error:
                    raise EvidenceError(
                        Flaw.LOG_DAMAGED, f"size {size} does not follow {before.size}"
                    ) from error
            note = signed_note(Checkpoint(self._meta("origin"), size, root).text(), *self._signers)
            self._connection.execute(
                "insert into checkpoints(size, at, note) values(?, ?, ?)", (size, now_ms, str(note))
            )
            return note

    def _signed_by_all(self, note: Note, size: int) -> Note:
        """The newest checkpoint, with the lines of keys that came to the log after it."""
        lacking = [one for one in self._signers if not any(one.key.is_of(line) for line in note.signatures)]
        if lacking:
            note = note.with_lines(one.sign(note.text) for one in lacking)
            self._connection.execute("update checkpoints set note = ? where size = ?", (str(note), size))
        return note

    def thin_checkpoints(self, before_ms: int, keep_one_in_ms: int = 3_600_000) -> int:
        """Forget old checkpoints, but the last of each hour and all that were stamped or anchored; returns how many.

        Proofs are always made under new ones, and whoever holds an old one holds it whole: nothing is proven less.
        """
        with self._lock, transaction(self._connection):
            return self._connection.execute(
                "delete from checkpoints where at < ?1 and size not in (select size from stamps) and size not in"
                " (select max(size) from checkpoints group by at / ?2)",
                (before_ms, keep_one_in_ms),
            ).rowcount

    def add_cosignatures(self, size: int, lines: Iterable[SignatureLine], witnesses: Quorum) -> Note:
        """Keep the lines by known witnesses that verify; returns the checkpoint with them. Others are ignored."""
        with self._lock, transaction(self._connection):
            row = self._connection.execute("select note from checkpoints where size = ?", (size,)).fetchone()
            if row is None:
                raise EvidenceError(Flaw.NO_CHECKPOINT, f"size {size}")
            note = Note.parse(row[0])
            good = []
            for line in lines:
                for key in witnesses.witnesses:
                    if key.is_of(line):
                        key.verify(note.text, line.data)
                        good.append(line)
            note = note.with_lines(good)
            self._connection.execute("update checkpoints set note = ? where size = ?", (str(note), size))
            return note

    def add_stamp(self, stamp: Stamp, event: Event) -> None:
        """Keep a time stamp or an anchor's receipt, and log that it came, in one transaction."""
        with self._lock, transaction(self._connection):
            self._connection.execute(
                "insert into stamps(size, at, name, kind, receipt) values(?, ?, ?, ?, ?)",
                (stamp.size, stamp.at_ms, stamp.name, stamp.kind, stamp.receipt),
            )
            self._add_all([event])


def _locked(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(
            path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise EvidenceError(Flaw.LOG_UNAVAILABLE, error.strerror or "") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise EvidenceError(Flaw.LOG_IN_USE, path.name) from None
    return descriptor
