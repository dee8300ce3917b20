"""Folding and sounds of many texts at once, by tables of all characters: a tenth of the price of one by one.

Apart from the rest of the package because it loads numpy. Only an import has use for the tables, so they are made when
first asked for (11 ms, 9 MB) and not in every agent that starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from federation.names.folding import FOLD, fold_text
from federation.names.pinyin import FUZZY_READING, FUZZY_SURNAMES, SOUNDS

Chars = NDArray[np.uint32]
"""Code points."""
Sounds = NDArray[np.int64]
"""Places in SOUNDS; NO_SOUND for a character that stands for itself."""

SEPARATOR = "\x1f"
"""Stands between texts that are joined; folding leaves it alone."""
NO_SOUND = -1
_CODE_POINTS = 0x110000
_DROPPED = _CODE_POINTS


def chars_of(text: str) -> Chars:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def text_of(chars: Chars) -> str:
    return chars.astype("<u4", copy=False).tobytes().decode("utf-32-le", "surrogatepass")


def joined(texts: Sequence[str]) -> str | None:
    """The texts with SEPARATOR between them; None when one of them holds it, or there are none."""
    whole = SEPARATOR.join(texts)
    return whole if whole.count(SEPARATOR) == len(texts) - 1 else None


@cache
def _folding() -> Chars:
    table = np.arange(_CODE_POINTS, dtype=np.uint32)
    for char, folded in FOLD.items():
        table[char] = _DROPPED if folded is None else folded
    return table


def folded_chars(text: str) -> Chars:
    """The code points of `fold_text` of a text."""
    chars = _folding()[chars_of(text)]
    kept = chars != _DROPPED
    return chars if kept.all() else chars[kept]


def fold_texts(texts: Sequence[str]) -> list[str]:
    """`fold_text` of each."""
    whole = joined(texts)
    if whole is None:
        return [fold_text(text) for text in texts]
    return text_of(folded_chars(whole)).split(SEPARATOR)


_PLACE = {sound: place for place, sound in enumerate(SOUNDS)}


def _reading(readings: Mapping[str, str]) -> NDArray[np.int16]:
    table = np.full(_CODE_POINTS, NO_SOUND, dtype=np.int16)
    for char, sound in readings.items():
        table[ord(char)] = _PLACE[sound]
    return table


@cache
def _everywhere() -> NDArray[np.int16]:
    return _reading(FUZZY_READING)


@cache
def _as_surname() -> NDArray[np.int16]:
    single = {name: reading[0] for name, reading in FUZZY_SURNAMES.items() if len(name) == 1}
    return _reading({**FUZZY_READING, **single})


_COMPOUND = {
    surname: [_PLACE[sound] for sound in reading]
    for surname, reading in FUZZY_SURNAMES.items()
    if len(surname) > 1
}


@cache
def _begins_compound() -> NDArray[np.bool_]:
    table = np.zeros(_CODE_POINTS, dtype=np.bool_)
    table[[ord(surname[0]) for surname in _COMPOUND]] = True
    return table


def sounds_of(folded: Sequence[str]) -> tuple[Sounds, NDArray[np.int64]]:
    """`fuzzy_syllables` of names, those of all of them side by side, and how long each name is."""
    lengths = np.array(list(map(len, folded)), dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    chars = chars_of("".join(folded))
    sounds: Sounds = _everywhere()[chars].astype(np.int64)
    surnames = starts[lengths > 1]
    sounds[surnames] = _as_surname()[chars[surnames]]
    longer = np.flatnonzero(lengths > 2)
    for place in longer[_begins_compound()[chars[starts[longer]]]].tolist():
        compound = _COMPOUND.get(folded[place][:2])
        if compound is not None:
            sounds[starts[place] : starts[place] + 2] = compound
    return sounds, lengths
