"""Second signatures of the national suite: made where the archive has the keys, asked for by the roster alone."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import cbor2
import pypdfium2
import pytest
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader

from federation import second_seal
from federation.credential import base45, cbor, cose, qr, sd_jwt
from federation.credential.certificate import present
from federation.mail import Wishes
from federation.sealing import Binding, open_package, open_sealed, pack, recipient_name
from federation.suites import libcrypto
from federation.suites.registry import suite
from federation.tlog.checkpoint import open_checkpoint
from federation.tlog.note import Note
from federation.tlog.trusted import log_keys, second_log_keys
from federation.trust import SecondSuite, TrustList, Use
from federation.verify import pdf as pdf_checks
from federation.verify.documents import verify
from federation.verify.report import Result, Verdict, VerificationReason, VerifyError
from federation.verify.status_lists import StatusLists
from gateway.edge.delivery import MEDIA_TYPES
from node_agent import settings as settings_module
from node_agent.__main__ import main
from node_agent.certificates import keys as key_files
from node_agent.certificates.keys import KeysMissingError
from node_agent.certificates.sealing import Sealer
from node_agent.certificates.typesetting import SealPlace
from node_agent.documents import Documents
from node_agent.settings import SettingsError
from tests.contract.documents.conftest import Archive
from tests.fakes.documents import need_fonts, need_second_suite

R = VerificationReason
DIGEST = bytes(range(32))


@pytest.fixture(scope="module")
def dual(tmp_path_factory):
    need_fonts()
    need_second_suite()
    made = Archive(tmp_path_factory.mktemp("dual"), second_suite="sm-1")
    yield made
    made.close()


def now():
    return datetime.now(UTC)


def check(archive, document, trust=None, at=None, **more):
    data = document.encode() if isinstance(document, str) else document
    return verify(data, trust or archive.trust, archive.statuses(), at or now(), **more)


def second_check(report):
    return next(one.result for one in report.checks if one.name == "second_signature")


def without_asking(archive) -> TrustList:
    """The same list, with no second suite asked of anybody: what an ordinary verifier of the first suite does."""
    parties = {name: replace(one, second_suite=None) for name, one in archive.trust.parties.items()}
    return replace(archive.trust, parties=parties)


def asking_from(archive, since: datetime) -> TrustList:
    """The same list, asking from another day on."""
    parties = {
        name: replace(one, second_suite=one.second_suite and SecondSuite("sm-1", since))
        for name, one in archive.trust.parties.items()
    }
    return replace(archive.trust, parties=parties)


def resigned(text: str, second: sd_jwt.SecondSignature | None) -> str:
    """A QR text with another second signature, or with None taken out; the first signature still holds."""
    message = qr.parse(text).message
    unprotected = {} if second is None else {cose.SECOND: [second.key_id.encode(), second.signature]}
    parts = [message.protected, unprotected, message.payload, message.signature]
    return qr.PREFIX + base45.encode(cbor.dumps(cbor2.CBORTag(cose.SIGN1_TAG, parts)))


def foreign(archive, use: Use, message: bytes) -> dict[str, sd_jwt.SecondSignature | None]:
    """Second signatures that do not hold, by the reason they are refused with."""
    ours, neighbours = (key_files.load(archive.folder.parent / code) for code in ("330483", "330400"))
    key, key_id = ours.second_of(use)
    other, other_id = neighbours.second_of(use)
    first = ours.credential
    other_use = Use.DELIVERY if use is Use.CREDENTIAL else Use.CREDENTIAL

    def signed(key_id, key):
        return sd_jwt.SecondSignature(key_id, suite(key.suite).sign(key, message))

    return {
        R.SECOND_SIGNATURE_MISSING: None,
        R.UNKNOWN_KEY: signed(other_id, other),
        R.ALTERED: signed(key_id, other),
        R.WRONG_USAGE: signed(ours.second[other_use].id, key),
        R.WRONG_SUITE: signed(first.id, first.key),
    }


@pytest.fixture(scope="module")
def qr_text(dual):
    issued = dual.documents.issuer.issue(dual.order("case-qr"))
    return dual.fetch(f"credential/{issued.credential}").decode()


def test_the_text_of_the_qr_code_carries_both_signatures(dual, qr_text):
    report = check(dual, qr_text)
    assert report.verdict is Verdict.VALID, report.as_json()
    assert second_check(report) is Result.PASSED
    assert check(dual, qr_text, without_asking(dual)).verdict is Verdict.VALID  # others read the same bytes


@pytest.mark.parametrize(
    "reason", [R.SECOND_SIGNATURE_MISSING, R.UNKNOWN_KEY, R.ALTERED, R.WRONG_USAGE, R.WRONG_SUITE]
)
def test_a_qr_code_without_its_second_signature_or_with_a_foreign_one_is_refused_by_name(
    dual, qr_text, reason
):
    changed = resigned(
        qr_text, foreign(dual, Use.CREDENTIAL, qr.parse(qr_text).message.to_be_signed())[reason]
    )
    report = check(dual, changed)
    assert (report.verdict, report.reasons) == (Verdict.INVALID, (reason,))
    assert (
        check(dual, changed, without_asking(dual)).verdict is Verdict.VALID
    )  # the first signature does hold


def test_each_phone_gets_a_credential_of_both_suites_and_can_not_drop_one(dual):
    chosen = suite("intl-1")
    phones = [chosen.generate("ES256") for _ in range(2)]
    wishes = Wishes(holder_keys=tuple(chosen.jwk(one.public) for one in phones))
    issued = dual.documents.issuer.issue(dual.order("case-phone", wishes=wishes))
    held = dual.shelf.open(f"credential/{issued.credential}", b"")
    assert held.media_type == "application/sd-jwt+json"
    assert held.media_type in MEDIA_TYPES
    texts = dual.fetch(f"credential/{issued.credential}").decode().split("\n")
    assert len(texts) == 2
    for phone, text in zip(phones, texts, strict=True):
        made = present(
            sd_jwt.parse(text),
            show=["marital_status"],
            holder_key=phone,
            audience="bank",
            nonce="n-1",
            at=now(),
        )
        report = check(dual, made.flattened(), challenge=None)
        assert report.verdict is Verdict.VALID, report.as_json()
        assert second_check(report) is Result.PASSED
        assert check(dual, made.compact()).reasons == (R.SECOND_SIGNATURE_MISSING,)
        for reason, second in foreign(dual, Use.CREDENTIAL, made.jws().signing_input).items():
            assert check(dual, replace(made, second=second).flattened()).reasons == (reason,)
    pdf = pypdfium2.PdfDocument(io.BytesIO(dual.fetch(f"document/{issued.reference}")))
    names = {pdf.get_attachment(place).get_name() for place in range(pdf.count_attachments())}
    assert {"credential-1.json", "credential-2.json"} <= names


def test_a_sealed_package_is_signed_twice_and_refused_with_less(dual):
    chosen = suite("intl-1")
    window = chosen.generate(chosen.sealing)
    wishes = Wishes(delivery_key=chosen.jwk(window.public), request_digest=DIGEST.hex())
    issued = dual.documents.issuer.issue(dual.order("case-sealed", wishes=wishes))
    binding = Binding("330483", "case-sealed", DIGEST, recipient_name(window.public))
    package = open_sealed(dual.fetch(f"document/{issued.reference}"), window, binding, dual.trust, at=now())
    assert check(dual, package["credential"].content.decode()).verdict is Verdict.VALID
    ours, neighbours = (key_files.load(dual.folder.parent / code) for code in ("330483", "330400"))
    (key, key_id), (other, other_id) = ours.second_of(Use.DELIVERY), neighbours.second_of(Use.DELIVERY)

    def packed(second):
        signing = ours.delivery
        return pack(package.parts, binding, key=signing.key, key_id=signing.id, at=now(), second=second)

    assert open_package(packed((key, key_id)), binding, dual.trust).parts == package.parts
    for reason, second in {
        R.SECOND_SIGNATURE_MISSING: None,
        R.UNKNOWN_KEY: (other, other_id),
        R.ALTERED: (other, key_id),
        R.WRONG_USAGE: (key, ours.second[Use.CREDENTIAL].id),
    }.items():
        with pytest.raises(VerifyError) as refused:
            open_package(packed(second), binding, dual.trust)
        assert refused.value.reason is reason
        assert open_package(packed(second), binding, without_asking(dual)).parts == package.parts


# the PDF: the seal of another suite, inside the seal ------------------------------------------------------------------


@pytest.fixture(scope="module")
def pdf(dual):
    issued = dual.documents.issuer.issue(dual.order("case-pdf"))
    return dual.fetch(f"document/{issued.reference}")


def seal_of(pdf: bytes):
    return PdfFileReader(io.BytesIO(pdf)).embedded_signatures[0]


def range_of(pdf: bytes) -> list[int]:
    return [int(number) for number in PdfFileReader(io.BytesIO(pdf)).embedded_signatures[0].byte_range]


def with_other_pages(dual, pdf: bytes) -> bytes:
    """What somebody makes who can forge the first suite: a page turned, sealed again, the genuine second signature put in."""
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf[: pdf.index(b"%%EOF") + 5]))
    page = writer.root["/Pages"]["/Kids"][0]
    page["/Rotate"] = generic.NumberObject(180)
    writer.update_container(page)
    changed = io.BytesIO()
    writer.write(changed)
    keys = key_files.load(dual.folder)
    drawing = dual.documents.issuer._shop.typesetter.seal("桐乡市档案馆", "章")
    sealer = Sealer(keys.seal, drawing, archive="桐乡市档案馆", second=keys.second_of(Use.SEAL))
    made = sealer.seal(changed.getvalue(), SealPlace(0, (300, 100, 400, 200)), "", now()).pdf
    return second_seal.put(made, range_of(made), second_seal.read(seal_of(pdf).signer_info))


def test_a_document_is_sealed_by_both_suites_and_every_reader_takes_it(dual, pdf, tmp_path):
    report = check(dual, pdf)
    assert report.verdict is Verdict.VALID, report.as_json()
    assert second_check(report) is Result.PASSED
    plain = check(dual, pdf, without_asking(dual))
    assert (plain.verdict, second_check(plain)) == (Verdict.VALID, Result.SKIPPED)
    if shutil.which("pdfsig"):
        path = tmp_path / "dual.pdf"
        path.write_bytes(pdf)
        said = subprocess.run(["pdfsig", str(path)], capture_output=True, text=True, check=False).stdout
        assert "Signature is Valid" in said
        assert "Total document signed" in said


def test_a_document_without_its_second_seal_or_with_a_foreign_one_is_refused_by_name(dual, pdf):
    seal = seal_of(pdf)
    signed = second_seal.message(pdf, [int(one) for one in seal.byte_range], "sm-1")
    for reason, second in foreign(dual, Use.SEAL, signed).items():
        if reason is R.WRONG_SUITE:
            certified = next(one.id for one in dual.trust.keys(Use.SEAL, "330483") if one.certificate)
            second = replace(second, key_id=certified)  # noqa: PLW2901
        changed = second_seal.put(pdf, range_of(pdf), second)
        report = check(dual, changed)
        assert (report.verdict, report.reasons) == (Verdict.INVALID, (reason,))
        assert check(dual, changed, without_asking(dual)).verdict is Verdict.VALID  # the seal itself holds


def test_a_second_seal_has_one_spelling(dual, pdf):
    """Once only, in the order of DER, nothing in it twice or beside: no byte of it can be changed unseen."""
    seal = seal_of(pdf)
    second = second_seal.read(seal.signer_info)
    for wrong in (replace(second, signature=second.signature + b"x"), replace(second, signature=b"")):
        assert check(dual, second_seal.put(pdf, range_of(pdf), wrong)).reasons == (R.ALTERED,)
    attribute = seal.signer_info["unsigned_attrs"][0].dump()
    _, left, right, _ = (int(number) for number in seal.byte_range)
    repeated = second_seal._with_unsigned(seal.pkcs7_content, [attribute, attribute])
    twice = (
        pdf[:left] + b"<" + repeated.hex().upper().encode().ljust(right - left - 2, b"0") + b">" + pdf[right:]
    )
    assert R.NOT_CANONICAL in check(dual, twice).reasons


def test_who_can_forge_the_first_suite_puts_no_other_pages_around_a_genuine_statement(dual, pdf):
    forged = with_other_pages(dual, pdf)
    assert check(dual, forged, without_asking(dual)).verdict is Verdict.VALID  # the first suite sees nothing
    assert check(dual, forged).reasons == (R.ALTERED,)
    alone = second_seal.put(forged, range_of(forged), None)
    assert check(dual, alone).reasons == (R.SECOND_SIGNATURE_MISSING,)


def test_dating_back_does_not_spare_the_second_seal(dual, pdf, monkeypatch):
    """The log was told of it before it was sealed, and its time is not the sealer's to write."""
    since = now() - timedelta(hours=1)
    trust = asking_from(dual, since)
    forged = second_seal.put(pdf, range_of(pdf), None)
    assert check(dual, forged, trust).reasons == (R.SECOND_SIGNATURE_MISSING,)
    monkeypatch.setattr(pdf_checks, "_sealed_at", lambda _found: since - timedelta(days=1))
    assert check(dual, forged, trust).reasons == (R.SECOND_SIGNATURE_MISSING,)


