"""Items, records and actions as the desk's people see them: unmasked, inside the archive. One form for pages and commands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from federation.categories import CATEGORIES, PURPOSES
from federation.mail import EVIDENCE_KINDS, REFUSAL_REASONS, Proof
from node_agent.desk.desk import judgement_of, request_of
from node_agent.desk.items import DECIDED, OPEN, Action, Item, State
from node_agent.desk.records import Holding

STATE_WORDS: dict[State, tuple[str, str]] = {
    State.WAITING: ("待受理", "waiting"),
    State.CLAIMED: ("审核中", "in review"),
    State.AWAITING_EVIDENCE: ("待补正材料", "waiting for evidence"),
    State.RETRIEVING: ("调取原件中", "fetching the original"),
    State.APPROVED: ("已同意", "approved"),
    State.ISSUING: ("出证中", "being issued"),
    State.ISSUED: ("已出证", "issued"),
    State.REFUSED: ("不予提供", "refused"),
    State.REFERRED: ("已转出", "referred"),
    State.CLOSED: ("已关闭", "closed"),
}


def when(ms: int) -> str | None:
    """A time as RFC 3339 in UTC; None = not yet."""
    if not ms:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def item_body(item: Item, language: str, now_ms: int) -> dict[str, Any]:
    """One item of the queue. `left_s` is what is left of the stage that runs, below zero when it is late."""
    request = request_of(item)
    until = item.review_until_ms if item.state is State.CLAIMED else item.pick_up_until_ms
    body: dict[str, Any] = {
        "case": item.case_id,
        "version": item.version,
        "state": item.state.value,
        "status": _word(STATE_WORDS[item.state], language),
        "received": when(item.received_ms),
        "target_until": when(item.target_until_ms),
        "escalated": item.rung,
    }
    if item.state in OPEN:
        body["until"] = when(until)
        body["left_s"] = (until - now_ms) // 1000 if until else None
    if item.reviewer:
        body |= {"reviewer": item.reviewer, "lease_until": when(item.lease_until_ms)}
    if request is not None:
        category = CATEGORIES.get(request.category)
        body |= {
            "category": request.category,
            "category_name": category.name.in_language(language) if category else request.category,
            "name": request.subject.name,
            "window": request.window,
        }
    if item.on_behalf_of:
        body["on_behalf_of"] = item.on_behalf_of
    if item.state in DECIDED or item.state is State.CLOSED:
        body |= {"decided": when(item.decided_ms), "decided_by": item.decided_by or None}
    for key in ("number", "archival_code", "rule", "document", "reason"):
        if value := getattr(item, key):
            body[key] = value
    if item.reason in REFUSAL_REASONS:
        body["reason_text"] = _word(REFUSAL_REASONS[item.reason], language)
    return body


def case_body(item: Item, holding: Holding | None, language: str, now_ms: int) -> dict[str, Any]:
    """One item with the request beside the record, and what the release rule said of it."""
    body = item_body(item, language, now_ms)
    request = request_of(item)
    if request is not None:
        purpose = PURPOSES.get(request.purpose)
        body["request"] = {
            "purpose": request.purpose,
            "purpose_name": purpose.in_language(language) if purpose else request.purpose,
            "relation": request.relation,
            "subject": msgspec.to_builtins(request.subject),
            "event": dict(request.event),
            "described": msgspec.to_builtins(request.described),
            "passed": list(request.passed),
            "decision": request.decision,
            "score": round(request.score, 1),
        }
    body["proofs"] = [
        {
            "kind": proof.kind,
            "text": _word(EVIDENCE_KINDS.get(proof.kind, (proof.kind, proof.kind)), language),
            "digest": proof.digest,
            "note": proof.note,
        }
        for proof in msgspec.json.decode(item.proofs, type=list[Proof])
    ]
    body["record"] = holding.shown(language) if holding is not None else None
    judgement = judgement_of(item)
    if judgement is not None:
        body["release"] = {
            "rule": judgement.rule,
            "released": judgement.released,
            "failed": list(judgement.failed),
            "text": judgement.explained(language),
        }
    return body


def action_body(action: Action) -> dict[str, Any]:
    """One line of what was done."""
    return {
        "seq": action.seq,
        "at": when(action.at_ms),
        "case": action.case_id,
        "actor": action.actor,
        "action": action.action,
        "state": action.state,
        "version": action.version,
        "detail": action.detail,
    }


def words_body(language: str) -> dict[str, Any]:
    """The closed lists a reviewer chooses from."""
    return {
        "refusal_reasons": [
            {"key": key, "text": _word(text, language)} for key, text in REFUSAL_REASONS.items()
        ],
        "evidence_kinds": [
            {"key": key, "text": _word(text, language)} for key, text in EVIDENCE_KINDS.items()
        ],
        "states": [{"key": key.value, "text": _word(text, language)} for key, text in STATE_WORDS.items()],
    }


def _word(texts: tuple[str, str], language: str) -> str:
    return texts[1] if language == "en" else texts[0]
