"""Cases, journal lines, scorecards as JSON. Only masked descriptions and codes: the request itself is not repeated."""

from __future__ import annotations

from typing import Any

from federation.mail import EVIDENCE_KINDS, REFUSAL_REASONS
from gateway.cases.case import Case, Entry, when
from gateway.cases.minutes import Minutes
from gateway.cases.scorecard import Scorecard
from gateway.cases.states import ENDED, WITH_DOCUMENT, State

_OTHER_REASONS: dict[str, tuple[str, str]] = {
    "search_incomplete": (
        "有档案馆未能答复，不能断定没有档案",
        "Some archives did not answer, so absence can not be stated",
    ),
    "too_many_candidates": (
        "候选过多，未能全部列出，不能断定没有档案；请补充年份、出生日期或证件号码后重新申请",
        "More candidates than can be shown, so absence can not be stated; ask again with years, a date of birth or an ID number",
    ),
    "not_selected": ("申请人未在期限内选择", "No candidate was chosen in time"),
    "original_not_retrieved": (
        "未在期限内调取原件",
        "The original was not fetched from the repository in time",
    ),
    "not_decided": (
        "档案馆未在最长期限内办结",
        "The holder did not decide within the longest time a case may take",
    ),
    "not_fetched": (
        "文书未在最长期限内领取",
        "The document was not fetched within the longest time a case may take",
    ),
    "evidence_not_given": ("申请人未在期限内补正材料", "The evidence was not given in time"),
}

STATE_WORDS: dict[State, tuple[str, str]] = {
    State.SUBMITTED: ("已受理", "Accepted"),
    State.LOCATING: ("正在查找", "Locating the record"),
    State.AWAITING_SELECTION: ("等待选择候选", "Waiting for a choice among candidates"),
    State.DISPATCHED: ("已送馆藏档案馆，等待受理", "Sent to the holder, waiting to be picked up"),
    State.IN_REVIEW: ("审核中", "In review"),
    State.AWAITING_EVIDENCE: ("等待补正材料", "Waiting for evidence"),
    State.RETRIEVING_ORIGINAL: ("正在调取原件", "Fetching the original"),
    State.ISSUING: ("正在出证", "Being issued"),
    State.ISSUED: ("已出证，待送达", "Issued, to be delivered"),
    State.DELIVERED: ("已送达", "Delivered"),
    State.REFUSED: ("不予提供", "Refused"),
    State.NO_RECORD: ("查无档案记载", "No record held"),
    State.WITHDRAWN: ("已撤回", "Withdrawn"),
    State.EXPIRED: ("已终止", "Ended without an answer"),
}


def case_body(
    case: Case, clock: Minutes | None, language: str, estimate_s: float | None = None
) -> dict[str, Any]:
    """One case as its caller sees it."""
    word = STATE_WORDS[case.state]
    body: dict[str, Any] = {
        "id": case.id,
        "version": case.version,
        "state": case.state.value,
        "status": word[1] if language == "en" else word[0],
        "created": when(case.created_ms),
        "deadline": when(case.deadline_ms),
        "is_ended": case.state in ENDED,
        "links": links(case),
    }
    if case.forgotten_ms:
        body["forgotten"] = when(case.forgotten_ms)
    if case.state not in ENDED:
        body["stage"] = {"name": case.stage.value, "deadline": when(case.stage_deadline_ms)}
    if clock is not None:
        body["clock"] = clock_body(clock, is_paused=case.is_paused)
    if estimate_s is not None:
        body["estimated_minutes"] = round(estimate_s / 60, 1)
    if case.outcomes:
        body["completeness"] = {
            "verdict": case.verdict,
            "round": case.round,
            "outcomes": [{"archive": key, "outcome": value} for key, value in sorted(case.outcomes.items())],
            "gaps": [
                {
                    key: value
                    for key, value in gap.items()
                    if value and key in {"archive", "outcome", "reason"}
                }
                for gap in case.gaps
            ],
        }
    if case.state is State.AWAITING_SELECTION:
        body["candidates"] = [
            {
                "ref": one.ref,
                "archive": one.archive,
                "name": one.name,
                "other_name": one.other_name or None,
                "year": one.year or None,
                "score": round(one.score, 1),
                "level": one.level,
                "decision": one.decision,
                "explanation": _said((one.explanation, one.explanation_en or one.explanation), language),
                "copies": list(one.copies),
            }
            for one in case.candidates
        ]
    body |= {key: value for key, value in (("holder", case.holder), ("deputy", case.deputy)) if value}
    if case.wanted and (case.state is State.AWAITING_EVIDENCE or case.reason == "evidence_not_given"):
        body["evidence_wanted"] = [
            {"kind": kind, "text": _said(EVIDENCE_KINDS.get(kind), language) or kind} for kind in case.wanted
        ]
    if case.reason:
        text = REFUSAL_REASONS.get(case.reason) or _OTHER_REASONS.get(case.reason)
        body["reason"] = case.reason
        body["detail"] = _said(text, language) or case.reason
    if case.awaits_note:
        body["noting"] = case.noting
    if case.decision and case.state in WITH_DOCUMENT:
        body["decision"] = {"archive": case.issuer, **decided(case)}
    return body


