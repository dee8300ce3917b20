"""Whom to ask: a pure function of roster, question and manifests, with a reason for every archive not asked.

An archive is left out only for evidence that can not hide a record: that it is out of scope, or its own word about its index as it is
now. No such word, because it is away, has not announced anything or has told of a newer index since, or doubt, means ask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from federation.keys import YEAR_SLACK
from federation.outcome import NotAsked
from federation.places import in_region
from federation.query import Query
from federation.reasons import Reason, Refusal
from gateway.search.ports import Manifest
from gateway.search.question import Question, Scope
from gateway.search.roster import Roster

MOST_ASKED = 400
"""Archives in one fan-out; the delta has 349. Above it the rest is deferred and the answer says partial."""

YEAR_MARGIN = max(slack for slack in YEAR_SLACK.values() if slack is not None)
"""Years a probe looks beyond the asked ones: an archive whose records begin inside the margin may still match."""


class MembershipFilters(Protocol):
    """Says whether a filter at least as new as an archive's index rules the asked person out."""

    def rules_out(self, archive: str, query: Query, index_epoch: int) -> bool: ...


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
    most: int = MOST_ASKED,
) -> Selection:
    """Choose the archives of one question; `manifest` gives those that are current (`Holdings.current_manifest`). The same
    inputs always give the same choice.
    """
    rules_out = None if filters is None else filters.rules_out
    query, scope = question.query, question.scope
    years = _years(query)
    asked: list[str] = []
    not_asked: dict[str, NotAsked] = {}
    for member in roster.members:
        code = member.code
        if not _in_scope(code, scope):
            not_asked[code] = NotAsked.OUT_OF_SCOPE
        elif (reason := _not_held(manifest(code), query, years, rules_out)) is not None:
            not_asked[code] = reason
        elif len(asked) >= most:
            not_asked[code] = NotAsked.DEFERRED
        else:
            asked.append(code)
    return Selection(tuple(asked), not_asked)


def check_scope(scope: Scope, roster: Roster) -> None:
    """Raise the Refusal of a scope without a member: over nobody, "none found" would be true and mean nothing."""
    for place, code in enumerate(scope.archives):
        if code not in roster.by_code:
            raise Refusal(Reason.UNKNOWN_ARCHIVE, f"/scope/archives/{place}")
    if not any(_in_scope(member.code, scope) for member in roster.members):
        raise Refusal(Reason.NOBODY_IN_SCOPE, "/scope")


def _in_scope(code: str, scope: Scope) -> bool:
    if scope.regions and not any(in_region(code, region) for region in scope.regions):
        return False
    return not scope.archives or code in scope.archives


def _not_held(
    manifest: Manifest | None,
    query: Query,
    years: tuple[int, int] | None,
    rules_out: Callable[[str, Query, int], bool] | None,
) -> NotAsked | None:
    """Why this archive can not hold the record; None when it may, or nothing is known of it now."""
    if manifest is None or manifest.index_epoch == 0:
        return None
    holdings = manifest.categories.get(query.category)
    if holdings is None or holdings.records == 0:
        return NotAsked.CATEGORY_NOT_HELD
    if years is not None and not holdings.undated:
        first, last = years
        if holdings.first_year > last or first > holdings.last_year:
            return NotAsked.YEARS_NOT_HELD
    if rules_out is not None and rules_out(manifest.archive, query, manifest.index_epoch):
        return NotAsked.MEMBERSHIP_FILTER
    return None


def _years(query: Query) -> tuple[int, int] | None:
    """The years a record must fall into to match; None = any: numbers are looked up in all years."""
    if query.event is None or query.id_number or query.certificate_no:
        return None
    return query.event.first_year - YEAR_MARGIN, query.event.last_year + YEAR_MARGIN
