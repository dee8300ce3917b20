"""Calendars as others announce them: what was read can be written and reckoned with, anything else is named."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from federation.service_hours import CalendarError, NeverOpensError, ServiceHours

ODD: tuple[Any, ...] = (
    None, 0, -1, 10**30, 1.5, "", "x", [], {}, [[]], True, ["x"], [None], [[1, 2]], {"mon": None}, {"mon": [None]},
    {"mon": ["99:99-1:1"]}, {"mon": ["08:30-24:00"]}, {"x": 1}, [2026, 2026], [{}], {"9999-12-31": "fri"},
    {"0001-01-01": ["08:30-11:30"]}, [["0001-01-01T00:00", "9999-12-31T23:59"]],
    [["0001-01-01T00:00+14:00", "2026-01-01T00:00"]], [["2026-01-01T00:00", "9999-12-31T23:59-14:00"]],
    [["2026-01-01T00:00", "9999-12-31T23:59:59.999999"]],
)  # fmt: skip


@pytest.mark.parametrize("key", ["zone", "weekly", "days", "closures", "public_holidays", "swapped_like"])
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_calendar_is_refused_by_name_or_good_for_everything(key, value):
    try:
        hours = ServiceHours.from_dict({"weekly": {"mon": ["08:30-11:30"]}, key: value})
    except CalendarError:
        return
    assert ServiceHours.from_dict(hours.to_dict()) == hours
    assert hours.service_seconds(0, 10**12) >= 0
    with contextlib.suppress(NeverOpensError):
        assert hours.add_service(10**12, 60) >= 10**12


@pytest.mark.parametrize("begins", ["0001-01-01T00:00", "0001-01-01T00:00+14:00"])
def test_a_closure_from_before_the_calendar_of_shanghai_is_refused(begins):
    """Written again it would be of the year 0: a gateway could not keep what it was told."""
    with pytest.raises(CalendarError):
        ServiceHours.from_dict({"closures": [[begins, "2026-01-01T00:00"]]})
