"""Locating the record of a case by the search feature; fills the case feature's `Locator`."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
from msgspec import structs

from federation.documents import CHINA
from federation.explanation import explain, level_word
from federation.outcome import CANNOT_HIDE, NotAsked, Outcome
from federation.places import city_of
from gateway.cases.case import Case
from gateway.cases.choice import MOST_KEPT
from gateway.cases.ports import Located
from gateway.search.completeness import ArchiveOutcome
from gateway.search.merge import Ranked
from gateway.search.ports import Manifest
from gateway.search.question import LONGEST_DEADLINE_S, Question, Scope
from gateway.search.roster import Roster
from gateway.search.search import SearchAnswer

_RULED_OUT = CANNOT_HIDE - {NotAsked.OUT_OF_SCOPE}
"""A later round's scope is only who is missing, so being out of it says nothing."""


class Searching(Protocol):
    """What locating needs of the search feature."""

    roster: Roster

    async def search(self, question: Question) -> SearchAnswer: ...


class Archives(Protocol):
    """What locating knows of archives beside their answers."""

    def manifest(self, archive: str) -> Manifest | None: ...
    def issues(self, archive: str) -> bool: ...


class SearchLocator:
    """Asks with the question stored in the case. A later round asks only the archives that are still missing, and gives
    them more time: one that is slow, not away, is heard in the end. When the roster has changed meanwhile, everyone in
    scope is asked again, so that nobody is missed who joined.
    """

    def __init__(self, searches: Searching, archives: Archives) -> None:
        self._searches, self._archives = searches, archives

    async def locate(self, case: Case, archives: list[str]) -> Located:
        question = read_question(case.request["question"])
        roster = self._searches.roster
        gone = [code for code in archives if code not in roster.by_code]
        if archives and case.roster_epoch in {0, roster.epoch}:
            left = tuple(code for code in archives if code in roster.by_code)
            if not left:
                return Located({}, [], [], roster.epoch, gone)
            question = structs.replace(question, scope=Scope((), left))
        rounds = max(0, case.round - 1)
        deadline = min(LONGEST_DEADLINE_S, question.deadline_s * 2.0 ** min(rounds, 10))
        question = structs.replace(question, deadline_s=deadline)
        answer = await self._searches.search(
            structs.replace(question, page_size=MOST_KEPT + len(case.dismissed), caller=case.client)
        )
        account = answer.completeness
        unshown = answer.total > len(answer.candidates) or any(one.truncated for one in account.outcomes)
        outcomes = {
            one.archive: one.outcome.value for one in account.outcomes if one.outcome is not Outcome.NOT_ASKED
        }
        gaps = [
            {"archive": gap.archive, "outcome": gap.outcome.value, "reason": gap.reason}
            for gap in account.gaps
        ]
        ruled_out = [
            one.archive
            for one in account.outcomes
            if one.outcome is Outcome.NOT_ASKED and NotAsked(one.reason) in _RULED_OUT
        ]
        candidates = [_found(one) for one in answer.candidates]
        found = Located(outcomes, candidates, gaps, roster.epoch, gone, ruled_out, unshown=unshown)
        return found if candidates else self._accounted(case, found, account.outcomes)

    def _accounted(self, case: Case, found: Located, outcomes: tuple[ArchiveOutcome, ...]) -> Located:
        """The same with what a note over the search must state, and who can issue it: the archive of the asking window,
        else the one of its city, else the first that answered.
        """
        searched = {
            one.archive: self._index_date(one) if one.outcome is Outcome.EMPTY else one.reason
            for one in outcomes
            if one.outcome is Outcome.EMPTY or one.archive in found.ruled_out
        }
        answered = sorted(
            code for code, outcome in {**case.outcomes, **found.outcomes}.items() if outcome == Outcome.EMPTY
        )
        nearest = (case.window, city_of(case.window).ljust(6, "0")) if case.window else ()
        noting = next((code for code in (*nearest, *answered) if self._archives.issues(code)), "")
        return replace(found, searched=searched, noting=noting)

    def _index_date(self, one: ArchiveOutcome) -> str:
        """The day of the index that answered; "" when a newer one has been announced since, whose day would say too much."""
        manifest = self._archives.manifest(one.archive)
        if manifest is None or one.index_epoch < manifest.index_epoch:
            return ""
        age_s = manifest.index_age_s + time.monotonic() - manifest.heard_at
        return (datetime.now(UTC) - timedelta(seconds=age_s)).astimezone(CHINA).date().isoformat()


def _found(ranked: Ranked) -> dict[str, Any]:
    one = ranked.candidate
    return {
        "ref": f"{ranked.archive}.{one.ref}",
        "archive": ranked.archive,
        "score": ranked.score,
        "decision": ranked.decision.value,
        "name": one.masked_name,
        "other_name": one.masked_other_name,
        "year": one.year,
        "level": level_word(one.levels),
        "explanation": explain(one.levels, "zh", one.category),
        "explanation_en": explain(one.levels, "en", one.category),
        "digitised": one.digitised,
        "copies": list(ranked.copies),
    }


def stored_question(question: Question) -> dict[str, Any]:
    """A question as a case keeps it."""
    built: dict[str, Any] = msgspec.to_builtins(question)
    return built


def read_question(stored: dict[str, Any]) -> Question:
    """A question as it was kept."""
    return msgspec.convert(stored, Question)
