"""What an operator erases from an evidence log, by the commands of the gateway and of the archive alike."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from federation.tlog.auditor import audit
from federation.tlog.event import Event, EventKind
from federation.tlog.log import EvidenceLog
from federation.tlog.note import SecondSigner, Signer
from federation.tlog.reader import LogReader
from gateway.__main__ import main as gateway
from gateway.evidence.log import second_signer_at, signer_at
from node_agent.__main__ import main as node
from node_agent.certificates import keys as key_files

CASE, OTHER = "case-1", "case-2"
DIGESTS = {(case, number): f"{number}{case[-1]}" * 32 for case in (CASE, OTHER) for number in (1, 2)}


@dataclass
class Side:
    """A process that keeps a log, and how its command is given."""

    command: list[str]
    log: Path
    signer: Signer
    second: SecondSigner | None

    def run(self, *arguments: str) -> int:
        program, *words = self.command
        return {"gateway": gateway, "node": node}[program]([*words, *arguments])

    def write(self) -> EvidenceLog:
        return EvidenceLog(self.log, self.signer, self.second)

    def left(self) -> list[tuple[str, str]]:
        """(case, id) of each event whose contents are in the log."""
        with LogReader(self.log) as reader:
            found = [entry for entry in reader.entries() if entry.kind != EventKind.ERASED.value]
            return [(entry.request, entry.id) for entry in found if not entry.is_erased]

    def holds(self, text: str) -> bool:
        """Whether the file, or one that SQLite keeps beside it, has this anywhere."""
        return any(text.encode() in path.read_bytes() for path in self.log.parent.glob(f"{self.log.name}*"))

    def audit(self) -> bool:
        second = None if self.second is None else [self.second.key]
        with LogReader(self.log) as reader:
            return audit(reader, [self.signer.key], second=second).ok


@pytest.fixture(params=["gateway", "node", "node that signs twice"])
def side(request, tmp_path):
    if request.param == "gateway":
        settings, key = tmp_path / "gateway.toml", tmp_path / "data" / "log.key"
        settings.write_text("")
        signer = signer_at(key, "lantai.lantai/gateway/gateway")
        options, log = ["--config", str(settings)], tmp_path / "data" / "evidence.sqlite"
        one = Side(
            ["gateway", "evidence", "erase", *options], log, signer, second_signer_at(key, signer.name)
        )
    else:
        twice = "sm-1" if request.param == "node that signs twice" else None
        key_files.create(tmp_path, "330483", "lantai", second_suite=twice)
        keys = key_files.load(tmp_path)
        options = ["--data", str(tmp_path)]
        one = Side(
            ["node", "evidence", "erase", *options], tmp_path / "evidence.sqlite", keys.log, keys.second_log
        )
    log = one.write()
    for (case, number), digest in DIGESTS.items():
        fields = {"digest": digest, "outcome": "withdrawn"}
        log.append([Event(EventKind.CLOSED, f"{case}-{number}", number, case, fields)])
    log.append([Event(EventKind.CLOSED, "alone", 9, "case-3", {"outcome": "withdrawn"})])
    log.append([Event(EventKind.KEY_CHANGED, "changed", 10, "", {"name": "log", "digest": "ab" * 32})])
    log.checkpoint(10)
    log.close()
    return one


def everything():
    return [*((case, f"{case}-{number}") for case, number in DIGESTS), ("case-3", "alone"), ("", "changed")]


def test_a_cases_contents_are_gone_and_the_log_stays_verifiable(side, capsys):
    assert side.holds(DIGESTS[CASE, 1])
    assert side.run(CASE, "--reason", "retention") == 0
    told = capsys.readouterr().out
    assert "case-1-1  closed  1970-01-01T00:00:00+00:00" in told
    assert "已清除 2 条" in told
    assert "of 2; id, kind and time stay" in told
    assert side.left() == [one for one in everything() if one[0] != CASE]
    assert not side.holds(DIGESTS[CASE, 1])
    assert not side.holds(DIGESTS[CASE, 2])
    assert side.holds(DIGESTS[OTHER, 1])
    assert side.audit()
    with LogReader(side.log) as reader:
        erased = [entry.read() for entry in reader.of_request(CASE) if entry.kind == EventKind.ERASED.value]
        assert [one.fields["reason"] for one in erased] == ["retention"] * 2
        assert reader.latest().text.splitlines()[1] == str(reader.size)  # signed as it is now
    assert side.run(CASE, "--reason", "retention") == 0
    assert "此前均已清除 · all had been erased before" in capsys.readouterr().out


def test_single_events_go_with_and_without_a_case(side, capsys):
    assert side.run(CASE, "--event", "case-1-2", "--reason", "pipl_request", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"dry_run": False, "erased": ["case-1-2"]}
    assert side.run("--event", "changed", "--reason", "retention") == 0
    assert side.left() == [one for one in everything() if one not in {(CASE, "case-1-2"), ("", "changed")}]
    assert side.audit()


def test_a_dry_run_goes_beside_the_process_that_writes_the_log_and_changes_nothing(side, capsys):
    writing = side.write()
    try:
        assert side.run(CASE, "--reason", "retention", "--dry-run") == 0
        told = capsys.readouterr().out
        assert "case-1-2" in told
        assert "试运行，未改动；将清除 2 条 · dry run: 2 would be erased" in told
        assert side.run(CASE, "--reason", "retention") == 1
        assert "另一进程正在写这本日志 · Another process is writing this log" in capsys.readouterr().err
    finally:
        writing.close()
    assert side.left() == everything()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["case-9", "--reason", "retention"], 1, "日志中没有这个事件"),
        ([CASE, "--event", "case-1-1", "--event", "nothing", "--reason", "retention"], 1, "unknown_entry: nothing"),
        (["--event", "case-1-1", "--reason", "retention"], 1, "日志中没有这个事件"),  # it is of a case
        ([CASE, "--reason", "He asked"], 1, "malformed_event"),
        (["--reason", "retention"], 2, "须给出 CASE 或 --event · give CASE or --event"),
    ],
)  # fmt: skip
def test_what_is_not_there_or_not_said_rightly_erases_nothing(side, capsys, arguments, status, said):
    assert side.run(*arguments) == status
    assert said in capsys.readouterr().err
    assert side.left() == everything()


def test_no_log_is_made_where_there_is_none(side, capsys):
    for path in side.log.parent.glob(f"{side.log.name}*"):
        path.unlink()
    assert side.run(CASE, "--reason", "retention") == 1
    assert capsys.readouterr().err
    assert not side.log.exists()
