"""Proofs in a file (C2SP tlog-proof@v1): one entry, its path, and the cosigned checkpoint; verified offline by anyone.

A proof says: the log signed a tree, this many witnesses saw that tree in one history with all before, and this leaf is in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from federation.tlog.checkpoint import ANY, Checkpoint, Quorum, open_checkpoint, read_decimal
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.merkle import HASH_BYTES, verify_inclusion
from federation.tlog.note import LARGEST_NOTE, Note, VerifierKey, from_base64, to_base64

LARGEST_PROOF = LARGEST_NOTE + 16 * 1024
MOST_HASHES = 63
"""A tree of 2**63 leaves is no higher."""
_LARGEST_EXTRA = 8 * 1024
_HEADER = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Verified:
    """What a proof proved: the checkpoint, and the witnesses that cosigned it with their times (seconds of UTC)."""

    checkpoint: Checkpoint
    index: int
    cosigned: dict[VerifierKey, int]


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """The proof of one entry. `extra` travels with it and is not authenticated."""

    index: int
    hashes: tuple[bytes, ...]
    note: Note
    extra: bytes = b""

    def __str__(self) -> str:
        lines = [_HEADER]
        if self.extra:
            lines.append(f"extra {to_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines += map(to_base64, self.hashes)
        return "\n".join(lines) + f"\n\n{self.note}"

    @classmethod
    def parse(cls, data: bytes | str) -> InclusionProof:
        """Read a proof file strictly; EvidenceError names what is wrong."""
        if len(data) > LARGEST_PROOF:
            raise EvidenceError(Flaw.TOO_LARGE, f"a proof of {len(data)}")
        try:
            whole = data if isinstance(data, str) else data.decode("utf-8")
        except UnicodeError:
            raise EvidenceError(Flaw.MALFORMED_PROOF, "no UTF-8") from None
        head, gap, note = whole.partition("\n\n")
        lines = head.split("\n")
        if not gap or lines.pop(0) != _HEADER:
            raise EvidenceError(Flaw.MALFORMED_PROOF, "no header")
        extra = b""
        if lines and lines[0].startswith("extra "):
            extra = from_base64(lines.pop(0).removeprefix("extra "), Flaw.MALFORMED_PROOF)
            if not 0 < len(extra) <= _LARGEST_EXTRA:
                raise EvidenceError(Flaw.TOO_LARGE, f"{len(extra)} bytes of extra data")
        if not lines or not lines[0].startswith("index "):
            raise EvidenceError(Flaw.MALFORMED_PROOF, "no index")
        index = read_decimal(lines.pop(0).removeprefix("index "), Flaw.MALFORMED_PROOF)
        if len(lines) > MOST_HASHES:
            raise EvidenceError(Flaw.MALFORMED_PROOF, f"{len(lines)} hashes")
        hashes = tuple(from_base64(line, Flaw.MALFORMED_PROOF) for line in lines)
        if any(len(one) != HASH_BYTES for one in hashes):
            raise EvidenceError(Flaw.MALFORMED_PROOF, "a hash of another length")
        return cls(index, hashes, Note.parse(note), extra)

    def verify(
        self,
        leaf: bytes,
        log: VerifierKey | Iterable[VerifierKey],
        quorum: Quorum = ANY,
        origin: str = "",
        second: Iterable[VerifierKey] | None = None,
    ) -> Verified:
        """Check the log's signature (and one by a key of `second`), path and cosignatures for this leaf hash; EvidenceError
        names what fails.
        """
        checkpoint = open_checkpoint(self.note, log, origin, second)
        if self.index >= checkpoint.size:
            raise EvidenceError(Flaw.NOT_INCLUDED, f"index {self.index} of {checkpoint.size}")
        verify_inclusion(self.index, checkpoint.size, leaf, self.hashes, checkpoint.root)
        return Verified(checkpoint, self.index, quorum.check(self.note))
