"""A delivery package: document, credential and attachments, signed by the archive, sealed to the asking window.

Nobody between them can read it, and no answer can stand for another: the signature inside names the recipient's key, the
request and its digest, and HPKE is bound to the same through `info`. Layout of the plain package: `LTP1`, the length of the
manifest (4 bytes), the manifest as COSE_Sign1, then the parts one behind the other; the manifest holds their digests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from federation.credential import cbor, cose
from federation.credential.certificate import instant
from federation.suites.base import PrivateKey, PublicKey
from federation.suites.encoding import thumbprint
from federation.suites.registry import suite
from federation.trust import TrustList, Use
from federation.verify.judging import archive_key, check_second_signature
from federation.verify.report import VerificationReason, VerifyError

MOST_BYTES = 256 << 20
"""Of a package: a certificate with 200 MB of scans. It is opened in memory, three times its size at the peak."""

MOST_PARTS = 1_024
_MOST_MANIFEST = 512 << 10
_MAGIC = b"LTP1"
_TYPE = "application/lantai-package+cwt"
_DOMAIN = "lantai-delivery-v1"
_ISS, _AUD, _IAT, _PACKAGE = 1, 3, 6, -65_539
_REQUEST, _REQUEST_DIGEST, _PARTS = range(3)


@dataclass(frozen=True, slots=True)
class Binding:
    """What one answer answers: the issuing archive, the request and its SHA-256, the recipient's key (RFC 7638)."""

    issuer: str
    request_id: str
    request_digest: bytes
    recipient: str

    def info(self) -> bytes:
        """The `info` of HPKE: both sides compute it, so that only the right answer opens."""
        return cbor.dumps([_DOMAIN, self.issuer, self.request_id, self.request_digest, self.recipient])


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a package."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Package:
    """An opened package whose signature and digests held."""

    binding: Binding
    issued_at: datetime
    parts: tuple[Part, ...]

    def __getitem__(self, name: str) -> Part:
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)


def recipient_key(jwk: Mapping[str, Any], suite_name: str) -> PublicKey:
    """The key a caller gave, of the suite the roster fixes. Raises VerifyError wrong_suite, malformed, unsupported_suite."""
    chosen = suite(suite_name)
    return chosen.public_key(jwk, chosen.sealing)


def recipient_name(recipient: PublicKey) -> str:
    """The thumbprint a recipient's key is named by."""
    return thumbprint(suite(recipient.suite).jwk(recipient))


def pack(
    parts: Sequence[Part],
    binding: Binding,
    *,
    key: PrivateKey,
    key_id: str,
    at: datetime,
    second: tuple[PrivateKey, str] | None = None,
) -> bytes:
    """The signed package in plain; store it before delivery, so that every delivery sends the same answer."""
    names = {part.name for part in parts}
    if len(names) != len(parts) or len(parts) > MOST_PARTS or not parts:
        raise ValueError("a package needs parts with different names")
    manifest = {
        _ISS: binding.issuer,
        _AUD: binding.recipient,
        _IAT: int(at.timestamp()),
        _PACKAGE: {
            _REQUEST: binding.request_id,
            _REQUEST_DIGEST: binding.request_digest,
            _PARTS: [
                [part.name, part.media_type, len(part.content), sha256(part.content).digest()]
                for part in parts
            ],
        },
    }
    signed = cose.sign(cbor.dumps(manifest), key=key, key_id=key_id, typ=_TYPE, second=second)
    whole = b"".join((_MAGIC, len(signed).to_bytes(4, "big"), signed, *(part.content for part in parts)))
    if len(whole) > MOST_BYTES or len(signed) > _MOST_MANIFEST:
        raise VerifyError(VerificationReason.TOO_LARGE, f"> {MOST_BYTES}")
    return whole


