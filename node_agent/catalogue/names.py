"""Names and identity numbers as catalogues write them."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from federation.identity_number import IdJudgement, canonical, judge, tidy
from federation.names import fold
from federation.names.invisible import INVISIBLE, visible
from federation.names.many import chars_of
from federation.placeholders import PLACEHOLDERS
from node_agent.catalogue.findings import Finding

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SPACES = re.compile(r"[\s\u3000\xa0]+")
_BRACKETS = re.compile(r"[（(\[【〔]([^）)\]】〕]*)[）)\]】〕]?")
_LOST = re.compile(r"[?？〓□\ufffd]")
_PLAIN_HAN = "[\u4e00-\u9fff]"
_PLAIN_END = "[\u4e00-\u540c\u540e-\u5972\u5974-\u5a73\u5a75-\u5b4f\u5b51-\u7536\u7538-\u9fff]"
PLAIN_NAME = re.compile(f"{_PLAIN_HAN}{{1,2}}{_PLAIN_END}")
"""Two or three Han characters that do not end like 某某之子, 某某之女, 女婴, 无名 …: needs no further look."""
_SUFFIX = re.compile(r"(?:同志|先生|女士|等)$")
_UNNAMED = re.compile(r"^未取名|^未命名|^无名|^(?:男|女)婴$")
_CHILD_OF = re.compile(r".+之[子女男]$")
_ALIAS = re.compile(
    r'(?:曾用名|曾用|又名|原名|现名|后改名|改名|学名|乳名|小名|别名|亦名)[:：为是]?[\s“"「《]*([^\s\[\]【】〔〕“”"「」《》,，;；、。()（）/]{2,8})'
)
_NAMESAKE = re.compile(r"同名")
_SPLIT = re.compile(r"[、，,;；/\n]+")
_HAN = re.compile(r"[\u3400-\u9fff]")
_MOJIBAKE = re.compile(r"锟斤拷|烫烫|屯屯|[\u00c0-\u00ff]{3,}|[\u00e3-\u00e9][\u0080-\u00bf]{2}")
_SCIENTIFIC = re.compile(r"\d(?:\.\d+)?[eE]\+?\d+")

NO_ALIASES: tuple[str, ...] = ()
CleanName = tuple[str, tuple[str, ...], Finding | None]


def clean_text(text: str) -> tuple[str, Finding | None]:
    """A cell without entities, control and invisible characters; says when control characters were removed."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return text.strip(), None
    if "&" in text:
        text = html.unescape(text)
    finding = None
    if _CONTROL.search(text):
        text, finding = _CONTROL.sub("", text), Finding.CONTROL_CHARACTERS
    return visible(text).strip(), finding


@lru_cache(200_000)
def read_name(raw: str) -> CleanName:
    """(name, aliases in brackets, what is wrong): characters as written; spaces, brackets, marks and titles aside.
    An empty name with CHILD_UNNAMED for 未取名.
    """
    if PLAIN_NAME.fullmatch(raw) and raw not in PLACEHOLDERS:
        return raw, NO_ALIASES, None
    text, finding = clean_text(raw)
    aliases: tuple[str, ...] = NO_ALIASES
    if "(" in text or "（" in text or "〔" in text or "[" in text or "【" in text:
        inside = " ".join(_BRACKETS.findall(text))
        aliases = tuple(_ALIAS.findall(inside))
        text = _BRACKETS.sub("", text)
    if "名" in text and (behind := _ALIAS.search(text, 2)):  # 王芳 曾用名王小芳
        aliases = (*aliases, *_ALIAS.findall(text, behind.start()))
        text = text[: behind.start()].rstrip(" ,，、;；")
    name = text.rstrip("*＊ ").lstrip("*＊ ")
    spaceless = _SPACES.sub("", name)
    name = spaceless if _HAN.search(spaceless) else _SPACES.sub(" ", name)
    name = _SUFFIX.sub("", name) if len(name) > 3 else name
    if name in PLACEHOLDERS or not fold(name):  # or dots and dashes alone
        return "", aliases, finding
    if _UNNAMED.search(name):
        return "", aliases, Finding.CHILD_UNNAMED
    if _LOST.search(name):
        return name, aliases, Finding.CHARACTER_REPLACED
    return name, aliases, finding


