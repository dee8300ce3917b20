"""A question ends exactly once: by its answer, its budget, its cancelling or the end of the session, whatever is between."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from federation.reasons import Reason
from federation.session import answering
from federation.session.answering import CREDITS, TURN_S, AnsweringSession
from federation.session.asking import (
    BAD_FRAMES_ALLOWED,
    REUSED_S,
    Asked,
    AskingSession,
    Item,
    queries_frame,
)
from federation.session.base import (
    BEAT_EVERY_S,
    DEAD_AFTER_S,
    HELLO_WITHIN_S,
    LARGEST_FRAME,
    LONGEST_MAIL_ID,
    MOST_WAITING_RECEIPTS,
    PROTOCOL,
    SessionEndedError,
)
from federation.session.link import LinkLostError
from federation.session.timers import TimerWheel
from federation.wire.v1 import holdings_pb2 as pb
from tests.fakes.links import MemoryLink
from tests.fakes.virtual import now, run


def hello(**changes):
    return pb.Hello(**{"protocol_min": PROTOCOL, "protocol_max": PROTOCOL, "credits": CREDITS, **changes})


class Archive:
    """Answers as the query's bytes say: b"<delay ms> <kind>"."""

    def __init__(self):
        self.seen = []

    def begin(self, item, ends_at, done):
        self.seen.append(bytes(item.subrequest_id))
        delay, kind = item.query.decode().split()
        answers = {
            "hit": [pb.ResultItem(cid=item.cid, status=pb.STATUS_OK, candidates=[b"c"])],
            "empty": [pb.ResultItem(cid=item.cid, status=pb.STATUS_OK)],
            "twice": [pb.ResultItem(cid=item.cid, status=pb.STATUS_OK, candidates=[b"c"])] * 2,
            "other": [pb.ResultItem(cid=item.cid + 1000, status=pb.STATUS_OK, candidates=[b"c"])],
            "large": [pb.ResultItem(cid=item.cid, status=pb.STATUS_OK, candidates=[b"c" * 9000] * 20)],
            "never": [],
        }[kind]
        if delay == "0":
            for answer in answers:
                done(answer)
            return None
        handle = asyncio.get_running_loop().call_later(
            int(delay) / 1000, lambda: [done(one) for one in answers]
        )
        return handle.cancel

    def turn(self):
        return contextlib.nullcontext()

    def manifest(self):
        return pb.Manifest(archive="330483")


async def connected(archive=None):
    """(asker, answerer, their running tasks) over memory."""
    here, there = MemoryLink.pair()
    events = Counter()
    asker = AskingSession(
        here, "asker", TimerWheel(), on_manifest=lambda _m: True, observe=lambda e: events.update([e])
    )
    answerer = AnsweringSession(there, "answerer", archive or Archive(), observe=lambda e: events.update([e]))
    await asyncio.gather(asker.greet(hello()), answerer.greet(hello()))
    asker.credits = CREDITS
    tasks = [asyncio.create_task(asker.run()), asyncio.create_task(answerer.run())]
    return asker, answerer, tasks, events


class Noted(Asked):
    """Notes under its name how it ended."""

    def __init__(self, item, ended):
        super().__init__(item)
        self.ended = ended

    def on_result(self, result):
        self._end("none" if result is None else pb.Status.Name(result.status))

    def on_empty(self, _epoch):
        self._end("STATUS_OK")

    def on_lost(self):
        self._end("lost")

    def _end(self, how):
        self.ended.append((self.item.subrequest_id, how))


def question(query, budget_s, ended, name):
    start = now()
    return Noted(Item(query.encode(), name, start + budget_s, start + budget_s, 50), ended)


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("ask"), st.sampled_from([0, 5, 80, 400, 3000]), st.sampled_from(["hit", "empty", "twice", "other", "large", "never"]),
            st.sampled_from([0.05, 0.5, 2.0]),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.01, 0.3])),
        st.tuples(st.just("garbage"), st.binary(min_size=1, max_size=12)),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(steps=steps, ending=st.sampled_from(["wait", "close", "peer closes", "drain"]))
