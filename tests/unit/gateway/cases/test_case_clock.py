"""The clock of a process: an hour's jump of the machine's clock moves no minute of any case, and is reported once."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from gateway.cases.case import Event
from gateway.cases.clock import SteadyClock
from gateway.cases.machine import TICK, apply
from gateway.cases.minutes import minutes
from gateway.cases.policy import Policy
from gateway.cases.states import Kind, State
from tests.fakes.cases import ACCEPTED, HOLDER, START_MS, found, located, new_case

HOUR_MS = 3_600_000


class Machine:
    """A machine whose time of day can be set, and whose steady clock can not."""

    def __init__(self) -> None:
        self.wall_ms, self.steady_ns = START_MS, 5_000

    def go(self, seconds: float) -> None:
        self.wall_ms += int(seconds * 1000)
        self.steady_ns += int(seconds * 1e9)

    def clock(self) -> SteadyClock:
        return SteadyClock(lambda: self.wall_ms, lambda: self.steady_ns)


def test_it_begins_at_the_time_of_day_and_goes_with_it():
    machine = Machine()
    clock = machine.clock()
    assert clock() == START_MS
    machine.go(600)
    assert clock() == START_MS + 600_000


def test_a_jump_is_not_followed_and_told_once():
    for jump in (HOUR_MS, -HOUR_MS):
        machine = Machine()
        clock = machine.clock()
        machine.wall_ms += jump
        told = []
        for _ in range(60):
            machine.go(10)
            told.append(clock.steer(machine.wall_ms - clock()))
        assert [one for one in told if one] == [told[0]]
        assert abs(told[0] - jump) < 1_000
        assert abs(clock() - (START_MS + 600_000)) <= 3_000, "half a percent at most"


def test_a_second_jump_is_told_again():
    machine = Machine()
    clock = machine.clock()
    machine.wall_ms += HOUR_MS
    assert clock.steer(machine.wall_ms - clock())
    machine.wall_ms -= HOUR_MS
    assert clock.steer(machine.wall_ms - clock()) == 0, "back where it was: nothing is wrong any more"
    machine.wall_ms += HOUR_MS
    assert clock.steer(machine.wall_ms - clock())


def test_a_small_difference_is_taken_in():
    machine = Machine()
    clock = machine.clock()
    machine.wall_ms += 400
    for _ in range(60):
        machine.go(10)
        assert clock.steer(machine.wall_ms - clock()) == 0
    assert abs(machine.wall_ms - clock()) < 20


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(-2 * HOUR_MS, 2 * HOUR_MS)), max_size=30))
def test_it_never_runs_backwards_whatever_happens_to_the_time_of_day(steps: list[tuple[float, int]]):
    machine = Machine()
    clock, before = machine.clock(), START_MS
    for seconds, jump in steps:
        machine.go(seconds)
        machine.wall_ms += jump
        clock.steer(machine.wall_ms - clock())
        assert clock() >= before
        before = clock()


def test_an_hours_jump_forward_breaches_nobody_and_back_stops_nobodys_clock():
    policy = Policy()
    for jump in (HOUR_MS, -HOUR_MS):
        machine = Machine()
        clock, case, journal = machine.clock(), new_case(), []

        def happen(event: Event, case=case, clock=clock, journal=journal) -> None:
            journal += apply(case, event, clock(), policy).entries

        happen(ACCEPTED)
        happen(located({HOLDER: "hit"}, [found()]))
        machine.wall_ms += jump
        for _ in range(20):
            machine.go(1)
            clock.steer(machine.wall_ms - clock())
            happen(TICK)
        assert case.state is State.DISPATCHED
        assert not case.is_breached
        happen(Event(Kind.REFUSED, HOLDER, {"reason": "not_found"}))
        happen(Event(Kind.DELIVERED, "gateway"))
        counted = minutes(journal, clock())
        assert counted is not None
        assert abs(counted.counted_s - 20) <= 0.2
        assert counted.is_met


@given(st.lists(st.integers(-5_000, 5_000), min_size=6, max_size=6))
def test_replicas_whose_clocks_differ_write_one_journal_of_growing_times(skews: list[int]):
    """Each line by another replica: the journal's minutes and the case's own count must agree to the millisecond."""
    policy, case, journal = Policy(), new_case(), []
    events = [
        ACCEPTED,
        located({HOLDER: "hit"}, [found()]),
        Event(Kind.CLAIMED, HOLDER),
        Event(Kind.EVIDENCE_WANTED, HOLDER, {"items": ["id_card"]}),
        Event(Kind.EVIDENCE_GIVEN, "caller", {"items": [], "evidence": []}),
        Event(Kind.REFUSED, HOLDER, {"reason": "not_found"}),
    ]
    for n, (event, skew) in enumerate(zip(events, skews, strict=True)):
        journal += apply(case, event, START_MS + 2_000 * n + skew, policy).entries
    stopped = apply(case, Event(Kind.DELIVERED, "gateway"), START_MS + 60_000, policy)
    journal += stopped.entries
    times = [entry.at_ms for entry in journal]
    assert times == sorted(times)
    counted = minutes(journal, times[-1])
    assert counted is not None
    assert stopped.stopped is not None
    assert round(counted.counted_s * 1000) == stopped.stopped.counted_ms
