"""One decision, one number, one document: kept before it is handed on, the same bytes ever after; keys and time named."""

from __future__ import annotations

import hashlib
import stat
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Self

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from federation.documents import content_digest
from federation.reasons import Reason, Refusal
from federation.verify.report import Verdict
from loadtest.authorities.seals import Leaf, SealAuthority, TimeStampServer
from node_agent.certificates.issuing import CannotIssueError
from node_agent.certificates.revocation_lists import ListFiles
from node_agent.certificates.sealing import Sealer, SealError, SealKey
from node_agent.certificates.store import CertificateStore
from node_agent.certificates.time_stamps import NoTimeStampError, TimeAuthority
from tests.fakes.documents import ARCHIVE, Bureau, facts, failures, no_record, statement_of
from tests.fakes.time_authority import time_authority


def test_the_same_decision_is_the_same_document(bureau: Bureau) -> None:
    first = bureau.issuing.issue(bureau.decision("same:1"))
    again = bureau.issuing.issue(bureau.decision("same:1"))
    assert first == again
    pdf = bureau.issuing.read(first.number)
    assert hashlib.sha256(pdf).hexdigest() == first.sha256
    assert len(pdf) == first.size
    assert first.stamped


def test_another_content_under_an_issued_decision_is_refused(bureau: Bureau) -> None:
    bureau.issuing.issue(bureau.decision("changed:1"))
    with pytest.raises(Refusal) as refused:
        bureau.issuing.issue(bureau.decision("changed:1", statement=facts("王芳")))
    assert refused.value.reason is Reason.DECISION_CHANGED