def test_a_document_of_before_the_day_is_valid_only_with_a_trusted_time(dual, pdf):
    once = second_seal.put(pdf, range_of(pdf), None)
    since = now() + timedelta(seconds=1)
    trust, later = asking_from(dual, since), since + timedelta(minutes=1)
    report = check(dual, once, trust)
    assert (report.verdict, second_check(report)) == (Verdict.VALID, Result.SKIPPED)  # the day has not come
    report = check(dual, once, trust, at=later)
    assert report.verdict is Verdict.UNKNOWN
    assert R.ISSUE_TIME_UNPROVEN in report.reasons
    assert R.ISSUE_TIME_UNPROVEN not in check(dual, pdf, trust, at=later).reasons  # it has both


# status list and log --------------------------------------------------------------------------------------------------


def test_the_status_list_bears_both_signatures_as_cwt_and_one_as_jwt(dual):
    token, plain = dual.fetch("status/list.cwt"), dual.fetch("status/list").decode()
    StatusLists(dual.trust).add(token)
    with pytest.raises(VerifyError) as refused:
        StatusLists(dual.trust).add(plain)
    assert refused.value.reason is R.SECOND_SIGNATURE_MISSING
    StatusLists(without_asking(dual), [token])
    StatusLists(without_asking(dual), [plain])


