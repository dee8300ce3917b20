"""The desk over real SQLite: what reviewers and gateways do to an item, in every order they may do it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading

import msgspec
import pytest
from structlog.testing import capture_logs

from federation import mail
from federation.reasons import Reason, Refusal
from node_agent import telemetry
from node_agent.desk.desk import Desk
from node_agent.desk.issuing import Document, IssueDeferredError
from node_agent.desk.items import State
from node_agent.desk.office import Office
from node_agent.desk.reviewing import LEASE_MS
from node_agent.desk.store import FILE, Store, StoreVersionError
from tests.fakes.desks import DEPUTY, HOLDER, Clock, FakeRecords, desk_at, dispatch, give, issue, kinds, take


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def desk(tmp_path, clock):
    made = desk_at(tmp_path, clock)
    yield made
    made.store.close()


@pytest.fixture
def other(tmp_path, desk, clock):
    """The same desk from another process: a connection of its own."""
    made = desk_at(tmp_path, clock, people=False)
    yield made
    made.store.close()


def refused(reason, call, *args, **more):
    with pytest.raises(Refusal) as caught:
        call(*args, **more)
    assert caught.value.reason is reason
    return caught.value


def deciders(desk, case="c1"):
    return [one.actor for one in desk.history(case) if one.action in {"approve", "refuse"}]


# arriving --------------------------------------------------------------------------------------------------------


def test_a_request_is_durable_when_it_is_receipted_and_comes_only_once(desk, other):
    assert give(desk, dispatch()) is None
    assert give(desk, dispatch()) is None
    assert [item.case_id for item in other.queue()] == ["c1"]
    assert kinds(take(desk)) == ["received"]


def test_a_restart_keeps_items_and_messages(tmp_path, clock):
    first = desk_at(tmp_path, clock)
    give(first, dispatch())
    first.claim("c1", "沈甲", first.item("c1").version)
    first.store.close()
    again = desk_at(tmp_path, clock, people=False)
    assert again.item("c1").state is State.CLAIMED
    assert kinds(take(again)) == ["received", "claimed"]
    again.store.close()


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b'{"kind":"unheard_of","group":1}', b"\xff", b"x" * 70_000]
)
def test_a_body_that_is_no_message_is_never_taken(desk, body):
    assert desk.receive(b"1" * 16, "c1", body) is Reason.BAD_FRAME
    assert desk.queue() == []


@pytest.mark.parametrize(("name", "case"), [(b"", "c1"), (b"1" * 16, ""), (b"1" * 16, "c" * 65)])
def test_a_message_without_name_or_case_is_never_taken(desk, name, case):
    assert desk.receive(name, case, mail.write(dispatch())) is Reason.BAD_FRAME


def test_messages_of_a_case_leave_in_order_the_next_one_after_the_receipt(desk):
    give(desk, dispatch())
    give(desk, dispatch(), "c2")
    desk.claim("c1", "沈甲", desk.item("c1").version)
    first = desk.outbox()
    assert kinds([mail.read_from_desk(one.body) for one in first]) == ["received", "received"]
    desk.receipted(first[0].id)
    assert sorted(kinds([mail.read_from_desk(one.body) for one in desk.outbox()])) == ["claimed", "received"]
    desk.receipted(first[0].id)  # a receipt that comes twice
    assert len(desk.outbox()) == 2


def test_a_message_that_waited_says_how_long_ago_it_happened(desk, clock):
    give(desk, dispatch())
    clock.go(42)
    assert mail.read_from_desk(desk.outbox()[0].body).ago_ms == 42_000


# claims ----------------------------------------------------------------------------------------------------------


def test_a_claim_is_a_lease_a_silent_page_loses_it_and_the_gateway_hears_of_both(desk, clock):
    give(desk, dispatch())
    item = desk.claim("c1", "沈甲", desk.item("c1").version)
    refused(Reason.TAKEN, desk.claim, "c1", "陆乙", item.version)
    clock.go(LEASE_MS / 1000 - 1)
    desk.renew("c1", "沈甲", item.version)
    clock.go(LEASE_MS / 1000 - 1)
    desk.tick()
    assert desk.item("c1").state is State.CLAIMED
    clock.go(1)
    desk.tick()
    assert desk.item("c1").state is State.WAITING
    assert kinds(take(desk)) == ["received", "claimed", "released"]
    refused(Reason.TAKEN, desk.renew, "c1", "沈甲", item.version)
    assert desk.claim("c1", "陆乙", desk.item("c1").version).reviewer == "陆乙"


def test_a_lease_that_ran_out_frees_the_item_before_any_tick(desk, clock):
    give(desk, dispatch())
    item = desk.claim("c1", "沈甲", desk.item("c1").version)
    clock.go(LEASE_MS / 1000 + 1)
    assert desk.claim("c1", "陆乙", item.version).reviewer == "陆乙"


def test_only_what_was_seen_is_acted_on_and_the_same_request_again_is_answered_alike(desk, other):
    give(desk, dispatch())
    seen = desk.item("c1").version
    claimed = other.claim("c1", "沈甲", seen)
    assert desk.claim("c1", "沈甲", seen).version == claimed.version
    refused(Reason.TAKEN, desk.approve, "c1", "沈甲", seen)
    refused(Reason.UNKNOWN_CASE, desk.approve, "c9", "沈甲", 1)
    refused(Reason.UNKNOWN_CASE, desk.renew, "c9", "沈甲", 1)


def test_releasing_and_handing_over(desk):
    give(desk, dispatch())
    item = desk.claim("c1", "沈甲", desk.item("c1").version)
    refused(Reason.TAKEN, desk.release, "c1", "陆乙", item.version)
    refused(Reason.OUT_OF_RANGE, desk.hand_over, "c1", "沈甲", item.version, "无此人")
    refused(Reason.TAKEN, desk.hand_over, "c1", "陆乙", item.version, "陆乙")
    item = desk.hand_over("c1", "顾丙", item.version, "陆乙")  # a lead may
    assert (item.state, item.reviewer) == (State.CLAIMED, "陆乙")
    item = desk.release("c1", "陆乙", item.version)
    refused(Reason.ILLEGAL_TRANSITION, desk.release, "c1", "陆乙", item.version)


# decisions -------------------------------------------------------------------------------------------------------


def test_approved_is_numbered_at_once_and_issued_only_after_the_gateway_took_it(desk):
    give(desk, dispatch())
    item = desk.approve("c1", "沈甲", desk.item("c1").version)
    assert (item.state, item.number) == (State.APPROVED, "2026-000001")
    assert desk.orders() == []
    assert kinds(take(desk)) == ["received", "approved"]
    assert desk.item("c1").state is State.ISSUING
    assert [order.number for order in desk.orders()] == ["2026-000001"]
    issue(desk)
    messages = take(desk)
    assert kinds(messages) == ["issued"]
    assert messages[0].number == "2026-000001"
    assert desk.item("c1").state is State.ISSUED
    assert desk.orders() == []


def test_a_document_made_twice_is_told_once(desk):
    give(desk, dispatch())
    desk.approve("c1", "沈甲", desk.item("c1").version)
    take(desk)
    order = desk.orders()[0]
    assert desk.issued(order, Document("2026-000001"))
    assert desk.issued(order, Document("2026-000001"))
    assert kinds(take(desk)) == ["issued"]


def test_issuing_that_fails_is_tried_again_later_and_says_once_what_is_missing(desk, clock):
    give(desk, dispatch())
    desk.approve("c1", "沈甲", desk.item("c1").version)
    take(desk)
    for pause in (1, 2, 4):
        order = desk.orders()[0]
        desk.not_issued(order, "font")
        assert desk.orders() == []
        clock.go(pause)
    desk.not_issued(desk.orders()[0], "key", 30.0)
    clock.go(29)
    assert desk.orders() == []
    clock.go(1)
    assert desk.orders()[0].tries == 4
    reasons = [one.detail["reason"] for one in desk.history("c1") if one.action == "not_issued"]
    assert reasons == ["font", "key"]
    issue(desk)
    assert desk.item("c1").reason == ""


def test_what_the_gateway_does_not_take_is_never_issued(desk):
    give(desk, dispatch())
    desk.approve("c1", "沈甲", desk.item("c1").version)
    take(desk, lambda message: "illegal_transition" if isinstance(message, mail.Approved) else "")
    assert (desk.item("c1").state, desk.item("c1").reason) == (State.CLOSED, "illegal_transition")
    assert desk.orders() == []


def test_what_the_gateway_could_not_understand_goes_back_to_a_person(desk):
    give(desk, dispatch())
    desk.refuse("c1", "沈甲", desk.item("c1").version, "illegible")
    take(desk, lambda message: "internal" if isinstance(message, mail.Refused) else "")
    assert (desk.item("c1").state, desk.item("c1").decided_by) == (State.WAITING, "")


def test_a_withdrawn_case_can_not_be_decided_and_its_document_is_not_wanted(desk):
    give(desk, dispatch())
    desk.approve("c1", "沈甲", desk.item("c1").version)
    take(desk)
    order = desk.orders()[0]
    give(desk, mail.Withdrawn(1))
    assert desk.issued(order, Document("2026-000001")) is False
    assert (desk.item("c1").state, take(desk)) == (State.CLOSED, [])
    give(desk, dispatch(), "c2")
    item = desk.claim("c2", "沈甲", desk.item("c2").version)
    give(desk, mail.Withdrawn(1), "c2")
    refused(Reason.TAKEN, desk.approve, "c2", "沈甲", item.version)
    refused(Reason.ILLEGAL_TRANSITION, desk.approve, "c2", "沈甲", desk.item("c2").version)


def in_vain(desk):
    return [(order.case_id, announced) for order, announced in desk.in_vain()]


def issuing_of(desk, case="c1"):
    """An approval the gateway has taken: its document is to be made."""
    give(desk, dispatch(), case)
    desk.approve(case, "沈甲", desk.item(case).version)
    take(desk)
    return desk.orders()[-1]


def test_what_was_ordered_for_a_case_that_ended_is_taken_back_once_also_after_a_restart(desk, other):
    order = issuing_of(desk)
    assert in_vain(desk) == []
    give(desk, mail.Withdrawn(1))
    assert desk.issued(order, Document("N1", "d" * 64)) is False
    assert in_vain(desk) == in_vain(other) == [("c1", False)]
    ((again, _announced),) = other.in_vain()
    assert (again.case_id, again.group) == (order.case_id, order.group)
    desk.taken_back(order, "N1")
    assert in_vain(other) == []
    assert [one.action for one in desk.history("c1")][-1] == "taken_back"


def test_a_document_the_gateway_did_not_take_or_its_applicant_wants_no_more_is_taken_back_too(desk):
    order = issuing_of(desk)
    desk.issued(order, Document("N1", "d" * 64))
    take(desk, lambda message: "illegal_transition" if isinstance(message, mail.Issued) else "")
    assert in_vain(desk) == [("c1", True)]
    desk.taken_back(order, "N1")
    later = issuing_of(desk, "c2")
    desk.issued(later, Document("N2", "e" * 64))
    take(desk)
    give(desk, mail.Withdrawn(1), "c2")
    give(desk, mail.Withdrawn(1, reason="again"), "c2")
    assert in_vain(desk) == [("c2", True)]


def test_nothing_else_is_taken_back(desk):
    lost = issuing_of(desk, "lost")
    desk.issued(lost, Document("N1", "d" * 64))
    take(desk, lambda message: "unknown_case" if isinstance(message, mail.Issued) else "")
    kept = issuing_of(desk, "kept")
    desk.issued(kept, Document("N2", "e" * 64))
    take(desk)
    give(desk, dispatch(), "never-taken")
    desk.approve("never-taken", "沈甲", desk.item("never-taken").version)
    take(desk, lambda message: "illegal_transition" if isinstance(message, mail.Approved) else "")
    give(desk, dispatch(), "open")
    give(desk, mail.Withdrawn(1), "open")
    assert in_vain(desk) == []


def test_a_file_from_before_there_was_an_index_for_it_is_opened(tmp_path, clock, desk):
    order = issuing_of(desk)
    desk.store._connection.execute("drop index in_vain")
    again = desk_at(tmp_path, clock, people=False)
    assert again.store._rows("select 1 from sqlite_master where name = 'in_vain'")
    give(again, mail.Withdrawn(1))
    assert in_vain(again) == [(order.case_id, False)]
    again.store.close()


class Slowly:
    """Makes documents while somebody watches, and takes them back; `broken` refuses the latter."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.revoked, self.broken = [], 0

    def issue(self, order):
        self.begun.set()
        self.go_on.wait(30)
        return Document("N1", "d" * 64)

    def take_back(self, order, *, announced):
        if self.broken:
            self.broken -= 1
            raise Refusal(Reason.STORE_UNAVAILABLE) if self.broken else OSError
        self.revoked.append((order.case_id, announced))
        return "N1"


