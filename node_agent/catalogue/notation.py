"""Dates and ages as catalogues write them → spans of days with a precision, never a made-up day.

民國, Chinese numerals, lunar months, year only, unknown parts as 00, spreadsheet day numbers, impossible dates.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache

from borax.calendars.lunardate import LunarDate

from federation.dates import DateSpan
from federation.placeholders import PLACEHOLDERS
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.tables import DAY_ZERO

_EARLIEST, _LATEST = 1800, 2035  # civil registers of people who may still be asked about
_FIRST_SERIAL, _LAST_SERIAL = 3_000, 50_000  # 1908 … 2036, counted from 1900

_WIDE: dict[int, int | None] = {
    **{0xFF10 + digit: ord("0") + digit for digit in range(10)},
    **{ord(char): ord(".") for char in "．。、，,·・/／"},
    **{ord(char): ord("-") for char in "－—–~～至"},
    **{ord(char): None for char in " \u3000\u00a0\t[]［］()（）〔〕约約"},
    ord("國"): ord("国"),
    ord("華"): ord("华"),
    ord("農"): ord("农"),
    ord("歷"): ord("历"),
    ord("曆"): ord("历"),
    ord("陰"): ord("阴"),
    ord("臘"): ord("腊"),
    ord("閏"): ord("闰"),
    ord("號"): ord("日"),
    ord("号"): ord("日"),
    ord("歲"): ord("岁"),
    ord("虛"): ord("虚"),
}
_NUMERALS = {char: digit for digit, chars in enumerate(("〇零○Ｏ", "一壹元", "二贰兩两", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖")) for char in chars}  # fmt: skip
_TENS = {"十": 10, "拾": 10, "廿": 20, "卅": 30}
_MONTHS = {"正": 1, "冬": 11, "腊": 12}

_WHOLE_DAY = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}")
_NUMERIC = re.compile(r"(\d{4})(?:年|[-.])(\d{1,2})(?:(?:月|[-.])(\d{1,2})日?|月份?)?")
_MONTH_TO_MONTH = re.compile(r"(\d{4})([年.-])(\d{1,2})月?-(\d{1,2})(月?)")
_TO = frozenset("~～至")
_DAY_FIRST_YEAR = re.compile(r"\d{2}[-.]\d{1,2}[-.]\d{1,2}|\d{1,2}[-.]\d{1,2}[-.]\d{2,4}")
_DIGITS = re.compile(r"\d{4}|\d{6}|\d{8}")
_SERIAL = re.compile(r"\d{5}")
_YEAR = re.compile(r"(\d{4})年?(?:度|届|春|夏|秋|冬|初|末|底|上半年|下半年)?")
_YEARS = re.compile(r"(\d{4})年?-(\d{4})年?")
_AGE = re.compile(r"(?:虚岁?)?(\d{1,3})(?:\.0)?(?:周)?岁?")
# in columns of their own on a form: without the spaces 1985 1 1 would be a November, 1985 6 the day number of another year
_PARTED = re.compile(r"\s*(?:\d{4}(?:\s+\d{1,2}){1,2}|\d{2}(?:\s+\d{1,2}){2})\s*")
_WITH_ZERO = re.compile(
    r"\d{5,8}\.0"
)  # 19850501.0: a column of numbers with blanks in it, as programs export it
_HAN = re.compile(
    r"(民国|中华民国|公元|公历)?([〇零○Ｏ一壹元二贰兩两三叁四肆五伍六陆七柒八捌九玖十拾廿卅\d]{1,6})年"
    r"(农历|阴历|旧历|夏历)?(闰)?"
    r"(?:([正元冬腊一二三四五六七八九十〇\d]{1,3})月份?)?(?:(初)?([一二三四五六七八九十廿卅〇\d]{1,3})日?|[上中下]旬|[初中底末])?"
)

# 农历一九六三年腊月初八, for 一九六三年农历腊月初八
_LUNAR_FIRST = re.compile(r"(农历|阴历|旧历|夏历)(.{1,8}?年)")

_STEMS, _BRANCHES = "甲乙丙丁戊己庚辛壬癸", "子丑寅卯辰巳午未申酉戌亥"
_SEXAGENARY = re.compile(
    rf"(?:农历|阴历|旧历|夏历)?([{_STEMS}])([{_BRANCHES}])年?(闰)?(?:([正冬腊一二三四五六七八九十]{{1,3}})月)?(?:初?([一二三四五六七八九十廿卅]{{1,3}})日?)?"
)
_SHORT_YEAR = re.compile(r"(\d{2})(?:年|[-.])(\d{1,2})(?:(?:月|[-.])(\d{1,2})日?|月)?")
_TIME_OF_DAY = re.compile(r"(?<=[\d日号])(?:\s+|T)\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|\s*[AaPp][Mm])?\s*$")
_SAYS_TIME = re.compile(r"[\d年月日岁元〇零一二三四五六七八九十]")

Read = tuple[DateSpan | None, Finding | None]
"""What a cell says, and what is wrong with it."""


def read_date(cell: object, hint: int = 0, day_zero: date = DAY_ZERO) -> Read:
    """A date cell of any type. (None, NO_DATE) when it says nothing.

    `hint` is a year the row says elsewhere (its archival code, its year column): it decides which 庚辰 or which 15 of
    "15.12.26" is meant, when one lies within a year of it; nothing else is taken from it. `day_zero` is where the cell's spreadsheet begins to
    count days.
    """
    if isinstance(cell, str):
        span, finding = _read_text(cell, day_zero)
        if finding is Finding.AMBIGUOUS_DATE:
            return _read_ambiguous(cell, hint)
        return span, finding
    if isinstance(cell, datetime | date):
        return _of(cell.year, cell.month, cell.day)
    if isinstance(cell, int | float):
        if not math.isfinite(cell):
            return None, Finding.IMPOSSIBLE_DATE
        number = int(cell)
        if _EARLIEST <= number <= _LATEST:
            return _of(number, 0, 0)
        if _is_serial(number, day_zero):
            return _of_number(number, day_zero)
        return _read_text(str(number), day_zero)
    return None, Finding.NO_DATE


def _plain(text: str) -> str:
    """A cell in one width, without spaces, and with one sign for each of those people write."""
    if _PARTED.fullmatch(text):
        text = ".".join(text.split())
    elif _WITH_ZERO.fullmatch(text):
        text = text.removesuffix(".0")
    return text.translate(_WIDE)


@lru_cache(200_000)
def _read_text(text: str, day_zero: date) -> Read:
    if _WHOLE_DAY.fullmatch(text):  # as systems export most of them: nothing else is asked of these
        year, month, day = text.split("-")
        return _of(int(year), int(month), int(day))
    if ":" in text:  # as systems export a day
        text = _TIME_OF_DAY.sub("", text)
    plain = _plain(text)
    if plain in PLACEHOLDERS or not plain:
        return None, Finding.NO_DATE
    if plain.endswith("生"):  # 一九六三年五月生
        plain = plain.removesuffix("生").removesuffix("出")
    if (match := _MONTH_TO_MONTH.fullmatch(plain)) and (read := _of_months(match, text)) is not None:
        return read
    if match := _NUMERIC.fullmatch(plain):
        year, month, day = match.groups()
        return _of(int(year), int(month), int(day or 0))
    if _DIGITS.fullmatch(plain):
        return _of(int(plain[:4]), int(plain[4:6] or 0), int(plain[6:8] or 0))
    if match := _YEAR.fullmatch(plain):
        return _of(int(match[1]), 0, 0)
    if match := _YEARS.fullmatch(plain):
        first, last = int(match[1]), int(match[2])
        if _EARLIEST <= first <= last <= _LATEST:
            return DateSpan.of_years(first, last), None
        return None, Finding.IMPOSSIBLE_DATE
    if match := _HAN.fullmatch(_LUNAR_FIRST.sub(r"\2\1", plain, count=1)):
        return _of_han(match)
    if _SERIAL.fullmatch(plain) and _is_serial(int(plain), day_zero):
        return _of_number(int(plain), day_zero)
    if _SHORT_YEAR.fullmatch(plain) or _DAY_FIRST_YEAR.fullmatch(plain) or _SEXAGENARY.fullmatch(plain):
        return None, Finding.AMBIGUOUS_DATE
    if not _SAYS_TIME.search(plain) or re.search(
        r"[字号第]|\d{9,}", plain.replace("日", "号") if "第" in plain else plain
    ):
        return None, Finding.SHIFTED
    if found := re.search(r"(1[89]\d{2}|20[0-3]\d)年", plain):
        return _of(int(found[1]), 0, 0)[0], Finding.IMPOSSIBLE_DATE
    return None, Finding.IMPOSSIBLE_DATE


@lru_cache(50_000)
def _read_ambiguous(text: str, hint: int) -> Read:
    """A short or sexagenary year, which only another year of the row can settle."""
    plain = _plain(text)
    if match := _SEXAGENARY.fullmatch(plain):
        _stem, _branch, leap, month_text, day_text = match.groups()
        cycle = _cycle_of(match)
        years = [year for year in range(hint - 1, hint + 2) if hint and (year - 4) % 60 == cycle]
        if not years:
            return None, Finding.AMBIGUOUS_DATE
        month = (_MONTHS.get(month_text) or _number(month_text)) if month_text else 0
        return _lunar(years[0], month, _number(day_text) if day_text else 0, leap=bool(leap))
    if match := _SHORT_YEAR.fullmatch(plain):
        short, month, day = int(match[1]), int(match[2]), int(match[3] or 0)
        years = [century + short for century in (1900, 2000) if hint and abs(century + short - hint) <= 1]
        if years:
            return _of(years[0], month, day)
    return None, Finding.AMBIGUOUS_DATE


class SettledYears:
    """The years that the rows of one table have said so far: they tell which 壬寅 is meant, when only one lies among them.

    Sexagenary years come round every sixty; a table that spans more than that, or has said too little, settles nothing.
    """

    __slots__ = ("_first", "_last", "_rows")

    def __init__(self) -> None:
        self._first, self._last, self._rows = 9999, 0, 0

    def add(self, year: int) -> None:
        """A year that a row gives beyond doubt."""
        self._rows += 1
        self._first = min(self._first, year)
        self._last = max(self._last, year)

    def add_days(self, days: Sequence[int]) -> None:
        """Days (yyyymmdd) whose years rows give beyond doubt, one each."""
        if days:
            self._rows += len(days)
            self._first = min(self._first, min(days) // 10000)
            self._last = max(self._last, max(days) // 10000)

    def settle(self, cell: object) -> DateSpan | None:
        """The span of a sexagenary date, None when the table does not settle it."""
        if not isinstance(cell, str) or self._rows < _ENOUGH_ROWS:
            return None
        match = _SEXAGENARY.fullmatch(cell.translate(_WIDE))
        if match is None:
            return None
        low, high = self._first - _BESIDE_YEARS, self._last + _BESIDE_YEARS
        years = [year for year in range(low, high + 1) if _cycle_of(match) == (year - 4) % 60]
        return _read_ambiguous(cell, years[0])[0] if len(years) == 1 else None


_ENOUGH_ROWS = 10
_BESIDE_YEARS = 3  # a table in the order of its events goes on beyond the years it has said


def _cycle_of(match: re.Match[str]) -> int:
    """Which of the sixty years a stem and a branch name; -1 for a pair that does not occur."""
    stem, branch = match[1], match[2]
    return next((n for n in range(60) if _STEMS[n % 10] == stem and _BRANCHES[n % 12] == branch), -1)


def _of(year: int, month: int, day: int) -> Read:
    """A solar date; 0 = not known. An impossible part leaves what is sure: the year."""
    if not _EARLIEST <= year <= _LATEST:
        return None, Finding.IMPOSSIBLE_DATE
    if not month:
        return DateSpan.of_year(year), None
    try:
        return (DateSpan.of_day(year, month, day) if day else DateSpan.of_month(year, month)), None
    except (ValueError, IndexError):
        return DateSpan.of_year(year), Finding.IMPOSSIBLE_DATE


def _of_months(match: re.Match[str], text: str) -> Read | None:
    """1985年6-7月, 1985.6至7: from one month to another. None for what is a day: 1985-6-7, and 1985.6-15 or 1985.6-3, which no two
    months are.
    """
    year, first, last = int(match[1]), int(match[3]), int(match[4])
    is_said = bool(match[5]) or not _TO.isdisjoint(text)
    if match[2] == "-" and not is_said:
        return None
    begin, end = _of(year, first, 0)[0], _of(year, last, 0)[0]
    if 1 <= first < last <= 12 and begin is not None and end is not None:
        return DateSpan(begin.first, end.last), None
    return (_of(year, 0, 0)[0], Finding.IMPOSSIBLE_DATE) if is_said else None


def _is_serial(number: int, day_zero: date) -> bool:
    """Whether a plain number may be a spreadsheet's day: 00000 and 01234 are none."""
    return _FIRST_SERIAL <= number + (day_zero - DAY_ZERO).days <= _LAST_SERIAL