def test_a_revocation_is_in_both_forms_of_the_list(dual):
    issued = dual.documents.issuer.issue(dual.order("case-revoked"))
    data = dual.fetch(f"document/{issued.reference}")
    before = dual.fetch("status/list.cwt")
    assert dual.fetch("status/list.cwt") == before  # signed anew when something changed, not each time
    words = ["documents", "revoke", issued.number, "--reason", "issued_in_error", "--data", str(dual.folder)]
    assert main(words) == 0
    assert check(dual, data).reasons == (R.REVOKED,)
    plain = without_asking(dual)
    lists = StatusLists(plain, [dual.fetch("status/list").decode()])
    assert verify(data, plain, lists, now()).reasons == (R.REVOKED,)


def test_the_log_signs_its_checkpoints_twice_and_a_proof_without_is_refused(dual, pdf):
    note = Note.parse(dual.fetch("log/checkpoint"))
    second = second_log_keys(dual.trust, "330483")
    assert open_checkpoint(note, log_keys(dual.trust, "330483"), second=second).size > 0
    party = dual.trust.parties["330483"]
    others = {name: key for name, key in party.keys.items() if key.vkey is None or key.suite == "intl-1"}
    unlisted = replace(dual.trust, parties=dual.trust.parties | {"330483": replace(party, keys=others)})
    report = check(
        dual, pdf, unlisted
    )  # as if the checkpoint inside had been signed by somebody else's second key
    assert report.reasons == (R.SECOND_SIGNATURE_MISSING,)
    assert next(one.result for one in report.checks if one.name == "logged") is Result.FAILED