async def test_a_running_office_takes_back_what_it_made_while_the_case_was_withdrawn(desk):
    issuing_of(desk)
    issuer = Slowly()
    issuer.broken = 2
    office = Office(desk, issuer, b"k" * 32)
    running = asyncio.gather(*[asyncio.ensure_future(one) for one in office.loops().values()])
    await asyncio.to_thread(issuer.begun.wait, 30)
    await office.thread.call(lambda: give(desk, mail.Withdrawn(1)))
    issuer.go_on.set()
    async with asyncio.timeout(30):
        while await office.thread.call(desk.in_vain) or not issuer.revoked:
            await asyncio.sleep(0.01)
    assert issuer.revoked == [("c1", False)]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    office._stop_listening()
    office.thread.close()


class Lacking:
    """Makes no document until it has been asked `tries` times."""

    def __init__(self, tries):
        self.tries = tries

    def issue(self, order):
        self.tries -= 1
        if self.tries >= 0:
            raise IssueDeferredError("certificate", 0.0, "the seal's certificate is not valid now; renew it")
        return Document("N1")


async def test_an_office_that_can_make_no_document_says_once_what_to_do(desk):
    issuing_of(desk)
    office = Office(desk, Lacking(3), b"k" * 32)
    with capture_logs() as told:
        running = asyncio.gather(*[asyncio.ensure_future(one) for one in office.loops().values()])
        async with asyncio.timeout(30):
            while (await office.thread.call(desk.item, "c1")).state != State.ISSUED:
                await asyncio.sleep(0.01)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    said = [one for one in told if one.get("action") == "desk.not_issued"]
    assert [(one["kind"], one["reason"]) for one in said] == [
        ("certificate", "the seal's certificate is not valid now; renew it")
    ]
    office._stop_listening()
    office.thread.close()


