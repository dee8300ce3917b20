"""One event applied to one case: a pure function of the case, the event, the time and the rules.

It changes the case in place and says what to write beside it. Nothing here reads a clock, a database or a network, so
that replaying a journal gives the same case and every rule can be tested by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from federation.reasons import Reason, Refusal
from gateway.cases.case import HOOK, MAIL, SEARCH, Case, Effects, Entry, Event, Found, Stopped, Task
from gateway.cases.choice import clear_choice, merge
from gateway.cases.policy import Policy
from gateway.cases.states import ENDED, TRANSITIONS, Kind, Stage, State

RETRIABLE = frozenset({"timeout", "unreachable", "overloaded", "circuit_open", "stale", "bad_answer"})
"""Outcomes that asking again may better: an import or a restart mends the last two. A refusal or an unsupported question
will not change by itself.
"""

_FACTS = frozenset({"hit", "empty"})
"""Outcomes by which an archive has answered for good."""

_HOLDER_ONLY = frozenset({Kind.REFERRED, Kind.ISSUED, Kind.RETRIEVING, Kind.RETRIEVED})
_FROM_DESKS = _HOLDER_ONLY | {
    Kind.RECEIVED, Kind.CLAIMED, Kind.RELEASED, Kind.APPROVED, Kind.REFUSED, Kind.EVIDENCE_WANTED
}  # fmt: skip


def apply(case: Case, event: Event, now_ms: int, policy: Policy) -> Effects:
    """Apply `event`; Refusal(ILLEGAL_TRANSITION) leaves the case as it was. A tick that finds nothing due does nothing."""
    step = _Step(case, max(now_ms, case.last_ms), policy)
    if event.kind is Kind.WARNED:
        step.tick()
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
    step.finish()
    return step.effects


TICK = Event(Kind.WARNED, "clock")
"""Asks what is due by now; the answer is warned, escalated, deputised, breached, expired, several of them or nothing."""


def _may_speak(case: Case, event: Event) -> bool:
    if case.state is State.NO_RECORD:
        return event.actor == case.noting
    if event.kind in _HOLDER_ONLY:
        return event.actor == case.holder
    return event.actor in {case.holder, case.deputy} - {""}


class _Step:
    """One application: the case being changed and what is written beside it."""

    def __init__(self, case: Case, now_ms: int, policy: Policy) -> None:
        self.case, self.now, self.policy = case, now_ms, policy
        self.effects = Effects()

    # writing ---------------------------------------------------------------------------------------------------

    def note(self, kind: Kind, actor: str, data: dict[str, Any] | None = None) -> None:
        """One journal line, after the change it speaks of; a platform that wants calls gets one."""
        case = self.case
        case.version += 1
        case.last_ms = self.now
        entry = Entry(case.version, self.now, kind, actor, case.state, case.stage.value, data or {})
        self.effects.entries.append(entry)
        if case.has_hook:
            self.task(
                HOOK,
                case.client,
                {"seq": case.version, "kind": kind.value, "state": case.state.value, "at": self.now},
            )

    def task(
        self, kind: str, target: str, payload: dict[str, Any], *, after_s: float = 0.0, key: str = ""
    ) -> None:
        case = self.case
        identifier = f"{case.id}:{kind}:{key or case.version}:{'' if kind == SEARCH else target}"
        due = self.now + int(after_s * 1000)
        self.effects.tasks.append(Task(identifier, case.id, kind, target, due, payload))

    def mail(self, archive: str, message: str, **data: Any) -> None:
        """A message to an archive's desk; what it needs of the request is added when it is sent."""
        self.task(
            MAIL,
            archive,
            {"message": message, "group": self.case.group, "seq": self.case.version, **data},
            key=f"{message}.{self.case.version}",
        )

    def enter(self, state: State) -> None:
        """Move, and set the new stage's budget when one began."""
        case = self.case
        stage, began = case.stage, case.stage_began_ms
        if case.enter(state, self.now):
            self.leave(stage, began)
            self.budget()

    def leave(self, stage: Stage, began_ms: int) -> None:
        """A stage has ended; a case may come back to it, then its times add up."""
        length = self.now - began_ms
        self.effects.left.append((stage.value, length))
        spent = self.case.spent_ms
        self.case.spent_ms = {**spent, stage.value: spent.get(stage.value, 0) + length}

    def budget(self) -> None:
        case = self.case
        budget = self.policy.budgets(case.window, case.holder).of(case.stage)
        case.stage_deadline_ms = case.stage_began_ms + budget * 1000

    def finish(self) -> None:
        """Order the next look of the clock."""
        case = self.case
        if case.state in ENDED and not case.ended_ms:
            case.ended_ms = self.now
            self.effects.ends_search = True
            for archive in {case.holder, case.deputy} - {""}:
                if case.state is State.WITHDRAWN:
                    self.mail(archive, "withdrawn")
        case.wake_at_ms = 0 if case.state in ENDED else self._next_wake()

    def stop(self) -> None:
        """The clock stops now."""
        case = self.case
        counted = case.counted_ms(self.now)
        if case.state is State.WITHDRAWN:
            outcome = "withdrawn"
        else:
            outcome = "met" if counted <= case.target_s * 1000 else "late"
            self.leave(case.stage, case.stage_began_ms)
        case.stopped_ms = self.now
        scope = "in_city" if case.target_s == self.policy.in_city.target else "cross_city"
        self.effects.stopped = Stopped(outcome, scope, counted)

    def _next_wake(self) -> int:
        case = self.case
        if case.is_paused:
            return min(case.paused_since_ms + self.policy.evidence_patience_s * 1000, self._last_day())
        times = [self._last_day()]
        rungs = self.policy.ladders[case.stage]
        if case.ladder < len(rungs):
            times.append(self._rung_at(rungs[case.ladder].share))
        if not case.is_breached:
            times.append(case.deadline_ms)
        if case.state is State.AWAITING_SELECTION:
            times.append(case.entered_ms + self.policy.selection_patience_s * 1000)
        return min(times)

    def _last_day(self) -> int:
        return self.case.created_ms + self.policy.longest_case_s * 1000

    def _rung_at(self, share: float) -> int:
        case = self.case
        return case.stage_began_ms + int((case.stage_deadline_ms - case.stage_began_ms) * share)

    # the clock -------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Whatever is due by now."""
        case = self.case
        if case.state in ENDED or not case.wake_at_ms or self.now < case.wake_at_ms:
            return
        if case.is_paused:
            is_evidence = case.state is State.AWAITING_EVIDENCE
            self._give_up("evidence_not_given" if is_evidence else "original_not_retrieved")
        elif (
            case.state is State.AWAITING_SELECTION
            and self.now >= case.entered_ms + self.policy.selection_patience_s * 1000
        ):
            self._give_up("not_selected")
        elif self.now >= self._last_day():
            self._give_up("not_fetched" if case.state is State.ISSUED else "not_decided")
        else:
            self._climb()
            if not case.is_breached and self.now >= case.deadline_ms:
                case.is_breached = True
                self.note(Kind.BREACHED, "clock", {"stage": case.stage.value})
                if case.state is State.LOCATING:
                    self._give_up("search_incomplete")
        self.finish()

    def _give_up(self, reason: str) -> None:
        case = self.case
        self.resume()
        case.reason = reason
        was_issued = case.state is State.ISSUED
        self.enter(State.EXPIRED)
        for archive in sorted({case.holder, case.deputy} - {""}):
            if not was_issued:  # there is nothing left to decide
                self.mail(archive, "withdrawn")
        self.note(Kind.EXPIRED, "clock", {"reason": reason, "missing": [gap["archive"] for gap in case.gaps]})

    def _climb(self) -> None:
        case = self.case
        rungs = self.policy.ladders[case.stage]
        while case.ladder < len(rungs) and self.now >= self._rung_at(rungs[case.ladder].share):
            rung = rungs[case.ladder]
            case.ladder += 1
            data = {"stage": case.stage.value, "share": rung.share}
            match rung.action:
                case "warn":
                    self.note(Kind.WARNED, "clock", data)
                    self._tell_desk("warn")
                case "deputy":
                    self._deputise()
                case action:
                    self.note(
                        Kind.ESCALATED,
                        "clock",
                        {**data, "to": "operator" if action == "operator" else "lead"},
                    )
                    if action == "escalate":
                        self._tell_desk("escalate")

    def _tell_desk(self, message: str) -> None:
        case = self.case
        if case.stage in {Stage.PICK_UP, Stage.REVIEW, Stage.ISSUE} and case.holder:
            self.mail(case.deciding or case.holder, message, stage=case.stage.value)

    def _deputise(self) -> None:
        """Ask the holder's deputy archive to review too; whoever decides first decides. Once for each holder."""
        case = self.case
        deputy = self.policy.deputies.get(case.holder, "")
        if deputy and not case.deputy and deputy not in case.passed and case.state is State.DISPATCHED:
            case.deputy = deputy
            self.note(Kind.DEPUTISED, "clock", {"archive": deputy, "for": case.holder})
            self.mail(deputy, "dispatch", ref=case.selected, on_behalf_of=case.holder)

    def pause(self) -> None:
        self.case.paused_since_ms = self.now

    def resume(self) -> None:
        """Deadlines move by the length of the pause."""
        case = self.case
        if case.is_paused:
            length = self.now - case.paused_since_ms
            case.paused_since_ms = 0
            case.deadline_ms += length
            case.stage_began_ms += length
            case.stage_deadline_ms += length

    # what several events do ------------------------------------------------------------------------------------

    def search(self, archives: list[str], after_s: float = 0.0) -> None:
        """Order a round of asking; none named = everyone in scope."""
        case = self.case
        case.round += 1
        # the target names whom it waits for, so that the return of one of them makes it due
        self.task(
            SEARCH,
            " ".join(archives),
            {"archives": archives, "round": case.round},
            after_s=after_s,
            key=str(case.round),
        )

    def dispatch(self, found: Found, kind: Kind, actor: str) -> None:
        """Send the case to the archive that holds the chosen record, exactly once for each new question."""
        case = self.case
        case.selected, case.holder, case.deputy, case.deciding = found.ref, found.archive, "", ""
        case.group += 1
        budgets = self.policy.budgets(case.window, case.holder)
        if budgets.target != case.target_s:
            case.deadline_ms += (budgets.target - case.target_s) * 1000
            case.target_s = budgets.target
        restarted = case.state is State.DISPATCHED
        self.enter(State.DISPATCHED)
        if restarted:
            self.leave(case.stage, case.stage_began_ms)
            case.stage_began_ms, case.ladder = self.now, 0
            self.budget()
        self.effects.ends_search = True
        self.note(
            kind,
            actor,
            {
                "archive": found.archive,
                "target_s": case.target_s,
                "group": case.group,
                "revision": case.round,
            },
        )
        self.mail(found.archive, "dispatch", ref=found.ref)

    def release_other(self, decided_by: str) -> None:
        """Tell the desk that lost the race that it need not decide."""
        case = self.case
        for archive in {case.holder, case.deputy} - {"", decided_by}:
            self.mail(archive, "taken", by=decided_by)