def _of_number(number: int, day_zero: date) -> Read:
    """The day a spreadsheet means by a plain number."""
    day = day_zero + timedelta(days=number)
    return _of(day.year, day.month, day.day)


def _number(text: str) -> int:
    """二十五 → 25, 一九五〇 → 1950, 1950 → 1950."""
    if text.isdigit():
        return int(text)
    if any(char in _TENS for char in text):
        total = 0
        for place, char in enumerate(text):
            if char in _TENS:
                before = _NUMERALS.get(text[place - 1], 1) if place and text[place - 1] in _NUMERALS else 1
                total += _TENS[char] * before if char in "十拾" else _TENS[char]
            elif place + 1 == len(text) or text[place + 1] not in "十拾":
                total += _NUMERALS.get(char, 0)
        return total
    return int("".join(str(_NUMERALS[char]) if char in _NUMERALS else char for char in text))


def _of_han(match: re.Match[str]) -> Read:
    era, year_text, lunar, leap, month_text, initial, day_text = match.groups()
    year = _number(year_text)
    if era is not None and era.endswith("民国"):
        year += 1911
    elif year < 100:
        return None, Finding.AMBIGUOUS_DATE
    month = _MONTHS.get(month_text or "", 0) or (_number(month_text) if month_text else 0)
    day = _number(day_text) if day_text else 0
    if lunar or leap or initial or (month_text or "") in _MONTHS:  # nobody writes 初八 of a solar month
        return _lunar(year, month, day, leap=bool(leap))
    return _of(year, month, day)