# what nobody can read ----------------------------------------------------------------------------------------------


NEWER = b'{"kind":"dispatch_by_heart","group":1}'
"""As a later version may have written it, before this one was put back."""


def spoil(desk, column="dispatch", case="c1", value=NEWER):
    """Have what is kept of a case be something this version can not read; the old value."""
    table = {"body": "outbox", "detail": "actions"}.get(column, "items")
    ((before,),) = desk.store._rows(f"select {column} from {table} where case_id = ? limit 1", case)
    with desk.store.writing(0):
        desk.store._connection.execute(f"update {table} set {column} = ? where case_id = ?", (value, case))
    return before


@pytest.fixture
def met(desk):
    """How often the desk met something it could not read."""
    found = []
    desk.on_unreadable = lambda: found.append(1)
    return found


def rungs(desk, case):
    return [one.detail["rung"] for one in desk.history(case) if one.action == "notified"]


def test_a_request_nobody_can_read_is_put_aside_and_others_are_shown_to_more_people(desk, clock, met):
    for case in ("c1", "c2"):
        give(desk, dispatch(), case)
        desk.claim(case, "沈甲", desk.item(case).version)
    spoil(desk)
    clock.go(110)
    desk.tick()
    desk.tick()
    assert rungs(desk, "c2") == [0, 1]
    assert rungs(desk, "c1") == [0]
    assert len(met) == 1, "it is counted once a minute"
    clock.go(61)  # its lease is over, which needs no reading
    desk.tick()
    assert desk.item("c1").state is State.WAITING


