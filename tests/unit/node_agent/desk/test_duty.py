"""Who is told of a waiting case, when, and who is told next: by the duty rota and the desk's own clock, gateway or not."""

from __future__ import annotations

import pytest

from federation import mail
from node_agent.desk.rota import Rota, RotaError
from tests.fakes.desks import START_MS, Clock, desk_at, dispatch, give, notice_count, take

ROTA = {
    "webhook": "http://messenger.example/all",
    "channels": {"顾丙": "http://messenger.example/lead"},
    "shifts": [
        {"days": ["thu"], "span": "08:30-11:30", "first": ["沈甲"], "second": ["陆乙"], "lead": ["顾丙"]},
        {"days": ["thu"], "span": "11:30-13:30", "first": ["陆乙"], "lead": ["顾丙"]},
        {"days": ["mon", "fri"], "span": "08:30-17:00", "first": ["沈甲", "陆乙"]},
        {"days": ["2026-02-14"], "span": "09:00-12:00", "first": ["陆乙"]},
    ],
}
HOUR = 3_600


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def desk(tmp_path, clock):
    made = desk_at(tmp_path, clock, rota=ROTA)
    yield made
    made.store.close()


def told(desk, case="c1"):
    """(rung, stage, names) of everybody who was told so far."""
    return [
        (one.detail["rung"], one.detail["stage"], tuple(one.detail["to"]))
        for one in desk.history(case)
        if one.action == "notified"
    ]


def test_a_new_case_is_told_to_who_is_on_duty_and_climbs_by_the_desks_own_clock(desk, clock):
    give(desk, dispatch())
    assert told(desk) == [(0, "pick_up", ("沈甲",))]
    clock.go(44)
    desk.tick()
    assert len(told(desk)) == 1
    clock.go(1)  # half of 90 s
    desk.tick()
    desk.tick()
    assert told(desk)[1:] == [(1, "pick_up", ("陆乙",))]
    clock.go(27)  # four fifths
    desk.tick()
    assert told(desk)[2:] == [(2, "pick_up", ("顾丙",))]
    clock.go(600)
    desk.tick()
    assert len(told(desk)) == 3
    assert desk.item("c1").rung == 2


def test_a_claimed_case_climbs_too_and_a_claim_begins_anew(desk, clock):
    give(desk, dispatch())
    clock.go(50)
    desk.tick()
    item = desk.claim("c1", "沈甲", desk.item("c1").version)
    for _ in range(5):
        clock.go(40)
        desk.renew("c1", "沈甲", item.version)
        desk.tick()
    assert [one for one in told(desk) if one[1] == "review"] == [
        (1, "review", ("陆乙",)),
        (2, "review", ("顾丙",)),
    ]


def test_the_gateways_reminder_tells_the_next_ones_earlier(desk):
    give(desk, dispatch())
    give(desk, mail.Nudge(1, level="escalate", stage="pick_up", left_ms=10_000))
    assert told(desk)[-1] == (2, "pick_up", ("顾丙",))


def test_noon_belongs_to_the_noon_shift_and_the_next_level_stands_in(desk, clock):
    clock.go(2.5 * HOUR)  # noon
    give(desk, dispatch())
    clock.go(60)
    desk.tick()
    assert told(desk) == [(0, "pick_up", ("陆乙",)), (1, "pick_up", ("顾丙",))]


def test_who_comes_on_duty_is_told_of_what_still_waits(desk, clock):
    clock.go(8 * HOUR)  # 17:30: nobody
    give(desk, dispatch())
    assert told(desk) == [(0, "pick_up", ())]
    clock.go(HOUR)
    desk.tick()
    assert told(desk)[-1][2] == ()
    clock.go(14 * HOUR)  # Friday 08:30
    desk.tick()
    desk.tick()
    assert told(desk)[-1] == (2, "pick_up", ("沈甲", "陆乙"))
    assert len([one for one in told(desk) if one[2]]) == 1


def test_a_shift_of_a_date_replaces_the_weekdays():
    rota = Rota.from_dict(ROTA)
    saturday = START_MS + 30 * 86_400_000  # 2026-02-14, a swapped working day
    assert rota.on_duty(saturday) == ("陆乙",)
    assert rota.on_duty(saturday + 7 * 86_400_000) == ()


def test_evidence_and_a_lost_claim_are_told_anew(desk, clock):
    give(desk, dispatch())
    item = desk.claim("c1", "沈甲", desk.item("c1").version)
    desk.want_evidence("c1", "沈甲", item.version, ("death",))
    give(desk, mail.Evidence(1, proofs=(mail.Proof("death"),)))
    assert told(desk) == [(0, "pick_up", ("沈甲",))] * 2
    item = desk.claim("c1", "陆乙", desk.item("c1").version)
    clock.go(130)
    desk.tick()
    assert told(desk)[-1] == (0, "pick_up", ("沈甲",))


