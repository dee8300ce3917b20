"""SD-JWT (RFC 9901): a signed token whose claims the holder may show one by one.

This module knows the form alone: making and reading disclosures, putting them back, the compact and the flattened JSON
serialization. What a certificate is, and who may be believed, is said elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256, sha384, sha512
from random import SystemRandom
from typing import Any

from federation.credential.jws import Jws, compact_json
from federation.credential.jws import parse as parse_jws
from federation.suites.encoding import b64u, unb64u
from federation.verify import strict_json
from federation.verify.report import VerificationReason, VerifyError

MOST_CHARACTERS = 256 << 10
"""Of a credential or presentation; a full certificate with ten claims takes 2.2 K."""

MOST_DISCLOSURES = 256

_SALT_BYTES = 16  # RFC 9901 §9.3 recommends 128 bits
_HASHES = {"sha-256": sha256, "sha-384": sha384, "sha-512": sha512}
_SHUFFLER = SystemRandom()


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One claim (`name` set) or array element (`name` None) as the holder shows it; `text` is what is hashed."""

    text: str
    name: str | None
    value: Any

    def digest(self, algorithm: str = "sha-256") -> str:
        return b64u(_HASHES[algorithm](self.text.encode()).digest())

    @classmethod
    def make(cls, name: str, value: Any) -> Disclosure:
        """With a fresh salt."""
        return cls(b64u(compact_json([b64u(os.urandom(_SALT_BYTES)), name, value])), name, value)

    @classmethod
    def read(cls, text: str) -> Disclosure:
        """Raises VerifyError `malformed`."""
        tree = strict_json.loads(unb64u(text), most=MOST_CHARACTERS)
        match tree:
            case [str(), str(name), value] if name not in {"_sd", "..."}:
                return cls(text, name, value)
            case [str(), value]:
                return cls(text, None, value)
        raise VerifyError(VerificationReason.MALFORMED, "disclosure")


@dataclass(frozen=True, slots=True)
class SecondSignature:
    """A detached signature of another suite over the same bytes as the first."""

    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class SdJwt:
    """An SD-JWT, or with `key_binding` an SD-JWT+KB, as text parts; nothing is verified yet."""

    token: str
    disclosures: tuple[Disclosure, ...] = ()
    key_binding: str | None = None
    second: SecondSignature | None = None

    @property
    def bound_part(self) -> str:
        """What the holder's key binding signs: everything but itself."""
        return "~".join((self.token, *(one.text for one in self.disclosures), ""))

    def compact(self) -> str:
        return self.bound_part + (self.key_binding or "")

    def flattened(self) -> str:
        """The flattened JSON serialization (RFC 9901 §8), the one that has room for a second signature."""
        protected, payload, signature = self.token.split(".")
        header: dict[str, Any] = {"disclosures": [one.text for one in self.disclosures]}
        if self.key_binding is not None:
            header["kb_jwt"] = self.key_binding
        if self.second is not None:
            header["second_signature"] = {"kid": self.second.key_id, "signature": b64u(self.second.signature)}
        tree = {"payload": payload, "protected": protected, "signature": signature, "header": header}
        return compact_json(tree).decode()

    def jws(self) -> Jws:
        return parse_jws(self.token, most=MOST_CHARACTERS)

    def showing(self, names: Iterable[str]) -> SdJwt:
        """The same token with the disclosures of these top-level claims only."""
        wanted = set(names)
        missing = wanted - {one.name for one in self.disclosures}
        if missing:
            raise VerifyError(VerificationReason.MISSING_CLAIM, min(missing))
        return replace(self, disclosures=tuple(one for one in self.disclosures if one.name in wanted))


def conceal(claims: Mapping[str, Any], *, decoys: int = 0) -> tuple[dict[str, Any], list[Disclosure]]:
    """The `_sd` part of a payload and the disclosures of `claims`, in an order that says nothing."""
    disclosures = [Disclosure.make(name, value) for name, value in claims.items()]
    digests = [one.digest() for one in disclosures]
    digests += [b64u(sha256(os.urandom(32)).digest()) for _ in range(decoys)]
    _SHUFFLER.shuffle(digests)
    return {"_sd": digests, "_sd_alg": "sha-256"}, disclosures


def parse(text: str) -> SdJwt:
    """Read either serialization. Raises VerifyError too_large, too_deep, malformed or not_canonical."""
    if len(text) > MOST_CHARACTERS:
        raise VerifyError(VerificationReason.TOO_LARGE, f"> {MOST_CHARACTERS}")
    return _parse_flattened(text) if text.startswith("{") else _parse_compact(text)


