"""Access tokens: the one module that imports jwt. RFC 9068 tokens, RFC 7523 client assertions.

The algorithm is fixed by the key, never by the token; keys inside a token are ignored; type, issuer, audience and expiry
are always checked. Verified tokens are remembered under their digest until they expire: a look-up instead of 78 us.
"""

from __future__ import annotations

import re
import time
import tomllib
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from federation.process.durable import write_secret
from federation.reasons import Reason, Refusal
from federation.suites.encoding import thumbprint

TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068
ALGORITHM = "ES256"
LONGEST_ASSERTION_S = 60
_MOST_REMEMBERED = 10_000
_LEEWAY_S = 5
_LONGEST_TOKEN = 4_096
_MOST_ASSERTIONS = 20_000
"""Assertions remembered of one platform: more than the usual rate of 6,000 a minute gives in the two minutes each is kept."""

SCOPES = ("search", "cases")
"""What a token may permit: searches and archives; cases."""

CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Of a platform. It is logged, so it must be no name of a person."""

_CLIENT_KEYS = {"id", "scope", "jwk", "webhook", "webhook_secret", "webhook_networks"}


class ClientsError(ValueError):
    """The file of platforms can not be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a token speaks for: a client id and its scopes."""

    client: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Key:
    algorithm: str
    public: Any


class SigningKey:
    """The gateway's own ES256 key; `kid` is its RFC 7638 thumbprint."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self.private = private
        jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        self.kid = thumbprint({name: jwk[name] for name in ("crv", "kty", "x", "y")})
        self.jwk = {**jwk, "kid": self.kid, "alg": ALGORITHM, "use": "sig"}

    @classmethod
    def at(cls, path: Path) -> SigningKey:
        """Read the key, or make it on first use with mode 0600."""
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = ec.generate_private_key(ec.SECP256R1())
            pem = made.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_secret(path, pem)
        loaded = serialization.load_pem_private_key(path.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{path} does not hold an EC key")
        return cls(loaded)


class Tokens:
    """Mints and verifies access tokens of one issuer and audience. `clock` is the wall clock: tokens carry it."""

    def __init__(
        self, signing: SigningKey, issuer: str, audience: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._signing, self.issuer, self.audience, self._clock = signing, issuer, audience, clock
        self._keys = {signing.kid: _Key(ALGORITHM, signing.private.public_key())}
        self._remembered: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def jwks(self) -> dict[str, Any]:
        """The public keys, for those who verify our tokens."""
        return {"keys": [self._signing.jwk]}

    def mint(self, client: str, scopes: str = "search", lifetime_s: int = 600) -> str:
        """A signed access token for `client`."""
        now = int(self._clock())
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": client,
            "client_id": client,
            "scope": scopes,
            "iat": now,
            "exp": now + lifetime_s,
            "jti": str(uuid.uuid4()),
        }
        headers = {"typ": TOKEN_TYPE, "kid": self._signing.kid}
        return jwt.encode(claims, self._signing.private, ALGORITHM, headers=headers)

    def verify(self, token: str) -> Caller:
        """Who a token speaks for; Refusal TOKEN_INVALID or TOKEN_EXPIRED otherwise."""
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._remembered.get(digest)
        if known is not None:
            if known[1] > self._clock():
                return known[0]
            del self._remembered[digest]
            raise Refusal(Reason.TOKEN_EXPIRED)
        caller, expires = self._verify(token)
        self._remembered[digest] = (caller, expires)
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return caller

    def _verify(self, token: str) -> tuple[Caller, float]:
        if len(token) > _LONGEST_TOKEN:
            raise Refusal(Reason.TOKEN_INVALID)
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError) as error:  # ValueError: bytes that are no text
            raise Refusal(Reason.TOKEN_INVALID) from error
        key = self._keys.get(str(header.get("kid")))
        if key is None or str(header.get("typ", "")).lower().removeprefix("application/") != TOKEN_TYPE:
            raise Refusal(Reason.TOKEN_INVALID)
        claims = _decoded(token, key, issuer=self.issuer, audience=self.audience, now=self._clock())
        scopes = claims.get("scope")
        client = claims.get("client_id")
        if not isinstance(client, str) or not client or not isinstance(scopes, str):
            raise Refusal(Reason.TOKEN_INVALID)
        return Caller(client, frozenset(scopes.split())), float(claims["exp"])


