"""Cases and both sides' logs: every event on both, however messages come again and whatever fails in between."""

from __future__ import annotations

import asyncio
import json

import pytest
import sqlalchemy as sa

from federation import mail
from federation.mail import mail_id, write
from federation.tlog.flaws import EvidenceError, Flaw
from gateway.adapters.case_evidence import ended
from gateway.cases.case import Case, encode_case
from gateway.cases.schema import CASES
from gateway.cases.states import State
from tests.fakes.cases import HOLDER
from tests.fakes.evidence_sides import Counts, sides
from tests.fakes.waiting import soon


def failing_while(broken):
    """A log whose disk is full as long as `broken` holds something."""

    def wrap(log):
        append = log._log.append_each

        def maybe(events):
            if broken:
                raise EvidenceError(Flaw.LOG_UNAVAILABLE, "disk full")
            return append(events)

        log._log.append_each = maybe
        return log

    return wrap


async def test_an_exchange_is_in_both_logs_event_by_event(tmp_path):
    async with sides(tmp_path) as both:
        case = await both.issue()
        assert case.state is State.DELIVERED
        assert both.kinds(case) == ["requested", "dispatched", "decided", "document_issued", "delivered"]
        result = both.reconcile()
        assert result.ok, result.differences
        assert result.agreed == 4


async def test_an_event_that_one_side_lacks_is_found(tmp_path):
    async with sides(tmp_path) as both:
        both.side.drop = {mail.Approved}
        case = await both.issue()
        (difference,) = both.reconcile().differences
        assert (difference.request, difference.kind, difference.missing) == (case.id, "decided", "theirs")


async def test_an_end_without_a_document_is_closed_once(tmp_path):
    async with sides(tmp_path) as both:
        case = await both.accept("1")
        await soon(lambda: both.logged(case, "dispatched"))
        assert await both.say(case, mail.Refused(reason="not_open", group=1)) == ""
        await soon(lambda: both.logged(case, "closed"))
        stored = both.core.store.case(case.id)
        assert stored is not None
        await both.core.cases.delivered(stored)
        await both.evidence.heal(0)
        assert both.kinds(case).count("closed") == 1
        assert both.reconcile().ok


async def test_a_message_that_comes_again_is_logged_once_and_receipted_again(tmp_path):
    counts = Counts()
    async with sides(tmp_path, counts=counts) as both:
        case = await both.accept("1")
        await soon(lambda: both.logged(case, "dispatched"))
        approved = mail.Approved(number="2026-1", group=1)
        assert await both.say(case, approved) == ""
        await asyncio.sleep(0.002)  # its time is another
        assert await both.say(case, approved) == ""
        assert both.kinds(case).count("decided") == 1
        assert counts.failures == {}


async def test_what_the_log_can_not_take_is_not_receipted_and_comes_again(tmp_path):
    broken: list[bool] = []

    counts = Counts()
    async with sides(tmp_path, wrap=failing_while(broken), counts=counts) as both:
        case = await both.accept("1")
        await soon(lambda: both.logged(case, "dispatched"))
        broken.append(True)
        approved, answers = mail.Approved(number="2026-1", group=1), []
        name = mail_id("x")
        await both.side.note(name, case.id, write(approved), is_arriving=False)
        both.core.cases.desk_said(HOLDER, name, case.id, write(approved), answers.append)
        await soon(lambda: counts.failures["log_unavailable"])
        assert both.core.store.case(case.id).state is State.ISSUING, "the case itself goes on"
        assert answers == []
        broken.clear()
        both.core.cases.desk_said(HOLDER, name, case.id, write(approved), answers.append)
        await soon(lambda: answers)
        assert answers == [""]
        assert both.reconcile().ok


async def test_what_a_crash_kept_out_of_the_log_is_added_at_the_next_start(tmp_path):
    """The case's commit was the last thing the process did: acceptance and end are durable there alone."""
    async with sides(tmp_path) as both:
        both.core.cases._evidence = type(
            "Crashed", (), {"accepted": lambda *_: None, "ended": lambda *_: None}
        )()
        accepted = await both.accept("1")
        withdrawn = await both.core.cases.withdraw(await both.accept("2"))
        await soon(lambda: both.logged(accepted, "dispatched"))
        assert "requested" not in both.kinds(accepted)
    async with sides(tmp_path, side=both.side) as again:
        running = asyncio.create_task(again.evidence.run())
        await soon(lambda: again.logged(accepted, "requested") and again.logged(withdrawn, "closed"))
        running.cancel()
        sizes = again.log._log.size
        await again.evidence.heal(0)
        assert again.log._log.size == sizes, "looking again adds nothing"


