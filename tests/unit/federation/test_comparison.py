"""Comparing a record with a question, field by field."""

from dataclasses import dataclass
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.comparison import SURNAME_UNEQUAL, Comparer, DateComparer, NameComparer, compare_ids
from federation.dates import DateSpan
from federation.levels import DateLevel, IdLevel, NameLevel, PlaceLevel, TextLevel
from federation.query import Query

HAN = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5)
NAMES = st.text(HAN, min_size=1, max_size=6)
DAYS = st.dates(min_value=date(1900, 1, 1), max_value=date(2030, 12, 31))


@dataclass(frozen=True)
class Person:
    name: str = ""
    id_number: str = ""
    birth: DateSpan | None = None
    aliases: tuple[str, ...] = ()


def compare_dates(asked, held):
    return DateComparer(asked).compare(held.first, held.last)


def levels(query, *persons, **record):
    given = {
        "category": "marriage",
        "event": None,
        "place": "",
        "place_text": "",
        "certificate_no": "",
        **record,
    }
    return Comparer(Query(**query)).levels(persons=persons, **given)


@settings(deadline=None, max_examples=150)
@given(NAMES)
def test_a_name_equals_itself(name):
    assert NameComparer(name).compare(name) == (NameLevel.EXACT, 0)


@settings(deadline=None, max_examples=200)
@given(NAMES, NAMES)
def test_comparing_either_way_round_says_the_same(one, other):
    mirrored = {
        NameLevel.MISSING_CHARACTER: NameLevel.ADDED_CHARACTER,
        NameLevel.ADDED_CHARACTER: NameLevel.MISSING_CHARACTER,
    }
    there, back = NameComparer(one).compare(other)[0], NameComparer(other).compare(one)[0]
    assert back == mirrored.get(there, there)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=12), st.text(max_size=12))
def test_any_text_compares_and_counts_in_five_bits(one, other):
    level, unequal = NameComparer(one).compare(other)
    assert level in NameLevel
    assert 0 <= unequal <= 31


def test_a_name_as_long_as_a_cell_counts_no_wrong_surname():
    assert NameComparer("王" + "一" * 39).compare("王" + "二" * 39) == (NameLevel.DIFFERENT, 15)
    assert NameComparer("王" + "伟" * 39).compare("王" + "玮" * 39) == (NameLevel.HOMOPHONE, 15)


def test_a_wrong_surname_is_told_from_a_wrong_given_name():
    assert NameComparer("李大明").compare("刘大明") == (NameLevel.ONE_CHARACTER, 1 + SURNAME_UNEQUAL)
    assert NameComparer("李大明").compare("李小明") == (NameLevel.ONE_CHARACTER, 1)


def test_exchanged_characters_that_also_sound_alike_are_still_exchanged():
    assert NameComparer("钱明卫").compare("钱伟鸣") == (NameLevel.SWAPPED, 1)


def test_an_alias_counts_when_the_name_itself_does_not_agree():
    compare = NameComparer("钱小妹").compare
    assert compare("钱伟明", ("钱小妹",)) == (NameLevel.ALIAS, 0)
    assert compare("", ("錢小妹",)) == (NameLevel.ALIAS, 0)
    assert compare("錢小妹", ("钱小妹",)) == (NameLevel.VARIANT, 0)


def test_the_person_asked_for_is_the_best_of_the_record_and_the_other_the_other():
    found, who = levels({"name": "王芳", "other_name": "錢偉明"}, Person("钱伟明"), Person("王芳"))
    assert (who, found.name, found.other_name) == (1, NameLevel.EXACT, NameLevel.VARIANT)


def test_an_equal_number_says_who_is_who_whatever_the_names():
    number = "330402198806260029"
    found, who = levels(
        {"name": "王芳", "id_number": "330402880626002"}, Person("王芳"), Person("王方", number)
    )
    assert (who, found.id_number, found.name) == (1, IdLevel.EQUAL, NameLevel.HOMOPHONE)


def test_one_character_is_no_place():
    found, _who = levels({"place": "市"}, place="330481", place_text="海宁市人民政府")
    assert found.place is PlaceLevel.NOT_COMPARED


HERS, HIS = "330402198806260029", "330481196502030017"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        # a number with a slip, a name with two wrong characters or none
        ({"id_number": "330402198806260129"}, {"id_number": IdLevel.TYPO}),
        ({"name": "贾玮小", "id_number": "330402198806260129"}, {"id_number": IdLevel.TYPO}),
        ({"name": "贾玮小", "other_name": "郑明昌"}, {"other_name": NameLevel.EXACT}),
        ({"other_name": "郑明昌"}, {"other_name": NameLevel.EXACT}),
        ({"other_id_number": HIS}, {"other_id_number": IdLevel.EQUAL}),
        ({"name": "郑玮小", "other_name": "鄭明昌"}, {"other_name": NameLevel.VARIANT}),
        ({"certificate_no": "第12号", "birth": DateSpan.of_year(1988)}, {"birth": DateLevel.YEAR}),
    ],
)
def test_where_no_name_agrees_who_is_who_is_told_by_the_rest_in_any_order(asked, expected):
    his, hers = Person("郑明昌", HIS, DateSpan.of_year(1965)), Person("夏思源", HERS, DateSpan.of_year(1988))
    for persons in ((his, hers), (hers, his)):
        found, who = levels(asked, *persons)
        assert persons[who] is hers
        assert {field: getattr(found, field) for field in expected} == expected


