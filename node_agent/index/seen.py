"""Which 64-bit numbers were seen before, and where first: a hash table in two flat arrays.

A dict of five million rows takes over half a gigabyte; this takes sixteen bytes a slot. Numbers are taken as they are,
so they must already be hashes.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

_FIRST_SLOTS = 1 << 14
_MASK64 = (1 << 64) - 1
_FEW = 50  # fewer are sooner looked up one by one

_Numbers = NDArray[np.uint64]


def has_repeats(numbers: NDArray[np.int64]) -> bool:
    """Whether a number stands there twice."""
    in_order = np.sort(numbers)
    return bool((in_order[1:] == in_order[:-1]).any())


class Seen:
    """`first(number, place)` tells where a number was first met; `place` is above 0."""

    __slots__ = ("_count", "_limit", "_mask", "_numbers", "_places", "_slots")

    def __init__(self) -> None:
        self._allocate(_FIRST_SLOTS)
        self._count = 0

    def _allocate(self, slots: int) -> None:
        self._slots = array(
            "Q", bytes(16 * slots)
        )  # number and place by turns: one look at memory finds both
        both = np.frombuffer(self._slots, dtype=np.uint64)  # the same memory, for many at once
        self._numbers, self._places = both[::2], both[1::2]
        self._mask = slots - 1
        self._limit = slots * 5 // 8

    def first(self, number: int, place: int) -> int:
        """0 when the number is new (it is remembered now), else the place it was first met at."""
        number &= _MASK64
        slots, mask = self._slots, self._mask
        slot = number & mask
        while found := slots[2 * slot + 1]:
            if slots[2 * slot] == number:
                return found
            slot = slot + 1 & mask
        slots[2 * slot] = number
        slots[2 * slot + 1] = place
        self._count += 1
        if self._count > self._limit:
            self._grow(1)
        return 0

    def first_of(self, numbers: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
        """`first` of each in turn."""
        if len(numbers) >= _FEW and not has_repeats(numbers):
            if self._count + len(numbers) > self._limit:
                self._grow(len(numbers))
            return self._find(numbers.view(np.uint64), places.astype(np.uint64)).astype(np.int64)
        return np.array(
            [
                self.first(number, place)
                for number, place in zip(numbers.tolist(), places.tolist(), strict=True)
            ],
            dtype=np.int64,
        )

    def _find(self, numbers: _Numbers, places: _Numbers) -> _Numbers:
        """`first` of different numbers, all at once."""
        held_numbers, held_places, mask = self._numbers, self._places, np.uint64(self._mask)
        found = np.zeros(len(numbers), dtype=np.uint64)
        slots = numbers & mask
        waiting = np.arange(len(numbers))
        while len(waiting) >= _FEW:
            at = slots[waiting]
            held = held_places[at]
            free, same = held == 0, held_numbers[at] == numbers[waiting]
            known = same & ~free
            found[waiting[known]] = held[known]
            claiming, claimed = waiting[free], at[free]
            held_numbers[claimed] = numbers[claiming]  # of two that claim one slot the last gets it
            held_places[claimed] = places[claiming]
            lost = held_numbers[claimed] != numbers[claiming]
            self._count += len(claiming) - int(np.count_nonzero(lost))
            waiting = np.concatenate((waiting[~free & ~same], claiming[lost]))
            slots[waiting] = slots[waiting] + np.uint64(1) & mask
        for place in waiting.tolist():
            found[place] = self.first(int(numbers[place]), int(places[place]))
        return found

    def _grow(self, more: int) -> None:
        numbers, places = self._numbers, self._places
        held = places != 0
        slots = (self._mask + 1) * 2
        while self._count + more > slots * 5 // 8:
            slots *= 2
        self._allocate(slots)
        self._count = 0
        self._find(numbers[held], places[held])
