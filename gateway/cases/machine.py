"""One event applied to one case: a pure function of the case, the event, the time and the rules.

It changes the case in place and says what to write beside it. Nothing here reads a clock, a database or a network, so
that replaying a journal gives the same case and every rule can be tested by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from federation.reasons import Reason, Refusal
from gateway.cases import asking, due
from gateway.cases.case import Case, Effects, Event, Found
from gateway.cases.policy import Policy
from gateway.cases.states import TRANSITIONS, Kind, State
from gateway.cases.step import Step

TICK = Event(Kind.WARNED, "clock")
"""Asks what is due by now; the answer is warned, escalated, deputised, breached, expired, several of them or nothing."""

_HOLDER_ONLY = frozenset({Kind.REFERRED, Kind.ISSUED, Kind.RETRIEVING, Kind.RETRIEVED})
_FROM_DESKS = _HOLDER_ONLY | {
    Kind.RECEIVED, Kind.CLAIMED, Kind.RELEASED, Kind.APPROVED, Kind.REFUSED, Kind.EVIDENCE_WANTED
}  # fmt: skip


def apply(case: Case, event: Event, now_ms: int, policy: Policy) -> Effects:
    """Apply `event`; Refusal(ILLEGAL_TRANSITION) leaves the case as it was. A tick that finds nothing due does nothing."""
    step = Step(case, max(now_ms, case.last_ms), policy)
    if event.kind is Kind.WARNED:
        due.tick(step)
        return step.effects
    allowed = TRANSITIONS.get((case.state, event.kind))
    if allowed is None or (event.kind is Kind.DELIVERED and case.delivered_ms):
        raise Refusal(Reason.ILLEGAL_TRANSITION)
    if event.kind in _FROM_DESKS and not _may_speak(case, event):
        raise Refusal(Reason.WRONG_ARCHIVE)
    if event.kind in _FROM_DESKS and event.data.get("group", case.group) != case.group:
        raise Refusal(Reason.ILLEGAL_TRANSITION)  # it speaks of an older question
    handler = _HANDLERS.get(event.kind)
    if handler is None:  # only the clock says these, by itself
        raise Refusal(Reason.ILLEGAL_TRANSITION)
    handler(step, event)
    if case.state not in allowed:
        raise AssertionError(f"{event.kind} led to {case.state}, which the table does not allow")
    due.finish(step)
    return step.effects


def _may_speak(case: Case, event: Event) -> bool:
    if case.state is State.NO_RECORD:
        return event.actor == case.noting
    if event.kind in _HOLDER_ONLY:
        return event.actor == case.holder
    return event.actor in {case.holder, case.deputy} - {""}


# handlers: one for each event ----------------------------------------------------------------------------------


def _accepted(step: Step, event: Event) -> None:
    case = step.case
    budgets = step.policy.budgets(case.window, str(event.data.get("expected_holder", "")))
    case.target_s = budgets.target
    case.created_ms = step.now  # the clock starts when the case is durable, not when the request was read
    case.deadline_ms = step.now + budgets.target * 1000
    case.stage_began_ms = case.entered_ms = step.now
    step.enter(State.LOCATING)
    step.budget()
    step.note(
        Kind.ACCEPTED,
        event.actor,
        {"category": str(case.request.get("category", "")), "target_s": case.target_s},
    )
    step.search([])


def _received(step: Step, event: Event) -> None:
    step.note(Kind.RECEIVED, event.actor, {"archive": event.actor})


def _claimed(step: Step, event: Event) -> None:
    case = step.case
    if case.deciding and case.deciding != event.actor:
        raise Refusal(Reason.TAKEN)  # the other desk was first; it is told below when it claims or decides
    case.deciding = event.actor
    step.enter(State.IN_REVIEW)
    step.note(Kind.CLAIMED, event.actor)
    step.release_other(event.actor)


def _released(step: Step, event: Event) -> None:
    """Back to the queue: picking up begins anew, the case's own clock runs on."""
    case = step.case
    if case.deciding != event.actor:
        raise Refusal(Reason.TAKEN)
    case.deciding = ""
    step.enter(State.DISPATCHED)
    step.note(Kind.RELEASED, event.actor)
    if case.deputy:  # the other desk was told that it was taken: it may take it again
        if event.actor == case.deputy:
            step.mail(case.holder, "dispatch", ref=case.selected)
        else:
            step.mail(case.deputy, "dispatch", ref=case.selected, on_behalf_of=case.holder)


def _approved(step: Step, event: Event) -> None:
    case = step.case
    step.resume()
    case.decision = {
        key: event.data[key] for key in ("archival_code", "rule", "number") if event.data.get(key)
    }
    had = case.deciding
    case.deciding = event.actor
    step.enter(State.ISSUING)
    step.note(
        Kind.APPROVED, event.actor, {"rule": event.data.get("rule", "")} if event.data.get("rule") else {}
    )
    if had != event.actor:  # who took it had the other desk told then
        step.release_other(event.actor)
    if event.actor != case.holder:
        step.mail(case.holder, "issue", ref=case.selected, by=event.actor)