def test_of_two_that_are_like_the_other_party_asked_for_the_less_alike_is_the_person():
    for persons in ((Person("王盈"), Person("王贤")), (Person("王贤"), Person("王盈"))):
        found, who = levels({"name": "主拽", "other_name": "王盈"}, *persons)
        assert (persons[who].name, found.other_name) == ("王贤", NameLevel.EXACT)


def test_exchanged_characters_beat_one_wrong_character_when_choosing_the_person():
    _found, who = levels({"name": "李明伟"}, Person("李明国"), Person("李伟明"))
    assert who == 1


def test_what_one_side_lacks_is_not_compared():
    found, _who = levels({"name": "王芳", "birth": DateSpan.of_year(1960), "place": "330483"}, Person("王芳"))
    assert (found.birth, found.place, found.id_number) == (DateLevel.NOT_COMPARED, PlaceLevel.NOT_COMPARED, 0)
    found, _who = levels({"name": "王芳"})
    assert found.name is NameLevel.NOT_COMPARED


def test_a_certificate_number_and_the_category_agree_or_not():
    found, _who = levels(
        {"certificate_no": "(88)桐婚字第12号", "category": "divorce"}, certificate_no="88桐婚字第12號"
    )
    assert (found.certificate_no, found.category) == (TextLevel.EQUAL, TextLevel.DIFFERENT)


def test_a_mistyped_number_is_compared_as_typed():
    person = Person("王芳", "330402198806260029")
    for typed in ("330402198806260129", "330402198806260092", "330402198806260020"):
        found, _who = levels({"name": "王芳", "id_number": typed}, person)
        assert found.id_number in {IdLevel.TYPO, IdLevel.EQUAL}
    found, _who = levels({"name": "王芳", "id_number": "33040219880"}, person)
    assert found.id_number is IdLevel.NOT_COMPARED
    assert compare_ids("330402195001010016", person.id_number) is IdLevel.DIFFERENT


def test_asked_words_for_a_place_agree_with_words_or_code_of_the_record():
    for asked in ("桐乡市", "屠甸公社", "330483"):
        found, _who = levels({"place": asked}, place="330483", place_text="桐鄉縣屠甸公社")
        assert found.place is PlaceLevel.SAME


@settings(deadline=None, max_examples=150)
@given(DAYS, DAYS)
def test_dates_compare_the_same_either_way_round(one, other):
    here = DateSpan.of_day(one.year, one.month, one.day)
    there = DateSpan.of_day(other.year, other.month, other.day)
    assert compare_dates(here, there) == compare_dates(there, here)
    assert (compare_dates(here, there) is DateLevel.DAY) == (one == other)


@settings(deadline=None, max_examples=150)
@given(st.integers(1900, 2000), st.integers(0, 40), DAYS)
def test_a_day_inside_the_asked_years_never_stands_off(first, length, day):
    asked = DateSpan.of_years(first, first + length)
    level = compare_dates(asked, DateSpan.of_day(day.year, day.month, day.day))
    inside = first <= day.year <= first + length
    assert (level in {DateLevel.YEAR, DateLevel.WITHIN, DateLevel.WITHIN_WIDE}) == inside


@pytest.mark.parametrize(
    ("asked", "held", "level"),
    [
        ("1963", "1963-05-02", DateLevel.YEAR),
        ("1963-05", "1963-05-02", DateLevel.MONTH),
        ("1963-05-02", "1963-02-05", DateLevel.DAY_MONTH_SWAPPED),
        ("1963-05-02", "1963-07-09", DateLevel.YEAR),
        ("1963", "1964", DateLevel.OFF_1),
        ("1963", "1966-01-01", DateLevel.OFF_3),
        ("1963", "1968", DateLevel.OFF_4_TO_5),
        ("1963", "1972", DateLevel.OFF_6_TO_9),
        ("1963", "1973", DateLevel.FAR),
    ],
)
def test_dates_agree_so_far(asked, held, level):
    assert compare_dates(DateSpan.written(asked), DateSpan.written(held)) is level
    assert compare_dates(DateSpan.written(held), DateSpan.written(asked)) is level


@pytest.mark.parametrize(
    ("asked", "held", "level"),
    [
        ("结字第5号", "無", TextLevel.NOT_COMPARED),
        ("结字第5号", "——", TextLevel.NOT_COMPARED),
        ("不详", "结字第5号", TextLevel.NOT_COMPARED),
        ("不详", "不详", TextLevel.NOT_COMPARED),
        ("结字第5号", "结字第6号", TextLevel.DIFFERENT),
        ("结字第5号", "结字第 ５ 號", TextLevel.EQUAL),
    ],
)
def test_a_placeholder_for_a_certificate_number_neither_agrees_nor_contradicts(asked, held, level):
    said = levels({"certificate_no": asked}, Person("王强"), certificate_no=held)[0]
    assert said.certificate_no == level


@pytest.mark.parametrize(
    ("asked", "held"), [("上海市", "310115"), ("浙江省", "330483"), ("330000", "330483")]
)
def test_a_province_asked_for_does_not_count_against_a_record_of_it(asked, held):
    said = levels({"place": asked}, Person("王强"), place=held)[0]
    assert said.place == PlaceLevel.SUCCESSOR