def decided(case: Case) -> dict[str, str]:
    """The numbers and references of what was issued; with the time its credential was signed, when that is not the first."""
    said = {key: str(value) for key, value in case.decision.items()}
    return said | ({"signed_anew": when(case.signed_anew_ms)} if case.signed_anew_ms else {})


def _said(text: tuple[str, str] | None, language: str) -> str:
    if text is None:
        return ""
    return text[1] if language == "en" else text[0]


def links(case: Case) -> dict[str, str]:
    """What the caller can do next."""
    own = f"/v1/cases/{case.id}"
    found = {"self": own, "events": f"{own}/events"}
    match case.state:
        case State.AWAITING_SELECTION:
            found["selection"] = f"{own}/selection"
        case State.AWAITING_EVIDENCE:
            found["evidence"] = f"{own}/evidence"
        case State.ISSUED | State.DELIVERED | State.NO_RECORD:
            found["document"] = f"{own}/document"
            if case.decision.get("credential"):
                found["credential"] = f"{own}/credential"
    if case.state not in ENDED:
        found["withdrawal"] = f"{own}/withdrawal"
    return found


def clock_body(clock: Minutes, *, is_paused: bool) -> dict[str, Any]:
    """The clock in seconds: what counts, what was paused, the stages, the holder's service hours beside it."""
    body: dict[str, Any] = {
        "target_s": clock.target_s,
        "counted_s": round(clock.counted_s, 3),
        "paused_s": round(clock.paused_s, 3),
        "wall_s": round(clock.wall_s, 3),
        "stages_s": {stage: round(seconds, 3) for stage, seconds in clock.stages.items()},
        "is_paused": is_paused,
        "is_stopped": clock.stopped_ms is not None,
        "is_met": clock.is_met,
    }
    if clock.service_s is not None:
        body["service_s"] = round(clock.service_s, 3)
    return body


def event_body(entry: Entry) -> dict[str, Any]:
    """One journal line."""
    return {
        "seq": entry.seq,
        "at": when(entry.at_ms),
        "event": entry.kind.value,
        "actor": entry.actor,
        "state": entry.state.value,
        "stage": entry.stage,
        "data": entry.data,
    }


def scorecard_body(archive: str, card: Scorecard, days: int, connected: bool) -> dict[str, Any]:
    return {
        "archive": archive,
        "days": days,
        "connected": connected,
        "cases": card.cases,
        "withdrawn": card.withdrawn,
        "overdue": card.overdue,
        "open": card.open,
        "unreadable": card.unreadable,
        "availability": {
            "share": None if card.available_share is None else round(card.available_share, 4),
            "watched_s": round(card.watched_s),
        },
        "met_share": None if card.met_share is None else round(card.met_share, 4),
        "mean_s": {scope: round(seconds, 1) for scope, seconds in card.mean_s.items()},
        "stages": {
            stage: {
                "mean_s": round(one.mean_s, 1),
                "p50_s": round(one.p50_s, 1),
                "p90_s": round(one.p90_s, 1),
            }
            for stage, one in card.stages.items()
        },
    }
