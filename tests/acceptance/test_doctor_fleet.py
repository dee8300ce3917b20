"""`lantai-node doctor` beside a real agent and a real gateway, and without them."""

import signal

import pytest

from loadtest.fleet import Archive, Fleet
from tests.acceptance.test_held_files import catalogue, state
from tests.fakes.node_commands import diagnosed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CODE = "330402"


@pytest.fixture
def fleet(tmp_path):
    running = Fleet(tmp_path, [Archive(CODE, "南湖区档案馆", dials_in=True)])
    running.prepare()
    csv = catalogue(tmp_path / "结婚.csv", 1)
    running.node("import", str(csv), "--data", str(running.data(CODE)))
    with running:
        yield running


def results(found, name):
    return {one["result"] for one in found[name]}


def test_it_tells_how_it_stands_while_all_runs_and_when_it_does_not(fleet):
    before = state(fleet.data(CODE))
    status, running, found = diagnosed(fleet.data(CODE))
    assert (status, running) == (0, True), found
    assert all(results(found, name) == {"ok"} for name in found if name != "clock"), found
    assert len(found["ports"]) == 2
    (gateway,) = found["gateways"]
    assert "gateway.gateway.lantai" in gateway["found"]
    assert fleet.request(f"/v1/archives/{CODE}")[1]["connected"], "nobody was disturbed"
    fleet.stop_one("gateway")
    status, running, found = diagnosed(fleet.data(CODE))
    assert (status, running, results(found, "gateways")) == (1, True, {"wrong"})
    fleet.stop_one(CODE, signal.SIGKILL)
    status, running, found = diagnosed(fleet.data(CODE))
    assert (running, results(found, "ports")) == (False, {"ok"})
    after = state(fleet.data(CODE))
    assert {name for name in after if after[name] != before.get(name)} <= {"desk.sqlite"}, (
        "which the agent wrote"
    )
