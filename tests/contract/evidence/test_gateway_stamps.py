"""A gateway's log under its settings: stamped by a real authority, anchored, and going on while the authority is down."""

from __future__ import annotations

import asyncio
import json

import pytest

from federation.tlog.anchor import ANCHORED
from federation.tlog.checkpoint import Checkpoint
from federation.tlog.event import Event, EventKind
from federation.tlog.note import to_base64
from federation.tlog.reader import LogReader
from federation.tlog.stamping import STAMPED
from gateway import app, telemetry
from gateway.evidence import commands
from gateway.settings import GatewaySettings, SettingsError
from tests.fakes.time_authority import time_authority

HOUR = 3_600_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    with time_authority(tmp_path_factory.mktemp("tsa")) as served:
        yield served


class Clock:
    ahead_ms = 0

    def time_ns(self):
        return 1_795_000_000_000_000_000 + self.ahead_ms * 1_000_000


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("gateway.app.time.time_ns", made.time_ns)
    return made


def settings_of(tmp_path, authority, **more):
    (tmp_path / "tsa.pem").write_bytes(authority.pem)
    authority.faults.broken = None
    return GatewaySettings(
        stamp_authority=authority.url, stamp_certificate="tsa.pem", anchor_file="chain.jsonl", **more
    )


@pytest.fixture
async def log(tmp_path, authority, clock):
    opened = app.open_log(settings_of(tmp_path, authority), tmp_path)
    yield opened
    opened.close()


async def write(log, number, at_ms):
    await log.note(Event(EventKind.CLOSED, "closed", at_ms, f"case-{number}", {"outcome": "withdrawn"}))
    log.witness_request(0)  # signs


def stamps(log, kind):
    with LogReader(log.path) as reader:
        return reader.stamps(kind)


def age():
    return telemetry.REGISTRY.get_sample_value("gw_log_stamp_age_seconds")


def failures(what, why):
    labels = {"what": what, "why": why}
    return telemetry.REGISTRY.get_sample_value("gw_log_stamp_failures_total", labels) or 0


async def test_a_checkpoint_is_stamped_and_anchored_and_the_audit_agrees(log, authority, tmp_path, clock):
    await write(log, 1, clock.time_ns() // 1_000_000)
    root = Checkpoint.parse(log.newest().text)
    await asyncio.to_thread(log.stamps.tick)
    assert [one.size for one in stamps(log, STAMPED)] == [1]
    assert age() == 0
    posted = json.loads((tmp_path / "chain.jsonl").read_bytes())["posted"]
    assert posted == {"origin": log.origin, "size": 1, "root": to_base64(root.root)}
    key = GatewaySettings().log_files(tmp_path)[1]
    audited = {"memory": None, "as_json": True, "stamp_roots": tmp_path / "tsa.pem"}
    assert commands.audit(log.path, key, **audited) == 0
    with time_authority(tmp_path) as other:
        (tmp_path / "tsa.pem").write_bytes(other.pem)
        assert commands.audit(log.path, key, **audited) == 1  # a stamp of nobody known


async def test_an_authority_that_is_down_stops_nothing_and_the_age_grows(log, authority, tmp_path, clock):
    authority.faults.broken = (503, b"")
    failed = failures("stamp", "stamp_unavailable")
    await write(log, 1, clock.time_ns() // 1_000_000)
    await asyncio.to_thread(log.stamps.tick)
    assert (age(), failures("stamp", "stamp_unavailable") - failed) == (0, 1)
    assert len(stamps(log, ANCHORED)) == 1  # the chain is another matter
    clock.ahead_ms = 5 * HOUR
    await write(log, 2, clock.time_ns() // 1_000_000)
    (tmp_path / "chain.jsonl").write_bytes(b"torn")
    broken = failures("anchor", "stamp_invalid")
    await asyncio.to_thread(log.stamps.tick)
    assert age() == 5 * 3_600
    assert failures("anchor", "stamp_invalid") - broken == 1
    await write(log, 3, clock.time_ns() // 1_000_000)
    authority.faults.broken = None
    await asyncio.to_thread(log.stamps.tick)
    assert age() == 0
    assert len(stamps(log, STAMPED)) == 1


async def test_the_loop_stamps_at_once_and_ends_when_cancelled(log, authority):
    await write(log, 1, 1_795_000_000_000)
    running = asyncio.ensure_future(log.stamps.run())
    async with asyncio.timeout(30):
        while not stamps(log, STAMPED):
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(
    "wrong",
    [{"stamp_certificate": "gone.pem"}, {"stamp_authority": "ftp://tsa"}, {"stamp_authority": "http://"}],
)
async def test_settings_that_can_not_be_used_are_named(tmp_path, authority, wrong):
    settings = settings_of(tmp_path, authority).model_copy(update=wrong)
    with pytest.raises(SettingsError, match=r"^stamp_(authority|certificate)"):
        app.open_log(settings, tmp_path)
