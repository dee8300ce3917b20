"""Signed notes (C2SP signed-note): text with Ed25519 signature lines, keys known by a name and a four-byte identifier.

Three kinds of signature are understood: plain Ed25519 over the text (logs), the timestamped cosignature/v1 (witnesses), and
SM2 over the text, which a log of two suites adds beside its first. Lines of unknown keys are ignored, a wrong line of a
known key spoils the whole note.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from federation.suites import SM
from federation.suites.base import PrivateKey, PublicKey
from federation.suites.encoding import b64u, unb64u
from federation.suites.registry import suite
from federation.tlog.flaws import EvidenceError, Flaw
from federation.verify.report import VerifyError

LARGEST_NOTE = 64 * 1024
"""Bytes of a note: a checkpoint with its cosignatures has under 4 KB."""
MOST_SIGNATURES = 64
"""Lines read of one note; the format asks for 16 at least."""
_DASH = "— "
_SEED_BYTES = _PUBLIC_BYTES = 32
_POINT_BYTES = 65
_SM2_TYPE = b"lantai/sm2-with-sm3/v1"
"""Follows the type byte 0xff, which C2SP keeps for types it has not assigned and wants told apart by a longer name."""
_PRIVATE = "PRIVATE+KEY+"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]{1,255}")
_LATEST_TIME = 2**63 - 1


class KeyKind(IntEnum):
    """The signature type byte of a note key."""

    LOG = 0x01
    WITNESS = 0x04
    SM2 = 0xFF

    @property
    def type(self) -> bytes:
        """What stands before a public key where it is written or hashed."""
        return bytes([self]) + (_SM2_TYPE if self is KeyKind.SM2 else b"")


def to_base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode()


def from_base64(text: str, flaw: Flaw) -> bytes:
    """Read canonical standard base64; anything else has this flaw."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise EvidenceError(flaw, "no base64") from None
    if to_base64(data) != text:
        raise EvidenceError(flaw, "base64 of an unusual spelling")
    return data


