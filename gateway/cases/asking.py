"""Finding the record: what a round of asking tells a case, who is asked again, when no record is said, what the caller
chooses.
"""

from __future__ import annotations

from typing import Any

import msgspec

from federation.reasons import Reason, Refusal
from gateway.cases.case import Case, Event, Found
from gateway.cases.choice import MOST_KEPT, clear_choice, merge
from gateway.cases.states import Kind, State
from gateway.cases.step import Step

_RETRIABLE = frozenset({"timeout", "unreachable", "overloaded", "circuit_open", "stale", "bad_answer"})
"""Outcomes that asking again may better: an import or a restart mends the last two. A refusal or an unsupported question
will not change by itself.
"""

_FACTS = frozenset({"hit", "empty"})
"""Outcomes by which an archive has answered for good."""


def located(step: Step, event: Event) -> None:
    """`data`: outcomes {archive: outcome}, gaps and candidates (Found) of this round, the roster it was asked by, `gone`,
    archives no longer on it: nobody can ask them, and what they may hold stays unknown, and `ruled_out`, archives that
    are back and by their own word can not hold the record. `unshown`: there are more candidates. `whole`: everyone was asked.
    """
    case, data = step.case, event.data
    known = {one.ref for one in case.candidates}
    _take_in(case, data)
    facts = {
        "round": case.round, "verdict": case.verdict, "candidates": len(case.candidates),
        "missing": [gap["archive"] for gap in case.gaps],
    }  # fmt: skip
    if case.state is State.LOCATING and case.candidates:
        chosen = clear_choice(case.candidates)
        if chosen is not None:
            step.dispatch(chosen, Kind.LOCATED, event.actor)
            step.effects.entries[-1].data.update(facts)
            return
        step.enter(State.AWAITING_SELECTION)
        _ask_missing(step)
    elif case.state is State.LOCATING:
        _nothing_found(step, data)
    else:
        _ask_missing(step)
    step.note(Kind.LOCATED, event.actor, {**facts, **({"reason": case.reason} if case.reason else {})})
    if not known.issuperset(one.ref for one in case.candidates):
        case.candidates_version = case.version
    if case.state is State.NO_RECORD:
        _order_note(step, str(data.get("noting", "")))


def selected(step: Step, event: Event) -> None:
    case = step.case
    found = next((one for one in case.candidates if one.ref == event.data["ref"]), None)
    if found is None:
        raise Refusal(Reason.UNKNOWN_CANDIDATE, "/ref")
    step.dispatch(found, Kind.SELECTED, event.actor)


def none_fits(step: Step, event: Event) -> None:
    """`data`: `version` of the case the caller has seen, 0 = the present one."""
    case = step.case
    if 0 < event.data.get("version", 0) < case.candidates_version:
        raise Refusal(Reason.CANDIDATES_CHANGED, "/version")
    case.dismissed = [*case.dismissed, *(one.ref for one in case.candidates)]
    case.candidates = []
    if case.unshown and not case.is_breached:
        step.enter(State.LOCATING)
        step.search([])
    elif case.verdict == "complete" and not case.unshown:
        step.enter(State.NO_RECORD)
    elif any(map(_may_yet_answer, case.gaps)) and not case.is_breached:
        step.enter(State.LOCATING)  # a search task is already waiting
    else:
        _end_without_answer(step)
    step.note(Kind.NONE_FITS, event.actor)