def _refused(step: Step, event: Event) -> None:
    case = step.case
    step.resume()
    case.reason = str(event.data.get("reason", ""))
    step.enter(State.REFUSED)
    step.note(Kind.REFUSED, event.actor, {"reason": case.reason})
    step.release_other(event.actor)


def _evidence_wanted(step: Step, event: Event) -> None:
    case = step.case
    if case.deciding and case.deciding != event.actor:
        raise Refusal(Reason.TAKEN)
    had = case.deciding
    case.wanted = [str(item) for item in event.data.get("items", [])]
    case.deciding = event.actor
    step.enter(State.AWAITING_EVIDENCE)
    step.pause()
    step.note(Kind.EVIDENCE_WANTED, event.actor, {"items": case.wanted})
    if not had:
        step.release_other(event.actor)


def _evidence_given(step: Step, event: Event) -> None:
    case = step.case
    step.resume()
    case.wanted = []
    step.enter(State.IN_REVIEW)
    step.note(Kind.EVIDENCE_GIVEN, event.actor, {"items": event.data.get("items", [])})
    step.mail(case.deciding or case.holder, "evidence", evidence=event.data.get("evidence", []))


def _retrieving(step: Step, event: Event) -> None:
    step.enter(State.RETRIEVING_ORIGINAL)
    if event.data.get("pauses"):
        step.pause()
    step.note(Kind.RETRIEVING, event.actor, {"pauses": bool(event.data.get("pauses"))})


def _retrieved(step: Step, event: Event) -> None:
    step.resume()
    step.enter(State.IN_REVIEW)
    step.note(Kind.RETRIEVED, event.actor)


def _referred(step: Step, event: Event) -> None:
    """On to another holder, with the history. Never back to one that passed it on."""
    case = step.case
    to = str(event.data["archive"])
    if to == case.holder or to in case.passed:
        raise Refusal(Reason.REFERRED_IN_A_CIRCLE)
    if step.policy.members and to not in step.policy.members:
        raise Refusal(Reason.NOT_A_MEMBER)  # nobody there would ever answer: it stays with this desk
    step.resume()
    others, group = {case.holder, case.deputy} - {"", event.actor}, case.group
    case.passed.append(case.holder)
    known = next((one for one in case.candidates if one.archive == to), None)
    step.dispatch(known or Found("", to, 0.0, "possible"), Kind.REFERRED, event.actor)
    for archive in sorted(others):
        # after the note, which makes the identifier a new one; about the old question
        step.mail(archive, "taken", by=event.actor, group=group)


def _issued(step: Step, event: Event) -> None:
    case = step.case
    if case.state is State.NO_RECORD and case.decision:
        raise Refusal(Reason.ILLEGAL_TRANSITION)  # there is one note over one search
    told = {key: str(value) for key, value in event.data.items() if value and key not in {"group", "ago_ms"}}
    case.decision = {**case.decision, **told}
    if case.state is not State.NO_RECORD:
        step.enter(State.ISSUED)
    step.note(Kind.ISSUED, event.actor)


def _delivered(step: Step, event: Event) -> None:
    step.case.delivered_ms = step.now
    if step.case.state is State.ISSUED:
        step.enter(State.DELIVERED)
    step.stop()
    step.note(Kind.DELIVERED, event.actor, {"by": str(event.data.get("by", ""))})


def _signed_anew(step: Step, event: Event) -> None:
    """From now on the caller gets the new one. The journal keeps what the digest was that the caller may have been told before."""
    case, number = step.case, str(event.data.get("number", ""))
    credential, signed_ms = str(event.data.get("credential", "")), int(event.data.get("signed_ms", 0))
    if not case.is_succeeded(event.actor, number, credential, signed_ms):
        raise Refusal(Reason.ILLEGAL_TRANSITION)
    before = case.decision["credential"]
    case.decision = {**case.decision, "credential": credential}
    case.signed_anew_ms = signed_ms
    step.note(Kind.SIGNED_ANEW, event.actor, {"credential": credential, "before": before})


def _withdrawn(step: Step, event: Event) -> None:
    step.resume()
    step.enter(State.WITHDRAWN)
    step.stop()
    step.note(Kind.WITHDRAWN, event.actor)


_HANDLERS: dict[Kind, Callable[[Step, Event], None]] = {
    Kind.ACCEPTED: _accepted,
    Kind.LOCATED: asking.located,
    Kind.SELECTED: asking.selected,
    Kind.NONE_FITS: asking.none_fits,
    Kind.RECEIVED: _received,
    Kind.CLAIMED: _claimed,
    Kind.RELEASED: _released,
    Kind.APPROVED: _approved,
    Kind.REFUSED: _refused,
    Kind.EVIDENCE_WANTED: _evidence_wanted,
    Kind.EVIDENCE_GIVEN: _evidence_given,
    Kind.RETRIEVING: _retrieving,
    Kind.RETRIEVED: _retrieved,
    Kind.REFERRED: _referred,
    Kind.ISSUED: _issued,
    Kind.DELIVERED: _delivered,
    Kind.SIGNED_ANEW: _signed_anew,
    Kind.WITHDRAWN: _withdrawn,
}
