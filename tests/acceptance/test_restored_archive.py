"""A backup made of a running archive in the middle of its work, put back in place of it, and a real agent over it."""

import json
import shutil
import signal

import pytest

from federation.trust import TrustList
from federation.verify.report import Verdict
from loadtest.fleet import Archive, Fleet
from node_agent.backup.manifest import NAME
from tests.acceptance.test_cases import at_desk, case_of, until_state
from tests.acceptance.test_document_delivery import HOLDER, NAMES, NOTER, ask, check, fetch, fill, issued
from tests.fakes.documents import need_fonts
from tests.fakes.node_commands import diagnosed, node
from tests.fakes.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("backup"), pytest.mark.timeout(300)]


@pytest.fixture
def fleet(tmp_path):
    need_fonts()
    running = Fleet(
        tmp_path,
        [Archive(HOLDER, NAMES[HOLDER]), Archive(NOTER, NAMES[NOTER], dials_in=True)],
        gateway_settings={"requests_per_minute": 100000},
        documents=True,
    )
    running.prepare()
    for code in (HOLDER, NOTER):
        fill(running, code)
    running.trust = TrustList.load(running.trust_list.read_bytes())
    with running:
        yield running


def test_an_archive_goes_on_from_a_backup_that_was_made_while_it_worked(fleet, tmp_path):
    before = issued(fleet, "before")
    document = fetch(fleet, before["links"]["document"])[2]
    waiting = ask(fleet, "waiting")
    at_desk(fleet, waiting, "waiting")
    made = node("backup", "--data", fleet.data(HOLDER), "--to", tmp_path / "copy", "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert (told["archive"], told["flaws"]) == (HOLDER, [])
    assert "scans" not in told["left_out"]

    fleet.stop_one(HOLDER, signal.SIGKILL)
    shutil.rmtree(fleet.data(HOLDER))
    (tmp_path / "copy").rename(fleet.data(HOLDER))
    _status, running, found = diagnosed(fleet.data(HOLDER))
    assert not running
    assert found["restored"][0]["result"] == "warning"
    number = before["decision"]["number"]
    assert node("documents", "skip-to", f"{number[:12]}000100", "--data", fleet.data(HOLDER)).returncode == 0
    (fleet.data(HOLDER) / NAME).unlink()

    fleet.start_agent(HOLDER)
    fleet.wait_connected([HOLDER])
    again = fetch(fleet, before["links"]["document"])
    assert (again[0], again[2]) == (200, document)
    assert check(fleet, document).verdict is Verdict.VALID
    at_desk(fleet, waiting, "waiting")
    fleet.desk(HOLDER, "claim", waiting, "--as", "沈甲")
    fleet.desk(HOLDER, "approve", waiting, "--as", "沈甲")
    until_state(fleet, waiting, "issued", seconds=60.0)
    assert case_of(fleet, waiting)["decision"]["number"] == f"{number[:12]}000101"
    _status, running, found = diagnosed(fleet.data(HOLDER))
    assert running
    assert {one["result"] for name in ("restored", "index", "databases", "ports") for one in found[name]} == {
        "ok"
    }
    assert until(lambda: fleet.request(f"/v1/archives/{HOLDER}")[1].get("connected"))
