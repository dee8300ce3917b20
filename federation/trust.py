"""The trust list (信任名录): whose keys a verifier believes, for which use, and when. Pinned as a file, one per federation.

Suite and algorithm of a key stand here and are never taken from what the sender wrote. A key that was compromised at T
still verifies what a trusted time proves to be older than T, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

import rfc8785
from cryptography import x509

from federation.suites import ALGORITHMS, INTL
from federation.suites.base import PrivateKey, PublicKey
from federation.suites.encoding import b64u, unb64u
from federation.suites.intl import ED25519, ES256, public_of
from federation.suites.registry import suite
from federation.tlog.flaws import EvidenceError
from federation.tlog.note import KeyKind, VerifierKey, sm2_key
from federation.verify import strict_json
from federation.verify.report import VerificationReason, VerifyError

MOST_BYTES = 16 << 20
"""Of a trust list: 350 archives with five keys and certificates each take 3 MB."""

_MOST_KEYS_OF_A_PARTY = 256


class Role(StrEnum):
    """What a party is in the federation."""

    ARCHIVE = "archive"
    GATEWAY = "gateway"
    WITNESS = "witness"
    TSA = "tsa"


class Use(StrEnum):
    """What a key may do; one key has one use (RFC 5280 calls it extended key usage)."""

    CREDENTIAL = "credential"  # SD-JWT VC and the QR code on paper
    SEAL = "seal"  # PAdES signature of a document
    STATUS = "status"  # status lists
    LOG = "log"  # checkpoints of an evidence log
    WITNESS = "witness"  # cosignatures of others' checkpoints
    DELIVERY = "delivery"  # signature inside a sealed package
    TSA = "tsa"  # RFC 3161 time stamps


@dataclass(frozen=True)
class TrustedKey:
    """One key of one party. Exactly one of `jwk`, `certificate` (PEM, leaf first, then its issuers) and `vkey` is set."""

    issuer: str
    role: Role
    id: str
    use: Use
    suite: str
    alg: str
    not_before: datetime
    not_after: datetime
    compromised_at: datetime | None = None
    jwk: Mapping[str, str] | None = None
    certificate: str | None = None
    vkey: str | None = None

    @cached_property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The certificates, leaf first; empty for a key without."""
        return (
            tuple(x509.load_pem_x509_certificates((self.certificate or "").encode()))
            if self.certificate
            else ()
        )

    @cached_property
    def public(self) -> PublicKey:
        """The key itself. Raises VerifyError `unsupported_suite` (open) where this machine lacks the suite."""
        if self.jwk is not None:
            return suite(self.suite).public_key(self.jwk, self.alg)
        key = note_key(self.vkey) if self.vkey is not None else public_of(self.chain[0].public_key())
        key.require(self.suite, self.alg)
        return key

    def check(self, at: datetime, *, proven_at: datetime | None = None) -> None:
        """Raise VerifyError unless a signature made at `at` by this key may be believed.

        `at` is when the signer says it signed; `proven_at` is a time that somebody else proves (a time stamp, a
        cosigned checkpoint), needed once the key is known to be compromised.
        """
        if at < self.not_before:
            raise VerifyError(VerificationReason.KEY_NOT_YET_VALID, self.id)
        if at >= self.not_after:
            raise VerifyError(VerificationReason.KEY_EXPIRED, self.id)
        if self.compromised_at is not None and (proven_at is None or proven_at >= self.compromised_at):
            raise VerifyError(VerificationReason.KEY_COMPROMISED, self.id)


@dataclass(frozen=True, slots=True)
class SecondSuite:
    """What a party signs with beside its first suite: what it signs at `since` or later must carry both signatures."""

    suite: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Party:
    """An archive (by code), gateway, witness or time-stamp authority (by name) with its keys."""

    id: str
    role: Role
    name: str
    keys: Mapping[str, TrustedKey]
    second_suite: SecondSuite | None = None


