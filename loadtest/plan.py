"""A load plan: how many questions leave when, of which kinds, what breaks meanwhile, and what must hold."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from random import Random
from typing import Any

PLANS = Path(__file__).resolve().parent / "plans"
KINDS = ("exact", "variant", "absent")
FAULTS = ("stop", "kill")
TARGETS = (
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "max_ms",
    "error_share",
    "partial_share",
    "partial_share_least",
    "found_share",
)
MOST_REQUESTS = 200_000
LONGEST_S = 3600.0


class PlanError(Exception):
    """The plan can not be run; the message names the key and what to change."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` "stop" freezes an archive's agent for `for_s`; "kill" ends it and starts it again after `for_s`."""

    kind: str
    archive: str
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan. `rate` is questions a second at the beginning and at the end, changing evenly between."""

    name: str
    duration_s: float
    rate: tuple[float, float]
    mix: dict[str, float]
    targets: dict[str, float]
    seed: int = 1
    deadline_ms: int = 2000
    faults: tuple[Fault, ...] = field(default=())

    def schedule(self) -> list[tuple[float, str]]:
        """(seconds from the start, kind) of every question: fixed by the seed, whatever the answers do."""
        random = Random(self.seed)
        first, last = self.rate
        most = max(first, last)
        kinds, weights = list(self.mix), list(self.mix.values())
        planned: list[tuple[float, str]] = []
        now = 0.0
        while True:  # a Poisson process of the highest rate, thinned to the rate of the moment
            now += random.expovariate(most)
            if now >= self.duration_s:
                return planned
            if random.random() * most < first + (last - first) * now / self.duration_s:
                planned.append((now, random.choices(kinds, weights)[0]))
            if len(planned) > MOST_REQUESTS:
                raise PlanError(f"more than {MOST_REQUESTS} requests: lower rate or duration_s")


def load(name: str) -> Plan:
    """A plan by its name in loadtest/plans, or by a path; PlanError says what is wrong."""
    path = Path(name) if name.endswith(".toml") else PLANS / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(one.stem for one in PLANS.glob("*.toml")))
        raise PlanError(f"没有这个计划 · no plan {name}; there are: {known}")
    try:
        return parse(path.stem, tomllib.loads(path.read_text("utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path.name}: not valid TOML: {error}") from error


def parse(name: str, table: dict[str, Any]) -> Plan:
    """Validate a plan's table."""
    unknown = table.keys() - {"duration_s", "rate", "mix", "targets", "seed", "deadline_ms", "fault"}
    if unknown:
        raise PlanError(f"unknown key: {', '.join(sorted(unknown))}")
    duration = _number(table, "duration_s", 0.1, LONGEST_S)
    rate = table.get("rate")
    if (
        not isinstance(rate, list)
        or len(rate) != 2
        or not all(_is_number(one) and one >= 0 for one in rate)
        or max(rate) <= 0
    ):
        raise PlanError("rate must be two numbers: questions a second at the beginning and at the end")
    mix = table.get("mix", {})
    if (
        not isinstance(mix, dict)
        or not mix
        or mix.keys() - set(KINDS)
        or not all(_is_number(one) and one >= 0 for one in mix.values())
        or not sum(mix.values())
    ):
        raise PlanError(f"mix gives a share to some of: {', '.join(KINDS)}")
    targets = table.get("targets", {})
    if not targets or targets.keys() - set(TARGETS):
        raise PlanError(f"targets must hold some of: {', '.join(TARGETS)}")
    if wrong := [key for key, value in targets.items() if not _is_number(value)]:
        raise PlanError(f"targets must be numbers: {', '.join(wrong)}")
    faults = tuple(_fault(row) for row in table.get("fault", []))
    plan = Plan(
        name,
        duration,
        (float(rate[0]), float(rate[1])),
        {kind: float(share) for kind, share in mix.items()},
        {key: float(value) for key, value in targets.items()},
        int(_number({"seed": 1, **table}, "seed", 0, 1 << 62)),
        int(_number({"deadline_ms": 2000, **table}, "deadline_ms", 100, 10_000)),
        faults,
    )
    if not plan.schedule():
        raise PlanError("the plan sends no request: raise rate or duration_s")
    return plan


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _number(table: dict[str, Any], key: str, low: float, high: float) -> float:
    value: Any = table.get(key)
    if not _is_number(value) or not low <= value <= high:
        raise PlanError(f"{key} must be a number from {low:g} to {high:g}")
    return float(value)


def _fault(row: dict[str, Any]) -> Fault:
    if row.get("kind") not in FAULTS or not isinstance(row.get("archive"), str):
        raise PlanError(f"[[fault]] needs kind (one of {', '.join(FAULTS)}), archive, at_s and for_s")
    return Fault(
        row["kind"], row["archive"], _number(row, "at_s", 0, LONGEST_S), _number(row, "for_s", 0.1, LONGEST_S)
    )
