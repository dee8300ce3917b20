from pathlib import Path

import pytest

from federation.reasons import Text
from federation.verify.report import (
    TEXTS,
    Checklist,
    Report,
    Verdict,
    VerificationReason,
    VerifyError,
)

NAMES = {name: Text(name, name) for name in ("form", "issuer", "signature", "status")}


def report(checks: Checklist) -> Report:
    return Report("test", checks.checks)


def test_every_reason_has_texts_in_both_languages() -> None:
    assert set(TEXTS) == set(VerificationReason)
    assert all(text.zh and text.en and text.zh != text.en for text in TEXTS.values())


def test_valid_only_if_something_passed_and_nothing_is_open() -> None:
    checks = Checklist(NAMES)
    assert report(checks).verdict is Verdict.INVALID  # nothing was checked: never vacuously valid
    checks.passed("form")
    assert report(checks).verdict is Verdict.VALID
    checks.unknown("status", VerificationReason.STATUS_TOO_OLD)
    assert (report(checks).verdict, report(checks).exit_code) == (Verdict.UNKNOWN, 2)
    checks.failed("signature", VerificationReason.ALTERED)
    assert (report(checks).verdict, report(checks).exit_code) == (Verdict.INVALID, 1)
    assert report(checks).reasons == (VerificationReason.ALTERED,)


def test_an_error_judges_its_check_and_leaves_the_rest_unreached() -> None:
    checks = Checklist(NAMES)
    with checks.judging("form"):
        pass
    with pytest.raises(VerifyError):
        with checks.judging("issuer"):
            raise VerifyError(VerificationReason.WRONG_ISSUER, "330499")
    assert [check.result.value for check in checks.checks] == ["passed", "failed", "skipped", "skipped"]
    assert [check.number for check in checks.checks] == [1, 2, 3, 4]
    assert "330499" in checks.checks[1].text.zh


def test_an_open_error_is_unknown_and_may_go_on() -> None:
    checks = Checklist(NAMES)
    with checks.judging("status", go_on=True):
        raise VerifyError(VerificationReason.STATUS_UNKNOWN, open=True)
    with checks.judging("form"):
        pass
    assert report(checks).verdict is Verdict.UNKNOWN
    assert report(checks).reasons == (VerificationReason.STATUS_UNKNOWN,)


def test_the_manual_names_every_reason() -> None:
    manual = Path("docs/verification.md").read_text()
    assert [reason for reason in VerificationReason if f"`{reason}`" not in manual] == []
