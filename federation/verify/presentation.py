"""Verification of a credential (SD-JWT VC), as issued or as its holder presents it.

1. form: a well-formed SD-JWT of type `dc+sd-jwt`, within its size.
2. issuer: the archive is on the trust list, and its key was good for credentials when it signed.
3. signature: the archive's key signed exactly these bytes.
4. second signature: where the trust list asks for one of another crypto suite.
5. disclosures: every claim shown is one the archive signed.
6. validity: today lies between issue and expiry.
7. standing: the archive's status list, if fresh enough, says it still stands.
8. reuse: the policy inside allows this purpose and this verifier.
9. holder: the key the archive bound the credential to signed this presentation of it.
10. audience: it was presented to us, just now.
11. nonce: our challenge, answered for the first time.

Checks 8 to 11 need a challenge. Without one a bare credential is judged as a document (its holder is not proved), and a
presentation is still checked against the key it is bound to; since whoever was shown it once can show it again, that does
not prove its holder either.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from federation.credential import jws, sd_jwt
from federation.credential.certificate import (
    BINDING_TYPE,
    TYPE,
    Credential,
    Reuse,
    instant,
    read,
    sd_hash,
    signer,
)
from federation.reasons import Text
from federation.suites.registry import suite
from federation.trust import TrustList, Use
from federation.verify.challenge import Challenge, NonceStore
from federation.verify.judging import (
    CLOCK_SKEW,
    archive_key,
    facts_of,
    judge_second_signature,
    judge_standing,
    judge_validity,
)
from federation.verify.report import Checklist, Report, VerificationReason, VerifyError
from federation.verify.status import StatusSource

CHECKS = {
    "form": Text("凭证格式正确", "The credential is well formed"),
    "issuer": Text("签发档案馆及其密钥在信任名录中", "The archive and its key are on the trust list"),
    "signature": Text("签名有效，内容未被改动", "The signature holds: nothing was altered"),
    "second_signature": Text("第二签名有效", "The second signature holds"),
    "disclosures": Text("出示的每一项都由档案馆签发", "Every claim shown was signed by the archive"),
    "validity": Text("在有效期内", "Within its period of validity"),
    "standing": Text("未被撤销，依据状态名录", "Not revoked, as of the status list of"),
    "reuse": Text("允许用于此用途和此机构", "May be used for this purpose and by this body"),
    "holder": Text("由持有人出示", "Presented by its holder"),
    "audience": Text("刚刚出示给本机构", "Presented to this body, just now"),
    "nonce": Text("首次出示", "Presented for the first time"),
}

OLDEST_PROOF = timedelta(minutes=5)
_MOST_BINDING = 8_192


def check_presentation(
    text: str,
    trust: TrustList,
    status: StatusSource,
    at: datetime,
    *,
    challenge: Challenge | None = None,
    nonces: NonceStore | None = None,
) -> Report:
    """Verify a credential or presentation offline at the time `at`; never raises VerifyError.

    With a challenge, `nonces` must know its nonce; without `nonces` the caller answers for its single use.
    """
    checks = Checklist(CHECKS)
    report = Report("credential", ())
    try:
        with checks.judging("form"):  # 1
            shown = sd_jwt.parse(text)
            token = shown.jws()
            token.require_type(TYPE)
            payload = token.claims(most=sd_jwt.MOST_CHARACTERS)
            issuer, signed_at = signer(payload)
            if shown.key_binding is not None:
                report = replace(report, kind="presentation")
        report = replace(report, issuer=issuer)
        with checks.judging("issuer"):  # 2
            key = archive_key(trust, issuer, token.key_id, Use.CREDENTIAL, signed_at)
        with checks.judging("signature"):  # 3
            token.verify(key.public)
        judge_second_signature(checks, trust, key, shown.second, token.signing_input, signed_at, at)  # 4
        with checks.judging("disclosures"):  # 5
            credential = read(payload, shown.disclosures)
        certificate = credential.certificate
        facts = facts_of(certificate, trust) | {"holder": "not proved"}
        report = replace(report, number=certificate.number or None, facts=facts)
        judge_validity(checks, certificate.issued_at, certificate.expires_at, at)  # 6
        standing = judge_standing(checks, status, issuer, credential.status, at)  # 7
        if standing is not None:
            report = replace(report, valid_as_of=standing.as_of, successor=standing.successor)
        _judge_reuse(checks, certificate.reuse, challenge)  # 8
        binding = _judge_holder(checks, shown, credential, challenge)  # 9
        _judge_audience(checks, binding, challenge, at)  # 10
        _judge_nonce(checks, binding, challenge, nonces, at)  # 11
        if challenge is not None and not checks.failures:
            report = replace(report, facts=facts | {"holder": "proved"})
    except VerifyError:
        pass  # the check that raised it is judged, those behind it stay unreached
    return replace(report, checks=checks.checks)


def _judge_reuse(checks: Checklist, reuse: Reuse, challenge: Challenge | None) -> None:
    if challenge is None:
        checks.skipped("reuse", VerificationReason.NOT_ASKED)
        return
    with checks.judging("reuse", go_on=True):
        if reuse.audiences and challenge.audience not in reuse.audiences:
            raise VerifyError(VerificationReason.WRONG_AUDIENCE)
        if reuse.purposes and challenge.purpose not in reuse.purposes:
            raise VerifyError(VerificationReason.WRONG_PURPOSE)


def _judge_holder(
    checks: Checklist, shown: sd_jwt.SdJwt, credential: Credential, challenge: Challenge | None
) -> dict[str, Any] | None:
    """The claims of the key binding, once it is the holder's and speaks of exactly what is shown."""
    if shown.key_binding is None and challenge is None:
        checks.skipped("holder", VerificationReason.NO_HOLDER_PROOF)
        return None
    with checks.judging("holder"):
        if shown.key_binding is None or credential.holder is None:
            raise VerifyError(VerificationReason.NO_HOLDER_PROOF)
        proof = jws.parse(shown.key_binding, most=_MOST_BINDING)
        proof.require_type(BINDING_TYPE)
        try:
            proof.verify(suite("intl-1").public_key(credential.holder, "ES256"))
        except VerifyError as error:
            reason = VerificationReason.WRONG_HOLDER if error.reason == "altered" else error.reason
            raise VerifyError(reason, error.detail) from error
        claims = proof.claims(most=_MOST_BINDING)
        if claims.get("sd_hash") != sd_hash(shown):
            raise VerifyError(VerificationReason.ALTERED, "sd_hash")
    return claims


