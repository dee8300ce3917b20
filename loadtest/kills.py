"""`kill -9` of the gateway at random points while cases go through it: nothing acknowledged is lost, nothing happens twice.

A client sends cases under idempotency keys and repeats what got no answer; a scripted archive approves and issues; the
gateway's process is killed at a random moment and started again, over and over. At the end the store is read and every
case is held against what the client was told, what the archive was asked, and its own journal.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa

from federation.tlog.reader import LogReader
from federation.tlog.reconcile import account_of, reconcile
from gateway.cases.case import Entry
from gateway.cases.minutes import minutes
from gateway.cases.policy import Policy
from gateway.cases.schema import CASES, REQUESTS
from gateway.cases.states import State
from gateway.cases.store import Store
from loadtest.gateways import REQUEST, Gateway
from loadtest.scripted import ScriptedArchive, ScriptedArchives, one_record

_EVERY_S = 0.04
"""A new case this often, while the gateway is there."""

_MOST_OPEN = 60
_LONGEST_LIFE_S = 0.8
"""The gateway is killed within this of being ready: at a point where there is work on every table."""

_SETTLED_WITHIN_S = 60.0


@dataclass
class KillReport:
    """What a run found. `faults` names everything that was wrong; it is empty or the run has failed."""

    points: int = 0
    accepted: int = 0
    replayed: int = 0
    lost: int = 0
    doubled: int = 0
    ready_s: list[float] = field(default_factory=list)
    """From the kill until the gateway takes requests again."""
    recovery_s: list[float] = field(default_factory=list)
    """From the kill until every case acknowledged before it is at its document again."""
    faults: list[str] = field(default_factory=list)


class _Caller:
    """A platform: sends cases, repeats what got no answer, fetches the documents."""

    def __init__(self, url: str, token: str, report: KillReport) -> None:
        self._url, self._report = url, report
        self._headers = {"Authorization": f"Bearer {token}"}
        self.ids: dict[str, str] = {}  # key -> the case it was told
        self.at_document: set[str] = set()
        self.fetched: set[str] = set()
        self.keys = 0
        self.stopping = False
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
            while not self.stopping:
                if len(self._running) < _MOST_OPEN:
                    self.keys += 1
                    task = asyncio.create_task(self._one(http, f"k{self.keys}"))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
                await asyncio.sleep(_EVERY_S)
            if self._running:
                await asyncio.wait(self._running, timeout=_SETTLED_WITHIN_S)

    async def _ask(self, http: aiohttp.ClientSession, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Until there is an answer that is one."""
        while True:
            try:
                headers = {**self._headers, **more.pop("headers", {})}
                more["headers"] = headers
                async with http.request(method, self._url + path, **more) as answer:
                    body = await answer.json(content_type=None) if answer.status != 304 else None
                    if answer.status not in {503, 500}:
                        return answer.status, body
                    if answer.status == 500:
                        self._report.faults.append("the gateway answered 500")
            except (aiohttp.ClientError, TimeoutError, ValueError):
                pass
            await asyncio.sleep(0.05)

    async def _one(self, http: aiohttp.ClientSession, key: str) -> None:
        for _ in range(2):  # and once more, as a caller does who is not sure
            status, body = await self._ask(
                http, "POST", "/v1/cases", json=REQUEST, headers={"Idempotency-Key": key}
            )
            if status != 202:
                self._report.faults.append(f"accepting answered {status}")
                return
            if self.ids.setdefault(key, body["id"]) != body["id"]:
                self._report.doubled += 1
                self._report.faults.append("one key gave two cases")
        own = f"/v1/cases/{self.ids[key]}"
        known = ""
        while True:
            wait = {"Prefer": "wait=5", "If-None-Match": known} if known else {}
            status, body = await self._ask(http, "GET", own, headers=wait)
            if status == 304:
                continue
            if status == 404:
                self._report.lost += 1
                self._report.faults.append("an acknowledged case is unknown")
                return
            if body["state"] in {"issued", "delivered"}:
                break
            if body["is_ended"]:
                self._report.faults.append(f"a case ended {body['state']}")
                return
            known = f'W/"{body["version"]}"'
        self.at_document.add(key)
        status, _ = await self._ask(http, "GET", f"{own}/document")
        if status != 200:
            self._report.faults.append(f"the document answered {status}")
            return
        self.fetched.add(key)


