"""Each case's luck, drawn once from the plan's seed and used by the engine and by the plain model alike, so that a
difference between them is a difference of rules, never of luck.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from random import Random

from loadtest.days.scenario import FAR_WINDOWS, HOUR, Scenario

ARRIVALS = (
    (8.5, 9.5, 0.19), (9.5, 10.5, 0.24), (10.5, 11.5, 0.15), (11.5, 12.0, 0.05), (12.0, 13.5, 0.03),
    (13.5, 14.5, 0.14), (14.5, 15.5, 0.12), (15.5, 16.5, 0.07), (16.5, 17.0, 0.01),
)  # fmt: skip
"""(from hour, to hour, share of the day's cases); over noon only by telephone."""

CATEGORIES = (
    ("marriage", 38), ("divorce", 3), ("remarriage_cert", 3), ("student", 9), ("recruitment", 8), ("one_child", 7),
    ("rural_house", 3), ("urban_house", 3), ("demolition", 3), ("land_contract", 3), ("forest_tenure", 3),
    ("birth_cert", 4), ("zhiqing", 2), ("zhiqing_child", 2), ("demobilized", 3), ("hukou_move", 2), ("social_insur", 2),
    ("title_honor", 1), ("cremation", 1),
)  # fmt: skip
"""Per cent of cases; where the domain gives one share to several categories, it is divided evenly."""

RELATIONS = (("SELF", 78), ("KIN_DECEASED", 10), ("AGENT", 8), ("JUDICIAL", 4))
"""Per cent of applicants."""

REVIEW_MIX = ((0.65, 1.0), (0.25, 5 / 3))
"""(share, factor on the median) of simple and middling reviews; the rest are long."""

LONG_FACTOR, LONG_KIN_SHARE, LONG_OTHER_SHARE = 4.0, 0.5, 0.05 / 0.9
"""One review in ten is long: kinship must be proven or the record is not digitised. Taken as half each: half of the tenth
of cases that kin ask for, and one in eighteen of all others, whose record is the undigitised one.
"""

SCOPES = (("one", 0.60), ("city", 0.25), ("region", 0.10), ("all", 0.05))
"""How many archives a question asks: the holder alone, its city, up to 41, everyone."""

EARLY = 0.3
"""Share of a review after which a reviewer sees that evidence is missing or that another archive holds the record."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One case. `arrives_s` from midnight; durations in seconds, whole milliseconds, as a journal keeps them."""

    number: int
    arrives_s: float
    holder: str
    window: str
    scope: tuple[str, ...]
    held: bool
    """False = no archive has the record."""
    category: str
    relation: str
    is_id_exact: bool
    is_name_exact: bool
    is_digitised: bool
    is_single: bool
    """False = several candidates: somebody must choose."""
    locate_s: float
    select_s: float
    notice_s: float
    deputy_notice_s: float
    review_s: float
    end: str
    """approved, refused, evidence (then approved) or referred (then approved by `other`), where a person decides."""
    evidence_s: float
    other: str
    deliver_s: float


def draw(scenario: Scenario, load: int) -> list[Drawn]:
    """A day with `load` cases per archive, in order of arrival."""
    random = Random(scenario.seed)
    drawn = [_one(scenario, random, holder) for holder in scenario.codes for _ in range(load)]
    drawn.sort(key=lambda one: one.arrives_s)
    return [replace(one, number=number) for number, one in enumerate(drawn)]


def _one(scenario: Scenario, random: Random, holder: str) -> Drawn:
    first, last, _share = random.choices(ARRIVALS, [share for *_hours, share in ARRIVALS])[0]
    city = scenario.city_of(holder)
    near = [code for code in scenario.codes if scenario.city_of(code) == city]
    far = [code for code in scenario.codes if scenario.city_of(code) != city] or list(FAR_WINDOWS)
    relation = _of(random, RELATIONS)
    is_long = random.random() < (LONG_KIN_SHARE if relation == "KIN_DECEASED" else LONG_OTHER_SHARE)
    short = random.choices([one[1] for one in REVIEW_MIX], [one[0] for one in REVIEW_MIX])[0]
    factor = LONG_FACTOR if is_long else short
    is_single = random.random() >= scenario.several_share
    others = [code for code in near if code != holder]
    other = random.choice(others) if others else ""
    end = _end(scenario, random.random(), other)
    return Drawn(
        number=0,
        arrives_s=_ms(random.uniform(first, last) * HOUR),
        holder=holder,
        window=random.choice(far if random.random() < scenario.cross_share else near),
        scope=_scope(scenario, random, holder, near),
        held=random.random() >= scenario.none_share,
        category=_of(random, CATEGORIES),
        relation=relation,
        is_id_exact=random.random() < scenario.known_id_share,
        is_name_exact=random.random() < scenario.correct_name_share,
        is_digitised=not is_long or relation == "KIN_DECEASED",
        is_single=is_single,
        locate_s=_ms(min(1.9, _lognormal(random, 0.12, 0.8))),
        select_s=_lognormal(random, scenario.select_median_s, 0.5),
        notice_s=_ms(random.expovariate(1 / scenario.notice_s)),
        deputy_notice_s=_ms(random.expovariate(1 / scenario.notice_s)),
        review_s=_lognormal(random, scenario.review_median_s * factor, scenario.review_sigma),
        end=end,
        evidence_s=_lognormal(random, scenario.evidence_median_s, 0.8),
        other=other,
        deliver_s=_lognormal(random, scenario.deliver_median_s, 0.4),
    )


def _end(scenario: Scenario, luck: float, other: str) -> str:
    for end, share in (("refused", scenario.refuse_share), ("evidence", scenario.evidence_share)):
        if luck < share:
            return end
        luck -= share
    return "referred" if luck < scenario.refer_share and other else "approved"


def _scope(scenario: Scenario, random: Random, holder: str, near: list[str]) -> tuple[str, ...]:
    kind = _of(random, SCOPES)
    if kind == "one":
        return (holder,)
    if kind == "city":
        return tuple(near)
    if kind == "all" or len(scenario.codes) <= 41:
        return tuple(scenario.codes)
    elsewhere = [code for code in scenario.codes if code not in near]
    return tuple(sorted([*near, *random.sample(elsewhere, min(len(elsewhere), 41 - len(near)))]))


def _of(random: Random, table: tuple[tuple[str, float], ...]) -> str:
    return random.choices([one[0] for one in table], [one[1] for one in table])[0]


def _lognormal(random: Random, median: float, sigma: float) -> float:
    return _ms(random.lognormvariate(math.log(median), sigma))


def _ms(seconds: float) -> float:
    return max(0.001, round(seconds, 3))
