"""When an archive serves: weekly spans with lunch as a gap, public holidays, swapped working days (调休), closures.

Both sides read it alike: the archive announces it, the gateway counts service time and promises minutes by it. Times are
milliseconds of UTC; local time is UTC+8 all year, which holds for the whole of China since summer time ended in 1991.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any

ZONE = "Asia/Shanghai"
_OFFSET_MS = 8 * 3_600_000
_SHANGHAI = timezone(timedelta(hours=8))
_DAY_MS, _MINUTE_MS = 86_400_000, 60_000
_EPOCH = date(1970, 1, 1).toordinal()
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONGEST_SEARCH_DAYS = 400
"""How far ahead an opening or closing is looked for: more than the longest closure anybody announces."""
MOST_DAYS, MOST_CLOSURES, MOST_SPANS = 1_000, 200, 12

Span = tuple[int, int]
"""Minutes since midnight, from (included) to (excluded); 1440 is the end of the day."""

_SPAN = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")


class CalendarError(ValueError):
    """The calendar can not be used; the text says why, in both languages."""


class NeverOpensError(CalendarError):
    """Nothing opens within the days looked at."""


PUBLIC_HOLIDAYS: dict[int, tuple[tuple[tuple[str, str], ...], tuple[str, ...]]] = {
    2026: (
        (
            ("2026-01-01", "2026-01-03"),
            ("2026-02-15", "2026-02-23"),
            ("2026-04-04", "2026-04-06"),
            ("2026-05-01", "2026-05-05"),
            ("2026-06-19", "2026-06-21"),
            ("2026-09-25", "2026-09-27"),
            ("2026-10-01", "2026-10-07"),
        ),
        ("2026-01-04", "2026-02-14", "2026-02-28", "2026-05-09", "2026-09-20", "2026-10-10"),
    ),
}
"""Year -> (closed from and to, working days swapped in). Notice of the General Office of the State Council on holidays in
2026, 4 November 2025. A year that is not here is for the archive's own settings: each is announced the autumn before.
"""


@dataclass(frozen=True, slots=True)
class ServiceHours:
    """`weekly` has seven entries from Monday; `days` replaces the spans of one date; `closures` are (from, to) in UTC ms."""

    weekly: tuple[tuple[Span, ...], ...]
    days: Mapping[date, tuple[Span, ...]] = field(default_factory=dict)
    closures: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if len(self.weekly) != 7:
            raise CalendarError("每周应有七天 · a week has seven days")
        if len(self.days) > MOST_DAYS or len(self.closures) > MOST_CLOSURES:
            raise CalendarError("特殊日期过多 · too many special days")
        for spans in (*self.weekly, *self.days.values()):
            ends = 0
            for first, last in spans:
                if not ends <= first < last <= 1440 or len(spans) > MOST_SPANS:
                    raise CalendarError(
                        "开放时段须在一天之内、先后相接不重叠 · spans must follow each other in one day"
                    )
                ends = last
        for begins, finishes in self.closures:
            if begins >= finishes:
                raise CalendarError("闭馆起止颠倒 · a closure ends before it begins")

    # asking ------------------------------------------------------------------------------------------------------

    def is_open(self, at: int) -> bool:
        return any(begins <= at < ends for begins, ends in self._open_spans(_day_of(at), 1))

    def next_open(self, at: int) -> int:
        """The first open moment at or after `at`; NeverOpensError when none comes."""
        for begins, ends in self._open_spans(_day_of(at), LONGEST_SEARCH_DAYS):
            if ends > at:
                return max(begins, at)
        raise NeverOpensError(
            f"{LONGEST_SEARCH_DAYS} 天内没有开放时段 · never open within {LONGEST_SEARCH_DAYS} days"
        )

    def service_seconds(self, start: int, end: int) -> float:
        """Seconds of service between two moments; 0 when `end` is not after `start`."""
        if end <= start:
            return 0.0
        first = _day_of(start)
        spans = self._open_spans(first, _day_of(end) - first + 1)
        return sum(max(0, min(ends, end) - max(begins, start)) for begins, ends in spans) / 1000

    def add_service(self, start: int, seconds: float) -> int:
        """The earliest moment by which `seconds` of service have passed since `start`; NeverOpensError when they never will."""
        left = round(seconds * 1000)
        if left <= 0:
            return start
        day = _day_of(start)
        while True:
            found = False
            for begins, ends in self._open_spans(day, LONGEST_SEARCH_DAYS):
                length = ends - max(begins, start)
                if length <= 0:
                    continue
                if length >= left:
                    return max(begins, start) + left
                left -= length
                found = True
            if not found:
                raise NeverOpensError(
                    f"{LONGEST_SEARCH_DAYS} 天内没有开放时段 · never open within {LONGEST_SEARCH_DAYS} days"
                )
            day += LONGEST_SEARCH_DAYS

    def _open_spans(self, first_day: int, count: int) -> Iterator[Span]:
        """Open spans in UTC ms, in order, of `count` local days (days since 1970); closures are cut out."""
        for day in range(first_day, first_day + count):
            civil = _date_of(day)
            midnight = _start_of(day)
            for first, last in self.days.get(civil, self.weekly[civil.weekday()]):
                yield from self._cut(midnight + first * _MINUTE_MS, midnight + last * _MINUTE_MS)

    def _cut(self, begins: int, ends: int) -> Iterator[Span]:
        if not self.closures:
            yield begins, ends
            return
        for closed, reopens in sorted(self.closures):
            if closed >= ends:
                break
            if reopens <= begins:
                continue
            if closed > begins:
                yield begins, closed
            begins = max(begins, reopens)
            if begins >= ends:
                return
        if begins < ends:
            yield begins, ends

    # written -----------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form that `from_dict` reads back as an equal calendar."""
        return {
            "zone": ZONE,
            "weekly": {
                name: [_written(span) for span in spans]
                for name, spans in zip(WEEKDAYS, self.weekly, strict=True)
                if spans
            },
            "days": {
                day.isoformat(): [_written(span) for span in spans]
                for day, spans in sorted(self.days.items())
            },
            "closures": [[_moment(begins), _moment(ends)] for begins, ends in self.closures],
        }

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> ServiceHours:
        """Read the announced or configured form; CalendarError says what is wrong.

        Keys: zone; weekly {"mon": ["08:30-11:30", …]}; days {"2026-02-14": [spans] or the weekday whose hours it has};
        closures [["2026-03-01T18:00", "2026-03-02T08:00"]]; public_holidays [2026]: years of `PUBLIC_HOLIDAYS`, whose
        swapped working days have the hours of `swapped_like` (a weekday, Friday unless told).
        """
        known = {"zone", "weekly", "days", "closures", "public_holidays", "swapped_like"}
        if unknown := sorted(map(str, set(written) - known)):
            raise CalendarError(f"不认识的键 · unknown keys: {', '.join(unknown)}")
        if written.get("zone", ZONE) != ZONE:
            raise CalendarError(f"时区只能是 {ZONE} · the zone must be {ZONE}")
        by_name = _mapping(written.get("weekly", {}), "weekly")
        if unknown := sorted(set(by_name) - set(WEEKDAYS)):
            raise CalendarError(f"不认识的星期 · unknown weekdays: {', '.join(unknown)}")
        weekly = tuple(_spans(by_name.get(name, ())) for name in WEEKDAYS)
        like = _weekday(written.get("swapped_like", "fri"))
        days: dict[date, tuple[Span, ...]] = {}
        for year in _items(written.get("public_holidays", ()), "public_holidays"):
            days |= _public(year, weekly[like])
        for day, spans in _mapping(written.get("days", {}), "days").items():
            days[_date(day)] = weekly[_weekday(spans)] if isinstance(spans, str) else _spans(spans)
        closures = []
        for pair in _items(written.get("closures", ()), "closures"):
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise CalendarError("闭馆应写成 [起, 止] · a closure is [from, to]")
            closures.append((_from_moment(pair[0]), _from_moment(pair[1])))
        return cls(weekly, days, tuple(closures))


