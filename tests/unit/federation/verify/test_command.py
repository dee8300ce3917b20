"""`lantai-verify` and the one door behind it."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from federation.credential.certificate import present
from federation.suites.registry import suite
from federation.trust import TrustList, Use, key_entry, sign_list
from federation.verify.__main__ import main
from federation.verify.documents import MOST_BYTES, MOST_TEXT, verify
from federation.verify.report import Verdict, VerifyError, rfc3339
from federation.verify.status import State
from tests.fakes.issuing import NOW, Archive, statuses, trust_json, trust_of

INTL = suite("intl-1")
ARCHIVE = Archive()
HOLDER = INTL.generate("ES256")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trust.json").write_bytes(trust_json(ARCHIVE.entry()))
    (tmp_path / "list.jwt").write_text(str(ARCHIVE.status_token({9: State.REVOKED})))
    (tmp_path / "list.cwt").write_bytes(ARCHIVE.status_token({9: State.REVOKED}, cwt=True))
    (tmp_path / "qr.txt").write_text(ARCHIVE.qr() + "\n")
    return tmp_path


def run(folder: Path, document: str, *more: str, status: str | None = "list.jwt", at: Any = NOW) -> int:
    arguments = [document, "--trust", str(folder / "trust.json"), "--at", rfc3339(at), *more]
    return main(arguments + (["--status", str(folder / status)] if status else []))


def test_valid_invalid_and_unknown_leave_by_their_own_doors(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, ARCHIVE.qr()) == 0
    said = capsys.readouterr().out
    assert "有效 · valid" in said
    assert "截至 · as of 2026-11-25T09:00:00Z" in said
    assert "桐乡市档案馆" in said
    assert run(folder, str(folder / "qr.txt"), status="list.cwt") == 0
    assert run(folder, ARCHIVE.qr(index=9)) == 1
    assert "已被签发档案馆撤销 · Revoked" in capsys.readouterr().out
    assert run(folder, ARCHIVE.qr(), status=None) == 2
    assert run(folder, ARCHIVE.qr(), at=NOW + timedelta(hours=25)) == 2
    assert "无法判定 · cannot tell" in capsys.readouterr().out


def test_a_list_dated_in_the_future_is_named_and_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ahead = max(NOW, datetime.now(UTC)) + timedelta(days=1)
    (folder / "ahead.jwt").write_text(str(ARCHIVE.status_token(at=ahead)))
    assert run(folder, ARCHIVE.qr(), status="ahead.jwt") == 2
    assert f"尚未生效 · Not yet valid ({rfc3339(ahead)})" in capsys.readouterr().out
    assert run(folder, ARCHIVE.qr(), status="ahead.jwt", at=ahead) == 0  # judged as at that time it is none


def test_json_says_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, ARCHIVE.qr(), "--json") == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["verdict"], tree["issuer"], tree["valid_as_of"]) == (
        "valid",
        "330483",
        "2026-11-25T09:00:00Z",
    )
    assert [check["number"] for check in tree["checks"]] == [1, 2, 3, 4, 5, 6, 7]


def test_a_presentation_is_checked_against_its_challenge(folder: Path) -> None:
    shown = present(
        ARCHIVE.credential(HOLDER),
        show=["marital_status"],
        holder_key=HOLDER,
        audience="a",
        nonce="n",
        at=NOW,
    )
    assert run(folder, shown.compact()) == 0
    assert run(folder, shown.compact(), "--audience", "a", "--nonce", "n") == 0
    assert run(folder, shown.compact(), "--audience", "b", "--nonce", "n") == 1
    assert run(folder, ARCHIVE.credential(HOLDER).flattened()) == 0


def test_a_challenge_is_answered_by_its_holder_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody else's paper or file proves no holder, however genuine it is: a counter asked for one."""
    asked = ("--audience", "a", "--nonce", "n")
    for document in (ARCHIVE.qr(), str(folder / "qr.txt"), ARCHIVE.credential(HOLDER).compact()):
        assert run(folder, document) == 0
        assert run(folder, document, *asked) == 1
        assert "The holder's proof of presentation is missing" in capsys.readouterr().out
    (folder / "some.pdf").write_bytes(b"%PDF-1.7\n")
    assert run(folder, str(folder / "some.pdf"), *asked) == 1
    assert "The holder's proof of presentation is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    "part",
    [
        ["--audience", "a"],
        ["--purpose", "marriage_proof"],
        ["--nonce", "n"],
        ["--audience", "a", "--nonce", ""],
        ["--audience", "", "--nonce", "n"],
        ["--audience", "a", "--purpose", "marriage_proof"],
    ],
)
def test_half_a_challenge_is_not_left_out_in_silence(
    folder: Path, capsys: pytest.CaptureFixture[str], part: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(folder, ARCHIVE.credential(HOLDER).compact(), *part)
    assert ended.value.code == 2
    assert "--audience" in capsys.readouterr().err


def test_what_can_not_be_judged_says_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, str(folder / "missing.pdf")) == 2
    assert "--trust" in capsys.readouterr().err
    assert main([ARCHIVE.qr(), "--trust", str(folder / "nowhere.json")]) == 2
    (folder / "trust.json").write_text("{}")
    assert run(folder, ARCHIVE.qr()) == 2
    assert "信任名录无效" in capsys.readouterr().err
    assert main([ARCHIVE.qr(), "--trust", str(folder / "trust.json"), "--at", "2026-11-25"]) == 2