def _take_in(case: Case, data: dict[str, Any]) -> None:
    """Bring the account of who was asked, its verdict and the candidates up to this round."""
    case.roster_epoch = int(data.get("roster_epoch", case.roster_epoch))
    said = {**{str(gap["archive"]): str(gap["outcome"]) for gap in data["gaps"]}, **data["outcomes"]}
    news = {archive for archive, outcome in said.items() if _is_news(case.outcomes.get(archive), outcome)}
    ruled_out = {one for one in data.get("ruled_out", ()) if case.outcomes.get(one, "hit") not in _FACTS}
    said |= dict.fromkeys(ruled_out, "not_asked")
    news |= ruled_out
    case.outcomes = {**case.outcomes, **{archive: said[archive] for archive in sorted(news)}}
    _keep_searched(case, data.get("searched", {}), news)
    gone = set(data.get("gone", ())) - news
    kept = [
        {**gap, "outcome": "not_asked", "reason": "not_a_member"} if gap["archive"] in gone else gap
        for gap in case.gaps
        if gap["archive"] not in news
    ]
    fresh = [gap for gap in data["gaps"] if gap["archive"] in news - ruled_out]
    case.gaps = sorted([*kept, *fresh], key=lambda gap: str(gap["archive"]))
    case.verdict = "partial" if case.gaps else "complete"
    found = msgspec.convert(data["candidates"], list[Found])
    everyone = merge(case.candidates, [one for one in found if one.ref not in case.dismissed])
    case.candidates = everyone[:MOST_KEPT]
    if data.get("unshown") or len(everyone) > MOST_KEPT:
        case.unshown = True
    elif _all_told(case, data):
        case.unshown = False


def _all_told(case: Case, data: dict[str, Any]) -> bool:
    """Whether every archive that is known to have candidates was asked in this round, and answered in full."""
    holders = {archive for archive, outcome in case.outcomes.items() if outcome == "hit"}
    return bool(data.get("whole")) and all(data["outcomes"].get(one) in _FACTS for one in holders)


def _keep_searched(case: Case, searched: dict[str, str], news: set[str]) -> None:
    """What a note over this search would state; once somebody has a candidate there is none to write."""
    if any(outcome == "hit" for outcome in case.outcomes.values()):
        case.searched = {}
    else:
        told = {
            one: said for one, said in searched.items() if said and (one in news or one not in case.outcomes)
        }
        case.searched = {**case.searched, **told}


def _order_note(step: Step, archive: str) -> None:
    """Have the note issued, if somebody can and everything it must state is known."""
    case = step.case
    if archive and case.outcomes.keys() <= case.searched.keys():
        case.noting = archive
        case.group += 1
        step.mail(archive, "note")


def _is_news(known: str | None, outcome: str) -> bool:
    """A late fact overturns a presumed failure, never the reverse; not having asked tells nothing new of anybody."""
    return outcome in _FACTS or (known not in _FACTS and (known is None or outcome != "not_asked"))


def _may_yet_answer(gap: dict[str, Any]) -> bool:
    """Whether asking again may close a gap; `deferred` are those beyond what one round asks."""
    return gap["outcome"] in _RETRIABLE or gap.get("reason") == "deferred"


def _ask_missing(step: Step) -> bool:
    """Ask again whoever may yet answer, later each time; False when nobody may."""
    case = step.case
    missing = [str(gap["archive"]) for gap in case.gaps if _may_yet_answer(gap)]
    if not missing:
        return False
    step.search(missing, _pause(step))
    return True


def _pause(step: Step) -> float:
    """Seconds until the next round, longer each time."""
    first, longest = step.policy.first_search_again_s, step.policy.longest_search_again_s
    return float(min(longest, first * 2 ** (step.case.round - 1)))


def _nothing_found(step: Step, data: dict[str, Any]) -> None:
    """No record is said only when every archive in scope has answered, and the caller has seen all that they found; else
    go on asking, or say what is missing.
    """
    case = step.case
    if case.unshown and not case.is_breached and not _all_told(case, data):
        if data.get("whole"):
            step.search([], _pause(step))
        return  # else the round that asks for the next candidates is waiting
    if case.verdict == "complete" and not case.unshown:
        step.enter(State.NO_RECORD)
    elif case.is_breached or not _ask_missing(step):
        _end_without_answer(step)


def _end_without_answer(step: Step) -> None:
    case = step.case
    case.reason = "search_incomplete" if case.gaps else "too_many_candidates"
    step.enter(State.EXPIRED)
