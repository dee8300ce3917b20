"""A federation that begins to ask for two signatures, as real processes: what was issued before is signed anew at its archive, and
whoever fetches the credential of an old case from the gateway gets the new one; agent and gateway killed in between.
"""

import hashlib
import json
import signal
import subprocess
import sys
import time

import pytest

from loadtest.fleet import Archive, Fleet
from tests.acceptance.test_cases import case_of, until_state
from tests.acceptance.test_document_delivery import HOLDER, NAMES, NOTER, fetch, fill, issued
from tests.acceptance.test_second_suite_fleet import verified
from tests.contract.documents.test_signing_anew import asked_for_two
from tests.fakes.documents import need_fonts, need_second_suite
from tests.fakes.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("signed anew"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    need_fonts()
    need_second_suite()
    running = Fleet(
        tmp_path_factory.mktemp("anew"),
        [Archive(HOLDER, NAMES[HOLDER]), Archive(NOTER, NAMES[NOTER], dials_in=True)],
        gateway_settings={"requests_per_minute": 100000},
        documents=True,
    )
    running.prepare()
    for code in (HOLDER, NOTER):
        fill(running, code)
    with running:
        yield running


def restarted(fleet, name):
    """Killed and started again; its sessions are open."""
    fleet.stop_one(name, signal.SIGKILL)
    fleet.start_gateway() if name == "gateway" else fleet.start_agent(name)
    fleet.wait_connected([HOLDER])


def events(fleet, case):
    """The lines of its journal so far; the stream of a delivered case ends by itself."""
    text = fetch(fleet, case["links"]["events"])[2].decode()
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def reconciled(fleet):
    """The report of `lantai-gateway evidence reconcile` over the account the holder stated last, once there is one."""
    fleet.send("gateway", signal.SIGUSR1)
    account = fleet.folder / "data" / "accounts" / f"{HOLDER}.json"
    until(account.exists)
    words = ["evidence", "reconcile", "--config", str(fleet.folder / "gateway.toml"), "--archive", HOLDER]
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *words], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_an_old_cases_credential_is_given_as_it_was_signed_anew_and_the_caller_is_told(fleet):
    open_, ended = issued(fleet, "open"), issued(fleet, "ended")
    firsts = {}
    for case in (open_, ended):
        status, headers, text = fetch(fleet, case["links"]["credential"])
        assert (status, headers["ETag"]) == (200, f'"{case["decision"]["credential"]}"')
        firsts[case["id"]] = text
    document = fetch(fleet, ended["links"]["document"])
    until_state(fleet, ended["id"], "delivered")
    second = int(time.time())
    until(lambda: int(time.time()) > second)  # dates are whole seconds: these are from before
    asked_for_two(fleet.folder)
    assert "2  重新签名" in fleet.node("documents", "sign-anew", "--data", str(fleet.data(HOLDER)))
    restarted(fleet, HOLDER)  # with its keys of the second suite; the gateway asks it at once
    for case in (open_, ended):
        after = until(
            lambda case=case: (one := case_of(fleet, case["id"]))["decision"].get("signed_anew") and one, 60.0
        )
        digest, first = after["decision"]["credential"], case["decision"]["credential"]
        assert digest != first
        same = {**after["decision"], "credential": first}
        del same["signed_anew"]
        assert same == case["decision"]
        status, headers, text = fetch(fleet, case["links"]["credential"])
        assert (status, headers["ETag"], headers["Content-Type"]) == (200, f'"{digest}"', "text/plain")
        assert hashlib.sha256(text).hexdigest() == digest
        # whoever was in the middle of the first one gets the whole of the new one, and no mixture
        old = {"Range": "bytes=10-", "If-Range": f'"{first}"'}
        assert fetch(fleet, case["links"]["credential"], old)[::2] == (200, text)
    restarted(fleet, "gateway")  # it reads the new trust list, and all notices again
    for case in (open_, ended):
        text = fetch(fleet, case["links"]["credential"])[2]
        status, report = verified(fleet, text.decode())
        assert (status, report["verdict"]) == (0, "valid"), report
        status, report = verified(fleet, firsts[case["id"]].decode())
        assert (status, report["verdict"]) == (2, "unknown"), report
    assert fetch(fleet, ended["links"]["document"])[2] == document[2]
    told = events(fleet, ended)
    assert [one["event"] for one in told][-3:] == ["issued", "delivered", "signed_anew"]
    decision = case_of(fleet, ended["id"])["decision"]
    assert told[-1]["data"] == {
        "credential": decision["credential"], "before": ended["decision"]["credential"]
    }  # fmt: skip
    assert told[-1]["state"] == "delivered"
    # the document of the other still stops its clock
    assert fetch(fleet, open_["links"]["document"])[0] == 200
    until_state(fleet, open_["id"], "delivered")
    status, text = reconciled(fleet)
    assert status == 0, text
