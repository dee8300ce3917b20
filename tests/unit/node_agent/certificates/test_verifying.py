"""Every way a document can be wrong has its own named answer, and only an untouched one is valid."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from shutil import which

import pypdfium2
import pytest
from asn1crypto import cms
from asn1crypto import crl as asn1_crl
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import copy_into_new_writer

from federation.trust import Role, TrustList, Use
from federation.verify import pdf as verifier
from federation.verify.report import Verdict
from federation.verify.status import State
from node_agent.certificates.sealing import Sealer, SealKey
from tests.fakes.documents import ARCHIVE, NAME, Bureau, failures, party


def flipped(pdf: bytes, place: int, bit: int = 0) -> bytes:
    return pdf[:place] + bytes([pdf[place] ^ (1 << bit)]) + pdf[place + 1 :]


def turned(pdf: bytes) -> bytes:
    """The first page turned by an incremental update: every signed byte is still there."""
    writer = IncrementalPdfFileWriter(BytesIO(pdf))
    page = writer.root["/Pages"]["/Kids"][0]
    page["/Rotate"] = generic.NumberObject(90)
    writer.update_container(page)
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def listed(bureau: Bureau, code: str, use: Use, **changes: object) -> TrustList:
    """The trust list with this archive's certificate under another issuer or use."""
    trust = bureau.trust()
    parties = trust.parties | {ARCHIVE: party(code, Role.ARCHIVE, bureau.seal, use, **changes)}
    return TrustList(trust.federation, 1, trust.issued_at, parties)


class Careless(Sealer):
    """Seals whatever the key may do."""

    def check(self, at) -> None:
        pass


def careless(bureau: Bureau) -> None:
    key = SealKey(bureau.seal.key, bureau.seal.chain, bureau.crls)
    object.__setattr__(key, "check", lambda _at: None)
    drawing = bureau.typesetter.seal(NAME, "章")
    bureau.sealer = Careless(key, drawing, archive=NAME, authority=bureau.time)
    bureau.issuing = bureau._issuing()


def test_an_untouched_document_is_valid_and_says_what_it_states(bureau: Bureau, sealed: bytes) -> None:
    report = bureau.check(sealed)
    assert report.verdict is Verdict.VALID, failures(report)
    assert [check.number for check in report.checks] == list(range(1, len(report.checks) + 1))
    assert report.issuer == ARCHIVE
    assert re.fullmatch(r"330483-\d{4}-\d{6}", report.number or "")
    assert report.facts["statement"]["kind"] == "recorded_facts"
    assert report.valid_as_of == bureau.lists.as_of


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_an_altered_byte_anywhere(bureau: Bureau, sealed: bytes, share: float) -> None:
    report = bureau.check(flipped(sealed, int(len(sealed) * share), 2))
    assert report.verdict is Verdict.INVALID
    assert failures(report).keys() & {"file", "seal", "bytes", "time"}


def test_altered_contents_are_named_altered(bureau: Bureau, sealed: bytes) -> None:
    assert failures(bureau.check(flipped(sealed, sealed.index(b"endstream") - 30))) == {"bytes": "altered"}


def test_bytes_no_signature_covers_have_one_form(bureau: Bureau, sealed: bytes) -> None:
    """The zeros behind a signature and the case of its hex digits change nothing that is signed."""
    start = sealed.rindex(b"/Contents <") + len(b"/Contents <")
    end = sealed.index(b">", start)
    letter = next(place for place in range(start, end) if sealed[place : place + 1].isalpha())
    assert failures(bureau.check(flipped(sealed, end - 3))) == {"bytes": "not_canonical"}
    assert failures(bureau.check(flipped(sealed, letter, 5))) == {"bytes": "not_canonical"}


