"""The packed value of a key row: year | category | place | record id, in 63 bits, so that years are one range scan.

9 bits of year (0 = not known or longer than a year, else year - 1600), 8 of category, 14 of place, 32 of record id.
SQLite integers are signed: one bit more would break the order from the year 1856 on.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from federation.categories import CATEGORIES
from federation.dates import FIRST_YEAR, DateSpan

RID_BITS, PLACE_BITS, CATEGORY_BITS = 32, 14, 8
_PLACE_SHIFT = RID_BITS
CATEGORY_SHIFT = RID_BITS + PLACE_BITS
_YEAR_SHIFT = RID_BITS + PLACE_BITS + CATEGORY_BITS
RID_MASK = (1 << RID_BITS) - 1
LAST_PLACE = (1 << PLACE_BITS) - 1
UNDATED = 0

CATEGORY_NUMBER = {key: number for number, key in enumerate(CATEGORIES, start=1)}
CATEGORY_KEY = {number: key for key, number in CATEGORY_NUMBER.items()}

_SIGN = 1 << 47

Numbers = NDArray[np.int64]


def year_of(span: DateSpan | None) -> int:
    """The year a record is filed under, or UNDATED when its date is not known to the year."""
    if span is None or span.first // 10000 != span.last // 10000:
        return UNDATED
    return span.first // 10000


def years_of(firsts: Numbers, lasts: Numbers) -> Numbers:
    """`year_of` of many, given their first and last days; 0 = no date."""
    years = firsts // 10000
    return np.where(years == lasts // 10000, years, UNDATED)


def pack(year: int, category: int, place: int, rid: int) -> int:
    """One packed value; `year` is a civil year or UNDATED."""
    bucket = year - FIRST_YEAR if year else UNDATED
    return bucket << _YEAR_SHIFT | category << CATEGORY_SHIFT | place << _PLACE_SHIFT | rid


def pack_all(years: Numbers, categories: Numbers, places: Numbers, rids: Numbers) -> Numbers:
    """`pack` of many at once."""
    buckets = np.where(years == UNDATED, UNDATED, years - FIRST_YEAR)
    return buckets << _YEAR_SHIFT | categories << CATEGORY_SHIFT | places << _PLACE_SHIFT | rids


@lru_cache(4_096)
def year_range(first: int, last: int) -> tuple[int, int]:
    """Smallest and largest packed value of the civil years `first` to `last`, clamped to what can be packed."""
    low = max(1, first - FIRST_YEAR)
    high = min((1 << 9) - 1, last - FIRST_YEAR)
    return low << _YEAR_SHIFT, (high + 1 << _YEAR_SHIFT) - 1


UNDATED_RANGE = (0, (1 << _YEAR_SHIFT) - 1)
WHOLE_RANGE = (0, (1 << 63) - 1)


def rid_of(value: int) -> int:
    return value & RID_MASK


def year_in(value: int) -> int:
    """The civil year of a packed value, or UNDATED."""
    bucket = value >> _YEAR_SHIFT
    return bucket + FIRST_YEAR if bucket else UNDATED


def category_in(value: int) -> int:
    return value >> CATEGORY_SHIFT & 0xFF


def place_in(value: int) -> int:
    return value >> _PLACE_SHIFT & LAST_PLACE


def stored_key(key: int) -> int:
    """A 48-bit key as SQLite stores it in six bytes: shifted to signed."""
    return key - _SIGN
