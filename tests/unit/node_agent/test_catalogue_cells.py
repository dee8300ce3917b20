"""What single cells say: people, numbers, damage; and what only the rows around them settle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.dates import DateSpan
from federation.identity_number import canonical, check_digit, of_century, slip_distance
from federation.keys import Keyer
from federation.query import Query
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.headings import field_of, joined, school_in
from node_agent.catalogue.names import (
    any_garbled,
    is_clean,
    is_plain,
    looks_garbled,
    may_be_garbled,
    read_aliases,
    read_child_name,
    read_id,
    read_name,
    split_people,
)
from node_agent.catalogue.notation import SettledYears, read_birth, read_date

# UTF-8 read as GBK, whole or with a character lost; text damaged twice
WHOLE = canonical("330483680528371")
GARBLED = [
    "浠ｇ兢鐢�",
    "鍐\ue21c弽涓�",
    "鐢板崕鏂�",
    "锟斤拷",
    "烫烫烫",
    "王芳".encode().decode("gbk"),
    "æµ·å®",
]


@pytest.mark.parametrize("text", GARBLED)
def test_damaged_text_is_seen(text):
    assert may_be_garbled(text)
    assert looks_garbled(text)


@pytest.mark.parametrize(
    "name", ["陳翠芳", "傅峯華", "淸𣸣", "喆骉", "扎西·多吉", "浠", "閻永啓", "王芳", "𨱇法", "①号"]
)
def test_rare_and_traditional_names_are_not_damaged(name):
    assert not looks_garbled(name)


@pytest.mark.parametrize(
    ("cell", "people"),
    [
        ("李莲桂（妻）、陈洋（子）、陈  雪（女）", ["李莲桂", "陈洋", "陈雪"]),
        ("翟\u3000静（女）", ["翟静"]),
        ("王芳 李明", ["王芳", "李明"]),
        ("王芳(妻) 李明(子)", ["王芳", "李明"]),
        ("王 芳", ["王芳"]),
        ("王芳;李明，赵云", ["王芳", "李明", "赵云"]),
        ("", []),
    ],
)
def test_several_people_in_one_cell(cell, people):
    assert [read_name(one)[0] for one in split_people(cell)] == people


@pytest.mark.parametrize(
    "mark", ["\u200b", "\u202e", "\u2067", "\u2069", "\ufeff", "\u00ad", "\u034f", "\u3164", "\u2800"]
)
def test_marks_nobody_sees_are_no_part_of_a_name(mark):
    assert read_name(f"{mark}张{mark}三{mark}") == ("张三", (), None)
    assert not is_clean(f"张{mark}三")
    assert not is_plain(f"张{mark}三")


@pytest.mark.parametrize("cell", ["·", ".", "。", "--", " — ", "*", "’"])
def test_marks_alone_are_no_name(cell):
    assert read_name(cell) == ("", (), None)


def test_whose_child_it_is_is_no_name_of_the_child():
    for said in ("王某之子", "李芳之女", "未取名", "女婴"):
        assert read_child_name(said) == ("", (), Finding.CHILD_UNNAMED)
    assert read_name("邱之子") == ("邱之子", (), None)
    assert read_child_name("王之涣")[0] == "王之涣"


@pytest.mark.parametrize(
    ("cell", "number", "finding"),
    [
        (WHOLE, WHOLE, None),
        (f" {WHOLE[:6]} {WHOLE[6:14]} {WHOLE[14:]} ", WHOLE, None),
        (WHOLE[:17] + str((int(WHOLE[17].replace("X", "0")) + 1) % 10), "", Finding.ID_WRONG_CHECK_DIGIT),
        (330483680528371.0, WHOLE, None),
        (3.30483196805284e17, "", Finding.ID_LOST_DIGITS),
        ("3.30483E+17", "", Finding.ID_LOST_DIGITS),
        (WHOLE[:17], "", Finding.ID_WRONG_LENGTH),
        ("330483681328371", "", Finding.ID_IMPOSSIBLE_BIRTH),
        ("33048368O528371", "", Finding.ID_BAD_CHARACTERS),
        ("不详", "", None),
        ("—", "", None),
        (0, "", None),
        (float("inf"), "", Finding.ID_LOST_DIGITS),
        (float("nan"), "", Finding.ID_LOST_DIGITS),
    ],
)
def test_numbers_are_judged_and_never_corrected(cell, number, finding):
    assert read_id(cell) == (number, finding)


def test_headings_under_a_merged_one_say_what_they_hold():
    assert joined(["登记", "", "在校时间", ""], ["日期", "字号", "入学年", "毕业年"]) == [
        "登记日期", "登记字号", "在校时间入学年", "在校时间毕业年",
    ]  # fmt: skip
    assert [field_of(one) for one in ("登记日期", "登记字号", "在校时间入学年", "在校时间毕业年", "登记机关")] == [
        "event", "certificate_no", "#", "event", "place",
    ]  # fmt: skip
    assert school_in("", "嘉兴师范学校学生名册") == "嘉兴师范学校"
    assert school_in("Sheet1", "二〇〇〇年名册") == ""


def test_a_cycle_of_sixty_years_is_settled_by_the_rows_around_it():
    years = SettledYears()
    assert years.settle("壬寅年五月") is None  # nothing is known yet
    for year in [1960] * 5 + [1963] * 5:
        years.add(year)
    span = years.settle("壬寅年五月")
    assert (span.first, span.last) == (19620602, 19620701)
    assert years.settle("甲子年") is None  # 1924 or 1984: neither is near
    years.add(1904)  # a table of sixty years and more says nothing
    assert years.settle("壬寅年五月") is None


@pytest.mark.parametrize(
    "cell",
    ["²⁰²⁰", "1985²", "٣١٢٣٤٥٦٧", "①⑤", "9" * 5_000, "9" * 5_000 + "岁", float("nan"), float("inf"), -1e300],
)
def test_no_date_cell_stops_an_import(cell):
    """Superscripts are digits to `str.isdigit` and not to `int`; Python reads no number of 5,000 digits; 1e999 is infinite."""
    for span, finding in (read_date(cell), read_birth(cell, None)):
        assert span is None
        assert finding in {Finding.IMPOSSIBLE_DATE, Finding.SHIFTED}


@pytest.mark.parametrize(
    ("cell", "first", "last"),
    [
        ("1985年6-7月", 19850601, 19850731),
        ("1985年6月至8月", 19850601, 19850831),
        ("1985.10～12", 19851001, 19851231),
        ("1985-6至7", 19850601, 19850731),
        ("1985.6-7", 19850601, 19850731),  # or the seventh of June, which lies in it
        ("1985.6-15", 19850615, 19850615),
        ("1985.6-3", 19850603, 19850603),
        ("1985-6-7", 19850607, 19850607),
        ("1985.6.7", 19850607, 19850607),
        ("1985年6月7日", 19850607, 19850607),
        ("1985年6月", 19850601, 19850630),
    ],
)
def test_from_one_month_to_another_is_no_day(cell, first, last):
    assert read_date(cell) == (DateSpan(first, last), None)


@pytest.mark.parametrize("cell", ["1985年7-6月", "1985年6-13月", "1985.0至6"])
def test_of_months_that_can_not_be_the_year_is_kept(cell):
    assert read_date(cell) == (DateSpan.of_year(1985), Finding.IMPOSSIBLE_DATE)


@pytest.mark.parametrize("cell", ["00000", "00001", "01234", "02999", "1985.6.7月", "85.6-7月"])
def test_what_is_no_spreadsheets_day_and_no_month_is_not_made_one(cell):
    for read in (read_date(cell), read_date(cell, 1985), read_birth(cell, None)):
        assert read == (None, Finding.IMPOSSIBLE_DATE)
    assert read_date("03000")[0] is not None


DATE_LIKE = st.text(
    st.sampled_from("0123456789²१年月日民国农历闰正腊初十廿一二〇甲子岁虚.-/第号 \0\ud800"), max_size=14
)


@settings(deadline=None, max_examples=1_000)
@given(DATE_LIKE)
def test_every_text_is_a_span_of_days_or_a_finding(text):
    for span, finding in (read_date(text), read_date(text, 1950), read_birth(text, None)):
        assert span is None or span.first <= span.last
        assert finding is None or isinstance(finding, Finding)


def test_fifteen_digits_are_one_person_whatever_the_century():
    """Serials from 996 on were kept for centenarians, but lists gave them to others too."""
    young, old = "330483650528997", "330483880528997"
    assert canonical(young)[6:8] == "19"
    assert canonical(old)[6:8] == "18"
    settled = of_century(canonical(old), 2008)
    assert settled[6:8] == "19"
    assert settled[17] == check_digit(settled[:17])
    assert of_century(canonical(old), 1990) == canonical(old)  # a hundred and two
    assert slip_distance(settled, canonical(old)) == 0
    keyer = Keyer(b"tests")
    for asked in (settled, old, canonical(old)):
        keys = {probe.key for probe in keyer.probes(Query(id_number=asked))}
        assert {keyer.id_key(settled), keyer.id_key(canonical(old))} <= keys


HAN = st.text(st.characters(min_codepoint=0x3400, max_codepoint=0x9FFF), min_size=1, max_size=8)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.one_of(HAN, st.text(max_size=6), st.sampled_from(GARBLED)), max_size=6))
def test_what_one_look_passes_no_closer_look_would_stop(cells):
    whole = "\x1f".join(cells)
    if is_plain(whole):
        assert is_clean(whole)
        assert not any_garbled(cells)


@settings(deadline=None, max_examples=200)
@given(HAN)
def test_every_text_read_in_the_wrong_encoding_gets_a_closer_look(text):
    for wrong in ("gbk", "gb18030", "latin-1", "cp1252"):
        damaged = text.encode().decode(wrong, "replace")
        assert not is_plain(f"x{damaged}")


@pytest.mark.parametrize("whole", ["25", "0", "8岁", "1960", "196005", "19600501", "31000"])
def test_a_number_that_a_program_exported_with_a_zero_behind_the_point_is_that_number(whole):
    event = DateSpan.of_year(1985)
    exported = f"{whole.removesuffix('岁')}.0"
    assert read_birth(exported, event) == read_birth(whole, event)


@pytest.mark.parametrize(
    "cell",
    [
        "王芳 曾用名王小芳",
        "王芳，又名王小芳",
        "王芳又名：王小芳",
        "王芳[曾用名 王小芳]",
        "王芳（曾用名“王小芳”）",
    ],
)
def test_another_name_is_told_from_the_name_however_it_is_set_off(cell):
    assert read_name(cell) == ("王芳", ("王小芳",), None)


@pytest.mark.parametrize("remark", ["[曾用名王小芳]", "【又名：王小芳】", "曾用名“王小芳”", '原名"王小芳"'])
def test_no_bracket_or_quotation_mark_is_part_of_another_name(remark):
    assert read_aliases(remark) == ("王小芳",)


@pytest.mark.parametrize("name", ["李改名", "欧阳学名扬", "邱小名", "王名"])
def test_a_name_that_holds_a_word_for_names_is_a_name(name):
    assert read_name(name) == (name, (), None)


def test_an_identity_number_exported_with_a_zero_behind_the_point_is_that_number():
    assert read_id("330402880626002.0") == read_id("330402880626002") == ("330402198806260029", None)