# Handlers: one for each event ----------------------------------------------------------------------------------


def _accepted(step: _Step, event: Event) -> None:
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


def _located(step: _Step, event: Event) -> None:
    """`data`: outcomes {archive: outcome}, gaps and candidates (Found) of this round, the roster it was asked by, `gone`,
    archives no longer on it: nobody can ask them, and what they may hold stays unknown, and `ruled_out`, archives that
    are back and by their own word can not hold the record.
    """
    case, data = step.case, event.data
    case.roster_epoch = int(data.get("roster_epoch", case.roster_epoch))
    said = {**{str(gap["archive"]): str(gap["outcome"]) for gap in data["gaps"]}, **data["outcomes"]}
    news = {archive for archive, outcome in said.items() if _is_news(case.outcomes.get(archive), outcome)}
    ruled_out = {one for one in data.get("ruled_out", ()) if case.outcomes.get(one, "hit") not in _FACTS}
    said |= dict.fromkeys(ruled_out, "not_asked")
    news |= ruled_out
    case.outcomes = {**case.outcomes, **{archive: said[archive] for archive in sorted(news)}}
    _keep_searched(case, data.get("searched", {}), news)
    kept = [gap for gap in case.gaps if gap["archive"] not in news]
    fresh = [gap for gap in data["gaps"] if gap["archive"] in news - ruled_out]
    gone = set(data.get("gone", ())) - news
    kept = [
        {**gap, "outcome": "not_asked", "reason": "not_a_member"} if gap["archive"] in gone else gap
        for gap in kept
    ]
    case.gaps = sorted([*kept, *fresh], key=lambda gap: str(gap["archive"]))
    case.verdict = "partial" if case.gaps else "complete"
    fresh_ones = msgspec.convert(data["candidates"], list[Found])
    case.candidates = merge(case.candidates, [one for one in fresh_ones if one.ref not in case.dismissed])
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
        _nothing_found(step)
    else:
        _ask_missing(step)
    step.note(Kind.LOCATED, event.actor, {**facts, **({"reason": case.reason} if case.reason else {})})
    if case.state is State.NO_RECORD:
        _order_note(step, str(data.get("noting", "")))


