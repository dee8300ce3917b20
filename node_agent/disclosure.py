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
_SHORTEST_NUMBER = 3
"""Characters of a folded certificate number below which it tells no two events apart."""
_MOST_NAMES = 6
"""Parties of whom each gets a digest with day and number: a household has many members, a gateway reads eight digests."""


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
        """Refusal(POLICY) when the archive does not let this be searched from outside. Who names no category asks for all of them."""
        if query.category in self._closed or (self._closed and not query.category):
            raise Refusal(Reason.POLICY)

    def may_tell(self, found: Found) -> bool:
        """Whether a record may leave, even masked: a code or a title finds records of other categories than the one asked for."""
        return found.category not in self._closed

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
        """Keyed digests of the event; one that is equal in two archives makes their records copies of each other.

        Offices numbered alike and began anew each year, so that a number alone is no event. It is one with all parties
        and, where it is known, the year; and with the very day and one party, where a clerk misspelt the other.
        """
        if self._federation_key is None:
            return ()
        told = found.told
        marks: list[tuple[str, ...]] = []
        names = sorted(fold(person.name) for person in told.persons if person.name)
        number = fold_certificate(told.certificate_no)
        day = str(told.first) if told.first and told.first == told.last else ""
        if day and names:
            marks.append(("event", day, *names))
        if names and len(number) >= _SHORTEST_NUMBER and any(map(str.isnumeric, number)):
            marks.append(("certificate", str(year_of(told.event)), number, *names))
            if day:
                marks += [("registered", day, number, name) for name in names[:_MOST_NAMES]]
        return tuple(
            blake2b(
                "\0".join((kind, found.category, *rest)).encode("utf-8", "surrogatepass"),
                digest_size=_FINGERPRINT_BYTES,
                key=self._federation_key[:64],
                person=b"lantai-event",
            ).digest()
            for kind, *rest in marks
        )