def _judge_audience(
    checks: Checklist, binding: dict[str, Any] | None, challenge: Challenge | None, at: datetime
) -> None:
    if binding is None or challenge is None:
        checks.skipped("audience", VerificationReason.NOT_ASKED)
        return
    with checks.judging("audience"):
        if binding.get("aud") != challenge.audience:
            raise VerifyError(VerificationReason.WRONG_AUDIENCE)
        if not at - OLDEST_PROOF <= instant(binding, "iat") <= at + CLOCK_SKEW:
            raise VerifyError(VerificationReason.STALE_PROOF)


def _judge_nonce(
    checks: Checklist,
    binding: dict[str, Any] | None,
    challenge: Challenge | None,
    nonces: NonceStore | None,
    at: datetime,
) -> None:
    """Last, so that only a presentation that is good otherwise uses up a nonce."""
    if binding is None or challenge is None:
        checks.skipped("nonce", VerificationReason.NOT_ASKED)
        return
    with checks.judging("nonce"):
        if binding.get("nonce") != challenge.nonce:
            raise VerifyError(VerificationReason.REPLAYED, "nonce")
        if checks.failures:
            checks.skipped("nonce", VerificationReason.NOT_REACHED)
        elif nonces is not None and not nonces.take(challenge.nonce, at):
            raise VerifyError(VerificationReason.REPLAYED)