def _keep_searched(case: Case, searched: dict[str, str], news: set[str]) -> None:
    """What a note over this search would state; once somebody has a candidate there is none to write."""
    if any(outcome == "hit" for outcome in case.outcomes.values()):
        case.searched = {}
    else:
        told = {
            one: said for one, said in searched.items() if said and (one in news or one not in case.outcomes)
        }
        case.searched = {**case.searched, **told}


def _order_note(step: _Step, archive: str) -> None:
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
    return gap["outcome"] in RETRIABLE or gap.get("reason") == "deferred"


def _ask_missing(step: _Step) -> bool:
    """Ask again whoever may yet answer, later each time; False when nobody may."""
    case = step.case
    missing = [str(gap["archive"]) for gap in case.gaps if _may_yet_answer(gap)]
    if not missing:
        return False
    pause = min(step.policy.longest_search_again_s, step.policy.first_search_again_s * 2 ** (case.round - 1))
    step.search(missing, pause)
    return True


def _nothing_found(step: _Step) -> None:
    """No record is said only when every archive in scope has answered; else go on asking, or say what is missing."""
    case = step.case
    if case.verdict == "complete":
        step.enter(State.NO_RECORD)
    elif case.is_breached or not _ask_missing(step):
        case.reason = "search_incomplete"
        step.enter(State.EXPIRED)


