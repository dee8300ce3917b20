"""A day's inputs: archives, hours, people, shares and medians, measures and outages, and what the plan demands.

Everything can be set in the plan, where it stands with its source. The defaults are the domain's own estimates; none is
chosen for the sake of a result.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from datetime import date as civil
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from federation.service_hours import OFFICE_HOURS, CalendarError, ServiceHours, Span, day_start
from loadtest.plan import PLANS, PlanError

HOUR = 3600.0
LATEST_S = 12 * 24 * HOUR
"""No day is followed for longer: more than the longest public holiday after it."""

TARGETS = (
    "in_city_mean_s", "cross_city_mean_s", "cross_city_held_mean_s", "share_within_900_s", "model_difference",
)  # fmt: skip
"""What a plan may demand, or aim for: means at most, the share at least, the difference from the plain model at most.
`cross_city_held` are the cross-city cases that a holder had to answer: cases nobody holds are quick and count as
cross-city, so they must not hide the others.
"""

JIAXING = ("330400", "330402", "330411", "330421", "330424", "330481", "330482", "330483")
FAR_WINDOWS = ("310101", "320505", "330106", "330502")
"""Windows in Shanghai, Suzhou, Hangzhou and Huzhou: the eight archives of Jiaxing are one city, so a cross-city case of
theirs is one that somebody asks for in another.
"""


@dataclass(frozen=True, slots=True)
class Measures:
    """What archives do against waiting. Without `push` a reviewer looks at the list every `glance_s`; `auto_release`
    switches the release rule on, which then decides by its conditions.
    """

    push: bool = True
    noon_rota: bool = True
    deputy: bool = True
    auto_release: bool = True


STEPS: tuple[tuple[str, Measures], ...] = (
    ("只看列表 list only", Measures(push=False, noon_rota=False, deputy=False, auto_release=False)),
    ("＋推送 push", Measures(noon_rota=False, deputy=False, auto_release=False)),
    ("＋午间值班 noon rota", Measures(deputy=False, auto_release=False)),
    ("＋代理馆 deputy", Measures(auto_release=False)),
    ("＋自动放行 automatic release", Measures()),
)
"""Each measure added to those before it."""


@dataclass(frozen=True, slots=True)
class Outage:
    """An archive without a connection from `from_hour` for `minutes`; its desk works on, its messages wait."""

    archive: str
    from_hour: float
    minutes: float

    @property
    def from_s(self) -> float:
        return self.from_hour * HOUR

    @property
    def until_s(self) -> float:
        return self.from_s + self.minutes * 60


@dataclass(frozen=True)
class Scenario:
    """One day. Times in seconds unless the name says otherwise; shares from 0 to 1."""

    name: str
    date: str = "2026-03-02"
    """A working day of the calendar; what is not done by its evening waits for the next one."""
    archives: int = 8
    cities: int = 1
    loads: tuple[int, ...] = (12, 48)
    """Cases per archive and day; the day is run once for each."""
    cross_share: float = 0.3
    reviewers: int = 1
    deputies_per_city: int = 2
    seed: int = 1
    measures: Measures = Measures()
    hours: dict[str, Any] = field(default_factory=lambda: OFFICE_HOURS)
    after_close_s: float = 1800.0
    """How long after closing a reviewer stays with what came in before."""
    glance_s: float = 1200.0
    notice_s: float = 120.0
    """Mean time until a pushed reviewer turns to the desk (exponential)."""
    review_median_s: float = 180.0
    """Of the simple ones; the others take 5/3 and 4 times as long."""
    review_sigma: float = 0.6
    known_id_share: float = 0.45
    correct_name_share: float = 0.88
    release_sensitivity: int = 2
    """The highest sensitivity the archives allow their release rule."""
    several_share: float = 0.2125
    """Share of found cases in which a person must choose: 17 of the 80 that are found at all."""
    select_median_s: float = 48.0
    none_share: float = 0.20
    refuse_share: float = 0.03
    evidence_share: float = 0.08
    evidence_median_s: float = 600.0
    refer_share: float = 0.04
    issue_s: float = 5.0
    deliver_median_s: float = 60.0
    intake_s: float = 150.0
    """At the window before the case is accepted; shown beside the clock, which starts after it."""
    down_share: float = 0.0
    """Share of archives without a connection until six in the evening."""
    flapping_share: float = 0.0
    """Share of archives whose connection breaks again and again, for 30 s to 10 minutes."""
    outages: tuple[Outage, ...] = ()
    targets: dict[str, float] = field(default_factory=dict)
    """What must hold: it decides the exit status."""
    aims: dict[str, float] = field(default_factory=dict)
    """What we want to reach beyond it: said when missed."""

    # archives --------------------------------------------------------------------------------------------------

    @cached_property
    def codes(self) -> list[str]:
        """The archives: the eight of Jiaxing, or invented divisions spread over the cities."""
        if self.archives == len(JIAXING) and self.cities == 1:
            return list(JIAXING)
        return [f"{3301 + place % self.cities}{place // self.cities:02d}" for place in range(self.archives)]

    def city_of(self, code: str) -> str:
        return code[:4]

    @cached_property
    def deputies(self) -> dict[str, str]:
        """Holder -> the archive of its city that reviews for it; a city with one archive has none."""
        members: dict[str, list[str]] = {}
        for code in self.codes:
            members.setdefault(self.city_of(code), []).append(code)
        return {
            code: city[1] if code == city[0] else city[0]
            for city in members.values()
            if len(city) > 1
            for code in city
        }

    @cached_property
    def all_outages(self) -> tuple[Outage, ...]:
        """Those of the plan and those drawn for its shares, by archive and time."""
        random = Random(f"outages {self.seed}")
        drawn = list(self.outages)
        mixed = random.sample(self.codes, len(self.codes))
        down = round(self.down_share * len(mixed))
        flapping = round(self.flapping_share * len(mixed))
        drawn += [Outage(code, 0.0, 18 * 60) for code in mixed[:down]]
        for code in mixed[down : down + flapping]:
            hour = 8.0 + random.random()
            while hour < 18.0:
                minutes = 0.5 * 20 ** random.random()  # 30 s to 10 minutes
                drawn.append(Outage(code, hour, minutes))
                hour += minutes / 60 + random.uniform(0.2, 1.0)
        return tuple(sorted(drawn, key=lambda one: (one.archive, one.from_hour)))

    def back_s(self, archive: str, now_s: float) -> float:
        """When the archive is connected next: now, or the end of the outage it is in."""
        for one in self._outages_of.get(archive, ()):
            if one.from_s <= now_s < one.until_s:
                now_s = one.until_s
        return now_s

    @cached_property
    def _outages_of(self) -> dict[str, list[Outage]]:
        by_archive: dict[str, list[Outage]] = {}
        for one in self.all_outages:
            by_archive.setdefault(one.archive, []).append(one)
        return by_archive

    # hours -----------------------------------------------------------------------------------------------------

    @cached_property
    def midnight_ms(self) -> int:
        """UTC milliseconds of the day's first moment; noon in UTC is that day in China."""
        days = civil.fromisoformat(self.date).toordinal() - civil(1970, 1, 1).toordinal()
        return day_start(days * 86_400_000)

    @cached_property
    def service_hours(self) -> ServiceHours:
        """What the archives announce."""
        return ServiceHours.from_dict(self.hours)

    def next_duty_s(self, now_s: float, *, noon: bool | None = None) -> float:
        """Seconds from `now_s` (since the day's midnight) until somebody is at the desk; 0 = now."""
        duty = self._with_noon if (self.measures.noon_rota if noon is None else noon) else self._without_noon
        now_ms = self.midnight_ms + round(now_s * 1000)
        return (duty.next_open(now_ms) - now_ms) / 1000

    @cached_property
    def _with_noon(self) -> ServiceHours:
        return self._duty(noon=True)

    @cached_property
    def _without_noon(self) -> ServiceHours:
        return self._duty(noon=False)

    def _duty(self, *, noon: bool) -> ServiceHours:
        """The announced hours, a while longer in the evening, and with a rota through noon."""

        def longer(spans: tuple[Span, ...]) -> tuple[Span, ...]:
            if not spans:
                return ()
            last = min(1440, spans[-1][1] + round(self.after_close_s / 60))
            return ((spans[0][0], last),) if noon else (*spans[:-1], (spans[-1][0], last))

        hours = self.service_hours
        return ServiceHours(
            tuple(longer(spans) for spans in hours.weekly),
            {day: longer(spans) for day, spans in hours.days.items()},
            hours.closures,
        )


