"""Scoring: log2 weights of the levels add up; a decision shifts with the size of the archive.

Start weights are the measured ones of the project's matching study (hand-set; recall@1 .896 and recall@10 .995 at 1M over
22 kinds of query errors); birth years, event years and places that do not quite agree weigh less than there since
version 2, refitted on drawn people (`loadtest/benches/recall.py`). The node scores to rank and cut; the gateway scores again with the same table, so that
archives compare.
"""

from __future__ import annotations

from enum import StrEnum
from math import log2

from federation.levels import SURNAME_UNEQUAL, DateLevel, IdLevel, Levels, NameLevel, PlaceLevel, TextLevel

NAME_BITS_FLOOR, NAME_BITS_CEILING = 5.0, 17.0
OTHER_NAME_BITS = 9.0  # an average name: one in 500 rows

_MOST_UNEQUAL = 15
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
    terms = _AGREEMENT.get((level, unequal))
    if terms is None:
        return 0.0
    share, less, unequal_cost, surname_cost = terms
    weight = min(NAME_BITS_CEILING, max(NAME_BITS_FLOOR, bits))
    return max(_NAME_DIFFERS, weight * share - less - unequal_cost - surname_cost)


_PER_CHARACTER = 2.2
_AGREEMENTS: dict[int, tuple[float, float, int, bool]] = {
    NameLevel.EXACT: (1.0, 0.0, _MOST_UNEQUAL, False),
    NameLevel.VARIANT: (1.0, 0.5, _MOST_UNEQUAL, False),
    NameLevel.SURNAME_ALIAS: (1.0, 1.0, _MOST_UNEQUAL, False),
    NameLevel.ALIAS: (1.0, 1.5, _MOST_UNEQUAL, False),
    NameLevel.HOMOPHONE: (1.0, 0.0, 0, True),
    NameLevel.ACCENT: (1.0, 3.4, 1, True),
    NameLevel.SHAPE: (1.0, 3.6, 1, True),
    NameLevel.ONE_CHARACTER: (0.67, 4.5, 1, True),
    NameLevel.SWAPPED: (1.0, 4.0, 0, False),
    NameLevel.MISSING_CHARACTER: (0.66, 4.0, 0, True),
    NameLevel.ADDED_CHARACTER: (0.75, 4.0, 0, True),
}
"""Of each level: the share of the name's weight, what is taken off it, how many unequal characters are free, and whether
an unequal surname costs more."""


def _terms(level: int, unequal: int) -> tuple[float, float, float, float]:
    share, less, free, surname_counts = _AGREEMENTS[level]
    count = unequal % SURNAME_UNEQUAL
    if level == NameLevel.HOMOPHONE:
        count = max(1, count)
    surname = _SURNAME_PENALTY if surname_counts and unequal >= SURNAME_UNEQUAL else 0.0
    return share, less, _PER_CHARACTER * max(0, count - free), surname


_AGREEMENT = {
    (int(level), unequal): _terms(level, unequal)
    for level in _AGREEMENTS
    for unequal in range(2 * SURNAME_UNEQUAL)
}
"""The same worked out for every count of unequal characters: a score is asked for with every candidate."""


_OTHER_NAME: dict[int, float] = {}
for _level in NameLevel:
    _OTHER_NAME[_level] = -5.0 if _level is NameLevel.DIFFERENT else name_score(_level, OTHER_NAME_BITS, 1)


def score(levels: Levels, name_bits: float) -> float:
    """Sum of the weights; unknown levels of a newer agent weigh nothing."""
    return score_vector(
        (
            levels.name, levels.id_number, levels.birth, levels.event, levels.place, levels.other_name, levels.certificate_no,
            levels.category, levels.other_id_number, levels.name_unequal,
        ),
        name_bits,
    )  # fmt: skip


def score_vector(vector: tuple[int, ...], name_bits: float) -> float:
    """`score` of the fields of `Levels` in their order."""
    name, id_number, birth, event, place, other_name, certificate_no, category, other_id, unequal = vector
    return round(
        name_score(name, name_bits, unequal)
        + _ID.get(id_number, 0.0)
        + _BIRTH.get(birth, 0.0)
        + _EVENT.get(event, 0.0)
        + _PLACE.get(place, 0.0)
        + _OTHER_NAME.get(other_name, 0.0)
        + _OTHER_ID.get(other_id, 0.0)
        + _CERTIFICATE.get(certificate_no, 0.0)
        + _CATEGORY.get(category, 0.0),
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
