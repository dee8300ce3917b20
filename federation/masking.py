"""Masking: what may be shown of a person before the holding archive approves.

Works on whole user-perceived characters: a character outside the basic plane, with a variation selector, or spelt out
by its parts (⿰王英) is never cut. Spaces, dots, dashes and all else that folding drops stay and do not count as characters, nor do
invisible ones: a name written with a space or a dash shows no more than the same name without.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from federation.names.folding import FOLD

_DOTS = frozenset("·•・‧∙⋅．.･") | {chr(code) for code, folded in FOLD.items() if folded is None}
_DESCRIPTIONS = range(
    0x2FF0, 0x3000
)  # ideographic description characters: the next two or three parts are one character
_OF_THREE = frozenset("⿲⿳")
_OF_ONE = frozenset("⿾⿿")


def _joins(char: str) -> bool:
    """Whether a code point belongs to the character before it: combining marks, selectors, invisible ones."""
    return unicodedata.category(char) in {"Mn", "Mc", "Me", "Cf", "Cc"}


def _characters(text: str) -> list[tuple[str, bool]]:
    """Whole characters, and whether each only separates the parts of a name."""
    whole: list[tuple[str, bool]] = []
    pending = ""  # invisible, before the first character
    wanted = 0  # parts still missing of a character that is spelt out
    for char in text:
        joins = _joins(char)
        separates = not wanted and (char.isspace() or (char in _DOTS and not joins))
        if not separates and joins:
            if whole:
                whole[-1] = (whole[-1][0] + char, whole[-1][1])
            else:
                pending += char
            continue
        if wanted:
            whole[-1] = (whole[-1][0] + char, False)
            wanted -= 1
        else:
            whole.append((pending + char, separates))
            pending = ""
        if ord(char) in _DESCRIPTIONS:
            wanted += 3 if char in _OF_THREE else 1 if char in _OF_ONE else 2
    return whole


@lru_cache(4_096)  # the few candidates of a question that are told often bear the name asked for
def mask_name(name: str) -> str:
    """錢偉明 → 錢*明, 王芳 → 王*, four characters and more keep the first and the last; one character is hidden, and so are
    dots alone.
    """
    whole = _characters(name)
    counted = [place for place, (_text, separates) in enumerate(whole) if not separates]
    if whole and not counted:
        return "*"
    shown = set() if len(counted) < 2 else {counted[0]} if len(counted) == 2 else {counted[0], counted[-1]}
    return "".join(
        text if separates or place in shown else "*" for place, (text, separates) in enumerate(whole)
    )


def mask_id(number: str) -> str:
    """330402198806260029 → 330402********0029, of 15 digits the last three: the birthday is always hidden.

    Anything shorter than 15 is hidden whole.
    """
    if len(number) < 15:
        return "*" * len(number)
    shown = 4 if len(number) >= 18 else 3
    return number[:6] + "*" * (len(number) - 6 - shown) + number[-shown:]
