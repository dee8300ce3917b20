"""Scores and decisions: more agreement never weighs less, and a larger archive asks for more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.comparison import STRONGEST_FIRST, SURNAME_UNEQUAL
from federation.levels import DateLevel, IdLevel, Levels, NameLevel, PlaceLevel, TextLevel
from federation.scoring import Decision, decide, likely_from, name_score, score

BITS = st.floats(0, 40)
SIZES = st.integers(0, 100_000_000)
UNEQUAL = st.integers(0, 31)
_DATES = [
    DateLevel.DAY, DateLevel.MONTH, DateLevel.YEAR, DateLevel.OFF_1, DateLevel.OFF_2, DateLevel.OFF_3,
    DateLevel.OFF_4_TO_5, DateLevel.OFF_6_TO_9, DateLevel.FAR,
]  # fmt: skip
# each field's levels from the strongest to the weakest
ORDERS = {
    "id_number": [IdLevel.EQUAL, IdLevel.TYPO, IdLevel.DIFFERENT],
    "other_id_number": [IdLevel.EQUAL, IdLevel.TYPO, IdLevel.DIFFERENT],
    "certificate_no": [TextLevel.EQUAL, TextLevel.DIFFERENT],
    "category": [TextLevel.EQUAL, TextLevel.DIFFERENT],
    "place": [PlaceLevel.SAME, PlaceLevel.SUCCESSOR, PlaceLevel.DIFFERENT],
    "other_name": [*STRONGEST_FIRST[:4], NameLevel.HOMOPHONE, NameLevel.SHAPE, NameLevel.DIFFERENT],
    "birth": _DATES,
    "event": _DATES,
}  # fmt: skip
VECTORS = st.builds(
    Levels,
    name=st.sampled_from(NameLevel), id_number=st.sampled_from(IdLevel), birth=st.sampled_from(DateLevel),
    event=st.sampled_from(DateLevel), place=st.sampled_from(PlaceLevel), other_name=st.sampled_from(NameLevel),
    certificate_no=st.sampled_from(TextLevel), category=st.sampled_from(TextLevel), name_unequal=UNEQUAL,
)  # fmt: skip


def with_level(levels, field, level):
    fields = {name: getattr(levels, name) for name in levels.__slots__}
    return Levels(**{**fields, field: level})


@pytest.mark.parametrize("field", ORDERS)
@settings(deadline=None, max_examples=40)
@given(levels=VECTORS, bits=BITS)
def test_a_stronger_level_of_one_field_never_lowers_the_score(field, levels, bits):
    scores = [score(with_level(levels, field, level), bits) for level in ORDERS[field]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]


@pytest.mark.parametrize("field", ["birth", "event"])
def test_agreement_inside_a_span_of_years_says_less_than_the_year_itself(field):
    year, within, wide, nothing, far = (
        score(Levels(**{field: level}), 12.0)
        for level in (
            DateLevel.YEAR, DateLevel.WITHIN, DateLevel.WITHIN_WIDE, DateLevel.NOT_COMPARED, DateLevel.FAR,
        )
    )  # fmt: skip
    assert year > within > wide > nothing > far


@settings(deadline=None, max_examples=100)
@given(bits=BITS)
def test_name_levels_stand_in_the_order_in_which_persons_are_chosen(bits):
    weights = [name_score(level, bits, 1) for level in STRONGEST_FIRST[:8]]
    assert weights == sorted(weights, reverse=True)
    assert all(
        name_score(level, bits, 1) >= name_score(NameLevel.DIFFERENT, bits, 1) for level in STRONGEST_FIRST
    )


@settings(deadline=None, max_examples=100)
@given(level=st.sampled_from(STRONGEST_FIRST[:-1]), bits=BITS, more=st.floats(0, 10), unequal=UNEQUAL)
def test_a_rarer_name_never_weighs_less(level, bits, more, unequal):
    assert name_score(level, bits + more, unequal) >= name_score(level, bits, unequal)


@settings(deadline=None, max_examples=100)
@given(level=st.sampled_from(STRONGEST_FIRST[:-1]), bits=BITS, unequal=st.integers(1, 14))
def test_more_unequal_characters_or_an_unequal_surname_never_weigh_more(level, bits, unequal):
    assert name_score(level, bits, unequal + 1) <= name_score(level, bits, unequal)
    assert name_score(level, bits, unequal + SURNAME_UNEQUAL) <= name_score(level, bits, unequal)


@pytest.mark.parametrize("field", [*ORDERS, "name"])
def test_what_was_not_compared_or_is_of_a_newer_agent_weighs_nothing(field):
    assert score(Levels(**{field: 0}), 12.0) == 0
    assert score(Levels(**{field: 200}), 12.0) == 0


@settings(deadline=None, max_examples=100)
@given(value=st.floats(-50, 80), records=SIZES, factor=st.integers(2, 64))
def test_a_larger_archive_never_decides_more_readily(value, records, factor):
    order = [Decision.NONE, Decision.POSSIBLE, Decision.LIKELY]
    assert order.index(decide(value, records * factor)) <= order.index(decide(value, records))


def test_twice_the_records_ask_for_one_bit_more():
    assert likely_from(2_000_000) == likely_from(1_000_000) + 1
    assert likely_from(0) == likely_from(1_000)


def test_a_name_that_does_not_agree_is_never_likely_but_by_an_equal_number():
    strong = {"birth": DateLevel.DAY, "event": DateLevel.DAY, "other_name": NameLevel.EXACT}
    different = Levels(name=NameLevel.DIFFERENT, **strong)
    assert decide(40.0, 1_000_000, different) is Decision.POSSIBLE
    assert (
        decide(40.0, 1_000_000, Levels(name=NameLevel.DIFFERENT, id_number=IdLevel.TYPO)) is Decision.POSSIBLE
    )
    assert (
        decide(40.0, 1_000_000, Levels(name=NameLevel.DIFFERENT, id_number=IdLevel.EQUAL)) is Decision.LIKELY
    )


@settings(deadline=None, max_examples=60)
@given(levels=VECTORS, bits=BITS)
def test_the_same_levels_always_score_the_same(levels, bits):
    assert score(levels, bits) == score(with_level(levels, "name", levels.name), bits)
