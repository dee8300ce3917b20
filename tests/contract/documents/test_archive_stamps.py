"""An archive's log under its settings: stamped and anchored; without a time stamp for four hours nothing is issued."""

from __future__ import annotations

import json

import pytest

from federation.tlog.__main__ import main as tlog
from federation.tlog.checkpoint import Checkpoint
from federation.tlog.note import Note, to_base64
from federation.tlog.reader import LogReader
from federation.tlog.stamping import STAMPED
from node_agent import documents, telemetry
from node_agent.certificates import keys
from node_agent.desk.issuing import IssueDeferredError
from node_agent.evidence.archive_log import FILE
from node_agent.settings import SettingsError

HOUR = 3_600_000


@pytest.fixture
def ahead(monkeypatch):
    """How far the log's clock is moved, ms."""
    moved, real = [0], documents.now_ms
    monkeypatch.setattr(documents, "now_ms", lambda: real() + moved[0])
    return moved


@pytest.fixture
def stamped(archive, authority, ahead):
    (archive.folder / "tsa.pem").write_bytes(authority.pem)
    archive.close()
    with (archive.folder / "archive.toml").open("a", encoding="utf-8") as file:
        file.write(
            f'stamp_authority = "{authority.url}"\nstamp_certificate = "tsa.pem"\nanchor_file = "chain.jsonl"\n'
        )
    archive.open()
    return archive


def age():
    return telemetry.REGISTRY.get_sample_value("agent_log_stamp_age_seconds")


def stamps(archive):
    with LogReader(archive.folder / FILE) as reader:
        return reader.stamps(STAMPED)


def test_the_log_is_stamped_and_anchored_and_the_audit_agrees(stamped):
    stamped.documents.issuer.issue(stamped.order())
    checkpoint = Checkpoint.parse(Note.parse(stamped.fetch("log/checkpoint").decode()).text)
    stamped.documents.log.stamps.tick()
    assert [one.size for one in stamps(stamped)] == [checkpoint.size]
    posted = json.loads((stamped.folder / "chain.jsonl").read_bytes())["posted"]
    assert (posted["size"], posted["root"]) == (checkpoint.size, to_base64(checkpoint.root))
    key = str(keys.load(stamped.folder).log.key)
    audited = [
        "audit",
        str(stamped.folder / FILE),
        "--key",
        key,
        "--tsa-root",
        str(stamped.folder / "tsa.pem"),
    ]
    assert tlog(audited) == 0


def test_without_the_authority_documents_are_issued_for_four_hours_then_wait_for_it(
    stamped, authority, ahead
):
    authority.faults.broken = (503, b"")
    issuer, stamping = stamped.documents.issuer, stamped.documents.log.stamps
    first = issuer.issue(stamped.order())
    stamping.tick()
    ahead[0] = 3 * HOUR
    assert issuer.issue(stamped.order("case-2")).number != first.number
    ahead[0] = 5 * HOUR
    stamping.tick()
    assert age() >= 4 * 3_600
    with pytest.raises(IssueDeferredError) as deferred:
        issuer.issue(stamped.order("case-3"))
    assert deferred.value.kind == "stamp_overdue"
    assert issuer.issue(stamped.order()) == first  # what was issued stays so
    assert stamped.documents.log.commit_document(
        "case-9", first.number, first.form, bytes(32)
    )  # the log goes on
    authority.faults.broken = None
    stamping.tick()
    assert age() == 0
    assert issuer.issue(stamped.order("case-3")).number


def test_settings_that_can_not_be_used_are_named(archive):
    archive.close()
    with (archive.folder / "archive.toml").open("a", encoding="utf-8") as file:
        file.write('stamp_authority = "http://127.0.0.1:1/"\n')
    with pytest.raises(SettingsError, match="stamp_authority"):
        archive.open()
