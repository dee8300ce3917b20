"""Several gateway processes on one PostgreSQL, and two on one file: take-over, fencing, streams that change replica."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from federation import mail
from gateway.__main__ import main
from gateway.cases.case import Entry
from gateway.cases.policy import Policy
from gateway.cases.states import Kind
from gateway.cases.store import Store
from loadtest.gateways import REQUEST, Gateway
from loadtest.postgres import NoPostgresError, Postgres, postgres
from loadtest.scripted import ScriptedArchive, ScriptedArchives, one_record, receive_only
from tests.fakes.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Replicas:
    """Two gateways over one database and the same archives."""

    def __init__(self, folder: Path, url: str, holder: ScriptedArchive, archives: ScriptedArchives) -> None:
        self.url, self.holder, self.archives = url, holder, archives
        shared = {"store": url, "signing_key": "signing-key.pem", "webhook_key": "webhook-key.pem"}
        self.first = Gateway(folder, archives.roster(), name="first", data="first", **shared)
        self.second = Gateway(folder, archives.roster(), name="second", data="second", **shared)
        self.token = ""

    def start(self) -> None:
        self.first.start()
        self.second.start()
        self.token = self.first.token()

    def accept(self, count: int, at: Gateway | None = None) -> list[str]:
        made = []
        for number in range(count):
            status, body = (at or self.first).request(
                "/v1/cases",
                REQUEST,
                token=self.token,
                headers={"Idempotency-Key": f"k{number}-{time.time_ns()}"},
            )
            assert status == 202, body
            made.append(body["id"])
        return made

    def states(self, ids: list[str], at: Gateway) -> set[str]:
        return {at.get(f"/v1/cases/{one}", self.token)[1]["state"] for one in ids}

    def journals(self, ids: list[str]) -> dict[str, list[Entry]]:
        store = Store(self.url, Policy(), clock_ms=lambda: 0, owner="judge")
        try:
            return {one: store.journal(one) for one in ids}
        finally:
            store.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    try:
        with postgres() as running:
            yield running
    except NoPostgresError as error:
        pytest.skip(f"no PostgreSQL programs: {error}")


@pytest.fixture
def replicas(tmp_path: Path, server: Postgres) -> Iterator[Replicas]:
    holder, name = ScriptedArchive("330483", [one_record()]), tmp_path.name.replace("-", "_")
    server.create_database(name)
    with ScriptedArchives(holder, ScriptedArchive("330421")) as archives:
        made = Replicas(tmp_path, server.url(name), holder, archives)
        assert main(["db", "upgrade", "--config", str(made.first.config)]) == 0
        try:
            made.start()
            yield made
        finally:
            made.first.stop()
            made.second.stop()


def test_a_replica_never_migrates_by_itself(tmp_path: Path, server: Postgres):
    server.create_database("empty")
    with ScriptedArchives(ScriptedArchive("330483")) as archives:
        one = Gateway(tmp_path, archives.roster(), store=server.url("empty"))
        one.spawn()
        assert one.process is not None
        assert one.process.wait(60) == 1
        assert "db upgrade" in one.log()


def whole(journal: list[Entry]) -> bool:
    """Every step once, numbered without gaps, in growing times."""
    kinds = [entry.kind for entry in journal]
    once = all(kinds.count(kind) == 1 for kind in (Kind.ACCEPTED, Kind.LOCATED, Kind.APPROVED, Kind.ISSUED))
    times = [entry.at_ms for entry in journal]
    return (
        once and times == sorted(times) and [one.seq for one in journal] == list(range(1, len(journal) + 1))
    )


def test_a_dead_replicas_cases_are_taken_over_by_the_living(replicas: Replicas):
    """Killed while it holds the leases of all their searches."""
    replicas.holder.delay_s = 1.5
    cases = replicas.accept(30)
    replicas.first.kill()
    killed = time.monotonic()
    until(lambda: replicas.states(cases, replicas.second) == {"issued"}, "cases of the dead stand still")
    took = time.monotonic() - killed
    assert all(whole(journal) for journal in replicas.journals(cases).values())
    assert all(len(names) == 1 for names in replicas.holder.dispatches.values())
    assert took < 40, f"taken over after {took:.0f} s: a lease is 3 s"


def test_a_frozen_replicas_late_writes_are_fenced(replicas: Replicas):
    """Stopped beyond its leases, it wakes up with results that are somebody else's by now."""
    replicas.holder.delay_s = 1.5
    cases = replicas.accept(30)
    until(lambda: replicas.holder.asked >= 30, "the searches did not begin")
    replicas.first.send(signal.SIGSTOP)
    until(lambda: replicas.states(cases, replicas.second) == {"issued"}, "cases of the frozen stand still")
    before = {one: len(journal) for one, journal in replicas.journals(cases).items()}
    replicas.first.send(signal.SIGCONT)
    until(
        lambda: replicas.first.metric("gw_lease_lost_total") >= 1,
        "the frozen one did not notice that it lost them",
    )
    until(lambda: replicas.states(cases, replicas.first) == {"issued"}, "it does not see what happened")
    journals = replicas.journals(cases)
    assert {one: len(journal) for one, journal in journals.items()} == before
    assert all(whole(journal) for journal in journals.values())
    assert all(len(names) == 1 for names in replicas.holder.dispatches.values())


