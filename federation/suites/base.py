"""What every crypto suite offers, and the keys it works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from federation.verify.report import VerificationReason, VerifyError


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key of one suite and one algorithm; `native` is what the suite's library works on."""

    suite: str
    alg: str
    native: Any

    def require(self, suite: str, alg: str) -> Any:
        """The native key, if it is of this suite and algorithm; raises wrong_suite or wrong_algorithm."""
        if self.suite != suite:
            raise VerifyError(VerificationReason.WRONG_SUITE, f"{self.suite} ≠ {suite}")
        if self.alg != alg:
            raise VerifyError(VerificationReason.WRONG_ALGORITHM, f"{self.alg} ≠ {alg}")
        return self.native


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """A private key with its public half; never shown, never logged."""

    public: PublicKey
    native: Any

    @property
    def suite(self) -> str:
        return self.public.suite

    @property
    def alg(self) -> str:
        return self.public.alg

    def require(self, suite: str, alg: str) -> Any:
        """The native key, if it is of this suite and algorithm; raises wrong_suite or wrong_algorithm."""
        self.public.require(suite, alg)
        return self.native


class CryptoSuite(Protocol):
    """Algorithms that belong together. Signatures are 64 raw bytes (r ‖ s, or R ‖ S of Ed25519) whatever the curve."""

    @property
    def name(self) -> str: ...

    @property
    def sealing(self) -> str:
        """The name of the algorithm `seal` and `open` use."""
        ...

    def digest(self, data: bytes) -> bytes:
        """The suite's hash, 32 bytes."""
        ...

    def generate(self, alg: str) -> PrivateKey:
        """A new key for a signature algorithm of the suite, or for its sealing."""
        ...

    def sign(self, key: PrivateKey, message: bytes) -> bytes: ...

    def verify(self, key: PublicKey, message: bytes, signature: bytes) -> None:
        """Raise VerifyError `altered` unless this is the key's signature of the message; wrong_suite for a foreign key."""
        ...

    def seal(self, recipient: PublicKey, plaintext: bytes, info: bytes) -> bytes:
        """Encrypt so that only the recipient, naming the same `info`, can open it."""
        ...

    def open(self, key: PrivateKey, sealed: bytes, info: bytes) -> bytes:
        """Raise VerifyError `cannot_open` if key, info or bytes are not those it was sealed with."""
        ...

    def public_key(self, jwk: Mapping[str, Any], alg: str) -> PublicKey:
        """Read a JWK; only the members the algorithm needs count. Raises VerifyError wrong_suite or malformed."""
        ...

    def jwk(self, key: PublicKey) -> dict[str, str]:
        """The JWK of a public key: exactly the members its RFC 7638 thumbprint is made of."""
        ...

    def load(self, pem: bytes, alg: str) -> PrivateKey:
        """Read a private key in PKCS #8 PEM."""
        ...

    def dump(self, key: PrivateKey) -> bytes:
        """A private key as PKCS #8 PEM, unencrypted: the caller keeps the file at mode 0600."""
        ...


def refuse_suite(detail: str = "") -> VerifyError:
    return VerifyError(VerificationReason.WRONG_SUITE, detail)


def altered() -> VerifyError:
    return VerifyError(VerificationReason.ALTERED)


def check_jwk(jwk: Mapping[str, Any], alg: str, *, sealing: bool) -> None:
    """Refuse a JWK that says itself that it is for another algorithm or use (RFC 7517 §4.2 to 4.4)."""
    if jwk.get("alg", alg) != alg:
        raise VerifyError(VerificationReason.WRONG_ALGORITHM, "JWK alg")
    operations = jwk.get("key_ops", ["verify", "deriveKey", "deriveBits"])
    allowed = {"deriveKey", "deriveBits"} if sealing else {"verify"}
    if jwk.get("use", "enc" if sealing else "sig") != ("enc" if sealing else "sig") or not (
        isinstance(operations, list) and allowed & {one for one in operations if isinstance(one, str)}
    ):
        raise VerifyError(VerificationReason.WRONG_USAGE, "JWK use")
