"""An archive's scorecard and the estimate for a caller: both from the results of cases whose clock has stopped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.cases.case import Case, StoppedCase
from gateway.cases.policy import TARGET_IN_CITY_S, Policy
from gateway.cases.states import ENDED, Stage, State

_ENOUGH = 5
"""With fewer results than this an estimate uses the stage budgets."""


@dataclass(frozen=True, slots=True)
class Share:
    """Seconds of one stage over the scored cases."""

    mean_s: float
    p50_s: float
    p90_s: float


@dataclass(frozen=True, slots=True)
class Scorecard:
    """`cases` are those whose clock stopped and those whose target has passed although it has not: an answer that never
    comes is late, and counts with the time it has taken so far. `open` are the others, still within their target.
    `unreadable` are in no other number: their rows are damaged, or of a later version.
    `met_share` counts every case that was not withdrawn; None = no case yet. `available_share` is the part of the time
    gateways were there to see it (`watched_s`) in which the archive had a session.
    """

    cases: int
    withdrawn: int
    overdue: int
    open: int
    unreadable: int
    met_share: float | None
    available_share: float | None
    watched_s: float
    mean_s: dict[str, float]
    stages: dict[str, Share]


def scorecard(
    results: Sequence[StoppedCase],
    unstopped: Sequence[Case] = (),
    now_ms: int = 0,
    *,
    unreadable: int = 0,
    up_ms: int = 0,
    watched_ms: int = 0,
    in_city_s: int = TARGET_IN_CITY_S,
) -> Scorecard:
    """The scorecard of one archive: its results, and its cases whose clock still runs."""
    overdue = [
        _so_far(case, now_ms, in_city_s)
        for case in unstopped
        if case.counted_ms(now_ms) > case.target_s * 1000
    ]
    results = [*results, *overdue]
    counted = [one for one in results if one.outcome != "withdrawn"]
    scopes = sorted({one.scope for one in counted})
    return Scorecard(
        len(results),
        len(results) - len(counted),
        len(overdue),
        len(unstopped) - len(overdue),
        unreadable,
        sum(one.outcome == "met" for one in counted) / len(counted) if counted else None,
        up_ms / watched_ms if watched_ms else None,
        watched_ms / 1000,
        {scope: _mean([one.counted_ms / 1000 for one in counted if one.scope == scope]) for scope in scopes},
        {
            stage.value: share
            for stage in Stage
            if (
                share := _share(
                    [one.spent[stage.value] / 1000 for one in counted if stage.value in one.spent]
                )
            )
        },
    )


def _so_far(case: Case, now_ms: int, in_city_s: int) -> StoppedCase:
    """A case whose target has passed, as if it had been answered late just now."""
    spent = dict(case.spent_ms)
    running = (case.paused_since_ms or now_ms) - case.stage_began_ms
    spent[case.stage.value] = spent.get(case.stage.value, 0) + running
    scope = "in_city" if case.target_s == in_city_s else "cross_city"
    return StoppedCase("late", scope, case.state.value, now_ms, case.counted_ms(now_ms), spent)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _share(values: list[float]) -> Share | None:
    if not values:
        return None
    values.sort()
    return Share(_mean(values), percentile(values, 0.5), percentile(values, 0.9))


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of ordered values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


_AHEAD: dict[State, tuple[Stage, ...]] = {
    State.SUBMITTED: (Stage.LOCATE, Stage.PICK_UP, Stage.REVIEW, Stage.ISSUE),
    State.LOCATING: (Stage.LOCATE, Stage.PICK_UP, Stage.REVIEW, Stage.ISSUE),
    State.AWAITING_SELECTION: (Stage.SELECT, Stage.PICK_UP, Stage.REVIEW, Stage.ISSUE),
    State.DISPATCHED: (Stage.PICK_UP, Stage.REVIEW, Stage.ISSUE),
    State.IN_REVIEW: (Stage.REVIEW, Stage.ISSUE),
    State.AWAITING_EVIDENCE: (Stage.REVIEW, Stage.ISSUE),
    State.RETRIEVING_ORIGINAL: (Stage.REVIEW, Stage.ISSUE),
    State.ISSUING: (Stage.ISSUE,),
}
"""The stages still before a case, by its state; delivery is the caller's own."""


def estimate_s(case: Case, recent: Sequence[StoppedCase], policy: Policy, now_ms: int) -> float | None:
    """Seconds of work until the answer is there, from the holder's recent record, else from the budgets; None when it is
    there. They pass only while a desk is open: the caller's calendar makes a time of them.
    """
    ahead = _AHEAD.get(case.state)
    if case.state in ENDED or ahead is None:
        return None
    usual = scorecard(recent).stages if len(recent) >= _ENOUGH else {}
    budgets = policy.budgets(case.window, case.holder)
    total = 0.0
    for stage in ahead:
        expected = usual[stage.value].mean_s if stage.value in usual else float(budgets.of(stage))
        if stage is case.stage:
            expected = max(expected - (now_ms - case.stage_began_ms) / 1000, expected / 4)
        total += expected
    return total
