"""One event being applied to one case: the case as it is changed, and what is to be written beside it."""

from __future__ import annotations

from typing import Any

from gateway.cases.case import HOOK, MAIL, SEARCH, Case, Effects, Entry, Found, Stopped, Task
from gateway.cases.policy import Policy
from gateway.cases.states import Kind, Stage, State


class Step:
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
