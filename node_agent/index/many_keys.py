"""The matching keys of many names at once: what `Keyer.name_keys` gives for each, at a fifth of the price.

A pattern with a wildcard has two sounds beside it in a name of three, and there are some four hundred sounds: so the keys
of all patterns fit a table, and a name costs a look into it instead of a digest each. The sounds of whole names do not
fit one, but two thirds of a million names sound like one met before: those met last are remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from federation.keys import Keyer
from federation.names import SOUNDS, sound_code
from federation.names.many import NO_SOUND, SEPARATOR, Sounds, sounds_of

_Numbers = NDArray[np.int64]

_SOUND_COUNT = len(SOUNDS)
_LENGTHS = (
    2,
    3,
)  # of names whose patterns have a table; of four characters are few, and their table were too large
_REMEMBERED_BITS = 20  # of the number of sounds remembered: 16 MB


class ManyKeys:
    """Computes the keys of names under the secret of a Keyer, and remembers those of patterns and of sounds."""

    def __init__(self, keyer: Keyer) -> None:
        self.keyer = keyer
        self._patterns = {
            length: np.zeros(length * _SOUND_COUNT ** (length - 1), dtype=np.int64) for length in _LENGTHS
        }
        self._sounds = _Remembered(_REMEMBERED_BITS)

    def of_names(self, folded: Sequence[str]) -> tuple[_Numbers, _Numbers]:
        """The keys of folded names, none of them empty, and beside each the place of its name."""
        everyone = np.arange(len(folded))
        keys, owners = [_numbers(self.keyer.packed("N", folded))], [everyone]
        sounds, lengths = sounds_of(folded)
        starts = np.cumsum(lengths) - lengths
        tabled = np.zeros(len(folded), dtype=np.bool_)
        for length in _LENGTHS:
            places = np.flatnonzero(lengths == length)
            spoken = sounds[starts[places][:, None] + np.arange(length)]
            known = np.all(spoken != NO_SOUND, axis=1)
            places, spoken = places[known], spoken[known]
            if places.size:
                tabled[places] = True
                keys += [self._whole(spoken), self._wildcards(spoken)]
                owners += [places, np.repeat(places, length)]
        others = np.flatnonzero(~tabled)
        codes = [sound_code(folded[place]) for place in others.tolist()]
        rest = [self.keyer.sound_keys(code) for code in codes]
        keys.append(np.array(list(chain.from_iterable(rest)), dtype=np.int64))
        owners.append(np.repeat(others, list(map(len, rest))))
        return np.concatenate(keys), np.concatenate(owners)

    def _whole(self, sounds: Sounds) -> _Numbers:
        """The Z keys of names of one length."""
        length = sounds.shape[1]
        numbers = sounds @ _weights(length) + length * _SOUND_COUNT**length  # no two names have one
        keys, unknown = self._sounds.get(numbers)
        texts = [SEPARATOR.join([SOUNDS[sound] for sound in one]) for one in sounds[unknown].tolist()]
        keys[unknown] = _numbers(self.keyer.packed("Z", texts))
        self._sounds.put(numbers[unknown], keys[unknown])
        return keys

    def _wildcards(self, sounds: Sounds) -> _Numbers:
        """The D keys of names of one length, those of a name side by side."""
        length = sounds.shape[1]
        table = self._patterns[length]
        weights = _weights(length - 1)
        at = np.empty(sounds.shape, dtype=np.int64)
        for place in range(length):
            at[:, place] = place * _SOUND_COUNT ** (length - 1) + np.delete(sounds, place, axis=1) @ weights
        keys = table[at]
        if not keys.all():
            new = np.array(sorted(set(at[keys == 0].tolist())), dtype=np.int64)
            table[new] = _numbers(self.keyer.packed("D", [_pattern(one, length) for one in new.tolist()]))
            keys = table[at]
        return keys.ravel()


class _Remembered:
    """Keys of numbers above 0: each number has one slot, where it takes the place of the one before."""

    def __init__(self, bits: int) -> None:
        self._shift = np.uint64(64 - bits)
        self._numbers = np.zeros(1 << bits, dtype=np.int64)
        self._keys = np.zeros(1 << bits, dtype=np.int64)

    def get(self, numbers: _Numbers) -> tuple[_Numbers, NDArray[np.bool_]]:
        """The keys of numbers, and which are not known."""
        slots = self._slots(numbers)
        return self._keys[slots], self._numbers[slots] != numbers

    def put(self, numbers: _Numbers, keys: _Numbers) -> None:
        """Remember the keys of numbers; of two with one slot the last."""
        slots = self._slots(numbers)
        self._numbers[slots], self._keys[slots] = numbers, keys

    def _slots(self, numbers: _Numbers) -> NDArray[np.uint64]:
        return numbers.astype(np.uint64) * _SCATTERING >> self._shift


_SCATTERING = np.uint64(0x9E3779B97F4A7C15)  # 2**64 by the golden ratio: neighbours come far apart


def _weights(length: int) -> _Numbers:
    """What makes one number of so many sounds."""
    return np.array([_SOUND_COUNT**place for place in range(length - 1, -1, -1)], dtype=np.int64)


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
