"""`kill -9` of the holder's node agent at random points of real exchanges: no case is lost, none is decided or issued twice.

Cases keep coming, half of them for the rule and half for a reviewer who works on the desk's file beside the agent, alive or
not; the agent's process is killed at a random moment and started again, over and over. At the end every case is held
against its journal at the gateway, the desk's own record, and the document its caller gets.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from random import Random

from federation.reasons import Refusal
from loadtest.fleet import Archive, Fleet
from loadtest.kills import KillReport
from node_agent.desk.desk import Desk
from node_agent.desk.items import State
from node_agent.desk.setup import now_ms
from node_agent.desk.store import Store

HOLDER = "330483"
_ROWS = (
    "archival_code,category,name,id_number,birth_date,other_name,event_date,place,digitised\n"
    "T001-ZY·HY·1999·Y-0001-001,marriage,欧阳试验,330483197001010018,1970-01-01,司徒样本,1999-05-05,330483,是\n"
)
_REQUEST = {
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
_EVERY_S = 0.5
_LONGEST_LIFE_S = 0.6
"""The agent is killed within this of its desk's being open again."""

_SETTLED_WITHIN_S = 60.0


class _Exchange:
    """Cases that keep coming, and a reviewer who approves what the rule leaves to a person, until `stop`."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.token = fleet, fleet.mint_token()
        self.cases: list[str] = []
        self.faults: list[str] = []
        self._asking_ends, self._reviewing_ends = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._ask), threading.Thread(target=self._review)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        """Two cases a second: one for the rule, one for a person."""
        while not self._asking_ends.wait(_EVERY_S):
            number = len(self.cases)
            body = {**_REQUEST, "applicant": {"relation": ("SELF", "AGENT")[number % 2]}}
            status, case = self.fleet.request(
                "/v1/cases", body, token=self.token, headers={"Idempotency-Key": f"kill-{number}"}
            )
            if status != 202:
                self.faults.append(f"accepting answered {status}")
                return
            self.cases.append(case["id"])

    def _review(self) -> None:
        desk = Desk(Store(self.fleet.data(HOLDER), HOLDER), HOLDER, now_ms=now_ms)
        while not self._reviewing_ends.wait(0.05):
            for item in desk.queue():
                if item.state is State.WAITING:
                    with contextlib.suppress(Refusal):
                        desk.approve(item.case_id, "沈甲", item.version)
        desk.store.close()

    def wait_issued(self, cases: list[str]) -> None:
        """Wait until all of these stand at their document; a fault names how many do not."""
        ends_at, left = time.monotonic() + _SETTLED_WITHIN_S, list(cases)
        while left := [one for one in left if self._state(one) != "issued"]:
            if time.monotonic() > ends_at:
                self.faults.append(f"{len(left)} cases stand still after a kill")
                return
            time.sleep(0.05)

    def _state(self, case: str) -> str:
        return str(self.fleet.request(f"/v1/cases/{case}", token=self.token)[1]["state"])

    def stop(self) -> None:
        """Ask no more, wait until everything is answered, end."""
        self._asking_ends.set()
        self._threads[0].join(30)
        self.wait_issued(self.cases)
        self._reviewing_ends.set()
        self._threads[1].join(30)


def run(
    folder: Path, points: int, seed: int = 20260115, *, progress: Callable[[str], None] = lambda _text: None
) -> KillReport:
    """Kill the agent at this many points; the report."""
    chance, report = Random(seed), KillReport()
    archive = Archive(
        HOLDER,
        "桐乡市档案馆",
        dials_in=True,  # so that a new agent is heard at once, however often the last one died
        desk="[release]\nenabled = true\nsensitivity = 2\ndaily_cap = 100000",
    )
    fleet = Fleet(folder, [archive], gateway_settings={"requests_per_minute": 1_000_000})
    fleet.prepare()
    catalogue = folder / "330483-婚姻.csv"
    catalogue.write_text(_ROWS, "utf-8")
    fleet.node("import", str(catalogue), "--data", str(fleet.data(HOLDER)), "--json")
    with fleet:
        exchange = _Exchange(fleet)
        try:
            fleet.wait_desk(HOLDER)
            for point in range(points):
                time.sleep(chance.uniform(0, _LONGEST_LIFE_S))
                acknowledged = list(exchange.cases)
                fleet.stop_one(HOLDER, signal.SIGKILL)
                killed = time.monotonic()
                fleet.start_agent(HOLDER)
                fleet.wait_desk(HOLDER)
                report.ready_s.append(time.monotonic() - killed)
                exchange.wait_issued(acknowledged)
                report.recovery_s.append(time.monotonic() - killed)
                report.points += 1
                progress(f"{point + 1}/{points}")
        finally:
            exchange.stop()
        report.faults += exchange.faults
        report.accepted = len(exchange.cases)
        _judge(fleet, exchange, report)
    return report


def _judge(fleet: Fleet, exchange: _Exchange, report: KillReport) -> None:
    """Hold every case against its journal, the desk's record, and its document."""
    numbers, by_rule = set(), 0
    store = Store(fleet.data(HOLDER), HOLDER)
    try:
        for case in exchange.cases:
            status, document = fleet.request(f"/v1/cases/{case}/document", token=exchange.token)
            if status != 200:
                report.lost += 1
                report.faults.append(f"the document answered {status}")
                continue
            number = document["decision"]["number"]
            if number in numbers:
                report.doubled += 1
                report.faults.append("a number was given twice")
            numbers.add(number)
            events = _journal(fleet, case, exchange.token)
            actions = [action.action for action in store.actions(case_id=case)]
            item = store.item(case)
            counts = {
                **{kind: events.count(kind) for kind in ("received", "approved", "issued", "delivered")},
                **{f"{kind} at the desk": actions.count(kind) for kind in ("approve", "issued")},
            }
            report.faults += [
                f"{kind} happened {count} times" for kind, count in counts.items() if count != 1
            ]
            report.doubled += any(count > 1 for count in counts.values())
            if item is None or item.state is not State.ISSUED:
                stands = item.state if item is not None else "unknown"
                report.faults.append(f"a delivered case stands at {stands} at the desk")
            by_rule += item is not None and item.decided_by == "rule"
        ends_at = (
            time.monotonic() + 20
        )  # the receipt of the last message comes after its case is told as issued
        while store.waiting_count()[0] and time.monotonic() < ends_at:
            time.sleep(0.1)
        if store.waiting_count()[0]:
            report.faults.append("messages wait at the desk for ever")
        if not len(exchange.cases) // 4 <= by_rule < len(exchange.cases):
            report.faults.append("not both ways to a decision were under fire")
    finally:
        store.close()


def _journal(fleet: Fleet, case: str, token: str) -> list[str]:
    """The events of a delivered case."""
    asked = urllib.request.Request(  # noqa: S310 - the fleet of this machine
        f"{fleet.gateway_url}/v1/cases/{case}/events", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(asked, timeout=20) as stream:  # noqa: S310
        lines = [json.loads(raw[6:]) for raw in stream if raw.startswith(b"data: ")]
    return [str(line["event"]) for line in lines]