@pytest.mark.parametrize("spoilt", [{"state": "contested"}, {"applicant": []}, None])
async def test_a_case_nobody_can_read_is_counted_and_keeps_no_other_out_of_the_log(tmp_path, spoilt):
    counts = Counts()
    async with sides(tmp_path, counts=counts) as both:
        both.core.cases._evidence = type(
            "Crashed", (), {"accepted": lambda *_: None, "ended": lambda *_: None}
        )()
        bad, good = await both.accept("1"), await both.accept("2")
        for one in (bad, good):
            await soon(lambda one=one: both.logged(one, "dispatched"))
        whole = json.loads(encode_case(both.core.store.case(bad.id)))
        whole |= spoilt or {}
        whole["request"] |= {"applicant": whole.pop("applicant")} if "applicant" in whole else {}
        data = "{" if spoilt is None else json.dumps(whole)
        with both.core.store.engine.begin() as connection:
            connection.execute(sa.update(CASES).where(CASES.c.id == bad.id).values(data=data))
        await both.evidence.heal(0)
        assert "requested" in both.kinds(good)
        assert "requested" not in both.kinds(bad)
        assert counts.failures == {"malformed_event": 1}


async def test_acceptance_does_not_wait_for_the_log_and_trouble_is_made_good(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.adapters.case_evidence.HEAL_EVERY_S", 0.01)
    broken = [True]

    counts = Counts()
    async with sides(tmp_path, wrap=failing_while(broken), counts=counts) as both:
        running = asyncio.create_task(both.evidence.run())
        case = await both.accept("1")
        await soon(lambda: counts.failures["log_unavailable"] > 2)
        assert not both.logged(case, "requested")
        broken.clear()
        await soon(lambda: both.logged(case, "requested"))
        assert not running.done()
        running.cancel()


@pytest.mark.parametrize("repeat", [1, 2])
async def test_a_dispatch_sent_again_after_a_referral_says_the_same(tmp_path, repeat):
    """Both logs hold its digest: what the case has become since must not be in it."""
    async with sides(tmp_path) as both:
        case = await both.accept("1")
        await soon(lambda: both.logged(case, "dispatched"))
        first = both.core.desks.to(HOLDER)[0]
        assert await both.say(case, mail.Referred(archive="330421", group=1)) == ""
        stored = both.core.store.case(case.id)
        from gateway.cases.letters import to_desk

        payload = {
            "message": "dispatch",
            "group": 1,
            "seq": mail.read_to_desk(first[1]).seq,
            "ref": f"{HOLDER}.r1",
        }
        for _ in range(repeat):
            again = to_desk(stored, payload, stored.created_ms + 1, both.core.store.policy, HOLDER)
            assert mail.digest(again) == mail.digest(mail.read_to_desk(first[1]))


async def test_no_person_stands_in_the_log_or_its_tiles(tmp_path):
    """Names, numbers and whole requests went through; file, write-ahead log and tiles are searched byte by byte."""
    name, number = "歐陽測試", "330425196703150011"
    async with sides(tmp_path) as both:
        case = await both.issue(subject={"name": name, "id_number": number}, event={"from": "1985"})
        both.log.witness_request(0)
        size = both.log._log.size
        served = both.log.tile(f"tile/entries/000.p/{size}") + both.log.tile(f"tile/0/000.p/{size}")
        assert both.reconcile().agreed >= 4
        body = both.core.desks.to(HOLDER)[0][1]
    files = {path.name: path.read_bytes() for path in tmp_path.glob("evidence.sqlite*")}
    assert name.encode() in body, "the canary did travel"
    assert case.id.encode() in files["evidence.sqlite"] + files.get("evidence.sqlite-wal", b"")
    for data in (served, *files.values()):
        for shape in (name.encode(), name.encode("gb18030"), name.encode("unicode_escape"), number.encode()):
            assert shape not in data


def test_a_note_delivered_after_the_case_was_closed_is_both():
    case = Case(
        "case-1", "platform", 1, {}, state=State.NO_RECORD, ended_ms=2, delivered_ms=3, noting="330400",
        decision={"document": "ab" * 32, "number": "330400-2026-000001"},
    )  # fmt: skip
    closed, handed = ended(case)
    assert (closed.kind, closed.fields["outcome"]) == ("closed", "no_record")
    assert (handed.kind, handed.fields["archive"], handed.at_ms) == ("delivered", "330400", 3)
