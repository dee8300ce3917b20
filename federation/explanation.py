"""What agreed and what did not, in words a clerk can read: 姓名异体一致；出生年一致；配偶同音."""

from __future__ import annotations

from federation.levels import SURNAME_UNEQUAL, DateLevel, IdLevel, Levels, NameLevel, PlaceLevel, TextLevel
from federation.reasons import Text

_NAME: dict[int, Text] = {
    NameLevel.EXACT: Text("一致", "equal"),
    NameLevel.VARIANT: Text("异体一致", "equal but for variant characters"),
    NameLevel.SURNAME_ALIAS: Text("姓氏异写一致", "equal but for another spelling of the surname"),
    NameLevel.ALIAS: Text("与曾用名一致", "equals a former name"),
    NameLevel.HOMOPHONE: Text("同音", "sounds the same"),
    NameLevel.ACCENT: Text("方音相近", "sounds alike in local accent"),
    NameLevel.SHAPE: Text("有一字形近", "one look-alike character"),
    NameLevel.ONE_CHARACTER: Text("有一字不同", "one character differs"),
    NameLevel.SWAPPED: Text("字序颠倒", "characters in another order"),
    NameLevel.MISSING_CHARACTER: Text("查询少一字", "the question lacks a character"),
    NameLevel.ADDED_CHARACTER: Text("查询多一字", "the question has a character too many"),
    NameLevel.DIFFERENT: Text("不同", "differs"),
}
_REST_BY_SOUND: dict[int, Text] = {
    NameLevel.SHAPE: Text("有一字形近，余字同音或音近", "one look-alike character, the rest sounds alike"),
    NameLevel.ONE_CHARACTER: Text(
        "有一字不同，余字同音或音近", "one character differs, the rest sounds alike"
    ),
    NameLevel.SWAPPED: Text("字序颠倒，各字同音或音近", "sounds alike in another order"),
    NameLevel.MISSING_CHARACTER: Text(
        "查询少一字，余字同音或音近", "the question lacks a character, the rest sounds alike"
    ),
    NameLevel.ADDED_CHARACTER: Text(
        "查询多一字，余字同音或音近", "the question has a character too many, the rest sounds alike"
    ),
}
"""These levels compare the other characters by accent class; said unless they are known to be the same characters."""

_UNEQUAL_IF_REST_EQUAL: dict[int, int] = {
    NameLevel.SHAPE: 1,
    NameLevel.ONE_CHARACTER: 1,
}  # of the other levels 0
_DATE: dict[int, Text] = {
    DateLevel.DAY: Text("日期一致", "same day"),
    DateLevel.MONTH: Text("年月一致", "same month"),
    DateLevel.YEAR: Text("年一致", "same year"),
    DateLevel.OFF_1: Text("年差1年内", "within one year"),
    DateLevel.OFF_2: Text("年差2年内", "within two years"),
    DateLevel.OFF_3: Text("年差3年", "three years off"),
    DateLevel.OFF_4_TO_5: Text("年差4至5年", "four or five years off"),
    DateLevel.OFF_6_TO_9: Text("年差6至9年", "six to nine years off"),
    DateLevel.FAR: Text("年不符", "years apart"),
    DateLevel.DAY_MONTH_SWAPPED: Text("月日颠倒", "day and month exchanged"),
    DateLevel.WITHIN: Text("在所问年份内", "inside the years asked"),
    DateLevel.WITHIN_WIDE: Text("在所问年份内", "inside the years asked"),
}
_ID: dict[int, Text] = {
    IdLevel.EQUAL: Text("一致", "equal"),
    IdLevel.TYPO: Text("有一两位不同", "one or two digits differ"),
    IdLevel.DIFFERENT: Text("不同", "differs"),
}
_PLACE: dict[int, Text] = {
    PlaceLevel.SAME: Text("一致", "same"),
    PlaceLevel.SUCCESSOR: Text("沿革相关", "related by succession"),
    PlaceLevel.DIFFERENT: Text("不同", "differs"),
}
_TEXT: dict[int, Text] = {
    TextLevel.EQUAL: Text("一致", "equal"),
    TextLevel.DIFFERENT: Text("不同", "differs"),
}
_UNKNOWN = Text("未知", "unknown")

_FIELDS: tuple[tuple[str, Text, dict[int, Text]], ...] = (
    ("name", Text("姓名", "name"), _NAME),
    ("id_number", Text("证件号", "ID number"), _ID),
    ("birth", Text("出生", "birth"), _DATE),
    ("event", Text("登记", "event"), _DATE),
    ("other_name", Text("另一方", "other party"), _NAME),
    ("other_id_number", Text("另一方证件号", "other party's ID number"), _ID),
    ("certificate_no", Text("字号", "certificate number"), _TEXT),
    ("place", Text("地点", "place"), _PLACE),
)
_SPOUSE = Text("配偶", "spouse")
_SPOUSE_CATEGORIES = frozenset({"marriage", "divorce", "remarriage_cert", "second_birth"})


def explain(levels: Levels, language: str = "zh", category: str = "") -> str:
    """One phrase per compared field, joined by ；(zh) or ; (en). Holds levels only, never a value."""
    phrases = []
    for field, label, words in _FIELDS:
        level = getattr(levels, field)
        if level:
            said = _SPOUSE if field == "other_name" and category in _SPOUSE_CATEGORIES else label
            word = words.get(level, _UNKNOWN)
            if words is _NAME and not (field == "name" and _rest_equal(level, levels.name_unequal)):
                word = _REST_BY_SOUND.get(level, word)
            phrases.append(f"{said.en} {word.en}" if language == "en" else said.zh + word.zh)
    return ("; " if language == "en" else "；").join(phrases)


def _rest_equal(level: int, unequal: int) -> bool:
    """Whether the characters that a level leaves aside are the same; told of the name alone, not of the other party's."""
    return unequal % SURNAME_UNEQUAL == _UNEQUAL_IF_REST_EQUAL.get(level, 0)


_WORDS: dict[int, str] = {level: level.name.lower() for level in NameLevel}


def level_word(levels: Levels) -> str:
    """The name's level as the machine word of an answer: exact, variant, homophone …; "unknown" from a newer agent."""
    return _WORDS.get(levels.name, "unknown")
