"""A fuzzer reads the desk's published contract and tries a running agent: no server error, and every answer as promised."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from federation import mail
from loadtest.fleet import Archive, Fleet
from node_agent.desk.api import openapi
from node_agent.desk.items import Item, State
from node_agent.desk.store import Store

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def test_the_contract_is_valid():
    validate(openapi())


def fill(fleet, code):
    """A waiting case and a decided one, so that the fuzzer has something to find."""
    store = Store(fleet.data(code), code)
    request = mail.Dispatch(
        1, ref="r1", category="marriage", purpose="marriage_proof", relation="SELF",
        subject=mail.Subject(name="欧阳试验"), pick_up_ms=90_000, review_ms=210_000, target_ms=600_000,
    )  # fmt: skip
    with store.writing(1_700_000_000_000) as tx:
        for case, state in (("c1", State.WAITING), ("c2", State.REFUSED)):
            item = Item(
                case, 1, state, dispatch=mail.write(request), received_ms=tx.now_ms, queued_ms=tx.now_ms
            )
            tx.save(item)
            tx.act(item, "gateway", "received")
    store.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="schemathesis is not installed")
def test_the_running_desk_keeps_its_contract(tmp_path):
    fleet = Fleet(tmp_path / "fleet", [Archive("330483", "桐乡市档案馆")])
    fleet.prepare()
    token = fleet.user("330483", "沈甲")
    fill(fleet, "330483")
    fleet.start_agent("330483")  # no gateway, no catalogue: the desk works all the same
    try:
        fleet.wait_desk("330483")
        done = subprocess.run(
            [
                str(SCHEMATHESIS), "run", f"{fleet.desk_url('330483')}/desk/openapi.json",
                "--header", f"Authorization: Bearer {token}",
                "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
                "--max-examples", "25", "--phases", "examples,coverage,fuzzing", "--seed", "1",
                "--exclude-path", "/desk/events", "--request-timeout", "15",
            ],
            capture_output=True, text=True, timeout=200, cwd=tmp_path,
        )  # fmt: skip
        asked = urllib.request.Request(
            fleet.desk_url("330483") + "/desk/queue", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert json.loads(answer.read())["archive"] == "330483"
    finally:
        fleet.stop()
    assert done.returncode == 0, done.stdout[-4000:]
