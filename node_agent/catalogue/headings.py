"""Headings → fields: in simplified and traditional Chinese, English, and the pinyin initials of old database programs."""

from __future__ import annotations

import re
from functools import lru_cache

from federation.categories import CATEGORIES
from federation.names import fold

CANONICAL = (
    "archival_code", "title", "category", "name", "id_number", "birth_date", "other_name", "other_id_number",
    "event_date", "place", "certificate_no", "open_status", "digitised",
)  # fmt: skip

# field -> headings that mean it. `#` fields are known but only kept as original text.
_MEANINGS: dict[str, str] = {
    "archival_code": "档号 档案号 档案编号 馆编档号 archival_code DH",
    "fonds": "全宗号 全宗 QZH",
    "series": "目录号 类别号 案卷目录号 类别 MLH LBH",
    "volume": "案卷号 卷号 AJH",
    "item": "件号 顺序号 JH",
    "title": "题名 案卷题名 文件题名 title TM",
    "category": "category 档案类别 门类",
    "seq": "序号 编号 流水号 no. 户号 XH",
    "name": "姓名 name XM 承包方代表 户主 户主姓名 职工姓名 学生姓名 申请人 当事人 姓名(户主)",
    "sex": "性别 sex XB 子女性别",
    "id_number": "证件号码 身份证号 身份证 身份证号码 公民身份号码 证件号 id_number SFZH",
    "birth": "出生 出生日期 出生年月 出生时间 birth_date birth CSRQ CSNY 年龄或出生 年龄 年龄(出生) 出生年月日",
    "husband": "男方姓名 男方 夫姓名 丈夫姓名 男姓名",
    "husband_id": "男方身份证号 男方身份证 男方证件号码 男方公民身份号码 男方证件号 男方身份证号码",
    "husband_birth": "男方出生日期 男方年龄 男方年龄(出生) 男方出生年月 男方出生",
    "wife": "女方姓名 女方 妻姓名 妻子姓名 女姓名",
    "wife_id": "女方身份证号 女方身份证 女方证件号码 女方公民身份号码 女方证件号 女方身份证号码",
    "wife_birth": "女方出生日期 女方年龄 女方年龄(出生) 女方出生年月 女方出生",
    "other_name": "other_name 对方姓名 配偶姓名 另一方姓名 配偶",
    "other_id": "other_id_number 对方证件号码 配偶证件号码 配偶身份证号",
    "father": "父亲姓名 父亲 父姓名 申请人(父) 父",
    "father_id": "父亲证件号码 父证件号 父亲身份证号 父证号 父亲证件号",
    "mother": "母亲姓名 母亲 母姓名 申请人(母) 母",
    "mother_id": "母亲证件号码 母证件号 母亲身份证号 母证号 母亲证件号",
    "child": "子女姓名 新生儿姓名 孩子姓名 儿童姓名",
    "child_birth": "子女出生日期 新生儿出生日期",
    "members": "家庭成员 成员 家庭成员姓名及关系",
    "member": "家庭成员姓名 成员姓名",
    "member_relation": "与户主关系 关系",
    "event": "登记日期 登记时间 结婚登记日期 离婚登记日期 event_date 办理日期 下乡时间 下放时间 招工日期 录用日期 退伍日期 TWRQ 安置日期 签订日期 发证日期 签发日期 批准日期 毕业时间 毕业年 毕业年份 复员日期",
    "event_year": "年度 年份 授予年度",
    "place": "登记机关 place 移交单位 下乡地点 下放地点 安置地 村组 单位或村 单位(村) 招工单位 发证机关 授予机关",
    "place_more": "移交单位",
    "place_else": "学校 学校名称 毕业学校 就读学校 接生机构 安置单位 AZDW",  # the place, where no other column says it
    "certificate_no": "字号 结婚证字号 离婚证字号 证号 证书号 certificate_no 独生子女证号 证编号 出生证编号 退伍证号 TWZH 合同编号 权证号 证书编号 离婚证号 结婚证号",
    "open_status": "开放状态 开放标识 open_status YN 控制标识",
    "digitised": "digitised digitized 已数字化 数字化",
    "remark": "备注 附注 说明 BZ remark remarks",
    "alias": "曾用名 又名 原名 alias",
    "#": "入学年份 入学年 入学时间 班级 学号 工作单位 原单位 职务 补助费 返城时间 接收单位 称号 文号 保管期限 迁出地(工程) 迁出地 人数 离婚方式 部队代号 入伍日期 RWRQ BDDH 承包面积(亩) 承包面积 批准文号 单位性质 组 页数 页号 责任者 密级 籍贯 民族",
}
FIELDS = frozenset(_MEANINGS) | frozenset(CANONICAL)
"""Every field a heading may mean, as a mapping file names it."""

_GROUPS = ("男方", "女方", "登记", "在校时间", "父亲", "母亲", "子女", "起止")
_SUBHEADINGS = frozenset(
    {
        "姓名",
        "出生日期",
        "出生",
        "年龄",
        "身份证号",
        "身份证",
        "证件号码",
        "日期",
        "时间",
        "字号",
        "机关",
        "入学年",
        "毕业年",
        "入学",
        "毕业",
        "证件号",
        "性别",
    }
)

