"""Title search terms: overlapping pairs of folded characters, so that two-character terms are found too."""

from __future__ import annotations

import re
from operator import add

from federation.names import fold, fold_text

_WORD = re.compile(r"[^\W_]+")


def bigrams(title: str) -> str:
    """The terms of a title, joined by spaces; a run of one character is its own term."""
    folded = fold_text(title)
    if len(folded) > 1 and folded.isalnum():  # one run: most titles
        return " ".join(map(add, folded, folded[1:]))
    terms = []
    for run in _WORD.findall(folded):
        if len(run) == 1:
            terms.append(run)
        terms.extend([run[place : place + 2] for place in range(len(run) - 1)])
    return " ".join(terms)


def match_expression(words: str) -> str:
    """The full-text expression that demands every pair of the asked words; "" when there is nothing to ask."""
    return " AND ".join(f'"{term}"' for term in dict.fromkeys(bigrams(words).split()))


def contains(title: str, words: str) -> bool:
    """Whether the title really holds each asked word: pairs alone do not know their order."""
    folded = fold(title)
    return all(fold(word) in folded for word in words.split())