def test_a_document_is_not_kept_for_content_that_was_corrected_meanwhile(
    bureau: Bureau, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrected = bureau.decision("meanwhile:1", statement=facts("王芳"))
    make = bureau.credentials.make

    def overtaken(content: dict, digest: bytes):
        bureau.store.reserve(corrected.id, "recorded_facts", corrected.fingerprint(), 2026, 1)
        return make(content, digest)

    with monkeypatch.context() as patch:
        patch.setattr(bureau.credentials, "make", overtaken)
        with pytest.raises(Refusal) as refused:
            bureau.issuing.issue(bureau.decision("meanwhile:1"))
    assert refused.value.reason is Reason.DECISION_CHANGED
    assert not bureau.store.of_decision("meanwhile:1").issued
    assert "王芳" in str(statement_of(bureau.pdf(corrected))["content"])


def test_what_the_credential_commits_to_is_what_the_document_states(bureau: Bureau) -> None:
    pdf = bureau.pdf(bureau.copy("digest:1"))
    report = bureau.check(pdf)
    assert report.facts["content_sha256"] == content_digest(statement_of(pdf)["content"]).hex()


def test_threads_that_issue_one_decision_get_one_document(bureau: Bureau) -> None:
    found: list = []
    threads = [
        threading.Thread(target=lambda: found.append(bureau.issuing.issue(bureau.decision("race:1"))))
        for _ in range(6)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_the_proof_of_the_evidence_log_lies_inside(tmp_path: Path) -> None:
    committed = []

    class Log:
        def commit(self, number: str, digest: bytes) -> bytes:
            committed.append((number, digest))
            return b"tlog-proof@v1\n" + digest.hex().encode()

    with Bureau(tmp_path, log=Log()) as bureau:
        pdf = bureau.pdf()
        number = bureau.check(pdf).number
        assert committed == [(number, content_digest(statement_of(pdf)["content"]))]
        assert {one["name"] for one in statement_of(pdf)["files"]} == {
            "certificate.sd-jwt",
            "evidence.tlog-proof",
        }


def test_a_corrected_document_replaces_the_first_in_one_step(bureau: Bureau) -> None:
    first = bureau.issuing.issue(bureau.decision("wrong:1"))
    second = bureau.issuing.issue(bureau.decision("right:1", statement=facts("王芳"), replaces=first.number))
    entry = bureau.store.entry(first.number)
    assert (entry.state, entry.successor) == ("replaced", second.number)
    assert bureau.store.changes()[-1][2:] == (first.number, "replaced", "corrected", second.number)
    with pytest.raises(Refusal) as refused:
        bureau.issuing.issue(bureau.decision("x:1", replaces="330483-2020-000001"))
    assert refused.value.reason is Reason.UNKNOWN_DOCUMENT


def test_a_revoked_document_stays_revoked(bureau: Bureau) -> None:
    number = bureau.issuing.issue(bureau.decision("revoked:1")).number
    bureau.issuing.revoke(number, "issued_in_error")
    before = bureau.store.changes()
    bureau.issuing.revoke(number, "again")
    assert bureau.store.changes() == before
    assert bureau.store.entry(number).reason == "issued_in_error"
    with pytest.raises(Refusal) as refused:
        bureau.issuing.revoke("330483-2026-999999", "x")
    assert refused.value.reason is Reason.UNKNOWN_DOCUMENT


def test_what_is_kept_is_readable_by_the_archive_alone(bureau: Bureau) -> None:
    bureau.issuing.issue(bureau.decision("modes:1"))
    for path in bureau.folder.rglob("*"):
        if path.suffix in {".pdf", ".sqlite"}:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_kept_file_that_was_changed_is_not_handed_out(tmp_path: Path) -> None:
    with Bureau(tmp_path) as bureau:
        number = bureau.issuing.issue(bureau.decision()).number
        (path,) = (tmp_path / "documents").rglob("*.pdf")
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(Refusal) as refused:
            bureau.issuing.read(number)
        assert refused.value.reason is Reason.STORE_UNAVAILABLE


def test_files_a_dead_process_left_are_swept_and_no_others(tmp_path: Path) -> None:
    with Bureau(tmp_path) as bureau:
        number = bureau.issuing.issue(bureau.decision()).number
        left = tmp_path / "documents/ab/abc.pdf"
        left.parent.mkdir(exist_ok=True)
        left.write_bytes(b"left")
        assert bureau.store.sweep() == 0, "it may still be in the making"
        assert bureau.store.sweep(older_than_s=-1) == 1
        assert bureau.issuing.read(number)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["reserve", "keep", "revoke"])), max_size=40)
)
def test_numbers_and_decisions_stay_one_to_one(tmp_path_factory: pytest.TempPathFactory, calls: list) -> None:
    store = CertificateStore(tmp_path_factory.mktemp("numbers"), ARCHIVE)
    kept: dict[str, str] = {}
    for place, (decision, call) in enumerate(calls):
        entry = store.reserve(f"d{decision}", "recorded_facts", b"x", 2026, 1)
        if call == "keep":
            made = store.keep(entry.number, f"{place}".encode(), 2, stamped=True)
            assert kept.setdefault(entry.number, made.sha256) == made.sha256
        elif call == "revoke" and entry.issued:
            store.revoke(entry.number, "x", 3)
    entries = [store.of_decision(f"d{one}") for one in range(6)]
    numbers = [one.number for one in entries if one]
    assert len(set(numbers)) == len(numbers)
    assert sorted(numbers) == [f"330483-2026-{one:06d}" for one in range(1, len(numbers) + 1)]
    store.close()


# keys and certificates -----------------------------------------------------------------------------------------------


def wrong_key(tmp_path: Path, kind: str) -> tuple[Path, Path]:
    authority = SealAuthority()
    key, certificate = authority.issue("印章").write(tmp_path, "seal")
    pem = serialization.PrivateFormat.PKCS8
    match kind:
        case "absent":
            key.unlink()
        case "no key":
            key.write_text("hello")
        case "encrypted":
            made = ec.generate_private_key(ec.SECP256R1())
            key.write_bytes(
                made.private_bytes(Encoding.PEM, pem, serialization.BestAvailableEncryption(b"x"))
            )
        case "rsa":
            made = rsa.generate_private_key(65537, 2048)
            key.write_bytes(made.private_bytes(Encoding.PEM, pem, serialization.NoEncryption()))
        case "no certificate":
            certificate.write_text("hello")
        case "no chain":
            other = SealAuthority().issue("另一")
            certificate.write_text(
                certificate.read_text().partition("-----END CERTIFICATE-----\n")[0]
                + "-----END CERTIFICATE-----\n"
                + other.pem
            )
    return key, certificate


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("absent", "key"),
        ("no key", "key"),
        ("encrypted", "key"),
        ("rsa", "key"),
        ("no certificate", "certificate"),
        ("no chain", "certificate"),
    ],
)
def test_keys_and_certificates_that_can_not_be_read(tmp_path: Path, kind: str, said: str) -> None:
    with pytest.raises(SealError) as error:
        SealKey.load(*wrong_key(tmp_path, kind))
    assert error.value.kind == said
    assert " · " in str(error.value), "in both languages"


