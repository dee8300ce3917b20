"""A witness (C2SP tlog-witness): remembers the last checkpoint of every log it knows and cosigns only what follows it.

Every archive's node can be a witness of the other archives' logs. The state is durable before a cosignature leaves, so
that neither a crash nor two requests at once can make a witness cosign two histories.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from federation.process.durable import keep_private
from federation.tlog.checkpoint import Checkpoint, open_checkpoint, read_decimal
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.merkle import HASH_BYTES, verify_consistency
from federation.tlog.note import (
    LARGEST_NOTE,
    KeyKind,
    Note,
    SignatureLine,
    Signer,
    VerifierKey,
    from_base64,
    to_base64,
)
from federation.tlog.proof import MOST_HASHES
from federation.tlog.store import BUSY_S, naming_trouble, transaction

PATH = "add-checkpoint"
LARGEST_REQUEST = LARGEST_NOTE + 4 * 1024
OK, BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, UNPROCESSABLE = 200, 400, 403, 404, 409, 422


@dataclass(frozen=True, slots=True)
class WitnessRequest:
    """The body of add-checkpoint: the size the witness is believed to know, the proof from there, the checkpoint."""

    old: int
    proof: tuple[bytes, ...]
    note: Note

    def __str__(self) -> str:
        return "\n".join([f"old {self.old}", *map(to_base64, self.proof)]) + f"\n\n{self.note}"

    @classmethod
    def parse(cls, data: bytes) -> WitnessRequest:
        """Read a body strictly."""
        if len(data) > LARGEST_REQUEST:
            raise EvidenceError(Flaw.TOO_LARGE, f"a request of {len(data)}")
        try:
            head, gap, note = data.decode("utf-8").partition("\n\n")
        except UnicodeError:
            raise EvidenceError(Flaw.MALFORMED_PROOF, "no UTF-8") from None
        lines = head.split("\n")
        if not gap or not lines[0].startswith("old ") or len(lines) > 1 + MOST_HASHES:
            raise EvidenceError(Flaw.MALFORMED_PROOF, "no old size, proof and checkpoint")
        proof = tuple(from_base64(line, Flaw.MALFORMED_PROOF) for line in lines[1:])
        if any(len(one) != HASH_BYTES for one in proof):
            raise EvidenceError(Flaw.MALFORMED_PROOF, "a hash of another length")
        return cls(read_decimal(lines[0].removeprefix("old "), Flaw.MALFORMED_PROOF), proof, Note.parse(note))


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """The HTTP answer: 200 with signature lines, 409 with the size known, or a bare refusal."""

    status: int
    body: str = ""

    def lines(self) -> list[SignatureLine]:
        """The signature lines of a 200."""
        if self.status != OK or len(self.body) > LARGEST_NOTE:
            return []
        return [SignatureLine.parse(line) for line in self.body.removesuffix("\n").split("\n")]


SecondKeys = tuple[Sequence[VerifierKey], float]
"""Keys of another suite of which one must have signed too, and from when (seconds of UTC)."""


class Witness:
    """The durable state of one witness in one SQLite file, and its answers. Safe to share between threads.

    `logs` are the logs it watches: origin line -> the keys the log may sign with; `second`: those that must sign twice.
    """

    def __init__(
        self,
        path: Path | str,
        signer: Signer,
        logs: Mapping[str, Sequence[VerifierKey]],
        second: Mapping[str, SecondKeys] | None = None,
    ) -> None:
        if signer.key.kind is not KeyKind.WITNESS:
            raise EvidenceError(Flaw.MALFORMED_KEY, "a witness signs with a cosignature key")
        self._signer, self._logs, self._second = signer, dict(logs), dict(second or {})
        self._lock = threading.Lock()
        with naming_trouble():
            keep_private(Path(path))
            self._connection = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("pragma journal_mode=wal")
            self._connection.execute("pragma synchronous=full")
            self._connection.execute(
                "create table if not exists seen(origin text primary key, size integer not null, root blob not null,"
                " note text not null) strict, without rowid"
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def watch(self, logs: Mapping[str, Sequence[VerifierKey]]) -> None:
        """Watch these logs from now on, as when the roster changed; what was seen is kept."""
        self._logs = dict(logs)

    def seen(self, origin: str) -> Note | None:
        """The last checkpoint cosigned for a log: what an auditor compares views with."""
        with self._lock, naming_trouble():
            row = self._connection.execute("select note from seen where origin = ?", (origin,)).fetchone()
        return Note.parse(row[0]) if row else None

    def add_checkpoint(self, body: bytes, now_s: int) -> WitnessAnswer:
        """Answer one add-checkpoint; `now_s` is seconds of UTC. Raises EvidenceError only when its file fails."""
        try:
            request = WitnessRequest.parse(body)
            claimed = Checkpoint.parse(request.note.text)
        except EvidenceError:
            return WitnessAnswer(BAD_REQUEST)
        keys = self._logs.get(claimed.origin)
        if not keys:
            return WitnessAnswer(NOT_FOUND)
        others, since = self._second.get(claimed.origin, (None, 0.0))
        try:
            checkpoint = open_checkpoint(
                request.note, keys, claimed.origin, others if now_s >= since else None
            )
        except EvidenceError:
            return WitnessAnswer(FORBIDDEN)
        if request.old > checkpoint.size:
            return WitnessAnswer(BAD_REQUEST)
        with self._lock, transaction(self._connection):
            row = self._connection.execute(
                "select size, root from seen where origin = ?", (checkpoint.origin,)
            ).fetchone()
            size, root = row or (0, b"")
            if request.old != size:
                return WitnessAnswer(CONFLICT, f"{size}\n")
            if size == checkpoint.size and row and root != checkpoint.root:
                return WitnessAnswer(CONFLICT, f"{size}\n")
            if not _follows(size, root, checkpoint, request.proof):
                return WitnessAnswer(UNPROCESSABLE)
            line = self._signer.sign(request.note.text, now_s)
            self._connection.execute(
                "insert into seen(origin, size, root, note) values(?, ?, ?, ?) on conflict(origin) do update"
                " set size = excluded.size, root = excluded.root, note = excluded.note",
                (checkpoint.origin, checkpoint.size, checkpoint.root, str(request.note.with_lines([line]))),
            )
        return WitnessAnswer(OK, f"{line}\n")


def _follows(size: int, root: bytes, checkpoint: Checkpoint, proof: Sequence[bytes]) -> bool:
    if not size:  # the first sight of a log is taken as it comes
        return not proof
    try:
        verify_consistency(size, checkpoint.size, root, checkpoint.root, proof)
    except EvidenceError:
        return False
    return True


def witnessed(logs: Iterable[VerifierKey]) -> dict[str, list[VerifierKey]]:
    """The `logs` of a witness when every log's origin is the name of its key."""
    found: dict[str, list[VerifierKey]] = {}
    for key in logs:
        found.setdefault(key.name, []).append(key)
    return found
