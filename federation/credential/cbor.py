"""CBOR (RFC 8949) as a verifier reads it: one canonical form, plain data only, nothing that can grow.

Read here are integers, byte and text strings, arrays, maps, booleans and null, with definite lengths; what is read must be
byte for byte what cbor2 writes canonically (keys shortest first, §4.2.3). Tags are given by the caller, floats are not data
of ours.
"""

from __future__ import annotations

from typing import Any

import cbor2

from federation.verify.report import VerificationReason, VerifyError

DEEPEST = 8


class Tagged(tuple[int, Any]):
    """A tag and what it marks."""

    __slots__ = ()


def dumps(value: Any) -> bytes:
    """The canonical encoding."""
    return cbor2.dumps(value, canonical=True)


def loads(data: bytes, *, most: int, tags: frozenset[int] = frozenset()) -> Any:
    """Decode one item of at most `most` bytes; a tag of `tags` may mark the outermost item, which comes as `Tagged`.

    Raises VerifyError too_large, too_deep, malformed or not_canonical.
    """
    if len(data) > most:
        raise VerifyError(VerificationReason.TOO_LARGE, f"> {most}")
    reader = _Reader(data)
    tag = reader.tag() if data[:1] and data[0] >> 5 == 6 else None
    if tag is not None and tag not in tags:
        raise VerifyError(VerificationReason.WRONG_TYPE, "CBOR tag")
    value = reader.item(DEEPEST)
    if reader.at != len(data):
        raise VerifyError(VerificationReason.MALFORMED, "CBOR")
    if dumps(value if tag is None else cbor2.CBORTag(tag, value)) != data:
        raise VerifyError(VerificationReason.NOT_CANONICAL, "CBOR")
    return value if tag is None else Tagged((tag, value))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def tag(self) -> int:
        return self._head()[1]

    def item(self, left: int) -> Any:
        if left == 0:
            raise VerifyError(VerificationReason.TOO_DEEP, f"> {DEEPEST}")
        major, number = self._head()
        match major:
            case 0:
                return number
            case 1:
                return -1 - number
            case 2:
                return self._take(number)
            case 3:
                try:
                    return self._take(number).decode()
                except UnicodeDecodeError as error:
                    raise _malformed() from error
            case 4:
                return [self.item(left - 1) for _ in range(self._room(number))]
            case 5:
                return self._map(self._room(number), left - 1)
            case 7 if number in {20, 21, 22}:
                return {20: False, 21: True, 22: None}[number]
        raise _malformed()

    def _map(self, pairs: int, left: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for _ in range(pairs):
            key = self.item(1)
            if not isinstance(key, int | str) or isinstance(key, bool) or key in result:
                raise _malformed()
            result[key] = self.item(left)
        return result

    def _head(self) -> tuple[int, int]:
        first = self._take(1)[0]
        major, short = first >> 5, first & 31
        if short < 24:
            return major, short
        if short > 27 or major == 7:
            raise _malformed()  # indefinite lengths, reserved values, floats
        return major, int.from_bytes(self._take(1 << (short - 24)), "big")

    def _room(self, items: int) -> int:
        """Every item takes a byte at least: a count past the end is refused before anything is made."""
        if items > len(self._data) - self.at:
            raise _malformed()
        return items

    def _take(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > len(self._data):
            raise _malformed()
        return self._data[start : self.at]


def _malformed() -> VerifyError:
    return VerifyError(VerificationReason.MALFORMED, "CBOR")