def test_a_request_that_was_put_aside_is_looked_at_again(desk, clock, met):
    give(desk, dispatch())
    desk.claim("c1", "沈甲", desk.item("c1").version)
    whole = spoil(desk)
    desk.tick()
    spoil(desk, value=whole)
    clock.go(61)
    item = desk.item("c1")
    desk.renew("c1", "沈甲", item.version)
    clock.go(50)
    desk.tick()
    assert rungs(desk, "c1") == [0, 1]
    assert len(met) == 1


def test_a_message_nobody_can_read_keeps_back_its_case_alone(desk, clock, met):
    for case in ("c1", "c2", "c3"):
        give(desk, dispatch(), case)
    whole = spoil(desk, "body")
    spoil(desk, "body", "c2", b"")
    assert [len(desk.outbox(1)) for _look in range(3)] == [0, 0, 1], "what is aside takes nobody's place"
    assert [one.case_id for one in desk.outbox()] == ["c3"]
    assert len(met) == 2
    spoil(desk, "body", value=whole)
    clock.go(61)
    assert [one.case_id for one in desk.outbox()] == ["c1", "c3"]


@pytest.mark.parametrize(
    ("column", "value"), [("dispatch", NEWER), ("pages", b"[7]"), ("pages", b'[{"file":"\xff"}]')]
)
def test_an_order_nobody_can_read_is_postponed_and_says_so(desk, clock, met, column, value):
    issuing_of(desk)
    issuing_of(desk, "c2")
    whole = spoil(desk, column, value=value)
    assert [order.case_id for order in desk.orders()] == ["c2"]
    assert (desk.item("c1").state, desk.item("c1").reason) == (State.ISSUING, "unreadable")
    assert [order.case_id for order in desk.orders()] == ["c2"]
    assert len(met) == 1
    spoil(desk, column, value=whole)
    clock.go(61)
    assert [order.case_id for order in desk.orders()] == ["c2", "c1"]


