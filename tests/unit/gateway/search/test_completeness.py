"""Whatever the archives do, the account has one outcome for each, adds up, says complete only when it is, and is in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec import structs

from federation.dates import DateSpan
from federation.outcome import ANSWERED, CANNOT_HIDE, NotAsked, Outcome
from federation.query import Query, Relation
from federation.reasons import Reason
from gateway.search.circuit import FAILURES_IN_A_ROW
from gateway.search.completeness import ArchiveOutcome, Verdict, account, may_hide, summary
from gateway.search.latency import UNKNOWN_S
from gateway.search.ports import CategoryHoldings, Reply
from gateway.search.question import Question, Scope
from gateway.search.roster import Member, Roster
from gateway.search.search import Searches
from tests.fakes.holdings import FAILING, Behaviour, FakeHoldings, Fault, candidate, manifest
from tests.fakes.virtual import now, run

CODES = ("330400", "330402", "330411", "330421", "330481")
ROSTER = Roster(1, tuple(Member(code, f"{code}馆", f"127.0.0.1:{4000 + n}") for n, code in enumerate(CODES)))
ASKED = Question(
    query=Query(
        category="marriage", purpose="marriage_proof", relation=Relation.SELF, name="钱伟明",
        birth=DateSpan.of_year(1963), event=DateSpan.of_years(1985, 1988),
    ),
    deadline_s=2.0,
    caller="platform",
)  # fmt: skip
MANY = settings(max_examples=120, deadline=None)


class Counts:
    """Counts what the search reports."""

    def __init__(self):
        self.events = []
        self.outcomes = []

    def searched(self, seconds, verdict, asked):
        self.verdict = verdict

    def outcome(self, archive, outcome):
        self.outcomes.append((archive, outcome))

    def event(self, name):
        self.events.append(name)


def searches(holdings, roster=ROSTER, observer=None):
    return Searches(roster, holdings, observer or Counts(), clock=now)


def ask(behaviours, manifests=None, question=ASKED, roster=ROSTER):
    """(answer, seconds taken, holdings) of one search in virtual time."""

    async def work():
        holdings = FakeHoldings(behaviours, manifests)
        began = now()
        answer = await searches(holdings, roster).search(question)
        return answer, now() - began, holdings

    return run(work())


behaviours = st.builds(
    Behaviour,
    candidates=st.sampled_from([(), (candidate("r1"),), (candidate("r1"), candidate("r2", year=1986))]),
    fault=st.sampled_from(list(Fault)),
    delay_s=st.sampled_from([0.0, 0.01, 0.3, 1.5, 1.95, 5.0]),
    reply=st.none(),
)
worlds = st.fixed_dictionaries({}, optional=dict.fromkeys(CODES, behaviours))
known = st.fixed_dictionaries(
    {},
    optional={
        code: st.sampled_from(
            [
                manifest(code),
                manifest(code, index_epoch=0),
                manifest(code, categories={}),
                manifest(code, categories={"marriage": CategoryHoldings(5, 1801, 1820)}),
                manifest(code, categories={"marriage": CategoryHoldings(5, 1801, 1820, undated=1)}),
            ]
        )
        for code in CODES
    },
)


@MANY
@given(behaviours=worlds, manifests=known)
def test_one_outcome_each_that_adds_up_in_time(behaviours, manifests):
    answer, took, holdings = ask(behaviours, manifests)
    account = answer.completeness
    assert [one.archive for one in account.outcomes] == list(CODES)
    assert account.roster == len(CODES)
    assert account.asked == sum(one.outcome is not Outcome.NOT_ASKED for one in account.outcomes)
    assert account.answered == sum(one.outcome in ANSWERED for one in account.outcomes)
    assert took <= ASKED.deadline_s + 0.1
    assert {one.archive for one in account.gaps} == {one.archive for one in account.outcomes if may_hide(one)}
    assert (account.verdict is Verdict.COMPLETE) == (not account.gaps)
    for one in account.outcomes:
        behaviour = behaviours.get(one.archive, Behaviour())
        if one.outcome is Outcome.NOT_ASKED:
            assert holdings.attempts(one.archive) == 0
            assert holdings.connected(one.archive), "an older word rules nobody out"
            assert NotAsked(one.reason) in {NotAsked.CATEGORY_NOT_HELD, NotAsked.YEARS_NOT_HELD}
        elif behaviour.fault in FAILING or (
            behaviour.delay_s > ASKED.deadline_s and behaviour.fault is not Fault.AT_ONCE
        ):
            assert one.outcome not in ANSWERED, "a failure is never shown as an answer"
        if one.outcome is Outcome.EMPTY:
            assert not behaviour.candidates
    archives = {one.archive for one in answer.candidates}
    assert archives <= {
        one.archive for one in account.outcomes if one.outcome in {Outcome.HIT, Outcome.TIMEOUT}
    }


@MANY
@given(
    order=st.permutations(CODES),
    found=st.fixed_dictionaries({code: st.sampled_from(["none", "one", "copy", "two"]) for code in CODES}),
)
def test_the_order_of_arrival_changes_nothing(order, found):
    kinds = {
        "none": (),
        "one": (candidate("a"),),
        "copy": (candidate("b", fingerprints=(b"same event",), is_copy=True),),
        "two": (candidate("c", fingerprints=(b"same event",)), candidate("d", year=1980)),
    }
    plain, _took, _h = ask({code: Behaviour(kinds[found[code]]) for code in CODES})
    mixed, _took, _h = ask(
        {code: Behaviour(kinds[found[code]], delay_s=0.01 * (1 + place)) for place, code in enumerate(order)}
    )
    assert mixed.candidates == plain.candidates
    assert mixed.completeness == plain.completeness


def test_the_account_refuses_to_leave_one_out_or_name_one_twice():
    one = [ArchiveOutcome(code, Outcome.EMPTY) for code in CODES]
    assert account(ROSTER, tuple(one)).verdict is Verdict.COMPLETE
    for wrong in (one[:-1], [*one, one[0]], [*one[:-1], one[0]], one[::-1]):
        with pytest.raises(ValueError, match="exactly one outcome"):
            account(ROSTER, tuple(wrong))


@pytest.mark.parametrize(
    "outcome", [one for one in Outcome if one not in ANSWERED and one is not Outcome.NOT_ASKED]
)
def test_every_failure_makes_the_verdict_partial_and_names_the_archive(outcome):
    outcomes = tuple(ArchiveOutcome(code, outcome if code == "330421" else Outcome.EMPTY) for code in CODES)
    found = account(ROSTER, outcomes)
    assert found.verdict is Verdict.PARTIAL
    assert [gap.archive for gap in found.gaps] == ["330421"]
    assert found.gaps[0].suggestion.zh
    assert found.gaps[0].suggestion.en


def test_an_old_index_is_stale_and_not_complete():
    roster = Roster(1, tuple(replace(one, stale_after_s=3600) for one in ROSTER.members))

    async def work():
        late = {
            code: manifest(code, index_age_s=7200 if code == "330402" else 10, heard_at=now())
            for code in CODES
        }
        return await searches(FakeHoldings({}, late), roster).search(ASKED)

    answer = run(work())
    assert {one.archive: one.outcome for one in answer.completeness.outcomes}["330402"] is Outcome.STALE
    assert answer.completeness.verdict is Verdict.PARTIAL


def test_best_so_far_is_used_and_still_a_gap():
    soft = Reply("330402", Outcome.TIMEOUT, (candidate("r9"),))
    answer, _took, _h = ask({"330402": Behaviour(reply=soft)})
    assert [one.candidate.ref for one in answer.candidates] == ["r9"]
    assert answer.completeness.verdict is Verdict.PARTIAL


def test_an_archive_answering_for_another_is_a_bad_answer_of_its_own():
    answer, _took, _h = ask({"330402": Behaviour((candidate("x"),), Fault.WRONG)})
    outcome = {one.archive: one for one in answer.completeness.outcomes}["330402"]
    assert outcome.outcome is Outcome.BAD_ANSWER
    assert outcome.reason == "wrong_archive"
    assert answer.candidates == ()


def test_scope_leaves_out_with_a_reason_and_stays_complete():
    answer, _took, _h = ask({}, question=structs.replace(ASKED, scope=Scope(("330402",), ())))
    reasons = {one.archive: one.reason for one in answer.completeness.outcomes}
    assert reasons == {code: "" if code == "330402" else "out_of_scope" for code in CODES}
    assert answer.completeness.verdict is Verdict.COMPLETE


NONE_HELD = {
    "330402": manifest("330402", categories={}),
    "330411": manifest("330411", categories={"marriage": CategoryHoldings(5, 1801, 1820)}),
}
"""Two archives that can not hold what is asked for, by their own word."""


@pytest.mark.parametrize("archive", sorted(NONE_HELD))
@pytest.mark.parametrize("question", [ASKED, structs.replace(ASKED, quick=True)], ids=["thorough", "quick"])
def test_an_archive_that_is_away_is_missing_whatever_it_said_before(archive, question):
    """As after a restart of the gateway, which has heard nothing of it: the account rests on no memory."""

    async def work(manifests, *, away):
        holdings = FakeHoldings({}, manifests)
        if away:
            holdings.down.add(archive)
        return (await searches(holdings).search(question)).completeness

    here = run(work(NONE_HELD, away=False))
    assert (here.verdict, here.asked) == (Verdict.COMPLETE, len(CODES) - 2)
    away = run(work(NONE_HELD, away=True))
    assert away.verdict is Verdict.PARTIAL
    assert [(gap.archive, gap.outcome) for gap in away.gaps] == [(archive, Outcome.UNREACHABLE)]
    forgotten = run(work({code: one for code, one in NONE_HELD.items() if code != archive}, away=True))
    assert forgotten == away


def test_an_archive_that_has_told_of_a_newer_index_is_asked_until_it_says_what_that_holds():
    async def work():
        holdings = FakeHoldings({}, NONE_HELD)
        holdings.outdated.add("330402")
        asked = await searches(holdings).search(ASKED)
        assert holdings.attempts("330402") == 1
        assert holdings.attempts("330411") == 0
        return asked

    answer = run(work())
    assert {one.archive: one.outcome for one in answer.completeness.outcomes}["330402"] is Outcome.EMPTY
    assert answer.completeness.verdict is Verdict.COMPLETE


def test_an_open_circuit_rules_nobody_in_or_out():
    """Nobody needs to be asked what an archive that is there does not hold; one that is away is a gap by whatever name."""

    async def work():
        holdings = FakeHoldings({}, NONE_HELD)
        both = searches(holdings)
        for _ in range(FAILURES_IN_A_ROW):
            both.circuit("330402").failed(now())
        there = (await both.search(ASKED)).completeness
        holdings.down.add("330402")
        return there, (await both.search(ASKED)).completeness

    there, away = run(work())
    assert there.verdict is Verdict.COMPLETE
    assert [(gap.archive, gap.outcome) for gap in away.gaps] == [("330402", Outcome.CIRCUIT_OPEN)]


def test_out_of_scope_needs_no_session():
    async def work():
        holdings = FakeHoldings({}, {})
        holdings.down.add("330411")
        return await searches(holdings).search(structs.replace(ASKED, scope=Scope(("330402",), ())))

    assert run(work()).completeness.verdict is Verdict.COMPLETE


def test_the_stream_says_each_outcome_once_and_ends_with_the_plain_answer():
    world = {
        "330402": Behaviour((candidate("a"),), delay_s=0.2), "330411": Behaviour(fault=Fault.SILENT),
        "330421": Behaviour(fault=Fault.NO_SESSION),
    }  # fmt: skip
    plain, _took, _h = ask(world)

    async def work():
        return [event async for event in searches(FakeHoldings(world)).stream(ASKED)]

    events = run(work())
    assert [event[0] for event in events[:-1]] == ["outcome"] * (len(events) - 1)
    told = [event[1].archive for event in events[:-1]]
    assert len(told) == len(set(told))
    last = events[-1][1]
    assert last.completeness == plain.completeness
    assert last.candidates == plain.candidates


def test_a_streaming_caller_who_goes_away_leaves_nothing_behind():
    async def work():
        holdings = FakeHoldings(dict.fromkeys(CODES, Behaviour(fault=Fault.SILENT)) | {"330402": Behaviour()})
        both = searches(holdings)
        stream = both.stream(ASKED)
        await anext(stream)
        await stream.aclose()
        assert {one.archive for one in holdings.cancelled} == set(CODES) - {"330402"}
        assert len(asyncio.all_tasks()) == 1
        return await both.search(structs.replace(ASKED, scope=Scope((), ("330402",))))

    assert run(work()).completeness.verdict is Verdict.COMPLETE


HOLDERS = {code: manifest(code) for code in CODES} | {
    "330481": manifest("330481", categories={"marriage": CategoryHoldings(10, 1950, 2010)})
}
ONE_SILENT = dict.fromkeys(CODES, Behaviour((candidate("a"),), delay_s=0.01)) | {
    "330481": Behaviour(fault=Fault.SILENT)
}
QUICK = structs.replace(ASKED, quick=True)


@pytest.mark.parametrize("place", ["330481", "海宁", "海寧縣斜桥公社", "330423"])
def test_a_quick_search_stops_once_enough_answered_but_waits_for_the_named_place(place):
    """The place by its code, by words, or by the code it had in the record's day."""
    answer, took, _h = ask(ONE_SILENT, HOLDERS, QUICK)
    assert took < 1.0
    assert answer.completeness.verdict is Verdict.PARTIAL
    there = structs.replace(QUICK, query=structs.replace(ASKED.query, place=place))
    answer, took, _h = ask(ONE_SILENT, HOLDERS, there)
    assert took > 1.5
    assert [(gap.archive, gap.outcome) for gap in answer.completeness.gaps] == [("330481", Outcome.TIMEOUT)]


