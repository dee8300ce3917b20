"""QR texts and credentials signed once, before the federation asked for two signatures, are signed anew by their archive."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from federation import signed_anew
from federation.credential import qr, sd_jwt
from federation.credential.certificate import present, read
from federation.mail import Wishes
from federation.reasons import Reason, Refusal
from federation.suites.base import PrivateKey
from federation.suites.registry import suite
from federation.tlog.auditor import audit
from federation.trust import TrustList, sign_list
from federation.verify.__main__ import main as lantai_verify
from federation.verify.challenge import Challenge, MemoryNonces
from federation.verify.documents import verify
from federation.verify.report import Verdict, VerificationReason, rfc3339
from loadtest.provision import FEDERATION_PRIVATE_KEY
from node_agent.__main__ import main
from node_agent.certificates import keys as key_files
from node_agent.certificates.registry import SEALED, Registry
from tests.contract.documents.conftest import Archive
from tests.fakes.documents import need_fonts, need_second_suite

CASES = ("case-paper", "case-phone", "case-revoked")
PEOPLE = ("周羣軍", "石志步", "330425196703150011", "330425196808080026")


class Before(NamedTuple):
    """An archive that has issued with one suite, and has its keys of the second since."""

    folder: Path
    numbers: dict[str, str]
    credentials: dict[str, str]
    phones: list[PrivateKey]


def now() -> datetime:
    return datetime.now(UTC)


def asked_for_two(folder: Path) -> None:
    """The archive makes keys of the second suite, and the federation lists them: from this second on it asks for both."""
    key_files.create(folder / "330483", "330483", "lantai", second_suite="sm-1")
    keys, since = key_files.load(folder / "330483"), rfc3339(now().replace(microsecond=0))
    entry = key_files.trust_entry(keys, "330483", "桐乡市档案馆", now())
    entry["second_suite"]["from"] = since
    for key in entry["keys"]:
        if key["suite"] == "sm-1":
            key["not_before"] = since  # no list says of a key that it was good before it was made
    tree = json.loads((folder / "trust.json").read_bytes())
    tree["archives"] = [entry if one["code"] == "330483" else one for one in tree["archives"]]
    del tree["signature"]
    key = suite("intl-1").load((folder / FEDERATION_PRIVATE_KEY).read_bytes(), "Ed25519")
    (folder / "trust.json").write_text(json.dumps(sign_list(tree, key)), "utf-8")


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Before:
    need_fonts()
    need_second_suite()
    folder, chosen = tmp_path_factory.mktemp("once"), suite("intl-1")
    made = Archive(folder)
    phones = [chosen.generate("ES256") for _ in range(2)]
    held = Wishes(holder_keys=tuple(chosen.jwk(one.public) for one in phones))
    issued = {
        case: made.documents.issuer.issue(
            made.order(case, **({"wishes": held} if case == "case-phone" else {}))
        )
        for case in CASES
    }
    made.documents.store.revoke(issued["case-revoked"].number, "issued_in_error", 1)
    made.close()
    asked_for_two(folder)
    return Before(
        folder,
        {case: one.number for case, one in issued.items()},
        {case: one.credential for case, one in issued.items()},
        phones,
    )


def copied(before: Before, folder: Path) -> Path:
    """The same archive in another place: its data folder."""
    shutil.copytree(before.folder, folder)
    settings = folder / "330483" / "archive.toml"
    settings.write_text(settings.read_text("utf-8").replace(str(before.folder), str(folder)), "utf-8")
    return folder / "330483"


@pytest.fixture
def archive(before, tmp_path):
    made = Archive.__new__(Archive)
    made.folder = copied(before, tmp_path / "copy")
    made.trust = TrustList.load((made.folder.parent / "trust.json").read_bytes())
    made.open()
    yield made
    made.close()


def sign_anew(folder: Path, *more: str) -> int:
    return main(["documents", "sign-anew", "--data", str(folder), *more])


def handed_out(archive: Archive, number: str) -> dict[str, bytes]:
    """What the holder gets, by what follows the number in the name."""
    to = archive.folder.parent / "handed"
    assert main(["documents", "hand-out", number, "--to", str(to), "--data", str(archive.folder)]) == 0
    found = {path.name.removeprefix(number + "."): path.read_bytes() for path in to.glob(f"{number}.*")}
    shutil.rmtree(to)
    return found


def check(archive: Archive, data: bytes, **more):
    return verify(data, archive.trust, archive.statuses(), now(), **more)


def said(text: bytes):
    """Everything a QR text says but when it was signed."""
    found = qr.read(qr.parse(text.decode()))
    one = found.certificate
    return one.issuer, one.kind, one.number, dict(one.facts), one.expires_at, one.digest, found.status


def test_a_qr_text_nobody_can_judge_is_valid_again_and_says_the_same(archive, before, capsys):
    number, old = before.numbers["case-paper"], f"credential/{before.credentials['case-paper']}"
    first, pdf = archive.fetch(old), handed_out(archive, number)["pdf"]
    report = check(archive, first)
    assert (report.verdict, report.reasons) == (Verdict.UNKNOWN, (VerificationReason.ISSUE_TIME_UNPROVEN,))
    assert sign_anew(archive.folder) == 0
    assert "       2  重新签名 · signed anew\n" in capsys.readouterr().out
    files = handed_out(archive, number)
    report = check(archive, files["qr.txt"])
    assert report.verdict is Verdict.VALID, report.as_json()
    assert next(one.result.value for one in report.checks if one.name == "second_signature") == "passed"
    assert said(files["qr.txt"]) == said(first)
    assert qr.parse(files["qr.txt"].decode()).signed_at > qr.parse(first.decode()).signed_at
    assert files["qr.svg"].startswith(b"<svg")
    assert (archive.fetch(old), files["pdf"]) == (first, pdf)  # what was handed out before stays what it is
    assert check(archive, first).verdict is Verdict.UNKNOWN


def test_whoever_verifies_at_a_counter_sees_it_by_the_exit_status(archive, before, tmp_path):
    paths = {"trust": archive.folder.parent / "trust.json", "status": tmp_path / "330483.statuslist"}
    paths["status"].write_bytes(archive.fetch("status/list.cwt"))

    def exit_status(text: bytes) -> int:
        words = [text.decode(), "--trust", str(paths["trust"]), "--status", str(paths["status"])]
        return lantai_verify(words)

    number = before.numbers["case-paper"]
    assert exit_status(handed_out(archive, number)["qr.txt"]) == 2
    assert sign_anew(archive.folder) == 0
    assert exit_status(handed_out(archive, number)["qr.txt"]) == 0


def test_each_phone_gets_its_credential_again_with_both_signatures(archive, before):
    number = before.numbers["case-phone"]
    old = handed_out(archive, number)
    assert sorted(old) == ["credential-1.sd-jwt", "credential-2.sd-jwt", "pdf"]
    assert check(archive, old["credential-1.sd-jwt"]).verdict is Verdict.UNKNOWN
    assert sign_anew(archive.folder) == 0
    new = handed_out(archive, number)
    assert sorted(new) == ["credential-1.json", "credential-2.json", "pdf", "qr.svg", "qr.txt"]
    assert (
        check(archive, new["qr.txt"]).verdict is Verdict.VALID
    )  # of its paper too, whose code was kept nowhere
    nonces, seen = MemoryNonces(), []
    for place, phone in enumerate(before.phones, 1):
        was, is_ = (
            sd_jwt.parse(files[f"credential-{place}.{ending}"].decode())
            for files, ending in ((old, "sd-jwt"), (new, "json"))
        )
        told = [read(one.jws().claims(most=1 << 18), one.disclosures) for one in (was, is_)]
        assert told[0].certificate.issued_at < told[1].certificate.issued_at
        for one in ("issuer", "kind", "number", "facts", "expires_at", "digest", "reuse"):
            assert getattr(told[0].certificate, one) == getattr(told[1].certificate, one)
        assert (told[0].holder, told[0].status) == (told[1].holder, told[1].status)
        nonce = nonces.give(now())
        shown = present(
            is_, show=["marital_status"], holder_key=phone, audience="bank", nonce=nonce, at=now()
        ).flattened()
        challenge = Challenge("bank", nonce, "marriage_proof")
        report = check(archive, shown.encode(), challenge=challenge, nonces=nonces)
        assert report.verdict is Verdict.VALID, report.as_json()
        seen.append(told[1].status)
    paper = qr.read(qr.parse(new["qr.txt"].decode())).status
    assert {paper.index, *(one.index for one in seen)} == set(archive.documents.registry.indexes(number))


def rows(folder: Path):
    registry = Registry(folder)
    try:
        return registry.signed_anew()
    finally:
        registry.close()


def test_a_trial_writes_nothing_and_a_second_run_changes_nothing(archive, capsys):
    assert sign_anew(archive.folder, "--dry-run") == 0
    assert "       2  重新签名 · signed anew\n" in capsys.readouterr().out
    assert rows(archive.folder) == []
    assert sign_anew(archive.folder) == 0
    first = rows(archive.folder)
    assert sorted(one.kept.kind for one in first) == ["credential", "qr", "qr"]
    capsys.readouterr()
    assert sign_anew(archive.folder) == 0
    out = capsys.readouterr().out
    assert "       0  重新签名 · signed anew\n" in out
    assert "       2  此前已重新签名" in out
    assert rows(archive.folder) == first


def test_what_is_revoked_is_left_alone_and_what_was_signed_anew_can_be_revoked(archive, before, capsys):
    assert sign_anew(archive.folder) == 0
    assert "       1  已撤销或被取代" in capsys.readouterr().out
    signed = {one.kept.number for one in rows(archive.folder)}
    assert signed == {before.numbers[case] for case in ("case-paper", "case-phone")}
    revoked, paper = before.numbers["case-revoked"], before.numbers["case-paper"]
    words = ["documents", "hand-out", revoked, "--to", str(archive.folder), "--data", str(archive.folder)]
    assert main(words) == 1
    text = handed_out(archive, paper)["qr.txt"]
    words = ["documents", "revoke", paper, "--reason", "holder_request", "--data", str(archive.folder)]
    assert main(words) == 0
    assert check(archive, text).reasons == (
        VerificationReason.REVOKED,
    )  # under the status index it always had


def test_what_was_signed_twice_from_the_beginning_is_left_alone(archive, before, capsys):
    issued = archive.documents.issuer.issue(archive.order("case-after"))
    assert sign_anew(archive.folder) == 0
    assert "       1  原本就有双签名" in capsys.readouterr().out
    assert issued.number not in {one.kept.number for one in rows(archive.folder)}
    assert set(handed_out(archive, issued.number)) == {"pdf", "qr.txt", "qr.svg"}


def test_what_has_expired_or_is_not_issued_yet_is_left_alone(archive, before, capsys):
    documents, number = archive.documents, before.numbers["case-paper"]
    kept = documents.registry.of_number(number, "credential")
    code = qr.parse(documents.registry.read(kept).decode())
    found, ours = qr.read(code), key_files.load(archive.folder).credential.key
    over = replace(found.certificate, expires_at=now() - timedelta(seconds=1))
    text = qr.build(over, key=ours, key_id=code.message.key_id, status=found.status)
    documents.registry._do("delete from deliverables where reference = ?", kept.reference)
    documents.registry.keep(number, "credential", "text/plain", text.encode)
    unfinished = documents.store.reserve("case-new:1", "recorded_facts", b"", now().year, now_ms()).number
    documents.registry.keep(unfinished, "credential", "text/plain", b"as it was killed".strip)
    assert sign_anew(archive.folder) == 0
    out = capsys.readouterr().out
    assert "       1  已过期" in out
    assert "       1  尚未出具完成" in out
    assert {one.kept.number for one in rows(archive.folder)} == {before.numbers["case-phone"]}


# what a gateway is told -------------------------------------------------------------------------------------------------


def told(archive: Archive, after: int = 0) -> signed_anew.Page:
    """What a gateway reads when it asks."""
    return signed_anew.read(archive.fetch(f"signed-anew/{after}"), "330483")


def test_a_gateway_is_told_what_takes_the_place_of_what_it_was_told_first_and_may_fetch_that(archive, before):
    assert told(archive) == signed_anew.Page(0, ())
    assert sign_anew(archive.folder) == 0
    page = told(archive)
    assert page.upto == rows(archive.folder)[-1].seq
    by_case = {one.case_id: one for one in page.notices}
    assert {case: one.form for case, one in by_case.items()} == {
        "case-paper": "qr",
        "case-phone": "credential",
    }
    for case, one in by_case.items():
        files = handed_out(archive, one.number)
        assert one.number == before.numbers[case]
        new = archive.fetch(f"credential/{one.digest}")
        if one.form == "qr":
            assert new == files["qr.txt"]
        else:
            assert new.split(b"\n") == [files["credential-1.json"], files["credential-2.json"]]
            assert archive.shelf.open(f"credential/{one.digest}", b"").media_type == "application/sd-jwt+json"
        assert archive.fetch(f"credential/{before.credentials[case]}") not in {
            b"",
            new,
        }  # for whoever was told of it alone
        assert one.at_ms == registered_at(archive, one.digest)
    assert told(archive, page.upto) == signed_anew.Page(page.upto, ())
    archive.close()
    archive.open()
    assert told(archive) == page


def registered_at(archive: Archive, digest: str) -> int:
    return next(one.at_ms for one in rows(archive.folder) if one.kept.reference == digest)


def test_no_gateway_is_told_of_the_qr_text_beside_credentials_nor_may_fetch_it(archive, before):
    assert sign_anew(archive.folder) == 0
    paper = archive.documents.registry.anew(before.numbers["case-phone"])["qr"]
    assert paper.reference not in {one.digest for one in told(archive).notices}
    with pytest.raises(Refusal) as refused:
        archive.fetch(f"credential/{paper.reference}")
    assert refused.value.reason is Reason.NOT_FOUND


@pytest.mark.parametrize("what", ["sealed", "not kept yet"])
def test_what_no_gateway_may_read_none_is_told_of_nor_gets(archive, before, what):
    registry, number = archive.documents.registry, before.numbers["case-phone"]
    where = "number = ? and kind = 'document'"
    if what == "sealed":
        registry._do(f"update deliverables set media_type = ? where {where}", SEALED, number)
    else:  # the agent was killed in between: whether it is to be sealed is not known
        registry._do(f"delete from deliverables where {where}", number)
    assert sign_anew(archive.folder) == 0
    page = told(archive)
    assert (page.upto, [one.case_id for one in page.notices]) == (3, ["case-paper"])
    with pytest.raises(Refusal):
        archive.fetch(f"credential/{registry.anew(number)['credential'].reference}")


def test_of_what_does_not_stand_no_gateway_is_told(archive, before):
    assert sign_anew(archive.folder) == 0
    archive.documents.store.revoke(before.numbers["case-paper"], "holder_request", 1)
    assert [one.case_id for one in told(archive).notices] == ["case-phone"]


@pytest.mark.parametrize("name", ["", "-1", "x", "1.0", "1" * 19, "１", "0/0"])
def test_a_place_that_is_none_is_refused(archive, name):
    with pytest.raises(Refusal) as refused:
        archive.fetch(f"signed-anew/{name}")
    assert refused.value.reason is Reason.NOT_FOUND


def test_each_is_logged_once_by_the_running_agent_and_names_nobody(archive, before):
    assert sign_anew(archive.folder) == 0
    log = archive.documents.log._log

    async def until_logged():
        loops = archive.documents.loops()
        watching = asyncio.create_task(loops.pop("documents signed anew"))
        for other in loops.values():
            other.close()
        while sum(one.kind == "signed_anew" for case in CASES for one in log.of_request(case)) < 3:
            await asyncio.sleep(0.01)
        watching.cancel()

    for _ in range(2):  # and again by the next process
        asyncio.run(until_logged())
    logged = [one.read() for case in CASES for one in log.of_request(case) if one.kind == "signed_anew"]
    kept = {one.kept.reference: one for one in rows(archive.folder)}
    assert sorted(one.fields["digest"] for one in logged) == sorted(kept)
    for event in logged:
        one = kept[event.fields["digest"]]
        assert event.at_ms == one.at_ms
        assert event.fields == {
            "digest": one.kept.reference, "archive": "330483", "number": one.kept.number, "document": one.kept.kind
        }  # fmt: skip
        assert not any(name in event.canonical().decode() for name in PEOPLE)
    log.checkpoint(now_ms(), gap_ms=0)
    assert audit(log, [log.signer_key]).ok


def now_ms() -> int:
    return int(now().timestamp() * 1000)


KILLED_AT_EACH_STEP = """
import os, signal, sys
from node_agent.__main__ import main
from node_agent.certificates.registry import Registry

