"""The rules of a case, one plain example each: searching on, choosing, racing desks, referring, waiting, ending."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from federation.reasons import Reason, Refusal
from gateway.cases.case import MAIL, SEARCH, Case, Effects, Event, Found
from gateway.cases.choice import CLEAR_LEAD, MOST_KEPT, clear_choice, merge
from gateway.cases.machine import TICK, apply
from gateway.cases.policy import CROSS_CITY, LADDERS, Budgets, Policy, PolicyError, Rung
from gateway.cases.states import ENDED, STAGE_OF, TRANSITIONS, Kind, Stage, State
from tests.fakes.cases import ACCEPTED, DEPUTY, FAR, HOLDER, START_MS, found, located, new_case

THIRD = "330421"


class Life:
    """A case and its time; `say` applies an event and gives what it did."""

    def __init__(self, policy: Policy | None = None, **about: Any) -> None:
        self.policy = policy or Policy(deputies={HOLDER: DEPUTY})
        self.now, self.case = START_MS, new_case(**about)
        self.say(ACCEPTED)

    def say(self, event: Event | Kind, actor: str = HOLDER, **data: Any) -> Effects:
        said = event if isinstance(event, Event) else Event(event, actor, data)
        return apply(self.case, said, self.now, self.policy)

    def refused(self, event: Event | Kind, actor: str = HOLDER, **data: Any) -> Reason:
        with pytest.raises(Refusal) as told:
            self.say(event, actor, **data)
        return told.value.reason

    def tick(self, after_s: float) -> Effects:
        self.now += int(after_s * 1000)
        return self.say(TICK)

    def dispatch(self, archive: str = HOLDER) -> Effects:
        return self.say(located({archive: "hit"}, [found(archive)]))

    def deputise(self) -> None:
        self.dispatch()
        self.tick(0.8 * 90)
        assert self.case.deputy == DEPUTY


def mails(effects: Effects) -> list[tuple[str, str]]:
    return sorted((task.target, task.payload["message"]) for task in effects.tasks if task.kind == MAIL)


def searches(effects: Effects) -> list[tuple[list[str], float]]:
    """(archives, seconds until then) of each search ordered."""
    at = effects.entries[-1].at_ms
    return [(t.payload["archives"], (t.visible_at_ms - at) / 1000) for t in effects.tasks if t.kind == SEARCH]


# the table -----------------------------------------------------------------------------------------------------


def test_the_table_is_whole():
    """Every open state can be left, every state but the silent ends has a stage, and no end leads anywhere."""
    for state in State:
        ways = {to for (start, _kind), tos in TRANSITIONS.items() if start is state for to in tos}
        assert bool(ways - {state}) == (state not in ENDED)
        assert (state in STAGE_OF) or state in {State.DELIVERED, State.WITHDRAWN}
        assert state in ENDED or (state, Kind.WITHDRAWN) in TRANSITIONS


@pytest.mark.parametrize("kind", [Kind.ESCALATED, Kind.DEPUTISED, Kind.BREACHED, Kind.EXPIRED])
@pytest.mark.parametrize("actor", ["clock", HOLDER])
def test_only_the_clock_itself_says_what_the_clock_says(kind: Kind, actor: str):
    life = Life()
    life.dispatch()
    assert life.refused(kind, actor) is Reason.ILLEGAL_TRANSITION


# searching -----------------------------------------------------------------------------------------------------


def test_only_archives_that_may_yet_answer_are_asked_again_and_later_each_time():
    life = Life()
    answers = {HOLDER: "timeout", THIRD: "refused_policy", DEPUTY: "empty"}
    seen = []
    for _ in range(7):
        seen += searches(life.say(located(answers)))
        answers = {HOLDER: "unreachable"}
    assert [archives for archives, _after in seen] == [[HOLDER]] * 7
    assert [after for _archives, after in seen] == [2, 4, 8, 16, 32, 60, 60]
    assert life.case.verdict == "partial"


def test_no_record_needs_every_answer():
    life = Life()
    life.say(located({HOLDER: "timeout", THIRD: "empty"}))
    assert life.case.state is State.LOCATING
    life.say(located({HOLDER: "empty"}))
    assert life.case.state is State.NO_RECORD
    assert life.case.verdict == "complete"


@pytest.mark.parametrize(
    "outcome", ["timeout", "unreachable", "overloaded", "circuit_open", "stale", "bad_answer"]
)
def test_an_archive_that_may_yet_answer_is_waited_for_until_the_target(outcome: str):
    life = Life()
    assert searches(life.say(located({HOLDER: outcome, THIRD: "empty"}))) == [([HOLDER], 2)]
    assert life.case.state is State.LOCATING
    life.tick(life.case.target_s - 1)
    assert life.case.state is State.LOCATING
    life.tick(1)
    assert life.case.state is State.EXPIRED
    assert (life.case.reason, life.case.verdict) == ("search_incomplete", "partial")
    assert [gap["archive"] for gap in life.case.gaps] == [HOLDER]


def test_archives_beyond_one_rounds_size_are_asked_in_the_next():
    life = Life()
    event = located({HOLDER: "empty"})
    event.data["gaps"] = [{"archive": THIRD, "outcome": "not_asked", "reason": "deferred"}]
    assert searches(life.say(event)) == [([THIRD], 2)]
    life.say(located({THIRD: "empty"}))
    assert life.case.state is State.NO_RECORD


def test_an_archive_that_is_back_and_says_it_holds_no_such_records_closes_its_gap():
    """Unreachable, it was asked in case; back, its manifest rules the record out, and it is not asked any more."""
    life = Life()
    life.say(located({HOLDER: "unreachable", THIRD: "empty"}))
    back = located({})
    back.data["ruled_out"] = [HOLDER]
    life.say(back)
    assert life.case.state is State.NO_RECORD
    assert life.case.outcomes == {HOLDER: "not_asked", THIRD: "empty"}


def test_an_archive_that_left_the_roster_stays_a_gap_and_is_not_asked_again():
    life = Life()
    life.say(located({HOLDER: "unreachable", THIRD: "timeout"}))
    left = located({THIRD: "empty"})
    left.data["gone"] = [HOLDER]
    effects = life.say(left)
    assert searches(effects) == []
    assert life.case.state is State.EXPIRED, "what it holds stays unknown: that is no record of nothing"
    assert life.case.gaps == [{"archive": HOLDER, "outcome": "not_asked", "reason": "not_a_member"}]


def test_what_the_caller_said_is_not_it_does_not_come_back():
    life = Life()
    one, other = found(decision="possible"), found(THIRD, 90.0)
    life.say(located({HOLDER: "hit", THIRD: "timeout"}, [one]))
    life.say(Kind.NONE_FITS, "caller")
    life.say(located({HOLDER: "hit", THIRD: "timeout"}, [{**one, "decision": "likely", "score": 99.0}]))
    assert life.case.state is State.LOCATING
    life.say(located({THIRD: "hit"}, [other]))
    assert (life.case.state, life.case.holder) == (State.DISPATCHED, THIRD)


def everyone(outcomes: dict[str, str], candidates: list[dict[str, Any]], *, unshown: bool = False) -> Event:
    """A round in which everyone was asked; `unshown`, they have more candidates than they told."""
    event = located(outcomes, candidates)
    event.data.update(whole=True, unshown=unshown)
    return event


def of_many(numbers: range) -> list[dict[str, Any]]:
    return [found(decision="possible", score=30.0 - number / 10, ref=f"r{number}") for number in numbers]


def one_page(**third: str) -> Life:
    """A case whose caller was shown 20 candidates of the holder, which has more, and said that none of them fits."""
    life = Life()
    life.say(everyone({HOLDER: "hit", THIRD: "empty", **third}, of_many(range(20)), unshown=True))
    effects = life.say(Kind.NONE_FITS, "caller")
    assert (life.case.state, searches(effects)[-1]) == (State.LOCATING, ([], 0))
    return life


def test_no_record_is_said_only_when_all_candidates_were_turned_down():
    """None of the first ones: the next are shown; none of all of them: there is no record."""
    life = one_page()
    life.say(everyone({HOLDER: "hit", THIRD: "empty"}, of_many(range(23))))
    assert life.case.state is State.AWAITING_SELECTION
    assert [one.ref for one in life.case.candidates] == ["r20", "r21", "r22"]
    life.say(Kind.NONE_FITS, "caller")
    assert (life.case.state, life.case.reason) == (State.NO_RECORD, "")


def test_candidates_nobody_can_be_shown_keep_a_case_from_ending_as_no_record():
    life = one_page()
    life.say(everyone({HOLDER: "hit", THIRD: "empty"}, of_many(range(20)), unshown=True))
    assert (life.case.state, life.case.reason) == (State.EXPIRED, "too_many_candidates")
    assert life.case.verdict == "complete"


def test_an_archive_that_is_away_when_its_next_candidates_are_wanted_is_asked_again():
    life = one_page()
    effects = life.say(everyone({HOLDER: "unreachable", THIRD: "empty"}, []))
    assert life.case.state is State.LOCATING
    assert [archives for archives, _pause in searches(effects)] == [[]]
    life.say(everyone({HOLDER: "hit", THIRD: "empty"}, of_many(range(22))))
    assert [one.ref for one in life.case.candidates] == ["r20", "r21"]


def test_an_older_round_that_ends_first_does_not_end_the_case():
    life = Life()
    life.say(everyone({HOLDER: "hit", THIRD: "timeout"}, of_many(range(20)), unshown=True))
    life.say(Kind.NONE_FITS, "caller")
    life.say(located({THIRD: "empty"}))
    assert (life.case.state, life.case.verdict) == (State.LOCATING, "complete")
    life.say(everyone({HOLDER: "hit", THIRD: "empty"}, of_many(range(20))))
    assert life.case.state is State.NO_RECORD


def test_who_has_not_seen_all_candidates_can_not_say_that_none_fits():
    life = Life()
    life.say(located({HOLDER: "hit", THIRD: "timeout"}, of_many(range(2))))
    seen = life.case.version
    life.say(located({THIRD: "timeout"}))
    assert life.case.version > seen
    life.say(located({THIRD: "hit"}, [found(THIRD, 25.0, decision="possible")]))
    assert life.refused(Kind.NONE_FITS, "caller", version=seen) is Reason.CANDIDATES_CHANGED
    assert (life.case.state, life.case.dismissed) == (State.AWAITING_SELECTION, [])
    life.say(located({HOLDER: "hit"}))
    life.say(Kind.NONE_FITS, "caller", version=life.case.candidates_version)
    assert life.case.state is State.NO_RECORD


def test_candidates_of_a_later_round_that_find_no_place_are_not_forgotten():
    life = Life()
    life.say(located({HOLDER: "hit", THIRD: "timeout"}, of_many(range(20))))
    assert not life.case.unshown
    life.say(located({THIRD: "hit"}, [found(THIRD, 20.0, decision="possible")]))
    assert (len(life.case.candidates), life.case.unshown) == (MOST_KEPT, True)
    life.say(Kind.NONE_FITS, "caller")
    assert life.case.state is State.LOCATING


def test_a_case_is_referred_only_to_a_member():
    life = Life(policy=Policy(members=frozenset({HOLDER, THIRD})))
    life.say(located({HOLDER: "hit"}, [found()]))
    assert life.refused(Kind.REFERRED, archive="999999") is Reason.NOT_A_MEMBER
    assert life.case.state is State.DISPATCHED
    life.say(Kind.REFERRED, HOLDER, archive=THIRD)
    assert life.case.holder == THIRD


@pytest.mark.parametrize(
    ("said", "reason"),
    [([], "not_decided"), ([Kind.CLAIMED], "not_decided"), ([Kind.APPROVED], "not_decided"),
     ([Kind.APPROVED, Kind.ISSUED], "not_fetched")],
)  # fmt: skip
def test_no_case_is_open_for_ever(said: list[Kind], reason: str):
    life = Life()
    life.say(located({HOLDER: "hit"}, [found()]))
    for kind in said:
        life.say(kind, HOLDER, number="n")
    life.tick(life.policy.longest_case_s)
    assert (life.case.state, life.case.reason) == (State.EXPIRED, reason)
    assert life.case.wake_at_ms == 0


@pytest.mark.parametrize("outcome", ["refused_policy", "unsupported"])
def test_an_archive_that_will_not_answer_leaves_an_incomplete_search_not_a_no_record(outcome: str):
    life = Life()
    effects = life.say(located({HOLDER: outcome, THIRD: "empty"}))
    assert life.case.state is State.EXPIRED
    assert life.case.reason == "search_incomplete"
    assert effects.entries[-1].data["missing"] == [HOLDER]


def test_a_late_failure_does_not_overturn_an_answer():
    life = Life()
    life.say(located({HOLDER: "empty", THIRD: "timeout"}))
    life.say(located({HOLDER: "timeout", THIRD: "empty"}))
    assert life.case.outcomes == {HOLDER: "empty", THIRD: "empty"}
    assert life.case.state is State.NO_RECORD


def test_not_having_asked_again_does_not_settle_a_gap():
    """A later round asks only who is missing; what it says of the others is not about them."""
    life = Life()
    life.say(located({HOLDER: "timeout", THIRD: "refused_policy"}))
    life.say(located({HOLDER: "empty", THIRD: "not_asked"}))
    assert life.case.state is State.EXPIRED
    assert [gap["archive"] for gap in life.case.gaps] == [THIRD]


def test_what_answers_after_the_target_says_what_is_missing():
    life = Life()
    life.say(located({HOLDER: "timeout"}))
    effects = life.tick(life.case.target_s)
    assert [entry.kind for entry in effects.entries] == [Kind.BREACHED, Kind.EXPIRED]
    assert effects.entries[-1].data == {"reason": "search_incomplete", "missing": [HOLDER]}
    assert effects.ends_search


def test_late_answers_are_new_revisions_while_the_caller_chooses_and_old_news_after():
    life = Life()
    life.say(located({HOLDER: "hit", THIRD: "timeout"}, [found(decision="possible")]))
    late = life.say(located({THIRD: "hit"}, [found(THIRD, 50.0)]))
    assert life.case.state is State.AWAITING_SELECTION, "what a person is looking at is not chosen for him"
    assert [one.archive for one in life.case.candidates] == [THIRD, HOLDER]
    assert late.entries[-1].data["verdict"] == "complete"
    life.say(Kind.SELECTED, "caller", ref=f"{HOLDER}.r1")
    assert life.refused(located({THIRD: "hit"}, [found(THIRD, 90.0)])) is Reason.ILLEGAL_TRANSITION
    assert life.case.holder == HOLDER


def test_choosing_what_was_not_offered_is_refused():
    life = Life()
    life.say(located({HOLDER: "hit"}, [found(decision="possible")]))
    assert life.refused(Kind.SELECTED, "caller", ref="330483.r2") is Reason.UNKNOWN_CANDIDATE


# desks ---------------------------------------------------------------------------------------------------------


def test_only_the_holder_and_its_deputy_may_speak():
    life = Life()
    life.deputise()
    for archive in (THIRD, "caller", "", "gateway"):
        assert life.refused(Kind.CLAIMED, archive) is Reason.WRONG_ARCHIVE
    life.say(Kind.CLAIMED, DEPUTY)
    assert life.refused(Kind.REFERRED, DEPUTY, archive=FAR) is Reason.WRONG_ARCHIVE


def test_the_first_desk_to_take_it_has_it_and_the_other_is_told():
    life = Life()
    life.deputise()
    assert mails(life.say(Kind.CLAIMED, DEPUTY)) == [(HOLDER, "taken")]
    assert life.refused(Kind.CLAIMED) is Reason.TAKEN
    assert life.refused(Kind.EVIDENCE_WANTED, items=["id_card"]) is Reason.TAKEN


@pytest.mark.parametrize(("first", "second"), [(HOLDER, DEPUTY), (DEPUTY, HOLDER)])
def test_a_desk_that_gives_it_back_frees_it_for_both(first: str, second: str):
    life = Life()
    life.deputise()
    life.say(Kind.CLAIMED, first)
    assert mails(life.say(Kind.RELEASED, first)) == [(second, "dispatch")]
    assert life.case.state is State.DISPATCHED
    life.say(Kind.CLAIMED, second)
    assert life.case.deciding == second


@pytest.mark.parametrize(("taker", "decider"), [(HOLDER, DEPUTY), (DEPUTY, HOLDER)])
def test_a_decision_by_the_other_desk_is_told_to_the_one_that_had_it(taker: str, decider: str):
    life = Life()
    life.deputise()
    life.say(Kind.CLAIMED, taker)
    assert (taker, "taken") in mails(life.say(Kind.APPROVED, decider))


def test_asking_for_evidence_without_taking_it_first_takes_it():
    life = Life()
    life.deputise()
    assert mails(life.say(Kind.EVIDENCE_WANTED, DEPUTY, items=["id_card"])) == [(HOLDER, "taken")]
    assert mails(life.say(Kind.EVIDENCE_GIVEN, "caller", items=["id_card"])) == [(DEPUTY, "evidence")]


def test_the_holder_issues_what_its_deputy_approved():
    life = Life()
    life.deputise()
    life.say(Kind.CLAIMED, DEPUTY)
    assert (HOLDER, "issue") in mails(life.say(Kind.APPROVED, DEPUTY))
    assert life.refused(Kind.ISSUED, DEPUTY) is Reason.WRONG_ARCHIVE
    life.say(Kind.ISSUED)
    life.say(Kind.DELIVERED, "gateway")
    assert life.case.state is State.DELIVERED
    assert life.refused(Kind.DELIVERED, "gateway") is Reason.ILLEGAL_TRANSITION


def test_withdrawal_reaches_holder_and_deputy():
    life = Life()
    life.deputise()
    assert mails(life.say(Kind.WITHDRAWN, "caller")) == [(DEPUTY, "withdrawn"), (HOLDER, "withdrawn")]
    assert life.refused(Kind.APPROVED) is Reason.ILLEGAL_TRANSITION


def test_a_referral_goes_on_with_its_history_and_never_back():
    life = Life()
    life.dispatch()
    for to in (THIRD, FAR):
        assert mails(life.say(Kind.REFERRED, life.case.holder, archive=to)) == [(to, "dispatch")]
    assert life.case.passed == [HOLDER, THIRD]
    for to in (HOLDER, THIRD, FAR):
        assert life.refused(Kind.REFERRED, FAR, archive=to) is Reason.REFERRED_IN_A_CIRCLE
    assert life.refused(Kind.CLAIMED) is Reason.WRONG_ARCHIVE, "it has passed it on"
    assert life.case.group == 3


def test_a_referral_after_a_race_gives_every_message_an_identifier_of_its_own():
    life = Life()
    life.deputise()
    claimed = life.say(Kind.CLAIMED)
    referred = life.say(Kind.REFERRED, archive=THIRD)
    assert mails(referred) == [(DEPUTY, "taken"), (THIRD, "dispatch")]
    assert not {task.id for task in claimed.tasks} & {task.id for task in referred.tasks}
    groups = {task.payload["message"]: task.payload["group"] for task in referred.tasks}
    assert groups == {"taken": 1, "dispatch": 2}, "the old question is taken back, the new one put"


def test_a_message_about_an_older_question_is_refused():
    life = Life()
    life.dispatch()
    assert life.refused(Kind.CLAIMED, group=0) is Reason.ILLEGAL_TRANSITION
    life.say(Kind.CLAIMED, group=1)


# the clock -----------------------------------------------------------------------------------------------------


def test_the_ladder_of_picking_up_climbs_rung_by_rung():
    life = Life()
    life.dispatch()
    seen = [life.tick(step) for step in (44.9, 0.1, 26.9, 0.1, 17.9, 0.1, 400)]
    said = [
        [(e.kind, e.data.get("share", e.data.get("archive"))) for e in effects.entries] for effects in seen
    ]
    assert said == [
        [], [(Kind.WARNED, 0.5)], [], [(Kind.ESCALATED, 0.8), (Kind.DEPUTISED, DEPUTY)], [], [(Kind.ESCALATED, 1.0)],
        [],
    ]  # fmt: skip
    assert mails(seen[3]) == [(DEPUTY, "dispatch"), (HOLDER, "escalate")]


def test_a_clock_that_jumps_an_hour_climbs_all_rungs_once_and_breaches_once():
    life = Life()
    life.dispatch()
    kinds = [entry.kind for entry in life.tick(3_600).entries]
    assert kinds == [Kind.WARNED, Kind.ESCALATED, Kind.DEPUTISED, Kind.ESCALATED, Kind.BREACHED]
    assert life.tick(3_600).entries == []
    life.now -= 7_200_000
    assert life.tick(0).entries == [], "and set back again, none"


def test_waiting_for_evidence_moves_every_deadline_by_exactly_its_length():
    life = Life()
    life.dispatch()
    life.say(Kind.CLAIMED)
    life.now += 10_000
    life.say(Kind.EVIDENCE_WANTED, items=["id_card"])
    before = msgspec.structs.asdict(life.case)
    assert life.tick(86_400).entries == [], "the clock stands still"
    life.say(Kind.EVIDENCE_GIVEN, "caller", items=["id_card"])
    for name in ("deadline_ms", "stage_began_ms", "stage_deadline_ms"):
        assert getattr(life.case, name) - before[name] == 86_400_000
    assert life.tick(94.9).entries == []
    assert [entry.kind for entry in life.tick(0.1).entries] == [Kind.WARNED]


@pytest.mark.parametrize("pauses", [True, False])
def test_fetching_an_original_pauses_only_where_the_holder_says_so(pauses: bool):
    life = Life()
    life.dispatch()
    life.say(Kind.CLAIMED)
    deadline = life.case.deadline_ms
    life.say(Kind.RETRIEVING, pauses=pauses)
    life.now += 60_000
    life.say(Kind.RETRIEVED)
    assert life.case.deadline_ms - deadline == (60_000 if pauses else 0)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Kind.EVIDENCE_WANTED, "evidence_not_given"), (Kind.RETRIEVING, "original_not_retrieved")],
)
def test_no_pause_is_for_ever(kind: Kind, reason: str):
    life = Life()
    life.dispatch()
    life.say(Kind.CLAIMED)
    life.say(kind, pauses=True, items=["id_card"])
    assert life.tick(life.policy.evidence_patience_s - 1).entries == []
    effects = life.tick(1)
    assert (life.case.state, life.case.reason) == (State.EXPIRED, reason)
    assert mails(effects) == [(HOLDER, "withdrawn")]


def test_a_caller_who_never_chooses_ends_his_case():
    life = Life()
    life.say(located({HOLDER: "hit"}, [found(decision="possible")]))
    life.tick(life.case.target_s)
    assert life.case.is_breached
    life.tick(life.policy.selection_patience_s)
    assert (life.case.state, life.case.reason) == (State.EXPIRED, "not_selected")


def test_the_target_is_the_one_of_the_holders_city():
    life = Life()
    assert life.case.target_s == 900, "nobody knows yet who holds it"
    life.dispatch()
    assert (life.case.target_s, life.case.deadline_ms) == (600, START_MS + 600_000)
    life.say(Kind.REFERRED, archive=FAR)
    assert (life.case.target_s, life.case.deadline_ms) == (900, START_MS + 900_000)


# policy --------------------------------------------------------------------------------------------------------


def test_budgets_above_the_target_are_refused_in_both_languages():
    with pytest.raises(PolicyError, match=r"超过目标 600 秒.*more than the target of 600 s"):
        Policy(in_city=Budgets(600, 6, 60, 180, 300, 12, 90))
    Policy(in_city=Budgets(648, 6, 60, 180, 300, 12, 90))


@pytest.mark.parametrize("shares", [(0.8, 0.5), (0.0, 0.5), (-1.0,)])
def test_rungs_must_grow(shares: tuple[float, ...]):
    rungs = tuple(Rung(share, "warn") for share in shares)
    with pytest.raises(PolicyError, match="the rungs must grow"):
        Policy(ladders={**LADDERS, Stage.REVIEW: rungs})


def test_a_ladder_for_every_stage_is_demanded_at_the_start_not_missed_at_the_first_case():
    with pytest.raises(PolicyError, match="review"):
        Policy(ladders={stage: rungs for stage, rungs in LADDERS.items() if stage is not Stage.REVIEW})


def test_nobody_deputises_for_itself():
    with pytest.raises(PolicyError, match=HOLDER):
        Policy(deputies={HOLDER: HOLDER})


@pytest.mark.parametrize(
    ("window", "holder", "is_in_city"),
    [("330402", "330483", True), ("330402", "330400", True), ("330402", "310115", False), ("", "330483", False),
     ("330402", "", False), ("", "", False), ("3304", "330483", True), ("310115", "310000", True), ("31", "310115", True),
     ("310230", "310115", True), ("310115", "320500", False), ("332222", "330402", True), ("330402", "330000", False)],
)  # fmt: skip
def test_in_city_means_one_prefecture_or_one_municipality(window: str, holder: str, is_in_city: bool):
    assert (Policy().budgets(window, holder) is not CROSS_CITY) == is_in_city


# choosing ------------------------------------------------------------------------------------------------------


def one(score: float, decision: str = "likely", archive: str = HOLDER, ref: str = "a") -> Found:
    return Found(ref, archive, score, decision)


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([], None),
        ([one(30)], 0),
        ([one(30, "possible")], None),
        ([one(30), one(24, ref="b")], 0),
        ([one(24, ref="b"), one(30)], 1),
        ([one(30), one(24.1, ref="b")], None),
        ([one(30), one(24.1, "possible", ref="b")], None),
        ([one(30), one(30, archive=DEPUTY, ref="b")], None),
        ([one(30, "possible"), one(20, ref="b")], None),
        ([one(30), one(10, ref="b"), one(23, ref="c")], 0),
        ([one(30), one(10, ref="b"), one(25, ref="c")], None),
    ],
)
def test_a_person_is_spared_a_choice_only_where_there_is_none(candidates: list[Found], chosen: int | None):
    assert clear_choice(candidates) == (None if chosen is None else candidates[chosen])


scored = st.builds(
    one,
    st.floats(0, 60).map(lambda score: round(score, 1)),
    st.sampled_from(["likely", "possible"]),
    st.sampled_from([HOLDER, DEPUTY, FAR]),
    st.sampled_from("abcdef"),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(scored, max_size=6), st.randoms())
def test_the_choice_is_likely_leads_all_and_does_not_hang_on_the_order(candidates: list[Found], chance: Any):
    chosen = clear_choice(candidates)
    mixed = chance.sample(candidates, len(candidates))
    assert clear_choice(mixed) == chosen
    if chosen is not None:
        assert chosen.decision == "likely"
        rest = [*candidates]
        rest.remove(chosen)
        assert all(chosen.score - other.score >= CLEAR_LEAD for other in rest)


@settings(max_examples=100, deadline=None)
@given(st.lists(scored, max_size=30), st.lists(scored, max_size=30))
def test_merging_keeps_the_latest_word_on_each_and_the_best_first(known: list[Found], fresh: list[Found]):
    merged = merge(known, fresh)
    last = {found.ref: found for found in [*known, *fresh]}
    assert {found.ref: found for found in merged}.items() <= last.items()
    assert len(merged) == len(last)
    assert [found.score for found in merged] == sorted((found.score for found in merged), reverse=True)


def test_a_case_survives_being_stored():
    life = Life()
    life.deputise()
    life.say(Kind.CLAIMED)
    assert msgspec.json.decode(msgspec.json.encode(life.case), type=Case) == life.case