def test_an_archive_asked_for_a_second_suite_does_not_issue_without_its_keys(dual, tmp_path):
    home = tmp_path / "330483"
    shutil.copytree(dual.folder, home)
    settings = settings_module.load(home)
    for path in home.glob("keys/*.sm-1.pem"):
        path.unlink()
    with pytest.raises(SettingsError, match=r"keys create --second-suite sm-1"):
        Documents(home, settings, dual.lookup, dual.disclosure)
    key_files.create(home, "330483", "lantai", second_suite="sm-1")  # other keys than the list's
    with pytest.raises(SettingsError, match=r"the trust list lacks the key"):
        Documents(home, settings, dual.lookup, dual.disclosure)
    (home / "keys" / "delivery.sm-1.pem").unlink()
    with pytest.raises(KeysMissingError, match=r"delivery\.sm-1\.pem"):
        key_files.load(home)


def test_the_command_makes_the_keys_and_the_entry_asks_for_the_suite(dual, tmp_path, capsys):
    home = tmp_path / "330483"
    shutil.copytree(dual.folder, home)
    shutil.rmtree(home / "keys")
    assert main(["keys", "create", "--data", str(home)]) == 0
    before = {path.name: path.read_bytes() for path in (home / "keys").iterdir()}
    capsys.readouterr()
    assert main(["keys", "show", "--data", str(home)]) == 0
    assert "second_suite" not in json.loads(capsys.readouterr().out)
    assert main(["keys", "create", "--second-suite", "sm-1", "--data", str(home)]) == 0
    assert {name: (home / "keys" / name).read_bytes() for name in before} == before  # the others stay
    assert all(path.stat().st_mode & 0o077 == 0 for path in (home / "keys").glob("*.pem"))
    capsys.readouterr()
    assert main(["keys", "show", "--data", str(home)]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert entry["second_suite"]["suite"] == "sm-1"
    assert datetime.fromisoformat(entry["second_suite"]["from"]) <= now()  # proposed: from now on
    uses = [one["use"] for one in entry["keys"] if one["suite"] == "sm-1"]
    assert sorted(uses) == ["credential", "delivery", "log", "seal", "status"]
    for use in Use:
        assert sum(one["use"] == use for one in entry["keys"]) <= 2


def test_a_machine_without_the_suite_says_so_and_makes_nothing(dual, tmp_path, monkeypatch, capsys):
    home = tmp_path / "330483"
    shutil.copytree(dual.folder, home)

    def absent():
        raise VerifyError(R.UNSUPPORTED_SUITE, "libcrypto 3", open=True)

    monkeypatch.setattr(libcrypto, "_library", absent)
    assert main(["keys", "show", "--data", str(home)]) == 1
    assert "libcrypto 3 with SM2" in capsys.readouterr().err
    shutil.rmtree(home / "keys")
    assert main(["keys", "create", "--second-suite", "sm-1", "--data", str(home)]) == 1
    assert "libcrypto 3 with SM2" in capsys.readouterr().err
    assert not (home / "keys").exists()
