"""COSE_Sign1 (RFC 9052) with the few headers Lantai uses: algorithm, key id, content type; a second suite unprotected.

As with JWS, the algorithm is that of the key on the trust list; the header may only agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cbor2

from federation.credential import cbor
from federation.credential.sd_jwt import SecondSignature
from federation.suites.base import PrivateKey, PublicKey
from federation.suites.registry import suite
from federation.verify.report import VerificationReason, VerifyError

SIGN1_TAG, CWT_TAG = 18, 61
ALG, KID, TYP = 1, 4, 16
SECOND = -70_001
"""Unprotected header of the private range: `[key id, signature]` of another suite over the same Sig_structure."""

_ALGORITHMS = {"ES256": -7, "Ed25519": -19, "SM2": -70_000}
"""RFC 9053 and RFC 9864; SM2 has no number, so one of the private range."""

_ALSO_READ = {"Ed25519": -8}  # EdDSA, the older name


@dataclass(frozen=True, slots=True)
class Sign1:
    """A parsed COSE_Sign1 whose signature has not been checked: nothing in it may be believed."""

    protected: bytes
    header: Mapping[Any, Any]
    payload: bytes
    signature: bytes
    key_id: str
    second: SecondSignature | None = None

    def to_be_signed(self, external_aad: bytes = b"") -> bytes:
        return _structure(self.protected, self.payload, external_aad)

    def require_type(self, typ: str) -> None:
        """RFC 9596: the `typ` header keeps one kind of token from being taken for another."""
        if self.header.get(TYP) != typ:
            raise VerifyError(VerificationReason.WRONG_TYPE, f"typ ≠ {typ}")

    def verify(self, key: PublicKey, external_aad: bytes = b"") -> None:
        """Raise VerifyError unless `key` made the signature with its own algorithm."""
        alg = self.header.get(ALG)
        if type(alg) is not int or alg not in (_ALGORITHMS.get(key.alg), _ALSO_READ.get(key.alg)):
            raise VerifyError(VerificationReason.WRONG_ALGORITHM, key.alg)
        suite(key.suite).verify(key, self.to_be_signed(external_aad), self.signature)


def sign(
    payload: bytes,
    *,
    key: PrivateKey,
    key_id: str,
    typ: str | None = None,
    second: tuple[PrivateKey, str] | None = None,
    external_aad: bytes = b"",
) -> bytes:
    """A tagged COSE_Sign1; `second` is a key of another suite and its id."""
    header: dict[int, Any] = {ALG: _ALGORITHMS[key.alg], KID: key_id.encode()}
    if typ is not None:
        header[TYP] = typ
    protected = cbor.dumps(header)
    message = _structure(protected, payload, external_aad)
    unprotected = {}
    if second is not None:
        unprotected[SECOND] = [second[1].encode(), suite(second[0].suite).sign(second[0], message)]
    signature = suite(key.suite).sign(key, message)
    return cbor.dumps(cbor2.CBORTag(SIGN1_TAG, [protected, unprotected, payload, signature]))


def parse(data: bytes, *, most: int) -> Sign1:
    """Take a COSE_Sign1 apart. Raises VerifyError too_large, too_deep, malformed, not_canonical, wrong_type."""
    tagged = cbor.loads(data, most=most, tags=frozenset({SIGN1_TAG}))
    if not isinstance(tagged, cbor.Tagged):
        raise VerifyError(VerificationReason.WRONG_TYPE, "COSE_Sign1")
    match tagged[1]:
        case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
            pass
        case _:
            raise VerifyError(VerificationReason.MALFORMED, "COSE_Sign1")
    header = cbor.loads(protected, most=most)
    if not isinstance(header, dict) or set(header) - {ALG, KID, TYP}:  # crit (2) among them
        raise VerifyError(VerificationReason.MALFORMED, "COSE header")
    if (KID in header) == (KID in unprotected):
        raise VerifyError(VerificationReason.MISSING_CLAIM, "kid")
    key_id = _key_id(header[KID] if KID in header else unprotected.pop(KID))
    return Sign1(protected, header, payload, signature, key_id, _second(unprotected))


def _second(unprotected: Mapping[Any, Any]) -> SecondSignature | None:
    match unprotected:
        case {-70_001: [key_id, bytes(signature)], **rest} if not rest:
            return SecondSignature(_key_id(key_id), signature)
        case {**rest} if not rest:
            return None
    raise VerifyError(VerificationReason.MALFORMED, "COSE header")


def _key_id(value: Any) -> str:
    try:
        if isinstance(value, bytes) and value:
            return value.decode()
    except UnicodeDecodeError:
        pass
    raise VerifyError(VerificationReason.MISSING_CLAIM, "kid")


def _structure(protected: bytes, payload: bytes, external_aad: bytes) -> bytes:
    return cbor.dumps(["Signature1", protected, external_aad, payload])
