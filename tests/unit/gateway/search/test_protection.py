"""Circuit, retry budget, admission: what keeps one archive or one caller from taking everybody's time."""

from __future__ import annotations

import asyncio

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from federation.outcome import Outcome
from federation.reasons import Reason, Refusal
from gateway.search.admission import MOST_RUNNING, MOST_WAITING, Admission
from gateway.search.circuit import FAILURES_IN_A_ROW, FIRST_PAUSE_S, LONGEST_PAUSE_S, Circuit
from gateway.search.latency import HALF_LIFE_S, UNKNOWN_S, Latency
from gateway.search.question import LONGEST_DEADLINE_S, SHORTEST_DEADLINE_S
from gateway.search.retry import FLOOR_PER_S, SHARE, WINDOW_S, RetryBudget
from node_agent.service import MEANINGFUL_WORK_S
from tests.fakes.holdings import Behaviour, FakeHoldings, Fault
from tests.fakes.virtual import now, run
from tests.unit.gateway.search.test_completeness import ASKED, Counts, searches


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def circuit(clock):
    return Circuit(clock, jitter=lambda: 0.5)


def fail(one, clock, times=1):
    for _ in range(times):
        one.failed(clock.now)


# circuit -------------------------------------------------------------------------------------------------------


def test_it_opens_after_five_in_a_row_and_lets_one_through_after_the_pause(clock):
    one = circuit(clock)
    fail(one, clock, FAILURES_IN_A_ROW - 1)
    assert one.admits(2.0)
    fail(one, clock)
    assert not one.admits(2.0)
    assert one.retry_after() == pytest.approx(FIRST_PAUSE_S)
    clock.now += FIRST_PAUSE_S + 0.01
    assert one.admits(2.0)
    assert not one.admits(2.0)  # one at a time
    one.succeeded()
    assert one.admits(2.0)
    assert one.retry_after() == 0.0


def test_the_pause_doubles_to_its_bound(clock):
    one = circuit(clock)
    fail(one, clock, FAILURES_IN_A_ROW)
    pauses = []
    for _ in range(12):
        pauses.append(one.retry_after())
        clock.now += one.retry_after() + 0.01
        assert one.admits(2.0)
        fail(one, clock)
    assert [round(one, 6) for one in pauses] == sorted(round(one, 6) for one in pauses)
    assert pauses[0] == pytest.approx(FIRST_PAUSE_S)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_S)


def test_a_late_failure_of_an_older_question_does_not_lengthen_the_pause(clock):
    one = circuit(clock)
    asked = clock.now
    fail(one, clock, FAILURES_IN_A_ROW)
    clock.now += 1
    before = one.retry_after()
    one.failed(asked)
    assert one.retry_after() == before


def test_a_lost_session_counts_once_for_all_its_questions(clock):
    one = circuit(clock)
    for _ in range(50):
        one.lost_session(clock.now)
    assert one.admits(2.0)


def test_busy_never_counts_towards_five_in_a_row_but_half_of_ten_opens(clock):
    one = circuit(clock)
    for _ in range(9):
        one.busy(clock.now)
    assert one.admits(2.0)
    one.busy(clock.now)
    assert not one.admits(2.0)


def test_a_new_session_closes_it(clock):
    one = circuit(clock)
    fail(one, clock, FAILURES_IN_A_ROW)
    one.reset()
    assert one.admits(0.1)


def test_impatient_callers_can_not_open_a_healthy_archives_circuit():
    async def work():
        holdings = FakeHoldings({"330402": Behaviour(delay_s=0.25)})
        one = searches(holdings)
        for _ in range(20):
            await one.search(replace(ASKED, deadline_s=0.2))
        answer = await one.search(ASKED)
        return {found.archive: found.outcome for found in answer.completeness.outcomes}["330402"]

    assert run(work()) is Outcome.EMPTY


def test_a_silent_archive_is_not_asked_after_five_and_named_every_time():
    async def work():
        holdings = FakeHoldings({"330402": Behaviour(fault=Fault.SILENT)})
        one = searches(holdings)
        seen = []
        for _ in range(8):
            began = now()
            answer = await one.search(ASKED)
            outcome = {found.archive: found.outcome for found in answer.completeness.outcomes}["330402"]
            seen.append((outcome, round(now() - began, 1)))
        return seen, holdings.attempts("330402")

    seen, attempts = run(work())
    assert attempts <= 7  # five, and perhaps a probe
    assert Outcome.CIRCUIT_OPEN in {outcome for outcome, _took in seen}
    assert all(took == 0.0 for outcome, took in seen if outcome is Outcome.CIRCUIT_OPEN)


