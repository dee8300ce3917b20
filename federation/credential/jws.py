"""JWS compact serialization (RFC 7515) as Lantai signs and reads it.

The algorithm is that of the key; a header may only agree with it. Keys or links to keys inside a header are never looked
at, and a header that demands extensions (`crit`) is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from federation.suites.base import PrivateKey, PublicKey
from federation.suites.encoding import b64u, unb64u
from federation.suites.registry import suite
from federation.verify import strict_json
from federation.verify.report import VerificationReason, VerifyError

_MOST_HEADER = 4_096

_SAME = {"Ed25519": {"Ed25519", "EdDSA"}}
"""RFC 9864 renamed EdDSA; both names are read, the new one is written."""


@dataclass(frozen=True, slots=True)
class Jws:
    """A parsed token whose signature has not been checked yet: nothing in it may be believed."""

    header: Mapping[str, Any]
    payload: bytes
    signing_input: bytes
    signature: bytes

    @property
    def key_id(self) -> str:
        kid = self.header.get("kid")
        if not isinstance(kid, str):
            raise VerifyError(VerificationReason.MISSING_CLAIM, "kid")
        return kid

    def require_type(self, typ: str) -> None:
        """RFC 8725 §3.11: one kind of token must never be taken for another."""
        if self.header.get("typ") != typ:
            raise VerifyError(VerificationReason.WRONG_TYPE, f"typ ≠ {typ}")

    def verify(self, key: PublicKey) -> None:
        """Raise VerifyError unless `key` made the signature with its own algorithm."""
        alg = self.header.get("alg")  # of any type: nothing in it is believed yet
        if not isinstance(alg, str) or alg not in _SAME.get(key.alg, {key.alg}):
            raise VerifyError(VerificationReason.WRONG_ALGORITHM, key.alg)
        suite(key.suite).verify(key, self.signing_input, self.signature)

    def claims(self, *, most: int) -> dict[str, Any]:
        return strict_json.load_object(self.payload, most=most)


def compact_json(tree: Any) -> bytes:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()


def sign(header: Mapping[str, Any], payload: bytes, key: PrivateKey) -> str:
    """A compact token; `alg` is written by the key."""
    signing_input = f"{b64u(compact_json({'alg': key.alg, **header}))}.{b64u(payload)}"
    return f"{signing_input}.{b64u(suite(key.suite).sign(key, signing_input.encode()))}"


def parse(token: str, *, most: int) -> Jws:
    """Take a compact token apart. Raises VerifyError too_large, too_deep, malformed or not_canonical."""
    if len(token) > most:
        raise VerifyError(VerificationReason.TOO_LARGE, f"> {most}")
    parts = token.split(".")
    if len(parts) != 3:
        raise VerifyError(VerificationReason.MALFORMED, "JWS")
    protected, payload, signature = (unb64u(part) for part in parts)
    header = strict_json.load_object(protected, most=_MOST_HEADER)
    if "crit" in header or "b64" in header:
        raise VerifyError(VerificationReason.MALFORMED, "crit")
    return Jws(header, payload, f"{parts[0]}.{parts[1]}".encode(), signature)
