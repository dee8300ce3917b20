"""Matching keys: under what a record is stored, and what a question looks up.

A record carries, for every name: N the folded name, Z its fuzzy syllables, D one wildcard per place of the fuzzy
syllables (about five keys a name), and for names of more than four characters E both ends. Identity and certificate numbers have one key each. Everything else (swapped,
missing or added characters, other spellings of the surname, a mistyped number) is expanded on the asking side, where it
costs no space. Keys are 48-bit keyed digests: a hit is a candidate, not proof, and is verified against the row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple

from federation.identity_number import canonical, other_century, repairs
from federation.names import (
    fold,
    fold_text,
    fuzzy_syllables,
    sound_code,
    spelled,
    strip,
    surname_alternatives,
    surname_length,
)
from federation.placeholders import PLACEHOLDERS
from federation.query import Query

KEY_BITS = 48
_LONGEST_WILDCARD_NAME = 4  # longer names (transliterations) meet by N, Z and their two ends
_SEPARATOR = "\x1f"


class KeyKind(IntEnum):
    NAME = 1
    SOUND = 2
    WILDCARD = 3
    ID = 4
    CERTIFICATE = 5
    OTHER_NAME = 6
    REARRANGED = 7  # the sound of the name in another order or without one character


YEAR_SLACK: dict[KeyKind, int | None] = {
    KeyKind.NAME: 12,
    KeyKind.SOUND: 12,
    KeyKind.REARRANGED: 12,
    KeyKind.WILDCARD: 5,
    KeyKind.ID: None,
    KeyKind.CERTIFICATE: None,
    KeyKind.OTHER_NAME: 3,
}
"""How many years around the asked ones a probe scans, None = all (measured: matching-key recall .9995 at 1M)."""


class Probe(NamedTuple):
    """One key a question looks up, and how far around the asked years."""

    key: int
    kind: KeyKind
    year_slack: int | None


class Keyer:
    """Computes keys under one secret `key` (1 to 64 bytes): without it a stolen key table tells nothing.

    A key is a number below 2**48. The packed form of several is eight bytes each in the machine's order. `check_value` is
    a digest under the secret of nothing else: equal for equal secrets, and no help to guess one.
    """

    def __init__(self, key: bytes) -> None:
        seed = blake2b(digest_size=KEY_BITS // 8, key=key)
        self.check_value = blake2b(digest_size=16, key=key, person=b"index key check").digest()
        self._seeds = {}
        for kind in "NZDEIC":
            self._seeds[kind] = seed.copy()
            self._seeds[kind].update(kind.encode())

    def packed(self, kind: str, texts: Iterable[str]) -> bytes:
        """Keys of one kind, eight bytes each: in one loop, because an import asks for millions."""
        copy = self._seeds[kind].copy
        digests = []
        for text in texts:
            state = copy()
            state.update(text.encode("utf-8", "surrogatepass"))
            digests.append(state.digest())
        return _widened(b"".join(digests))

    def _digest(self, kind: str, text: str) -> int:
        state = self._seeds[kind].copy()
        state.update(text.encode("utf-8", "surrogatepass"))
        return int.from_bytes(state.digest(), "big")

    def name_keys(self, name: str) -> tuple[int, ...]:
        """N, Z and D or E keys of a record's name; none of an empty name."""
        folded = fold_text(name)
        if not folded:
            return ()
        keys = (self._digest("N", folded), *self.sound_keys(sound_code(folded)))
        return tuple(dict.fromkeys(keys))

    def sound_keys(self, code: str) -> list[int]:
        """The Z key and the D or E keys of a name, given its `sound_code`."""
        sounds = spelled(code)
        if len(sounds) > _LONGEST_WILDCARD_NAME:
            inexact = [self._end(part) for part in _ends(sounds)]
        else:
            inexact = [self._wildcard(pattern) for pattern in _wildcards(sounds)]
        return [self._sound(sounds), *inexact]

    def _sound(self, sounds: tuple[str, ...]) -> int:
        return self._digest("Z", _SEPARATOR.join(sounds))

    def _wildcard(self, pattern: tuple[str, ...]) -> int:
        return self._digest("D", self.pattern_text(pattern))

    @staticmethod
    def pattern_text(pattern: tuple[str, ...]) -> str:
        """What the D key of a pattern is the digest of."""
        return str(len(pattern)) + _SEPARATOR + _SEPARATOR.join(pattern)

    def _end(self, part: tuple[str, ...]) -> int:
        return self._digest("E", _SEPARATOR.join(part))

    def exact_name_key(self, name: str) -> int:
        """The N key alone: counting it gives how common a name is."""
        return self._digest("N", fold(name))

    def id_key(self, id18: str) -> int:
        """Key of a valid 18-digit number; the check digit is left out."""
        return self._digest("I", id18[:17])

    def packed_id_keys(self, ids: Iterable[str]) -> bytes:
        """The keys of several numbers, packed."""
        return self.packed("I", [id18[:17] for id18 in ids])

    def certificate_key(self, text: str) -> int:
        """Key of a certificate number; brackets, hyphens, width and spaces do not count."""
        return self._digest("C", fold_certificate(text))

    def packed_certificate_keys(self, texts: Iterable[str]) -> bytes:
        """The keys of several numbers, packed."""
        return self.packed("C", map(fold_certificate, texts))

    def probes(self, query: Query) -> tuple[Probe, ...]:
        """All keys a question looks up, the cheapest and surest first."""
        found: dict[int, Probe] = {}

        def add(key: int, kind: KeyKind) -> None:
            if key not in found:
                found[key] = Probe(key, kind, YEAR_SLACK[kind])

        if query.id_number:
            whole = canonical(query.id_number)
            for number in [whole] if whole is not None else repairs(query.id_number):
                add(self.id_key(number), KeyKind.ID)
            if whole is not None and (twin := other_century(whole)):
                add(self.id_key(twin), KeyKind.ID)
        if fold_certificate(query.certificate_no):
            add(self.certificate_key(query.certificate_no), KeyKind.CERTIFICATE)
        folded = fold(query.name)
        if folded:
            self._add_name(folded, add)
        if query.other_name and folded:
            add(self._digest("N", fold(query.other_name)), KeyKind.OTHER_NAME)
        return tuple(found.values())

    def _add_name(self, folded: str, add: Callable[[int, KeyKind], None]) -> None:
        add(self._digest("N", folded), KeyKind.NAME)
        sounds = fuzzy_syllables(folded)
        add(self._sound(sounds), KeyKind.SOUND)
        for other in surname_alternatives(folded):
            add(self._digest("N", other), KeyKind.NAME)
            add(self._sound(fuzzy_syllables(other)), KeyKind.SOUND)
        for other_order in _other_orders(folded):
            # read anew: what stands first is read as a surname (曾 zeng, elsewhere ceng)
            add(self._sound(fuzzy_syllables(other_order)), KeyKind.REARRANGED)
        if len(sounds) > 2:
            for shorter in _shortened(sounds):
                add(self._sound(shorter), KeyKind.REARRANGED)
        for pattern in _wildcards(sounds) + _lengthened(sounds):
            add(self._wildcard(pattern), KeyKind.WILDCARD)
        if len(sounds) >= _LONGEST_WILDCARD_NAME:
            for part in _ends(sounds):
                add(self._end(part), KeyKind.WILDCARD)