def read_child_name(raw: str) -> CleanName:
    """`read_name` of a child: 某某之子 says whose child it is, and not its name. A grown-up may be called 邱之子."""
    name, aliases, finding = read_name(raw)
    return ("", aliases, Finding.CHILD_UNNAMED) if _CHILD_OF.fullmatch(name) else (name, aliases, finding)


def read_aliases(remark: str) -> tuple[str, ...]:
    """Other names that a remark gives after 曾用名, 又名, 后改名 and the like."""
    return tuple(_ALIAS.findall(remark.translate(_TRADITIONAL))) if "名" in remark else NO_ALIASES


_TRADITIONAL = {ord("後"): ord("后"), ord("現"): ord("现"), ord("學"): ord("学"), ord("別"): ord("别")}


def says_namesake(remark: str) -> bool:
    return bool(_NAMESAKE.search(remark))


def split_people(cell: str) -> list[str]:
    """Several people in one cell, each perhaps with a relation in brackets.

    Spaces part people only where no other sign does and every part could be a whole name: 陈  雪（女） is one person.
    """
    parts = [one.strip() for one in _SPLIT.split(cell)]
    if len(parts) == 1:
        words = cell.split()
        if len(words) > 1 and all(len(_BRACKETS.sub("", word)) > 1 for word in words):
            parts = words
    return [one for one in parts if one]


def owner_of(alias: str, names: list[str]) -> int:
    """Which of `names` an alias most likely belongs to: the one with its surname, else the first."""
    folded = fold(alias)
    for place, name in enumerate(names):
        if name and fold(name)[:1] == folded[:1]:
            return place
    return 0


_JUDGED = {
    IdJudgement.WRONG_CHECK_DIGIT: Finding.ID_WRONG_CHECK_DIGIT,
    IdJudgement.WRONG_LENGTH: Finding.ID_WRONG_LENGTH,
    IdJudgement.BAD_CHARACTERS: Finding.ID_BAD_CHARACTERS,
    IdJudgement.IMPOSSIBLE_BIRTH: Finding.ID_IMPOSSIBLE_BIRTH,
}


def read_id(cell: object) -> tuple[str, Finding | None]:
    """(18 digits or "", what is wrong). A number a spreadsheet kept as a number has lost its end beyond 15 digits."""
    if isinstance(cell, int | float):
        if not cell:
            return "", None
        if cell >= 1e15 or not math.isfinite(cell):
            return "", Finding.ID_LOST_DIGITS
        cell = str(int(cell))
    if not isinstance(cell, str) or not cell:
        return "", None
    number = canonical(cell)
    if number is not None:
        return number, None
    text, _finding = clean_text(cell)
    text = (
        tidy(text).strip("'’`‘").removesuffix(".0")
    )  # as programs export a column of numbers with blanks in it
    if text in PLACEHOLDERS or not any(char.isdigit() for char in text):
        return "", None
    if _SCIENTIFIC.fullmatch(text):
        return "", Finding.ID_LOST_DIGITS
    number = canonical(text)
    if number is not None:
        return number, None
    return "", _JUDGED.get(judge(text), Finding.ID_BAD_CHARACTERS)


def looks_garbled(text: str) -> bool:
    """Whether a text was damaged by reading it in a wrong encoding before it came here.

    Bytes of UTF-8 read as GBK: read back they are whole characters, and more usual ones. Bytes of a true name are now and
    then valid UTF-8 too (陳翠芳), but of characters nobody writes. Where a character is already lost (U+FFFD, private use),
    what is left of the bytes is read back.
    """
    if text.isascii():
        return False
    if _MOJIBAKE.search(text):
        return True
    if len(text) < 2 or not _HAN.search(text):
        return False
    lost = _LOST_IN_READING.search(text) is not None
    try:
        back = text.replace("\ufffd", "").encode("gb18030").decode("utf-8", "ignore" if lost else "strict")
    except UnicodeError:
        return False
    return bool(_HAN.search(back)) and _unusual(back) < _unusual(text)


_LOST_IN_READING = re.compile(r"[\ue000-\uf8ff\ufffd]")


def _unusual(text: str) -> float:
    """How unusual the characters are on average: 0 = all in the first level of GB 2312, 1 = none in either level."""
    chars = [char for char in text if not char.isascii()]
    return sum(map(_rareness, chars)) / max(1, len(chars))


