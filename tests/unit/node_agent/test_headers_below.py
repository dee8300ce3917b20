"""Header rows below the first one, as each page of a printed register has them: they are no records, and where they give the columns
another meaning, the rows below them are not read as if they did not.
"""

from __future__ import annotations

import pytest

from node_agent.catalogue.account import TableAccount
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.head import find_head
from node_agent.catalogue.memory import Memory
from node_agent.catalogue.tables import EvenRows, RowStream, Table
from node_agent.catalogue.understanding import TableReader
from node_agent.record import one_by_one
from tests.fakes.reports import adds_up

PLAIN = ["档号", "姓名", "身份证号", "登记日期", "备注"]


def row(number: int) -> list[str]:
    return [f"J001-{number}", "王芳", "", "1985-06-07", ""]


def read(*lines, extra=None, even=False):
    """(names, findings, account) of a table of these lines, the first of which is its header."""
    told = []
    numbered = [(number, list(cells), None) for number, cells in enumerate(lines, 1)]
    if even:
        columns = [list(column) for column in zip(*lines[1:], strict=True)]
        numbered = [numbered[0], EvenRows(2, columns)]
    table = Table("", numbered)
    rows, account = RowStream(table.rows), TableAccount("", Memory(), told.append)
    head = find_head(table, rows, extra or {}, account)
    reader = TableReader(head, account, category="marriage", division="330483", is_copy=False)
    names = [one.persons[0].name for one in one_by_one(reader.records(rows))]
    assert adds_up(account.report)
    return names, told, account.report


@pytest.mark.parametrize(
    "again",
    [
        ["档 号", "姓 名", "身份证号", "登记日期", "备 注"],
        ["档案号", "姓名", "公民身份号码", "登记时间", "备注"],
        ["档号", "姓名", "身份证号", "登记日期", ""],
        PLAIN,
    ],
)
@pytest.mark.parametrize("even", [False, True])
def test_a_header_in_other_words_or_other_spacing_is_no_record(again, even):
    names, told, report = read(PLAIN, row(1), again, row(2), even=even)
    assert (names, told) == (["王芳"] * 2, [])
    assert report.reasons == {"header": 2}


def test_a_header_of_two_rows_is_no_record_below_either():
    above, below = (
        ["档号", "男方", "", "女方", "", "登记"],
        ["", "姓名", "身份证号", "姓名", "身份证号", "日期"],
    )
    spaced = [" ".join(cell) for cell in above], [" ".join(cell) for cell in below]
    couple = ["J001-1", "钱伟", "", "王芳", "", "1985"]
    names, told, report = read(above, below, couple, *spaced, ["J001-2", *couple[1:]])
    assert (names, told) == (["钱伟"] * 2, [])
    assert report.reasons == {"header": 4}


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("between", [1, 1_500])  # of rows that are read together
def test_rows_below_a_header_with_other_columns_are_set_aside_until_the_first_comes_again(between, even):
    other = ["档号", "身份证号", "姓名", "登记日期", "备注"]
    lines = [PLAIN, row(1), other, *[row(9_000 + number) for number in range(between)], PLAIN, row(2)]
    names, told, report = read(*lines, even=even)
    assert names == ["王芳"] * 2
    assert report.reasons == {"header": 3, "other_columns": between}
    assert report.quarantined == between
    assert {(one.finding, one.detail) for one in told} == {(Finding.OTHER_COLUMNS, "第 3 行 · row 3")}
    assert [one.row for one in told] == list(range(4, 4 + between))


def test_what_a_mapping_says_of_headings_holds_for_those_below_too():
    header = ["卷宗", "姓名", "登记日期", "备注"]
    extra = {"卷宗": "archival_code"}
    for again in (header, ["卷 宗", "姓 名", "登记日期", "备 注"], ["卷宗", "姓名", "办理日期", ""]):
        names, _told, report = read(
            header, ["J1", "王芳", "1985", ""], again, ["J2", "王芳", "1986", ""], extra=extra
        )
        assert (names, report.reasons) == (["王芳"] * 2, {"header": 2})


def test_a_record_with_words_of_headings_is_a_record():
    names, _told, _report = read(PLAIN, ["J001-1", "姓名", "身份证号", "1985", "备注"])
    assert names == ["姓名"]
