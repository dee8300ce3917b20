"""Locating the record of a case by the search feature; fills the case feature's `Locator`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import msgspec

from federation.explanation import explain, level_word
from federation.outcome import Outcome
from gateway.cases.case import Case
from gateway.cases.choice import MOST_KEPT
from gateway.cases.ports import Located
from gateway.search.merge import Ranked
from gateway.search.question import Question, Scope
from gateway.search.search import SearchAnswer


class Searching(Protocol):
    """What locating needs of the search feature."""

    async def search(self, question: Question) -> SearchAnswer: ...


class SearchLocator:
    """Asks with the question stored in the case; a later round asks only the archives that are still missing."""

    def __init__(self, searches: Searching) -> None:
        self._searches = searches

    async def locate(self, case: Case, archives: list[str]) -> Located:
        question = read_question(case.request["question"])
        if archives:
            question = replace(question, scope=Scope((), tuple(archives)))
        answer = await self._searches.search(replace(question, page_size=MOST_KEPT, caller=case.client))
        account = answer.completeness
        outcomes = {
            one.archive: one.outcome.value for one in account.outcomes if one.outcome is not Outcome.NOT_ASKED
        }
        gaps = [
            {"archive": gap.archive, "outcome": gap.outcome.value, "reason": gap.reason}
            for gap in account.gaps
        ]
        return Located(outcomes, [_found(one) for one in answer.candidates], gaps)


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
