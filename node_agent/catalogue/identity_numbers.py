"""A column of identity numbers at once: those that are surely valid by arithmetic on all of them, the others one by one."""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from federation.dates import FIRST_YEAR, LAST_YEAR
from federation.identity_number import CENTENARIANS, CHECKS, ELDEST_BORN, WEIGHTS, canonical

_Digits = NDArray[np.uint8]

_WEIGHTS = np.array(WEIGHTS, dtype=np.int64)
_CHECKS = np.frombuffer(CHECKS.encode("ascii"), dtype=np.uint8)
_TENS = 10 ** np.arange(7, -1, -1)
_ZERO = ord("0")
_LONGEST_MONTH = 31


@dataclass(frozen=True, slots=True)
class IdentityNumbers:
    """What a column of them says."""

    numbers: list[str]  # 18 digits, "" of an empty cell and of a wrong number
    births: NDArray[np.int64]  # yyyymmdd, 0 without a number
    wrong: NDArray[np.bool_]


def read_numbers(cells: Sequence[str]) -> IdentityNumbers:
    """`canonical` of each cell."""
    numbers = list(cells)
    births = np.zeros(len(cells), dtype=np.int64)
    lengths = np.array(list(map(len, cells)), dtype=np.int64)
    sure = lengths == 0
    for length in (18, 15):
        places = np.flatnonzero(lengths == length)
        joined = "".join([cells[place] for place in places.tolist()])
        if not places.size or not joined.isascii():
            continue
        digits = np.frombuffer(joined.encode("ascii"), dtype=np.uint8).reshape(-1, length) - _ZERO
        if length == 15:
            digits = _widened(digits)
            whole = (digits + _ZERO).tobytes().decode("latin-1")
            for number, place in enumerate(places.tolist()):
                numbers[place] = whole[18 * number : 18 * number + 18]
        valid = _is_valid(digits)
        sure[places] = valid
        births[places] = np.where(valid, digits[:, 6:14].astype(np.int64) @ _TENS, 0)
    wrong = np.zeros(len(cells), dtype=np.bool_)
    for place in np.flatnonzero(~sure).tolist():
        numbers[place] = canonical(cells[place]) or ""
        births[place] = int(numbers[place][6:14] or 0)
        wrong[place] = not numbers[place]
    return IdentityNumbers(numbers, births, wrong)


def _widened(digits: _Digits) -> _Digits:
    """Numbers of fifteen digits as eighteen; see `federation.identity_number.widened`."""
    serials = digits[:, 12:].astype(np.int64) @ np.array((100, 10, 1))
    years = digits[:, 6].astype(np.int64) * 10 + digits[:, 7]
    eldest = (serials >= int(CENTENARIANS)) & (years >= int(ELDEST_BORN))
    wide = np.empty((len(digits), 18), dtype=np.uint8)
    wide[:, :6], wide[:, 8:17] = digits[:, :6], digits[:, 6:]
    wide[:, 6], wide[:, 7] = 1, np.where(eldest, 8, 9)
    wide[:, 17] = _check_digits(wide) - _ZERO
    return wide


def _check_digits(digits: _Digits) -> _Digits:
    sums: NDArray[np.int64] = digits[:, :17].astype(np.int64) @ _WEIGHTS
    return _CHECKS[sums % len(_CHECKS)]


def _is_valid(digits: _Digits) -> NDArray[np.bool_]:
    """Which numbers of eighteen digits are well written, end in their check digit, and name a day that was."""
    written: NDArray[np.bool_] = np.all(digits[:, :17] <= 9, axis=1)
    digits = np.where(written[:, None], digits, 0)
    years = digits[:, 6:10].astype(np.int64) @ np.array((1000, 100, 10, 1)) - FIRST_YEAR
    months = digits[:, 10].astype(np.int64) * 10 + digits[:, 11] - 1
    days = digits[:, 12].astype(np.int64) * 10 + digits[:, 13] - 1
    inside = (years >= 0) & (years <= LAST_YEAR - FIRST_YEAR) & (months >= 0) & (months < 12)
    inside &= (days >= 0) & (days < _LONGEST_MONTH)
    at = np.where(inside, (years * 12 + months) * _LONGEST_MONTH + days, 0)
    ends = _check_digits(digits) == digits[:, 17] + _ZERO
    valid: NDArray[np.bool_] = written & inside & _days()[at] & ends
    return valid


@lru_cache(1)
def _days() -> NDArray[np.bool_]:
    """Which day of which month of which year was or will be."""
    lengths = [
        calendar.monthrange(year, month)[1]
        for year in range(FIRST_YEAR, LAST_YEAR + 1)
        for month in range(1, 13)
    ]
    days: NDArray[np.bool_] = np.arange(_LONGEST_MONTH)[None, :] < np.array(lengths)[:, None]
    return days.ravel()