def test_every_question_ends_exactly_once(steps, ending):
    async def work():
        archive = Archive()
        asker, answerer, tasks, _events = await connected(archive)
        ended, asked, cancelled = [], [], set()
        for step in steps:
            match step:
                case ("ask", delay, kind, budget):
                    name = len(asked).to_bytes(16, "big")
                    one = question(f"{delay} {kind}", budget, ended, name)
                    if asker.ask(one, now()):
                        asked.append(one)
                case ("cancel", which) if asked:
                    one = asked[which % len(asked)]
                    if one.item.subrequest_id not in {name for name, _how in ended}:
                        cancelled.add(one.item.subrequest_id)
                    one.cancel()
                case ("sleep", seconds):
                    await asyncio.sleep(seconds)
                case ("garbage", data):
                    with contextlib.suppress(LinkLostError):  # earlier garbage may have ended the session
                        await answerer._link.send(data)
        match ending:
            case "close":
                await asker.close()
            case "peer closes":
                await answerer.close()
            case "drain":
                answerer.drain(5000, "draining")
        await asyncio.sleep(6)
        counts = Counter(name for name, _how in ended)
        assert all(count == 1 for count in counts.values())
        assert set(counts) == {one.item.subrequest_id for one in asked} - cancelled
        assert asker.in_flight == 0
        assert len(archive.seen) == len(set(archive.seen))
        await asker.close()
        await answerer.close()
        await asyncio.gather(*tasks)

    run(work())


def test_questions_asked_together_leave_in_few_frames():
    async def work():
        here, there = MemoryLink.pair(1000)
        frames = []
        plain = here.send

        async def counting(message):
            frames.append(pb.Frame.FromString(message).WhichOneof("body"))
            await plain(message)

        here.send = counting
        asker = AskingSession(
            here, "asker", TimerWheel(), on_manifest=lambda _m: True, observe=lambda _e: None
        )
        answerer = AnsweringSession(there, "answerer", Archive(), observe=lambda _e: None)
        await asyncio.gather(asker.greet(hello()), answerer.greet(hello()))
        asker.credits = CREDITS
        tasks = [asyncio.create_task(asker.run()), asyncio.create_task(answerer.run())]
        ended = []
        for number in range(200):
            assert asker.ask(question("0 empty", 1.0, ended, number.to_bytes(16, "big")), now())
        await asyncio.sleep(0.5)
        assert len(ended) == 200
        assert frames.count("queries") <= 4
        await asker.close()
        await asyncio.gather(*tasks)

    run(work())


def test_above_its_credits_a_session_takes_no_more():
    async def work():
        asker, answerer, tasks, _events = await connected()
        asker.credits = 3
        ended = []
        taken = [asker.ask(question("400 empty", 1.0, ended, bytes([n]) * 16), now()) for n in range(5)]
        assert taken == [True, True, True, False, False]
        await asyncio.sleep(1)
        assert len(ended) == 3
        assert asker.ask(question("0 empty", 1.0, ended, b"z" * 16), now())
        await asker.close()
        await answerer.close()
        await asyncio.gather(*tasks)

    run(work())


def test_a_draining_peer_gets_no_more_questions_and_finishes_its_own():
    async def work():
        asker, answerer, tasks, events = await connected()
        ended = []
        asker.ask(question("400 hit", 2.0, ended, b"a" * 16), now())
        await asyncio.sleep(0.05)
        answerer.drain(5000, "draining")
        await asyncio.sleep(0.05)
        assert not asker.ask(question("0 hit", 2.0, ended, b"b" * 16), now())
        await asyncio.sleep(1)
        assert ended == [(b"a" * 16, "STATUS_OK")]
        assert events["drain"] == 1
        await asker.close()
        await answerer.close()
        await asyncio.gather(*tasks)

    run(work())


def test_a_peer_that_says_nothing_is_given_up_after_its_beats_are_missed():
    async def work():
        here, there = MemoryLink.pair(1000)
        asker = AskingSession(
            here, "asker", TimerWheel(), on_manifest=lambda _m: True, observe=lambda _e: None
        )
        await there.send(pb.Frame(hello=hello()).SerializeToString())
        await asker.greet(hello())
        began = now()
        await asker.run()
        assert DEAD_AFTER_S <= now() - began <= DEAD_AFTER_S + 2 * BEAT_EVERY_S

    run(work())