OFFICE_HOURS: dict[str, Any] = {
    "weekly": {name: ["08:30-11:30", "13:30-17:00"] for name in WEEKDAYS[:5]},
    "public_holidays": [2026],
}
"""Usual hours of a county archive, in the form of `from_dict`."""


def local_date(at: int) -> date:
    """The day in Shanghai at a UTC moment."""
    return _date_of(_day_of(at))


def local_minute(at: int) -> int:
    """Minutes since midnight in Shanghai at a UTC moment."""
    return (at + _OFFSET_MS) % _DAY_MS // _MINUTE_MS


def day_start(at: int) -> int:
    """The UTC moment at which the Shanghai day of `at` began."""
    return _start_of(_day_of(at))


def read_span(text: Any) -> Span:
    """Minutes since midnight of a span written 08:30-11:30."""
    found = _SPAN.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise CalendarError("时段应写成 08:30-11:30 · a span is written 08:30-11:30")
    hour, minute, last_hour, last_minute = map(int, found.groups())
    if minute > 59 or last_minute > 59:
        raise CalendarError("时段中的分钟不存在 · there is no such minute")
    return hour * 60 + minute, last_hour * 60 + last_minute


def _day_of(at: int) -> int:
    return (at + _OFFSET_MS) // _DAY_MS


