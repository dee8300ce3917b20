"""Certificates in use: verified, presented and looked up, in the log under the case they came from; nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from hashlib import sha256

from federation import short_code
from federation.mail import Paper
from federation.reasons import Reason, Refusal, Text
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.reconcile import account_of
from federation.verify.challenge import Challenge
from federation.verify.report import Check, Report, Result, VerificationReason
from federation.verify.status import State, StatusReference
from gateway.adapters.register import StoredRegister
from gateway.cases.clock import wall_ms
from gateway.evidence import presentations
from gateway.evidence.presentations import Presentations
from gateway.evidence.reconciling import Stated, compare
from gateway.evidence.register import Found, Registered
from tests.fakes.cases import HOLDER
from tests.fakes.evidence_sides import NUMBER, Counts, sides
from tests.fakes.waiting import soon

URI = "https://gateway.example/v1/status-lists/330483"
AUDIENCE = "https://gateway.example"
PASSED = Check(1, "signature", Result.PASSED, None, Text("", ""))
FAILED = Check(1, "standing", Result.FAILED, VerificationReason.REVOKED, Text("", ""))


def report(kind="document", *, check=PASSED, **changes) -> Report:
    return Report(kind, (check,), **{"issuer": HOLDER, "number": NUMBER, **changes})


@contextlib.asynccontextmanager
async def using(folder, counts=None):
    """An issued document in the register, and whoever checks it."""
    async with sides(folder, counts=counts) as both:
        register = StoredRegister(both.core.store, both.core.writer)
        both.evidence._register = register
        case = await both.issue()
        paper = Paper(short_code.new(), "2026-11-25", URI, 7)
        await register.keep(
            Registered(
                paper.short_code, HOLDER, NUMBER, case.id, "certified_copy", "2026-11-25", "ab" * 32,
                StatusReference(URI, 7),
            )
        )  # fmt: skip
        both.certificate = await register.by_code(paper.short_code)
        both.used = Presentations(both.log, register, wall_ms, audience=AUDIENCE)
        yield both, case, register


def events(both, request, *kinds):
    found = [entry.read() for entry in both.log._reader.of_request(request)]
    return [one for one in found if one.kind.value in kinds]


def unbound(both):
    return [one.read() for one in both.log._reader.entries() if one.request == ""]


async def test_a_certificate_stands_under_its_case_once_a_day_for_each_outcome_however_it_is_spelt(tmp_path):
    """One genuine QR text has endless valid spellings; whoever sends them does not make the log longer."""
    day, counts = [1_800_000_000_000], Counts()
    async with using(tmp_path, counts) as (both, case, register):
        both.used = Presentations(both.log, register, lambda: day[0])
        for turn in range(40):
            both.used.verified(b"AC1: the same text" + b" " * turn, report(("qr", "document")[turn % 2]))
        both.used.verified(b"AC1: the same text!", report(check=FAILED))
        await soon(lambda: not both.used._waiting)
        first, second = events(both, case.id, "verified")
        assert {first.fields["outcome"], second.fields["outcome"]} == {"valid", "invalid"}
        assert (first.fields["archive"], first.fields["number"]) == (HOLDER, NUMBER)
        assert first.fields["digest"] == sha256(b"AC1: the same text").hexdigest()
        day[0] += 86_400_000
        both.used.verified(b"AC1: the same text", report())
        await soon(lambda: len(events(both, case.id, "verified")) == 3)
        assert counts.failures == {}


async def test_a_restarted_gateway_notes_the_same_only_once_too(tmp_path):
    counts = Counts()
    async with using(tmp_path, counts) as (both, case, register):
        for turn in range(3):
            used = Presentations(both.log, register, lambda: 1_800_000_000_000)
            used.verified(b"a document %d" % turn, report())
            await soon(lambda used=used: not used._waiting)
        (only,) = events(both, case.id, "verified")
        assert only.fields["digest"] == sha256(b"a document 0").hexdigest()  # the first of the day stays
        assert counts.failures == {}  # and nothing was missed


async def test_a_presentation_to_this_gateway_says_to_whom_and_what_for(tmp_path):
    async with using(tmp_path) as (both, case, _register):
        shown = report("presentation")
        both.used.verified(b"a~b~c", shown, Challenge(AUDIENCE, "n1", "marriage_proof"))
        both.used.verified(b"a~b~d", shown, Challenge("王芳", "n2", "because"))
        await soon(lambda: len(events(both, case.id, "presented")) == 2)
        said = [one.fields for one in events(both, case.id, "presented")]
        here = next(one for one in said if "audience" in one)
        other = next(one for one in said if "audience" not in one)
        assert (here["audience"], here["purpose"], here["number"]) == (AUDIENCE, "marriage_proof", NUMBER)
        assert other.keys() == {"digest", "archive", "number"}  # words that anybody may choose are not kept
        assert events(both, case.id, "verified") == []


async def test_a_holder_is_bounded_in_how_many_presentations_are_entries_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(presentations, "MOST_PRESENTED", 3)
    counts = Counts()
    async with using(tmp_path, counts) as (both, case, _register):
        for turn in range(8):
            both.used.verified(
                b"the same bytes", report("presentation"), Challenge(AUDIENCE, f"nonce {turn}", None)
            )
        await soon(lambda: not both.used._waiting)
        assert len(events(both, case.id, "presented")) == 3
        assert len(events(both, case.id, "verified")) == 1  # that there were more
        assert counts.failures == {}


async def test_one_that_was_not_accepted_was_verified_and_not_presented(tmp_path):
    async with using(tmp_path) as (both, case, _register):
        both.used.verified(b"a~b~c", report("presentation", check=FAILED), Challenge(AUDIENCE, "n1", None))
        await soon(lambda: events(both, case.id, "verified"))
        assert events(both, case.id, "presented") == []


async def test_a_looked_up_code_is_noted_with_what_was_answered(tmp_path):
    async with using(tmp_path) as (both, case, _register):
        for state in (State.VALID, State.VALID, State.REVOKED, None):
            both.used.looked_up(Found(both.certificate, "馆", state, datetime.now(UTC)))
        await soon(lambda: len(events(both, case.id, "verified")) == 3)
        said = {one.fields["outcome"]: one.fields for one in events(both, case.id, "verified")}
        assert said.keys() == {"valid", "revoked", "unknown"}
        assert said["valid"]["reason"] == "short_code"
        assert both.certificate.short_code not in str(said)


async def test_what_is_no_document_or_belongs_to_no_case_here_is_not_laid_at_any(tmp_path):
    """A stranger may send a name to be verified: its digest could be guessed, so it is not there."""
    async with using(tmp_path) as (both, case, register):
        both.used.verified("錢偉明".encode(), Report("unknown", ()))
        assert not both.used._waiting
        both.used.verified(b"x", report(issuer="錢偉明"))
        both.used.verified(b"y", report("presentation", number=None), Challenge(AUDIENCE, "n1", None))
        both.used.verified(
            b"z", report("presentation", number="330483-2026-000999"), Challenge(AUDIENCE, "n", None)
        )
        both.used.verified(b"elsewhere", report(number="330483-2026-000999"))
        await soon(lambda: not both.used._waiting)
        assert len(unbound(both)) == 1  # both say that it was found valid that day

        async def broken(_archive, _number):
            raise Refusal(Reason.STORE_UNAVAILABLE)

        register.by_number = broken
        both.used.verified(b"while the store is away", report())
        await soon(lambda: len(unbound(both)) == 2)
        assert {one.kind.value for one in unbound(both)} == {"verified"}
        assert events(both, case.id, "verified", "presented") == []


async def test_strangers_can_not_fill_the_memory_and_what_is_left_out_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(presentations, "MOST_WAITING", 2)
    counts = Counts()
    async with using(tmp_path, counts) as (both, _case, _register):
        for number in range(5):
            both.used.verified(b"a document", report(number=f"330483-2026-10000{number}"))
        assert counts.failures == {"overloaded": 3}
        await soon(lambda: not both.used._waiting)  # there is room again
        assert len(unbound(both)) == 2
        both.used.verified(b"a document", report(number="330483-2026-100004"))
        await soon(lambda: len(unbound(both)) == 3)


async def test_a_stranger_takes_one_waiting_place_and_none_of_another_kind(tmp_path, monkeypatch):
    """While the case store is slow, whoever sends much of one certificate puts out nobody else's entries."""
    monkeypatch.setattr(presentations, "MOST_WAITING", 2)
    counts = Counts()
    async with using(tmp_path, counts) as (both, case, register):
        by_number, slow = register.by_number, asyncio.Event()

        async def waits(archive, number):
            await slow.wait()
            return await by_number(archive, number)

        register.by_number = waits
        for turn in range(10):  # a stranger, with one certificate
            both.used.verified(
                b"%d" % turn, report(number="330483-2026-100001", check=(PASSED, FAILED)[turn % 2])
            )
            shown = report("presentation", number="330483-2026-100001")
            both.used.verified(b"%d" % turn, shown, Challenge(AUDIENCE, f"n{turn}", None))
        both.used.verified(b"a document", report())  # others
        both.used.verified(b"a~b~c", report("presentation"), Challenge(AUDIENCE, "n", None))
        both.used.verified(b"a document", report(number="330483-2026-100002"))
        assert counts.failures == {"overloaded": 1}  # a third certificate
        both.used.looked_up(Found(both.certificate, "馆", State.VALID, datetime.now(UTC)))
        await soon(lambda: len(events(both, case.id, "verified")) == 1)  # it waits for none of them
        slow.set()
        await soon(lambda: not both.used._waiting)
        assert [one.kind.value for one in events(both, case.id, "verified", "presented")].count(
            "verified"
        ) == 2
        assert len(events(both, case.id, "presented")) == 1
        assert len(unbound(both)) == 2  # valid and invalid of the stranger's
        assert counts.failures == {"overloaded": 1}


