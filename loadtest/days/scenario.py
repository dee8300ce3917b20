"""A day's inputs: who asks when, who holds the record, how long each person's part takes. Drawn once from a seed, used by
the engine and by the plain model alike, so that a difference between them is a difference of rules, never of luck.

Shares and medians are estimates of the domain (arrival by hour, 65/25/10 review mix, 3 % refused, 8 % asked for more,
4 % referred); all can be set in the plan.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from random import Random
from typing import Any

from loadtest.plan import PLANS, PlanError

HOUR = 3600.0
ARRIVALS = (
    (8.5, 9.5, 0.19), (9.5, 10.5, 0.24), (10.5, 11.5, 0.15), (11.5, 12.0, 0.05), (12.0, 13.5, 0.03),
    (13.5, 14.5, 0.14), (14.5, 15.5, 0.12), (15.5, 16.5, 0.07), (16.5, 17.0, 0.01),
)  # fmt: skip
"""(from hour, to hour, share of the day's cases)."""

REVIEW_MIX = ((0.65, 1.0), (0.25, 5 / 3), (0.10, 4.0))
"""(share, factor on the median): simple, middling, undigitised or kinship: 3, 5 and 12 minutes at a median of 3."""

TARGETS = ("in_city_mean_s", "cross_city_mean_s", "share_within_900_s", "model_difference")
"""What a plan may demand: means at most, the share at least, the difference from the plain model at most."""

JIAXING = ("330400", "330402", "330411", "330421", "330424", "330481", "330482", "330483")


@dataclass(frozen=True, slots=True)
class Measures:
    """What an archive does against waiting. Without `push` a reviewer looks at the list every `glance_s`."""

    push: bool = True
    noon_rota: bool = True
    deputy: bool = True
    auto_release: float = 0.5


STEPS: tuple[tuple[str, Measures], ...] = (
    ("只看列表 list only", Measures(push=False, noon_rota=False, deputy=False, auto_release=0.0)),
    ("＋推送 push", Measures(noon_rota=False, deputy=False, auto_release=0.0)),
    ("＋午间值班 noon rota", Measures(deputy=False, auto_release=0.0)),
    ("＋代理馆 deputy", Measures(auto_release=0.0)),
    ("＋自动放行 auto release", Measures()),
)
"""Each measure added to those before it."""


@dataclass(frozen=True, slots=True)
class Outage:
    """An archive without a connection from `from_hour` for `minutes`; its desk works on, its messages wait."""

    archive: str
    from_hour: float
    minutes: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """One day. Times in seconds unless the name says otherwise; shares from 0 to 1."""

    name: str
    archives: int = 8
    cities: int = 1
    loads: tuple[int, ...] = (12, 48)
    """Cases per archive and day; the day is run once for each."""
    cross_share: float = 0.3
    reviewers: int = 1
    deputies_per_city: int = 2
    seed: int = 1
    measures: Measures = Measures()
    duty: tuple[tuple[float, float], ...] = ((8.5, 11.5), (13.5, 17.5))
    noon: tuple[float, float] = (11.5, 13.5)
    glance_s: float = 1200.0
    notice_s: float = 120.0
    """Mean time until a pushed reviewer turns to the desk (exponential)."""
    review_median_s: float = 180.0
    review_sigma: float = 0.6
    select_share: float = 0.23
    """Share of located cases in which a person must choose: 17 of the 75 that are found at all."""
    select_median_s: float = 30.0
    none_share: float = 0.20
    refuse_share: float = 0.03
    evidence_share: float = 0.08
    evidence_median_s: float = 600.0
    refer_share: float = 0.04
    deliver_s: float = 45.0
    intake_s: float = 150.0
    """At the window before the case is accepted; shown beside the clock, which starts after it."""
    outages: tuple[Outage, ...] = ()
    targets: dict[str, float] = field(default_factory=dict)

    @property
    def codes(self) -> list[str]:
        """The archives: the eight of Jiaxing, or invented divisions spread over the cities."""
        if self.archives == len(JIAXING) and self.cities == 1:
            return list(JIAXING)
        return [f"{3301 + place % self.cities}{place // self.cities:02d}" for place in range(self.archives)]

    def city_of(self, code: str) -> str:
        return code[:4]

    def deputies(self) -> dict[str, str]:
        """Holder -> the archive of its city that reviews for it; a city with one archive has none."""
        first: dict[str, str] = {}
        second: dict[str, str] = {}
        for code in self.codes:
            city = self.city_of(code)
            if city not in first:
                first[city] = code
            else:
                second.setdefault(city, code)
        return {
            code: deputy
            for code in self.codes
            if (deputy := first[self.city_of(code)] if first[self.city_of(code)] != code
                else second.get(self.city_of(code), ""))
        }  # fmt: skip

    def on_duty(self, hour: float) -> bool:
        spans = [*self.duty, self.noon] if self.measures.noon_rota else list(self.duty)
        return any(first <= hour < last for first, last in spans)

    def next_duty_s(self, now_s: float) -> float:
        """Seconds from `now_s` (of day zero's midnight) until a reviewer is on duty; every day is a working day."""
        spans = sorted([*self.duty, self.noon] if self.measures.noon_rota else self.duty)
        day, within = divmod(now_s, 24 * HOUR)
        for first, last in spans:
            if within < last * HOUR:
                return max(0.0, first * HOUR - within)
        return (day + 1) * 24 * HOUR + spans[0][0] * HOUR - now_s


@dataclass(frozen=True, slots=True)
class Drawn:
    """One case's luck. `arrives_s` from midnight; durations in seconds; `held` False = no archive has it."""

    number: int
    arrives_s: float
    holder: str
    window: str
    held: bool
    locate_s: float
    select_s: float
    notice_s: float
    deputy_notice_s: float
    review_s: float
    is_auto: bool
    end: str
    """approved, refused, evidence (then approved) or referred (then approved by `other`)."""
    evidence_s: float
    other: str
    deliver_s: float


def draw(scenario: Scenario, load: int) -> list[Drawn]:
    """A day with `load` cases per archive, in order of arrival."""
    random = Random(scenario.seed)
    codes = scenario.codes
    weights = [share for _first, _last, share in ARRIVALS]
    drawn = []
    for holder in codes:
        for _ in range(load):
            first, last, _share = random.choices(ARRIVALS, weights)[0]
            city = scenario.city_of(holder)
            is_cross = random.random() < scenario.cross_share
            far = [code for code in codes if scenario.city_of(code) != city] or ["310101"]
            near = [code for code in codes if scenario.city_of(code) == city]
            factor = random.choices([one[1] for one in REVIEW_MIX], [one[0] for one in REVIEW_MIX])[0]
            kind = random.random()
            refused, wanted = scenario.refuse_share, scenario.refuse_share + scenario.evidence_share
            end = (
                "refused" if kind < refused
                else "evidence" if kind < wanted
                else "referred" if kind < wanted + scenario.refer_share
                else "approved"
            )  # fmt: skip
            others = [code for code in near if code != holder] or [code for code in codes if code != holder]
            other = random.choice(others) if others else ""
            drawn.append(
                Drawn(
                    number=0,
                    arrives_s=random.uniform(first, last) * HOUR,
                    holder=holder,
                    window=random.choice(far if is_cross else near),
                    held=random.random() >= scenario.none_share,
                    locate_s=min(1.9, random.lognormvariate(math.log(0.12), 0.8)),
                    select_s=_lognormal(random, scenario.select_median_s, 0.5)
                    if random.random() < scenario.select_share
                    else 0.0,
                    notice_s=random.expovariate(1 / scenario.notice_s),
                    deputy_notice_s=random.expovariate(1 / scenario.notice_s),
                    review_s=_lognormal(random, scenario.review_median_s * factor, scenario.review_sigma),
                    is_auto=random.random() < scenario.measures.auto_release and end == "approved",
                    end=end if other or end != "referred" else "approved",
                    evidence_s=_lognormal(random, scenario.evidence_median_s, 0.8),
                    other=other,
                    deliver_s=_lognormal(random, scenario.deliver_s, 0.4),
                )
            )
    drawn.sort(key=lambda one: one.arrives_s)
    return [replace(one, number=number) for number, one in enumerate(drawn)]


def _lognormal(random: Random, median: float, sigma: float) -> float:
    return random.lognormvariate(math.log(median), sigma)


def is_day(name: str) -> bool:
    """Whether a plan describes a day in virtual time (`kind = "day"`)."""
    path = _path(name)
    return path.exists() and 'kind = "day"' in path.read_text("utf-8")


def _path(name: str) -> Path:
    return Path(name) if name.endswith(".toml") else PLANS / f"{name}.toml"


def load(name: str) -> Scenario:
    """A day's plan; PlanError names the key that is wrong."""
    path = _path(name)
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"{path.name}: {error}") from error
    table.pop("kind", None)
    known = {one.name for one in fields(Scenario)} - {"name"}
    if unknown := table.keys() - known:
        raise PlanError(f"unknown key: {', '.join(sorted(unknown))}")
    try:
        if "measures" in table:
            table["measures"] = Measures(**table["measures"])
        table["outages"] = tuple(Outage(**row) for row in table.get("outages", ()))
    except TypeError as error:
        raise PlanError(str(error)) from error
    for key in ("duty", "noon", "loads"):
        if key in table:
            table[key] = tuple(tuple(one) if isinstance(one, list) else one for one in table[key])
    scenario = Scenario(name=path.stem, **table)
    for one in fields(Scenario):
        value = getattr(scenario, one.name)
        if one.name.endswith("_share") and not 0 <= value <= 1:
            raise PlanError(f"{one.name} must be from 0 to 1")
        if one.name.endswith(("_s", "_sigma")) and value <= 0:
            raise PlanError(f"{one.name} must be above 0")
    if not 1 <= scenario.archives <= 1000 or not all(1 <= load <= 1000 for load in scenario.loads):
        raise PlanError("archives and loads must be from 1 to 1000")
    if unknown := scenario.targets.keys() - set(TARGETS):
        raise PlanError(f"targets must hold some of: {', '.join(TARGETS)}; not {', '.join(sorted(unknown))}")
    return scenario
