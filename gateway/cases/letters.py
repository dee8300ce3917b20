"""Letters: what a case's messages to and from review desks say, as pure functions over federation/mail.py."""

from __future__ import annotations

from datetime import datetime
from itertools import takewhile
from typing import Any

import msgspec

from federation import mail
from federation.documents import CHINA
from federation.names import fold, surname_alternatives
from federation.outcome import Outcome
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
        case "note":
            return _note(case, group, seq, policy)
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


def _note(case: Case, group: int, seq: int, policy: Policy) -> mail.Note:
    """The order of the note that no record is held. All of it was fixed when the case ended: said again, it is the same.

    Archives outside the scope that was asked for are not named: the note speaks of those it names and of no other.
    """
    request = case.request
    subject = msgspec.convert(request.get("subject", {}), mail.Subject)
    event = request.get("event") or {}
    years = [int(str(event[end])[:4]) for end in ("from", "to") if event.get(end)]
    category = str(request.get("category", ""))
    return mail.Note(
        group,
        seq=seq,
        category=category,
        purpose=str(request.get("purpose", "")),
        subject=subject,
        name_forms=_name_forms(subject.name),
        archives=tuple(
            _searched(one, case.outcomes.get(one, Outcome.NOT_ASKED.value), said, policy, category)
            for one, said in sorted(case.searched.items())
        ),
        searched_on=datetime.fromtimestamp(case.ended_ms / 1000, CHINA).date().isoformat(),
        years=(years[0], years[-1]) if years else (),
        wishes=wishes_of(request),
    )


def _searched(archive: str, outcome: str, said: str, policy: Policy, category: str) -> mail.Searched:
    name = policy.names.get(archive, archive)
    if outcome == Outcome.NOT_ASKED:
        return mail.Searched(archive, name, outcome, reason=said)
    return mail.Searched(archive, name, outcome, holdings=(category,), index_date=said)


def _name_forms(name: str) -> tuple[str, ...]:
    """The name as it was asked, its representative form, and that under the other spellings of the surname: what the
    matching takes for the same name without a further look.
    """
    folded = fold(name)
    return tuple(dict.fromkeys((name, folded, *surname_alternatives(folded))))


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
    if (paper := data.pop("paper", None)) is not None:  # where its status stands is the register's
        data["short_code"] = paper["short_code"]
    if not data.get("ago_ms"):
        data.pop("ago_ms", None)
    if kind is Kind.REFUSED and data["reason"] not in mail.REFUSAL_REASONS:
        data["reason"] = "out_of_scope"
    if kind is Kind.EVIDENCE_WANTED:
        data["items"] = [item if item in mail.EVIDENCE_KINDS else "other" for item in data["items"]]
    return Event(kind, archive, data)


NEWS_ONLY = frozenset({Kind.RECEIVED, Kind.CLAIMED, Kind.RELEASED, Kind.RETRIEVING, Kind.RETRIEVED})
"""Events that decide nothing: arriving too late they are simply old news, and the desk need not hear of it."""
