"""What a database may do under a real gateway: be locked, full, or gone. Searches go on, callers are told by name,
what was acknowledged is there afterwards, and the process outlives it.
"""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main
from loadtest.gateways import REQUEST, Gateway, gateway
from loadtest.postgres import NoPostgresError, Postgres, postgres
from loadtest.scripted import ScriptedArchive, ScriptedArchives, one_record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SEARCH = {key: value for key, value in REQUEST.items() if key != "window"}


@pytest.fixture
def archives() -> Iterator[ScriptedArchives]:
    with ScriptedArchives(ScriptedArchive("330483", [one_record()]), ScriptedArchive("330421")) as running:
        yield running


def accept(one: Gateway, token: str, key: str) -> tuple[int, Any]:
    return one.request("/v1/cases", REQUEST, token=token, headers={"Idempotency-Key": key})


def accepted(one: Gateway, token: str, key: str) -> str:
    status, body = accept(one, token, key)
    assert status == 202, body
    return str(body["id"])


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    ends_at = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends_at, what
        time.sleep(0.05)
    return found


def is_up(server: Postgres) -> bool:
    """Start it; right after a hard stop it may have to be tried again."""
    try:
        server.start()
    except RuntimeError:
        return False
    return True


def is_issued(one: Gateway, token: str, case: str) -> bool:
    return bool(one.get(f"/v1/cases/{case}", token)[1].get("state") == "issued")


def searches_go_on(one: Gateway, token: str) -> None:
    status, body = one.request("/v1/searches", SEARCH, token=token)
    assert status == 200, body
    assert body["completeness"]["verdict"] == "complete"


def refused_by_name(one: Gateway, token: str, key: str) -> None:
    status, body = accept(one, token, key)
    assert status == 503
    assert body["reason"] == "store_unavailable"
    assert body["detail"]


def test_a_database_locked_for_longer_than_anybody_waits(tmp_path: Path, archives: ScriptedArchives):
    with gateway(tmp_path, archives.roster()) as one:
        token = one.token()
        before = accepted(one, token, "before")
        until(lambda: is_issued(one, token, before), "before")
        other = sqlite3.connect(tmp_path / "data" / "cases.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused_by_name(one, token, "during")  # after the ten seconds a writer waits
        searches_go_on(one, token)
        assert one.get(f"/v1/cases/{before}", token)[0] == 200, "reading goes on"
        assert one.get("/readyz")[0] == 200
        other.execute("ROLLBACK")
        other.close()
        case = until(lambda: (accept(one, token, "during")[1] or {}).get("id"), "after it was free")
        until(lambda: is_issued(one, token, case), "the refused case, sent again")
        until(lambda: is_issued(one, token, accepted(one, token, "after")), "a new one")


def test_a_full_disk(tmp_path: Path, archives: ScriptedArchives):
    """Nothing the process writes reaches a file any more, its log included."""
    with gateway(tmp_path, archives.roster()) as one:
        token = one.token()
        kept = [accepted(one, token, f"before{n}") for n in range(5)]
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        for _ in range(5):
            refused_by_name(one, token, "refused")
            searches_go_on(one, token)
        until(lambda: one.metric("gw_log_lines_lost_total") > 0, "the log can not be on this disk")
        assert one.get("/readyz")[0] == 200
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        again = until(
            lambda: (accept(one, token, "refused")[1] or {}).get("id"), "after there was room again"
        )
        for case in [*kept, again]:
            until(lambda case=case: is_issued(one, token, case), "an acknowledged case")


def test_a_database_server_that_is_gone_for_a_while(tmp_path: Path, archives: ScriptedArchives):
    try:
        with postgres() as server:
            one = Gateway(tmp_path, archives.roster(), store=server.url())
            assert main(["db", "upgrade", "--config", str(one.config)]) == 0
            try:
                one.start()
                token = one.token()
                before = accepted(one, token, "before")
                until(lambda: is_issued(one, token, before), "before")
                server.stop_hard()
                refused_by_name(one, token, "during")
                assert one.get(f"/v1/cases/{before}", token)[0] == 503
                searches_go_on(one, token)
                until(lambda: one.metric("gw_store_up") == 0, "nobody notices")
                assert one.process is not None
                assert one.process.poll() is None, "the process ended"
                assert one.get("/livez")[0] == 200
                until(lambda: is_up(server), "PostgreSQL did not start again")
                case = until(lambda: (accept(one, token, "during")[1] or {}).get("id"), "after it was back")
                until(lambda: is_issued(one, token, case), "the refused case, sent again")
                assert is_issued(one, token, before)
            finally:
                one.stop()
    except NoPostgresError as error:
        pytest.skip(f"no PostgreSQL programs: {error}")
