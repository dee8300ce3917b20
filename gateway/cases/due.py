"""What is due of a case: rungs of its ladder, its target, the end of a patience; when it must be looked at next, and what is
done then.
"""

from __future__ import annotations

from gateway.cases.states import ENDED, Kind, Stage, State
from gateway.cases.step import Step


def tick(step: Step) -> None:
    """Do whatever is due by now."""
    case = step.case
    if case.state in ENDED or not case.wake_at_ms or step.now < case.wake_at_ms:
        return
    if case.is_paused:
        is_evidence = case.state is State.AWAITING_EVIDENCE
        _give_up(step, "evidence_not_given" if is_evidence else "original_not_retrieved")
    elif case.state is State.AWAITING_SELECTION and step.now >= _selection_ends(step):
        _give_up(step, "not_selected")
    elif step.now >= _last_day(step):
        _give_up(step, "not_fetched" if case.state is State.ISSUED else "not_decided")
    else:
        _climb(step)
        if not case.is_breached and step.now >= case.deadline_ms:
            case.is_breached = True
            step.note(Kind.BREACHED, "clock", {"stage": case.stage.value})
            if case.state is State.LOCATING:
                _give_up(step, "search_incomplete")
    finish(step)


def finish(step: Step) -> None:
    """End a case that came to an end, or order the next look of the clock."""
    case = step.case
    if case.state in ENDED and not case.ended_ms:
        case.ended_ms = step.now
        step.effects.ends_search = True
        for archive in {case.holder, case.deputy} - {""}:
            if case.state is State.WITHDRAWN:
                step.mail(archive, "withdrawn")
    case.wake_at_ms = 0 if case.state in ENDED else _next_look(step)


def _next_look(step: Step) -> int:
    case = step.case
    if case.is_paused:
        return min(case.paused_since_ms + step.policy.evidence_patience_s * 1000, _last_day(step))
    times = [_last_day(step)]
    rungs = step.policy.ladders[case.stage]
    if case.ladder < len(rungs):
        times.append(_rung_at(step, rungs[case.ladder].share))
    if not case.is_breached:
        times.append(case.deadline_ms)
    if case.state is State.AWAITING_SELECTION:
        times.append(_selection_ends(step))
    return min(times)


def _last_day(step: Step) -> int:
    return step.case.created_ms + step.policy.longest_case_s * 1000


def _selection_ends(step: Step) -> int:
    return step.case.entered_ms + step.policy.selection_patience_s * 1000


def _rung_at(step: Step, share: float) -> int:
    case = step.case
    return case.stage_began_ms + int((case.stage_deadline_ms - case.stage_began_ms) * share)


def _give_up(step: Step, reason: str) -> None:
    case = step.case
    step.resume()
    case.reason = reason
    was_issued = case.state is State.ISSUED
    step.enter(State.EXPIRED)
    for archive in sorted({case.holder, case.deputy} - {""}):
        if not was_issued:  # there is nothing left to decide
            step.mail(archive, "withdrawn")
    step.note(Kind.EXPIRED, "clock", {"reason": reason, "missing": [gap["archive"] for gap in case.gaps]})


def _climb(step: Step) -> None:
    """Take every rung that is reached."""
    case = step.case
    rungs = step.policy.ladders[case.stage]
    while case.ladder < len(rungs) and step.now >= _rung_at(step, rungs[case.ladder].share):
        rung = rungs[case.ladder]
        case.ladder += 1
        data = {"stage": case.stage.value, "share": rung.share}
        match rung.action:
            case "warn":
                step.note(Kind.WARNED, "clock", data)
                _tell_desk(step, "warn")
            case "deputy":
                _deputise(step)
            case action:
                to = "operator" if action == "operator" else "lead"
                step.note(Kind.ESCALATED, "clock", {**data, "to": to})
                if action == "escalate":
                    _tell_desk(step, "escalate")


def _tell_desk(step: Step, message: str) -> None:
    case = step.case
    if case.stage in {Stage.PICK_UP, Stage.REVIEW, Stage.ISSUE} and case.holder:
        step.mail(case.deciding or case.holder, message, stage=case.stage.value)


def _deputise(step: Step) -> None:
    """Ask the holder's deputy archive to review too; whoever decides first decides. Once for each holder."""
    case = step.case
    deputy = step.policy.deputies.get(case.holder, "")
    if deputy and not case.deputy and deputy not in case.passed and case.state is State.DISPATCHED:
        case.deputy = deputy
        step.note(Kind.DEPUTISED, "clock", {"archive": deputy, "for": case.holder})
        step.mail(deputy, "dispatch", ref=case.selected, on_behalf_of=case.holder)
