"""Which 64-bit numbers were seen before, and where first: a hash table in two flat arrays.

A dict of five million rows takes over half a gigabyte; this takes sixteen bytes a slot. Numbers are taken as they are,
so they must already be hashes.
"""

from __future__ import annotations

from array import array

_FIRST_SLOTS = 1 << 14
_MASK64 = (1 << 64) - 1


class Seen:
    """`first(number, place)` tells where a number was first met; `place` is above 0."""

    __slots__ = ("_count", "_limit", "_mask", "_numbers", "_places")

    def __init__(self) -> None:
        self._allocate(_FIRST_SLOTS)
        self._count = 0

    def _allocate(self, slots: int) -> None:
        self._numbers = array("Q", bytes(8 * slots))
        self._places = array("Q", bytes(8 * slots))
        self._mask = slots - 1
        self._limit = slots * 5 // 8

    def first(self, number: int, place: int) -> int:
        """0 when the number is new (it is remembered now), else the place it was first met at."""
        number &= _MASK64
        numbers, places, mask = self._numbers, self._places, self._mask
        slot = number & mask
        while found := places[slot]:
            if numbers[slot] == number:
                return found
            slot = slot + 1 & mask
        numbers[slot] = number
        places[slot] = place
        self._count += 1
        if self._count > self._limit:
            self._grow()
        return 0

    def _grow(self) -> None:
        old_numbers, old_places = self._numbers, self._places
        self._allocate((self._mask + 1) * 2)
        numbers, places, mask = self._numbers, self._places, self._mask
        for number, place in zip(old_numbers, old_places, strict=True):
            if place:
                slot = number & mask
                while places[slot]:
                    slot = slot + 1 & mask
                numbers[slot] = number
                places[slot] = place
