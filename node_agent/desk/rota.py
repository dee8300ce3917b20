"""Who is on duty: shifts by weekday or date, noon included, in the order first reviewer, second, duty lead.

A shift written for a date replaces that date's weekday shifts: holidays and swapped working days (调休) are such dates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from federation.service_hours import (
    WEEKDAYS,
    CalendarError,
    Span,
    local_date,
    local_minute,
    read_span,
)
from node_agent.desk.users import is_name

LEVELS = ("first", "second", "lead")
"""Who is told at each rung of the escalation."""
MOST_SHIFTS = 400


class RotaError(ValueError):
    """The rota can not be used; the text says why, in both languages."""


@dataclass(frozen=True, slots=True)
class Shift:
    """`days` are weekdays or dates; the names of each level are users of the desk."""

    days: frozenset[str]
    span: Span
    names: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Rota:
    """`channels` maps a user to the webhook of the archive's messenger; `webhook` serves whoever has none."""

    shifts: tuple[Shift, ...] = ()
    webhook: str = ""
    channels: Mapping[str, str] = field(default_factory=dict)

    def on_duty(self, at: int, rung: int = 0) -> tuple[str, ...]:
        """Names to tell at `at` (UTC ms) on a rung: of that level, else of the next above, else of the next below."""
        shifts = self._shifts(local_date(at), local_minute(at))
        own = min(rung, len(LEVELS) - 1)
        for level in (*LEVELS[own:], *reversed(LEVELS[:own])):
            names = [name for shift in shifts for name in shift.names.get(level, ())]
            if names:
                return tuple(dict.fromkeys(names))
        return ()

    def addresses(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Webhooks to call for these people, each once; the archive's own when nobody is on duty."""
        found = [self.channels.get(name) or self.webhook for name in names] or [self.webhook]
        return tuple(dict.fromkeys(address for address in found if address))

    def _shifts(self, day: date, minute: int) -> list[Shift]:
        dated = [shift for shift in self.shifts if day.isoformat() in shift.days]
        weekly = [shift for shift in self.shifts if WEEKDAYS[day.weekday()] in shift.days]
        return [shift for shift in dated or weekly if shift.span[0] <= minute < shift.span[1]]

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Rota:
        """Read settings: {"webhook": url, "channels": {name: url}, "shifts": [{"days": ["mon", "2026-02-14"],
        "span": "08:30-13:30", "first": [name], "second": [name], "lead": [name]}]}; RotaError says what is wrong.
        """
        if unknown := sorted(map(str, set(written) - {"webhook", "channels", "shifts"})):
            raise RotaError(f"值班表中有不认识的键 · unknown keys of the rota: {', '.join(unknown)}")
        shifts = written.get("shifts", ())
        channels = written.get("channels", {})
        if (
            not isinstance(shifts, (list, tuple))
            or not isinstance(channels, Mapping)
            or len(shifts) > MOST_SHIFTS
        ):
            raise RotaError("值班表写法不对 · the rota is not written as it should be")
        webhook = _address(written.get("webhook", ""))
        if not all(is_name(str(name)) for name in channels):
            raise RotaError(_NO_NAME.format(zh="channels", en="channels"))
        return cls(
            tuple(_shift(number, one) for number, one in enumerate(shifts, 1)),
            webhook,
            {str(name): _address(url) for name, url in channels.items()},
        )


_NO_NAME = (
    "{zh} 中有一个名字不能是用户名：可用文字、数字和 _ . - ·，不含空格，最多 40 字"
    " · {en}: one of the names can be no user's: letters, digits and _ . - ·, no space, 40 at most"
)


def _shift(number: int, written: Any) -> Shift:
    if not isinstance(written, Mapping):
        raise RotaError("班次应为表 · a shift is a table")
    if unknown := sorted(map(str, set(written) - {"days", "span", *LEVELS})):
        raise RotaError(f"班次中有不认识的键 · unknown keys of a shift: {', '.join(unknown)}")
    try:
        span = read_span(written.get("span"))
    except CalendarError as error:
        raise RotaError(str(error)) from error
    if not 0 <= span[0] < span[1] <= 1440:
        raise RotaError("班次起止颠倒或超出一天 · a shift lies inside one day")
    days = _words(written.get("days", ()))
    for day in days:
        if day not in WEEKDAYS and not _is_date(day):
            raise RotaError(
                f"班次的日子应为 {'、'.join(WEEKDAYS)} 或日期 · days of a shift are weekdays or dates"
            )
    names = {level: _words(written.get(level, ())) for level in LEVELS}
    for level, said in names.items():
        if not all(map(is_name, said)):
            raise RotaError(
                _NO_NAME.format(zh=f"第 {number} 个班次的 {level}", en=f"{level} of shift {number}")
            )
    return Shift(frozenset(days), span, names)


def _words(written: Any) -> tuple[str, ...]:
    if not isinstance(written, (list, tuple)) or not all(isinstance(one, str) for one in written):
        raise RotaError("此处应为文字列表 · a list of words is wanted here")
    return tuple(written)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _address(url: Any) -> str:
    if not isinstance(url, str) or (url and not url.startswith(("http://", "https://"))):
        raise RotaError("通知地址应以 http:// 或 https:// 开头 · a webhook begins with http:// or https://")
    return url