@lru_cache(8_192)
def _rareness(char: str) -> float:
    try:
        lead = char.encode("gb2312")[0]
    except UnicodeEncodeError:
        return 1.0
    return 0.0 if _FIRST_LEVEL[0] <= lead <= _FIRST_LEVEL[1] else 0.5


_FIRST_LEVEL = (0xB0, 0xD7)  # lead bytes of the 3,755 commonest characters


def any_garbled(cells: Iterable[str]) -> bool:
    """Whether a cell of a row is garbled."""
    return any(map(looks_garbled, cells))


_UTF8_HAN = re.compile(rb"[\xe3-\xe9][\x80-\xbf][\x80-\xbf]")


def may_be_garbled(whole: str) -> bool:
    """Whether any part of a row could be damaged: False is sure and cheap, True asks for `any_garbled`."""
    if whole.isascii():
        return False
    try:
        data = whole.encode("gb18030")
    except UnicodeError:
        return True
    return _UTF8_HAN.search(data) is not None or _MOJIBAKE.search(whole) is not None


_UNCLEAN = re.compile(rf"[&\x00-\x08\x0b-\x1e\x7f-\x9f{INVISIBLE}]")


def is_clean(whole: str) -> bool:
    """Whether `clean_text` would only strip the cells of a row, joined by the unit separator."""
    return _UNCLEAN.search(whole) is None


def _leading() -> str:
    """Characters whose two bytes of GBK can be the first two of a Han character in UTF-8."""
    pairs = [bytes((lead, trail)) for lead in range(0xE3, 0xEA) for trail in range(0x80, 0xC0)]
    return "".join(pair.decode("gbk", "ignore") for pair in pairs)


_DOUBTFUL = re.compile(
    f"[{_leading()}\u00c0-\u00ff\ue000-\uf8ff\ufffd\ud800-\udfff锟烫屯{_UNCLEAN.pattern[1:-1]}]"
)


def is_plain(whole: str) -> bool:
    """Whether a row, joined by the unit separator, is surely clean and not garbled; most are, and one look tells.

    Damaged text begins with a whole character, so the first of its pairs of bytes is one of `_leading`.
    """
    return _DOUBTFUL.search(whole) is None


def doubtful_cells(cells: Sequence[str]) -> set[int]:
    """Which of a column's cells are not surely plain. TypeError when one is no text."""
    whole = "".join(cells)
    if whole.isascii() and whole.isprintable() and "&" not in whole:
        return set()
    doubtful = np.flatnonzero(_IS_DOUBTFUL[chars_of(whole)])
    if not doubtful.size:
        return set()
    ends = np.cumsum(list(map(len, cells)))
    return set(_rows_of(doubtful, ends).tolist())


def _rows_of(chars: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """In which cell each of these characters of a column stands, given where its cells end."""
    return np.searchsorted(ends, chars, side="right")


def _marked(pattern: re.Pattern[str]) -> NDArray[np.bool_]:
    """A table of all characters, with those marked that a pattern of one character of the first plane matches."""
    table = np.zeros(0x110000, dtype=np.bool_)
    first_plane = "".join(map(chr, range(0x10000)))
    table[[match.start() for match in pattern.finditer(first_plane)]] = True
    return table


_IS_DOUBTFUL = _marked(_DOUBTFUL)
_IS_PLAIN_HAN, _IS_PLAIN_END = _marked(re.compile(_PLAIN_HAN)), _marked(re.compile(_PLAIN_END))


def odd_names(cells: Sequence[str]) -> list[int]:
    """Places of the cells that are filled and that PLAIN_NAME does not match."""
    lengths = np.array(list(map(len, cells)), dtype=np.int64)
    ends = np.cumsum(lengths)
    chars = chars_of("".join(cells))
    odd = (lengths == 1) | (lengths > 3)
    odd[_rows_of(np.flatnonzero(~_IS_PLAIN_HAN[chars]), ends)] = True
    filled = np.flatnonzero(lengths)
    odd[filled] |= ~_IS_PLAIN_END[chars[ends[filled] - 1]]
    return np.flatnonzero(odd).tolist()


def is_damaged(cells: Sequence[str]) -> bool:
    """Whether a doubtful row is unclean or garbled after all."""
    whole = "\x1f".join(cells)
    return not is_clean(whole) or (may_be_garbled(whole) and any_garbled(cells))