@dataclass(frozen=True, slots=True)
class TrustList:
    """All parties of one federation; `epoch` grows with every edition."""

    federation: str
    epoch: int
    issued_at: datetime
    parties: Mapping[str, Party]

    @classmethod
    def load(cls, data: bytes, *, signed_by: PublicKey | None = None) -> TrustList:
        """Read a list strictly: unknown or repeated fields, keys without a use or of another suite are refused.

        With `signed_by`, the federation's own pinned key, an unsigned list is refused too. Raises VerifyError
        `trust_list_invalid` naming the place.
        """
        try:
            tree = strict_json.loads(data, most=MOST_BYTES)
        except VerifyError as error:
            raise _invalid(str(error)) from error
        reader = _Reader(tree, "$")
        federation, epoch, issued_at = (
            reader.text("federation"),
            reader.number("epoch"),
            reader.time("issued_at"),
        )
        if reader.number("version") != 1:
            raise _invalid("$.version")
        parties: dict[str, Party] = {}
        for role, field, identity in (
            (Role.ARCHIVE, "archives", "code"),
            (Role.GATEWAY, "gateways", "name"),
            (Role.WITNESS, "witnesses", "name"),
            (Role.TSA, "tsas", "name"),
        ):
            for item in reader.items(field):
                party = _party(item, role, identity)
                if party.id in parties:
                    raise _invalid(f"{item.path}: {party.id} twice")
                parties[party.id] = party
        signature = reader.optional_text("signature")
        reader.end()
        if signed_by is not None:
            _check_signature(tree, signature, signed_by)
        return cls(federation, epoch, issued_at, parties)

    def key(
        self, issuer: str, key_id: str, use: Use, at: datetime, *, proven_at: datetime | None = None
    ) -> TrustedKey:
        """The key `key_id` of `issuer`, if it may sign for `use` at the time `at` (see TrustedKey.check).

        Raises VerifyError: wrong_issuer, unknown_key, wrong_usage, key_not_yet_valid, key_expired, key_compromised.
        """
        party = self.parties.get(issuer)
        if party is None:
            raise VerifyError(VerificationReason.WRONG_ISSUER)
        key = party.keys.get(key_id)
        if key is None:
            raise VerifyError(VerificationReason.UNKNOWN_KEY)
        if key.use is not use:
            raise VerifyError(VerificationReason.WRONG_USAGE, f"{key.use} ≠ {use}")
        key.check(at, proven_at=proven_at)
        return key

    def keys(self, use: Use, issuer: str | None = None) -> Iterator[TrustedKey]:
        """All keys of one use, of one party or of all; their times are not checked here."""
        for party in self.parties.values():
            if issuer in {None, party.id}:
                yield from (key for key in party.keys.values() if key.use is use)

    def name(self, issuer: str) -> str:
        """The name of a party for people; its id if it is not on the list."""
        party = self.parties.get(issuer)
        return issuer if party is None else party.name


def sign_list(tree: Mapping[str, Any], key: PrivateKey) -> dict[str, Any]:
    """The same list with the federation's signature over all its other fields (RFC 8785 canonical JSON)."""
    return {**tree, "signature": b64u(suite(key.suite).sign(key, _signed_bytes(tree)))}


def key_entry(
    key_id: str,
    use: Use,
    key: PublicKey,
    not_before: datetime,
    not_after: datetime,
    *,
    certificate: str | None = None,
) -> dict[str, Any]:
    """How a key stands in the list; with `certificate` (PEM, leaf first) in place of the bare key."""
    shown = {"jwk": suite(key.suite).jwk(key)} if certificate is None else {"certificate": certificate}
    times = {"not_before": not_before.isoformat(), "not_after": not_after.isoformat()}
    return {"id": key_id, "use": use.value, "suite": key.suite, "alg": key.alg, **shown, **times}


def federation_key(jwk: bytes) -> PublicKey:
    """The federation's public key by which its list is signed, Ed25519 or P-256, from the JWK that `lantai-gateway trust key` prints.
    VerifyError when it is none.
    """
    tree = strict_json.load_object(jwk, most=4_096)
    return suite(INTL).public_key(tree, ED25519 if tree.get("kty") == "OKP" else ES256)


def _check_signature(tree: Mapping[str, Any], signature: str | None, key: PublicKey) -> None:
    try:
        suite(key.suite).verify(key, _signed_bytes(tree), unb64u(signature or ""))
    except (VerifyError, rfc8785.CanonicalizationError) as error:
        raise _invalid("$.signature") from error


def _signed_bytes(tree: Mapping[str, Any]) -> bytes:
    unsigned = {name: value for name, value in tree.items() if name != "signature"}
    return b"lantai-trust-list-v1\n" + rfc8785.dumps(unsigned)


def _party(reader: _Reader, role: Role, identity: str) -> Party:
    party_id = reader.text(identity)
    name = reader.text("name") if identity != "name" else party_id
    second = None if reader.optional("second_suite") is None else _second_suite(reader.object("second_suite"))
    keys: dict[str, TrustedKey] = {}
    for item in reader.items("keys"):
        key = _key(item, party_id, role)
        if key.id in keys or len(keys) == _MOST_KEYS_OF_A_PARTY:
            raise _invalid(f"{item.path}.id")
        keys[key.id] = key
    reader.end()
    return Party(party_id, role, name, keys, second)