def test_a_beating_pair_stays_together():
    async def work():
        asker, answerer, tasks, _events = await connected()
        await asyncio.sleep(300)
        assert not asker.ended
        ended = []
        asker.ask(question("0 hit", 1.0, ended, b"a" * 16), now())
        await asyncio.sleep(0.1)
        assert ended
        await asker.close()
        await answerer.close()
        await asyncio.gather(*tasks)

    run(work())


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (None, Reason.OUT_OF_TIME),
        (b"\xff\xff\xff", Reason.BAD_FRAME),
        (pb.Frame(beat=pb.Beat(sequence=1)).SerializeToString(), Reason.BAD_FRAME),
        (pb.Frame(hello=hello(protocol_min=PROTOCOL + 1, protocol_max=PROTOCOL + 3)).SerializeToString(), Reason.PROTOCOL_VERSION),
        (pb.Frame(error=pb.SessionError(reason="not_a_member")).SerializeToString(), Reason.NOT_A_MEMBER),
    ],
)  # fmt: skip
def test_a_wrong_greeting_is_named(first, reason):
    async def work():
        here, there = MemoryLink.pair()
        asker = AskingSession(
            here, "asker", TimerWheel(), on_manifest=lambda _m: True, observe=lambda _e: None
        )
        if first is not None:
            await there.send(first)
        began = now()
        with pytest.raises(SessionEndedError) as ended:
            await asker.greet(hello())
        assert ended.value.reason == reason
        assert now() - began <= HELLO_WITHIN_S + 0.1

    run(work())


def test_a_few_bad_frames_are_counted_and_more_end_the_session():
    async def work():
        asker, answerer, tasks, events = await connected()
        for _ in range(BAD_FRAMES_ALLOWED - 1):
            await answerer._link.send(b"\xff\xff\xff")
        await asyncio.sleep(0.1)
        assert not asker.ended
        await answerer._link.send(b"\xff\xff\xff")
        await asyncio.sleep(0.1)
        assert asker.ended
        assert events["bad_frame"] == BAD_FRAMES_ALLOWED
        await answerer.close()
        await asyncio.gather(*tasks)

    run(work())


def test_fields_of_a_newer_version_are_no_harm():
    async def work():
        asker, answerer, tasks, _events = await connected()
        newer = (
            pb.Frame(beat=pb.Beat(sequence=7)).SerializeToString() + b"\xfa\x07\x03abc"
        )  # field 127, a text
        await answerer._link.send(newer)
        ended = []
        asker.ask(question("0 hit", 1.0, ended, b"a" * 16), now())
        await asyncio.sleep(0.1)
        assert ended
        assert asker.bad_frames == 0
        await asker.close()
        await answerer.close()
        await asyncio.gather(*tasks)

    run(work())


def test_one_slow_or_silent_question_does_not_hold_back_the_others_of_its_frame():
    """Sixty-four in one frame: one takes five seconds, one is never answered; the others are told at once, and silence
    ends as silence, never as empty.
    """

    async def work():
        asker, answerer, tasks, _events = await connected()
        ended, began, at = [], now(), {}

        class Timed(list):
            def append(self, one):
                at[one[0]] = now() - began
                super().append(one)

        ended = Timed()
        for number in range(64):
            query = {7: "5000 hit", 9: "0 never"}.get(number, "0 hit")
            assert asker.ask(question(query, 2.0, ended, number.to_bytes(16, "big")), now())
        await asyncio.sleep(6)
        how = {int.from_bytes(name, "big"): what for name, what in ended}
        assert how.pop(7) == how.pop(9) == "none"
        assert set(how.values()) == {"STATUS_OK"}
        assert max(at[number.to_bytes(16, "big")] for number in how) < 0.1
        assert 2.0 <= at[(7).to_bytes(16, "big")] <= 2.1
        await asker.close()
        await answerer.close()
        await asyncio.gather(*tasks)

    run(work())