def test_a_broken_status_list_is_as_good_as_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "list.jwt").write_text("ey.broken.x")
    assert run(folder, ARCHIVE.qr()) == 2
    assert "状态名录未采用" in capsys.readouterr().out


@pytest.mark.parametrize("names", [["list.jwt", "newer.jwt"], ["newer.jwt", "list.jwt"]])
def test_of_two_lists_the_newer_one_that_forgot_a_revocation_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], names: list[str]
) -> None:
    later = NOW + timedelta(minutes=5)
    (folder / "newer.jwt").write_text(str(ARCHIVE.status_token(at=later)))
    paths = [str(folder / name) for name in names]
    assert run(folder, ARCHIVE.qr(index=9), "--status", *paths, status=None, at=later) == 1
    said = capsys.readouterr().out
    assert "已被签发档案馆撤销 · Revoked" in said
    assert f"status list not used: {folder / 'newer.jwt'}" in said
    assert str(folder / "list.jwt") not in said


def test_the_federation_may_sign_its_trust_list(folder: Path) -> None:
    federation, stranger = INTL.generate("Ed25519"), INTL.generate("Ed25519")
    tree = json.loads(trust_json(ARCHIVE.entry()))
    (folder / "trust.json").write_text(json.dumps(sign_list(tree, federation)))
    (folder / "key.json").write_text(json.dumps(INTL.jwk(federation.public)))
    (folder / "stranger.json").write_text(json.dumps(INTL.jwk(stranger.public)))
    assert run(folder, ARCHIVE.qr(), "--federation-key", str(folder / "key.json")) == 0
    assert run(folder, ARCHIVE.qr(), "--federation-key", str(folder / "stranger.json")) == 2
    altered = sign_list(tree, federation) | {"epoch": 2}
    for wrong in (tree, altered):
        with pytest.raises(VerifyError, match="signature"):
            TrustList.load(json.dumps(wrong).encode(), signed_by=federation.public)


def test_a_key_entry_reads_back() -> None:
    key = INTL.generate("ES256")
    entry = key_entry("c-1", Use.CREDENTIAL, key.public, NOW, NOW + timedelta(days=1))
    trust = trust_of({"code": "330483", "name": "桐乡市档案馆", "keys": [entry]})
    assert INTL.jwk(trust.key("330483", "c-1", Use.CREDENTIAL, NOW).public) == INTL.jwk(key.public)