async def test_what_could_not_be_logged_is_tried_when_it_comes_again(tmp_path):
    async with using(tmp_path) as (both, case, _register):
        note = both.log.note

        def full(_event, *, first_stays):
            future = asyncio.get_running_loop().create_future()
            future.set_exception(EvidenceError(Flaw.LOG_UNAVAILABLE, "disk full"))
            return future

        both.log.note = full
        both.used.verified(b"a document", report())
        await soon(lambda: not both.used._waiting)
        both.log.note = note
        both.used.verified(b"a document", report())
        await soon(lambda: events(both, case.id, "verified"))


async def test_a_certificate_checked_years_later_makes_no_difference_between_the_accounts(tmp_path):
    """The archive has nothing new of that case: its account of the last days leaves it out."""
    async with using(tmp_path) as (both, case, register):
        later = wall_ms() + 400 * 86_400_000
        Presentations(both.log, register, lambda: later).verified(b"a document", report())
        await soon(lambda: events(both, case.id, "verified"))
        since = later - 3 * 86_400_000
        theirs = account_of(both.side.log._log, archive=HOLDER, since_ms=since)
        result = compare([both.log._reader], Stated(HOLDER, since, later, theirs))
        assert result.ok, result.differences
        assert theirs.requests == {}
        assert both.reconcile().ok  # and of everything
        assert both.reconcile().agreed == 4
