"""A certificate as an SD-JWT VC: issued by the holding archive, bound to the holder's key, shown claim by claim.

Whatever could tell two presentations of one certificate apart from others (its number, its digest) can be left out by the
holder; what a verifier must always see (issuer, kind, expiry, status, holder key, reuse policy) can not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from federation.credential import jws
from federation.credential.sd_jwt import Disclosure, SdJwt, SecondSignature, conceal, reveal
from federation.suites.base import PrivateKey
from federation.suites.encoding import b64u
from federation.suites.registry import suite
from federation.verify.report import VerificationReason, VerifyError
from federation.verify.status import StatusReference

TYPE = "dc+sd-jwt"
BINDING_TYPE = "kb+jwt"

ALWAYS_SEEN = frozenset({"iss", "iat", "nbf", "exp", "vct", "cnf", "status", "reuse"})
"""Claims a disclosure may never carry (SD-JWT VC §3.2.2.2, and the reuse policy)."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """What a certificate may be used for again: purpose codes and verifiers; empty means no restriction."""

    purposes: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the archive states. `kind` names the type (`vct`), `facts` are shown one by one; `number` and `digest` with them.

    `digest` is over claims and scan pages (hex SHA-256) and ties PDF, QR code and credential together. Times are UTC.
    """

    issuer: str
    kind: str
    number: str
    facts: Mapping[str, Any]
    issued_at: datetime
    expires_at: datetime | None = None
    digest: str | None = None
    reuse: Reuse = field(default_factory=Reuse)

    def disclosable(self) -> dict[str, Any]:
        claims = {**self.facts, "number": self.number}
        if self.digest is not None:
            claims["digest"] = self.digest
        taken = claims.keys() & (ALWAYS_SEEN | {"_sd", "_sd_alg", "..."})
        if taken or len(claims) < len(self.facts) + 1:
            raise ValueError(f"a fact may not be called {min(taken or {'number'})}")
        return claims


@dataclass(frozen=True, slots=True)
class Credential:
    """What a verifier reads after the signature held: the certificate as far as it was shown, and what binds it."""

    certificate: Certificate
    holder: Mapping[str, str] | None
    status: StatusReference | None


def issue(
    certificate: Certificate,
    *,
    key: PrivateKey,
    key_id: str,
    holder: Mapping[str, str],
    status: StatusReference,
    second: tuple[PrivateKey, str] | None = None,
) -> SdJwt:
    """Sign one credential bound to `holder` (a P-256 JWK). `second` is a key of another suite and its id."""
    concealed, disclosures = conceal(certificate.disclosable())
    payload: dict[str, Any] = {
        "iss": certificate.issuer,
        "iat": int(certificate.issued_at.timestamp()),
        "vct": certificate.kind,
        "cnf": {"jwk": dict(suite("intl-1").jwk(suite("intl-1").public_key(holder, "ES256")))},
        "status": {"status_list": {"idx": status.index, "uri": status.uri}},
        **concealed,
    }
    if certificate.expires_at is not None:
        payload["exp"] = int(certificate.expires_at.timestamp())
    reuse = {"purposes": certificate.reuse.purposes, "audiences": certificate.reuse.audiences}
    if any(reuse.values()):
        payload["reuse"] = {name: list(values) for name, values in reuse.items() if values}
    token = jws.sign({"typ": TYPE, "kid": key_id}, jws.compact_json(payload), key)
    credential = SdJwt(token, tuple(disclosures))
    return credential if second is None else add_second_signature(credential, *second)


def add_second_signature(credential: SdJwt, key: PrivateKey, key_id: str) -> SdJwt:
    """The same bytes signed once more by a key of another suite, detached; it travels in the JSON serialization."""
    signature = suite(key.suite).sign(key, credential.jws().signing_input)
    return replace(credential, second=SecondSignature(key_id, signature))


def present(
    credential: SdJwt, *, show: Sequence[str], holder_key: PrivateKey, audience: str, nonce: str, at: datetime
) -> SdJwt:
    """Show the claims named in `show` to `audience`, which asked with `nonce`; signed by the holder's key."""
    shown = credential.showing(show)
    body = {
        "iat": int(at.timestamp()),
        "aud": audience,
        "nonce": nonce,
        "sd_hash": sd_hash(shown),
    }
    return replace(shown, key_binding=jws.sign({"typ": BINDING_TYPE}, jws.compact_json(body), holder_key))


def sd_hash(presentation: SdJwt) -> str:
    """RFC 9901 §4.3.1: over the token and all disclosures shown, with the final tilde."""
    return b64u(suite("intl-1").digest(presentation.bound_part.encode()))


def signer(payload: Mapping[str, Any]) -> tuple[str, datetime]:
    """Who a payload says signed it, and when: what the key is looked up by, before the signature is checked."""
    return _text(payload, "iss"), instant(payload, "iat")


def read(claims_payload: Mapping[str, Any], disclosures: Sequence[Disclosure]) -> Credential:
    """Understand a payload whose signature held. Raises VerifyError malformed, missing_claim or altered."""
    if any(one.name in ALWAYS_SEEN for one in disclosures):
        raise VerifyError(VerificationReason.MALFORMED, "disclosure of a fixed claim")
    claims = reveal(claims_payload, disclosures)
    facts = {name: value for name, value in claims.items() if name not in ALWAYS_SEEN | {"number", "digest"}}
    number, digest = claims.get("number"), claims.get("digest")
    if not isinstance(number, str | None) or not isinstance(digest, str | None):
        raise VerifyError(VerificationReason.MALFORMED, "number")
    certificate = Certificate(
        issuer=_text(claims, "iss"),
        kind=_text(claims, "vct"),
        number=number or "",
        facts=facts,
        issued_at=instant(claims, "iat"),
        expires_at=instant(claims, "exp") if "exp" in claims else None,
        digest=digest,
        reuse=_reuse(claims.get("reuse", {})),
    )
    match claims.get("cnf"):
        case None:
            holder = None
        case {"jwk": dict(holder)}:
            pass
        case _:
            raise VerifyError(VerificationReason.MALFORMED, "cnf")
    return Credential(certificate, holder, status_reference(claims.get("status")))


def status_reference(status: Any) -> StatusReference | None:
    """The `status` claim of a JWT; None where there is none."""
    match status:
        case None:
            return None
        case {"status_list": {"idx": int(index), "uri": str(uri)}} if index >= 0 and index is not True:
            return StatusReference(uri, index)
    raise VerifyError(VerificationReason.MALFORMED, "status")


def instant(claims: Mapping[Any, Any], name: Any) -> datetime:
    """A NumericDate claim as UTC. Raises VerifyError missing_claim or malformed."""
    value = claims.get(name)
    if value is None:
        raise VerifyError(VerificationReason.MISSING_CLAIM, str(name))
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise VerifyError(VerificationReason.MALFORMED, str(name))
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise VerifyError(VerificationReason.MALFORMED, str(name)) from error


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if value is None:
        raise VerifyError(VerificationReason.MISSING_CLAIM, name)
    if not isinstance(value, str):
        raise VerifyError(VerificationReason.MALFORMED, name)
    return value


def _reuse(tree: Any) -> Reuse:
    if not isinstance(tree, dict) or tree.keys() - {"purposes", "audiences"}:
        raise VerifyError(VerificationReason.MALFORMED, "reuse")
    for values in tree.values():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise VerifyError(VerificationReason.MALFORMED, "reuse")
    return Reuse(tuple(tree.get("purposes", ())), tuple(tree.get("audiences", ())))