# plans ---------------------------------------------------------------------------------------------------------


def _path(name: str) -> Path:
    return Path(name) if name.endswith(".toml") else PLANS / f"{name}.toml"


def is_day(name: str) -> bool:
    """Whether a plan describes a day in virtual time (`kind = "day"`)."""
    path = _path(name)
    return path.exists() and 'kind = "day"' in path.read_text("utf-8")


def load(name: str) -> Scenario:
    """A day's plan; PlanError names the key that is wrong."""
    path = _path(name)
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"{path.name}: {error}") from error
    return parse(path.stem, table)


def parse(name: str, table: dict[str, Any]) -> Scenario:
    """Validate a plan's table."""
    table = {key: value for key, value in table.items() if key != "kind"}
    known = {one.name for one in fields(Scenario)} - {"name"}
    if unknown := table.keys() - known:
        raise PlanError(f"unknown key: {', '.join(sorted(unknown))}")
    try:
        if "measures" in table:
            table["measures"] = Measures(**table["measures"])
        table["outages"] = tuple(Outage(**row) for row in table.get("outages", ()))
        table["loads"] = tuple(table.get("loads", (12, 48)))
        scenario = Scenario(name=name, **table)
        _check(scenario)
    except (TypeError, ValueError, CalendarError) as error:
        raise PlanError(str(error)) from error
    return scenario


def _check(scenario: Scenario) -> None:
    for one in fields(Scenario):
        value = getattr(scenario, one.name)
        if one.name.endswith("_share") and not 0 <= value <= 1:
            raise PlanError(f"{one.name} must be from 0 to 1")
        if one.name.endswith(("_s", "_sigma")) and not 0 < value < 24 * HOUR:
            raise PlanError(f"{one.name} must be above 0 and less than a day")
    if not 1 <= scenario.archives <= 1000 or not 1 <= scenario.cities <= 99:
        raise PlanError("archives must be from 1 to 1000, cities from 1 to 99")
    if not scenario.loads or not all(1 <= load <= 1000 for load in scenario.loads):
        raise PlanError("loads must be from 1 to 1000")
    if not 1 <= scenario.reviewers <= 100 or not 0 <= scenario.deputies_per_city <= 100:
        raise PlanError("reviewers must be from 1 to 100, deputies_per_city from 0 to 100")
    if unknown := (scenario.targets.keys() | scenario.aims.keys()) - set(TARGETS):
        raise PlanError(f"targets and aims may hold: {', '.join(TARGETS)}; not {', '.join(sorted(unknown))}")
    if unknown := {one.archive for one in scenario.outages} - set(scenario.codes):
        raise PlanError(f"no such archive: {', '.join(sorted(unknown))}")
    if not scenario.service_hours.is_open(scenario.midnight_ms + 10 * 3_600_000):
        raise PlanError(f"{scenario.date} is no working day of the hours")