def test_a_colleague_is_told_of_what_was_handed_over(desk):
    give(desk, dispatch())
    desk.hand_over("c1", "顾丙", desk.item("c1").version, "陆乙")
    desk.tick()
    assert told(desk)[-1] == (0, "review", ("陆乙",))


def test_calls_wait_in_the_file_and_go_to_each_ones_channel(desk, clock, tmp_path):
    give(desk, dispatch())
    clock.go(80)
    desk.tick()
    desk.store.close()
    again = desk_at(tmp_path, clock, rota=ROTA, people=False)
    calls = again.calls()
    assert [one.address for one in calls] == ["http://messenger.example/all", "http://messenger.example/lead"]
    again.called(calls[0])
    again.call_again(calls[1], 5)
    assert again.calls() == []
    clock.go(5)
    assert [one.tries for one in again.calls()] == [1]
    again.store.close()


def test_nobody_is_called_about_what_is_decided_or_long_past(desk, clock):
    give(desk, dispatch())
    give(desk, dispatch(), "c2")
    desk.refuse("c1", "沈甲", desk.item("c1").version, "secret")
    assert desk.calls() == []  # the oldest of its address was dropped
    assert [one.case_id for one in desk.calls()] == ["c2"]
    clock.go(901)
    assert desk.calls() == []
    assert desk.store.notices(clock(), 10) == []


def test_too_many_calls_drop_the_oldest_never_the_cases(desk, monkeypatch):
    monkeypatch.setattr("node_agent.desk.transaction.MOST_NOTICES", 3)
    for place in range(5):
        give(desk, dispatch(), f"c{place}")
    assert notice_count(desk) == 3
    assert [one.case_id for one in desk.calls()] == ["c2"]
    assert len(desk.queue()) == 5


def test_the_queue_shows_ones_own_first_then_the_most_escalated_then_the_soonest_due(desk, clock):
    for case, left in (("late", 90_000), ("soon", 30_000), ("mine", 90_000), ("theirs", 90_000)):
        give(desk, dispatch(pick_up_ms=left), case)
    desk.claim("mine", "沈甲", desk.item("mine").version)
    desk.claim("theirs", "陆乙", desk.item("theirs").version)
    assert [one.case_id for one in desk.queue("沈甲")] == ["mine", "soon", "late", "theirs"]
    clock.go(20)
    desk.tick()  # half of the 30 s are gone
    give(desk, dispatch(pick_up_ms=1_000), "sooner")
    assert [one.case_id for one in desk.queue()][:2] == ["soon", "sooner"]


def test_escalation_goes_on_while_the_gateway_is_away(desk, clock):
    give(desk, dispatch())
    clock.go(3 * HOUR)
    desk.tick()
    assert told(desk)[-1][0] == 2
    assert [type(one).__name__ for one in take(desk)] == ["Received"]


@pytest.mark.parametrize(
    "written",
    [
        {"shift": []}, {"shifts": {}}, {"shifts": ["mon"]}, {"shifts": [{"days": ["someday"], "span": "08:00-09:00"}]},
        {"shifts": [{"days": ["mon"], "span": "09:00-08:00"}]}, {"shifts": [{"days": ["mon"], "span": "8-9"}]},
        {"shifts": [{"days": "mon", "span": "08:00-09:00"}]}, {"shifts": [{"days": ["mon"], "span": "08:00-09:00", "boss": []}]},
        {"webhook": "ftp://x"}, {"channels": {"甲": 7}}, {"channels": {"Li Wei": "http://messenger.example"}},
    ],
)  # fmt: skip
def test_a_rota_written_wrongly_is_refused_in_both_languages(written):
    with pytest.raises(RotaError, match=" · "):
        Rota.from_dict(written)


@pytest.mark.parametrize("name", ["Li Wei", "李\u3000伟", " 沈甲", "沈甲\n", "", "clock", "沈" * 41])
@pytest.mark.parametrize("level", ["first", "second", "lead"])
def test_a_name_on_the_rota_that_no_user_can_have_is_refused_by_its_place_and_not_said_back(name, level):
    shift = ROTA["shifts"][0]
    with pytest.raises(RotaError, match=f"{level} of shift 2") as caught:
        Rota.from_dict({"shifts": [shift, {**shift, level: ["沈甲", name]}]})
    assert len(name) < 2 or name not in str(caught.value)


def test_names_of_the_rota_are_whose_a_user_can_be(desk):
    names = ("Li.Wei", "阿依古丽·买买提", "li-wei_2")
    give(desk, dispatch())
    desk.rota = Rota.from_dict({"shifts": [{**shift, "first": names} for shift in ROTA["shifts"]]})
    for _second in range(3):
        desk.tick()
    assert told(desk) == [(0, "pick_up", ("沈甲",)), (0, "pick_up", names)]
