"""Checkpoints (C2SP tlog-checkpoint): what a log signs about its tree, and the witnesses that must have cosigned it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.merkle import HASH_BYTES, LARGEST_SIZE
from federation.tlog.note import KeyKind, Note, VerifierKey, from_base64, to_base64

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


def read_decimal(text: str, flaw: Flaw) -> int:
    """An ASCII number without leading zeros, within 63 bits."""
    if not _DECIMAL.fullmatch(text) or int(text) > LARGEST_SIZE:
        raise EvidenceError(flaw, "no number")
    return int(text)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log's tree. `extensions` are opaque lines this project never writes."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """The note text that is signed."""
        return "\n".join([self.origin, str(self.size), to_base64(self.root), *self.extensions]) + "\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note text. Says nothing about signatures."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() or not all(lines):
            raise EvidenceError(Flaw.MALFORMED_CHECKPOINT, "not three lines or more")
        size = read_decimal(lines[1], Flaw.MALFORMED_CHECKPOINT)
        root = from_base64(lines[2], Flaw.MALFORMED_CHECKPOINT)
        if len(root) != HASH_BYTES:
            raise EvidenceError(Flaw.MALFORMED_CHECKPOINT, f"a root of {len(root)} bytes")
        return cls(lines[0], size, root, tuple(lines[3:]))


def open_checkpoint(
    note: Note,
    log: VerifierKey | Iterable[VerifierKey],
    origin: str = "",
    second: Iterable[VerifierKey] | None = None,
) -> Checkpoint:
    """The checkpoint of a note that the log itself signed.

    `log` is the log's key, or several while it changes keys; `origin` is its origin line, the first key's name if "".
    With `second`, keys of another suite, one of them must have signed too.
    """
    keys = [log] if isinstance(log, VerifierKey) else list(log)
    checkpoint = Checkpoint.parse(note.text)
    if not keys or checkpoint.origin != (origin or keys[0].name):
        raise EvidenceError(Flaw.WRONG_ORIGIN)
    note.check(keys)
    if second is not None:
        check_second(note, second)
    return checkpoint


def check_second(note: Note, keys: Iterable[VerifierKey]) -> None:
    """EvidenceError unless one of these keys of another suite signed the note, and every line of theirs holds."""
    try:
        note.check(keys)
    except EvidenceError as error:
        if error.flaw is Flaw.UNKNOWN_SIGNER:
            raise EvidenceError(Flaw.SECOND_SIGNATURE_MISSING) from None
        raise


@dataclass(frozen=True, slots=True)
class Quorum:
    """At least `least` of these witnesses must have cosigned; 0 of none asks for nothing.

    Only a majority excludes that two forks both find a quorum; with fewer, a fork is found out when views are compared.
    """

    least: int = 0
    witnesses: tuple[VerifierKey, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.least <= len(self.witnesses):
            raise EvidenceError(Flaw.QUORUM_MISSING, f"{self.least} of {len(self.witnesses)} can not be met")
        if any(key.kind is not KeyKind.WITNESS for key in self.witnesses):
            raise EvidenceError(Flaw.MALFORMED_KEY, "a witness has a cosignature key")
        if len({key.public for key in self.witnesses}) != len(self.witnesses):
            raise EvidenceError(Flaw.MALFORMED_KEY, "one key of two witnesses")

    def cosigners(self, note: Note) -> dict[VerifierKey, int]:
        """Known witnesses that cosigned, with their times in seconds of UTC. A wrong line of one of them is an error."""
        try:
            return {key: at or 0 for key, at in note.check(self.witnesses).items()}
        except EvidenceError as error:
            if error.flaw is Flaw.UNKNOWN_SIGNER:
                return {}
            raise

    def check(self, note: Note) -> dict[VerifierKey, int]:
        """The witnesses that cosigned; EvidenceError if they are too few."""
        found = self.cosigners(note)
        if len(found) < self.least:
            raise EvidenceError(Flaw.QUORUM_MISSING, f"{len(found)} of {self.least}")
        return found


ANY = Quorum()
"""No witness is asked for."""
