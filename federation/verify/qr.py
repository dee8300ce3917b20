"""Verification of the text of a certificate's QR code.

1. form: it is an `AC1:` text, canonical, within its size.
2. issuer: the archive is on the trust list, and its key was good for credentials when it signed.
3. signature: the archive's key signed exactly these bytes.
4. second signature: where the trust list asks for one of another crypto suite.
5. content: it says what a certificate must say.
6. validity: today lies between issue and expiry.
7. standing: the archive's status list, if fresh enough, says it still stands.

Not checked here, and for people to do: that the paper says what the code says, and that its bearer is the person named.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from federation.credential import qr
from federation.reasons import Text
from federation.trust import TrustList, Use
from federation.verify.judging import (
    archive_key,
    facts_of,
    judge_second_signature,
    judge_standing,
    judge_validity,
)
from federation.verify.report import Checklist, Report, VerifyError
from federation.verify.status import StatusSource

CHECKS = {
    "form": Text("二维码文本格式正确", "The text of the code is well formed"),
    "issuer": Text("签发档案馆及其密钥在信任名录中", "The archive and its key are on the trust list"),
    "signature": Text("签名有效，内容未被改动", "The signature holds: nothing was altered"),
    "second_signature": Text("第二签名有效", "The second signature holds"),
    "content": Text("内容完整", "It says what a certificate must say"),
    "validity": Text("在有效期内", "Within its period of validity"),
    "standing": Text("未被撤销，依据状态名录", "Not revoked, as of the status list of"),
}


def check_qr(text: str, trust: TrustList, status: StatusSource, at: datetime) -> Report:
    """Verify a QR text offline at the time `at`; never raises VerifyError."""
    checks = Checklist(CHECKS)
    report = Report("qr", ())
    try:
        with checks.judging("form"):  # 1
            code = qr.parse(text)
        issuer, signed_at, message = code.issuer, code.signed_at, code.message
        report = replace(report, issuer=issuer)
        with checks.judging("issuer"):  # 2
            key = archive_key(trust, issuer, message.key_id, Use.CREDENTIAL, signed_at)
        with checks.judging("signature"):  # 3
            message.verify(key.public)
        judge_second_signature(checks, trust, key, message.second, message.to_be_signed(), signed_at, at)  # 4
        with checks.judging("content"):  # 5
            credential = qr.read(code)
        certificate = credential.certificate
        report = replace(report, number=certificate.number, facts=facts_of(certificate, trust))
        judge_validity(checks, certificate.issued_at, certificate.expires_at, at)  # 6
        standing = judge_standing(checks, status, issuer, credential.status, at)  # 7
        if standing is not None:
            report = replace(report, valid_as_of=standing.as_of, successor=standing.successor)
    except VerifyError:
        pass  # the check that raised it is judged, those behind it stay unreached
    return replace(report, checks=checks.checks)
