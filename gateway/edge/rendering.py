"""Answers as JSON, built by hand: reflection over messages costs twenty times as much."""

from __future__ import annotations

from typing import Any

from federation.explanation import explain, level_word
from gateway.search.completeness import ArchiveOutcome, Completeness, summary
from gateway.search.merge import Ranked
from gateway.search.search import SearchAnswer


def answer(found: SearchAnswer, language: str) -> dict[str, Any]:
    """The body of a search answer."""
    body: dict[str, Any] = {
        "search_id": found.search_id,
        "completeness": completeness(found.completeness, found.total, language),
        "candidates": [candidate(one, language) for one in found.candidates],
        "total": found.total,
    }
    if found.cursor:
        body["cursor"] = found.cursor
    return body


def completeness(account: Completeness, candidates: int, language: str) -> dict[str, Any]:
    """The account: verdict, counts, an outcome for every archive, the gaps with what to do."""
    return {
        "verdict": account.verdict.value,
        "summary": summary(account, candidates).in_language(language),
        "roster_epoch": account.roster_epoch,
        "roster": account.roster,
        "asked": account.asked,
        "answered": account.answered,
        "count": "exact" if account.exact_count else "at_least",
        "outcomes": [outcome(one) for one in account.outcomes],
        "gaps": [
            {
                "archive": gap.archive,
                "outcome": gap.outcome.value,
                **({"reason": gap.reason} if gap.reason else {}),
                "suggestion": gap.suggestion.in_language(language),
                **({"retry_after_s": round(gap.retry_after_s, 1)} if gap.retry_after_s else {}),
            }
            for gap in account.gaps
        ],
    }


def outcome(one: ArchiveOutcome) -> dict[str, Any]:
    body: dict[str, Any] = {"archive": one.archive, "outcome": one.outcome.value}
    if one.reason:
        body["reason"] = one.reason
    if one.truncated:
        body["truncated"] = True
    return body


def candidate(ranked: Ranked, language: str) -> dict[str, Any]:
    """One masked candidate."""
    one = ranked.candidate
    return {
        "ref": f"{ranked.archive}.{one.ref}",
        "archive": ranked.archive,
        "category": one.category,
        "name": one.masked_name,
        "other_name": one.masked_other_name or None,
        "year": one.year or None,
        "score": round(ranked.score, 1),
        "level": level_word(one.levels),
        "decision": ranked.decision.value,
        "explanation": explain(one.levels, language, one.category),
        "digitised": one.digitised,
        "copies": list(ranked.copies),
    }
