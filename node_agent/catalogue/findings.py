"""What an import finds: the closed list of reasons for rejecting, quarantining, skipping or warning about a row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from federation.reasons import Text


class Severity(StrEnum):
    REJECTED = "rejected"
    QUARANTINED = "quarantined"
    SKIPPED = "skipped"
    WARNED = "warned"


class Finding(StrEnum):
    # rejected
    NO_NAME = "no_name"
    NO_CODE = "no_code"
    REPEATED_ROW = "repeated_row"
    UNKNOWN_CATEGORY = "unknown_category"
    LOST_MEMBER = "lost_member"
    # quarantined
    WRONG_COLUMNS = "wrong_columns"
    SHIFTED = "shifted"
    GARBLED = "garbled"
    UNDECODABLE = "undecodable"
    CUT_SHORT = "cut_short"
    ORPHAN_MEMBER = "orphan_member"
    OTHER_COLUMNS = "other_columns"
    # skipped: no rows at all
    BLANK = "blank"
    TITLE = "title"
    HEADER = "header"
    TOTAL = "total"
    SIGNATURE = "signature"
    NOTE = "note"
    DELETED = "deleted"
    MEMBER = "member"
    # warned
    OTHER_ENCODING = "other_encoding"
    SHARED_CODE = "shared_code"
    IMPOSSIBLE_DATE = "impossible_date"
    NO_DATE = "no_date"
    AMBIGUOUS_DATE = "ambiguous_date"
    PARTY_MISSING = "party_missing"
    CHILD_UNNAMED = "child_unnamed"
    HEAD_UNNAMED = "head_unnamed"
    YEAR_BY_CONTEXT = "year_by_context"
    ID_WRONG_CHECK_DIGIT = "id_wrong_check_digit"
    ID_WRONG_LENGTH = "id_wrong_length"
    ID_BAD_CHARACTERS = "id_bad_characters"
    ID_IMPOSSIBLE_BIRTH = "id_impossible_birth"
    ID_BORN_AFTER_EVENT = "id_born_after_event"
    ID_LOST_DIGITS = "id_lost_digits"
    CONTROL_CHARACTERS = "control_characters"
    TEXT_CUT = "text_cut"
    CHARACTER_REPLACED = "character_replaced"
    NAMESAKE = "namesake"


TEXTS: dict[Finding, Text] = {
    Finding.NO_NAME: Text("没有姓名", "no name"),
    Finding.NO_CODE: Text("没有档号", "no archival code"),
    Finding.REPEATED_ROW: Text("与前面的行完全重复", "repeats an earlier row entirely"),
    Finding.UNKNOWN_CATEGORY: Text("类别不在目录中", "the category is not known"),
    Finding.LOST_MEMBER: Text(
        "所属的户未收录，家庭成员随之未收录", "the household above was not taken in, nor is its member"
    ),
    Finding.WRONG_COLUMNS: Text("列数不对，可能错位", "wrong number of columns; cells may have shifted"),
    Finding.SHIFTED: Text(
        "日期列中是别的内容，可能错位", "other words where a date belongs; cells may have shifted"
    ),
    Finding.GARBLED: Text("文字已是乱码", "the text is garbled"),
    Finding.UNDECODABLE: Text("无法解码", "can not be decoded"),
    Finding.CUT_SHORT: Text(
        "文件到此中断，后面的记录不在文件里",
        "the file ends here; the records its header counts beyond are not in it",
    ),
    Finding.ORPHAN_MEMBER: Text("家庭成员行之前没有户", "a member row without a household above it"),
    Finding.OTHER_COLUMNS: Text(
        "在另一种表头之下，列的含义与表首不同；请分表导入",
        "below a header row with other columns than the first one; import it as a table of its own",
    ),
    Finding.BLANK: Text("空行", "blank row"),
    Finding.TITLE: Text("标题行", "title row"),
    Finding.HEADER: Text("表头行", "header row"),
    Finding.TOTAL: Text("合计行", "total row"),
    Finding.SIGNATURE: Text("填表签署行", "signature row"),
    Finding.NOTE: Text("说明行", "note row"),
    Finding.DELETED: Text("DBF 中已删除的记录", "deleted DBF record"),
    Finding.MEMBER: Text("并入上面的户", "member of the household above"),
    Finding.OTHER_ENCODING: Text(
        "本行为另一种编码，已按该编码读取", "the row is in another encoding and was read in it"
    ),
    Finding.SHARED_CODE: Text("不同记录共用一个档号", "two different records under one code"),
    Finding.IMPOSSIBLE_DATE: Text("日期不存在", "impossible date"),
    Finding.NO_DATE: Text("没有日期", "no date"),
    Finding.AMBIGUOUS_DATE: Text("日期写法有歧义，未采用", "the date is ambiguous and was not used"),
    Finding.PARTY_MISSING: Text("缺少一方姓名", "one of two parties is missing"),
    Finding.CHILD_UNNAMED: Text("子女无姓名", "child without a name"),
    Finding.HEAD_UNNAMED: Text(
        "户主无姓名，按家庭成员收录", "the head of the household has no name; taken in under its members"
    ),
    Finding.YEAR_BY_CONTEXT: Text(
        "干支年按本表其他行的年份推定", "sexagenary year settled by the years of the other rows of the table"
    ),
    Finding.ID_WRONG_CHECK_DIGIT: Text(
        "证件号校验码不符，不用于匹配", "wrong check digit; not used for matching"
    ),
    Finding.ID_WRONG_LENGTH: Text("证件号位数不对，不用于匹配", "ID of wrong length; not used for matching"),
    Finding.ID_BAD_CHARACTERS: Text(
        "证件号含非法字符，不用于匹配", "ID with bad characters; not used for matching"
    ),
    Finding.ID_IMPOSSIBLE_BIRTH: Text(
        "证件号中的生日不存在，不用于匹配", "ID with an impossible birthday; not used for matching"
    ),
    Finding.ID_BORN_AFTER_EVENT: Text(
        "证件号中的生日晚于登记，不用于匹配",
        "ID with a birthday after the event; not used for matching",
    ),
    Finding.ID_LOST_DIGITS: Text(
        "证件号被电子表格存为数字而丢失末位，不用于匹配", "ID spoilt by a spreadsheet; not used for matching"
    ),
    Finding.CONTROL_CHARACTERS: Text("已去除控制字符", "control characters removed"),
    Finding.TEXT_CUT: Text("文字在字段宽度处被截断", "text cut at the field width"),
    Finding.CHARACTER_REPLACED: Text("有字符被 ? 〓 □ 代替", "a character was replaced by ? 〓 □"),
    Finding.NAMESAKE: Text("原目录注明有同名者", "the catalogue notes a namesake"),
}

SEVERITY: dict[Finding, Severity] = {}
_BOUNDS = (
    (Finding.NO_NAME, Severity.REJECTED),
    (Finding.WRONG_COLUMNS, Severity.QUARANTINED),
    (Finding.BLANK, Severity.SKIPPED),
    (Finding.OTHER_ENCODING, Severity.WARNED),
)
_now = Severity.REJECTED
for _finding in Finding:
    _now = next((severity for first, severity in _BOUNDS if first is _finding), _now)
    SEVERITY[_finding] = _now

TOLD_OF = frozenset({Finding.TITLE, Finding.TOTAL, Finding.SIGNATURE, Finding.NOTE, Finding.DELETED})
"""Of the rows that are no records, those that are told one by one: taken for such by their words, or by a mark."""


@dataclass(frozen=True, slots=True)
class RowFinding:
    """One finding about one row. `field` names the fields it is in, or the headings of columns nobody understood; "" is the
    whole row. `detail` may name another row or quote a cell: findings stay in the archive, and out of logs.
    """

    table: str
    row: int
    field: str
    finding: Finding
    detail: str = ""


@dataclass(slots=True)
class TableReport:
    """The account of one table (a sheet, or the whole file): read = taken + rejected + quarantined + skipped."""

    name: str
    read: int = 0
    taken: int = 0
    rejected: int = 0
    quarantined: int = 0
    skipped: int = 0
    warned: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
