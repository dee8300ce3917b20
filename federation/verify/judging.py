"""The checks every kind of document shares: whose key, one signature or two, validity period, standing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from federation.credential.certificate import Certificate
from federation.credential.sd_jwt import SecondSignature
from federation.suites.registry import suite
from federation.trust import Role, SecondSuite, TrustedKey, TrustList, Use
from federation.verify.report import Checklist, VerificationReason, VerifyError, rfc3339
from federation.verify.status import Standing, State, StatusReference, StatusSource

CLOCK_SKEW = timedelta(minutes=5)
"""Two honest clocks may differ by this much."""

NOT_STANDING = {
    State.REVOKED: VerificationReason.REVOKED,
    State.SUSPENDED: VerificationReason.SUSPENDED,
    State.REPLACED: VerificationReason.REPLACED,
}


def archive_key(trust: TrustList, issuer: str, key_id: str, use: Use, signed_at: datetime) -> TrustedKey:
    """The key of an archive, if it may sign for `use`; see TrustList.key for the reasons it may not."""
    party = trust.parties.get(issuer)
    if party is not None and party.role is not Role.ARCHIVE:
        raise VerifyError(VerificationReason.WRONG_ISSUER, party.role)
    return trust.key(issuer, key_id, use, signed_at)


def check_one_signature_is_enough(
    asked: SecondSuite, signed_at: datetime, at: datetime, proven_at: datetime | None = None
) -> None:
    """Raise VerifyError unless what bears one signature may bear one only: docs/decisions/0005.

    `signed_at` is the signer's word, `proven_at` a time somebody else proves. Whoever can forge the first signature can write
    any date, so from `since` on the word alone is not enough: `issue_time_unproven`, open.
    """
    if signed_at >= asked.since:
        raise VerifyError(VerificationReason.SECOND_SIGNATURE_MISSING, asked.suite)
    if at >= asked.since and not (proven_at is not None and proven_at < asked.since):
        raise VerifyError(VerificationReason.ISSUE_TIME_UNPROVEN, rfc3339(asked.since), open=True)


def check_second_signature(
    trust: TrustList,
    key: TrustedKey,
    second: SecondSignature | None,
    message: bytes,
    signed_at: datetime,
    at: datetime,
    *,
    proven_at: datetime | None = None,
) -> bool:
    """Whether the party of `key` signed `message` with the second suite its entry asks for; False where it need not have.

    `at` is the time of verification. Raises VerifyError where it had to, and for a second signature that does not hold.
    """
    asked = trust.parties[key.issuer].second_suite
    if asked is None:
        return False
    if second is None:
        check_one_signature_is_enough(asked, signed_at, at, proven_at)
        return False
    other = trust.key(key.issuer, second.key_id, key.use, signed_at, proven_at=proven_at)
    # refuses a key of another suite by name
    suite(asked.suite).verify(other.public, message, second.signature)
    return True


def judge_second_signature(
    checks: Checklist,
    trust: TrustList,
    key: TrustedKey,
    second: SecondSignature | None,
    message: bytes,
    signed_at: datetime,
    at: datetime,
    name: str = "second_signature",
) -> None:
    """The signature of another suite, where the trust list asks this party for one."""
    with checks.judging(name, go_on=True):
        if not check_second_signature(trust, key, second, message, signed_at, at):
            checks.skipped(name, VerificationReason.NOT_ASKED)


def judge_validity(
    checks: Checklist, issued_at: datetime, expires_at: datetime | None, at: datetime, name: str = "validity"
) -> None:
    """Whether `at` lies between issue and expiry."""
    with checks.judging(name, go_on=True):
        if issued_at > at + CLOCK_SKEW:
            raise VerifyError(VerificationReason.NOT_YET_VALID, rfc3339(issued_at))
        if expires_at is not None and at >= expires_at:
            raise VerifyError(VerificationReason.EXPIRED, rfc3339(expires_at))


def judge_standing(
    checks: Checklist,
    status: StatusSource,
    issuer: str,
    reference: StatusReference | None,
    at: datetime,
    name: str = "standing",
) -> Standing | None:
    """What the status lists at hand say; None where they say nothing."""
    standing = None
    with checks.judging(name, go_on=True):
        if reference is None:
            raise VerifyError(VerificationReason.MISSING_CLAIM, "status")
        standing = status.standing(issuer, reference, at)
        if standing.state in NOT_STANDING:
            raise VerifyError(NOT_STANDING[standing.state], standing.successor or "")
        checks.passed(name, rfc3339(standing.as_of))
    return standing


def facts_of(certificate: Certificate, trust: TrustList) -> dict[str, Any]:
    """What a report shows of a certificate whose signature held."""
    shown: Mapping[str, Any] = {
        "archive": trust.name(certificate.issuer),
        "kind": certificate.kind,
        "issued_at": rfc3339(certificate.issued_at),
        "expires_at": None if certificate.expires_at is None else rfc3339(certificate.expires_at),
        "digest": certificate.digest,
        "purposes": list(certificate.reuse.purposes) or None,
    }
    return {
        **{name: value for name, value in shown.items() if value is not None},
        "facts": dict(certificate.facts),
    }
