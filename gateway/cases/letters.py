"""Letters: what a case's messages to and from review desks say, as pure functions over federation/mail.py."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import msgspec

from federation import mail
from gateway.cases.case import Case, Event
from gateway.cases.policy import Policy
from gateway.cases.states import Kind, Stage


def to_desk(
    case: Case, payload: dict[str, Any], now_ms: int, policy: Policy, archive: str = ""
) -> mail.ToDesk:
    """The message to `archive` that a mail task orders, as of now: remaining times, never clock times. All else is the
    same however late it is sent again, because both sides' evidence logs hold its digest.
    """
    group, seq = int(payload["group"]), int(payload.get("seq", 0))
    match payload["message"]:
        case "dispatch":
            return _dispatch(case, payload, group, seq, now_ms, policy, archive)
        case "taken":
            return mail.Taken(group, seq=seq, by=str(payload.get("by", "")))
        case "withdrawn":
            return mail.Withdrawn(group, seq=seq, reason=case.reason)
        case "evidence":
            return mail.Evidence(group, seq=seq, proofs=_proofs(payload.get("evidence", [])))
        case "issue":
            return mail.Issue(
                group, seq=seq, by=str(payload.get("by", "")), ref=own_ref(str(payload.get("ref", "")))
            )
        case level:
            return mail.Nudge(
                group,
                seq=seq,
                level=str(level),
                stage=str(payload.get("stage", "")),
                left_ms=case.stage_deadline_ms - now_ms,
            )


def _dispatch(
    case: Case, payload: dict[str, Any], group: int, seq: int, now_ms: int, policy: Policy, archive: str
) -> mail.Dispatch:
    request = case.request
    ref = str(payload.get("ref", ""))
    found = next((one for one in case.candidates if one.ref == ref), None)
    budgets = policy.budgets(case.window, case.holder)
    return mail.Dispatch(
        group,
        seq=seq,
        ref=own_ref(ref),
        category=str(request.get("category", "")),
        purpose=str(request.get("purpose", "")),
        relation=str(request.get("applicant", {}).get("relation", "")),
        subject=msgspec.convert(request.get("subject", {}), mail.Subject),
        event={key: str(value) for key, value in (request.get("event") or {}).items()},
        described=mail.Described(found.name, found.other_name, found.year, found.level, found.explanation)
        if found
        else mail.Described(),
        window=case.window,
        pick_up_ms=case.stage_deadline_ms - now_ms,
        review_ms=budgets.of(Stage.REVIEW) * 1000,
        target_ms=case.deadline_ms - now_ms,
        on_behalf_of=str(payload.get("on_behalf_of", "")),
        passed=_passed_before(case, {archive, str(payload.get("on_behalf_of", ""))}),
        decision=found.decision if found else "",
        score=found.score if found else 0.0,
        wishes=wishes_of(request),
    )


def wishes_of(request: dict[str, Any]) -> mail.Wishes:
    """How the applicant wants the document, from the request as the case keeps it."""
    delivery = request.get("delivery", {})
    return mail.Wishes(
        holder_keys=tuple(delivery.get("holder_keys", ())),
        delivery_key=delivery.get("public_key", {}),
        english=delivery.get("language") == "en",
        request_digest=str(request.get("digest", "")),
    )


def _passed_before(case: Case, asked: set[str]) -> tuple[str, ...]:
    """Who had referred the case on when these were asked; they may have done so themselves since."""
    return tuple(takewhile(lambda one: one not in asked, case.passed))


def own_ref(ref: str) -> str:
    """A candidate's reference as its archive wrote it: without the archive's code in front."""
    return ref.partition(".")[2]


def _proofs(given: Any) -> tuple[mail.Proof, ...]:
    return tuple(msgspec.convert(given, list[mail.Proof]))


_KINDS: dict[type, Kind] = {
    mail.Received: Kind.RECEIVED,
    mail.Claimed: Kind.CLAIMED,
    mail.Released: Kind.RELEASED,
    mail.Approved: Kind.APPROVED,
    mail.Refused: Kind.REFUSED,
    mail.EvidenceWanted: Kind.EVIDENCE_WANTED,
    mail.Retrieving: Kind.RETRIEVING,
    mail.Retrieved: Kind.RETRIEVED,
    mail.Referred: Kind.REFERRED,
    mail.Issued: Kind.ISSUED,
}


def from_desk(archive: str, message: mail.FromDesk) -> Event:
    """What a desk's message does to the case. Words of closed lists that nobody knows become `other`."""
    kind = _KINDS[type(message)]
    data = msgspec.to_builtins(message)
    data.pop("kind", None)
    if not data.get("ago_ms"):
        data.pop("ago_ms", None)
    if kind is Kind.REFUSED and data["reason"] not in mail.REFUSAL_REASONS:
        data["reason"] = "out_of_scope"
    if kind is Kind.EVIDENCE_WANTED:
        data["items"] = [item if item in mail.EVIDENCE_KINDS else "other" for item in data["items"]]
    return Event(kind, archive, data)


NEWS_ONLY = frozenset({Kind.RECEIVED, Kind.CLAIMED, Kind.RELEASED, Kind.RETRIEVING, Kind.RETRIEVED})
"""Events that decide nothing: arriving too late they are simply old news, and the desk need not hear of it."""
