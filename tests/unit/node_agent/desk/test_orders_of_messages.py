"""Messages come in any order and more than once: the desk ends as if they had come once each, as they were sent."""

from __future__ import annotations

from random import Random

import hypothesis.strategies as st
import msgspec
from hypothesis import given, settings

from federation import mail
from federation.reasons import Refusal
from node_agent.desk.items import State
from tests.fakes.desks import DEPUTY, Clock, desk_at, dispatch, give, issue, kinds, take


@st.composite
def lives(draw):
    """What a gateway sends about one case: questions, each asked, taken by the other desk, given back, ended or not."""
    sent, seq = [], 0
    for group in range(1, draw(st.integers(1, 3)) + 1):
        seq += 1
        sent.append(dispatch(group, seq=seq, ref=f"r{group}"))
        for step in draw(st.lists(st.sampled_from(["taken", "evidence", "nudge"]), max_size=4)):
            seq += 1
            if step == "taken":
                sent.append(mail.Taken(group, seq=seq, by=DEPUTY))
                if draw(st.booleans()):
                    seq += 1
                    sent.append(dispatch(group, seq=seq, ref=f"r{group}"))
            elif step == "evidence":
                sent.append(mail.Evidence(group, seq=seq, proofs=(mail.Proof("death", f"{seq:064x}"),)))
            else:
                sent.append(mail.Nudge(group, seq=seq, level="warn", stage="pick_up", left_ms=1))
    seq += 1
    end = draw(st.sampled_from(["none", "withdrawn", "issue", "issue, withdrawn"]))
    if "issue" in end:
        sent.append(mail.Issue(group, seq=seq, by=DEPUTY))
    if "withdrawn" in end:
        sent.append(mail.Withdrawn(group, seq=seq + 1))
    return sent


def ended(folder, messages):
    """How the desk stands after these messages, and what it has said."""
    desk = desk_at(folder, Clock())
    for message in messages:
        assert give(desk, message) is None
    item = desk.item("c1")
    said = take(desk)
    proofs = {proof.digest for proof in msgspec.json.decode(item.proofs, type=list[mail.Proof])}
    desk.store.close()
    received = [message.group for message in said if isinstance(message, mail.Received)]
    return (item.grp, item.state, item.reason, proofs, item.dispatch is not None), received, kinds(said)


@settings(max_examples=150, deadline=None)
@given(lives(), st.randoms(use_true_random=False), st.data())
def test_any_order_and_any_repetition_ends_alike(tmp_path_factory, sent, random: Random, data):
    again = data.draw(st.lists(st.sampled_from(sent), max_size=len(sent)))
    shuffled = [*sent, *again]
    random.shuffle(shuffled)
    plain, _received, _said = ended(tmp_path_factory.mktemp("plain"), sent)
    mixed, received, said = ended(tmp_path_factory.mktemp("mixed"), shuffled)
    assert mixed == plain
    assert received.count(mixed[0]) == 1  # the last question was taken up once, whatever came twice
    assert set(said) <= {"received"}


actions = st.lists(
    st.sampled_from(["claim", "release", "approve", "refuse", "ask", "tick", "send", "issue"]), max_size=8
)


@settings(max_examples=150, deadline=None)
@given(lives(), st.randoms(use_true_random=False), actions)
def test_whatever_people_do_meanwhile_one_decision_leaves_at_most(
    tmp_path_factory, sent, random: Random, does
):
    """People act between any two messages: of each question at most one decision leaves, and one document."""
    clock = Clock()
    desk = desk_at(tmp_path_factory.mktemp("desk"), clock)
    steps = [*sent, *does]
    random.shuffle(steps)
    said = []
    for step in steps:
        if not isinstance(step, str):
            give(desk, step)
            continue
        clock.go(50)
        said += act(desk, step)
    said += take(desk)
    issue(desk)
    said += take(desk)
    item = desk.item("c1")
    for group in range(1, item.grp + 1):
        spoken = kinds([one for one in said if one.group == group])
        assert spoken.count("issued") <= 1
        assert spoken.count("approved") + spoken.count("refused") + spoken.count("referred") <= 1
    assert item.state in set(State)
    assert desk.orders() == []
    assert desk.outbox() == []
    desk.store.close()


def act(desk, step):
    try:
        item = desk.item("c1")
        match step:
            case "claim":
                desk.claim("c1", "沈甲", item.version)
            case "release":
                desk.release("c1", "沈甲", item.version)
            case "approve":
                desk.approve("c1", "陆乙", item.version)
            case "refuse":
                desk.refuse("c1", "沈甲", item.version, "illegible")
            case "ask":
                desk.want_evidence("c1", "沈甲", item.version, ("death",))
            case "tick":
                desk.tick()
            case "issue":
                issue(desk)
            case _:
                return take(desk)
    except Refusal:
        pass
    return []