def test_a_document_of_an_order_nobody_can_read_is_taken_back_all_the_same(desk):
    issuing_of(desk)
    give(desk, mail.Withdrawn(1))
    spoil(desk)
    spoil(desk, "pages", value=b"{")
    assert in_vain(desk) == [("c1", False)]


def test_a_call_about_an_item_in_a_state_nobody_knows_is_dropped(tmp_path, clock):
    rota = {
        "webhook": "http://127.0.0.1:9/",
        "shifts": [{"days": ["thu"], "span": "08:30-11:30", "first": ["沈甲"]}],
    }
    desk = desk_at(tmp_path, clock, rota=rota)
    give(desk, dispatch())
    give(desk, dispatch(), "c2")
    spoil(desk, "state", value="contested")
    assert [one.case_id for one in desk.calls()] == []  # of an address the oldest call
    assert [one.case_id for one in desk.calls()] == ["c2"]
    desk.store.close()


GARBLED = "沈甲".encode("gbk").decode("utf-8", "surrogateescape")
"""A text of the file whose bytes are no UTF-8."""


def garble(desk, case, table="items", column="last"):
    """Have a text of a case's rows be none, as a failing disk may leave it."""
    with desk.store.writing(0):
        desk.store._connection.execute(
            f"update {table} set {column} = cast(? as text) where case_id = ?",
            (GARBLED.encode("utf-8", "surrogateescape"), case),
        )


def test_a_row_whose_text_is_damaged_hides_no_other(desk, clock, met):
    for case in ("c1", "c2"):
        give(desk, dispatch(), case)
    garble(desk, "c1")
    assert [one.case_id for one in desk.queue()] == ["c2"]
    desk.tick()
    assert len(met) == 1, "it is counted once a minute"
    with pytest.raises(Refusal) as found:
        desk.item("c1")
    assert found.value.reason is Reason.UNKNOWN_CASE
    with pytest.raises(Refusal) as found:
        desk.receive(b"again", "c1", mail.write(dispatch(group=2)))
    assert found.value.reason is Reason.STORE_UNAVAILABLE, "nothing is written over what nobody can read"
    desk.claim("c2", "沈甲", desk.item("c2").version)
    clock.go(61)
    assert [one.case_id for one in desk.queue()] == ["c2"]
    assert len(met) == 2


def test_what_was_done_is_told_but_for_lines_nobody_can_read(desk, met):
    for case in ("c1", "c2"):
        give(desk, dispatch(), case)
    spoil(desk, "detail", "c1", "{")
    assert {one.case_id for one in desk.store.actions()} == {"c1", "c2"}
    assert desk.history("c1")[0].detail == {}
    garble(desk, "c1", "actions", "actor")
    assert {one.case_id for one in desk.store.actions()} == {"c2"}


def test_an_ended_item_in_a_state_nobody_knows_hides_no_other(desk, met):
    for case in ("c1", "c2"):
        give(desk, dispatch(), case)
        give(desk, mail.Withdrawn(1), case)
    spoil(desk, "state", value="contested")
    assert [one.case_id for one in desk.store.ended_items(9)] == ["c2"]
    assert len(met) == 1


