"""Comparison levels: how one field of a record agrees with the question. Numbers travel on the wire; never reuse one.

0 always means that the field could not be compared (missing on either side), which is no evidence either way.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

SURNAME_UNEQUAL = 16
"""Added to `Levels.name_unequal` when a character of the surname is among the unequal ones."""


class NameLevel(IntEnum):
    """How two names agree. The number only names a level; what it is worth, `federation/scoring.py` says."""

    NOT_COMPARED = 0
    EXACT = 1  # the same characters
    VARIANT = 2  # the same after folding traditional, variant and 二简 characters
    SURNAME_ALIAS = 3  # a surname written both ways, 傅/付, 萧/肖
    ALIAS = 4  # equals a 曾用名 of the record
    HOMOPHONE = 5  # same syllables without tone
    ACCENT = 6  # same within Wu or Jianghuai accent classes
    SHAPE = (
        7  # one character replaced by a look-alike; the others, here and below, the same or alike in accent
    )
    ONE_CHARACTER = 8  # one character differs
    SWAPPED = 9  # the same characters in another order
    MISSING_CHARACTER = 10  # the question lacks a character of the record
    ADDED_CHARACTER = 11  # the question has a character too many
    DIFFERENT = 12


class IdLevel(IntEnum):
    NOT_COMPARED = 0
    EQUAL = 1  # the same 17 digits, a 15-digit number widened first
    TYPO = 2  # at most two digits differ, or two neighbours swapped
    DIFFERENT = 3


class DateLevel(IntEnum):
    """Difference between two dates; spans are compared by their nearest days."""

    NOT_COMPARED = 0
    DAY = 1  # the same day
    MONTH = 2  # the same month, day not known
    YEAR = 3  # the same year, or inside the stated span of years
    OFF_1 = 4
    OFF_2 = 5
    OFF_3 = 6
    OFF_4_TO_5 = 7
    OFF_6_TO_9 = 8
    FAR = 9
    DAY_MONTH_SWAPPED = 10
    WITHIN = 11  # inside a stated span of four to eight years
    WITHIN_WIDE = 12  # inside a wider span


class PlaceLevel(IntEnum):
    NOT_COMPARED = 0
    SAME = 1
    SUCCESSOR = 2  # a predecessor, a successor or a division around it
    DIFFERENT = 3


class TextLevel(IntEnum):
    """Certificate number, category and the like."""

    NOT_COMPARED = 0
    EQUAL = 1
    DIFFERENT = 2


class Levels(msgspec.Struct, frozen=True, gc=False):
    """The level vector of one candidate: all the evidence a score or an explanation may use."""

    name: NameLevel | int = NameLevel.NOT_COMPARED
    id_number: IdLevel | int = IdLevel.NOT_COMPARED
    birth: DateLevel | int = DateLevel.NOT_COMPARED
    event: DateLevel | int = DateLevel.NOT_COMPARED
    place: PlaceLevel | int = PlaceLevel.NOT_COMPARED
    other_name: NameLevel | int = NameLevel.NOT_COMPARED
    certificate_no: TextLevel | int = TextLevel.NOT_COMPARED
    category: TextLevel | int = TextLevel.NOT_COMPARED
    other_id_number: IdLevel | int = IdLevel.NOT_COMPARED
    name_unequal: int = 0
    """How many characters of the name agree only by sound, accent or shape, or not at all; `SURNAME_UNEQUAL` more when one
    of the surname is among them.
    """
