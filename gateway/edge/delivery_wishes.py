"""Reading how a caller wants the document: its language, the phone's keys for the credential, the key it is sealed to.

Keys come as JWKs (RFC 7517) and are kept as nothing but their public members; one that holds a private member is refused
by name, so that whoever sent it learns that it is compromised.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from federation.reasons import Reason, Refusal
from federation.suites import INTL
from federation.suites.registry import suite
from federation.verify.report import VerifyError

MOST_HOLDER_KEYS = 16
"""One-time credentials of one document: enough for every counter of an errand."""

_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""Private and symmetric members (RFC 7518, 6.2.2, 6.3.2, 6.4)."""

_KNOWN = frozenset({"kty", "crv", "x", "y", "kid", "use", "alg", "key_ops", "ext"})
_LONGEST = 128
_HOLDER_ALGORITHM = "ES256"

Jwk = dict[str, Any]


class DeliveryBody(Struct, forbid_unknown_fields=True, frozen=True):
    """`delivery` of POST /v1/cases. `language` en adds a page in English; `holder_keys` are P-256, `public_key` X25519."""

    language: Annotated[str, Meta(max_length=8)] | None = None
    holder_keys: Annotated[tuple[Jwk, ...], Meta(max_length=MOST_HOLDER_KEYS)] | None = None
    public_key: Jwk | None = None


def check_delivery(body: DeliveryBody | None) -> dict[str, Any]:
    """The wishes as a case keeps them, {} when there are none; Refusal names reason and field."""
    if body is None:
        return {}
    if body.language not in {None, "zh", "en"}:
        raise Refusal(Reason.OUT_OF_RANGE, "/delivery/language", allowed="zh, en")
    chosen = suite(INTL)
    kept: dict[str, Any] = {}
    if body.language == "en":
        kept["language"] = "en"
    keys = [
        _public(one, _HOLDER_ALGORITHM, f"/delivery/holder_keys/{place}")
        for place, one in enumerate(body.holder_keys or ())
    ]
    for place, key in enumerate(keys):
        if key in keys[:place]:  # each credential is for one key: two of one key are one
            raise Refusal(Reason.INVALID_KEY, f"/delivery/holder_keys/{place}")
    if keys:
        kept["holder_keys"] = keys
    if body.public_key is not None:
        kept["public_key"] = _public(body.public_key, chosen.sealing, "/delivery/public_key")
    return kept


def _public(jwk: Jwk, alg: str, pointer: str) -> dict[str, str]:
    """The public members of a JWK, checked to be a key of this algorithm."""
    if jwk.keys() & _PRIVATE:
        raise Refusal(Reason.PRIVATE_KEY_GIVEN, pointer)
    if jwk.keys() - _KNOWN:
        raise Refusal(Reason.UNKNOWN_FIELD, pointer, allowed=", ".join(sorted(_KNOWN)))
    if any(isinstance(value, str) and len(value) > _LONGEST for value in jwk.values()):
        raise Refusal(Reason.TOO_LONG, pointer, allowed=f"<= {_LONGEST}")
    chosen = suite(INTL)
    try:
        return chosen.jwk(chosen.public_key(jwk, alg))
    except (VerifyError, TypeError, ValueError):
        raise Refusal(Reason.INVALID_KEY, pointer) from None
