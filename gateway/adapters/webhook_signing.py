"""Signatures of Standard Webhooks 1.0: `v1` (HMAC-SHA256 with a shared secret) and `v1a` (Ed25519 with the gateway's key).

Several signatures stand in one header, so that a secret or a key can be changed while both sides know both.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.process.durable import write_secret

SHORTEST_SECRET = 24
"""Bytes of a shared secret (Standard Webhooks: 24 to 64)."""

_LONGEST_SECRET = 64


class SecretError(ValueError):
    """A text is no webhook secret; the message says why, never the text."""


def read_secret(text: str) -> bytes:
    """The bytes of a secret written as `whsec_` and base64."""
    try:
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SecretError("webhook_secret 应为 base64 · webhook_secret must be base64") from error
    if not SHORTEST_SECRET <= len(secret) <= _LONGEST_SECRET:
        raise SecretError("webhook_secret 应为 24 至 64 字节 · webhook_secret must have 24 to 64 bytes")
    return secret


class CallKey:
    """The gateway's Ed25519 key for calls to platforms."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def at(cls, path: Path) -> CallKey:
        """Read the key, or make it on first use with mode 0600."""
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_secret(path, pem)
        loaded = serialization.load_pem_private_key(path.read_bytes(), None)
        if not isinstance(loaded, Ed25519PrivateKey):
            raise TypeError(f"{path} does not hold an Ed25519 key")
        return cls(loaded)

    @property
    def public(self) -> str:
        """What a platform verifies with: `whpk_` and the base64 of the public key's 32 bytes."""
        return "whpk_" + base64.b64encode(self._private.public_key().public_bytes_raw()).decode()

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data)


@dataclass(frozen=True, slots=True)
class Signer:
    """All a platform's calls are signed with: its secrets, the newest first, and the gateway's key."""

    secrets: Sequence[bytes] = ()
    key: CallKey | None = None

    def sign(self, message_id: str, timestamp: int, body: bytes) -> str:
        """The `webhook-signature` value."""
        data = f"{message_id}.{timestamp}.".encode() + body
        made = [
            "v1," + base64.b64encode(hmac.new(secret, data, hashlib.sha256).digest()).decode()
            for secret in self.secrets
        ]
        if self.key is not None:
            made.append("v1a," + base64.b64encode(self.key.sign(data)).decode())
        return " ".join(made)