def _key_id(name: str, kind: KeyKind, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + kind.type + public).digest()[:4]


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise EvidenceError(Flaw.MALFORMED_KEY, "a key name is empty, too long, or has spaces or +")


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One signature of a note: who, by which key, and the raw bytes."""

    name: str
    key_id: bytes
    data: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {to_base64(self.key_id + self.data)}"

    @classmethod
    def parse(cls, line: str) -> SignatureLine:
        """Read one line without its newline."""
        parts = line.removeprefix(_DASH).split(" ")
        if not line.startswith(_DASH) or len(parts) != 2 or not _NAME.fullmatch(parts[0]):
            raise EvidenceError(Flaw.MALFORMED_NOTE, "a signature line")
        raw = from_base64(parts[1], Flaw.MALFORMED_NOTE)
        if len(raw) < 5:
            raise EvidenceError(Flaw.MALFORMED_NOTE, "a signature line without a signature")
        return cls(parts[0], raw[:4], raw[4:])


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key that notes are checked against. The written form is `name+id+key`, as in Go's sumdb/note.

    `public` is an Ed25519 key, or the point of an SM2 key (0x04, x, y).
    """

    name: str
    kind: KeyKind
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.public) != (_POINT_BYTES if self.kind is KeyKind.SM2 else _PUBLIC_BYTES):
            raise EvidenceError(Flaw.MALFORMED_KEY, "an Ed25519 key has 32 bytes, an SM2 point 65")

    @property
    def key_id(self) -> bytes:
        """Four bytes over name, kind and key; tells keys apart, proves nothing."""
        return _key_id(self.name, self.kind, self.public)

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{to_base64(self.kind.type + self.public)}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read the written form; a key of another type or with a wrong identifier is refused."""
        kind, name, key = _read_key(text)
        found = cls(name, kind, key)
        if str(found) != text:
            raise EvidenceError(Flaw.MALFORMED_KEY, "the identifier does not fit the key")
        return found

    def is_of(self, line: SignatureLine) -> bool:
        """Whether the line says it is by this key."""
        return line.name == self.name and line.key_id == self.key_id

    def verify(self, text: str, data: bytes) -> int | None:
        """Check the bytes of one signature over a note text.

        Returns the time of a cosignature in seconds of UTC, None for a plain signature.
        """
        signed, timestamp, signature = text.encode(), None, data
        if self.kind is KeyKind.SM2:
            self._verify_sm2(signed, signature)
            return None
        if self.kind is KeyKind.WITNESS:
            timestamp, signature = int.from_bytes(data[:8], "big"), data[8:]
            if timestamp > _LATEST_TIME:
                raise EvidenceError(Flaw.BAD_SIGNATURE, self.name)
            signed = _cosigned(text, timestamp)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, signed)
        except (InvalidSignature, ValueError):
            raise EvidenceError(Flaw.BAD_SIGNATURE, self.name) from None
        return timestamp

    def _verify_sm2(self, signed: bytes, signature: bytes) -> None:
        try:
            suite(SM).verify(sm2_key(self.public), signed, signature)
        except VerifyError as error:
            flaw = Flaw.UNSUPPORTED_SUITE if error.open else Flaw.BAD_SIGNATURE
            raise EvidenceError(flaw, self.name) from error


def sm2_key(point: bytes) -> PublicKey:
    """The SM2 key of a point (0x04, x, y). VerifyError: malformed; unsupported_suite (open) where this machine lacks it."""
    x, y = b64u(point[1:33]), b64u(point[33:])
    return suite(SM).public_key({"kty": "EC", "crv": "SM2", "x": x, "y": y}, "SM2")


def _read_key(text: str) -> tuple[KeyKind, str, bytes]:
    parts = text.split("+", 2)
    if len(text) > 1_024 or len(parts) != 3 or not re.fullmatch(r"[0-9a-f]{8}", parts[1]):
        raise EvidenceError(Flaw.MALFORMED_KEY, "not name+identifier+key")
    raw = from_base64(parts[2], Flaw.MALFORMED_KEY)
    for kind in KeyKind:
        if raw.startswith(kind.type):
            return kind, parts[0], raw[len(kind.type) :]
    raise EvidenceError(Flaw.MALFORMED_KEY, "an unknown type of key")


def _cosigned(text: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


class Signer:
    """A private key that signs notes. The written form is `PRIVATE+KEY+name+id+seed`, as in Go's sumdb/note."""

    def __init__(self, name: str, kind: KeyKind, seed: bytes) -> None:
        if kind is KeyKind.SM2 or len(seed) != _SEED_BYTES:
            raise EvidenceError(Flaw.MALFORMED_KEY, "an Ed25519 seed has 32 bytes")
        self._seed = seed
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = VerifierKey(name, kind, self._private.public_key().public_bytes_raw())
        self.name = name

    @classmethod
    def generate(cls, name: str, kind: KeyKind = KeyKind.LOG) -> Signer:
        """A new random key."""
        return cls(name, kind, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> Signer:
        """Read the written form."""
        kind, name, seed = _read_key(text.removeprefix(_PRIVATE))
        found = cls(name, kind, seed)
        if found.secret() != text:
            raise EvidenceError(Flaw.MALFORMED_KEY, "the identifier does not fit the key")
        return found

    def secret(self) -> str:
        """The written form, to be kept secret."""
        written = to_base64(bytes([self.key.kind]) + self._seed)
        return f"{_PRIVATE}{self.name}+{self.key.key_id.hex()}+{written}"

    def sign(self, text: str, timestamp: int = 0) -> SignatureLine:
        """Sign a note text; a witness says with `timestamp` (seconds of UTC) when."""
        if self.key.kind is KeyKind.WITNESS:
            stamped = timestamp.to_bytes(8, "big")
            return SignatureLine(
                self.name, self.key.key_id, stamped + self._private.sign(_cosigned(text, timestamp))
            )
        return SignatureLine(self.name, self.key.key_id, self._private.sign(text.encode()))


class SecondSigner:
    """A key of another suite that signs a log's notes beside the first, under the same name."""

    def __init__(self, name: str, key: PrivateKey) -> None:
        """VerifyError `wrong_suite` for a key that is not SM2."""
        self._private, self.name = key, name
        key.require(SM, "SM2")
        self.key = VerifierKey(name, KeyKind.SM2, point_of(key.public))

    def sign(self, text: str) -> SignatureLine:
        """Sign a note text."""
        return SignatureLine(self.name, self.key.key_id, suite(SM).sign(self._private, text.encode()))


def point_of(key: PublicKey) -> bytes:
    """The point (0x04, x, y) of an SM2 key."""
    jwk = suite(SM).jwk(key)
    return b"\x04" + unb64u(jwk["x"]) + unb64u(jwk["y"])


@dataclass(frozen=True, slots=True)
class Note:
    """A text ending in a newline, and its signature lines. Not believed before `check`."""

    text: str
    signatures: tuple[SignatureLine, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(f"{line}\n" for line in self.signatures)

    @classmethod
    def parse(cls, data: bytes | str) -> Note:
        """Read a note strictly: UTF-8, no control characters, at most 64 KB and 64 signatures."""
        if len(data) > LARGEST_NOTE:
            raise EvidenceError(Flaw.TOO_LARGE, f"a note of {len(data)}")
        try:
            whole = data if isinstance(data, str) else data.decode("utf-8")
            whole.encode("utf-8")
        except UnicodeError:
            raise EvidenceError(Flaw.MALFORMED_NOTE, "no UTF-8") from None
        text, gap, signed = whole.rpartition("\n\n")
        if not gap or not signed.endswith("\n") or _CONTROL.search(whole):
            raise EvidenceError(Flaw.MALFORMED_NOTE, "no text, blank line and signatures")
        lines = signed[:-1].split("\n")
        if len(lines) > MOST_SIGNATURES:
            raise EvidenceError(Flaw.TOO_LARGE, f"a note with {len(lines)} signatures")
        return cls(text + "\n", tuple(SignatureLine.parse(line) for line in lines))

    def check(self, keys: Iterable[VerifierKey]) -> dict[VerifierKey, int | None]:
        """The known keys that signed, with the times of cosignatures.

        Raises EvidenceError if a line by a known key is wrong or if no known key signed.
        """
        known = {(key.name, key.key_id): key for key in keys}
        signed: dict[VerifierKey, int | None] = {}
        for line in self.signatures:
            key = known.get((line.name, line.key_id))
            if key is not None and key not in signed:
                signed[key] = key.verify(self.text, line.data)
        if not signed:
            raise EvidenceError(Flaw.UNKNOWN_SIGNER)
        return signed

    def with_lines(self, lines: Iterable[SignatureLine]) -> Note:
        """The note with more signatures, each key once; a newer line of a key takes the older one's place."""
        merged = {(line.name, line.key_id): line for line in (*self.signatures, *lines)}
        return Note(self.text, tuple(merged.values()))


def signed_note(text: str, *signers: Signer | SecondSigner) -> Note:
    """A text signed by the given keys."""
    if not text.endswith("\n") or _CONTROL.search(text):
        raise EvidenceError(
            Flaw.MALFORMED_NOTE, "the text must end in a newline and hold no control characters"
        )
    return Note(text, tuple(signer.sign(text) for signer in signers))