def test_keys_that_may_not_seal(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = SealAuthority()
    leaf = authority.issue("印章")
    crls = authority.crls()
    stranger = ec.generate_private_key(ec.SECP256R1())
    expired = authority.issue("旧", ends=authority.starts + timedelta(seconds=1))
    for key, chain, lists, kind in (
        (stranger, leaf.chain, crls, "key"),
        (leaf.key, leaf.chain, (), "revocation_list"),
        (leaf.key, leaf.chain, authority.crls(at=now - timedelta(days=90)), "revocation_list"),
        (*_parts(authority.issue("时间", "time")), crls, "certificate"),
        (*_parts(expired), crls, "certificate"),
    ):
        with pytest.raises(SealError) as error:
            SealKey(key, chain, lists).check(now)
        assert error.value.kind == kind
    SealKey(leaf.key, leaf.chain, crls).check(now)


def _parts(leaf):
    return leaf.key, leaf.chain


def test_a_seal_that_expires_stops_issuing_before_a_number_is_given(tmp_path: Path) -> None:
    with Bureau(tmp_path) as bureau:
        bureau.now += timedelta(days=60)  # the revocation lists are out of date by then
        with pytest.raises(CannotIssueError) as error:
            bureau.issuing.issue(bureau.decision())
        assert error.value.kind == "revocation_list"
        assert bureau.store.of_decision("case-1:1") is None


def revoked_in(authority: SealAuthority, leaf: Leaf, at: datetime) -> tuple[bytes, ...]:
    return authority.crls({leaf.chain[0].serial_number: at - timedelta(minutes=2)}, at=at)


@pytest.mark.parametrize(("flawed", "kind"), [("revoked", "certificate"), ("forged", "revocation_list")])
def test_a_seal_that_no_verifier_would_believe_gets_no_number(tmp_path: Path, flawed: str, kind: str) -> None:
    with Bureau(tmp_path) as bureau:
        bureau.crls = {
            "revoked": revoked_in(bureau.authority, bureau.seal, bureau.start),
            "forged": SealAuthority(starts=bureau.start).crls(
                at=bureau.start
            ),  # another authority of the same name
        }[flawed]
        bureau.with_time(None)
        with pytest.raises(CannotIssueError) as error:
            bureau.issuing.issue(bureau.decision())
        assert error.value.kind == kind
        assert bureau.store.of_decision("case-1:1") is None


@pytest.mark.parametrize(
    ("flawed", "kind"),
    [("stale", "time_revocation_list"), ("missing", "time_revocation_list"), ("revoked", "time_authority")],
)
def test_a_time_authority_that_no_verifier_would_believe_is_told_before_a_number_is_given(
    tmp_path: Path, flawed: str, kind: str
) -> None:
    with Bureau(tmp_path, stamped=False) as bureau:
        others = SealAuthority(starts=bureau.start, name="时间")
        stamper = others.issue("时间戳", "time")
        lists = {
            "stale": others.crls(at=bureau.start - timedelta(days=60)),
            "missing": (),
            "revoked": revoked_in(others, stamper, bureau.start),
        }
        with TimeStampServer(stamper) as server:
            bureau.with_time(TimeAuthority(server.url, stamper.chain, lists[flawed]))
            with pytest.raises(CannotIssueError) as error:
                bureau.issuing.issue(bureau.decision())
            assert error.value.kind == kind
            assert bureau.store.of_decision("case-1:1") is None
            bureau.with_time(TimeAuthority(server.url, stamper.chain, others.crls(at=bureau.start)))
            assert bureau.issuing.issue(bureau.decision()).stamped


def test_a_stamp_that_does_not_validate_leaves_the_time_pending(tmp_path: Path) -> None:
    """Lists by another authority of the same name: only who checks their signatures sees it."""
    with Bureau(tmp_path, stamped=False) as bureau:
        others = SealAuthority(starts=bureau.start, name="时间")
        stamper = others.issue("时间戳", "time")
        forged = SealAuthority(starts=bureau.start, name="时间").crls(at=bureau.start)
        with TimeStampServer(stamper) as server:
            bureau.with_time(TimeAuthority(server.url, stamper.chain, forged))
            assert not bureau.issuing.issue(bureau.decision()).stamped
            with capture_logs() as logged:
                assert bureau.issuing.add_times() == 0
            assert logged == [], "no fault of the document"
            bureau.with_time(TimeAuthority(server.url, stamper.chain, others.crls(at=bureau.start)))
            assert bureau.issuing.add_times() == 1


def test_a_seal_that_fails_while_it_signs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Bureau(tmp_path) as bureau:
        monkeypatch.setattr(Sealer, "check", lambda _self, _at: None)  # as if it was revoked just now
        monkeypatch.setattr(SealKey, "check", lambda _self, _at: None)
        bureau.crls = revoked_in(bureau.authority, bureau.seal, bureau.start)
        bureau.with_time(bureau.time)
        with pytest.raises(CannotIssueError) as error:
            bureau.issuing.issue(bureau.decision())
        assert error.value.kind == "seal"


def test_a_fresh_list_counts_at_once_also_beside_an_old_one(tmp_path: Path) -> None:
    now, authority = datetime.now(UTC), SealAuthority()
    leaf = authority.issue("印章")

    def write(lists: Sequence[bytes], prefix: str = "") -> None:
        for place, one in enumerate(lists):
            (tmp_path / f"{prefix}{place}.crl").write_bytes(one)

    write(authority.crls(at=now - timedelta(days=60)))
    key = SealKey.load(*leaf.write(tmp_path, "seal"), ListFiles(lambda: sorted(tmp_path.glob("*.crl"))))
    with pytest.raises(SealError, match="过期"):
        key.check(now)
    write(authority.crls(), "new-")
    key.check(now)
    write([b"half a file"], "new-")
    with pytest.raises(SealError, match=r"new-0\.crl"):
        key.check(now)
    write(revoked_in(authority, leaf, now), "new-")
    with pytest.raises(SealError, match="吊销"):
        key.check(now)


# trusted time --------------------------------------------------------------------------------------------------------


class Broken:
    """A time-stamp authority that answers everything with the same bytes, or not at all."""

    def __init__(self, answer: bytes | None, status: int = 200) -> None:
        release = threading.Event()
        self.release = release

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if answer is None:
                    release.wait(30)
                    return
                self.send_response(status)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_args) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_error) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


