"""Checking a sealed document (PAdES in PDF) offline: numbered checks against the pinned trust list.

A document has one seal, which must cover the whole file; after it only a document time stamp may follow, covering all
before it. `intact` alone is not validity: a byte that no signature covers, in any place, makes a document invalid.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from io import BytesIO
from typing import Any, TypeVar

from asn1crypto import cms
from asn1crypto import crl as asn1_crl
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.generic import parse_pdf_date
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.diff_analysis import DiffResult, ModificationLevel
from pyhanko.sign.general import extract_signer_info
from pyhanko.sign.validation import (
    DocumentSecurityStore,
    EmbeddedPdfSignature,
    async_validate_pdf_signature,
    async_validate_pdf_timestamp,
)
from pyhanko.sign.validation.generic_cms import collect_timing_info
from pyhanko.sign.validation.settings import KeyUsageConstraints
from pyhanko.sign.validation.status import SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext

from federation import second_seal
from federation.documents import (
    CHINA,
    DOCUMENT_SIGNING,
    LARGEST_DOCUMENT,
    PROOF_FILE,
    SEAL_FIELD,
    STATEMENT_FILE,
    TIME_FIELD,
    TIME_STAMPING,
    content_digest,
)
from federation.reasons import Text
from federation.tlog.checkpoint import Checkpoint
from federation.tlog.event import EventKind
from federation.tlog.event_proof import check_event
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.proof import InclusionProof
from federation.tlog.trusted import check_signers, keys_of_log, log_keys, second_log_keys
from federation.trust import TrustedKey, TrustList, Use
from federation.verify import strict_json
from federation.verify.judging import NOT_STANDING, check_second_signature
from federation.verify.pdf_bytes import (
    check_cms,
    check_signature,
    check_signature_bytes,
    named_files,
    pictures_of_seals,
)
from federation.verify.report import Checklist, Report, VerificationReason, VerifyError, rfc3339
from federation.verify.status import StatusReference, StatusSource

CHECKS: dict[str, Text] = {
    "file": Text("是可以核验的 PDF 文件", "It is a PDF file that can be verified"),
    "seal": Text(
        "有且仅有一枚电子印章，在签名域内", "It has one electronic seal, inside its signature field"
    ),
    "bytes": Text("全部字节与签章时一致", "Every byte is as it was when sealed"),
    "issuer": Text("签章证书属于信任名录中的档案馆", "The seal belongs to an archive of the trust list"),
    "usage": Text("证书用途是文件签章", "The certificate is for sealing documents"),
    "time": Text("有可信时间戳", "It has a trusted time stamp"),
    "key": Text("签章时证书有效且未被吊销", "The certificate was valid and not revoked when it sealed"),
    "statement": Text("所载编号与档案馆和印章一致", "The number and archive it states are those of the seal"),
    "files": Text("随附文件与签章的摘要一致", "The files inside equal their sealed digests"),
    "logged": Text(
        "签章前已记入该馆的存证日志", "It was committed to the archive's evidence log before it was sealed"
    ),
    "second_signature": Text("第二签名有效", "The second signature holds"),
    "term": Text("仍在可重复使用的期限内", "It is within the time it may be reused"),
    "standing": Text("未被撤销", "It is not revoked"),
}
"""The checks in their order."""

_T = TypeVar("_T")
_R = VerificationReason
_LOG_REASONS = {
    Flaw.SECOND_SIGNATURE_MISSING: _R.SECOND_SIGNATURE_MISSING,
    Flaw.UNSUPPORTED_SUITE: _R.UNSUPPORTED_SUITE,
}
_MOST_OBJECTS = 200_000
_MOST_PAGES = 1_000

for _name in (
    "pyhanko",
    "pyhanko_certvalidator",
):  # they log what is in certificates and files; the report says it
    logging.getLogger(_name).setLevel(logging.CRITICAL)


@dataclass
class _Found:
    """What the checks have established so far."""

    reader: PdfFileReader
    seal: EmbeddedPdfSignature
    time: EmbeddedPdfSignature | None
    key: TrustedKey | None = None
    proven_at: datetime | None = None
    logged_at: datetime | None = None
    time_context: ValidationContext | None = None
    statement: dict[str, Any] | None = None
    files: dict[str, bytes] | None = None
    valid_as_of: datetime | None = None
    successor: str | None = None


def check_pdf(data: bytes, trust: TrustList, status: StatusSource, at: datetime) -> Report:
    """All checks of one document at the time `at` (UTC). Never raises for what `data` holds; fetches nothing."""
    checks = Checklist(CHECKS)
    found: _Found | None = None
    with ExitStack() as readers:
        try:
            found = _check(checks, data, readers, trust, status, at)
        except VerifyError:
            pass
        except _Stopped as stopped:
            found = stopped.found
        return _report(checks, found)


class _Stopped(Exception):
    """A check ended the verification; what was found before it is still told."""

    def __init__(self, found: _Found) -> None:
        super().__init__()
        self.found = found


def _check(
    checks: Checklist, data: bytes, readers: ExitStack, trust: TrustList, status: StatusSource, at: datetime
) -> _Found:
    with checks.judging("file"):
        reader = _guarded(lambda: _open(data, readers))
    with checks.judging("seal"):
        found = _guarded(lambda: _signatures(reader))
    try:
        with checks.judging("bytes"):
            _guarded(lambda: _check_bytes(data, found))
        with checks.judging("issuer"):
            found.key = _guarded(lambda: _key_of(found, trust))
        with checks.judging("usage"):
            _guarded(lambda: _check_usage(found))
        _judge_time(checks, found, trust)
        with checks.judging("key"):
            _guarded(lambda: _check_key(found, at))
        with checks.judging("statement"):
            found.statement = _guarded(lambda: _statement_of(found))
        with checks.judging("files"):
            _guarded(lambda: _check_files(found))
        _judge_logged(checks, found, trust)
        _judge_second_signature(checks, data, found, trust, at)
        with checks.judging("term", go_on=True):
            _check_term(found, at)
        _judge_standing(checks, found, status, at)
    except VerifyError as error:
        raise _Stopped(found) from error
    return found


def _guarded(work: Callable[[], _T]) -> _T:
    """Run a step; whatever a hostile file makes a library raise means that the file can not be read."""
    try:
        return work()
    except VerifyError:
        raise
    except (Exception, RecursionError) as error:
        raise VerifyError(_R.MALFORMED) from error


# 1 file, 2 seal ----------------------------------------------------------------------------------------------------


class _Reader(PdfFileReader):
    """pyHanko's reader, emptied when `readers` close.

    It and the objects it has read point at each other; the garbage collector hardly runs (`federation.process.collector`), so they
    and the document would stay for long.
    """

    def __init__(self, data: bytes, readers: ExitStack, *, strict: bool) -> None:
        readers.callback(self._empty)  # first: a reader that fails half-way holds the document too
        super().__init__(BytesIO(data), strict=strict)

    def _empty(self) -> None:
        for earlier in vars(self).get("_historical_resolver_cache", {}).values():
            vars(earlier).clear()
        vars(self).clear()


def _open(data: bytes, readers: ExitStack) -> PdfFileReader:
    if len(data) > LARGEST_DOCUMENT:
        raise VerifyError(_R.TOO_LARGE)
    if not data.startswith(b"%PDF-"):
        raise VerifyError(_R.UNSUPPORTED_FORMAT)
    try:
        reader = _Reader(data, readers, strict=True)
        reader.root["/Pages"]
    except Exception:
        if b"/ByteRange" in data:
            raise
        # nothing was ever signed here: say that, rather than judge the syntax of somebody's program
        reader = _Reader(data, readers, strict=False)
    if reader.encrypted:
        raise VerifyError(_R.UNSUPPORTED_FORMAT)
    if int(reader.trailer["/Size"]) > _MOST_OBJECTS or int(reader.root["/Pages"]["/Count"]) > _MOST_PAGES:
        raise VerifyError(_R.TOO_LARGE)
    return reader


def _signatures(reader: PdfFileReader) -> _Found:
    signatures = list(reader.embedded_signatures)
    seals = [one for one in signatures if str(one.sig_object_type) == "/Sig"]
    if not seals:
        raise VerifyError(_R.SEAL_OUTSIDE_SIGNATURE if pictures_of_seals(reader) else _R.NOT_SIGNED)
    times = [one for one in signatures if one not in seals]
    if len(seals) > 1 or len(times) > 1:
        raise VerifyError(_R.APPENDED_PAGES)
    if seals[0].field_name != SEAL_FIELD or any(one.field_name != TIME_FIELD for one in times):
        raise VerifyError(_R.WRONG_TYPE)
    return _Found(reader, seals[0], times[0] if times else None)


# 3 bytes -----------------------------------------------------------------------------------------------------------


def _check_bytes(data: bytes, found: _Found) -> None:
    """The seal covers its revision, the time stamp the whole file, and no byte lies outside a canonical signature."""
    last = found.time or found.seal
    if check_signature_bytes(data, last) != len(data):
        raise VerifyError(_R.APPENDED_PAGES)
    if last is not found.seal:
        check_signature_bytes(data, found.seal)
    for one in {id(one): one for one in (found.seal, last)}.values():
        one.compute_integrity_info()  # type: ignore[no-untyped-call]
        wanted = SignatureCoverageLevel.ENTIRE_FILE if one is last else SignatureCoverageLevel.ENTIRE_REVISION
        covered: object = one.coverage
        if covered is not wanted or (one is not last and not _only_time_was_added(one)):
            raise VerifyError(_R.APPENDED_PAGES)
        _check_digest(one)
    check_signature(found.seal.signer_info, found.seal.signer_cert.dump())


def _only_time_was_added(seal: EmbeddedPdfSignature) -> bool:
    added: object = seal.diff_result
    return isinstance(added, DiffResult) and added.modification_level <= ModificationLevel.LTA_UPDATES


def _check_digest(one: EmbeddedPdfSignature) -> None:
    if one.external_md_algorithm != "sha256":
        raise VerifyError(_R.WRONG_ALGORITHM)
    content = one.signed_data["encap_content_info"]["content"]
    if one.sig_object_type == "/DocTimeStamp":
        told = content.parsed["message_imprint"]["hashed_message"].native
    else:
        told = _signed_attribute(one.signer_info, "message_digest")
    if one.compute_digest("sha256") != told:
        raise VerifyError(_R.ALTERED)


def _signed_attribute(signer: cms.SignerInfo, kind: str) -> Any:
    return next(one["values"][0].native for one in signer["signed_attrs"] if one["type"].native == kind)


# 4 issuer, 5 usage -------------------------------------------------------------------------------------------------


def _key_of(found: _Found, trust: TrustList) -> TrustedKey:
    signer = found.seal.signer_cert.dump()
    key = _pinned(trust.keys(Use.SEAL), signer)
    if key is None:
        if any(_pinned(trust.keys(use), signer) for use in Use):
            raise VerifyError(_R.WRONG_USAGE)
        known = any(_issued_by(found.seal.signer_cert, key) for key in trust.keys(Use.SEAL))
        raise VerifyError(_R.UNKNOWN_KEY if known else _R.WRONG_ISSUER)
    if key.alg != "ES256":
        raise VerifyError(_R.WRONG_ALGORITHM)
    message = cms.ContentInfo.load(found.seal.pkcs7_content)
    check_cms(message, [_der(one) for one in key.chain], "data")
    return key


def _issued_by(certificate: asn1_x509.Certificate, key: TrustedKey) -> bool:
    leaf = x509.load_der_x509_certificate(certificate.dump())
    for issuer in key.chain[1:]:
        try:
            leaf.verify_directly_issued_by(issuer)
        except Exception:  # noqa: S112 - any trouble means that it did not issue it
            continue
        return True
    return False


def _pinned(keys: Iterable[TrustedKey], certificate: bytes) -> TrustedKey | None:
    return next((key for key in keys if key.chain and _der(key.chain[0]) == certificate), None)


def _check_usage(found: _Found) -> None:
    assert found.key is not None
    leaf = found.key.chain[0]
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound as error:
        raise VerifyError(_R.WRONG_USAGE) from error
    if [one.dotted_string for one in uses] != [DOCUMENT_SIGNING] or not usage.digital_signature:
        raise VerifyError(_R.WRONG_USAGE)


# 6 time, 7 key -----------------------------------------------------------------------------------------------------


def _judge_time(checks: Checklist, found: _Found, trust: TrustList) -> None:
    token = _time_stamp(found)
    if token is None:
        checks.skipped("time", _R.TIME_PENDING)
        return
    with checks.judging("time"):
        found.proven_at = _guarded(lambda: _proven_time(found, token, trust))
        checks.passed("time", rfc3339(found.proven_at))


def _time_stamp(found: _Found) -> cms.ContentInfo | None:
    if found.time is not None:
        return cms.ContentInfo.load(found.time.pkcs7_content)
    for one in found.seal.signer_info["unsigned_attrs"]:
        if one["type"].native == "signature_time_stamp_token":
            return one["values"][0]
    return None


def _proven_time(found: _Found, token: cms.ContentInfo, trust: TrustList) -> datetime:
    signed = token["content"]
    told: datetime = signed["encap_content_info"]["content"].parsed["gen_time"].native
    signer = extract_signer_info(signed)
    sent = [one.chosen.dump() for one in signed["certificates"]]
    key = next(
        (key for key in trust.keys(Use.TSA) if key.chain and _der(key.chain[0]) in sent),
        None,
    )
    if key is None:
        raise VerifyError(_R.WRONG_TIME_STAMP)
    check_cms(token, [_der(one) for one in key.chain], "tst_info")
    check_signature(signer, _der(key.chain[0]))
    uses = key.chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if [one.dotted_string for one in uses] != [TIME_STAMPING]:
        raise VerifyError(_R.WRONG_TIME_STAMP)
    key.check(told)
    context = _context(found, key, told)
    found.time_context = context
    if found.time is not None:
        status = _run(async_validate_pdf_timestamp(found.time, context, skip_diff=True))
    else:
        timing = _run(
            collect_timing_info(
                found.seal.signer_info,
                context,
                raw_digest=lambda _algorithm: found.seal.compute_digest("sha256"),
            )
        )
        status = timing["timestamp_validity"]
    if not (status.intact and status.valid and status.trusted):
        raise VerifyError(_R.WRONG_TIME_STAMP)
    return told


def _check_key(found: _Found, at: datetime) -> None:
    key = found.key
    assert key is not None
    moment = found.proven_at or at
    key.check(moment, proven_at=found.proven_at)
    leaf = key.chain[0]
    if moment < leaf.not_valid_before_utc:
        raise VerifyError(_R.KEY_NOT_YET_VALID)
    if moment >= leaf.not_valid_after_utc:
        raise VerifyError(_R.KEY_EXPIRED)
    status = _run(
        async_validate_pdf_signature(
            found.seal,
            _context(found, key, moment),
            found.time_context,
            key_usage_settings=KeyUsageConstraints(key_usage={"digital_signature"}),
        )
    )
    if status.revoked:
        raise VerifyError(_R.KEY_REVOKED)
    if not (status.intact and status.valid):
        raise VerifyError(_R.ALTERED)
    if not status.trusted:
        # the chain is pinned and in time: what is missing is word of the issuer that it was not revoked
        raise VerifyError(_R.STATUS_UNKNOWN, open=True)
    if not status.bottom_line:
        raise VerifyError(_R.ALTERED)


def _context(found: _Found, key: TrustedKey, moment: datetime) -> ValidationContext:
    chain = [asn1_x509.Certificate.load(_der(one)) for one in key.chain]
    return ValidationContext(
        trust_roots=[chain[-1]],
        other_certs=chain[:-1],
        crls=_lists_inside(found),
        moment=moment,
        allow_fetching=False,
        revocation_mode="require",
    )


def _lists_inside(found: _Found) -> list[asn1_crl.CertificateList]:
    """The revocation lists the document brings along."""
    if "/DSS" not in found.reader.root:
        return []
    lists = DocumentSecurityStore.read_dss(found.reader).crls
    return [asn1_crl.CertificateList.load(one.get_object().data) for one in lists]


def _run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run pyHanko's validation to its end: it waits for nothing, since nothing may be fetched."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise VerifyError(_R.INTERNAL)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


# 8 statement, 9 files, 10 logged, 11 second signature, 12 term, 13 standing --------------------------------------------------------------------------


def _judge_logged(checks: Checklist, found: _Found, trust: TrustList) -> None:
    """The proof inside holds against the issuer's log key; an archive of which no log key is pinned is not asked for one."""
    assert found.key is not None
    if not log_keys(trust, found.key.issuer):
        checks.skipped("logged", _R.NOT_LOGGED)
        return
    with checks.judging("logged", go_on=True):
        assert found.statement is not None
        assert found.files is not None
        proof = found.files.get(PROOF_FILE)
        if proof is None:
            raise VerifyError(_R.NOT_LOGGED)
        content, issuer = found.statement["content"], found.key.issuer
        try:
            read = InclusionProof.parse(proof)
            origin = Checkpoint.parse(read.note.text).origin
            logs = keys_of_log(trust, issuer, origin)
            event, _proven = check_event(read, logs, origin=origin)
            logged_at = datetime.fromtimestamp(event.at_ms / 1000, UTC)
            check_signers(trust, issuer, read.note, logs, logged_at, proven_at=found.proven_at)
            asked = trust.parties[issuer].second_suite
            if asked is not None and logged_at >= asked.since:
                second = second_log_keys(trust, issuer) or []
                check_event(read, logs, origin=origin, second=second)
                check_signers(trust, issuer, read.note, second, logged_at, proven_at=found.proven_at)
        except EvidenceError as error:
            reason = _LOG_REASONS.get(error.flaw, _R.WRONG_LOG_PROOF)
            raise VerifyError(reason, error.flaw.value, open=error.flaw is Flaw.UNSUPPORTED_SUITE) from error
        except (ValueError, OverflowError, OSError) as error:
            raise VerifyError(_R.WRONG_LOG_PROOF, "time") from error
        told = (event.kind, event.fields.get("number"), event.fields.get("digest"))
        if told != (EventKind.DOCUMENT_COMMITTED, content["number"], content_digest(content).hex()):
            raise VerifyError(_R.WRONG_LOG_PROOF)
        found.logged_at = logged_at


