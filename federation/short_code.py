"""The short code of a document: what is printed on paper for people to type, and by which the gateway finds its standing.

Fourteen random characters of 5 bits (70 bits: nobody finds one by trying) and a check character, in an alphabet without
I, L, O and U. It says nothing about the document; printed in three groups of five: `3KQ7M-X8D2R-9TWEZ`.
"""

from __future__ import annotations

import re
import secrets
import unicodedata

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: what looks like another character is not in it."""

LENGTH, GROUP = 15, 5

_LONGEST_TYPED = 64
_READ_AS = str.maketrans("OIL", "011")
_BETWEEN = re.compile(r"[\s\-‐-―_.·]+")
_VALUES = {character: value for value, character in enumerate(ALPHABET)}


def new() -> str:
    """A fresh random code, as it is kept: without hyphens."""
    values = [secrets.randbelow(32) for _ in range(LENGTH - 1)]
    return "".join(ALPHABET[value] for value in [*values, _check(values)])


def canonical(typed: str) -> str:
    """The code somebody typed, as it is kept; "" when it is none: mistyped, or something else.

    Small letters, full-width characters of Chinese keyboards, spaces and hyphens anywhere, and O, I, L for 0, 1, 1 are
    taken; one wrong character or two exchanged ones are always noticed.
    """
    if len(typed) > _LONGEST_TYPED:
        return ""
    text = _BETWEEN.sub("", unicodedata.normalize("NFKC", typed)).upper().translate(_READ_AS)
    if len(text) != LENGTH or any(character not in _VALUES for character in text):
        return ""
    *values, check = [_VALUES[character] for character in text]
    return text if _check(values) == check else ""


def grouped(code: str) -> str:
    """As it is printed and shown."""
    return "-".join(code[place : place + GROUP] for place in range(0, len(code), GROUP))


def _check(values: list[int]) -> int:
    """The sum of value times a power of the generator of GF(32) (x^5 + x^2 + 1), a different power at each place: one
    wrong value, or two exchanged, can not give the same sum.
    """
    total = 0
    for value in values:
        total = (total ^ value) << 1
        total ^= 0b100101 if total & 0b100000 else 0
    return total