async def run(
    folder: Path, points: int, seed: int = 1, *, store_url: str = "", progress: Any = lambda _text: None
) -> KillReport:
    """Kill the gateway at this many points; the report."""
    chance, report = random.Random(seed), KillReport()
    archives = [ScriptedArchive("330483", [one_record()]), ScriptedArchive("330421")]
    with ScriptedArchives(*archives) as scripted:
        gateway = Gateway(folder, scripted.roster(), **({"store": store_url} if store_url else {}))
        await asyncio.to_thread(gateway.start)
        caller = _Caller(gateway.url, gateway.token(), report)
        calling = asyncio.create_task(caller.run())
        try:
            for point in range(points):
                await asyncio.sleep(chance.uniform(0, _LONGEST_LIFE_S))
                open_ = set(caller.ids) - caller.at_document
                gateway.kill()
                killed = time.monotonic()
                gateway.spawn()
                await asyncio.to_thread(gateway.wait_ready)
                report.ready_s.append(time.monotonic() - killed)
                report.points += 1
                await _settled(caller, open_, report)
                report.recovery_s.append(time.monotonic() - killed)
                progress(f"{point + 1}/{points}")
            caller.stopping = True
            await calling
            if not store_url:
                await asyncio.to_thread(_wait_logged, folder, caller.ids)
        finally:
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
            await asyncio.to_thread(gateway.stop)
        report.accepted = len(caller.ids)
        url = store_url or f"sqlite:///{folder / 'data' / 'cases.sqlite'}"
        judge(url, caller.ids, caller.fetched, archives[0], report)
        if not store_url:
            report.faults += await asyncio.to_thread(hold_evidence, folder, caller.ids, archives)
    return report


def hold_evidence(folder: Path, ids: dict[str, str], archives: Sequence[ScriptedArchive]) -> list[str]:
    """Hold the gateway's evidence log against what the archives heard and told, which no kill touched."""
    found = []
    with LogReader(folder / "data" / "evidence.sqlite") as reader:
        for case_id in ids.values():
            kinds = Counter(entry.kind for entry in reader.of_request(case_id))
            if kinds["requested"] != 1:
                found.append(f"an accepted case was logged {kinds['requested']} times")
        for archive in archives:
            result = reconcile(account_of(reader, archive=archive.code), archive.account())
            found += [
                f"{one.kind} is missing in {one.missing or 'none'}, differently logged"
                for one in result.differences
            ]
            if archive.heard and not result.agreed:
                found.append("no event was logged on both sides")
    return found


def _wait_logged(folder: Path, ids: dict[str, str]) -> None:
    """Give the gateway time to add what kills kept out of its log: it looks through its store at each start, and no life of
    a run is as long as that takes.
    """
    ends_at = time.monotonic() + _SETTLED_WITHIN_S
    while time.monotonic() < ends_at and _unlogged(folder, ids):
        time.sleep(0.5)


def _unlogged(folder: Path, ids: dict[str, str]) -> int:
    """How many accepted cases the gateway's log does not know."""
    with LogReader(folder / "data" / "evidence.sqlite") as reader:
        return sum(
            not any(entry.kind == "requested" for entry in reader.of_request(case_id))
            for case_id in ids.values()
        )


async def _settled(caller: _Caller, keys: set[str], report: KillReport) -> None:
    ends_at = time.monotonic() + _SETTLED_WITHIN_S
    while keys - caller.at_document:
        if time.monotonic() > ends_at:
            report.faults.append(f"{len(keys - caller.at_document)} cases stand still after a kill")
            return
        await asyncio.sleep(0.02)


def judge(
    url: str, ids: dict[str, str], fetched: set[str], holder: ScriptedArchive, report: KillReport
) -> None:
    """Hold the store against what the caller was told and what the archive was asked."""
    store = Store(url, Policy(), clock_ms=lambda: 0, owner="judge")
    try:
        stored = store.read(lambda c: dict(c.execute(sa.select(REQUESTS.c.key, REQUESTS.c.case_id)).all()))
        cases = set(store.read(lambda c: c.execute(sa.select(CASES.c.id)).scalars().all()))
        for key, case_id in ids.items():
            if stored.get(key) != case_id or case_id not in cases:
                report.lost += 1
                report.faults.append("an acknowledged case is not in the store")
        if extra := len(cases) - len(stored):
            report.doubled += extra
            report.faults.append(f"{extra} cases nobody asked for")
        for key, case_id in stored.items():
            wrong = _wrong(store.journal(case_id), is_fetched=key in fetched)
            report.faults += wrong
            names = holder.dispatches.get((case_id, 1), set())
            if len(names) != 1 and key in fetched:
                report.doubled += len(names) > 1
                report.faults.append(f"a case was sent to its holder under {len(names)} names")
    finally:
        store.close()


def _wrong(journal: list[Entry], *, is_fetched: bool) -> list[str]:
    """What a journal of these runs must be: every step once, in order, times growing, minutes that add up."""
    kinds = Counter(entry.kind.value for entry in journal)
    found = []
    if [entry.seq for entry in journal] != list(range(1, len(journal) + 1)):
        found.append("a journal has a gap")
    if [entry.at_ms for entry in journal] != sorted(entry.at_ms for entry in journal):
        found.append("a journal's times run backwards")
    for kind in ("accepted", "received", "claimed", "approved", "issued", "delivered"):
        if kinds[kind] > 1:
            found.append(f"{kind} happened {kinds[kind]} times")
        if is_fetched and kinds[kind] == 0:
            found.append(f"{kind} never happened")
    if is_fetched and journal[-1].state is not State.DELIVERED:
        found.append(f"a fetched case stands at {journal[-1].state}")
    told = minutes(journal, journal[-1].at_ms)
    if told is None or round(told.wall_s * 1000) != journal[-1].at_ms - journal[0].at_ms:
        found.append("the minutes of a case do not add up")
    return found
