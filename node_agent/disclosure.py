"""What leaves the archive before its reviewer approves: masked names, levels, keyed fingerprints, an opaque reference.

The archive's own rules come first: a category the archive switched off is refused with a reason, whatever was found.
"""

from __future__ import annotations

from hashlib import blake2b

from federation.candidate import Candidate
from federation.keys import fold_certificate
from federation.masking import mask_name
from federation.names import fold
from federation.query import Query
from federation.reasons import Reason, Refusal
from federation.suites.encoding import b64u
from node_agent.index import Found
from node_agent.index.packing import year_of

_FINGERPRINT_BYTES = 16


class Disclosure:
    """Turns found records into masked candidates.

    `archive_key` makes references opaque; `federation_key` (shared by the archives, unknown to the gateway) makes
    fingerprints comparable between archives; without it there are none. `closed` = categories not to be searched.
    """

    def __init__(
        self, archive_key: bytes, federation_key: bytes | None, closed: frozenset[str] = frozenset()
    ) -> None:
        self._archive_key = archive_key
        self._federation_key = federation_key
        self._closed = closed

    def check(self, query: Query) -> None:
        """Refusal(POLICY) when the archive does not let this be searched from outside."""
        if query.category in self._closed:
            raise Refusal(Reason.POLICY)

    def candidate(self, found: Found) -> Candidate:
        """The masked description of one found record."""
        persons = found.told.persons
        other = next((one.name for place, one in enumerate(persons) if place != found.person), "")
        return Candidate(
            ref=self.reference(found),
            category=found.category,
            masked_name=mask_name(persons[found.person].name) if persons else "",
            masked_other_name=mask_name(other),
            year=year_of(found.told.event),
            place=found.place,
            levels=found.levels,
            name_bits=round(found.name_bits, 2),
            fingerprints=self.fingerprints(found),
            is_copy=found.is_copy,
            digitised=found.digitised,
        )

    def reference(self, found: Found) -> str:
        """Digest of the record's content, enciphered: equal for equal content, says nothing to others, can not be made up."""
        plain = found.digest.to_bytes(8, "big", signed=True)
        tag = blake2b(plain, digest_size=8, key=self._archive_key, person=b"lantai-ref-tag").digest()
        pad = blake2b(tag, digest_size=8, key=self._archive_key, person=b"lantai-ref-pad").digest()
        body = bytes(one ^ other for one, other in zip(plain, pad, strict=True))
        return b64u(tag + body)

    def fingerprints(self, found: Found) -> tuple[bytes, ...]:
        """Keyed digests of the event: the parties and its day, and its certificate number, where known."""
        if self._federation_key is None:
            return ()
        told = found.told
        marks = []
        names = sorted(fold(person.name) for person in told.persons if person.name)
        if told.first and told.first == told.last and names:
            marks.append(f"event\0{found.category}\0{told.first}\0" + "\0".join(names))
        if told.certificate_no and names:
            marks.append(f"certificate\0{found.category}\0{fold_certificate(told.certificate_no)}")
        return tuple(
            blake2b(
                mark.encode("utf-8", "surrogatepass"),
                digest_size=_FINGERPRINT_BYTES,
                key=self._federation_key[:64],
                person=b"lantai-event",
            ).digest()
            for mark in marks
        )
