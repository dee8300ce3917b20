"""Real processes whose logs are stamped by a real authority, also by one that sends a byte now and then and never ends."""

from __future__ import annotations

import urllib.request

import pytest

from federation.tlog.checkpoint import Checkpoint
from federation.tlog.note import Note
from federation.tlog.reader import LogReader
from federation.tlog.stamping import STAMPED
from gateway.__main__ import main as gateway
from loadtest.fleet import Archive, Fleet
from loadtest.provision import provision
from tests.acceptance.test_cases import at_desk, until_state
from tests.acceptance.test_document_delivery import HOLDER, NAMES, REQUEST, fill
from tests.fakes.documents import need_fonts
from tests.fakes.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("documents"), pytest.mark.timeout(300)]


@pytest.fixture
def fleet(tmp_path, authority):
    need_fonts()
    folder = tmp_path / "fleet"
    running = Fleet(
        folder,
        [Archive(HOLDER, NAMES[HOLDER])],
        gateway_settings={
            "trust_list": "trust.json", "stamp_authority": authority.url, "stamp_certificate": "root.pem",
        },
    )  # fmt: skip
    running.prepare()
    provision(folder, [(HOLDER, NAMES[HOLDER], running.data(HOLDER))])
    for where in (folder, running.data(HOLDER)):
        (where / "root.pem").write_bytes(authority.pem)
    fill(running, HOLDER)
    with (running.data(HOLDER) / "archive.toml").open("a", encoding="utf-8") as settings:
        settings.write(
            f'[documents]\ngateway = "{running.gateway_url}"\n'
            f'stamp_authority = "{authority.url}"\nstamp_certificate = "root.pem"\n'
        )
    with running:
        yield running


def issued(fleet, key):
    status, case = fleet.request("/v1/cases", {**REQUEST, "window": HOLDER}, headers={"Idempotency-Key": key})
    assert status == 202, case
    at_desk(fleet, case["id"], "waiting")
    for action in ("claim", "approve"):
        fleet.desk(HOLDER, action, case["id"], "--as", "沈甲")
    return until_state(fleet, case["id"], "issued", seconds=60.0)


def logged(fleet):
    """Entries of the gateway's newest signed checkpoint."""
    with urllib.request.urlopen(f"{fleet.gateway_url}/log/checkpoint", timeout=30) as answer:
        return Checkpoint.parse(Note.parse(answer.read().decode()).text).size


def restarted(fleet):
    """Both stopped and started: what waits for a stamp is due at once. Whether both ended by themselves."""
    ended = [fleet.stop_one(name) for name in ("gateway", HOLDER)]
    fleet.start_agent(HOLDER)
    fleet.start_gateway()
    fleet.wait_connected([HOLDER])
    return ended == [0, 0]


def logs(fleet):
    return {
        "gateway": fleet.folder / "data" / "evidence.sqlite",
        HOLDER: fleet.data(HOLDER) / "evidence.sqlite",
    }


def stamps(fleet):
    found = {}
    for name, path in logs(fleet).items():
        with LogReader(path) as reader:
            found[name] = len(reader.stamps(STAMPED))
    return found


def failures(fleet):
    with urllib.request.urlopen(f"{fleet.gateway_url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return 'gw_log_stamp_failures_total{what="stamp",why="stamp_unavailable"}' in text


@pytest.mark.parametrize("part", ["headers", "body"])
def test_an_authority_that_trickles_holds_up_nothing_and_is_left_in_time(fleet, authority, part):
    issued(fleet, "before")
    authority.faults.trickles = part
    asked = authority.faults.asked
    assert restarted(fleet)
    until(lambda: authority.faults.asked >= asked + 2)  # both are being trickled to now
    before = logged(fleet)
    issued(fleet, "meanwhile")
    assert until(lambda: logged(fleet) >= before + 3)
    until(lambda: failures(fleet))
    assert stamps(fleet) == {"gateway": 0, HOLDER: 0}
    asked = authority.faults.asked
    assert restarted(fleet)
    until(lambda: authority.faults.asked >= asked + 2)
    authority.faults.trickles = ""
    assert restarted(fleet)  # stopped in the middle of being trickled to
    until(lambda: all(stamps(fleet).values()))
    config = ["--config", str(fleet.folder / "gateway.toml"), "--json"]
    assert gateway(["evidence", "audit", *config]) == 0