def _start_of(day: int) -> int:
    return day * _DAY_MS - _OFFSET_MS


def _date_of(day: int) -> date:
    try:
        return date.fromordinal(day + _EPOCH)
    except (ValueError, OverflowError) as error:
        raise CalendarError("时间超出日历范围 · the moment is outside the calendar") from error


def _public(year: Any, spans: tuple[Span, ...]) -> dict[date, tuple[Span, ...]]:
    if not isinstance(year, int) or year not in PUBLIC_HOLIDAYS:
        raise CalendarError(
            f"没有 {year} 年的节假日表，请在 days 中逐日写明 · no table of that year's holidays; write them under days"
        )
    off, swapped = PUBLIC_HOLIDAYS[year]
    closed: dict[date, tuple[Span, ...]] = {}
    for first, last in off:
        day = date.fromisoformat(first)
        while day <= date.fromisoformat(last):
            closed[day] = ()
            day += timedelta(days=1)
    return closed | {date.fromisoformat(day): spans for day in swapped}


def _mapping(written: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(written, Mapping):
        raise CalendarError(f"{key} 应为表 · {key} is a table")
    return written


def _items(written: Any, key: str) -> Iterable[Any]:
    if not isinstance(written, (list, tuple)):
        raise CalendarError(f"{key} 应为列表 · {key} is a list")
    return written


def _spans(written: Any) -> tuple[Span, ...]:
    return tuple(read_span(one) for one in _items(written, "spans"))


def _weekday(name: Any) -> int:
    if name not in WEEKDAYS:
        raise CalendarError(f"星期应为 {'、'.join(WEEKDAYS)} 之一 · a weekday is one of them")
    return WEEKDAYS.index(name)


def _date(text: Any) -> date:
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise CalendarError("日期应写成 2026-02-14 · a date is written 2026-02-14") from error


def _written(span: Span) -> str:
    return "-".join(f"{minute // 60:02d}:{minute % 60:02d}" for minute in span)


def _moment(at: int) -> str:
    timespec = "minutes" if at % _MINUTE_MS == 0 else "milliseconds"
    return datetime.fromtimestamp(at / 1000, _SHANGHAI).replace(tzinfo=None).isoformat(timespec=timespec)


def _from_moment(text: Any) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise CalendarError("时刻应写成 2026-03-01T18:00 · a moment is written 2026-03-01T18:00") from error
    local = moment if moment.tzinfo else moment.replace(tzinfo=_SHANGHAI)
    at = round(local.timestamp() * 1000)
    try:
        _moment(at)
    except (ValueError, OverflowError) as error:  # at either end of the calendar, outside it in another zone
        raise CalendarError("时刻超出日历范围 · the moment is outside the calendar") from error
    return at
