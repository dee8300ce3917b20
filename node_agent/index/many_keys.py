"""The matching keys of many names at once: what `Keyer.name_keys` gives for each, at a third of the price.

A pattern with a wildcard has two sounds beside it in a name of three, and there are some four hundred sounds: so the keys
of all patterns fit a table, and a name costs a look into it instead of a digest each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from federation.keys import Keyer
from federation.names import FIRST_SOUND_CODE, SOUNDS, sound_codes, spelled_all

_Numbers = NDArray[np.int64]

_SOUND_COUNT = len(SOUNDS)
_LENGTHS = (
    2,
    3,
)  # of names whose patterns have a table; of four characters are few, and their table were too large


class ManyKeys:
    """Computes the keys of names under the secret of a Keyer, and remembers those of patterns."""

    def __init__(self, keyer: Keyer) -> None:
        self.keyer = keyer
        self._tables = {
            length: np.zeros(length * _SOUND_COUNT ** (length - 1), dtype=np.int64) for length in _LENGTHS
        }

    def of_names(self, folded: Sequence[str]) -> tuple[_Numbers, _Numbers]:
        """The keys of folded names, none of them empty, and beside each the place of its name."""
        codes = sound_codes(folded)
        everyone = np.arange(len(folded))
        keys = [
            _numbers(self.keyer.packed("N", folded)),
            _numbers(self.keyer.packed("Z", spelled_all(codes))),
        ]
        owners = [everyone, everyone]
        lengths = np.array(list(map(len, codes)))
        tabled = np.zeros(len(folded), dtype=np.bool_)
        for length in _LENGTHS:
            places = np.flatnonzero(lengths == length)
            if not places.size:
                continue
            joined = "".join([codes[place] for place in places.tolist()]).encode("utf-32-le", "surrogatepass")
            sounds = (
                np.frombuffer(joined, dtype="<u4").reshape(-1, length).astype(np.int64) - FIRST_SOUND_CODE
            )
            known = np.all((sounds >= 0) & (sounds < _SOUND_COUNT), axis=1)
            tabled[places] = known
            keys.append(self._wildcards(sounds[known]))
            owners.append(np.repeat(places[known], length))
        others = np.flatnonzero(~tabled).tolist()
        rest = [self.keyer.inexact_keys(codes[place]) for place in others]
        keys.append(np.array(list(chain.from_iterable(rest)), dtype=np.int64))
        owners.append(np.repeat(np.array(others, dtype=np.int64), list(map(len, rest))))
        return np.concatenate(keys), np.concatenate(owners)

    def _wildcards(self, sounds: _Numbers) -> _Numbers:
        """The D keys of names given as numbers of sounds, those of a name side by side."""
        length = sounds.shape[1]
        table = self._tables[length]
        weights = _SOUND_COUNT ** np.arange(length - 2, -1, -1)
        at = np.empty(sounds.shape, dtype=np.int64)
        for place in range(length):
            at[:, place] = place * _SOUND_COUNT ** (length - 1) + np.delete(sounds, place, axis=1) @ weights
        keys = table[at]
        if not keys.all():
            new = np.array(sorted(set(at[keys == 0].tolist())), dtype=np.int64)
            table[new] = _numbers(self.keyer.packed("D", [_pattern(one, length) for one in new.tolist()]))
            keys = table[at]
        return keys.ravel()


def _pattern(number: int, length: int) -> str:
    """The text of the pattern that stands at a place of the table."""
    place, rest = divmod(number, _SOUND_COUNT ** (length - 1))
    sounds: list[str] = []
    for _sound in range(length - 1):
        rest, sound = divmod(rest, _SOUND_COUNT)
        sounds.insert(0, SOUNDS[sound])
    return Keyer.pattern_text((*sounds[:place], "*", *sounds[place:]))


def _numbers(packed: bytes) -> _Numbers:
    return np.frombuffer(packed, dtype=np.int64)
