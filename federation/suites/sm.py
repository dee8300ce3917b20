"""`sm-1`, the national algorithms (国密): SM3 (GB/T 32905), SM2 (GB/T 32918), SM4-GCM (GB/T 32907, RFC 8998).

Needs a libcrypto 3 and is optional: everything it makes stands beside a signature of `intl-1`. SM2 has no registered JOSE
or COSE number, so the key type is written EC with the private curve name `SM2`.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import SM4

from federation.suites.base import PrivateKey, PublicKey, altered, check_jwk, refuse_suite
from federation.suites.encoding import b64u, unb64u
from federation.suites.libcrypto import Sm2Key
from federation.verify.report import VerificationReason, VerifyError

NAME = "sm-1"
SM2 = "SM2"
SEALING = "SM2-SM4-GCM"

_KEY, _NONCE, _TAG = 16, 12, 16
_PEM = (b"-----BEGIN PRIVATE KEY-----\n", b"-----END PRIVATE KEY-----\n")


class Sm:
    """The optional suite."""

    name = NAME
    sealing = SEALING

    def digest(self, data: bytes) -> bytes:
        try:
            return hashlib.new("sm3", data).digest()
        except ValueError as error:  # Python's own OpenSSL lacks it
            raise VerifyError(VerificationReason.UNSUPPORTED_SUITE, "SM3", open=True) from error

    def generate(self, alg: str) -> PrivateKey:
        return _private(Sm2Key.generate(), alg)

    def sign(self, key: PrivateKey, message: bytes) -> bytes:
        r, s = decode_dss_signature(key.require(NAME, SM2).sign(message))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def verify(self, key: PublicKey, message: bytes, signature: bytes) -> None:
        native = key.require(NAME, SM2)
        if len(signature) != 64:
            raise altered()
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        if not native.verify(message, encode_dss_signature(r, s)):
            raise altered()

    def seal(self, recipient: PublicKey, plaintext: bytes, info: bytes) -> bytes:
        """SM2 carries a fresh SM4 key; SM4-GCM carries the text with `info` as associated data."""
        native = recipient.require(NAME, SEALING)
        secret, nonce = os.urandom(_KEY), os.urandom(_NONCE)
        carrier = native.encrypt(secret)
        cipher = Cipher(SM4(secret), modes.GCM(nonce)).encryptor()
        cipher.authenticate_additional_data(info)
        body = cipher.update(plaintext) + cipher.finalize()
        return b"".join((len(carrier).to_bytes(2, "big"), carrier, nonce, body, cipher.tag))

    def open(self, key: PrivateKey, sealed: bytes, info: bytes) -> bytes:
        native = key.require(NAME, SEALING)
        carrier_end = 2 + int.from_bytes(sealed[:2], "big")
        nonce, body, tag = (
            sealed[carrier_end : carrier_end + _NONCE],
            sealed[carrier_end + _NONCE : -_TAG],
            sealed[-_TAG:],
        )
        if len(sealed) < carrier_end + _NONCE + _TAG:
            raise VerifyError(VerificationReason.CANNOT_OPEN)
        secret = native.decrypt(sealed[2:carrier_end])
        if len(secret) != _KEY:
            raise VerifyError(VerificationReason.CANNOT_OPEN)
        cipher = Cipher(SM4(secret), modes.GCM(nonce, tag)).decryptor()
        cipher.authenticate_additional_data(info)
        try:
            return cipher.update(body) + cipher.finalize()
        except InvalidTag as error:
            raise VerifyError(VerificationReason.CANNOT_OPEN) from error

    def public_key(self, jwk: Mapping[str, Any], alg: str) -> PublicKey:
        if alg not in {SM2, SEALING}:
            raise VerifyError(VerificationReason.WRONG_ALGORITHM, alg)
        if (jwk.get("kty"), jwk.get("crv")) != ("EC", "SM2"):
            raise refuse_suite(f"JWK is no {alg} key")
        check_jwk(jwk, alg, sealing=alg == SEALING)
        x, y = (unb64u(value) if isinstance(value := jwk.get(name), str) else b"" for name in "xy")
        if len(x) != 32 or len(y) != 32:
            raise VerifyError(VerificationReason.MALFORMED, "JWK")
        return PublicKey(NAME, alg, Sm2Key.from_point(b"\x04" + x + y))

    def jwk(self, key: PublicKey) -> dict[str, str]:
        point = key.require(NAME, key.alg).point()
        return {"crv": "SM2", "kty": "EC", "x": b64u(point[1:33]), "y": b64u(point[33:])}

    def load(self, pem: bytes, alg: str) -> PrivateKey:
        body = pem.removeprefix(_PEM[0]).removesuffix(_PEM[1])
        try:
            der = b64decode(b"".join(body.split()), validate=True)
        except ValueError as error:
            raise VerifyError(VerificationReason.MALFORMED, "PEM") from error
        return _private(Sm2Key.from_pkcs8(der), alg)

    def dump(self, key: PrivateKey) -> bytes:
        text = b64encode(key.require(NAME, key.alg).pkcs8())
        lines = [text[at : at + 64] + b"\n" for at in range(0, len(text), 64)]
        return b"".join((_PEM[0], *lines, _PEM[1]))


def _private(native: Sm2Key, alg: str) -> PrivateKey:
    if alg not in {SM2, SEALING}:
        raise VerifyError(VerificationReason.WRONG_ALGORITHM, alg)
    return PrivateKey(PublicKey(NAME, alg, native), native)
