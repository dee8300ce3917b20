"""Automatic release: the archive's own published rule by which a plain case needs no person. Off until it is switched on.

Every condition is judged on what this archive holds, never on what the request says of itself. The answer is kept with
the item: which rule, which version, and for each condition whether it held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from federation.categories import CATEGORIES
from federation.levels import DateLevel, IdLevel, NameLevel, PlaceLevel, TextLevel
from federation.mail import Dispatch
from federation.query import Relation
from federation.reasons import Text
from node_agent.desk.records import Holding

NAME, VERSION = "self-exact-single", 3
"""The rule's name and version, as they stand in decisions; any change of a condition is a new version."""

HIGHEST_SENSITIVITY = 2
"""No setting releases what is more sensitive (birth, adoption, divorce …) without a person."""

CONDITIONS: dict[str, Text] = {
    "switched_on": Text("本馆已启用自动放行", "the archive has switched the rule on"),
    "own_holding": Text("由保管馆自行审核，不是代审", "asked as the holder, not as a deputy"),
    "relation_self": Text("申请人为当事人本人", "the applicant is the person of the record"),
    "record_found": Text("所选记录在本馆目录中", "the chosen record is in the archive's index"),
    "id_exact": Text("证件号码与记录完全一致", "the identity number equals the record's"),
    "name_exact": Text("姓名与记录完全一致", "the name equals the record's"),
    "nothing_contradicts": Text("其他已填各项均无矛盾", "no other stated field contradicts the record"),
    "single_hit": Text("本馆只有这一条可能的记录", "it is the only possible record here"),
    "digitised": Text("原件已数字化", "the original is digitised"),
    "issuable": Text("可据以出具文书", "a document can be made of it"),
    "sensitivity_low": Text(
        "类别敏感度不高于本馆所定", "the category is not above the sensitivity the archive allows"
    ),
    "below_daily_cap": Text("未超过当日放行上限", "the day's limit is not reached"),
}
"""What must all hold, in the order in which it is judged."""

_CONTRADICTING_NAMES = frozenset(
    {NameLevel.DIFFERENT, NameLevel.ONE_CHARACTER, NameLevel.MISSING_CHARACTER, NameLevel.ADDED_CHARACTER}
)
_AGREEING_DATES = frozenset(
    {
        DateLevel.NOT_COMPARED,
        DateLevel.DAY,
        DateLevel.MONTH,
        DateLevel.YEAR,
        DateLevel.WITHIN,
        DateLevel.WITHIN_WIDE,
    }
)


class RuleError(ValueError):
    """The release rule can not be used; the text says why, in both languages."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rule said of one case. `failed` are the conditions that did not hold; none = released. `rule` is how the
    decision names the rule: as it was when it was asked.
    """

    failed: tuple[str, ...]
    rule: str = f"{NAME}/{VERSION}"

    @property
    def released(self) -> bool:
        return not self.failed

    def explained(self, language: str) -> str:
        """Why, for people: everything that held, or what did not."""
        keys = self.failed or tuple(CONDITIONS)
        words = [CONDITIONS[key].in_language(language) for key in keys]
        if language == "en":
            return ("Released by rule: " if self.released else "For a person, because not: ") + "; ".join(
                words
            )
        return ("按规则自动放行：" if self.released else "须人工审核，未满足：") + "；".join(words)

    def written(self) -> dict[str, Any]:
        return {"rule": self.rule, "released": self.released, "failed": list(self.failed)}


