"""Masking: what may be shown of a person before the holding archive approves.

Works on whole user-perceived characters: a character outside the basic plane or with a variation selector is never cut.
"""

from __future__ import annotations

import unicodedata


def _characters(text: str) -> list[str]:
    whole: list[str] = []
    for char in text:
        joins = (
            unicodedata.combining(char) or 0xFE00 <= ord(char) <= 0xFE0F or 0xE0100 <= ord(char) <= 0xE01EF
        )
        if whole and joins:
            whole[-1] += char
        else:
            whole.append(char)
    return whole


def mask_name(name: str) -> str:
    """錢偉明 → 錢*明, 王芳 → 王*, four characters and more keep the first and the last; one character is hidden."""
    whole = _characters(name)
    if len(whole) <= 1:
        return "*" * len(whole)
    if len(whole) == 2:
        return whole[0] + "*"
    return whole[0] + "*" * (len(whole) - 2) + whole[-1]


def mask_id(number: str) -> str:
    """330402198806260020 → 330402********0020; anything shorter than 15 is hidden whole."""
    if len(number) < 15:
        return "*" * len(number)
    return number[:6] + "*" * (len(number) - 10) + number[-4:]