async def test_a_running_office_outlives_what_nobody_can_read(desk, clock):
    """Each of its loops meets something: one that ended would end the agent, at every start."""
    before = telemetry.DESK_EVENTS.labels(event="unreadable")._value.get()
    issuing_of(desk, "order")
    for case in ("c1", "c2"):
        give(desk, dispatch(), case)
        desk.claim(case, "沈甲", desk.item(case).version)
    for column, case in (("dispatch", "order"), ("dispatch", "c1"), ("body", "c1")):
        spoil(desk, column, case)
    office = Office(desk, Slowly(), b"k" * 32)
    spoil(desk, "detail", "c1", "{")
    office._counted = 0
    line = Line()
    office.courier.joined(line)
    loops = [asyncio.ensure_future(one) for one in office.loops().values()]
    async with asyncio.timeout(30):
        while (
            telemetry.DESK_EVENTS.labels(event="unreadable")._value.get() - before < 3
            or not office._counted
            or not line.sent
        ):
            await asyncio.sleep(0.01)
            assert not any(one.done() for one in loops)
    assert line.sent[0] == "c2"
    for one in loops:
        one.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    office._stop_listening()
    office.thread.close()


class Line:
    """A session with a gateway that takes everything."""

    def __init__(self):
        self.sent = []

    def send(self, _mail_id, case_id, _body):
        self.sent.append(case_id)
        return True

    def receipt(self, mail_id, reason):
        raise AssertionError


@pytest.mark.parametrize(
    ("action", "args"),
    [
        ("claim", ()), ("release", ()), ("approve", ()), ("refuse", ("secret",)), ("want_evidence", (("death",),)),
        ("retrieving", ()), ("retrieved", ()), ("refer", ("330421",)), ("hand_over", ("陆乙",)),
    ],
)  # fmt: skip
def test_a_decided_case_is_decided(desk, action, args):
    give(desk, dispatch())
    item = desk.refuse("c1", "沈甲", desk.item("c1").version, "not_entitled")
    refused(Reason.ILLEGAL_TRANSITION, getattr(desk, action), "c1", "沈甲", item.version, *args)


@pytest.mark.parametrize(
    ("action", "args", "pointer"),
    [
        ("refuse", ("因为不想",), "/reason"), ("want_evidence", ((),), "/items"), ("want_evidence", (("oath",),), "/items"),
        ("refer", ("33048",), "/archive"), ("refer", ("３３０４２１",), "/archive"), ("approve", ("x" * 101,), "/archival_code"),
    ],
)  # fmt: skip
def test_words_outside_the_lists_are_refused_by_field(desk, action, args, pointer):
    give(desk, dispatch())
    with pytest.raises(Refusal) as caught:
        getattr(desk, action)("c1", "沈甲", desk.item("c1").version, *args)
    assert caught.value.pointer == pointer