def _second_suite(reader: _Reader) -> SecondSuite:
    name, since = reader.text("suite"), reader.time("from")
    if name not in ALGORITHMS:
        raise _invalid(f"{reader.path}.suite")
    reader.end()
    return SecondSuite(name, since)


def _key(reader: _Reader, issuer: str, role: Role) -> TrustedKey:
    use, suite, alg = reader.text("use"), reader.text("suite"), reader.text("alg")
    if use not in set(Use):
        raise _invalid(f"{reader.path}.use")
    if alg not in ALGORITHMS.get(suite, ()):
        raise _invalid(f"{reader.path}.alg")
    jwk = reader.optional("jwk")
    if jwk is not None and not (
        isinstance(jwk, dict) and all(isinstance(value, str) for value in jwk.values()) and "d" not in jwk
    ):
        raise _invalid(f"{reader.path}.jwk")
    key = TrustedKey(
        issuer=issuer,
        role=role,
        id=reader.text("id"),
        use=Use(use),
        suite=suite,
        alg=alg,
        not_before=reader.time("not_before"),
        not_after=reader.time("not_after"),
        compromised_at=reader.time("compromised_at")
        if reader.optional("compromised_at") is not None
        else None,
        jwk=jwk,
        certificate=reader.optional_text("certificate"),
        vkey=reader.optional_text("vkey"),
    )
    if sum(one is not None for one in (key.jwk, key.certificate, key.vkey)) != 1:
        raise _invalid(f"{reader.path}: jwk, certificate or vkey")
    if key.not_after <= key.not_before:
        raise _invalid(f"{reader.path}.not_after")
    try:
        key.public  # noqa: B018 - read once, so that a broken key is found when the list is loaded
    except (VerifyError, ValueError) as error:
        if not (
            isinstance(error, VerifyError) and error.open
        ):  # a suite this machine lacks is told when it is needed
            raise _invalid(f"{reader.path}: key") from error
    reader.end()
    return key


def note_key(vkey: str) -> PublicKey:
    """The key of a C2SP signed-note verifier key (`name+id+base64 of type and key`): Ed25519, or SM2. ValueError."""
    try:
        key = VerifierKey.parse(vkey)
    except EvidenceError as error:
        raise ValueError(str(error)) from error
    if key.kind is KeyKind.SM2:
        return sm2_key(key.public)
    return suite(INTL).public_key({"kty": "OKP", "crv": "Ed25519", "x": b64u(key.public)}, ED25519)


class _Reader:
    """Takes fields out of one JSON object, and knows at the end whether any was left over."""

    def __init__(self, tree: object, path: str) -> None:
        if not isinstance(tree, dict):
            raise _invalid(path)
        self._tree, self.path = tree, path
        self._read: set[str] = set()

    def optional(self, field: str) -> Any:
        self._read.add(field)
        return self._tree.get(field)

    def optional_text(self, field: str) -> str | None:
        return None if self.optional(field) is None else self.text(field)

    def text(self, field: str) -> str:
        value = self.optional(field)
        if not isinstance(value, str) or not value:
            raise _invalid(f"{self.path}.{field}")
        return value

    def number(self, field: str) -> int:
        value = self.optional(field)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _invalid(f"{self.path}.{field}")
        return value

    def time(self, field: str) -> datetime:
        """An RFC 3339 time with a zone, as UTC."""
        try:
            value = datetime.fromisoformat(self.text(field))
        except ValueError as error:
            raise _invalid(f"{self.path}.{field}") from error
        if value.tzinfo is None:
            raise _invalid(f"{self.path}.{field}")
        return value.astimezone(UTC)

    def object(self, field: str) -> _Reader:
        return _Reader(self.optional(field), f"{self.path}.{field}")

    def items(self, field: str) -> list[_Reader]:
        value = self.optional(field) or []
        if not isinstance(value, list):
            raise _invalid(f"{self.path}.{field}")
        return [_Reader(item, f"{self.path}.{field}[{number}]") for number, item in enumerate(value)]

    def end(self) -> None:
        left = self._tree.keys() - self._read
        if left:
            raise _invalid(f"{self.path}.{min(left)}")


def _invalid(place: str) -> VerifyError:
    return VerifyError(VerificationReason.TRUST_LIST_INVALID, place)