def _judge_second_signature(
    checks: Checklist, data: bytes, found: _Found, trust: TrustList, at: datetime
) -> None:
    """The seal's signature of another suite, over the same bytes, where the trust list asks the archive for one.

    The time of issue is the later one of what the seal and the log say: the log's is not the sealer's to write.
    """
    key = found.key
    assert key is not None
    with checks.judging("second_signature", go_on=True):
        asked = trust.parties[key.issuer].second_suite
        if asked is None:
            checks.skipped("second_signature", _R.NOT_ASKED)
            return

        def judged() -> bool:
            second = second_seal.read(found.seal.signer_info)
            signed_at = max(_sealed_at(found), found.logged_at or _sealed_at(found))
            signed = b"" if second is None else second_seal.message(data, _range(found.seal), asked.suite)
            return check_second_signature(
                trust, key, second, signed, signed_at, at, proven_at=found.proven_at
            )

        if not _guarded(judged):
            checks.skipped("second_signature", _R.NOT_ASKED)


def _range(one: EmbeddedPdfSignature) -> list[int]:
    return [int(number) for number in one.byte_range]


def _sealed_at(found: _Found) -> datetime:
    """When the sealer says it sealed."""
    told: datetime = parse_pdf_date(str(found.seal.sig_object["/M"]))
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def _statement_of(found: _Found) -> dict[str, Any]:
    assert found.key is not None
    found.files = named_files(found.reader) if "/Names" in found.reader.root else {}
    written = found.files.get(STATEMENT_FILE)
    if written is None:
        raise VerifyError(_R.MISSING_CLAIM, STATEMENT_FILE)
    statement = strict_json.load_object(written, most=len(written))
    content = statement["content"]
    if statement["version"] != 1:
        raise VerifyError(_R.UNSUPPORTED_FORMAT)
    if content["archive"] != found.key.issuer or not content["number"].startswith(f"{found.key.issuer}-"):
        raise VerifyError(_R.WRONG_ISSUER)
    return dict(statement)


