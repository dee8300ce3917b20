"""Dates as closed spans of days: what is known, and never a made-up day.

A record may say 1963, 1963-05 or 1963-05-02; a question may say 1985 to 1990. Each is a `DateSpan`.
How an archive's catalogue writes dates (民國, lunar, Chinese numerals) is the node agent's business.
"""

from __future__ import annotations

import calendar
import re
from datetime import date

import msgspec

from federation.reasons import Reason, Refusal

FIRST_YEAR = 1600
LAST_YEAR = 2111  # 9 bits above FIRST_YEAR: the index packs the year into them

NOTATION = "YYYY, YYYY-MM, YYYY-MM-DD"
_WRITTEN = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?", re.ASCII)


class DateSpan(msgspec.Struct, frozen=True, gc=False):
    """All days from `first` to `last`, both included, each as yyyymmdd."""

    first: int
    last: int

    @property
    def first_year(self) -> int:
        return self.first // 10000

    @property
    def last_year(self) -> int:
        return self.last // 10000

    @property
    def is_day(self) -> bool:
        return self.first == self.last

    @classmethod
    def of_day(cls, year: int, month: int, day: int) -> DateSpan:
        """One day; ValueError when the calendar has no such day or the year is out of range."""
        date(year, month, day)
        _require_year(year)
        packed = year * 10000 + month * 100 + day
        return cls(packed, packed)

    @classmethod
    def of_month(cls, year: int, month: int) -> DateSpan:
        _require_year(year)
        last = calendar.monthrange(year, month)[1]
        return cls(year * 10000 + month * 100 + 1, year * 10000 + month * 100 + last)

    @classmethod
    def of_year(cls, year: int) -> DateSpan:
        _require_year(year)
        return cls(year * 10000 + 101, year * 10000 + 1231)

    @classmethod
    def of_years(cls, first: int, last: int) -> DateSpan:
        return cls(cls.of_year(first).first, cls.of_year(last).last)

    @classmethod
    def written(cls, text: str, pointer: str = "") -> DateSpan:
        """Read `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, the notation of the API; Refusal(IMPOSSIBLE_DATE) otherwise."""
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise Refusal(Reason.IMPOSSIBLE_DATE, pointer, allowed=NOTATION)
        year, month, day = match.groups()
        try:
            if day is not None:
                return cls.of_day(int(year), int(month), int(day))
            if month is not None:
                return cls.of_month(int(year), int(month))
            return cls.of_year(int(year))
        except ValueError as error:
            raise Refusal(Reason.IMPOSSIBLE_DATE, pointer, allowed=NOTATION) from error


def _require_year(year: int) -> None:
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise ValueError("year out of range")
