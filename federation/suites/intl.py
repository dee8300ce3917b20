"""`intl-1`: SHA-256, ES256 and Ed25519 signatures, HPKE (RFC 9180: X25519, HKDF-SHA256, AES-128-GCM), base mode."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from federation.suites.base import PrivateKey, PublicKey, altered, check_jwk, refuse_suite
from federation.suites.encoding import b64u, unb64u
from federation.verify.report import VerificationReason, VerifyError

NAME = "intl-1"
ES256, ED25519 = "ES256", "Ed25519"
SEALING = "HPKE-X25519-SHA256-A128GCM"

_ANY_KEY = x25519.X25519PrivateKey.from_private_bytes(bytes(32))
"""To find points of small order by: with them every private key agrees on the same secret, zero (RFC 7748, 6.1)."""

_HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
_ES256 = ec.ECDSA(hashes.SHA256())
_CURVES = {ES256: ("EC", "P-256"), ED25519: ("OKP", "Ed25519"), SEALING: ("OKP", "X25519")}


class Intl:
    """The default suite."""

    name = NAME
    sealing = SEALING

    def digest(self, data: bytes) -> bytes:
        return sha256(data).digest()

    def generate(self, alg: str) -> PrivateKey:
        match alg:
            case "ES256":
                return _private(ec.generate_private_key(ec.SECP256R1()), alg)
            case "Ed25519":
                return _private(ed25519.Ed25519PrivateKey.generate(), alg)
            case "HPKE-X25519-SHA256-A128GCM":
                return _private(x25519.X25519PrivateKey.generate(), alg)
        raise VerifyError(VerificationReason.WRONG_ALGORITHM, alg)

    def sign(self, key: PrivateKey, message: bytes) -> bytes:
        native = key.require(NAME, key.alg)
        if key.alg == ES256:
            r, s = decode_dss_signature(native.sign(message, _ES256))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        if key.alg == ED25519:
            signature: bytes = native.sign(message)
            return signature
        raise VerifyError(VerificationReason.WRONG_ALGORITHM, key.alg)

    def verify(self, key: PublicKey, message: bytes, signature: bytes) -> None:
        native = key.require(NAME, key.alg)
        if len(signature) != 64:
            raise altered()
        try:
            if key.alg == ES256:
                r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                native.verify(encode_dss_signature(r, s), message, _ES256)
            elif key.alg == ED25519:
                native.verify(signature, message)
            else:
                raise VerifyError(VerificationReason.WRONG_ALGORITHM, key.alg)
        except InvalidSignature as error:
            raise altered() from error

    def seal(self, recipient: PublicKey, plaintext: bytes, info: bytes) -> bytes:
        return _HPKE.encrypt(plaintext, recipient.require(NAME, SEALING), info)

    def open(self, key: PrivateKey, sealed: bytes, info: bytes) -> bytes:
        native = key.require(NAME, SEALING)
        try:
            return _HPKE.decrypt(sealed, native, info)
        except Exception as error:  # the library has no common base for "short", "bad point" and "bad tag"
            raise VerifyError(VerificationReason.CANNOT_OPEN) from error

    def public_key(self, jwk: Mapping[str, Any], alg: str) -> PublicKey:
        if alg not in _CURVES:
            raise VerifyError(VerificationReason.WRONG_ALGORITHM, alg)
        if (jwk.get("kty"), jwk.get("crv")) != _CURVES[alg]:
            raise refuse_suite(f"JWK is no {alg} key")
        check_jwk(jwk, alg, sealing=alg == SEALING)
        x = _coordinate(jwk, "x")
        try:
            if alg == ES256:
                point = b"\x04" + x + _coordinate(jwk, "y")
                return PublicKey(
                    NAME, alg, ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
                )
            if alg == ED25519:
                return PublicKey(NAME, alg, ed25519.Ed25519PublicKey.from_public_bytes(x))
            recipient = x25519.X25519PublicKey.from_public_bytes(x)
            _ANY_KEY.exchange(recipient)  # ValueError for a point of small order: nothing can be sealed to it
            return PublicKey(NAME, alg, recipient)
        except ValueError as error:
            raise VerifyError(VerificationReason.MALFORMED, "JWK") from error

    def jwk(self, key: PublicKey) -> dict[str, str]:
        native = key.require(NAME, key.alg)
        kty, curve = _CURVES[key.alg]
        if key.alg == ES256:
            numbers = native.public_numbers()
            x, y = (b64u(value.to_bytes(32, "big")) for value in (numbers.x, numbers.y))
            return {"crv": curve, "kty": kty, "x": x, "y": y}
        return {"crv": curve, "kty": kty, "x": b64u(native.public_bytes_raw())}

    def load(self, pem: bytes, alg: str) -> PrivateKey:
        try:
            return _private(serialization.load_pem_private_key(pem, None), alg)
        except UnsupportedAlgorithm as error:
            raise refuse_suite("PEM") from error
        except (ValueError, TypeError) as error:
            raise VerifyError(VerificationReason.MALFORMED, "PEM") from error

    def dump(self, key: PrivateKey) -> bytes:
        pem: bytes = key.require(NAME, key.alg).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem


def public_of(native: object) -> PublicKey:
    """The key of a certificate or library object, with the algorithm its type fixes. Raises wrong_suite for others."""
    match native:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return PublicKey(NAME, ES256, native)
        case ed25519.Ed25519PublicKey():
            return PublicKey(NAME, ED25519, native)
        case x25519.X25519PublicKey():
            return PublicKey(NAME, SEALING, native)
    raise refuse_suite(type(native).__name__)


def _private(native: Any, alg: str) -> PrivateKey:
    public = public_of(native.public_key())
    public.require(NAME, alg)
    return PrivateKey(public, native)


def _coordinate(jwk: Mapping[str, Any], name: str) -> bytes:
    value = jwk.get(name)
    data = unb64u(value) if isinstance(value, str) else b""
    if len(data) != 32:
        raise VerifyError(VerificationReason.MALFORMED, f"JWK {name}")
    return data
