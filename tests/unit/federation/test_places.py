"""Divisions of the delta over the years: one place under several codes and names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.levels import PlaceLevel
from federation.places import current, exists, find, in_region, relation

KNOWN = [
    f"{head}{tail:02d}"
    for head in ("3301", "3304", "3305", "3306", "3201", "3205", "3401", "3101")
    for tail in range(100)
]
CODES = st.sampled_from([code for code in KNOWN if exists(code)])


def test_a_renamed_county_is_one_place_under_all_its_codes():
    for code in ("332222", "330422", "339012", "330482"):
        assert current(code) == "330482"
    assert find("平湖县") == find("平湖市") == find("平湖縣当湖公社") == "330482"


def test_the_words_of_a_record_name_the_county_of_today():
    assert find("桐乡县屠甸乡人民政府") == "330483"
    assert find("浙江省嘉兴市桐乡市") == "330483"
    assert find("330483") == "330483"
    assert find("某某街道办事处") == ""
    assert find("999999") == ""
    assert find("") == ""


def test_a_split_division_is_succeeded_by_its_parts():
    assert relation("332202", "330402") is PlaceLevel.SUCCESSOR
    assert relation("330411", "332230") is PlaceLevel.SUCCESSOR
    assert relation("310103", "310101") in {PlaceLevel.SUCCESSOR, PlaceLevel.SAME}


def test_a_city_is_around_its_counties_and_two_counties_are_apart():
    assert relation("330400", "330483") is PlaceLevel.SUCCESSOR
    assert relation("330481", "330483") is PlaceLevel.DIFFERENT
    assert relation("", "330483") is PlaceLevel.NOT_COMPARED
    assert relation("330483", "") is PlaceLevel.NOT_COMPARED


def test_a_province_is_around_its_cities_and_counties():
    assert relation("310000", "310115") is PlaceLevel.SUCCESSOR  # 上海市, 浦东新区
    assert relation("330483", "330000") is PlaceLevel.SUCCESSOR
    assert relation("330000", "330400") is PlaceLevel.SUCCESSOR
    assert relation("330000", "332222") is PlaceLevel.SUCCESSOR  # 平湖 under its code of 1980
    assert relation("330000", "310115") is PlaceLevel.DIFFERENT
    assert relation("331000", "331100") is PlaceLevel.DIFFERENT  # 台州, 丽水


@settings(deadline=None, max_examples=200)
@given(CODES, CODES)
def test_relations_hold_both_ways_and_for_todays_codes(one, other):
    assert relation(one, other) == relation(other, one)
    assert relation(one, one) is PlaceLevel.SAME
    assert relation(one, current(one)) is PlaceLevel.SAME
    assert relation(current(one), current(other)) in {relation(one, other), PlaceLevel.SAME}


@settings(deadline=None, max_examples=100)
@given(CODES)
def test_todays_code_is_todays_code(code):
    assert current(current(code)) == current(code)
    assert exists(current(code))


def test_a_code_that_nobody_knows_stands_for_itself():
    assert current("999999") == "999999"
    assert not exists("999999")
    assert relation("999999", "999999") is PlaceLevel.SAME


def test_a_region_is_given_by_its_first_digits():
    assert in_region("330483", "33")
    assert in_region("330483", "3304")
    assert in_region("330483", "330400")
    assert in_region("330483", "330000")
    assert not in_region("330483", "330481")


@pytest.mark.parametrize(
    ("city", "own", "others"),
    [
        ("331000", "331081", "331102"),  # 台州, 丽水
        ("321000", "321003", "321102"),  # 扬州, 镇江
        ("321000", "321000", "321200"),
        ("341000", "341002", "341102"),  # 黄山, 滁州
    ],
)
def test_a_city_whose_number_ends_in_nought_is_no_more_than_itself(city, own, others):
    assert exists(city)
    assert in_region(own, city)
    assert in_region(city, city)
    assert not in_region(others, city)
    assert not in_region(others[:4] + "00", city)