_NOTES = re.compile(r"[（(].*?[)）]")


def normal(heading: object) -> str:
    """A heading in comparison form: simplified, no spaces, half-width brackets, upper-case Latin."""
    if not isinstance(heading, str):
        return ""
    return (
        fold(heading)
        .replace("（", "(")
        .replace("）", ")")
        .replace("\ufeff", "")
        .replace("\n", "")
        .replace(":", "")
    )


_FIELD: dict[str, str] = {
    normal(word): field for field, words in _MEANINGS.items() for word in words.split(" ")
}


def field_of(heading: object) -> str:
    """The field a heading means, "#" for one that is only kept, "" for an unknown one."""
    word = normal(heading)
    if not word:
        return ""
    found = _FIELD.get(word)
    if found is None:
        found = _FIELD.get(normal(_NOTES.sub("", str(heading))))
    if found is None:
        found = next(
            (_FIELD.get(word[len(group) :]) for group in _EVENT_GROUPS if word.startswith(group)), None
        )
    return found or ""


_EVENT_GROUPS = tuple(
    map(normal, ("在校时间", "登记", "起止"))
)  # merged headings over columns that say by themselves what they hold


_SCHOOL = re.compile(r"[\u4e00-\u9fff]{2,12}?(?:师范学校|中学|小学|学校|大学|学院|学堂)")


def school_in(*words: str) -> str:
    """The school that a sheet's name or a table's title speaks of; "" when they name none."""
    return next((found[0] for text in words if (found := _SCHOOL.search(text))), "")


def is_header(cells: list[object]) -> bool:
    """Whether a row is a header: most of its texts are headings, and at least two say who or which."""
    texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    if len(texts) < 2:
        return False
    known = [field for text in texts if (field := field_of(text) or ("#" if normal(text) in _GROUPS else ""))]
    return (
        len(known) >= 2
        and len(known) >= 0.6 * len(texts)
        and len(texts) >= 0.5 * sum(cell not in {"", None} for cell in cells)
    )


def is_second_header(cells: list[object]) -> bool:
    """Whether a row names the columns under the merged headings of the row above."""
    texts = [
        (place, cell.strip()) for place, cell in enumerate(cells) if isinstance(cell, str) and cell.strip()
    ]
    if not texts or len(texts) != sum(cell not in {"", None} for cell in cells):
        return False
    return all(normal(text) in _SUBHEADINGS for _place, text in texts)


def joined(above: list[object], below: list[object]) -> list[str]:
    """One heading a column out of two rows: a merged heading goes before each of its columns (男方 + 姓名)."""
    result = []
    group = ""
    for place, cell in enumerate(above):
        upper = str(cell).strip() if cell is not None else ""
        lower = str(below[place]).strip() if place < len(below) and below[place] is not None else ""
        group = upper or group
        result.append(group + lower if lower else upper)
    return result


# category, in the order in which words decide
_CATEGORY_WORDS: tuple[tuple[str, str], ...] = (
    ("离婚", "divorce"), ("补领婚姻", "remarriage_cert"), ("结婚", "marriage"), ("婚姻", "marriage"), ("出生医学", "birth_cert"),
    ("新生儿", "birth_cert"), ("独生子女", "one_child"), ("再生育", "second_birth"), ("二胎", "second_birth"), ("收养", "adoption"),
    ("知青子女", "zhiqing_child"), ("知青", "zhiqing"), ("下乡", "zhiqing"), ("精简", "downsizing"), ("下放", "downsizing"),
    ("招工", "recruitment"), ("录用", "recruitment"), ("劳模", "model_worker"), ("劳动模范", "model_worker"), ("先进", "model_worker"),
    ("移民", "resettlement"), ("学籍", "student"), ("退伍", "demobilized"), ("复员", "demobilized"), ("土地承包", "land_contract"),
    ("承包方", "land_contract"), ("山林", "forest_tenure"), ("建房", "rural_house"), ("宅基地", "rural_house"), ("房产", "urban_house"),
    ("房改", "urban_house"), ("拆迁", "demolition"), ("户口", "hukou_move"), ("农转非", "hukou_move"), ("离退休", "social_insur"),
    ("社保", "social_insur"), ("工伤", "social_insur"), ("职称", "title_honor"), ("公证", "notary"), ("火化", "cremation"),
)  # fmt: skip


def category_in(words: str) -> str:
    """The category that a file name, a title or headings speak of; "" when they do not say."""
    folded = fold(words)
    return next((category for word, category in _CATEGORY_WORDS if fold(word) in folded), "")


def category_named(said: str) -> str:
    """The category a cell names by its key, its title or a word of it; "" when it names none."""
    return said if said in CATEGORIES else _category_by_name(said)


@lru_cache(1_000)
def _category_by_name(said: str) -> str:
    named = (key for key, category in CATEGORIES.items() if category.name.zh == said)
    return next(named, "") or category_in(said)


_COPY_WORDS = ("副本", "移交", "复本")


def says_copy(file_name: str) -> bool:
    """Whether a file name declares its rows copies of another archive's records."""
    return any(fold(word) in fold(file_name) for word in _COPY_WORDS)