def events(gateway: Gateway, token: str, case: str, after: int, most: int) -> list[dict[str, Any]]:
    """Up to `most` events of a stream, resumed after one."""
    asked = urllib.request.Request(
        f"{gateway.url}/v1/cases/{case}/events",
        headers={"Authorization": f"Bearer {token}", **({"Last-Event-ID": str(after)} if after else {})},
    )
    found: list[dict[str, Any]] = []
    with urllib.request.urlopen(asked, timeout=60) as stream:
        for line in stream:
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
                if len(found) == most:
                    break
    return found


def test_a_stream_goes_on_at_another_replica_where_it_broke_off(replicas: Replicas):
    replicas.holder.script = receive_only
    [case] = replicas.accept(1)
    first = events(replicas.first, replicas.token, case, 0, 2)
    replicas.first.kill()

    def go_on() -> None:
        for said in (
            mail.Claimed(group=1), mail.Approved(group=1, number="n"), mail.Issued(group=1, number="n"),
        ):  # fmt: skip
            replicas.holder.tell(case, said)

    replicas.archives.call(go_on)
    rest = events(replicas.second, replicas.token, case, first[-1]["seq"], 4)
    seen = [*first, *rest]
    assert [one["seq"] for one in seen] == [1, 2, 3, 4, 5, 6]
    assert [one["event"] for one in seen] == [
        "accepted",
        "located",
        "received",
        "claimed",
        "approved",
        "issued",
    ]


def test_one_key_at_both_replicas_is_one_case(replicas: Replicas):
    headers = {"Idempotency-Key": "same"}
    first = replicas.first.request("/v1/cases", REQUEST, token=replicas.token, headers=headers)
    second = replicas.second.request("/v1/cases", REQUEST, token=replicas.token, headers=headers)
    assert (first[0], second[0]) == (202, 202)
    assert first[1]["id"] == second[1]["id"]


def test_a_second_process_on_one_file_is_refused_and_says_what_to_do(tmp_path: Path):
    with ScriptedArchives(ScriptedArchive("330483")) as archives:
        first = Gateway(tmp_path, archives.roster(), name="first")
        second = Gateway(tmp_path, archives.roster(), name="second")
        try:
            first.start()
            second.spawn()
            assert second.process is not None
            assert second.process.wait(60) == 1
            assert "in use by another gateway process" in second.log()
            assert "PostgreSQL" in second.log()
            assert first.get("/readyz")[0] == 200
            first.kill()
            second.start()
        finally:
            first.stop()
            second.stop()