def _lunar(year: int, month: int, day: int, *, leap: bool) -> Read:
    """A lunar date: the solar days it covers; the twelfth month mostly lies in the next solar year."""
    if not month:
        return _of(year, 0, 0)
    try:
        if day:
            first = last = LunarDate(year, month, day, 1 if leap else 0).to_solar_date()
        else:
            first = LunarDate(year, month, 1, 1 if leap else 0).to_solar_date()
            last = first + timedelta(days=28)  # a lunar month has 29 or 30 days
            with contextlib.suppress(ValueError):
                last = LunarDate(year, month, 30, 1 if leap else 0).to_solar_date()
    except (ValueError, KeyError, IndexError):
        return _of(year, 0, 0)[0], Finding.IMPOSSIBLE_DATE
    return DateSpan(_packed(first), _packed(last)), None


def _packed(day: date) -> int:
    return day.year * 10000 + day.month * 100 + day.day


def read_birth(cell: object, event: DateSpan | None, day_zero: date = DAY_ZERO) -> Read:
    """A birth cell that may hold an age at the event instead: an age, 虚岁 or not, gives the three years it can mean."""
    if isinstance(cell, int | float) and 0 < cell < 130:
        return _of_age(int(cell), event)
    if isinstance(cell, str) and not _WHOLE_DAY.fullmatch(cell):
        plain = _plain(cell)
        if (match := _AGE.fullmatch(plain)) and int(match[1]) < 130:
            return (None, None) if plain in {"0", "0.0"} else _of_age(int(match[1]), event)
        if plain.endswith("岁") and plain[:-1].strip("虚周"):
            try:
                return _of_age(_number(plain[:-1].strip("虚周")), event)
            except ValueError:
                return None, Finding.IMPOSSIBLE_DATE
    span, finding = read_date(cell, day_zero=day_zero)
    if (
        finding is Finding.AMBIGUOUS_DATE
        and isinstance(cell, str)
        and (short := _SHORT_YEAR.fullmatch(_plain(cell)))
    ):
        latest = event.last_year if event is not None else 0
        born = [century + int(short[1]) for century in (1900, 2000) if century + int(short[1]) <= latest]
        if len(born) == 1:  # nobody is born after the event
            span, finding = _of(born[0], int(short[2]), int(short[3] or 0))
    return span, None if finding is Finding.NO_DATE else finding


def _of_age(age: int, event: DateSpan | None) -> Read:
    if event is None:
        return None, None
    return DateSpan.of_years(event.first_year - age - 1, event.last_year - age + 1), None