def _selected(step: _Step, event: Event) -> None:
    case = step.case
    found = next((one for one in case.candidates if one.ref == event.data["ref"]), None)
    if found is None:
        raise Refusal(Reason.UNKNOWN_CANDIDATE, "/ref")
    step.dispatch(found, Kind.SELECTED, event.actor)


def _none_fits(step: _Step, event: Event) -> None:
    case = step.case
    case.dismissed = [*case.dismissed, *(one.ref for one in case.candidates)]
    case.candidates = []
    if case.verdict == "complete":
        step.enter(State.NO_RECORD)
    elif any(map(_may_yet_answer, case.gaps)) and not case.is_breached:
        step.enter(State.LOCATING)  # a search task is already waiting
    else:
        case.reason = "search_incomplete"
        step.enter(State.EXPIRED)
    step.note(Kind.NONE_FITS, event.actor)


def _received(step: _Step, event: Event) -> None:
    step.note(Kind.RECEIVED, event.actor, {"archive": event.actor})


def _claimed(step: _Step, event: Event) -> None:
    case = step.case
    if case.deciding and case.deciding != event.actor:
        raise Refusal(Reason.TAKEN)  # the other desk was first; it is told below when it claims or decides
    case.deciding = event.actor
    step.enter(State.IN_REVIEW)
    step.note(Kind.CLAIMED, event.actor)
    step.release_other(event.actor)


def _released(step: _Step, event: Event) -> None:
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


def _approved(step: _Step, event: Event) -> None:
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


def _refused(step: _Step, event: Event) -> None:
    case = step.case
    step.resume()
    case.reason = str(event.data.get("reason", ""))
    step.enter(State.REFUSED)
    step.note(Kind.REFUSED, event.actor, {"reason": case.reason})
    step.release_other(event.actor)


def _evidence_wanted(step: _Step, event: Event) -> None:
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


def _evidence_given(step: _Step, event: Event) -> None:
    case = step.case
    step.resume()
    case.wanted = []
    step.enter(State.IN_REVIEW)
    step.note(Kind.EVIDENCE_GIVEN, event.actor, {"items": event.data.get("items", [])})
    step.mail(case.deciding or case.holder, "evidence", evidence=event.data.get("evidence", []))


def _retrieving(step: _Step, event: Event) -> None:
    step.enter(State.RETRIEVING_ORIGINAL)
    if event.data.get("pauses"):
        step.pause()
    step.note(Kind.RETRIEVING, event.actor, {"pauses": bool(event.data.get("pauses"))})


def _retrieved(step: _Step, event: Event) -> None:
    step.resume()
    step.enter(State.IN_REVIEW)
    step.note(Kind.RETRIEVED, event.actor)


def _referred(step: _Step, event: Event) -> None:
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
    for archive in sorted(
        others
    ):  # after the note, which makes the identifier a new one; about the old question
        step.mail(archive, "taken", by=event.actor, group=group)


def _issued(step: _Step, event: Event) -> None:
    case = step.case
    if case.state is State.NO_RECORD and case.decision:
        raise Refusal(Reason.ILLEGAL_TRANSITION)  # there is one note over one search
    told = {key: str(value) for key, value in event.data.items() if value and key not in {"group", "ago_ms"}}
    case.decision = {**case.decision, **told}
    if case.state is not State.NO_RECORD:
        step.enter(State.ISSUED)
    step.note(Kind.ISSUED, event.actor)


def _delivered(step: _Step, event: Event) -> None:
    step.case.delivered_ms = step.now
    if step.case.state is State.ISSUED:
        step.enter(State.DELIVERED)
    step.stop()
    step.note(Kind.DELIVERED, event.actor, {"by": str(event.data.get("by", ""))})


def _withdrawn(step: _Step, event: Event) -> None:
    step.resume()
    step.enter(State.WITHDRAWN)
    step.stop()
    step.note(Kind.WITHDRAWN, event.actor)


_HANDLERS: dict[Kind, Callable[[_Step, Event], None]] = {
    Kind.ACCEPTED: _accepted,
    Kind.LOCATED: _located,
    Kind.SELECTED: _selected,
    Kind.NONE_FITS: _none_fits,
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
    Kind.WITHDRAWN: _withdrawn,
}