def test_whom_a_quick_search_did_not_wait_for_is_a_gap_and_not_called_late():
    """Neither to the caller nor to its circuit, its expected time and the metrics, however often."""

    async def work():
        holdings, counts = FakeHoldings(ONE_SILENT, HOLDERS), Counts()
        both = searches(holdings, observer=counts)
        for times in range(1, 12):
            account = (await both.search(QUICK)).completeness
            assert account.verdict is Verdict.PARTIAL
            (gap,) = account.gaps
            assert (gap.archive, gap.outcome, gap.reason) == ("330481", Outcome.NOT_ASKED, "stopped_early")
            assert "ended before" in gap.suggestion.en
            assert account.asked == account.answered == len(CODES) - 1
            assert [one.archive for one in holdings.cancelled] == ["330481"] * times
        assert both.circuit("330481").retry_after() == 0.0
        assert both._latencies["330481"].expected() == UNKNOWN_S
        assert {outcome for code, outcome in counts.outcomes if code == "330481"} == {Outcome.NOT_ASKED}

    run(work())


outcomes_of_all = st.tuples(
    *[
        st.one_of(
            st.builds(
                ArchiveOutcome,
                st.just(code),
                st.sampled_from([one for one in Outcome if one is not Outcome.NOT_ASKED]),
                truncated=st.booleans(),
            ),
            st.builds(
                ArchiveOutcome,
                st.just(code),
                st.just(Outcome.NOT_ASKED),
                st.sampled_from([one.value for one in NotAsked]),
            ),
        )
        for code in CODES
    ]
)


