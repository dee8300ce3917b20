"""The text of the QR code on paper: a CWT (RFC 8392) signed as COSE_Sign1, in base45 behind the prefix `AC1:`.

Small keys and values keep a full certificate near 250 bytes, a QR code of version 12 that a phone reads from paper. Paper
is a bearer document: the code names the certificate, its facts as printed (numbers masked), and the digest of claims and
scan pages; it never proves who holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from federation.credential import base45, cbor, cose
from federation.credential.certificate import Certificate, Credential, instant
from federation.suites.base import PrivateKey
from federation.verify.report import VerificationReason, VerifyError
from federation.verify.status import StatusReference

PREFIX = "AC1:"

MOST_CHARACTERS = 4_296
"""What the largest QR code holds in alphanumeric mode."""

ISS, EXP, IAT = 1, 4, 6
LANTAI = -65_537
"""A claim of the private range (RFC 8392 §9.1.1); what it holds is below."""

KIND, NUMBER, FACTS, DIGEST, STATUS = range(5)

FACT_KEYS: dict[str, int] = {
    name: number
    for number, name in enumerate(
        (
            "name", "id_number", "birth_date", "other_name", "other_id_number", "event_date", "place", "certificate_no",
            "archival_code", "title", "category", "purpose", "sex", "scope", "marital_status",
        )
    )
}  # fmt: skip
"""Facts with a number of their own; append only, never renumber. Others are written by name."""

_FACT_NAMES = {number: name for name, number in FACT_KEYS.items()}


def build(
    certificate: Certificate,
    *,
    key: PrivateKey,
    key_id: str,
    status: StatusReference,
    second: tuple[PrivateKey, str] | None = None,
) -> str:
    """The text to print as an alphanumeric QR code."""
    inner: dict[int, Any] = {
        KIND: certificate.kind,
        NUMBER: certificate.number,
        FACTS: {FACT_KEYS.get(name, name): value for name, value in certificate.facts.items()},
        STATUS: [status.index, status.uri],
    }
    if certificate.digest is not None:
        inner[DIGEST] = bytes.fromhex(certificate.digest)
    claims: dict[int, Any] = {
        ISS: certificate.issuer,
        IAT: int(certificate.issued_at.timestamp()),
        LANTAI: inner,
    }
    if certificate.expires_at is not None:
        claims[EXP] = int(certificate.expires_at.timestamp())
    text = PREFIX + base45.encode(cose.sign(cbor.dumps(claims), key=key, key_id=key_id, second=second))
    if len(text) > MOST_CHARACTERS:
        raise VerifyError(VerificationReason.TOO_LARGE, f"QR > {MOST_CHARACTERS}")
    return text


@dataclass(frozen=True, slots=True)
class Code:
    """A parsed code whose signature has not been checked: `issuer` and `signed_at` say by whose key to check it."""

    message: cose.Sign1
    claims: Mapping[Any, Any]
    issuer: str
    signed_at: datetime


def parse(text: str) -> Code:
    """Take a QR text apart. Raises VerifyError too_large, malformed, not_canonical, wrong_type, missing_claim."""
    if len(text) > MOST_CHARACTERS:
        raise VerifyError(VerificationReason.TOO_LARGE, f"> {MOST_CHARACTERS}")
    if not text.startswith(PREFIX):
        raise VerifyError(VerificationReason.WRONG_TYPE, PREFIX)
    message = cose.parse(base45.decode(text[len(PREFIX) :]), most=MOST_CHARACTERS)
    if cose.TYP in message.header:
        raise VerifyError(VerificationReason.WRONG_TYPE, "typ")
    claims = cbor.loads(message.payload, most=MOST_CHARACTERS)
    if not isinstance(claims, dict) or claims.keys() - {ISS, EXP, IAT, LANTAI}:
        raise VerifyError(VerificationReason.MALFORMED, "CWT")
    if not isinstance(claims.get(ISS), str):
        raise VerifyError(VerificationReason.MISSING_CLAIM, "iss")
    return Code(message, claims, claims[ISS], instant(claims, IAT))


def read(code: Code) -> Credential:
    """Understand a code whose signature held. Raises VerifyError malformed or missing_claim."""
    claims = code.claims
    match claims.get(LANTAI):
        case {0: str(kind), 1: str(number), 2: dict(facts), 4: [int(index), str(uri)], **rest} if index >= 0:
            pass
        case _:
            raise VerifyError(VerificationReason.MALFORMED, "CWT")
    digest = rest.pop(DIGEST, None)
    if rest or (digest is not None and not (isinstance(digest, bytes) and len(digest) == 32)):
        raise VerifyError(VerificationReason.MALFORMED, "CWT")
    certificate = Certificate(
        issuer=code.issuer,
        kind=kind,
        number=number,
        facts=_facts(facts),
        issued_at=code.signed_at,
        expires_at=instant(claims, EXP) if EXP in claims else None,
        digest=None if digest is None else digest.hex(),
    )
    return Credential(certificate, None, StatusReference(uri, index))


def _facts(facts: Mapping[Any, Any]) -> dict[str, Any]:
    named = {_FACT_NAMES.get(key, key): value for key, value in facts.items()}
    if not all(isinstance(name, str) for name in named) or len(named) != len(facts):
        raise VerifyError(VerificationReason.MALFORMED, "CWT")
    return named
