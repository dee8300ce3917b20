"""Second signatures of the national suite: made where the archive has the keys, asked for by the roster alone."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime

import cbor2
import pypdfium2
import pytest

from federation.credential import base45, cbor, cose, qr, sd_jwt
from federation.credential.certificate import present
from federation.mail import Wishes
from federation.sealing import Binding, open_package, open_sealed, pack, recipient_name
from federation.suites import libcrypto
from federation.suites.registry import suite
from federation.trust import TrustList, Use
from federation.verify.documents import verify
from federation.verify.report import Result, Verdict, VerificationReason, VerifyError
from gateway.edge.delivery import MEDIA_TYPES
from node_agent import settings as settings_module
from node_agent.__main__ import main
from node_agent.certificates import keys as key_files
from node_agent.certificates.keys import KeysMissingError
from node_agent.documents import Documents
from node_agent.settings import SettingsError
from tests.contract.documents.conftest import Archive
from tests.fakes.documents import need_fonts

R = VerificationReason
DIGEST = bytes(range(32))


@pytest.fixture(scope="module")
def dual(tmp_path_factory):
    need_fonts()
    try:
        suite("sm-1").generate("SM2")
    except VerifyError:
        pytest.skip("no libcrypto 3 with SM2")
    made = Archive(tmp_path_factory.mktemp("dual"), second_suite="sm-1")
    yield made
    made.close()


def now():
    return datetime.now(UTC)


def check(archive, text, trust=None, **more):
    return verify(text.encode(), trust or archive.trust, archive.statuses(), now(), **more)


def second_check(report):
    return next(one.result for one in report.checks if one.name == "second_signature")


def without_asking(archive) -> TrustList:
    """The same list, with no second suite asked of anybody: what an ordinary verifier of the first suite does."""
    parties = {name: replace(one, second_suite=None) for name, one in archive.trust.parties.items()}
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
    first = getattr(ours, use.value)
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
    assert entry["second_suite"] == "sm-1"
    uses = [one["use"] for one in entry["keys"] if one["suite"] == "sm-1"]
    assert uses == ["credential", "delivery"]


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
