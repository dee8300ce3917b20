"""Identity numbers of GB 11643-1999: 18 digits with a check digit, or the 15 digits in use until about 2004.

The check digit is judged, never corrected; a 15-digit number is the same person's number without century and check.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from operator import mul

from federation.dates import DateSpan

WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
CHECKS = "10X98765432"
_ZEROS = sum(WEIGHTS) * ord("0")  # what the weights make of the code points of seventeen zeros
_LENGTHS = frozenset({15, 18})
_WIDTH = {ord("０") + digit: ord("0") + digit for digit in range(10)}
_CLEAN: dict[int, int | None] = {
    **_WIDTH,
    ord("x"): ord("X"),
    ord("ｘ"): ord("X"),
    ord("Ｘ"): ord("X"),
    ord(" "): None,
    ord("\u3000"): None,
    ord("\u00a0"): None,
}


class IdJudgement(StrEnum):
    """What a written identity number is worth for matching; only VALID is used."""

    VALID = "valid"
    EMPTY = "empty"
    WRONG_LENGTH = "wrong_length"
    BAD_CHARACTERS = "bad_characters"
    IMPOSSIBLE_BIRTH = "impossible_birth"
    WRONG_CHECK_DIGIT = "wrong_check_digit"


def tidy(text: str) -> str:
    """ASCII digits and a capital X, spaces gone; nothing else is changed."""
    return text.translate(_CLEAN)


def check_digit(first17: str) -> str:
    """The 18th character that belongs to 17 digits."""
    return CHECKS[(sum(map(mul, WEIGHTS, first17.encode("ascii"))) - _ZEROS) % 11]


@lru_cache(65_536)
def _weighed(part: str, place: int) -> int:
    """What a part of a number that begins at `place` adds to the weighted sum; regions, days and serials repeat."""
    return sum(weight * int(digit) for weight, digit in zip(WEIGHTS[place:], part, strict=False))


def _last_digit(first17: str) -> str:
    """`check_digit` of a number whose parts were met before, at a third of the price."""
    return CHECKS[(_weighed(first17[:6], 0) + _weighed(first17[6:14], 6) + _weighed(first17[14:], 14)) % 11]


CENTENARIANS = "996"
"""Serials from here on were kept for people a hundred years old when they got their number, from 1984 on."""
ELDEST_BORN = "75"  # two digits of the year: nobody born before 1875 was there to get one
_LONGEST_LIFE = 110  # years


def widened(id15: str) -> str:
    """The 18-digit form of a 15-digit number; serials 996 to 999 were kept for people born in the 1800s."""
    century = "18" if id15[12:] >= CENTENARIANS and id15[6:8] >= ELDEST_BORN else "19"
    first17 = id15[:6] + century + id15[6:]
    return first17 + _last_digit(first17)


def of_century(id18: str, year: int) -> str:
    """The number of somebody alive in `year`: one widened into the 1800s goes into the 1900s when nobody is so old."""
    if id18[6:8] != "18" or year - int(id18[6:10]) <= _LONGEST_LIFE:
        return id18
    first17 = f"{id18[:6]}19{id18[8:17]}"
    return first17 + _last_digit(first17)


def judge(text: str) -> IdJudgement:
    """What is right or wrong with a number as written."""
    return _examine(text)[0]


def _examine(text: str) -> tuple[IdJudgement, str]:
    """The judgement, and the 18 digits of a valid number."""
    number = text if len(text) in _LENGTHS and text.isdigit() and text.isascii() else tidy(text)
    if not number:
        return IdJudgement.EMPTY, ""
    if len(number) not in _LENGTHS:
        return IdJudgement.WRONG_LENGTH, ""
    digits = number[:17] if len(number) == 18 else number
    if not (digits.isascii() and digits.isdigit() and (len(number) == 15 or number[17] in CHECKS)):
        return IdJudgement.BAD_CHARACTERS, ""
    whole = widened(number) if len(number) == 15 else number
    if _birth(whole[6:14]) is None:
        return IdJudgement.IMPOSSIBLE_BIRTH, ""
    if len(number) == 18 and whole[17] != _last_digit(whole[:17]):
        return IdJudgement.WRONG_CHECK_DIGIT, ""
    return IdJudgement.VALID, whole


def canonical(text: str) -> str | None:
    """18 digits of a valid number (15 digits widened), else None."""
    if len(text) == 18 and text.isascii() and text[:17].isdigit() and text[17] == _last_digit(text[:17]):
        return text if _birth(text[6:14]) is not None else None  # as most are written
    if len(text) == 15 and text.isascii() and text.isdigit():
        whole = widened(text)
        return whole if _birth(whole[6:14]) is not None else None
    return _examine(text)[1] or None


def birth_of(id18: str) -> DateSpan | None:
    """The birthday an 18-digit number carries, or None when the calendar has no such day."""
    return _birth(id18[6:14])


@lru_cache(65_536)
def _birth(eight: str) -> DateSpan | None:
    try:
        return DateSpan.of_day(int(eight[:4]), int(eight[4:6]), int(eight[6:8]))
    except ValueError:
        return None


def repairs(text: str) -> list[str]:
    """Valid numbers one slip away from an 18-digit number that is not valid: one digit replaced, or two neighbours
    swapped. At most 35, the likeliest slips (swaps) first; empty for a valid number and for other lengths, because
    a 15-digit number has no check digit to tell.
    """
    number = tidy(text)
    if len(number) == 18 and number[16] == "X":  # which stands last alone
        exchanged = number[:16] + number[17] + number[16]
        return [exchanged] if judge(exchanged) is IdJudgement.VALID else []
    if (
        len(number) != 18
        or not (number[:17].isascii() and number[:17].isdigit())
        or judge(number) is IdJudgement.VALID
    ):
        return []
    found: dict[str, None] = {}
    for place in range(17):
        swapped = number[:place] + number[place + 1] + number[place] + number[place + 2 :]
        if judge(swapped) is IdJudgement.VALID:
            found.setdefault(swapped)
    if number[17] in CHECKS:
        remainder = sum(weight * int(digit) for weight, digit in zip(WEIGHTS, number[:17], strict=True)) % 11
        wanted = CHECKS.index(number[17])
        for place, weight in enumerate(WEIGHTS):
            for digit in range(10):
                change = digit - int(number[place])
                if change and (remainder + weight * change) % 11 == wanted:
                    mended = number[:place] + str(digit) + number[place + 1 :]
                    if _birth(mended[6:14]) is not None:
                        found.setdefault(mended)
    last = number[:17] + check_digit(number[:17])
    if _birth(last[6:14]) is not None:
        found.setdefault(last)
    return list(found)[:35]


def other_century(id18: str) -> str:
    """The other 18-digit number with the same 15 digits, "" when the serial leaves no doubt."""
    if id18[14:17] < CENTENARIANS or id18[6:8] not in {"18", "19"}:
        return ""
    first17 = f"{id18[:6]}{'19' if id18[6:8] == '18' else '18'}{id18[8:17]}"
    return first17 + _last_digit(first17)


def _same_15_digits(one: str, other: str) -> bool:
    return one[6:8] != other[6:8] and other_century(one)[:17] == other[:17]


def slip_distance(one: str, other: str) -> int:
    """How far two 18-digit numbers are apart: digits that differ, two swapped neighbours counted as one; capped at 3.

    The check digit is left out: a clerk's slip changes it along.
    """
    if one[:17] == other[:17] or _same_15_digits(one, other):
        return 0
    places = [place for place in range(17) if one[place] != other[place]]
    if (
        len(places) == 2
        and places[1] == places[0] + 1
        and one[places[0]] == other[places[1]]
        and one[places[1]] == other[places[0]]
    ):
        return 1
    return min(3, len(places))
