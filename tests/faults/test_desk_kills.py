"""Killing the node agent at random moments of real exchanges: no case is lost, none is decided or issued twice."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
import urllib.request
from random import Random

import pytest

from federation.reasons import Refusal
from loadtest.fleet import Archive, Fleet
from node_agent.desk.desk import Desk
from node_agent.desk.setup import now_ms
from node_agent.desk.store import State, Store

KILLS = 50
HOLDER = "330483"
ROWS = (
    "archival_code,category,name,id_number,birth_date,other_name,event_date,place,digitised\n"
    "T001-ZY·HY·1999·Y-0001-001,marriage,欧阳试验,330483197001010018,1970-01-01,司徒样本,1999-05-05,330483,是\n"
)
REQUEST = {
    "purpose": "marriage_proof",
    "category": "marriage",
    "subject": {
        "name": "欧阳试验",
        "id_number": "330483197001010018",
        "birth": "1970",
        "other_name": "司徒样本",
    },
    "event": {"from": "1999", "to": "1999"},
    "scope": {"regions": ["3304"]},
    "window": "330402",
}


class Exchange:
    """Cases that keep coming, and a reviewer who approves what the rule leaves to a person, until `stop`."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.cases = fleet, []
        self.asking_ends, self.reviewing_ends = threading.Event(), threading.Event()
        self.token = fleet.mint_token()
        self.threads = [threading.Thread(target=self.ask), threading.Thread(target=self.review)]
        for one in self.threads:
            one.start()

    def ask(self) -> None:
        """Two cases a second: one for the rule, one for a person."""
        while not self.asking_ends.wait(0.5):
            number = len(self.cases)
            body = {**REQUEST, "applicant": {"relation": ("SELF", "AGENT")[number % 2]}}
            status, case = self.fleet.request(
                "/v1/cases", body, token=self.token, headers={"Idempotency-Key": f"kill-{number}"}
            )
            assert status == 202, case
            self.cases.append(case["id"])

    def review(self) -> None:
        """Works on the desk's file beside the agent, alive or not."""
        desk = Desk(Store(self.fleet.data(HOLDER), HOLDER), HOLDER, now_ms=now_ms)
        while not self.reviewing_ends.wait(0.05):
            for item in desk.queue():
                if item.state is State.WAITING:
                    with contextlib.suppress(Refusal):
                        desk.approve(item.case_id, "沈甲", item.version)
        desk.store.close()

    def stop(self) -> list[str]:
        """Ask no more, wait until everything is answered, end; the cases that were not."""
        self.asking_ends.set()
        self.threads[0].join(30)
        left = wait_issued(self.fleet, self.cases, self.token)
        self.reviewing_ends.set()
        self.threads[1].join(30)
        return left


def wait_issued(fleet, cases, token, seconds=60):
    """Wait until all these cases are issued; those that are not."""
    until = time.monotonic() + seconds
    left = list(cases)
    while left and time.monotonic() < until:
        left = [one for one in left if fleet.request(f"/v1/cases/{one}", token=token)[1]["state"] != "issued"]
        time.sleep(0.1)
    return left


def journal(fleet, case, token):
    """The events of a delivered case."""
    asked = urllib.request.Request(
        f"{fleet.gateway_url}/v1/cases/{case}/events", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(asked, timeout=20) as stream:
        lines = [json.loads(raw[6:]) for raw in stream if raw.startswith(b"data: ")]
    return [line["event"] for line in lines]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_fifty_random_points_nothing_is_lost_and_nothing_doubled(tmp_path):
    random = Random(20260115)
    archive = Archive(
        HOLDER,
        "桐乡市档案馆",
        dials_in=True,  # so that a new agent is heard at once, however often the last one died
        desk="[release]\nenabled = true\nsensitivity = 2\ndaily_cap = 100000",
    )
    fleet = Fleet(tmp_path, [archive], gateway_settings={"requests_per_minute": 1_000_000})
    fleet.prepare()
    catalogue = tmp_path / "330483-婚姻.csv"
    catalogue.write_text(ROWS, "utf-8")
    fleet.node("import", str(catalogue), "--data", str(fleet.data(HOLDER)), "--json")
    with fleet:
        exchange = Exchange(fleet)
        try:
            for _ in range(KILLS):
                fleet.wait_desk(HOLDER)
                time.sleep(random.uniform(0, 0.6))  # the moment of death
                fleet.stop_one(HOLDER, signal.SIGKILL)
                fleet.start_agent(HOLDER)
        finally:
            left = exchange.stop()
        assert left == []  # nothing is lost
        cases, token = exchange.cases, exchange.token
        numbers = []
        for case in cases:
            status, document = fleet.request(f"/v1/cases/{case}/document", token=token)
            assert status == 200
            numbers.append(document["decision"]["number"])
            events = journal(fleet, case, token)
            assert [events.count(one) for one in ("received", "approved", "issued", "delivered")] == [
                1,
                1,
                1,
                1,
            ]
        assert len(set(numbers)) == len(cases) >= KILLS  # no number is given twice
        store = Store(fleet.data(HOLDER), HOLDER)
        for case in cases:
            done = [action.action for action in store.actions(case_id=case)]
            assert [done.count(one) for one in ("approve", "issued")] == [1, 1]
            assert store.item(case).state is State.ISSUED
        until = time.monotonic() + 20
        while store.waiting_count()[0] and time.monotonic() < until:
            time.sleep(0.1)  # the receipt of the last message comes after its case is told as issued
        assert store.waiting_count()[0] == 0
        by_rule = [case for case in cases if store.item(case).decided_by == "rule"]
        assert len(by_rule) * 4 >= len(cases)  # both ways to a decision were under fire
        assert len(by_rule) < len(cases)
        store.close()