do, write = Registry._do, Registry._write
last, steps = 0, 0

def step():
    global steps
    steps += 1
    if steps == last:
        os.kill(os.getpid(), signal.SIGKILL)

def counted_do(self, sql, *values):
    if sql.strip().partition(" ")[0] in {"begin", "insert", "commit"}:
        step()
    return do(self, sql, *values)

def counted_write(self, reference, content):
    step()
    return write(self, reference, content)

Registry._do, Registry._write = counted_do, counted_write
for last, folder in enumerate(sys.argv[1:], 1):
    child = os.fork()
    if not child:
        os._exit(main(["documents", "sign-anew", "--data", folder]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_killed_before_any_step_it_is_old_or_new_and_the_next_run_goes_on(before, tmp_path):
    """Of two certificates with one and two objects: 4 and 6 steps that write; before the eleventh it has come to its end."""
    folders = [copied(before, tmp_path / str(place)) for place in range(11)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED_AT_EACH_STEP, *map(str, folders)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    codes = [line for line in done.stdout.splitlines() if line.lstrip("-").isdecimal()]
    assert codes == ["-9"] * 10 + ["0"]
    whole = {before.numbers["case-paper"]: {"qr"}, before.numbers["case-phone"]: {"qr", "credential"}}
    seen = set()
    for folder in folders:
        registry = Registry(folder)
        found = {number: registry.anew(number) for number in whole}
        for number, kinds in whole.items():
            assert set(found[number]) in (set(), kinds)
            for one in found[number].values():
                assert registry.read(one)  # by its digest
        assert sign_anew(folder) == 0
        for number, kinds in whole.items():
            again = registry.anew(number)
            assert set(again) == kinds
            assert not found[number] or again == found[number]  # what was done stays
        seen.add(sum(map(bool, found.values())))
        registry.close()
    assert seen == {0, 1, 2}


# what stops it ---------------------------------------------------------------------------------------------------------


def test_a_spoilt_file_is_named_and_the_others_are_signed(archive, before, capsys):
    registry, number = archive.documents.registry, before.numbers["case-paper"]
    path = registry.path(registry.of_number(number, "credential"))
    path.write_bytes(path.read_bytes().replace(b"AC1:", b"AC2:"))
    assert sign_anew(archive.folder) == 1
    out, err = capsys.readouterr()
    assert f"{number}: " in err
    assert "       1  未能重新签名" in out
    assert {one.kept.number for one in rows(archive.folder)} == {before.numbers["case-phone"]}


@pytest.mark.parametrize("slipped_in", ["by another key", "of another certificate", "under an old digest"])
def test_what_is_not_the_archives_word_on_this_certificate_is_not_signed_anew(
    archive, before, slipped_in, capsys
):
    """Whoever slips a text into the folder gets no signature of the archive for it."""
    registry, number, revoked = (
        archive.documents.registry, before.numbers["case-paper"], before.numbers["case-revoked"]
    )  # fmt: skip
    kept = registry.of_number(number, "credential")
    code = qr.parse(registry.read(kept).decode())
    found, ours = qr.read(code), key_files.load(archive.folder).credential.key

    def text(key: PrivateKey, **facts: str) -> bytes:
        told = replace(found.certificate, facts={**found.certificate.facts, **facts})
        return qr.build(told, key=key, key_id=code.message.key_id, status=found.status).encode()

    if slipped_in == "under an old digest":  # by whom the first suite is no obstacle any more
        registry.path(kept).write_bytes(text(ours, name="張三"))
    else:
        other = registry.read(registry.of_number(revoked, "credential"))
        if slipped_in == "by another key":
            other = text(suite("intl-1").generate("ES256"))
        registry._do("delete from deliverables where number in (?, ?)", number, revoked)
        registry.keep(number, "credential", "text/plain", lambda: other)
    assert sign_anew(archive.folder) == 1
    assert f"{number}: " in capsys.readouterr().err
    assert number not in {one.kept.number for one in rows(archive.folder)}


def test_without_keys_or_before_they_are_listed_it_says_what_to_do_and_does_nothing(archive, capsys):
    listed = archive.folder.parent / "trust.json"
    tree = json.loads(listed.read_bytes())
    for one in tree["archives"]:
        one.pop("second_suite", None)
        for key in one["keys"]:
            if key["suite"] == "sm-1":
                key["not_before"] = rfc3339(now() + timedelta(hours=1))
    listed.write_text(json.dumps(tree), "utf-8")
    assert sign_anew(archive.folder) == 1
    assert "the trust list does not believe this archive's key now" in capsys.readouterr().err
    for path in archive.folder.glob("keys/*.sm-1.pem"):
        path.unlink()
    assert sign_anew(archive.folder) == 1
    assert "keys create --second-suite sm-1" in capsys.readouterr().err
    assert rows(archive.folder) == []
