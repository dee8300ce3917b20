"""Any life of a case, event by event, against a second and simpler book-keeping of the same rules."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from federation.reasons import Refusal
from gateway.cases.case import HOOK, MAIL, Case, Effects, Entry, Event, decode_case, encode_case
from gateway.cases.machine import TICK, apply
from gateway.cases.minutes import minutes
from gateway.cases.policy import LADDERS, Policy, Rung
from gateway.cases.states import ENDED, TRANSITIONS, Kind, Stage, State
from tests.fakes.cases import ACCEPTED, DEPUTY, FAR, HOLDER, START_MS, WINDOW, found, located, new_case

ARCHIVES = [HOLDER, DEPUTY, FAR, "330421"]
DEPUTIES = {HOLDER: DEPUTY, "330421": DEPUTY, FAR: "310000"}
LONE_DEPUTY = {**LADDERS, Stage.PICK_UP: (Rung(0.3, "deputy"), Rung(0.6, "warn"), Rung(2.0, "operator"))}
POLICIES = [
    Policy(deputies=DEPUTIES),
    Policy(deputies=DEPUTIES, ladders=LONE_DEPUTY),
    Policy(ladders=LONE_DEPUTY),
]
ANSWERED = {"hit", "empty"}
FAILED = ["timeout", "unreachable", "overloaded", "circuit_open", "refused_policy", "stale", "bad_answer"]
SPEECH = [kind for kind in Kind if kind not in {Kind.LOCATED, Kind.WARNED}]
DESK_SAYS = set(SPEECH) - {
    Kind.ACCEPTED, Kind.WITHDRAWN, Kind.EXPIRED, Kind.ESCALATED, Kind.DEPUTISED, Kind.BREACHED, Kind.SELECTED
}  # fmt: skip
ALL_DAY = st.sampled_from([0.0, 0.4, 1, 7, 16, 31, 75, 91, 144, 300, 700, 2_700_000])


class CaseLife(RuleBasedStateMachine):
    """One case from acceptance on. `known` is the last word of each archive, a failure never over an answer."""

    @initialize(
        policy=st.sampled_from(POLICIES), window=st.sampled_from([WINDOW, "", FAR]), has_hook=st.booleans()
    )
    def accept(self, policy: Policy, window: str, has_hook: bool) -> None:
        self.policy, self.now = policy, START_MS
        self.case = new_case(window=window, has_hook=has_hook)
        self.ids: set[str] = set()
        self.dispatches: dict[int, set[str]] = {}
        self.holders: list[str] = []
        self.known: dict[str, str] = {}
        self.climbed: list[Rung | None] = []
        self.visit_began = self.visit_paused = 0
        self.breaches = 0
        self.journal: list[Entry] = []
        self.happen(ACCEPTED)
        assert self.case.state is State.LOCATING

    # what may happen -------------------------------------------------------------------------------------------

    @rule(seconds=ALL_DAY, ticks=st.booleans())
    def time_passes(self, seconds: float, ticks: bool) -> None:
        is_quick = self.case.state is State.LOCATING  # or most lives would end before they began
        self.now += int(min(seconds, 9 if is_quick else seconds) * 1000)
        if ticks:
            self.happen(TICK)

    @precondition(lambda self: self.case.wake_at_ms and self.case.state is not State.LOCATING)
    @rule(early=st.sampled_from([0, 0, 1]))
    def the_clock_looks_when_due(self, early: int) -> None:
        self.now = max(self.now, self.case.wake_at_ms - early)
        self.happen(TICK)

    @precondition(lambda self: self.case.state is not State.AWAITING_SELECTION or self.case.round < 4)
    @rule(
        outcomes=st.dictionaries(
            st.sampled_from(ARCHIVES),
            st.sampled_from(["hit", "empty", "empty", "not_asked", *FAILED]),
            min_size=1,
        ),
        scores=st.lists(st.sampled_from([20.0, 25.0, 30.0, 40.0]), min_size=4, max_size=4),
        decisions=st.lists(st.sampled_from(["likely", "possible"]), min_size=4, max_size=4),
    )
    def archives_answer(self, outcomes: dict[str, str], scores: list[float], decisions: list[str]) -> None:
        hits = [
            found(archive, scores[n], decision=decisions[n])
            for n, archive in enumerate(ARCHIVES)
            if outcomes.get(archive) == "hit"
        ]
        if self.happen(located(outcomes, hits)):
            for archive, outcome in outcomes.items():
                old = self.known.get(archive)
                if outcome in ANSWERED or old is None or (old not in ANSWERED and outcome != "not_asked"):
                    self.known[archive] = outcome
            self.check_end()

    @precondition(lambda self: self.case.state is State.LOCATING)
    @rule(archive=st.sampled_from(ARCHIVES), lead=st.sampled_from([5.9, 6.0, 20.0]))
    def one_is_found(self, archive: str, lead: float) -> None:
        """With the next one close behind it, the caller is asked; with a lead, nobody needs to be."""
        self.happen(located({archive: "hit"}, [found(archive, 60.0), found(archive, 60.0 - lead, ref="x.2")]))
        self.known[archive] = "hit"
        self.check_end()

    @rule(
        kind=st.sampled_from(SPEECH).filter(lambda kind: kind is not Kind.WITHDRAWN)
        | st.sampled_from(SPEECH),
        actor=st.sampled_from([*ARCHIVES, "310000", "caller", "gateway"]),
        to=st.sampled_from([*ARCHIVES, "310000"]),
        pauses=st.booleans(),
    )
    def anybody_says_anything(self, kind: Kind, actor: str, to: str, pauses: bool) -> None:
        refs = [one.ref for one in self.case.candidates]
        data = {
            "ref": refs[0] if refs and pauses else f"{to}.r1",
            "archive": to,
            "pauses": pauses,
            "reason": "other",
        }
        self.happen(Event(kind, actor, {**data, "items": ["id_card"], "evidence": []}))

    @precondition(lambda self: self.case.holder and self.case.state not in ENDED)
    @rule(
        choice=st.integers(0, 23),
        by_deputy=st.booleans(),
        pauses=st.booleans(),
        to=st.sampled_from(ARCHIVES),
        after=st.sampled_from([1, 40, 100]),
    )
    def the_case_goes_on(self, choice: int, by_deputy: bool, pauses: bool, to: str, after: int) -> None:
        """Something the table allows, mostly said by somebody who may say it."""
        kinds = [kind for state, kind in TRANSITIONS if state is self.case.state and kind in DESK_SAYS]
        kinds += 2 * [kind for kind in kinds if kind not in {Kind.APPROVED, Kind.REFUSED, Kind.REFERRED}]
        actor = self.case.deputy if by_deputy and self.case.deputy else self.case.holder
        self.now += after * 1000
        self.happen(
            Event(
                kinds[choice % len(kinds)],
                actor,
                {"items": [], "pauses": pauses, "archive": to, "reason": "x"},
            )
        )

    # one event and all that must hold after it -----------------------------------------------------------------

    def happen(self, event: Event) -> bool:
        before = encode_case(self.case)
        effects = self.applied(event)
        if effects is None:
            assert encode_case(self.case) == before, "a refused event changed the case"
            return False
        old = decode_case(before)
        if event is TICK and old.wake_at_ms and self.now < old.wake_at_ms:
            assert encode_case(self.case) == before
        self.check_table(event, old, effects)
        self.check_deadlines(event, old)
        self.check_ladder(event, old, effects)
        self.check_tasks(effects)
        self.check_people(event, old, effects)
        self.journal += effects.entries
        self.check_minutes()
        again = decode_case(before)
        assert apply(again, event, self.now, self.policy).entries == effects.entries
        assert encode_case(again) == encode_case(self.case), "the same event gave another case"
        return True

    def applied(self, event: Event) -> Effects | None:
        try:
            return apply(self.case, event, self.now, self.policy)
        except Refusal:
            return None

    def check_table(self, event: Event, old: Case, effects: Effects) -> None:
        state, seq = old.state, old.version
        for entry in effects.entries:
            assert entry.state in TRANSITIONS[state, entry.kind]
            assert entry.seq == seq + 1
            assert entry.at_ms == self.now
            state, seq = entry.state, entry.seq
        assert self.case.state is state
        assert self.case.version == seq
        if event is not TICK:
            assert len(effects.entries) == 1
            assert effects.entries[0].kind is event.kind
        if old.state in ENDED:
            assert self.case.state is old.state
            assert event.kind is Kind.DELIVERED or event is TICK
            assert old.delivered_ms == 0 or not effects.entries
        assert (self.case.ended_ms > 0) == (self.case.state in ENDED)
        if self.case.state in ENDED:
            assert self.case.wake_at_ms == 0
            assert effects.ends_search or old.state in ENDED

    def check_deadlines(self, event: Event, old: Case) -> None:
        case = self.case
        if event is ACCEPTED:
            assert case.deadline_ms == case.created_ms + case.target_s * 1000
            return
        paused = self.now - old.paused_since_ms if old.is_paused and not case.is_paused else 0
        assert case.deadline_ms == old.deadline_ms + paused + (case.target_s - old.target_s) * 1000
        if case.target_s != old.target_s:
            assert case.holder != old.holder
        if case.state not in ENDED:
            budget = self.policy.budgets(case.window, case.holder).of(case.stage)
            assert case.stage_deadline_ms - case.stage_began_ms == budget * 1000
        assert not case.is_paused or case.state in {State.AWAITING_EVIDENCE, State.RETRIEVING_ORIGINAL}
        if event is TICK:
            assert case.wake_at_ms == 0 or case.wake_at_ms > self.now, (
                "the clock would look again at once for ever"
            )

    def check_ladder(self, event: Event, old: Case, effects: Effects) -> None:
        """Each visit of a stage climbs its ladder once, in order, no rung before its time, pauses not counted."""
        case = self.case
        if old.is_paused and not case.is_paused:
            self.visit_paused += self.now - old.paused_since_ms
        # what the clock notes, it notes about the stage before any end the same tick brought
        climbs = [one for one in effects.entries if one.kind in {Kind.WARNED, Kind.ESCALATED, Kind.DEPUTISED}]
        assert not climbs or event is TICK
        rungs = self.policy.ladders[old.stage]
        used = self.now - self.visit_began - self.visit_paused
        budget = self.policy.budgets(old.window, old.holder).of(old.stage) * 1000 if old.version else 0
        due = [rung for rung in rungs if used >= int(budget * rung.share)]
        if event is TICK and old.state not in ENDED and not old.is_paused and case.state not in ENDED:
            wanted = due[len(self.climbed) :]
            said = [(one.kind, one.data.get("share"), one.data.get("to", "")) for one in climbs]
            loud = [
                {"warn": (Kind.WARNED, rung.share, ""), "escalate": (Kind.ESCALATED, rung.share, "lead"),
                 "operator": (Kind.ESCALATED, rung.share, "operator"), "deputy": (Kind.DEPUTISED, None, "")}[rung.action]
                for rung in wanted
            ]  # fmt: skip
            without = [one for one in loud if one[0] is not Kind.DEPUTISED]
            assert [one for one in said if one[0] is not Kind.DEPUTISED] == without
            assert said in (loud, without)
            self.climbed = list(due)
        self.breaches += sum(1 for one in effects.entries if one.kind is Kind.BREACHED)
        assert self.breaches == case.is_breached
        if event is ACCEPTED or case.stage is not old.stage or event.kind is Kind.REFERRED:
            self.visit_began, self.visit_paused, self.climbed = self.now, 0, []

    def check_tasks(self, effects: Effects) -> None:
        for task in effects.tasks:
            assert task.id not in self.ids, "an identifier came twice"
            self.ids.add(task.id)
            assert task.case_id == self.case.id
            assert task.visible_at_ms >= self.now
            if task.kind == MAIL:
                assert task.target
                assert task.payload["group"] == self.case.group or task.payload["message"] == "taken"
                if task.payload["message"] == "dispatch":
                    self.dispatches.setdefault(self.case.group, set()).add(task.id)
        hooks = [task for task in effects.tasks if task.kind == HOOK]
        assert len(hooks) == (len(effects.entries) if self.case.has_hook else 0)

    def check_people(self, event: Event, old: Case, effects: Effects) -> None:
        case = self.case
        mails = {(task.target, task.payload["message"]) for task in effects.tasks if task.kind == MAIL}
        if case.group != old.group:
            assert case.group == old.group + 1
            assert (case.holder, "dispatch") in mails
            assert case.holder not in self.holders, "a case came back to a holder that passed it on"
            self.holders.append(case.holder)
        else:
            assert (case.holder, case.selected) == (old.holder, old.selected)
        if old.holder and event.kind is not Kind.REFERRED:
            assert (case.holder, case.selected) == (old.holder, old.selected)
        desks = {case.holder, case.deputy} - {""}
        is_done = case.state is State.EXPIRED and old.state is State.ISSUED  # nothing is left to decide
        if case.state in {State.WITHDRAWN, State.EXPIRED} and old.state not in ENDED and not is_done:
            assert {(desk, "withdrawn") for desk in desks} <= mails
        if event.kind in {Kind.CLAIMED, Kind.APPROVED, Kind.EVIDENCE_WANTED} and old.deciding != event.actor:
            assert {(desk, "taken") for desk in desks - {event.actor}} <= mails
        if event.kind is Kind.RELEASED:
            assert {(desk, "dispatch") for desk in desks - {event.actor}} <= mails, (
                "told taken, never told it is free"
            )
        if case.state in {State.IN_REVIEW, State.ISSUING, State.AWAITING_EVIDENCE}:
            assert case.deciding in desks

    def check_minutes(self) -> None:
        """The journal alone tells the same pauses, target and deadline as the case."""
        case, told = self.case, minutes(self.journal, self.now)
        assert told is not None
        stop = self.now if told.stopped_ms is None else told.stopped_ms
        assert round((told.counted_s + told.paused_s) * 1000) == stop - START_MS
        assert round(sum(told.stages.values()) * 1000) == round(told.counted_s * 1000)
        assert told.target_s == case.target_s
        assert told.outcome == (case.state.value if case.ended_ms else "")
        deadline = case.deadline_ms + (self.now - case.paused_since_ms if case.is_paused else 0)
        assert told.is_met == (stop <= deadline)

    def check_end(self) -> None:
        if self.case.state is State.NO_RECORD:
            assert all(word in ANSWERED or word == "not_asked" for word in self.known.values())

    @precondition(lambda self: self.case.state is State.AWAITING_SELECTION)
    @rule(fits=st.booleans(), which=st.integers(0, 3))
    def the_caller_chooses(self, fits: bool, which: int) -> None:
        refs = [one.ref for one in self.case.candidates]
        ref = refs[which % len(refs)]
        assert self.happen(
            Event(Kind.SELECTED, "caller", {"ref": ref}) if fits else Event(Kind.NONE_FITS, "caller")
        )
        self.check_end()
        if fits:
            assert self.case.selected == ref


CaseLife.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestCaseLife = CaseLife.TestCase
