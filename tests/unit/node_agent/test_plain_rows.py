"""The short path over plain rows reads and reports exactly what the long path does, whatever a row holds."""

from datetime import date

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from federation.identity_number import check_digit
from node_agent.catalogue.account import TableAccount
from node_agent.catalogue.head import find_head
from node_agent.catalogue.memory import Memory
from node_agent.catalogue.plain import PlainRows
from node_agent.catalogue.tables import RowStream, Table
from node_agent.catalogue.understanding import TableReader
from node_agent.record import one_by_one
from tests.fakes.reports import adds_up

ID_BODIES = ["33040219850101002", "33048319000229001", "33040219991231996", "33042118750101997"]
IDS = [body + check_digit(body) for body in ID_BODIES] + [
    "330402850101002", "330402750101997", "330402850101996", "330402198501010021", "33040219850101002x", "无", "", "—",
    "3.30402E+17", "33040285010100", "330402208501010024", 330402850101002, 3.304021985010102e17, " 330402850101002",
]  # fmt: skip
NAMES = [
    "王芳", "錢偉明", "欧阳修远", "陈  雪", "张三（曾用名：张小三）", "", "　", "无", "李?", "王某某之子", "邱之子", "女婴", "买买提·艾力",
    "陳翠芳", "浠ｇ兢鐢�", "锟斤拷", "王&#33459;", "李\x07明", "\ufeff陆敏", "卢先生", "刘明*", "·", ".", 7, None,
]  # fmt: skip
DATES = [
    "1985-06-07", "1985.6.7", "1985年6月7日", "19850607", "1985", "1985-02-30", "1985.13.1", "", "不详", "85.6.7", "辛丑年二月",
    "民国三十年", "一九五二年农历三月", "桐结字第5号", "１９８５．６．７", "1985/06", "21", "四十岁", date(1985, 6, 7), 31205, 31205.0, " 1985-06-07 ",
]  # fmt: skip
CODES = ["J001-ZY·HY·1985·Y-0001-001", "J001-1", "j001.a-1", "Ｊ００１－1", "", " J2-1 ", "J3－1", "J4 1", 12]
TEXTS = [
    "桐乡县民政局",
    "嘉兴第一中学学籍卡",
    "",
    " ",
    "是",
    "否",
    "开放",
    "曾用名王小妹",
    "(同名)",
    "无",
    "——",
    "000",
    "a,b",
    "&amp;",
    "\x01",
    "鐢板崕鏂�",
    3,
    True,
    None,
]
CATEGORY = ["marriage", "结婚", "student", "", "没有这类", " marriage ", "one_child"]

LAYOUTS = {
    "canonical": [
        "archival_code",
        "title",
        "category",
        "name",
        "id_number",
        "birth_date",
        "other_name",
        "other_id_number",
        "event_date",
        "place",
        "certificate_no",
        "open_status",
        "digitised",
        "remark",
    ],
    "couple": [
        "序号",
        "档号",
        "男方姓名",
        "男方身份证号",
        "男方出生日期",
        "女方姓名",
        "女方身份证号",
        "登记日期",
        "登记机关",
        "备注",
    ],
    "family": [
        "档号",
        "父亲姓名",
        "父亲证件号码",
        "母亲姓名",
        "母亲证件号码",
        "子女姓名",
        "子女出生日期",
        "发证日期",
        "证号",
    ],
    "student": ["档号", "题名", "姓名", "出生", "证件号码", "学校", "入学年份", "毕业时间"],
    "undated": ["档号", "姓名", "出生"],
}
POOLS = (
    (("code", "档号"), CODES),
    (("category",), CATEGORY),
    (("id_", "证"), IDS),
    (("birth", "出生", "日期", "时间", "date"), DATES),
    (("name", "姓名"), NAMES),
)


PLAIN_FIRST = 2  # so many cells at the head of each pool are of the plain kind


def pool(heading):
    return next((cells for words, cells in POOLS if any(word in heading for word in words)), TEXTS)


@st.composite
def tables(draw):
    """Rows that are plain but for two cells at most: others would all go the long way."""
    headings = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))]
    rows = []
    for number in range(draw(st.integers(1, 8))):
        row = [draw(st.sampled_from(pool(heading)[:PLAIN_FIRST])) for heading in headings]
        for place in draw(st.lists(st.integers(0, len(row) - 1), max_size=2)):
            row[place] = draw(st.sampled_from(pool(headings[place])))
        rows.append(row if number % 3 else [*row[:-1], draw(st.sampled_from(pool(headings[-1])))])
    return headings, rows, [None] * len(rows)


def read(headings, rows, problems, name):
    """(records, findings, account) of a table."""
    told = []
    numbered = [
        (number, list(row), problem)
        for number, (row, problem) in enumerate(zip(rows, problems, strict=True), 2)
    ]
    table = Table(name, [(1, list(headings), None), *numbered])
    rows, account = RowStream(table.rows), TableAccount(name, Memory(), told.append)
    head = find_head(table, rows, {}, account)
    reader = TableReader(head, account, category="marriage", division="330483", is_copy=False)
    records = list(one_by_one(reader.records(rows)))
    return records, told, account.report


@settings(deadline=None, max_examples=300)
@given(tables(), st.sampled_from(["", "桐乡第一中学"]))
@example(
    (
        LAYOUTS["canonical"],
        [["J1", "", "marriage", "王芳", "", "21", "邱之子", "", "1985", "", "", "", "", ""]],
        [None],
    ),
    "",
)
@example(
    (LAYOUTS["family"], [["J1-1", "王刚", "", "李梅", "", "王某某之子", "1985", "1985", ""]], [None]), ""
)
@example((LAYOUTS["undated"], [["J1-1", "王刚", "21"], ["J1-2", "王刚", "四十岁"]], [None, None]), "")
def test_both_paths_read_and_report_the_same(table, name):
    short = read(*table, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainRows, "can_read", staticmethod(lambda _places: False))
        long = read(*table, name)
    assert short[0] == long[0]
    assert short[1] == long[1]
    assert short[2] == long[2]
    assert adds_up(short[2])


@pytest.mark.parametrize("cell", ["无", "無", "—", "－－", "不详", " 不詳 ", "N/A", "0", "000"])
@pytest.mark.parametrize("code", ["J1-1", "j1.1"])  # read the short way, and the long way
def test_a_placeholder_is_no_certificate_number(cell, code):
    row = [code, "", "marriage", "王芳", "", "", "钱伟明", "", "1985", "桐乡县", cell, "开放", "", ""]
    (record,), _told, _report = read(LAYOUTS["canonical"], [row], [None], "")
    assert (record.certificate_no, record.cells[10]) == ("", cell)


def test_a_plain_row_goes_the_short_way(monkeypatch):
    taken = []
    short = PlainRows.read
    monkeypatch.setattr(PlainRows, "read", lambda self, *rows: taken.append(short(self, *rows)) or taken[-1])
    row = [
        "J1-1",
        "王芳结婚登记",
        "marriage",
        "王芳",
        IDS[0],
        "1985-01-01",
        "錢偉明",
        "",
        "2008-06-07",
        "桐乡县",
        "",
        "开放",
        "是",
        "",
    ]
    read(LAYOUTS["canonical"], [row], [None], "")
    assert taken[0][1] == [0]