def _decoded(token: str, key: _Key, *, issuer: str, audience: str, now: float) -> dict[str, Any]:
    """The claims of a token whose signature, issuer, audience and times hold."""
    required = ["exp", "iat", "iss", "aud", "sub", "jti"]
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.public,
            algorithms=[key.algorithm],
            audience=audience,
            issuer=issuer,
            leeway=_LEEWAY_S,
            options={"require": required, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        expires, issued = _moment(claims["exp"]), _moment(claims["iat"])
        begins = _moment(claims.get("nbf", issued))
    except (jwt.PyJWTError, TypeError, ValueError) as error:
        raise Refusal(Reason.TOKEN_INVALID) from error
    if expires <= now - _LEEWAY_S:
        raise Refusal(Reason.TOKEN_EXPIRED)
    if max(issued, begins) > now + _LEEWAY_S:
        raise Refusal(Reason.TOKEN_INVALID)
    return claims


def _moment(claim: Any) -> float:
    """A NumericDate; ValueError for anything else, as for NaN, which is neither before nor after any other."""
    if isinstance(claim, bool) or not isinstance(claim, int | float) or not abs(claim) < _LAST_MOMENT:
        raise ValueError("not a date")
    return float(claim)


_LAST_MOMENT = 1e12


def is_usable(jwk: dict[str, Any]) -> bool:
    """Whether a JWK is a public P-256 key that is meant for verifying signatures with our algorithm."""
    return (
        jwk.get("kty") == "EC"
        and jwk.get("crv") == "P-256"
        and "d" not in jwk
        and jwk.get("use", "sig") == "sig"
        and jwk.get("alg", ALGORITHM) == ALGORITHM
        and "verify" in jwk.get("key_ops", ["verify"])
    )


def _client(row: dict[str, Any], number: int) -> tuple[str, tuple[_Key, str]]:
    """Who a `[[client]]` is, its key and scope. ClientsError."""
    where = f"[[client]] {number}"
    if unknown := sorted(row.keys() - _CLIENT_KEYS):
        raise ClientsError(f"{where}: 不认识的键 · unknown key: {', '.join(unknown)}")
    name, jwk = row.get("id"), row.get("jwk")
    if not isinstance(name, str) or not name:
        raise ClientsError(f"{where}: 缺少 id · id is missing")
    if not CLIENT_ID.fullmatch(name):
        raise ClientsError(
            f"{where}: id 应为 1 至 64 个字母、数字或 . _ - · id must be 1 to 64 letters, digits or . _ -"
        )
    scope = row.get("scope", "search")
    if not isinstance(scope, str) or not scope.split() or not set(scope.split()) <= set(SCOPES):
        raise ClientsError(f"{where}: scope 应为 · scope must be of: {' '.join(SCOPES)}")
    if not isinstance(jwk, dict) or not is_usable(jwk):
        raise ClientsError(
            f"{where}: jwk 应为验签用的 P-256 公钥 · jwk must be a public P-256 key for signatures"
        )
    try:
        public = ECAlgorithm.from_jwk({part: jwk[part] for part in ("kty", "crv", "x", "y")})
    except (KeyError, ValueError, TypeError, jwt.PyJWTError) as error:
        raise ClientsError(f"{where}: jwk 无法使用 · jwk can not be used") from error
    return name, (_Key(ALGORITHM, public), scope)


class Clients:
    """Platforms that may ask for tokens, by the public keys the operator registered in a TOML file."""

    def __init__(self, keys: dict[str, tuple[_Key, str]], *, clock: Callable[[], float] = time.time) -> None:
        self._keys, self._clock = keys, clock
        # of each platform what it used, and until when it was good
        self._seen: dict[str, OrderedDict[bytes, float]] = {}

    @classmethod
    def load(cls, path: Path | None, *, clock: Callable[[], float] = time.time) -> Clients:
        """Read `[[client]] id = …, scope = …, jwk = {…}`; ClientsError says what is wrong where."""
        if path is None:
            return cls({}, clock=clock)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ClientsError(f"无法读取 · can not be read: {error.strerror}") from error
        return cls.parse(content, clock=clock)

    @classmethod
    def parse(cls, content: bytes, *, clock: Callable[[], float] = time.time) -> Clients:
        """What such a file says."""
        try:
            table = tomllib.loads(content.decode())
        except ValueError as error:
            raise ClientsError(f"不是合法的 TOML · not valid TOML: {error}") from error
        rows = table.get("client", [])
        if table.keys() - {"client"} or not (
            isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
        ):
            raise ClientsError("只应有 [[client]] · it holds [[client]] tables only")
        keys: dict[str, tuple[_Key, str]] = {}
        for number, row in enumerate(rows, start=1):
            name, key = _client(row, number)
            if name in keys:
                raise ClientsError(f"[[client]] {number}: id 重复 · this id stands there twice: {name}")
            keys[name] = key
        return cls(keys, clock=clock)

    def authenticate(
        self, assertion: str, audience: str, admit: Callable[[str], object] = lambda _client: None
    ) -> tuple[str, str]:
        """(client id, scope) of a valid private_key_jwt assertion, accepted once; Refusal TOKEN_INVALID or TOKEN_EXPIRED
        otherwise, OVERLOADED when this platform has used too many.

        `admit` is told the client of a good assertion before that is remembered; what it raises is passed on.
        """
        if len(assertion) > _LONGEST_TOKEN:
            raise Refusal(Reason.TOKEN_INVALID)
        try:
            claimed = jwt.decode(assertion, options={"verify_signature": False}).get("sub", "")
        except (jwt.PyJWTError, ValueError) as error:
            raise Refusal(Reason.TOKEN_INVALID) from error
        held = self._keys.get(claimed) if isinstance(claimed, str) else None
        if held is None:
            raise Refusal(Reason.TOKEN_INVALID)
        key, scope = held
        now = self._clock()
        claims = _decoded(assertion, key, issuer=claimed, audience=audience, now=now)
        if float(claims["exp"]) > now + LONGEST_ASSERTION_S + _LEEWAY_S:
            raise Refusal(Reason.TOKEN_INVALID)
        used = self._seen.setdefault(claimed, OrderedDict())
        while used and next(iter(used.values())) < now - LONGEST_ASSERTION_S:
            used.popitem(last=False)
        name = sha256(str(claims["jti"]).encode("utf-8", "surrogatepass")).digest()
        if name in used:
            raise Refusal(Reason.TOKEN_INVALID)
        admit(claimed)
        if len(used) >= _MOST_ASSERTIONS:
            oldest_goes_in_s = next(iter(used.values())) + LONGEST_ASSERTION_S - now
            raise Refusal(Reason.OVERLOADED, retry_after_s=max(1.0, oldest_goes_in_s))
        used[name] = float(claims["exp"])
        return claimed, scope
