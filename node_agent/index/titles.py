"""Title search terms: overlapping pairs of folded characters, so that two-character terms are found too.

The last character of each run of characters stands alone beside its pairs: so every character begins some term, and a
question of one character is a question for terms that begin with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from operator import add

import numpy as np
from numpy.typing import NDArray

from federation.names import fold, fold_text
from federation.names.many import SEPARATOR, Chars, folded_chars, joined, text_of

_WORD = re.compile(r"[^\W_]+")


def bigrams(titles: Sequence[str]) -> list[str]:
    """The terms of each title, joined by spaces."""
    whole = joined(titles)
    if whole is None:
        return [_terms(fold_text(title)) for title in titles]
    chars = folded_chars(whole)
    between = chars == _BETWEEN
    inside = _is_inside(chars)
    kept = inside | between
    in_run = np.append(inside, False)[1:][kept]  # whether the next character is of the same run
    chars, between = chars[kept], between[kept]
    following = np.append(chars, _BETWEEN)[1:]
    # of every character the next one and a space; of the last of a run the space alone, of the last of a title neither
    terms = np.stack((chars, following, np.full_like(chars, _SPACE)), axis=1)
    wanted = np.empty(terms.shape, dtype=np.bool_)
    wanted[:, 0] = True
    wanted[:, 1] = in_run & ~between
    wanted[:, 2] = (following != _BETWEEN) & ~between
    return text_of(terms[wanted]).split(SEPARATOR)


_BETWEEN, _SPACE = ord(SEPARATOR), ord(" ")
_UNKNOWN, _OUTSIDE, _INSIDE = range(3)
_PLACE_IN_RUN = np.zeros(0x110000, dtype=np.uint8)  # of each character, as far as met


def _is_inside(chars: Chars) -> NDArray[np.bool_]:
    """Which characters are letters or digits."""
    found = _PLACE_IN_RUN[chars]
    if not found.all():
        for char in set(chars[found == _UNKNOWN].tolist()):
            _PLACE_IN_RUN[char] = _INSIDE if chr(char).isalnum() else _OUTSIDE
        found = _PLACE_IN_RUN[chars]
    inside: NDArray[np.bool_] = found == _INSIDE
    return inside


def _terms(folded: str) -> str:
    terms: list[str] = []
    for run in _WORD.findall(folded):
        terms += map(add, run, run[1:])
        terms.append(run[-1])
    return " ".join(terms)


def match_expression(words: str) -> str:
    """The full-text expression that demands every pair of the asked words; "" when there is nothing to ask."""
    terms: dict[str, None] = {}
    for (
        word
    ) in words.split():  # before folding, which drops the spaces: asked words need not stand side by side
        for run in _WORD.findall(fold(word)):
            if len(run) == 1:
                terms[f'"{run}" *'] = None
            else:
                terms.update(dict.fromkeys([f'"{one}{two}"' for one, two in pairwise(run)]))
    return " AND ".join(terms)


def contains(title: str, words: str) -> bool:
    """Whether the title really holds each asked word: pairs alone do not know their order."""
    folded = fold(title)
    return all(fold(word) in folded for word in words.split())