# retry ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 20)), max_size=30))
def test_retries_stay_inside_the_budget(steps):
    clock = Clock()
    budget = RetryBudget(clock)
    sent = granted = 0
    began = clock.now
    for count, wait in steps:
        budget.sent(count)
        sent += count
        for number in range(count):
            archive = f"{number % 50}"
            if budget.grant(archive):
                granted += 1
                budget.settled(archive)
        clock.now += wait
    windows = (clock.now - began) // WINDOW_S + 2
    assert granted <= 2 * SHARE * sent + windows * FLOOR_PER_S * WINDOW_S


def test_one_retry_in_flight_for_an_archive(clock):
    budget = RetryBudget(clock)
    budget.sent(100)
    assert budget.grant("330402")
    assert not budget.grant("330402")
    budget.settled("330402")
    assert budget.grant("330402")


def test_a_cut_session_is_asked_once_more_with_the_same_identifier():
    async def work():
        holdings = FakeHoldings({"330402": Behaviour(fault=Fault.CUT_ONCE, delay_s=0.05)})
        answer = await searches(holdings).search(ASKED)
        asked = [one for one in holdings.asked if one.archive == "330402"]
        return answer, asked

    answer, asked = run(work())
    assert {one.archive: one.outcome for one in answer.completeness.outcomes}["330402"] is Outcome.EMPTY
    assert len(asked) == 2
    assert asked[0].subrequest_id == asked[1].subrequest_id
    assert asked[1].budget_s < asked[0].budget_s


@pytest.mark.parametrize("deadline_s", [SHORTEST_DEADLINE_S, 0.13, 0.2, 2.0, LONGEST_DEADLINE_S])
def test_an_archive_gets_time_to_answer_and_the_answer_time_to_come_home(deadline_s):
    async def work():
        holdings = FakeHoldings({"330402": Behaviour(fault=Fault.SILENT)})
        began = now()
        await searches(holdings).search(replace(ASKED, deadline_s=deadline_s))
        return holdings.asked[0], now() - began

    asked, took = run(work())
    assert asked.soft_s >= 2 * MEANINGFUL_WORK_S
    assert took <= deadline_s - min(0.08, 0.4 * deadline_s) + 0.001


def test_a_session_that_is_always_cut_is_tried_twice_and_no_more():
    async def work():
        holdings = FakeHoldings({"330402": Behaviour(fault=Fault.CUT, delay_s=0.01)})
        answer = await searches(holdings).search(ASKED)
        return answer, holdings.attempts("330402")

    answer, attempts = run(work())
    assert attempts == 2
    assert {one.archive: one.outcome for one in answer.completeness.outcomes}["330402"] is Outcome.UNREACHABLE


# latency -------------------------------------------------------------------------------------------------------


def test_expected_time_rises_at_once_and_halves_slowly(clock):
    one = Latency(clock)
    assert one.expected() == UNKNOWN_S
    one.observe(2.0, clock.now)
    assert one.expected() == 2.0
    clock.now += HALF_LIFE_S
    one.observe(0.0, clock.now)
    assert one.expected() == pytest.approx(1.0)


# admission -----------------------------------------------------------------------------------------------------


def test_above_the_room_searches_wait_and_above_that_they_are_told():
    async def work():
        counts = Counts()
        place = Admission(now, counts)
        for _ in range(MOST_RUNNING):
            await place.enter(now() + 2)
        waiting = [asyncio.create_task(place.enter(now() + 2)) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await place.enter(now() + 2)
        assert refused.value.reason is Reason.OVERLOADED
        assert refused.value.retry_after_s
        place.leave()
        await asyncio.sleep(0)
        assert sum(task.done() for task in waiting) == 1
        began = now()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert now() - began == pytest.approx(1.0, abs=0.01)  # half of the time
        assert counts.events == ["shed"] * MOST_WAITING

    run(work())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["enter", "leave", "cancel", "wait"]), max_size=300), st.randoms())
def test_no_place_is_lost_or_doubled_whoever_is_cancelled(steps, dice):
    async def work():
        place = Admission(now, Counts())
        tasks, inside = [], 0

        async def enter():
            nonlocal inside
            await place.enter(now() + 2)
            inside += 1

        for _ in range(MOST_RUNNING - 3):
            await enter()
        for step in steps:
            match step:
                case "enter":
                    tasks.append(asyncio.create_task(enter()))
                case "leave" if inside:
                    inside -= 1
                    place.leave()
                case "cancel" if tasks:
                    dice.choice(tasks).cancel()
                case "wait":
                    await asyncio.sleep(dice.choice([0, 0, 0.5]))
        await asyncio.sleep(5)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert place.running == inside
        assert place.waiting == 0

    run(work())