def seal(package: bytes, binding: Binding, recipient: PublicKey) -> bytes:
    """Seal a package to its recipient; 48 bytes longer with `intl-1`."""
    if binding.recipient != recipient_name(recipient):
        raise ValueError("the binding names another recipient")
    return suite(recipient.suite).seal(recipient, package, binding.info())


def open_sealed(
    sealed: bytes, key: PrivateKey, expected: Binding, trust: TrustList, *, at: datetime | None = None
) -> Package:
    """Open the answer to one request and check it; `at` defaults to the time the archive signed.

    Raises VerifyError: `cannot_open` for another key, request or altered bytes, and what `open_package` raises.
    """
    if len(sealed) > MOST_BYTES + 1_024:
        raise VerifyError(VerificationReason.TOO_LARGE, f"> {MOST_BYTES}")
    return open_package(suite(key.suite).open(key, sealed, expected.info()), expected, trust, at=at)


def open_package(
    package: bytes, expected: Binding, trust: TrustList, *, at: datetime | None = None
) -> Package:
    """Check a package that came in plain or was unsealed. Whether it needs a second signature is judged as of now without `at`.

    Raises VerifyError: malformed, too_large, wrong_issuer, wrong_recipient, wrong_request, altered,
    attachment_mismatch, second_signature_missing, issue_time_unproven, not_yet_valid, and the reasons of keys.
    """
    if len(package) > MOST_BYTES:
        raise VerifyError(VerificationReason.TOO_LARGE, f"> {MOST_BYTES}")
    signed, rest = _split(package)
    claims = cbor.loads(signed.payload, most=_MOST_MANIFEST)
    match claims:
        case {
            1: str(issuer),
            3: str(recipient),
            -65_539: {0: str(request_id), 1: bytes(request_digest), 2: list(listed)},
        }:
            pass
        case _:
            raise VerifyError(VerificationReason.MALFORMED, "manifest")
    signed_at = instant(claims, _IAT)
    if issuer != expected.issuer:
        raise VerifyError(VerificationReason.WRONG_ISSUER)
    key = archive_key(trust, issuer, signed.key_id, Use.DELIVERY, signed_at)
    signed.verify(key.public)
    check_second_signature(
        trust, key, signed.second, signed.to_be_signed(), signed_at, at or datetime.now(UTC)
    )
    if recipient != expected.recipient:
        raise VerifyError(VerificationReason.WRONG_RECIPIENT)
    if (request_id, request_digest) != (expected.request_id, expected.request_digest):
        raise VerifyError(VerificationReason.WRONG_REQUEST)
    if at is not None and signed_at > at:
        raise VerifyError(VerificationReason.NOT_YET_VALID)
    return Package(expected, signed_at, tuple(_parts(listed, rest)))


def _split(package: bytes) -> tuple[cose.Sign1, memoryview]:
    length = int.from_bytes(package[4:8], "big")
    if package[:4] != _MAGIC or len(package) < 8 + length:
        raise VerifyError(VerificationReason.MALFORMED, "package")
    signed = cose.parse(package[8 : 8 + length], most=_MOST_MANIFEST)
    signed.require_type(_TYPE)
    return signed, memoryview(package)[8 + length :]


def _parts(listed: list[Any], rest: memoryview) -> list[Part]:
    parts: list[Part] = []
    at = 0
    if len(listed) > MOST_PARTS:
        raise VerifyError(VerificationReason.TOO_LARGE, f"> {MOST_PARTS}")
    for one in listed:
        match one:
            case [str(name), str(media_type), int(size), bytes(digest)]:
                content = bytes(rest[at : at + size])
                at += size
            case _:
                raise VerifyError(VerificationReason.MALFORMED, "manifest")
        if size < 0 or sha256(content).digest() != digest:
            raise VerifyError(VerificationReason.ATTACHMENT_MISMATCH, str(len(parts) + 1))
        parts.append(Part(name, media_type, content))
    if at != len(rest):
        raise VerifyError(VerificationReason.ATTACHMENT_MISMATCH, "size")
    return parts
