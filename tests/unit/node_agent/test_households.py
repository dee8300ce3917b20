"""Registers that give each member of a household a row: nobody in them is lost without a word."""

import pytest

from node_agent.catalogue.files import CatalogueFile
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.mapping import Mapping
from node_agent.record import one_by_one
from tests.fakes.reports import adds_up

HEADER = "序号,档号,户主姓名,家庭成员姓名,与户主关系,安置日期,安置地点"


def head(code, name, number=""):
    return f"{number},{code},{name},{name},户主,1959-03-01,崇福镇"


def member(name, relation="子"):
    return f",,,{name},{relation},,"


def read(tmp_path, *lines):
    """(people of each record by its code, findings as (row, finding, detail), the report's only table)."""
    path = tmp_path / "工程移民安置.csv"
    path.write_text("\n".join((HEADER, *lines)) + "\n", "utf-8")
    found = []
    file = CatalogueFile(path, mapping=Mapping(category="resettlement"), report=found.append)
    records = [record for part in file.parts() for record in one_by_one(part.records)]
    (table,) = file.report.tables
    assert adds_up(table)
    assert table.taken == len(records)
    people = {record.archival_code: [person.name for person in record.persons] for record in records}
    return people, [(one.row, one.finding, one.detail) for one in found], table


@pytest.mark.parametrize("numbers", [("", "", ""), ("1", "2", "3")], ids=["as it was", "counted on"])
def test_a_household_goes_on_below_its_own_row_repeated_on_the_next_page(tmp_path, numbers):
    first, second, third = (head("A-1-1", "王强", number) for number in numbers)
    lines = (first, member("李芳", "妻"), second, member("王小明"), third, member("王小红", "女"))
    people, told, table = read(tmp_path, *lines, head("A-1-2", "赵四"))
    assert people == {"A-1-1": ["王强", "李芳", "王小明", "王小红"], "A-1-2": ["赵四"]}
    assert told == [(row, Finding.REPEATED_ROW, "第 2 行 · row 2") for row in (4, 6)]
    assert (table.rejected, table.reasons[Finding.MEMBER]) == (2, 3)


@pytest.mark.parametrize(
    ("lost", "why"),
    [
        (head("", "钱七"), Finding.NO_CODE),
        (head("A-1-1", "王强"), Finding.REPEATED_ROW),  # not the one that is open: it may be another's member
        (head("A-1-3", "锟斤拷"), Finding.GARBLED),
    ],
)
def test_each_member_of_a_household_that_was_not_taken_in_is_told_of(tmp_path, lost, why):
    lines = (head("A-1-1", "王强"), head("A-1-2", "赵四"), lost, member("钱小"), member("钱大"))
    people, told, table = read(tmp_path, *lines, head("A-1-4", "孙八"), member("孙小"))
    assert people == {"A-1-1": ["王强"], "A-1-2": ["赵四"], "A-1-4": ["孙八", "孙小"]}
    assert (4, why) in [(row, finding) for row, finding, _detail in told]
    lost_ones = [one for one in told if one[1] is Finding.LOST_MEMBER]
    assert lost_ones == [(row, Finding.LOST_MEMBER, "第 4 行 · row 4") for row in (5, 6)]
    assert table.reasons[Finding.MEMBER] == 1


@pytest.mark.parametrize(
    "unread",
    [
        ",A-1-2,赵四,赵四,户主,1959-03-01",
        "1,,A-1-2,赵四,赵四,户主,1959-03-01,崇福镇",
        ',A-1-2,赵四,赵四,户主,"1959-03-01,崇福镇',
    ],
    ids=["a cell too few", "a cell too many", "a quote without an end"],
)
def test_a_member_below_a_row_that_may_have_opened_its_household_is_not_of_the_one_above(tmp_path, unread):
    lines = (head("A-1-1", "王强"), member("李芳"), unread, member("赵小明"), head("A-1-3", "孙八"))
    people, told, _table = read(tmp_path, *lines, member("孙小"))
    assert people == {"A-1-1": ["王强", "李芳"], "A-1-3": ["孙八", "孙小"]}
    assert [one[:2] for one in told] == [(4, Finding.WRONG_COLUMNS), (5, Finding.LOST_MEMBER)]
    assert told[1][2] == "第 4 行 · row 4"


def test_a_household_goes_on_below_a_members_row_that_could_not_be_read(tmp_path):
    lines = (head("A-1-1", "王强"), ",,,李芳,妻,", member("王小明"))
    people, told, _table = read(tmp_path, *lines)
    assert people == {"A-1-1": ["王强", "王小明"]}
    assert [one[:2] for one in told] == [(3, Finding.WRONG_COLUMNS)]


@pytest.mark.parametrize(
    "filled",
    [
        lambda name: f",A-1-1,,{name},子,,",
        lambda name: f",A-1-1,王强,{name},子,1959-03-01,崇福镇",
        lambda name: f",,王强,{name},子,,",
        lambda name: f",a-1-1,王 强,{name},子,,",
    ],
    ids=["code", "all", "head", "another writing"],
)
def test_members_whose_rows_say_the_household_again_are_of_it(tmp_path, filled):
    """As where cells that were merged are filled down."""
    lines = (head("A-1-1", "王强"), filled("李芳"), filled("王小明"), member("王小红"), head("A-1-2", "赵四"))
    people, told, table = read(tmp_path, *lines)
    assert people == {"A-1-1": ["王强", "李芳", "王小明", "王小红"], "A-1-2": ["赵四"]}
    assert (told, table.reasons[Finding.MEMBER]) == ([], 3)


@pytest.mark.parametrize(
    "other",
    [",A-1-1,赵四,赵小,子,1959-03-01,崇福镇", ",A-1-1,王强,赵小,子,1971-03-01,崇福镇"],
    ids=["head", "date"],
)
def test_another_head_or_date_under_one_code_is_another_household(tmp_path, other):
    people, told, table = read(tmp_path, head("A-1-1", "王强"), other)
    assert table.taken == 2
    assert "赵小" in people["A-1-1"], "the last of two"
    assert {one[1] for one in told} == {Finding.SHARED_CODE}