def _parse_compact(text: str) -> SdJwt:
    token, *shown, last = text.split("~") if "~" in text else (text, "~")
    if last == "~" or token.count(".") != 2:
        raise VerifyError(VerificationReason.MALFORMED, "SD-JWT")
    return SdJwt(token, _disclosures(shown), last or None)


def _parse_flattened(text: str) -> SdJwt:
    tree = strict_json.load_object(text, most=MOST_CHARACTERS)
    match tree:
        case {
            "payload": str(payload),
            "protected": str(protected),
            "signature": str(signature),
            "header": {"disclosures": list(shown), **header},
        } if all(isinstance(one, str) for one in shown) and not set(header) - {"kb_jwt", "second_signature"}:
            pass
        case _:
            raise VerifyError(VerificationReason.MALFORMED, "SD-JWT JSON")
    binding = header.get("kb_jwt")
    if binding is not None and not isinstance(binding, str):
        raise VerifyError(VerificationReason.MALFORMED, "kb_jwt")
    second = None
    if "second_signature" in header:
        match header["second_signature"]:
            case {"kid": str(key_id), "signature": str(value), **rest} if not rest:
                second = SecondSignature(key_id, unb64u(value))
            case _:
                raise VerifyError(VerificationReason.MALFORMED, "second_signature")
    return SdJwt(f"{protected}.{payload}.{signature}", _disclosures(shown), binding, second)


def _disclosures(texts: list[str]) -> tuple[Disclosure, ...]:
    if len(texts) > MOST_DISCLOSURES:
        raise VerifyError(VerificationReason.TOO_LARGE, f"> {MOST_DISCLOSURES}")
    return tuple(Disclosure.read(text) for text in texts)


def reveal(payload: Mapping[str, Any], disclosures: Iterable[Disclosure]) -> dict[str, Any]:
    """The claims with every shown disclosure put back (RFC 9901 §7.1).

    Raises VerifyError `altered` for a disclosure the token does not speak of, `malformed` for digests that repeat, claims
    shown over others, and unknown hash algorithms.
    """
    algorithm = payload.get("_sd_alg", "sha-256")
    if not isinstance(algorithm, str) or algorithm not in _HASHES:
        raise VerifyError(VerificationReason.WRONG_ALGORITHM, "_sd_alg")
    shown = tuple(disclosures)
    by_digest = {one.digest(algorithm): one for one in shown}
    if len(by_digest) != len(shown):
        raise VerifyError(VerificationReason.MALFORMED, "disclosure twice")
    revealing = _Revealing(by_digest)
    claims = revealing.object(payload, strict_json.DEEPEST)
    claims.pop("_sd_alg", None)
    if revealing.used != by_digest.keys():
        raise VerifyError(VerificationReason.ALTERED, "disclosure")
    return claims


class _Revealing:
    def __init__(self, by_digest: Mapping[str, Disclosure]) -> None:
        self._by_digest = by_digest
        self._met: set[str] = set()
        self.used: set[str] = set()

    def value(self, value: Any, left: int) -> Any:
        if left == 0:
            raise VerifyError(VerificationReason.TOO_DEEP, f"> {strict_json.DEEPEST}")
        if isinstance(value, dict):
            return self.object(value, left)
        return self.array(value, left) if isinstance(value, list) else value

    def object(self, tree: Mapping[str, Any], left: int) -> dict[str, Any]:
        claims = {}
        for name, value in tree.items():
            if name == "...":
                raise VerifyError(VerificationReason.MALFORMED, "...")
            if name != "_sd":
                claims[name] = self.value(value, left - 1)
        digests = tree.get("_sd", [])
        if not isinstance(digests, list):
            raise VerifyError(VerificationReason.MALFORMED, "_sd")
        for digest in digests:
            shown = self._shown(digest)
            if shown is None:
                continue
            if shown.name is None or shown.name in claims:
                raise VerifyError(VerificationReason.MALFORMED, "_sd")
            claims[shown.name] = self.value(shown.value, left - 1)
        return claims

    def array(self, items: list[Any], left: int) -> list[Any]:
        shown_items = []
        for item in items:
            if isinstance(item, dict) and "..." in item:
                shown = self._shown(item["..."])
                if len(item) != 1 or (shown is not None and shown.name is not None):
                    raise VerifyError(VerificationReason.MALFORMED, "...")
                if shown is not None:
                    shown_items.append(self.value(shown.value, left - 1))
            else:
                shown_items.append(self.value(item, left - 1))
        return shown_items

    def _shown(self, digest: Any) -> Disclosure | None:
        if not isinstance(digest, str) or digest in self._met:
            raise VerifyError(VerificationReason.MALFORMED, "_sd")
        self._met.add(digest)
        shown = self._by_digest.get(digest)
        if shown is not None:
            self.used.add(digest)
        return shown
