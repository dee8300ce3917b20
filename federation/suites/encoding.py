"""base64url without padding, in the one form a decoder accepts; thumbprints of keys (RFC 7638)."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256

from federation.verify.report import VerificationReason, VerifyError

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")


def b64u(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64u(text: str) -> bytes:
    """Decode strictly: no padding, no other characters, no unused bits set (two texts never mean the same bytes).

    Raises VerifyError `malformed`, or `not_canonical` for unused bits.
    """
    if not isinstance(text, str) or _ALPHABET.fullmatch(text) is None:
        raise VerifyError(VerificationReason.MALFORMED, "base64url")
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise VerifyError(VerificationReason.MALFORMED, "base64url") from error
    if b64u(data) != text:
        raise VerifyError(VerificationReason.NOT_CANONICAL, "base64url")
    return data


def thumbprint(jwk: Mapping[str, str]) -> str:
    """RFC 7638 over SHA-256; `jwk` holds only the required members, whose values need no JSON escapes."""
    body = ",".join(f'"{name}":"{jwk[name]}"' for name in sorted(jwk))
    return b64u(sha256(f"{{{body}}}".encode()).digest())
