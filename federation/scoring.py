"""Scoring: log2 weights of the levels add up; a decision shifts with the size of the archive.

Start weights are the measured ones of the project's matching study (hand-set; recall@1 .896 and recall@10 .995 at 1M over
22 kinds of query errors); birth years, event years and places that do not quite agree weigh less than there since
version 2, refitted on drawn people (`loadtest/benches/recall.py`). The node scores to rank and cut; the gateway scores again with the same table, so that
archives compare.
"""

from __future__ import annotations

from enum import StrEnum
from math import log2

from federation.levels import DateLevel, IdLevel, Levels, NameLevel, PlaceLevel, TextLevel

MODEL_VERSION = 2

NAME_BITS_FLOOR, NAME_BITS_CEILING = 5.0, 17.0
OTHER_NAME_BITS = 9.0  # an average name: one in 500 rows

_SURNAME_UNEQUAL = 16
_SURNAME_PENALTY = 1.5
_NAME_DIFFERS = -8.0

_ID: dict[int, float] = {IdLevel.EQUAL: 26.0, IdLevel.TYPO: 18.0, IdLevel.DIFFERENT: -9.0}
_OTHER_ID: dict[int, float] = {IdLevel.EQUAL: 15.0, IdLevel.TYPO: 10.0, IdLevel.DIFFERENT: -6.0}
_BIRTH: dict[int, float] = {
    DateLevel.DAY: 11.0,
    DateLevel.MONTH: 7.5,
    DateLevel.YEAR: 5.5,
    DateLevel.DAY_MONTH_SWAPPED: 5.0,
    DateLevel.WITHIN: 2.5,
    DateLevel.WITHIN_WIDE: 1.0,
    DateLevel.OFF_1: 1.0,
    DateLevel.OFF_2: -2.0,
    DateLevel.OFF_3: -3.5,
    DateLevel.OFF_4_TO_5: -5.0,
    DateLevel.OFF_6_TO_9: -6.0,
    DateLevel.FAR: -6.0,
}
_EVENT: dict[int, float] = {
    DateLevel.DAY: 8.0,
    DateLevel.MONTH: 6.0,
    DateLevel.YEAR: 4.2,
    DateLevel.DAY_MONTH_SWAPPED: 4.0,
    DateLevel.WITHIN: 3.2,
    DateLevel.WITHIN_WIDE: 2.0,
    DateLevel.OFF_1: 2.2,
    DateLevel.OFF_2: 1.0,
    DateLevel.OFF_3: 0.2,
    DateLevel.OFF_4_TO_5: -0.4,
    DateLevel.OFF_6_TO_9: -2.0,
    DateLevel.FAR: -5.0,
}
_PLACE: dict[int, float] = {PlaceLevel.SAME: 2.2, PlaceLevel.SUCCESSOR: 1.2, PlaceLevel.DIFFERENT: -2.6}
_CERTIFICATE: dict[int, float] = {TextLevel.EQUAL: 18.0, TextLevel.DIFFERENT: -3.0}
_CATEGORY: dict[int, float] = {TextLevel.EQUAL: 3.0, TextLevel.DIFFERENT: -3.0}

LIKELY_AT_1M = 21.0
"""Score from which a candidate of an archive of a million records is `likely` (measured on drawn people: of those who
are in no record under 3 % are told so)."""

POSSIBLE_BELOW_LIKELY = 10.0
_SMALLEST_ARCHIVE = 1_000  # below this the threshold falls no further


class Decision(StrEnum):
    LIKELY = "likely"
    POSSIBLE = "possible"
    NONE = "none"


def name_score(level: int, bits: float, unequal: int) -> float:
    """Weight of a name level for a name of `bits` = -log2(frequency), capped to 5..17.

    `unequal` counts characters that differ, plus 16 when the surname is among them. NOT_COMPARED and unknown levels
    weigh nothing. However rough, an agreement never weighs less than none.
    """
    if level == NameLevel.DIFFERENT:
        return _NAME_DIFFERS
    return max(_NAME_DIFFERS, _agreement(level, bits, unequal))


def _agreement(level: int, bits: float, unequal: int) -> float:
    weight = min(NAME_BITS_CEILING, max(NAME_BITS_FLOOR, bits))
    surname = _SURNAME_PENALTY if unequal >= _SURNAME_UNEQUAL else 0.0
    count = unequal % _SURNAME_UNEQUAL
    match level:
        case NameLevel.EXACT:
            return weight
        case NameLevel.VARIANT:
            return weight - 0.5
        case NameLevel.SURNAME_ALIAS:
            return weight - 1.0
        case NameLevel.ALIAS:
            return weight - 1.5
        case NameLevel.HOMOPHONE:
            return weight - 2.2 * max(1, count) - surname
        case NameLevel.ACCENT:
            return weight - 3.4 - 2.2 * max(0, count - 1) - surname
        case NameLevel.SHAPE:
            return weight - 3.6 - 2.2 * max(0, count - 1) - surname
        case NameLevel.ONE_CHARACTER:
            return weight * 0.67 - 4.5 - 2.2 * max(0, count - 1) - surname
        case NameLevel.SWAPPED:
            return weight - 4.0 - 2.2 * count
        case NameLevel.MISSING_CHARACTER:
            return weight * 0.66 - 4.0 - 2.2 * count - surname
        case NameLevel.ADDED_CHARACTER:
            return weight * 0.75 - 4.0 - 2.2 * count - surname
        case _:
            return 0.0


_OTHER_NAME: dict[int, float] = {}
for _level in NameLevel:
    _OTHER_NAME[_level] = -5.0 if _level is NameLevel.DIFFERENT else name_score(_level, OTHER_NAME_BITS, 1)


def score(levels: Levels, name_bits: float) -> float:
    """Sum of the weights; unknown levels of a newer agent weigh nothing."""
    return round(
        name_score(levels.name, name_bits, levels.name_unequal)
        + _ID.get(levels.id_number, 0.0)
        + _BIRTH.get(levels.birth, 0.0)
        + _EVENT.get(levels.event, 0.0)
        + _PLACE.get(levels.place, 0.0)
        + _OTHER_NAME.get(levels.other_name, 0.0)
        + _OTHER_ID.get(levels.other_id_number, 0.0)
        + _CERTIFICATE.get(levels.certificate_no, 0.0)
        + _CATEGORY.get(levels.category, 0.0),
        1,
    )


def likely_from(records: int) -> float:
    """The score from which a candidate of an archive with so many records is likely: one bit more per doubling."""
    return LIKELY_AT_1M + log2(max(records, _SMALLEST_ARCHIVE) / 1_000_000)


def decide(value: float, records: int, levels: Levels | None = None) -> Decision:
    """What a score means in an archive of `records`. A name that does not agree at all is never likely."""
    threshold = likely_from(records)
    if value >= threshold and (
        levels is None or levels.name != NameLevel.DIFFERENT or levels.id_number == IdLevel.EQUAL
    ):
        return Decision.LIKELY
    if value >= threshold - POSSIBLE_BELOW_LIKELY:
        return Decision.POSSIBLE
    return Decision.NONE
