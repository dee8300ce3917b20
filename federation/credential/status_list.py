"""Token Status List (IETF OAuth): two bits per certificate, compressed and signed by the archive, as JWT or CWT.

Indexes are random, so that neither order nor number of certificates shows. A list is good for `ttl` before it should be
fetched again and for `exp` at most; a replaced certificate's entry also names its successor.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from federation.credential import cbor, cose, jws
from federation.credential.certificate import instant
from federation.credential.sd_jwt import SecondSignature
from federation.suites.base import PrivateKey
from federation.suites.encoding import b64u, unb64u
from federation.verify.report import VerificationReason, VerifyError
from federation.verify.status import State

JWT_TYPE, CWT_TYPE = "statuslist+jwt", "application/statuslist+cwt"
TTL, LIFETIME = timedelta(hours=1), timedelta(hours=24)

MOST_ENTRIES = 1 << 24
"""Entries of a list that will be read: 16 M of two bits inflate to 4 MB, whatever the compressed bytes pretend."""

MOST_TOKEN = 8 << 20

_CWT_SUB, _CWT_EXP, _CWT_IAT, _CWT_TTL, _CWT_LIST, _CWT_SUCCESSORS = 2, 4, 6, 65_534, 65_533, -65_538
_STATES = (
    State.VALID,
    State.REVOKED,
    State.SUSPENDED,
    State.REPLACED,
)  # 3 is left to the application by the draft
_ENDED = {1: 0xFF, 2: 0x55, 4: 0x11, 8: 0x01}
"""By the width of entries: in a byte, the bits that are set of those revoked (1) or replaced (3), which is for ever."""


class StatusList:
    """An array of 1, 2, 4 or 8 bits an entry, the first entry in the lowest bits of the first byte."""

    def __init__(self, size: int, bits: int = 2, data: bytes | bytearray | None = None) -> None:
        if bits not in {1, 2, 4, 8}:
            raise VerifyError(VerificationReason.MALFORMED, "bits")
        self.bits = bits
        self._entries_per_byte = 8 // bits
        self._data = bytearray(-(-size // self._entries_per_byte)) if data is None else bytearray(data)

    def __len__(self) -> int:
        return len(self._data) * self._entries_per_byte

    def __getitem__(self, index: int) -> int:
        byte, place = divmod(index, self._entries_per_byte)
        if index < 0 or byte >= len(self._data):
            raise IndexError(index)
        return self._data[byte] >> place * self.bits & (1 << self.bits) - 1

    def __setitem__(self, index: int, value: int) -> None:
        byte, place = divmod(index, self._entries_per_byte)
        mask = (1 << self.bits) - 1
        if index < 0 or byte >= len(self._data) or not 0 <= value <= mask:
            raise IndexError(index)
        self._data[byte] = self._data[byte] & ~(mask << place * self.bits) | value << place * self.bits

    def set(self, index: int, state: State) -> None:
        self[index] = _STATES.index(state)

    def forgets(self, earlier: StatusList) -> int:
        """How many entries an earlier list calls revoked or replaced and this one does not, or does not have. Lists of different
        widths are not compared.
        """
        if self.bits != earlier.bits:
            return 0
        ended = int.from_bytes(bytes([_ENDED[self.bits]]) * len(earlier._data))
        before, now = (int.from_bytes(one._data, "little") for one in (earlier, self))
        return (before & ended & ~now).bit_count()

    def compressed(self) -> bytes:
        """DEFLATE in the zlib format, as the draft demands."""
        return zlib.compress(bytes(self._data), 9)

    @classmethod
    def inflate(cls, compressed: bytes, bits: int) -> StatusList:
        """Raises VerifyError `too_large` for more than MOST_ENTRIES, `malformed` for what is no zlib stream."""
        if type(bits) is not int or bits not in {1, 2, 4, 8}:
            raise VerifyError(VerificationReason.MALFORMED, "bits")
        most = MOST_ENTRIES * bits // 8
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(compressed, most + 1)
        except zlib.error as error:
            raise VerifyError(VerificationReason.MALFORMED, "zlib") from error
        if len(data) > most:
            raise VerifyError(VerificationReason.TOO_LARGE, f"> {MOST_ENTRIES}")
        if not inflater.eof or inflater.unused_data:
            raise VerifyError(VerificationReason.MALFORMED, "zlib")
        return cls(0, bits, data)


class Allocation:
    """Which indexes of a list are taken; `data` is one bit an entry, to be kept by the archive."""

    def __init__(self, size: int, data: bytes | None = None) -> None:
        self._size, self._taken = size, StatusList(size, 1, data)

    def take(self) -> int:
        """A random free index, now taken. Raises IndexError when nine of ten are gone: start another list."""
        for _ in range(200):  # at most 0.9 taken: 200 misses happen once in a billion
            index = secrets.randbelow(self._size)
            if not self._taken[index]:
                self._taken[index] = 1
                return index
        raise IndexError("the list is full")

    def data(self) -> bytes:
        return bytes(self._taken._data)


@dataclass(frozen=True, slots=True)
class StatusToken:
    """A parsed status list token; believed only after its signature was checked."""

    message: jws.Jws | cose.Sign1
    uri: str
    issued_at: datetime
    expires_at: datetime
    compressed: bytes
    bits: int
    successors: Mapping[int, str] = field(default_factory=dict)

    @property
    def key_id(self) -> str:
        return self.message.key_id

    @property
    def second(self) -> SecondSignature | None:
        """The signature of another suite; a JWT has no room for one."""
        return self.message.second if isinstance(self.message, cose.Sign1) else None

    @property
    def signed(self) -> bytes:
        """The bytes that are signed."""
        return (
            self.message.signing_input if isinstance(self.message, jws.Jws) else self.message.to_be_signed()
        )

    def entries(self) -> StatusList:
        return StatusList.inflate(self.compressed, self.bits)

    def state(self, value: int) -> State:
        """Raises VerifyError `malformed` for values the draft leaves undefined."""
        if value >= len(_STATES):
            raise VerifyError(VerificationReason.MALFORMED, "status")
        return _STATES[value]


def sign_jwt(
    entries: StatusList,
    *,
    uri: str,
    key: PrivateKey,
    key_id: str,
    at: datetime,
    successors: Mapping[int, str] | None = None,
    lifetime: timedelta = LIFETIME,
) -> str:
    """A status list token for HTTP (`application/statuslist+jwt`)."""
    payload: dict[str, Any] = {
        "sub": uri,
        "iat": int(at.timestamp()),
        "exp": int((at + lifetime).timestamp()),
        "ttl": int(TTL.total_seconds()),
        "status_list": {"bits": entries.bits, "lst": b64u(entries.compressed())},
    }
    if successors:
        payload["successors"] = {str(index): number for index, number in successors.items()}
    return jws.sign({"typ": JWT_TYPE, "kid": key_id}, jws.compact_json(payload), key)


def sign_cwt(
    entries: StatusList,
    *,
    uri: str,
    key: PrivateKey,
    key_id: str,
    at: datetime,
    successors: Mapping[int, str] | None = None,
    lifetime: timedelta = LIFETIME,
    second: tuple[PrivateKey, str] | None = None,
) -> bytes:
    """The same as CWT, a quarter smaller; the form with room for a signature of another suite: `second`, a key and its id."""
    payload: dict[int, Any] = {
        _CWT_SUB: uri,
        _CWT_IAT: int(at.timestamp()),
        _CWT_EXP: int((at + lifetime).timestamp()),
        _CWT_TTL: int(TTL.total_seconds()),
        _CWT_LIST: {"bits": entries.bits, "lst": entries.compressed()},
    }
    if successors:
        payload[_CWT_SUCCESSORS] = dict(successors)
    return cose.sign(cbor.dumps(payload), key=key, key_id=key_id, typ=CWT_TYPE, second=second)


def parse(token: str | bytes) -> StatusToken:
    """Read a JWT (text) or CWT (bytes). Raises VerifyError; the list itself is inflated by `entries` only."""
    message: jws.Jws | cose.Sign1
    if isinstance(token, str):
        message = jws.parse(token, most=MOST_TOKEN)
        message.require_type(JWT_TYPE)
        claims: Mapping[Any, Any] = message.claims(most=MOST_TOKEN)
        uri, listed, successors = claims.get("sub"), claims.get("status_list"), claims.get("successors", {})
        names: tuple[Any, Any] = ("iat", "exp")
    else:
        message = cose.parse(token, most=MOST_TOKEN)
        message.require_type(CWT_TYPE)
        claims = cbor.loads(message.payload, most=MOST_TOKEN)
        if not isinstance(claims, dict):
            raise VerifyError(VerificationReason.MALFORMED, "CWT")
        uri, listed, successors = claims.get(_CWT_SUB), claims.get(_CWT_LIST), claims.get(_CWT_SUCCESSORS, {})
        names = (_CWT_IAT, _CWT_EXP)
    match listed:
        case {"bits": int(bits), "lst": str(text)} if isinstance(token, str):
            compressed = unb64u(text)
        case {"bits": int(bits), "lst": bytes(compressed)} if isinstance(token, bytes):
            pass
        case _:
            raise VerifyError(VerificationReason.MALFORMED, "status_list")
    if not isinstance(uri, str):
        raise VerifyError(VerificationReason.MISSING_CLAIM, "sub")
    times = [instant(claims, name) for name in names]
    return StatusToken(message, uri, times[0], times[1], compressed, bits, _successors(successors))


def _successors(tree: Any) -> dict[int, str]:
    try:
        if all(isinstance(number, str) for number in tree.values()):
            return {int(index): number for index, number in tree.items()}
    except (AttributeError, ValueError):
        pass
    raise VerifyError(VerificationReason.MALFORMED, "successors")
