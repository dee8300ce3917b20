"""Title search terms: overlapping pairs of folded characters, so that two-character terms are found too.

The last character of each run of characters stands alone beside its pairs: so every character begins some term, and a
question of one character is a question for terms that begin with it.
"""

from __future__ import annotations

import re
from itertools import pairwise
from operator import add

from federation.names import fold, fold_text

_WORD = re.compile(r"[^\W_]+")


def bigrams(title: str) -> str:
    """The terms of a title, joined by spaces."""
    folded = fold_text(title)
    if folded.isalnum():  # one run: most titles
        return " ".join([*map(add, folded, folded[1:]), folded[-1]])
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