class Slow(Archive):
    """Takes a millisecond of the loop for each question, on a clock that only it moves."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.clock = 0.0
        monkeypatch.setattr(answering, "monotonic", lambda: self.clock)

    def begin(self, item, ends_at, done):
        self.clock += 0.001
        return super().begin(item, ends_at, done)


def test_the_answers_of_a_long_frame_leave_while_it_is_still_worked_on(monkeypatch):
    async def work():
        archive = Slow(monkeypatch)
        asker, answerer, tasks, _events = await connected(archive)
        begun_at = []

        class Seen(list):
            def append(self, one):
                begun_at.append(len(archive.seen))
                super().append(one)

        ended = Seen()
        for number in range(100):
            assert asker.ask(question("0 hit", 2.0, ended, number.to_bytes(16, "big")), now())
        await asyncio.sleep(0.1)
        assert len(ended) == 100
        assert begun_at[0] <= 2 * TURN_S / 0.001  # one turn, and perhaps the next
        assert archive.seen == sorted(archive.seen)
        await asker.close()
        await answerer.close()
        await asyncio.gather(*tasks)

    run(work())


def test_the_questions_of_a_frame_are_begun_in_few_turns(monkeypatch):
    """A turn is what an archive reads one state of its index for: no question is begun outside one."""

    class Turning(Slow):
        turns, inside = 0, False

        @contextlib.contextmanager
        def turn(self):
            self.turns, self.inside = self.turns + 1, True
            yield
            self.inside = False

        def begin(self, item, ends_at, done):
            assert self.inside
            return super().begin(item, ends_at, done)

    async def work():
        archive = Turning(monkeypatch)
        asker, _answerer, tasks, _events = await connected(archive)
        ended = []
        for number in range(100):
            assert asker.ask(question("0 hit", 2.0, ended, number.to_bytes(16, "big")), now())
        async with asyncio.timeout(5):
            while len(ended) < 100:
                await asyncio.sleep(0.01)
        assert 10 <= archive.turns <= 12  # ten of its milliseconds each
        assert not archive.inside
        for task in tasks:
            task.cancel()

    run(work())


def test_a_question_that_has_ended_holds_no_timer_and_asked_again_ends_by_its_budget():
    """As when its session was lost and another one has it."""

    async def work():
        ended = []
        one = question("0 never", 1.0, ended, b"n")
        for asked in (one, Noted(one.item, ended)):
            asker, answerer, tasks, _events = await connected()
            assert asker.ask(asked, now())
            if asked is not one:
                await asyncio.sleep(1.1)
            await asker.close()
            await answerer.close()
            await asyncio.gather(*tasks)
            assert [timer for slot in asker._wheel._slots.values() for timer in slot if timer._callback] == []
        assert ended == [(b"n", "lost"), (b"n", "none")]

    run(work())


@pytest.mark.parametrize("ending", ["cancel", "close"])
def test_what_is_cancelled_or_lost_before_it_was_begun_is_never_begun(monkeypatch, ending):
    async def work():
        archive = Slow(monkeypatch)
        asker, answerer, tasks, _events = await connected(archive)
        ended = []
        several = [question("0 hit", 2.0, ended, number.to_bytes(16, "big")) for number in range(100)]
        for one in several:
            assert asker.ask(one, now())
        while not archive.seen:
            await asyncio.sleep(0)
        if ending == "cancel":
            frame = pb.Frame(cancel=pb.Cancel(cids=[one.item.cid for one in several[50:]]))
            answerer._on_frame(frame, "cancel")
        else:
            await answerer.close()
        await asyncio.sleep(0.1)
        if ending == "cancel":
            assert len(archive.seen) == len(ended) == 50
            assert answerer.working == 0
        else:
            assert len(archive.seen) < 50
        await asker.close()
        await answerer.close()
        await asyncio.gather(*tasks)

    run(work())


def test_questions_that_wait_count_towards_the_credits(monkeypatch):
    async def work():
        asker, answerer, tasks, _events = await connected(Slow(monkeypatch))
        asker.credits = 10 * CREDITS
        ended = []
        for number in range(2 * CREDITS):
            assert asker.ask(question("0 hit", 2.0, ended, number.to_bytes(16, "big")), now())
        await asyncio.sleep(0.1)
        how = Counter(what for _name, what in ended)
        assert set(how) == {"STATUS_OK", "STATUS_OVERLOADED"}
        assert how["STATUS_OK"] >= CREDITS
        assert sum(how.values()) == 2 * CREDITS
        await asker.close()
        await answerer.close()
        await asyncio.gather(*tasks)

    run(work())


def test_a_result_after_cancelling_and_one_nobody_asked_for_are_counted_and_told_to_nobody():
    async def work():
        asker, answerer, tasks, events = await connected()
        ended = []
        one = question("400 hit", 2.0, ended, b"a" * 16)
        assert asker.ask(one, now())
        await asyncio.sleep(0.05)
        one.cancel()
        for cid in (one.item.cid, 4_000_000_000):
            stray = pb.ResultItem(cid=cid, status=pb.STATUS_OK, candidates=[b"c"])
            frame = pb.Frame(results=pb.Results(items=[stray], empty_cids=[cid]))
            await answerer._link.send(frame.SerializeToString())
        await asyncio.sleep(1)
        assert ended == []
        assert events["late_result"] == 4
        assert asker.in_flight == 0
        await asker.close()
        await answerer.close()
        await asyncio.gather(*tasks)

    run(work())


@given(
    queries=st.lists(st.binary(max_size=300), min_size=1, max_size=40),
    left=st.floats(0.01, 10.0),
)
def test_a_frame_put_together_from_encoded_items_is_the_frame_protobuf_would_write(queries, left):
    """And no archive is told that it has more time than there is, nor more than 3 ms less."""
    at = 1000.0
    items = [Item(query, bytes(16), at + left, at + left / 2, 50) for query in queries]
    frame = pb.Frame.FromString(queries_frame([item.encoded(at) for item in items]))
    assert [one.query for one in frame.queries.items] == queries
    assert [one.cid for one in frame.queries.items] == [item.cid for item in items]
    assert frame.SerializeToString() == queries_frame([item.encoded(at) for item in items])
    for one in frame.queries.items:
        assert left * 1000 - 4 <= one.budget_ms <= max(1, left * 1000 - REUSED_S * 1000 + 1e-6)
    assert items[0].encoded(at + REUSED_S / 2) == items[0].encoded(at)


def test_a_peer_that_sends_messages_and_reads_no_receipts_fills_no_memory_and_is_receipted_once_it_reads():
    """What is dropped comes again: its sender keeps it until the receipt."""

    async def work():
        here, there = MemoryLink.pair()
        events = Counter()
        asker = AskingSession(
            here, "asker", TimerWheel(), on_manifest=lambda _m: True, observe=lambda e: events.update([e])
        )
        asker.on_mail = lambda mail: asker.receipt(mail.id, "unknown_case")
        await asyncio.gather(asker.greet(hello()), there.send(pb.Frame(hello=hello()).SerializeToString()))
        assert pb.Frame.FromString(await there.receive()).WhichOneof("body") == "hello"
        running = asyncio.create_task(asker.run())

        async def send(names):
            mails = pb.Mails(items=[pb.Mail(id=name, case_id="c", body=b"?") for name in names])
            await there.send(pb.Frame(mails=mails).SerializeToString())

        names = [number.to_bytes(LONGEST_MAIL_ID, "big") for number in range(2 * MOST_WAITING_RECEIPTS)]
        for _ in range(100):  # a frame each turn: the link is full long before
            await send([bytes(16)])
            await asyncio.sleep(0)
        await send(names)
        await asyncio.sleep(1)
        assert 0 < len(asker._receipts) <= MOST_WAITING_RECEIPTS
        assert events["receipt_dropped"] >= len(names) - MOST_WAITING_RECEIPTS
        told = []

        async def read():
            data = await there.receive()
            assert len(data) <= LARGEST_FRAME
            told.extend(one.id for one in pb.Frame.FromString(data).receipts.items)

        while asker._receipts:
            await read()
        await send([bytes(LONGEST_MAIL_ID + 1), names[-1]])
        while names[-1] not in told:
            await read()
        assert bytes(LONGEST_MAIL_ID + 1) not in told
        await asker.close()
        await running

    run(work())


class Fault(Exception):
    """What nobody foresaw."""


def failing(*_args):
    raise Fault


@contextlib.contextmanager
def told_of_faults():
    """Kinds of the errors the loop's exception handler is told."""
    loop, told = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _loop, context: told.append(type(context.get("exception"))))
    yield told
    loop.set_exception_handler(None)


