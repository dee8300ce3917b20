"""The written rules of the clock: targets, stage budgets, the ladder of each stage, patience with callers."""

from __future__ import annotations

from dataclasses import dataclass, field

from federation.places import city_of
from gateway.cases.states import Stage

TARGET_IN_CITY_S, TARGET_CROSS_CITY_S = 600, 900


class PolicyError(Exception):
    """The rules contradict each other; the message says which."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Seconds each stage may take, and the target they must fit into with a reserve."""

    target: int
    locate: int
    select: int
    pick_up: int
    review: int
    issue: int
    deliver: int

    def of(self, stage: Stage) -> int:
        return int(getattr(self, stage.value))

    @property
    def total(self) -> int:
        return sum(self.of(stage) for stage in Stage)


CROSS_CITY = Budgets(TARGET_CROSS_CITY_S, 6, 60, 180, 300, 12, 90)
IN_CITY = Budgets(TARGET_IN_CITY_S, 6, 30, 90, 210, 12, 60)


@dataclass(frozen=True, slots=True)
class Rung:
    """At `share` of a stage: `warn` tells the desk again, `escalate` goes to the second reviewer and the duty lead,
    `deputy` asks the deputy archive too, `operator` calls the federation's operator.
    """

    share: float
    action: str


_DESK = (Rung(0.5, "warn"), Rung(0.8, "escalate"), Rung(0.8, "deputy"), Rung(1.0, "operator"))
_PLAIN = (Rung(0.5, "warn"), Rung(0.8, "escalate"), Rung(1.0, "operator"))
LADDERS: dict[Stage, tuple[Rung, ...]] = {
    Stage.LOCATE: (),
    Stage.SELECT: (Rung(0.5, "warn"),),
    Stage.PICK_UP: _DESK,
    Stage.REVIEW: _PLAIN,
    Stage.ISSUE: _PLAIN,
    Stage.DELIVER: (),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules of one gateway. `deputies` maps a holder to the archive its review may be delegated to; `members` are the
    archives a case may be referred to, empty = any; `names` are what they are called. No case stays open longer than `longest_case_s`: every wait ends.
    """

    in_city: Budgets = IN_CITY
    cross_city: Budgets = CROSS_CITY
    ladders: dict[Stage, tuple[Rung, ...]] = field(default_factory=lambda: LADDERS)
    deputies: dict[str, str] = field(default_factory=dict)
    members: frozenset[str] = frozenset()
    names: dict[str, str] = field(default_factory=dict)
    longest_case_s: int = 90 * 86_400
    selection_patience_s: int = 2 * 86_400
    evidence_patience_s: int = 30 * 86_400
    first_search_again_s: float = 2.0
    longest_search_again_s: float = 60.0

    def __post_init__(self) -> None:
        for name, budgets in (("in_city", self.in_city), ("cross_city", self.cross_city)):
            if budgets.total > budgets.target:
                raise PolicyError(
                    f"{name}: 各环节时限合计 {budgets.total} 秒超过目标 {budgets.target} 秒"
                    f" · the stage budgets add up to {budgets.total} s, more than the target of {budgets.target} s"
                )
        if missing := sorted(stage.value for stage in Stage if stage not in self.ladders):
            raise PolicyError(f"缺少环节的升级步骤：{missing} · stages without a ladder: {missing}")
        if own := sorted(holder for holder, deputy in self.deputies.items() if holder == deputy):
            raise PolicyError(f"不能由本馆代理本馆：{own} · an archive can not be its own deputy: {own}")
        for stage, rungs in self.ladders.items():
            shares = [rung.share for rung in rungs]
            if shares != sorted(shares) or any(share <= 0 for share in shares):
                raise PolicyError(f"{stage}: 升级步骤须按时间递增 · the rungs must grow and be above 0")

    def budgets(self, window: str, holder: str) -> Budgets:
        """Of a case asked at a window of division `window` and held by `holder`; unknown = cross-city."""
        is_in_city = bool(window) and bool(holder) and city_of(window) == city_of(holder)
        return self.in_city if is_in_city else self.cross_city
