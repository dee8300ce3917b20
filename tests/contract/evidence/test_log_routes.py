"""The log over HTTP: what is served recomputes to the signed root, may be kept for ever, and tells no event."""

from __future__ import annotations

import time

import pytest

from federation.http.limits import RateLimit
from federation.tlog.__main__ import main as tlog
from federation.tlog.checkpoint import Checkpoint, open_checkpoint
from federation.tlog.event import Event, EventKind
from federation.tlog.flaws import EvidenceError
from federation.tlog.merkle import leaf_hash, tree_root
from federation.tlog.note import Note, Signer, VerifierKey
from gateway.edge.evidence_log import LogRoutes
from gateway.evidence.commands import audit
from gateway.evidence.log import GatewayLog, second_signer_at, signer_at
from tests.fakes.edge import Gateway
from tests.fakes.evidence_sides import Counts

ORIGIN = "lantai.lantai/gateway/gateway"


def event(number: int) -> Event:
    return Event(EventKind.CLOSED, "closed", 1_700_000_000_000, f"case-{number}", {"outcome": "withdrawn"})


@pytest.fixture
async def log(tmp_path):
    opened = GatewayLog(
        tmp_path / "evidence.sqlite",
        signer_at(tmp_path / "log.key", ORIGIN),
        lambda: time.time_ns() // 1_000_000,
        Counts(),
    )
    yield opened
    opened.close()


class _Served(Gateway):
    def __init__(self, log: GatewayLog) -> None:
        super().__init__()
        self.edge._beside = LogRoutes(log, RateLimit(60_000, time.monotonic)).routes()


async def test_tiles_give_the_signed_root_and_no_event(log):
    for number in range(300):
        await log.note(event(number))
    log.witness_request(0)  # signs
    async with _Served(log) as edge:
        status, headers, text = await edge.ask(method="GET", path="/log/checkpoint", token=None)
        assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
        checkpoint = open_checkpoint(Note.parse(text), log.key, ORIGIN)
        assert checkpoint.size == 300
        leaves, entries = b"", b""
        for path in ("tile/0/000", "tile/0/001.p/44"):
            async with edge.client.get(f"/log/{path}") as answer:
                assert answer.status == 200
                assert answer.headers["Content-Type"] == "application/octet-stream"
                assert "immutable" in answer.headers["Cache-Control"]
                leaves += await answer.read()
        for path in ("tile/entries/000", "tile/entries/001.p/44"):
            async with edge.client.get(f"/log/{path}") as answer:
                assert answer.status == 200
                entries += await answer.read()
        hashes = [leaves[at : at + 32] for at in range(0, len(leaves), 32)]
        assert tree_root(hashes) == checkpoint.root
        commitments = [entries[at + 2 : at + 34] for at in range(0, len(entries), 34)]
        assert [leaf_hash(one) for one in commitments] == hashes
        assert b"case-" not in entries


@pytest.mark.parametrize(
    "path", ["0/001", "0/0", "9/000", "entries/000.p/256", "0/000.p/9", "x/../checkpoint"]
)
async def test_what_there_is_not_is_not_found(log, path):
    async with _Served(log) as edge:
        status, _headers, body = await edge.ask(method="GET", path=f"/log/tile/{path}", token=None)
        assert (status, body["reason"]) == (404, "not_found")
        status, _headers, body = await edge.ask(method="GET", path="/log/checkpoint", token=None)
        assert (status, body["reason"]) == (404, "not_found")


def test_a_key_is_made_once_and_kept(tmp_path):
    first = signer_at(tmp_path / "new" / "log.key", ORIGIN)
    assert signer_at(tmp_path / "new" / "log.key", "another/name").key == first.key
    assert (tmp_path / "new" / "log.key").stat().st_mode & 0o077 == 0


async def test_a_second_key_beside_the_first_signs_too_and_is_audited(tmp_path, capsys):
    key, log = tmp_path / "log.key", tmp_path / "evidence.sqlite"
    signer = signer_at(key, ORIGIN)
    assert second_signer_at(key, signer.name) is None
    assert tlog(["key", ORIGIN, str(tmp_path / "log.key.sm-1.pem"), "--second"]) == 0
    printed = VerifierKey.parse(capsys.readouterr().out.strip())
    assert (tmp_path / "log.key.sm-1.pem").stat().st_mode & 0o077 == 0
    second = second_signer_at(key, signer.name)
    assert second.key == printed
    opened = GatewayLog(log, signer, lambda: 1, Counts(), second=second)
    waiting = opened.note(event(1))
    opened.close()
    await waiting
    assert audit(log, key, memory=None, as_json=False) == 0
    assert "signed twice 1" in capsys.readouterr().out
    tlog(["key", ORIGIN, str(tmp_path / "other"), "--second"])
    (tmp_path / "other").rename(tmp_path / "log.key.sm-1.pem")
    assert audit(log, key, memory=tmp_path / "m", as_json=False) == 1
    (tmp_path / "log.key.sm-1.pem").write_text("no key")
    with pytest.raises(EvidenceError, match="malformed_key"):
        second_signer_at(key, signer.name)


async def test_events_survive_closing_and_are_covered_by_a_checkpoint(tmp_path):
    signer: Signer = signer_at(tmp_path / "log.key", ORIGIN)
    first = GatewayLog(tmp_path / "evidence.sqlite", signer, lambda: 1, Counts())
    waiting = first.note(event(1))
    first.close()
    await waiting
    again = GatewayLog(tmp_path / "evidence.sqlite", signer, lambda: 2, Counts())
    assert Checkpoint.parse(again.newest().text).size == 1
    again.close()