def test_the_certificates_beside_a_seal_have_one_form(bureau: Bureau, sealed: bytes) -> None:
    """Nothing signs which of them lie there, and in what order."""
    seal = PdfFileReader(BytesIO(sealed)).embedded_regular_signatures[0]
    content = cms.ContentInfo.load(seal.pkcs7_content, strict=False)
    whole, certificates = content.dump(), [one.dump() for one in content["content"]["certificates"]]
    assert len(certificates) == 2
    content["content"]["certificates"] = [
        one
        for one in content["content"]["certificates"]
        if one.chosen.dump() == bureau.seal.chain[0].public_bytes(Encoding.DER)
    ]
    swapped = whole.replace(b"".join(certificates), b"".join(reversed(certificates)))
    assert swapped != whole
    _, left, right, _ = (int(number) for number in seal.byte_range)
    alone = content.dump()
    assert len(cms.ContentInfo.load(alone)["content"]["certificates"]) == 1
    for changed in (swapped, alone):
        hole = changed.hex().upper().encode().ljust(right - left - 2, b"0")
        pdf = sealed[:left] + b"<" + hole + b">" + sealed[right:]
        assert failures(bureau.check(pdf)) == {"issuer": "not_canonical"}


def test_the_signer_is_named_letter_by_letter(bureau: Bureau, sealed: bytes) -> None:
    """Names compare without case, and the name of the signer's issuer stands where no signature covers it."""
    name = b"seal CA".hex().upper().encode()
    places = [found.start() for found in re.finditer(name, sealed)]
    assert places
    answers = [failures(bureau.check(flipped(sealed, place, 1))) for place in places]  # s becomes S
    assert all(answers), answers


def test_something_appended_after_the_seal(bureau: Bureau, sealed: bytes) -> None:
    assert failures(bureau.check(turned(sealed))) == {"bytes": "appended_pages"}
    assert failures(bureau.check(sealed + b"\n% more")) == {"bytes": "appended_pages"}


def test_something_appended_and_stamped_by_an_honest_time_authority(bureau: Bureau, tmp_path: Path) -> None:
    """A time-stamp authority stamps anything: that it did proves nothing about what was added before."""
    with Bureau(tmp_path, stamped=False, authority=bureau.authority, seal=bureau.seal) as pending:
        pdf = pending.pdf(pending.decision("p:1"))
    assert failures(bureau.check(bureau.sealer.add_time(turned(pdf)))) == {"bytes": "appended_pages"}
    assert bureau.check(bureau.sealer.add_time(pdf)).verdict is Verdict.VALID


def test_no_signature_at_all(bureau: Bureau, sealed: bytes) -> None:
    before_the_seal = sealed[: sealed.index(b"%%EOF") + 6]
    assert failures(bureau.check(before_the_seal)) == {"seal": "not_signed"}


def test_the_face_of_a_seal_without_its_signature(bureau: Bureau, sealed: bytes) -> None:
    writer = copy_into_new_writer(PdfFileReader(BytesIO(sealed)))
    del writer.root["/AcroForm"]["/Fields"][0]["/V"]
    out = BytesIO()
    writer.write(out)
    assert failures(bureau.check(out.getvalue())) == {"seal": "seal_outside_signature"}


def test_a_picture_of_the_sealed_page(bureau: Bureau, sealed: bytes) -> None:
    out = BytesIO()
    pypdfium2.PdfDocument(sealed)[0].render(scale=1).to_pil().save(out, "PDF")
    assert failures(bureau.check(out.getvalue())) == {"seal": "seal_outside_signature"}


def test_the_seal_is_drawn_by_the_signature_alone(sealed: bytes) -> None:
    def reds(pdf: bytes) -> int:
        document = pypdfium2.PdfDocument(pdf)
        document.init_forms()
        pixels = document[0].render(scale=0.5).to_numpy().reshape(-1, 3).astype(int)
        return int(((pixels[:, 2] > 150) & (pixels[:, 0] < 120) & (pixels[:, 1] < 120)).sum())

    assert reds(sealed) > 200
    assert reds(sealed[: sealed.index(b"%%EOF") + 6]) == 0