@pytest.mark.parametrize("where", ["_on_frame", "on_mail", "_gather", "_fill_beat", "_on_end"])
@pytest.mark.parametrize("whose", ["asker", "answerer"])
def test_a_fault_of_our_own_ends_the_session_and_is_counted_and_told(monkeypatch, where, whose):
    async def work():
        asker, answerer, tasks, events = await connected()
        faulty, other = (asker, answerer) if whose == "asker" else (answerer, asker)
        ended = []
        with told_of_faults() as told:
            assert asker.ask(question("400 hit", 20.0, ended, b"a" * 16), now())
            monkeypatch.setattr(faulty, where, failing)
            await asyncio.sleep(2 * BEAT_EVERY_S)
            with contextlib.suppress(LinkLostError):  # it has ended already
                await other._link.send(pb.Frame(mails=pb.Mails(items=[pb.Mail()])).SerializeToString())
            if where == "_on_end":
                await faulty.close()
            await asyncio.gather(*tasks)
        assert told == [Fault]
        assert events["fault"] == 1
        assert len(ended) == 1

    run(work())


def test_when_a_session_ends_one_callback_that_fails_keeps_nobody_else_waiting():
    async def work():
        asker, answerer, tasks, events = await connected()
        ended = []
        several = [question("0 never", 20.0, ended, bytes([number]) * 16) for number in range(3)]
        several[1].on_lost = failing
        for one in several:
            assert asker.ask(one, now())
        await asyncio.sleep(1)
        with told_of_faults() as told:
            await answerer.close()
            await asyncio.gather(*tasks)
        assert ended == [(bytes([0]) * 16, "lost"), (bytes([2]) * 16, "lost")]
        assert (told, events["fault"]) == ([Fault], 1)

    run(work())


