"""Title search terms: overlapping pairs of folded characters, so that two-character terms are found too.

The last character of each run of characters stands alone beside its pairs: so every character begins some term, and a
question of one character is a question for terms that begin with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import add

import numpy as np

from federation.names import fold, fold_texts

_WORD = re.compile(r"[^\W_]+")


def bigrams(titles: Sequence[str]) -> list[str]:
    """The terms of each title, joined by spaces."""
    folded = fold_texts(titles)
    plain = [title.isalnum() for title in folded]  # one run of characters, as most are
    runs = _pairs([title for title, one in zip(folded, plain, strict=True) if one])
    return [next(runs) if one else _terms(title) for title, one in zip(folded, plain, strict=True)]


def _pairs(runs: Sequence[str]) -> Iterator[str]:
    """The terms of each run, made for all at once: of every character the next one and a space, of the last neither."""
    chars = np.frombuffer("\n".join([*runs, ""]).encode("utf-32-le"), dtype="<u4")
    ends = chars == _END
    terms = np.full((len(chars), 3), ord(" "), dtype="<u4")
    terms[:, 0] = chars
    terms[:-1, 1] = chars[1:]
    kept = np.empty(terms.shape, dtype=np.bool_)
    kept[:, 0] = True
    kept[:-1, 1] = kept[:-1, 2] = ~(ends[:-1] | ends[1:])
    kept[-1:, 1:] = False
    return iter(terms[kept].tobytes().decode("utf-32-le").split("\n"))


_END = ord("\n")


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