def _check_files(found: _Found) -> None:
    assert found.statement is not None
    assert found.files is not None
    told = [*found.statement["content"]["records"], *found.statement["files"]]
    named = {one["name"]: one["sha256"] for one in told}
    there = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in found.files.items()
        if name != STATEMENT_FILE
    }
    if named != there:
        raise VerifyError(_R.ATTACHMENT_MISMATCH)


def _check_term(found: _Found, at: datetime) -> None:
    assert found.statement is not None
    until = found.statement["content"].get("expires_on")
    if until is not None and at.astimezone(CHINA).date() > date.fromisoformat(until):
        raise VerifyError(_R.EXPIRED, until)


def _judge_standing(checks: Checklist, found: _Found, status: StatusSource, at: datetime) -> None:
    assert found.statement is not None
    assert found.key is not None
    told = found.statement.get("status")
    with checks.judging("standing", go_on=True):
        if told is None:
            raise VerifyError(_R.STATUS_UNKNOWN, open=True)
        reference = StatusReference(str(told["uri"]), int(told["index"]))
        standing = status.standing(found.key.issuer, reference, at)
        found.valid_as_of, found.successor = standing.as_of, standing.successor
        if standing.state in NOT_STANDING:
            raise VerifyError(NOT_STANDING[standing.state], standing.successor or "")


def _report(checks: Checklist, found: _Found | None) -> Report:
    content = found.statement["content"] if found is not None and found.statement is not None else {}
    facts: dict[str, Any] = {}
    if content:
        keys = (
            "archive_name",
            "issued_on",
            "purpose",
            "expires_on",
            "replaces",
            "statement",
            "pages",
            "records",
        )
        facts = {key: content[key] for key in keys if key in content}
        facts["content_sha256"] = content_digest(content).hex()
    if found is not None and found.proven_at is not None:
        facts["sealed_before"] = rfc3339(found.proven_at)
    return Report(
        kind="document",
        checks=checks.checks,
        issuer=found.key.issuer if found is not None and found.key is not None else None,
        number=content.get("number"),
        facts=facts,
        valid_as_of=found.valid_as_of if found is not None else None,
        successor=found.successor if found is not None else None,
    )
