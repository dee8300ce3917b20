"""Explanations say what agreed, in both languages, and never a value of a record."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.categories import CATEGORIES
from federation.explanation import explain, level_word
from federation.levels import DateLevel, IdLevel, Levels, NameLevel, PlaceLevel, TextLevel

FIELDS = {
    "name": NameLevel, "id_number": IdLevel, "birth": DateLevel, "event": DateLevel, "place": PlaceLevel,
    "other_name": NameLevel, "certificate_no": TextLevel, "other_id_number": IdLevel,
}  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_every_level_of_every_field_is_worded_in_both_languages(field):
    for level in FIELDS[field]:
        chinese, english = (explain(Levels(**{field: level}), language) for language in ("zh", "en"))
        if level:
            assert chinese
            assert "未知" not in chinese
            assert english.isascii()
            assert "unknown" not in english
        else:
            assert not chinese
            assert not english


def test_a_level_of_a_newer_agent_is_said_to_be_unknown():
    assert explain(Levels(name=99)) == "姓名未知"
    assert level_word(Levels(name=99)) == "unknown"
    assert level_word(Levels(name=NameLevel.VARIANT)) == "variant"


def test_the_other_party_of_a_marriage_is_called_a_spouse():
    levels = Levels(name=NameLevel.VARIANT, birth=DateLevel.YEAR, other_name=NameLevel.HOMOPHONE)
    assert explain(levels, category="marriage") == "姓名异体一致；出生年一致；配偶同音"
    assert explain(levels, category="student") == "姓名异体一致；出生年一致；另一方同音"
    assert explain(levels, "en", "divorce").endswith("; spouse sounds the same")


@settings(deadline=None, max_examples=100)
@given(
    st.builds(Levels, **{field: st.sampled_from(list(kind)) for field, kind in FIELDS.items()}),
    st.sampled_from(sorted(CATEGORIES)),
)
def test_one_phrase_for_each_compared_field(levels, category):
    compared = sum(bool(getattr(levels, field)) for field in FIELDS)
    for language, joint in (("zh", "；"), ("en", "; ")):
        said = explain(levels, language, category)
        assert len(said.split(joint) if said else []) == compared
