"""The machine forms of one document: the text of its QR code, and an SD-JWT VC for each key the applicant's phone gave."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time
from typing import Any

from federation.credential import qr
from federation.credential.certificate import Certificate, Reuse, issue
from federation.documents import CHINA
from federation.trust import Use
from federation.verify.status import StatusReference
from node_agent.certificates.attachments import attach
from node_agent.certificates.issuing import Credential
from node_agent.certificates.keys import ArchiveKeys
from node_agent.certificates.registry import Registry

MOST_HOLDER_KEYS = 16
"""One-time credentials of one certificate: about ten are meant (each agency sees another one)."""

PAPER = "paper"
"""The use of a status index: the document itself, on paper or as a file."""

COMPACT, FLATTENED = "application/dc+sd-jwt", "application/sd-jwt+json"
"""Media types of the two serializations of an SD-JWT (RFC 9901); either is one line."""

_FACTS = ("archival_code", "certificate_no", "title")
_MARRIED = {"marriage": "married", "divorce": "divorced"}


def certificate_of(content: dict[str, Any], digest: bytes, at: datetime) -> Certificate:
    """A document's content as claims that are shown one by one: who, when, where; the other party a claim of its own."""
    statement = content["statement"]
    record = statement.get("record", {})
    facts: dict[str, Any] = {"category": record.get("category") or statement.get("category", "")}
    facts |= {name: record[name] for name in _FACTS if record.get(name)}
    if record.get("date"):
        facts["event_date"] = record["date"]
    people = list(record.get("parties", [])) or [statement["subject"]]
    for person, prefix in zip(people, ("", "other_"), strict=False):
        facts[f"{prefix}name"] = person["name"]
        if person.get("id_number"):
            facts[f"{prefix}id_number"] = person["id_number"]
    if facts["category"] in _MARRIED and record:
        facts["marital_status"] = _MARRIED[facts["category"]]
    if statement["kind"] == "no_record":
        facts["scope"] = "no_record"
    facts = {name: value for name, value in facts.items() if value}
    expires = content.get("expires_on")
    return Certificate(
        issuer=content["archive"],
        kind=f"urn:lantai:{statement['kind']}:1",
        number=content["number"],
        facts=facts,
        issued_at=at,
        expires_at=datetime.combine(datetime.fromisoformat(expires).date(), time.max, CHINA)
        if expires
        else None,
        digest=digest.hex(),
        reuse=Reuse((content["purpose"],)),
    )


class ArchiveCredentials:
    """Makes the credentials of one order, once: they are kept before the document that carries them, and made anew only when
    the order's content was corrected before it had one. Fits
    `node_agent.certificates.issuing.Credentials`. Several one-time credentials are delivered a line each; without a key of
    the applicant's phone the text of the QR code is delivered, which nobody can present as the holder. An archive with keys
    of a second suite signs with both, and its SD-JWTs take the flattened JSON form, which has room for that.
    """

    def __init__(
        self,
        keys: ArchiveKeys,
        registry: Registry,
        status_uri: str,
        holders: Sequence[dict[str, str]],
        at: datetime,
    ) -> None:
        """`at` is when the decision was made: asked again after a crash, the credentials say the same time."""
        self._keys, self._registry, self._uri = keys, registry, status_uri
        self._holders = tuple(holders)[:MOST_HOLDER_KEYS]
        self._at = at.replace(microsecond=0)

    def make(self, content: dict[str, Any], digest: bytes) -> Credential:
        certificate = certificate_of(content, digest, self._at)
        number = certificate.number
        signing, second = self._keys.credential, self._keys.second_of(Use.CREDENTIAL)
        paper = StatusReference(self._uri, self._registry.status_index(number, PAPER))
        qr_text = qr.build(certificate, key=signing.key, key_id=signing.id, status=paper, second=second)

        def fresh() -> bytes:
            credentials = (
                issue(
                    certificate,
                    key=signing.key,
                    key_id=signing.id,
                    holder=holder,
                    status=StatusReference(
                        self._uri, self._registry.status_index(number, f"credential-{place}")
                    ),
                    second=second,
                )
                for place, holder in enumerate(self._holders)
            )
            made = [one.compact() if second is None else one.flattened() for one in credentials]
            return "\n".join(made or [qr_text]).encode()

        form = COMPACT if second is None else FLATTENED
        media_type = form if self._holders else "text/plain"
        kept = self._registry.keep(number, "credential", media_type, fresh, digest)
        self.reference = kept.reference
        texts = self._registry.path(kept).read_text("ascii").split("\n") if self._holders else []
        ending = (
            "json" if kept.media_type == FLATTENED else "sd-jwt"
        )  # what was kept may be older than the keys
        files = tuple(
            attach(f"credential-{place}.{ending}", text.encode(), relationship="data")
            for place, text in enumerate(texts, 1)
        )
        return Credential(qr_text, files, paper.uri, paper.index)
