"""The proof of an event: a tlog-proof that carries the event and its salt as extra data, so that one file tells it all.

The extra data of a proof is not authenticated by itself; here it is, because its hash must be the leaf that is proven. It
is what goes into a certificate (log before sign) and what `lantai-verify` reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from federation.tlog.checkpoint import ANY, Quorum
from federation.tlog.event import SALT_BYTES, Event, leaf_of
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.note import VerifierKey
from federation.tlog.proof import InclusionProof, Verified
from federation.tlog.reader import LogReader


def prove_event(reader: LogReader, index: int, quorum: Quorum = ANY) -> InclusionProof:
    """The proof of one entry, opened: with its salt and event. EvidenceError `unknown_entry` once it was erased."""
    with reader.moment():
        entry = reader.entry_at(index)
        if entry is None or entry.salt is None or entry.event is None:
            raise EvidenceError(Flaw.UNKNOWN_ENTRY, f"index {index}" + (" was erased" if entry else ""))
        return replace(reader.prove(index, quorum), extra=entry.salt + entry.event)


def check_event(
    proof: InclusionProof | bytes | str,
    log: VerifierKey | Iterable[VerifierKey],
    quorum: Quorum = ANY,
    origin: str = "",
    second: Iterable[VerifierKey] | None = None,
) -> tuple[Event, Verified]:
    """The event a proof file opens and what was proven about it; EvidenceError names what fails.

    With `second`, the log's keys of another suite, its checkpoint must bear both signatures.

    The caller compares the event with what it holds: kind, number, and `digest` over the bytes that were logged.
    """
    if not isinstance(proof, InclusionProof):
        proof = InclusionProof.parse(proof)
    salt, body = proof.extra[:SALT_BYTES], proof.extra[SALT_BYTES:]
    if len(salt) != SALT_BYTES or not body:
        raise EvidenceError(Flaw.MALFORMED_PROOF, "no event is opened")
    event = Event.parse(body)
    return event, proof.verify(leaf_of(salt, body), log, quorum, origin, second)