def test_what_is_stated_is_told_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stated = {
        "name": "錢偉明",
        "category": "marriage",
        "parties": [{"role": "男方", "name": "錢偉明"}],
        "digest": "00ff",
    }
    assert run(folder, ARCHIVE.qr(facts=stated)) == 0
    said = capsys.readouterr().out.splitlines()
    for line in (
        "  姓名 · Name: 錢偉明",
        "  档案类别 · Category: 结婚登记 · Marriage registration",
        "  身份 · Role: 男方",
    ):
        assert line in said
    assert not any(mark in line for line in said for mark in ("{", "digest", "00ff"))


def test_whose_a_credential_is_is_told_in_words_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its every line has a label in both languages, and that its holder is not proved is no word of a program."""
    assert run(folder, ARCHIVE.credential(HOLDER).compact()) == 0
    said = capsys.readouterr().out
    assert "  持有人 · Holder: 出示者未经证明 · not proved\n" in said
    assert "  地点 · Place: 桐乡市梧桐镇\n" in said
    assert not re.search(r"^  (\w+) · \1: ", said, re.MULTILINE)
    assert run(folder, ARCHIVE.qr(facts={"name": "甲", "holder": "proved"})) == 0
    assert "持有人 · Holder" not in capsys.readouterr().out, "an archive's word proves no holder"


def test_a_signed_name_can_not_steer_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, ARCHIVE.qr(facts={"name": "甲\x1b[2J\u202e乙"})) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\u202e" not in said


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unsupported_format"),
        (b"hello", "unsupported_format"),
        (b"\xff\xfe\x00", "unsupported_format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "unsupported_format"),
        (b"x" * (MOST_TEXT + 1), "too_large"),
        (b'{"a":' * 40_000, "too_deep"),
        (b"{" * 100_000, "malformed"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "too_deep"),
        (b"AC1:" + b"0" * 100_000, "too_large"),
        (b"~" * 300_000, "too_large"),
    ],
)
def test_things_that_are_no_document_are_refused_by_name(data: bytes, reason: str) -> None:
    report = verify(data, trust_of(ARCHIVE.entry()), statuses(trust_of(ARCHIVE.entry())), NOW)
    assert report.verdict is Verdict.INVALID
    assert report.reasons == (reason,)


def test_a_document_beyond_every_bound_is_refused_unread(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "huge.pdf").open("wb") as file:
        file.write(b"%PDF-2.0\n")
        file.truncate(MOST_BYTES + 1)
    assert run(folder, str(folder / "huge.pdf"), "--json") == 1
    assert json.loads(capsys.readouterr().out)["reasons"] == ["too_large"]
    with (folder / "huge.txt").open("wb") as file:
        file.truncate(100 << 20)
    assert run(folder, str(folder / "huge.txt"), "--json") == 1
    assert json.loads(capsys.readouterr().out)["reasons"] == ["too_large"]


def test_a_flaw_of_ours_is_never_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("federation.verify.documents.check_qr", broken)
    report = verify(
        ARCHIVE.qr().encode(), trust_of(ARCHIVE.entry()), statuses(trust_of(ARCHIVE.entry())), NOW
    )
    assert (report.verdict, report.reasons) == (Verdict.UNKNOWN, ("internal",))


@pytest.mark.slow
def test_the_installed_command_reads_standard_input(folder: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lantai-verify", "-", "--trust", "trust.json", "--status", "list.jwt", "--at", rfc3339(NOW)],
        input=ARCHIVE.qr().encode(), capture_output=True, cwd=folder, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "有效".encode() in done.stdout


def test_a_trust_list_that_is_no_good_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "trust.json").write_text("{}")
    assert run(folder, ARCHIVE.qr()) == 2
    assert f"cannot verify: {folder / 'trust.json'}: 信任名录无效" in capsys.readouterr().err


def test_where_the_status_list_is_to_be_had_is_said_where_it_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "list.jwt").write_text("ey.broken.x")
    assert run(folder, ARCHIVE.qr()) == 2
    assert "/v1/status-lists/330483; give it with --status" in capsys.readouterr().out
    assert run(folder, ARCHIVE.qr(), status="list.cwt") == 0
    assert "give it with --status" not in capsys.readouterr().out