@dataclass(frozen=True, slots=True)
class ReleaseRule:
    """The archive's choice. `categories` narrows the rule to some; none = all that are low enough."""

    enabled: bool = False
    sensitivity: int = 1
    daily_cap: int = 50
    categories: frozenset[str] = frozenset()

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> ReleaseRule:
        """Read settings: {"enabled": true, "sensitivity": 1 or 2, "daily_cap": 50, "categories": ["marriage"]};
        RuleError says what is wrong.
        """
        if unknown := sorted(map(str, set(written) - {"enabled", "sensitivity", "daily_cap", "categories"})):
            raise RuleError(
                f"放行规则中有不认识的键 · unknown keys of the release rule: {', '.join(unknown)}"
            )
        enabled, sensitivity = written.get("enabled", False), written.get("sensitivity", 1)
        cap, categories = written.get("daily_cap", 50), written.get("categories", [])
        if not isinstance(enabled, bool):
            raise RuleError("enabled 应为 true 或 false · enabled must be true or false")
        if isinstance(sensitivity, bool) or sensitivity not in range(1, HIGHEST_SENSITIVITY + 1):
            raise RuleError(
                f"sensitivity 应为 1 到 {HIGHEST_SENSITIVITY} · sensitivity must be 1 to {HIGHEST_SENSITIVITY}"
            )
        if isinstance(cap, bool) or not isinstance(cap, int) or cap < 0:
            raise RuleError("daily_cap 应为不小于零的整数 · daily_cap must be a number from 0")
        if not isinstance(categories, (list, tuple)) or any(one not in CATEGORIES for one in categories):
            raise RuleError("categories 应为类别列表 · categories must be a list of known categories")
        return cls(enabled, sensitivity, cap, frozenset(categories))

    def judge(self, dispatch: Dispatch, holding: Holding | None, released_today: int) -> Judgement:
        """Every condition, on one case; `released_today` is how many the rule has released since midnight."""
        held = dict(self._conditions(dispatch, holding, released_today))
        return Judgement(tuple(key for key in CONDITIONS if not held[key]))

    def _conditions(
        self, dispatch: Dispatch, holding: Holding | None, released_today: int
    ) -> Iterator[tuple[str, bool]]:
        yield "switched_on", self.enabled
        yield "own_holding", not dispatch.on_behalf_of
        yield "relation_self", dispatch.relation == Relation.SELF
        yield "record_found", holding is not None and holding.category == dispatch.category
        yield "id_exact", holding is not None and holding.levels.id_number == IdLevel.EQUAL
        yield "name_exact", holding is not None and holding.levels.name == NameLevel.EXACT
        yield "nothing_contradicts", holding is not None and _agrees(holding)
        yield "single_hit", holding is not None and holding.hits == 1
        yield "digitised", holding is not None and holding.digitised
        yield "issuable", holding is not None and holding.is_issuable
        yield "sensitivity_low", holding is not None and self._is_low(holding.category)
        yield "below_daily_cap", released_today < self.daily_cap

    def _is_low(self, category: str) -> bool:
        known = CATEGORIES.get(category)
        allowed = min(self.sensitivity, HIGHEST_SENSITIVITY)
        chosen = not self.categories or category in self.categories
        return known is not None and known.sensitivity <= allowed and chosen

    def published(self) -> dict[str, Any]:
        """The rule as the manifest announces it."""
        return {
            "rule": NAME,
            "version": VERSION,
            "enabled": self.enabled,
            "sensitivity": min(self.sensitivity, HIGHEST_SENSITIVITY),
            "daily_cap": self.daily_cap,
            "categories": sorted(self.categories),
            "conditions": [{"key": key, "zh": text.zh, "en": text.en} for key, text in CONDITIONS.items()],
        }


def _agrees(holding: Holding) -> bool:
    """What was stated beside name and number: the birth, the other party, the event, its place and certificate number.

    Dates of one year have one level whether or not they can be the same day, so that the days themselves are asked too.
    """
    levels = holding.levels
    return (
        levels.other_name not in _CONTRADICTING_NAMES
        and levels.other_id_number in {IdLevel.NOT_COMPARED, IdLevel.EQUAL}
        and levels.birth in _AGREEING_DATES
        and levels.event in _AGREEING_DATES
        and holding.dates_meet
        and levels.place != PlaceLevel.DIFFERENT
        and levels.certificate_no != TextLevel.DIFFERENT
    )