def test_an_authority_that_redirects_is_told_by_name_and_not_followed(tmp_path: Path) -> None:
    with (
        Bureau(tmp_path) as bureau,
        Broken(b"", 302) as broken,
        pytest.raises(NoTimeStampError, match="转往"),
    ):
        TimeAuthority(broken.url, bureau.stamper.chain).ask(b"asked", b"digest")


@pytest.mark.timeout(60)
def test_an_authority_that_trickles_its_answer_holds_no_document(tmp_path: Path) -> None:
    with Bureau(tmp_path / "bureau") as bureau, time_authority(tmp_path) as served:
        for part in ("headers", "body"):
            served.faults.trickles = part
            bureau.with_time(TimeAuthority(served.url, bureau.stamper.chain, bureau.crls, wait_s=0.5))
            assert not bureau.issuing.issue(bureau.decision(f"{part}:1")).stamped


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"", 200),
        (b"hello", 200),
        (b"\x30\x03\x02\x01\x02", 200),
        (b"down", 503),
        (b"", 302),
        (bytes(1 << 20), 200),
        (None, 200),
    ],
)
def test_without_a_usable_time_stamp_it_is_issued_pending_and_upgraded_later(
    tmp_path: Path, answer: bytes | None, status: int
) -> None:
    with Bureau(tmp_path) as bureau, Broken(answer, status) as broken:
        good = bureau.time
        bureau.with_time(TimeAuthority(broken.url, bureau.stamper.chain, bureau.crls, wait_s=0.3))
        issued = bureau.issuing.issue(bureau.decision())
        first = bureau.issuing.read(issued.number)
        assert not issued.stamped
        assert bureau.check(first).verdict is Verdict.VALID
        assert bureau.check(first).checks[5].reason == "time_pending"
        assert bureau.issuing.add_times() == 0
        bureau.with_time(good)
        assert bureau.issuing.add_times() == 1
        assert bureau.issuing.add_times() == 0
        later = bureau.issuing.read(issued.number, stamped=True)
        assert later.startswith(first), "what was handed on stays what it was"
        assert bureau.issuing.read(issued.number) == first
        report = bureau.check(later)
        assert report.verdict is Verdict.VALID, failures(report)
        assert report.checks[5].result == "passed"
        assert bureau.check(later, at=bureau.now + timedelta(days=800)).verdict is Verdict.VALID
        assert bureau.issuing.issue(bureau.decision()).stamped