def test_many_at_once_one_decides(tmp_path, desk, clock):
    """Eight people on eight connections: one decision, one number, everybody else is told that somebody was quicker."""
    give(desk, dispatch())
    take(desk)
    version = desk.item("c1").version
    results, start = [], threading.Barrier(8)

    def decide(place):
        mine = desk_at(tmp_path, clock, people=False)
        start.wait()
        try:
            if place % 2:
                mine.approve("c1", f"甲{place}", version)
            else:
                mine.refuse("c1", f"甲{place}", version, "illegible")
            results.append("done")
        except Refusal as refusal:
            results.append(refusal.reason)
        finally:
            mine.store.close()

    threads = [threading.Thread(target=decide, args=(place,)) for place in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(map(str, results)) == sorted(["done", *[str(Reason.TAKEN)] * 7])
    assert len(deciders(desk)) == 1
    assert len(take(desk)) == 1


def test_numbers_are_given_once(tmp_path, clock):
    desks = [desk_at(tmp_path, clock, people=not place) for place in range(2)]
    numbers = []
    for count in range(20):
        give(desks[0], dispatch(), f"c{count}")
        mine = desks[count % 2]
        numbers.append(mine.approve(f"c{count}", "沈甲", mine.item(f"c{count}").version).number)
    assert numbers == [f"2026-{count:06d}" for count in range(1, 21)]
    for one in desks:
        one.store.close()


# evidence, originals, referrals ----------------------------------------------------------------------------------


def test_evidence_is_asked_for_given_and_the_case_goes_on(desk):
    give(desk, dispatch())
    item = desk.claim("c1", "沈甲", desk.item("c1").version)
    item = desk.want_evidence("c1", "沈甲", item.version, ("death", "kinship", "death"))
    assert take(desk)[-1].items == ("death", "kinship")
    refused(Reason.ILLEGAL_TRANSITION, desk.claim, "c1", "沈甲", item.version)
    proof = mail.Proof("death", "a" * 64)
    give(desk, mail.Evidence(1, proofs=(proof,)))
    item = desk.item("c1")
    assert item.state is State.WAITING
    assert desk.approve("c1", "陆乙", item.version).state is State.APPROVED


def test_fetching_the_original_holds_the_case_without_a_lease(desk, clock):
    give(desk, dispatch())
    item = desk.retrieving("c1", "沈甲", desk.item("c1").version, pauses=True)
    clock.go(3_600)
    desk.tick()
    item = desk.item("c1")
    assert item.state is State.RETRIEVING
    item = desk.retrieved("c1", "陆乙", item.version)
    assert (item.state, item.reviewer) == (State.CLAIMED, "陆乙")
    assert kinds(take(desk)) == ["received", "claimed", "retrieving", "retrieved"]


def test_a_referral_moves_on_never_in_a_circle_and_comes_back_when_it_can_not_go(desk):
    give(desk, dispatch(passed=("330421",)))
    version = desk.item("c1").version
    refused(Reason.REFERRED_IN_A_CIRCLE, desk.refer, "c1", "沈甲", version, "330421")
    refused(Reason.REFERRED_IN_A_CIRCLE, desk.refer, "c1", "沈甲", version, HOLDER)
    assert desk.refer("c1", "沈甲", version, "330482").state is State.REFERRED
    take(desk, lambda message: "not_a_member" if isinstance(message, mail.Referred) else "")
    item = desk.item("c1")
    assert (item.state, item.reason) == (State.WAITING, "not_a_member")
    desk.refer("c1", "沈甲", item.version, "330482")
    take(desk)
    assert desk.item("c1").state is State.REFERRED


def test_a_case_that_is_referred_back_later_is_a_new_question(desk):
    give(desk, dispatch())
    desk.refer("c1", "沈甲", desk.item("c1").version, "330482")
    give(desk, dispatch(3))
    assert (desk.item("c1").grp, desk.item("c1").state) == (3, State.WAITING)
    give(desk, mail.Withdrawn(1))  # speaks of the old one
    assert desk.item("c1").state is State.WAITING


# deputies --------------------------------------------------------------------------------------------------------


@pytest.fixture
def deputy(tmp_path, clock):
    made = desk_at(tmp_path / "deputy", clock, archive=DEPUTY)
    yield made
    made.store.close()


def test_a_deputy_decides_and_the_holder_issues(desk, deputy):
    give(desk, dispatch())
    give(deputy, dispatch(on_behalf_of=HOLDER))
    item = deputy.approve("c1", "沈甲", deputy.item("c1").version)
    assert kinds(take(deputy)) == ["received", "approved"]
    assert (deputy.item("c1").state, deputy.orders()) == (State.APPROVED, [])
    give(desk, mail.Taken(1, by=DEPUTY))
    give(desk, mail.Issue(1, by=DEPUTY, ref="r1"))
    assert (desk.item("c1").state, desk.item("c1").decided_by) == (State.ISSUING, "deputy")
    issue(desk)
    give(desk, mail.Issue(1, by=DEPUTY))  # sent again under another name
    assert issue(desk) == []
    assert kinds(take(desk)) == ["received", "issued"]
    assert item.number.startswith("2026-")


def test_a_holder_whose_own_approval_came_too_late_issues_once(desk):
    give(desk, dispatch())
    desk.approve("c1", "沈甲", desk.item("c1").version)
    give(desk, mail.Issue(1, by=DEPUTY))
    issue(desk)
    messages = take(desk, lambda message: "illegal_transition" if isinstance(message, mail.Approved) else "")
    assert kinds(messages) == ["received", "approved", "issued"]
    assert desk.item("c1").state is State.ISSUED


def test_a_deputy_can_not_touch_the_record(deputy):
    give(deputy, dispatch(on_behalf_of=HOLDER))
    version = deputy.item("c1").version
    refused(Reason.NOT_PERMITTED, deputy.refer, "c1", "沈甲", version, "330421")
    refused(Reason.NOT_PERMITTED, deputy.retrieving, "c1", "沈甲", version)
    assert deputy.record(deputy.item("c1")) is None


def test_a_case_taken_by_the_other_desk_comes_back_when_it_is_released(desk):
    give(desk, dispatch(seq=2))
    give(desk, mail.Taken(1, seq=4, by=DEPUTY))
    refused(Reason.ILLEGAL_TRANSITION, desk.claim, "c1", "沈甲", desk.item("c1").version)
    give(desk, dispatch(seq=6))
    assert desk.item("c1").state is State.WAITING
    give(desk, mail.Taken(1, seq=4, by="330421"))  # late news of the first time
    assert desk.item("c1").state is State.WAITING


# the disk --------------------------------------------------------------------------------------------------------


def test_a_locked_file_is_named_and_nothing_is_receipted_or_lost(tmp_path, desk, monkeypatch):
    give(desk, dispatch())
    desk.store._connection.execute("pragma busy_timeout = 50")
    holding = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    holding.execute("begin immediate")
    refused(Reason.STORE_UNAVAILABLE, give, desk, dispatch(), "c2")
    refused(Reason.STORE_UNAVAILABLE, desk.claim, "c1", "沈甲", desk.item("c1").version)
    assert [item.case_id for item in desk.queue()] == ["c1"]  # looking goes on
    holding.execute("rollback")
    holding.close()
    assert give(desk, dispatch(), "c2") is None
    assert len(desk.queue()) == 2


def test_a_full_disk_is_named_the_item_stays_and_the_message_comes_again(desk):
    give(desk, dispatch())
    pages = desk.store._connection.execute("pragma page_count").fetchone()[0]
    desk.store._connection.execute(f"pragma max_page_count = {pages}")
    taken, reason = 0, None
    while reason is None and taken < 200:
        try:
            give(desk, dispatch(), f"f{taken}")
            taken += 1
        except Refusal as refusal:
            reason = refusal.reason
    assert reason is Reason.STORE_UNAVAILABLE
    assert {item.case_id for item in desk.queue()} == {"c1", *(f"f{place}" for place in range(taken))}
    desk.store._connection.execute("pragma max_page_count = 1000000")
    assert give(desk, dispatch(), f"f{taken}") is None
    assert desk.item(f"f{taken}").state is State.WAITING


def test_evidence_whose_request_never_came_is_forgotten_after_its_time_too(desk, clock):
    give(desk, mail.Evidence(1, proofs=(mail.Proof("death", "ab" * 32, note="金丝雀 330483197001010017"),)))
    desk.tick()
    clock.go(179 * 86_400)
    desk.tick()
    assert len(msgspec.json.decode(desk.item("c1").proofs)) == 1
    clock.go(2 * 86_400)
    desk.tick()
    assert (desk.item("c1").proofs, desk.item("c1").reason) == (b"[]", "not_dispatched")


def test_people_are_forgotten_after_their_time_and_decisions_are_not(tmp_path, clock):
    desk = desk_at(tmp_path, clock)
    subject = mail.Subject(name="金丝雀", id_number="330483197001010017")
    for case in ("decided", "open"):
        give(desk, dispatch(subject=subject), case)
    give(desk, mail.Evidence(1, proofs=(mail.Proof("death", "ab" * 32),)), "decided")
    desk.refuse("decided", "沈甲", desk.item("decided").version, "secret")
    take(desk)
    desk.tick()
    assert desk.item("decided").dispatch is not None
    clock.go(181 * 86_400)
    desk.tick()
    item = desk.item("decided")
    assert (item.dispatch, item.proofs, item.state, item.reason) == (None, b"[]", State.REFUSED, "secret")
    assert deciders(desk, "decided") == ["沈甲"]
    assert desk.item("open").dispatch is not None
    give(desk, mail.Withdrawn(1), "open")
    clock.go(181 * 86_400)
    desk.tick()
    assert desk.item("open").dispatch is None
    desk.store._connection.execute("pragma wal_checkpoint(truncate)")
    desk.store.close()
    for path in tmp_path.iterdir():
        assert "金丝雀".encode() not in path.read_bytes(), path.name


def test_a_file_of_another_version_is_not_touched(tmp_path):
    Store(tmp_path, HOLDER).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(StoreVersionError):
        Store(tmp_path, HOLDER)


def test_the_file_is_for_its_owner_alone(tmp_path):
    Store(tmp_path, HOLDER).close()
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_broken_index_keeps_no_case_from_its_reviewer(tmp_path, clock):
    desk: Desk = desk_at(tmp_path, clock, records=FakeRecords(None))
    assert give(desk, dispatch()) is None
    assert desk.approve("c1", "沈甲", desk.item("c1").version, "手填-001").archival_code == "手填-001"
    desk.store.close()
