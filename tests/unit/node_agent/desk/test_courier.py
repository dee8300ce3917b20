"""The courier: nothing is receipted before it is durable, nothing leaves the outbox before its receipt, whatever ends when."""

from __future__ import annotations

import asyncio

import pytest

from federation import mail
from federation.reasons import Reason, Refusal
from node_agent.desk.courier import AGAIN_AFTER_S, Courier
from node_agent.desk.thread import DeskThread
from tests.fakes.desks import Clock, desk_at, dispatch, give, name_of
from tests.fakes.virtual import run


class FakeLine:
    """A session: keeps what is sent; `full` = it can take nothing now."""

    def __init__(self):
        self.sent, self.receipts, self.full = [], [], False

    def send(self, mail_id, case_id, body):
        if self.full:
            return False
        self.sent.append((mail_id, case_id, mail.read_from_desk(body)))
        return True

    def receipt(self, mail_id, reason):
        self.receipts.append((mail_id, reason))


class Carrying:
    """A courier over a real desk, in virtual time."""

    def __init__(self, folder):
        self.folder = folder

    async def __aenter__(self):
        self.desk = desk_at(self.folder, Clock())
        self.thread, self.counts = DeskThread(), []
        self.courier = Courier(self.desk, self.thread, self.counts.append)
        self.task = asyncio.create_task(self.courier.run())
        return self

    async def __aexit__(self, *_error):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.thread.close()
        self.desk.store.close()

    async def settle(self):
        """Let everything that can happen now happen."""
        for _ in range(6):
            self.courier.ring()
            await self.thread.call(lambda: None)
            await asyncio.sleep(0)

    def arrive(self, line, message, case="c1"):
        self.courier.arrived(line, name_of(message, case), case, mail.write(message))


@pytest.fixture
def carrying(tmp_path):
    return Carrying(tmp_path)


def kinds_of(line):
    return [type(message).__name__ for _name, _case, message in line.sent]


def test_a_request_is_receipted_after_it_is_durable_and_answered_on_its_session(carrying):
    async def work():
        async with carrying as here:
            line = FakeLine()
            here.courier.joined(line)
            here.arrive(line, dispatch())
            assert line.receipts == []
            await here.settle()
            assert line.receipts == [(name_of(dispatch()), "")]
            assert kinds_of(line) == ["Received"]

    run(work())


def test_what_can_not_be_stored_is_not_receipted_and_what_is_no_message_is_named(carrying, monkeypatch):
    async def work():
        async with carrying as here:
            line = FakeLine()

            def full(*_args):
                raise Refusal(Reason.STORE_UNAVAILABLE)

            with monkeypatch.context() as patched:
                patched.setattr(here.desk, "receive", full)
                here.arrive(line, dispatch())
                await here.settle()
            assert line.receipts == []
            here.courier.arrived(line, b"1" * 16, "c1", b"{}")
            await here.settle()
            assert line.receipts == [(b"1" * 16, "bad_frame")]
            here.arrive(line, dispatch())
            await here.settle()
            assert line.receipts[1:] == [(name_of(dispatch()), "")]

    run(work())


def test_what_breaks_is_named_so_that_it_is_not_sent_for_ever(carrying, monkeypatch):
    async def work():
        async with carrying as here:
            line = FakeLine()
            monkeypatch.setattr(here.desk, "receive", lambda *_args: 1 / 0)
            here.arrive(line, dispatch())
            await here.settle()
            assert line.receipts == [(name_of(dispatch()), "internal")]

    run(work())


def test_a_message_is_sent_once_until_its_receipt_is_late_or_its_session_ends(carrying):
    async def work():
        async with carrying as here:
            give(here.desk, dispatch())
            first, second = FakeLine(), FakeLine()
            here.courier.joined(first)
            await here.settle()
            assert len(first.sent) == 1
            await asyncio.sleep(AGAIN_AFTER_S + 2)
            await here.settle()
            assert len(first.sent) == 2
            assert first.sent[0][0] == first.sent[1][0]
            here.courier.joined(second)
            await here.settle()
            assert second.sent == []  # the first still carries it
            here.courier.left(first)
            await here.settle()
            assert [name for name, *_rest in second.sent] == [first.sent[0][0]]
            here.courier.receipted(second.sent[0][0], "")
            await here.settle()
            await asyncio.sleep(2 * AGAIN_AFTER_S)
            await here.settle()
            assert len(second.sent) == 1
            assert here.desk.outbox() == []

    run(work())


def test_the_answer_goes_where_the_question_came_from(carrying):
    async def work():
        async with carrying as here:
            one, other = FakeLine(), FakeLine()
            here.courier.joined(one)
            here.courier.joined(other)
            here.arrive(one, dispatch(), "c1")
            here.arrive(other, dispatch(), "c2")
            await here.settle()
            assert [case for _name, case, _message in one.sent] == ["c1"]
            assert [case for _name, case, _message in other.sent] == ["c2"]

    run(work())


def test_a_full_session_is_tried_again(carrying):
    async def work():
        async with carrying as here:
            line = FakeLine()
            line.full = True
            give(here.desk, dispatch())
            here.courier.joined(line)
            await here.settle()
            assert line.sent == []
            line.full = False
            await asyncio.sleep(2)
            await here.settle()
            assert len(line.sent) == 1

    run(work())


def test_without_a_session_everything_waits(carrying):
    async def work():
        async with carrying as here:
            give(here.desk, dispatch())
            here.desk.approve("c1", "沈甲", here.desk.item("c1").version)
            await asyncio.sleep(3_600)
            line = FakeLine()
            here.courier.joined(line)
            for count in (1, 2):
                await here.settle()
                assert len(line.sent) == count
                here.courier.receipted(line.sent[-1][0], "")
            await here.settle()
            assert kinds_of(line) == ["Received", "Approved"]

    run(work())


def test_more_than_the_thread_can_take_is_turned_away_without_a_receipt(carrying, monkeypatch):
    async def work():
        async with carrying as here:
            line = FakeLine()
            monkeypatch.setattr("node_agent.desk.thread.MOST_WAITING", here.thread.waiting)
            here.arrive(line, dispatch())
            assert here.counts[-1:] == ["turned_away"]
            monkeypatch.undo()
            await here.settle()
            assert line.receipts == []

    run(work())