def test_when_a_budget_ends_one_callback_that_fails_keeps_nobody_else_waiting():
    """Of another question of that time, or of the same one asked of another archive."""

    async def work():
        asker, answerer, tasks, _events = await connected()
        second, second_answerer, second_tasks, _events = await connected()
        ended = []
        several = [question("0 never", 1.0, ended, bytes([number]) * 16) for number in range(3)]
        several[1].on_result = failing
        elsewhere = Noted(several[1].item, ended)
        for one in several:
            assert asker.ask(one, now())
        assert second.ask(elsewhere, now())
        with told_of_faults() as told:
            await asyncio.sleep(2)
        assert sorted(ended) == [(bytes([number]) * 16, "none") for number in range(3)]
        assert told == [Fault]
        assert (asker.in_flight, second.in_flight) == (0, 0)
        for one in (asker, answerer, second, second_answerer):
            await one.close()
        await asyncio.gather(*tasks, *second_tasks)

    run(work())


@pytest.mark.parametrize("ending", ["close", "peer closes", "silence", "garbage", "cancelled"])
def test_the_ordinary_ends_of_a_session_are_no_faults(ending):
    async def work():
        asker, answerer, tasks, events = await connected()
        ended = []
        assert asker.ask(question("0 never", 60.0, ended, b"a" * 16), now())
        await asyncio.sleep(0.1)
        with told_of_faults() as told:
            match ending:
                case "close":
                    await asker.close()
                case "peer closes":
                    await answerer.close()
                case "silence":
                    answerer._write = asyncio.Event().wait
                    asker._heard_at = -1e9
                case "garbage":
                    for _ in range(BAD_FRAMES_ALLOWED):
                        await answerer._link.send(b"\xff\xff\xff")
                case "cancelled":
                    tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert (told, events["fault"]) == ([], 0)
        assert ended == [(b"a" * 16, "lost")]

    run(work())
