"""Whom to ask: a pure function of roster, question and manifests, with a reason for every archive not asked.

An archive is left out only for evidence that can not hide a record. No manifest yet, or doubt, means ask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from federation.keys import YEAR_SLACK
from federation.outcome import NotAsked
from federation.places import in_region
from federation.query import Query
from gateway.search.ports import CategoryHoldings, Manifest
from gateway.search.question import Question
from gateway.search.roster import Roster

MOST_ASKED = 400
"""Archives in one fan-out; the delta has 349. Above it the rest is deferred and the answer says partial."""

YEAR_MARGIN = max(slack for slack in YEAR_SLACK.values() if slack is not None)
"""Years a probe looks beyond the asked ones: an archive whose records begin inside the margin may still match."""


class MembershipFilters(Protocol):
    """Says whether a filter at least as new as an archive's index rules the asked person out."""

    def rules_out(self, archive: str, query: Query, index_epoch: int) -> bool: ...


class NoFilters:
    """No filters yet: nobody is ruled out."""

    def rules_out(self, archive: str, query: Query, index_epoch: int) -> bool:
        del archive, query, index_epoch
        return False


@dataclass(frozen=True, slots=True)
class Selection:
    """Archives to ask, and why each other one is not. Together they are exactly the roster."""

    asked: tuple[str, ...]
    not_asked: dict[str, NotAsked]


def select(
    roster: Roster,
    question: Question,
    manifest: Callable[[str], Manifest | None],
    *,
    filters: MembershipFilters | None = None,
    permitted: Callable[[str], bool] = lambda _archive: True,
    most: int = MOST_ASKED,
) -> Selection:
    """Choose the archives of one question. The same inputs always give the same choice."""
    filters = filters or NoFilters()
    asked: list[str] = []
    not_asked: dict[str, NotAsked] = {}
    for member in roster.members:
        code = member.code
        reason = _reason(code, question, manifest(code), filters, permitted)
        if reason is None and len(asked) >= most:
            reason = NotAsked.DEFERRED
        if reason is None:
            asked.append(code)
        else:
            not_asked[code] = reason
    return Selection(tuple(asked), not_asked)


def _reason(
    code: str,
    question: Question,
    manifest: Manifest | None,
    filters: MembershipFilters,
    permitted: Callable[[str], bool],
) -> NotAsked | None:
    scope = question.scope
    if scope.regions and not any(in_region(code, region) for region in scope.regions):
        return NotAsked.OUT_OF_SCOPE
    if scope.archives and code not in scope.archives:
        return NotAsked.OUT_OF_SCOPE
    if not permitted(code):
        return NotAsked.NOT_PERMITTED
    if manifest is None or manifest.index_epoch == 0:
        return None
    holdings = manifest.categories.get(question.query.category)
    if holdings is None or holdings.records == 0:
        return NotAsked.CATEGORY_NOT_HELD
    if not _years_may_match(holdings, question.query):
        return NotAsked.YEARS_NOT_HELD
    if filters.rules_out(code, question.query, manifest.index_epoch):
        return NotAsked.MEMBERSHIP_FILTER
    return None


def _years_may_match(holdings: CategoryHoldings, query: Query) -> bool:
    if query.event is None or holdings.undated or query.id_number or query.certificate_no:
        return True  # undated records fit every year, and numbers are looked up in all years
    first, last = query.event.first_year - YEAR_MARGIN, query.event.last_year + YEAR_MARGIN
    return holdings.first_year <= last and first <= holdings.last_year