def test_a_seal_of_somebody_else(bureau: Bureau, tmp_path: Path) -> None:
    with Bureau(tmp_path) as stranger:  # the same name and looks, another authority
        assert failures(bureau.check(stranger.pdf())) == {"issuer": "wrong_issuer"}


def test_a_certificate_of_the_right_authority_that_is_not_on_the_list(bureau: Bureau, tmp_path: Path) -> None:
    with Bureau(tmp_path, authority=bureau.authority) as other:
        assert failures(bureau.check(other.pdf())) == {"issuer": "unknown_key"}


def test_the_key_of_another_archive(bureau: Bureau, sealed: bytes) -> None:
    """It says it is 330483's and is sealed with a key that the list gives to 330402."""
    assert failures(bureau.check(sealed, listed(bureau, "330402", Use.SEAL))) == {"statement": "wrong_issuer"}


def test_a_key_the_list_gives_another_use(bureau: Bureau, sealed: bytes) -> None:
    assert failures(bureau.check(sealed, listed(bureau, ARCHIVE, Use.DELIVERY))) == {"issuer": "wrong_usage"}


def test_a_certificate_that_is_not_for_documents(bureau: Bureau, tmp_path: Path) -> None:
    """The list calls it a seal, the certificate does not: its extended key usage decides."""
    leaf = bureau.authority.issue(NAME, "1.3.6.1.5.5.7.3.2")  # client authentication
    with Bureau(tmp_path, authority=bureau.authority, seal=leaf) as wrong:
        careless(wrong)
        assert failures(wrong.check(wrong.pdf())) == {"usage": "wrong_usage"}


def test_an_expired_certificate_with_and_without_trusted_time(tmp_path: Path) -> None:
    with Bureau(tmp_path) as bureau:
        stamped = bureau.pdf(bureau.decision("a:1"))
        bureau.with_time(None)
        pending = bureau.pdf(bureau.decision("b:1"))
        later = bureau.now + timedelta(days=800)
        assert bureau.check(stamped, at=later).verdict is Verdict.VALID  # it was valid when it sealed
        assert failures(bureau.check(pending, at=later)) == {"key": "key_expired"}


def test_revocation_lists_too_old_for_a_time_that_is_pending(tmp_path: Path) -> None:
    with Bureau(tmp_path, stamped=False) as bureau:
        pdf = bureau.pdf()
        assert bureau.check(pdf).verdict is Verdict.VALID
        report = bureau.check(pdf, at=bureau.now + timedelta(days=60))
        assert (report.verdict, failures(report)) == (Verdict.UNKNOWN, {"key": "status_unknown"})