@MANY
@given(outcomes=outcomes_of_all, candidates=st.integers(0, 3))
def test_the_account_says_no_more_than_its_outcomes(outcomes, candidates):
    """Counts add up; complete means no gap; what was cut short is not exact; nothing found beside a gap is said of the
    archives that answered only, and an outage is named whatever the others found.
    """
    found = account(ROSTER, outcomes)
    assert (
        found.roster
        == len(outcomes)
        == found.asked + sum(one.outcome is Outcome.NOT_ASKED for one in outcomes)
    )
    assert found.answered <= found.asked
    assert (found.verdict is Verdict.COMPLETE) == (not found.gaps)
    hiding = {
        one.archive
        for one in outcomes
        if one.outcome not in ANSWERED
        and not (one.outcome is Outcome.NOT_ASKED and NotAsked(one.reason) in CANNOT_HIDE)
    }
    assert {gap.archive for gap in found.gaps} == hiding
    assert all(gap.suggestion.zh and gap.suggestion.en for gap in found.gaps)
    if any(one.truncated for one in outcomes) or found.gaps:
        assert not found.exact_count
    text = summary(found, candidates)
    if found.gaps and not candidates:
        assert ("在已答复的档案馆中未找到" in text.zh) == bool(found.answered)
        assert ("in the archives that answered" in text.en) == bool(found.answered)
        assert ("没有档案馆完整答复" in text.zh) == (not found.answered)
    if found.gaps:
        assert "全部" not in text.zh
        assert "Every archive" not in text.en


