"""Explanations say what agreed, in both languages, and never a value of a record."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.categories import CATEGORIES
from federation.comparison import NameComparer
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


@pytest.mark.parametrize(
    ("asked", "held", "said"),
    [
        ("周群军", "周群民", "姓名有一字不同"),
        ("周羣军", "周群民", "姓名有一字不同"),  # a variant is the same character
        ("周群军", "邹文俊", "姓名有一字不同，余字同音或音近"),
        ("钱季国", "钱秀国", "姓名有一字形近"),
        ("钱季国", "钱秀帼", "姓名有一字形近，余字同音或音近"),
        ("钱国", "钱建国", "姓名查询少一字"),
        ("钱国", "钱建帼", "姓名查询少一字，余字同音或音近"),
        ("钱建国明", "钱建国", "姓名查询多一字"),
        ("钱建国明", "钱建帼", "姓名查询多一字，余字同音或音近"),
        ("钱国建", "钱建国", "姓名字序颠倒"),
        ("钱国建", "钱建帼", "姓名字序颠倒，各字同音或音近"),
    ],
)
def test_characters_that_only_sound_alike_are_not_told_to_be_the_same(asked, held, said):
    level, unequal = NameComparer(asked).compare(held)
    assert explain(Levels(name=level, name_unequal=unequal)) == said


def test_of_another_partys_name_no_more_is_told_than_is_known():
    levels = Levels(other_name=NameLevel.ONE_CHARACTER, name_unequal=1)
    assert explain(levels, category="marriage") == "配偶有一字不同，余字同音或音近"
    assert explain(levels, "en", "marriage") == "spouse one character differs, the rest sounds alike"


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