def test_a_stamp_by_another_authority_is_not_used(tmp_path: Path) -> None:
    with Bureau(tmp_path) as bureau:
        stranger = SealAuthority().issue("他", "time")
        with TimeStampServer(stranger) as server:
            bureau.with_time(TimeAuthority(server.url, bureau.stamper.chain, bureau.crls))
            assert not bureau.issuing.issue(bureau.decision()).stamped


def test_after_four_hours_without_trusted_time_nothing_more_is_issued(tmp_path: Path) -> None:
    with Bureau(tmp_path, stamped=False, time_url="http://127.0.0.1:9/") as bureau:
        assert not bureau.issuing.issue(bureau.decision("first:1")).stamped
        bureau.now += timedelta(hours=3, minutes=59)
        bureau.issuing.issue(bureau.decision("second:1"))
        bureau.now += timedelta(minutes=2)
        with pytest.raises(CannotIssueError) as error:
            bureau.issuing.issue(bureau.decision("third:1"))
        assert error.value.kind == "time_authority"
        assert bureau.issuing.issue(bureau.decision("first:1")), "what was issued is still handed out"
        with TimeStampServer(bureau.stamper) as server:
            bureau.with_time(TimeAuthority(server.url, bureau.stamper.chain, bureau.crls))
            assert bureau.issuing.add_times() == 2
            assert bureau.issuing.issue(bureau.decision("third:1")).stamped


@pytest.mark.parametrize("unfit", ["missing", "damaged", "no PDF"])
def test_a_document_that_can_not_be_stamped_holds_up_no_other(tmp_path: Path, unfit: str) -> None:
    with Bureau(tmp_path, stamped=False, time_url="http://127.0.0.1:9/") as bureau:
        first = bureau.issuing.issue(bureau.decision("first:1"))
        path = tmp_path / f"documents/{first.sha256[:2]}/{first.sha256}.pdf"
        if unfit == "missing":
            path.unlink()
        elif unfit == "damaged":
            path.write_bytes(path.read_bytes()[:1_000])
        else:
            entry = bureau.store.reserve("never:1", "recorded_facts", b"x", 2026, 1)
            bureau.store.keep(entry.number, b"%PDF", 1, stamped=False)
        bureau.now += timedelta(hours=3)
        bureau.issuing.issue(bureau.decision("second:1"))
        bureau.now += timedelta(hours=0.9 if unfit == "no PDF" else 3)
        assert bureau.issuing.issue(bureau.decision("third:1")), "the authority has not been away so long"
        with TimeStampServer(bureau.stamper) as server, capture_logs() as logged:
            bureau.with_time(TimeAuthority(server.url, bureau.stamper.chain, bureau.crls))
            assert bureau.issuing.add_times() == (3 if unfit == "no PDF" else 2)
        assert [(one["action"], one["records"]) for one in logged] == [("documents.time", 0)]
        assert len(bureau.store.pending()) == 1


def test_documents_that_do_not_stand_say_nothing_of_the_authority(tmp_path: Path) -> None:
    with Bureau(tmp_path, stamped=False, time_url="http://127.0.0.1:9/") as bureau:
        bureau.issuing.revoke(bureau.issuing.issue(bureau.decision("first:1")).number, "issued_in_error")
        bureau.now += timedelta(hours=5)
        second = bureau.issuing.issue(bureau.decision("second:1"))
        bureau.now += timedelta(hours=3)
        bureau.issuing.issue(bureau.decision("third:1", statement=facts("王芳"), replaces=second.number))
        bureau.now += timedelta(hours=3)
        assert bureau.issuing.issue(bureau.decision("fourth:1"))


def test_a_time_authority_has_an_address_of_the_web() -> None:
    with pytest.raises(ValueError, match="http"):
        TimeAuthority("file:///etc/passwd", ())


def test_no_authority_is_named_when_time_is_to_be_added(tmp_path: Path) -> None:
    with Bureau(tmp_path, stamped=False) as bureau:
        with pytest.raises(NoTimeStampError):
            bureau.sealer.add_time(bureau.pdf(bureau.decision("n:1", statement=no_record())))