def _widened(digests: bytes) -> bytes:
    """Digests of six bytes, big-endian numbers, as the machine keeps each in eight."""
    wide = bytearray(len(digests) // 6 * 8)
    for place in range(6):
        wide[5 - place if sys.byteorder == "little" else place + 2 :: 8] = digests[place::6]
    return bytes(wide)


def fold_certificate(text: str) -> str:
    """A certificate number in comparison form: letters, digits and Han characters only; "" where it says none (无, ——, 000)."""
    folded = text.upper() if text.isascii() and text.isalnum() else _alphanumeric(text)
    return "" if folded in _NO_NUMBER or not folded.strip("0") else folded


def _alphanumeric(text: str) -> str:
    return "".join(char for char in fold_text(strip(text)) if char.isalnum())


_NO_NUMBER = frozenset(_alphanumeric(text).upper() for text in PLACEHOLDERS)


def _pattern(sounds: tuple[str, ...], place: int) -> tuple[str, ...]:
    return (*sounds[:place], "*", *sounds[place + 1 :])


def _wildcards(sounds: tuple[str, ...]) -> list[tuple[str, ...]]:
    """One pattern per place: `a b *`, `a * c`, `* b c`."""
    if not 2 <= len(sounds) <= _LONGEST_WILDCARD_NAME:
        return []
    return [_pattern(sounds, place) for place in range(len(sounds))]


def _lengthened(sounds: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Patterns of names one character longer: the question lacks a character."""
    if not 1 < len(sounds) < _LONGEST_WILDCARD_NAME:
        return []
    return [(*sounds[:place], "*", *sounds[place:]) for place in range(len(sounds) + 1)]


def _ends(sounds: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Both ends of a long name, marked: one wrong, missing or added character leaves one of them whole."""
    return [(*sounds[:2], "…"), ("…", *sounds[-2:])]


def _shortened(sounds: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Names one character shorter: the question has a character too many."""
    return [sounds[:place] + sounds[place + 1 :] for place in range(len(sounds))]


def _other_orders(folded: str) -> list[str]:
    """Two neighbours exchanged, and the given name before the surname, on the record's side or the question's."""
    orders = [
        folded[:place] + folded[place + 1] + folded[place] + folded[place + 2 :]
        for place in range(len(folded) - 1)
    ]
    if len(folded) > 2:
        surname = surname_length(folded)
        orders += [folded[surname:] + folded[:surname], folded[-1] + folded[:-1]]
        if len(folded) > 3 and surname_length(folded[-2:] + folded[:-2]) == 2:
            orders.append(folded[-2:] + folded[:-2])
    return orders