def test_a_revoked_certificate(bureau: Bureau, sealed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the lists inside had named the seal: signing libraries refuse to make such a file, forgers do not."""
    revoked = {bureau.seal.chain[0].serial_number: bureau.start - timedelta(minutes=2)}
    lists = bureau.authority.crls(revoked, at=bureau.start)
    monkeypatch.setattr(
        verifier, "_lists_inside", lambda _found: [asn1_crl.CertificateList.load(one) for one in lists]
    )
    assert failures(bureau.check(sealed)) == {"key": "key_revoked"}


def test_a_compromised_key_is_believed_only_for_what_is_proven_older(bureau: Bureau, sealed: bytes) -> None:
    after = bureau.trust(compromised_at=bureau.now + timedelta(hours=1))
    before = bureau.trust(compromised_at=bureau.now - timedelta(hours=1))
    assert bureau.check(sealed, after).verdict is Verdict.VALID
    assert failures(bureau.check(sealed, before)) == {"key": "key_compromised"}


def test_time_from_an_authority_nobody_pinned(bureau: Bureau, sealed: bytes) -> None:
    trust = bureau.trust()
    without = TrustList(trust.federation, 1, trust.issued_at, {ARCHIVE: trust.parties[ARCHIVE]})
    assert failures(bureau.check(sealed, without)) == {"time": "wrong_time_stamp"}


@pytest.mark.parametrize(
    ("state", "reason"),
    [(State.REVOKED, "revoked"), (State.SUSPENDED, "suspended"), (State.REPLACED, "replaced")],
)
def test_what_the_status_list_says(
    bureau: Bureau, sealed: bytes, state: State, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = bureau.check(sealed).number
    assert number
    states = {int(number.rpartition("-")[2]): (state, "330483-2026-000999")}
    monkeypatch.setattr(bureau.lists, "states", states)
    report = bureau.check(sealed)
    assert failures(report) == {"standing": reason}
    assert report.successor == "330483-2026-000999"


def test_without_a_status_list_at_hand_it_is_unknown(
    bureau: Bureau, sealed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bureau.lists, "missing", True)
    report = bureau.check(sealed)
    assert (report.verdict, failures(report)) == (Verdict.UNKNOWN, {"standing": "status_unknown"})


def test_the_term_of_reuse(bureau: Bureau) -> None:
    until = (bureau.now + timedelta(days=5)).date().isoformat()
    pdf = bureau.pdf(bureau.decision("term:1", expires_on=until))
    assert bureau.check(pdf).verdict is Verdict.VALID
    assert failures(bureau.check(pdf, at=bureau.now + timedelta(days=9))) == {"term": "expired"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unsupported_format"),
        (b"PK\x03\x04 something else", "unsupported_format"),
        (b"%PDF-1.7\n", "malformed"),
        (b"%PDF-1.7\n" + b"[" * 5000, "malformed"),
        (b"%PDF-2.0\n1 0 obj<</Type/Catalog/Pages 1 0 R>>endobj\nstartxref\n9\n%%EOF", "malformed"),
    ],
)
def test_what_is_no_such_file(bureau: Bureau, data: bytes, reason: str) -> None:
    assert failures(bureau.check(data)) == {"file": reason}


def test_too_large_is_said_before_reading(bureau: Bureau, sealed: bytes) -> None:
    assert failures(bureau.check(sealed + bytes(97 << 20))) == {"file": "too_large"}


def test_poppler_agrees(sealed: bytes, tmp_path: Path) -> None:
    if which("pdfsig") is None:
        pytest.skip("pdfsig (poppler-utils) is not installed")
    said = []
    for name, pdf in (("good", sealed), ("bad", flipped(sealed, sealed.index(b"endstream") - 30))):
        (tmp_path / name).write_bytes(pdf)
        done = subprocess.run(["pdfsig", "-nocert", tmp_path / name], capture_output=True, text=True)
        said.append(done.stdout)
    assert "Signature is Valid." in said[0]
    assert "Total document signed" in said[0]
    assert "LantaiSeal" in said[0]
    assert "Digest Mismatch" in said[1]


def test_pyhankos_own_command_agrees(bureau: Bureau, sealed: bytes, tmp_path: Path) -> None:
    pytest.importorskip("pyhanko.cli", reason="pyhanko-cli is not installed")
    for name, certificate in (("ca.pem", bureau.authority.ca), ("root.pem", bureau.authority.root)):
        (tmp_path / name).write_bytes(certificate.public_bytes(Encoding.PEM))
    command = [sys.executable, "-m", "pyhanko", "sign", "validate", "--no-revocation-check"]
    command += ["--trust-replace", "--trust", tmp_path / "root.pem", "--other-certs", tmp_path / "ca.pem"]
    results = []
    for name, pdf in (("good", sealed), ("bad", flipped(sealed, sealed.index(b"endstream") - 30))):
        (tmp_path / name).write_bytes(pdf)
        results.append(subprocess.run([*command, tmp_path / name], capture_output=True, text=True))
    assert results[0].returncode == 0, results[0].stdout + results[0].stderr
    assert "INTACT:TRUSTED,TIMESTAMP_TOKEN<INTACT:TRUSTED>,UNTOUCHED" in results[0].stdout
    assert results[1].returncode != 0
