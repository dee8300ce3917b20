"""The seal of a second suite beside time stamps: before and after the day from which it is asked for."""

from __future__ import annotations

from datetime import timedelta
from io import BytesIO

import pytest
from asn1crypto import cms, core
from pyhanko.pdf_utils.reader import PdfFileReader

from federation import second_seal
from federation.suites.registry import suite
from federation.verify.report import Result, Verdict
from tests.fakes.documents import Bureau, failures, need_second_suite

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    need_second_suite()
    with Bureau(tmp_path_factory.mktemp("twice"), second=suite("sm-1").generate("SM2")) as bureau:
        yield bureau


@pytest.fixture(scope="module")
def stamped(twice):
    return twice.pdf(twice.decision("twice:1"))


def seal_of(pdf: bytes):
    return PdfFileReader(BytesIO(pdf)).embedded_signatures[0]


def range_of(pdf: bytes) -> list[int]:
    return [int(number) for number in PdfFileReader(BytesIO(pdf)).embedded_signatures[0].byte_range]


def second(report) -> Result:
    return next(one.result for one in report.checks if one.name == "second_signature")


def test_a_stamped_document_and_one_stamped_later_keep_their_second_seal(twice, stamped):
    trust = twice.asking(twice.start - HOUR)
    good = twice.time
    twice.with_time(None)
    pending = twice.pdf(twice.decision("twice:2"))
    twice.with_time(good)
    later = twice.sealer.add_time(pending)
    assert later.startswith(pending)
    for pdf in (stamped, pending, later):
        report = twice.check(pdf, trust)
        assert (report.verdict, second(report)) == (Verdict.VALID, Result.PASSED), failures(report)
        bare = second_seal.put(pdf, range_of(pdf), None)
        told = failures(twice.check(bare, trust))
        if pdf is later:  # the stamp that came later covers the seal as it was
            assert told == {"bytes": "altered"}
        else:
            assert told == {"second_signature": "second_signature_missing"}
    other = suite("sm-1").generate("SM2").public
    assert failures(twice.check(stamped, twice.asking(twice.start - HOUR, other))) == {
        "second_signature": "altered"
    }


def test_what_no_signature_covers_beside_the_stamp_has_one_order(twice, stamped):
    seal = seal_of(stamped)
    content = cms.ContentInfo.load(seal.pkcs7_content, strict=False)
    (signer,) = content["content"]["signer_infos"]
    attributes = [one.dump() for one in signer["unsigned_attrs"]]
    assert len(attributes) == 2
    whole = content.dump()
    swapped = whole.replace(b"".join(attributes), b"".join(reversed(attributes)))
    assert swapped != whole
    _, left, right, _ = (int(number) for number in seal.byte_range)
    hole = swapped.hex().upper().encode().ljust(right - left - 2, b"0")
    changed = stamped[:left] + b"<" + hole + b">" + stamped[right:]
    assert failures(twice.check(changed, twice.asking(twice.start - HOUR))) == {"issuer": "not_canonical"}


def test_a_value_of_another_kind_is_no_second_seal(twice, stamped, monkeypatch):
    for value in (core.Integer(5), core.OctetString(b"x"), core.Null()):
        monkeypatch.setattr(second_seal, "_Signed", lambda _fields, value=value: value)
        changed = second_seal.put(
            stamped, range_of(stamped), second_seal.SecondSignature("seal-sm", bytes(64))
        )
        monkeypatch.undo()
        told = failures(twice.check(changed, twice.asking(twice.start - HOUR)))
        assert told == {"second_signature": "malformed"}


def test_a_document_of_before_the_day_is_believed_with_a_stamp_of_before_it(twice, stamped):
    day = twice.start + HOUR
    trust, after = twice.asking(day), day + HOUR
    once = second_seal.put(stamped, range_of(stamped), None)
    report = twice.check(once, trust, after)
    assert (report.verdict, second(report)) == (Verdict.VALID, Result.SKIPPED), failures(report)
    good = twice.time
    twice.with_time(None)
    pending = twice.pdf(twice.decision("twice:3"))
    twice.with_time(good)
    bare = second_seal.put(pending, range_of(pending), None)
    assert twice.check(bare, trust).verdict is Verdict.VALID  # the day has not come
    report = twice.check(bare, trust, after)
    assert (report.verdict, failures(report)) == (
        Verdict.UNKNOWN,
        {"second_signature": "issue_time_unproven"},
    )
    assert twice.check(twice.sealer.add_time(bare), trust, after).verdict is Verdict.VALID