def test_where_nobody_was_asked_nobody_is_said_to_have_been_searched():
    found = account(
        ROSTER, tuple(ArchiveOutcome(code, Outcome.NOT_ASKED, NotAsked.CATEGORY_NOT_HELD) for code in CODES)
    )
    assert found.verdict is Verdict.COMPLETE
    assert summary(found, 0).en.endswith("so none was asked")


def test_an_archive_that_compared_a_part_is_a_gap_that_says_what_to_add():
    part = ArchiveOutcome(CODES[0], Outcome.UNSUPPORTED, Reason.TOO_MANY_RECORDS.value)
    found = account(ROSTER, (part, *(ArchiveOutcome(code, Outcome.EMPTY) for code in CODES[1:])))
    assert (found.verdict, [gap.archive for gap in found.gaps]) == (Verdict.PARTIAL, [CODES[0]])
    assert "出生日期" in found.gaps[0].suggestion.zh
    assert "date of birth" in found.gaps[0].suggestion.en


def test_one_silent_archive_is_not_called_archives():
    silent = ArchiveOutcome(CODES[0], Outcome.TIMEOUT)
    found = account(ROSTER, (silent, *(ArchiveOutcome(code, Outcome.HIT) for code in CODES[1:])))
    assert summary(found, 1).en.startswith("1 archive did")
    found = account(ROSTER, tuple(ArchiveOutcome(code, Outcome.TIMEOUT) for code in CODES))
    assert summary(found, 1).en.startswith(f"{len(CODES)} archives did")


def test_an_outage_is_named_as_long_as_the_roster_names_the_archive():
    """Hours later, whatever its circuit does, an archive that is gone stands in every account."""

    async def work():
        holdings = FakeHoldings({})
        holdings.down.add("330421")
        both = searches(holdings)
        for _ in range(60):
            answer = await both.search(ASKED)
            assert [gap.archive for gap in answer.completeness.gaps] == ["330421"]
            assert answer.completeness.roster == len(CODES)
            await asyncio.sleep(120)

    run(work())
