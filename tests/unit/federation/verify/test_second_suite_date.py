"""From when a second signature is asked for, what becomes of what was signed before, and the status lists of two suites."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from federation.sealing import open_package, pack
from federation.trust import Use
from federation.verify.judging import check_second_signature
from federation.verify.qr import check_qr
from federation.verify.report import Report, Result, Verdict, VerifyError
from federation.verify.status import State, StatusReference
from tests.fakes.issuing import NOW, Archive, statuses, trust_of
from tests.unit.federation.test_sealing import PARTS, binding

SINCE = NOW - timedelta(hours=2)
BEFORE, AFTER = SINCE - timedelta(seconds=1), SINCE
ARCHIVE = Archive(second_suite="sm-1", second_since=SINCE.isoformat())
TRUST = trust_of(ARCHIVE.entry())
REFERENCE = StatusReference(ARCHIVE.status_uri, 7)


PLAIN = Archive()
"""The same archive, signing with the first suite alone."""
PLAIN.keys.update({name: key for name, key in ARCHIVE.keys.items() if name.endswith("-1")})


def check(text: str, at: datetime = NOW) -> Report:
    return check_qr(text, TRUST, statuses(TRUST, ARCHIVE.status_token(at=at)), at)


def second(report: Report) -> tuple[Result, str | None]:
    return next((one.result, one.reason) for one in report.checks if one.name == "second_signature")


def reason(call: Any) -> tuple[str, bool]:
    with pytest.raises(VerifyError) as caught:
        call()
    return caught.value.reason.value, caught.value.open


def test_what_is_dated_from_the_day_on_needs_both_and_before_it_nobody_can_tell() -> None:
    assert second(check(ARCHIVE.qr(issued_at=AFTER))) == (Result.PASSED, None)
    assert second(check(ARCHIVE.qr(issued_at=BEFORE))) == (Result.PASSED, None)
    late = check(PLAIN.qr(issued_at=AFTER))
    assert (late.verdict, late.reasons) == (Verdict.INVALID, ("second_signature_missing",))
    early = check(PLAIN.qr(issued_at=BEFORE))
    assert (early.verdict, early.reasons) == (Verdict.UNKNOWN, ("issue_time_unproven",))
    then = check(PLAIN.qr(issued_at=BEFORE), at=BEFORE)  # nobody could have been asked for it
    assert then.verdict is Verdict.VALID, then.as_json()
    assert second(then) == (Result.SKIPPED, "not_asked")


def test_a_second_signature_that_is_there_must_hold_whatever_its_date() -> None:
    other = Archive(second_suite="sm-1")
    other.keys["credential-1"] = ARCHIVE.keys["credential-1"]  # the first suite broken, the second not
    assert check(other.qr(issued_at=BEFORE)).reasons == ("altered",)
    assert check(other.qr(issued_at=AFTER)).reasons == ("altered",)


def test_a_trusted_time_of_before_the_day_is_enough_and_one_of_the_day_is_not() -> None:
    key = TRUST.key(ARCHIVE.code, "seal-1", Use.SEAL, NOW)

    def asked(signed_at: datetime, proven_at: datetime | None, at: datetime = NOW) -> bool:
        return check_second_signature(TRUST, key, None, b"", signed_at, at, proven_at=proven_at)

    assert asked(BEFORE, BEFORE) is False
    assert reason(lambda: asked(BEFORE, SINCE)) == ("issue_time_unproven", True)
    assert reason(lambda: asked(BEFORE, None)) == ("issue_time_unproven", True)
    assert reason(lambda: asked(SINCE, BEFORE)) == ("second_signature_missing", False)


def test_a_package_is_judged_as_of_now_unless_a_time_is_given() -> None:
    bound = binding(1, issuer=ARCHIVE.code)

    def packed(at: datetime) -> bytes:
        return pack(PARTS, bound, key=ARCHIVE.keys["delivery-1"], key_id="delivery-1", at=at)

    assert open_package(packed(BEFORE), bound, TRUST, at=BEFORE).parts == PARTS
    assert reason(lambda: open_package(packed(BEFORE), bound, TRUST, at=NOW))[0] == "issue_time_unproven"
    assert reason(lambda: open_package(packed(AFTER), bound, TRUST, at=NOW))[0] == "second_signature_missing"
    long_ago = datetime(2026, 1, 2, tzinfo=UTC)
    trust = trust_of(ARCHIVE.entry() | {"second_suite": {"suite": "sm-1", "from": long_ago.isoformat()}})
    old = packed(long_ago - timedelta(hours=1))
    assert reason(lambda: open_package(old, bound, trust)) == ("issue_time_unproven", True)


# --- status lists ---


def test_a_list_of_two_suites_is_believed_and_read_by_those_who_know_one() -> None:
    token = ARCHIVE.status_token({7: State.REVOKED})
    assert statuses(TRUST, token).standing("330483", REFERENCE, NOW).state is State.REVOKED
    plain = trust_of({**ARCHIVE.entry(), "second_suite": None})
    assert statuses(plain, token).standing("330483", REFERENCE, NOW).state is State.REVOKED


@pytest.mark.parametrize("cwt", [False, True])
def test_a_list_without_its_second_signature_is_refused_by_name(cwt: bool) -> None:
    lists = statuses(TRUST)
    assert reason(lambda: lists.add(PLAIN.status_token(cwt=cwt))) == ("second_signature_missing", False)
    lists.check_signer(PLAIN.status_token(cwt=cwt), "330483")  # what is only passed on
    lists.add(PLAIN.status_token(cwt=cwt, at=BEFORE))
    assert lists.standing("330483", REFERENCE, BEFORE).state is State.VALID
    assert reason(lambda: lists.standing("330483", REFERENCE, NOW)) == ("issue_time_unproven", True)
    lists.add(ARCHIVE.status_token())
    assert lists.standing("330483", REFERENCE, NOW).state is State.VALID
    forged = PLAIN.status_token({7: State.REVOKED}, cwt=cwt, at=BEFORE)
    lists.add(forged)  # dated back, it displaces nothing
    assert lists.standing("330483", REFERENCE, NOW).state is State.VALID
    lists = statuses(TRUST, forged)
    lists.add(ARCHIVE.status_token())  # nor does it stand in the way of what bears both
    assert lists.standing("330483", REFERENCE, NOW).state is State.VALID


def test_a_list_with_a_foreign_second_signature_is_refused_by_name() -> None:
    ours = ARCHIVE.keys["status-sm"]
    stranger = Archive(second_suite="sm-1").keys["status-sm"]
    for named, pair in {
        "altered": (stranger, "status-sm"),
        "unknown_key": (stranger, "status-9"),
        "wrong_usage": (ours, "credential-sm"),
        "wrong_suite": (ARCHIVE.keys["status-1"], "status-1"),
    }.items():
        token = ARCHIVE.status_token(second=pair)
        assert reason(lambda token=token: statuses(TRUST, token)) == (named, False)
