"""What a database may do under a real gateway: be locked, full, or gone. Searches go on, callers are told by name,
what was acknowledged is there afterwards, and the process outlives it.
"""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from gateway.__main__ import main
from gateway.cases.case import Case, encode_case
from gateway.cases.schema import CASES
from gateway.cases.states import State
from gateway.cases.upkeep import DAY_MS
from loadtest.gateways import REQUEST, Gateway, gateway
from loadtest.postgres import NoPostgresError, Postgres, postgres
from loadtest.scripted import ScriptedArchive, ScriptedArchives, one_record
from tests.fakes.waiting import until

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


@contextlib.contextmanager
def prepared(folder: Path, roster: str, kind: str) -> Iterator[tuple[Gateway, Engine]]:
    """A gateway that was not started yet, and its case store; stopped at the end."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(postgres()) if kind == "postgresql" else None
        except NoPostgresError as error:
            pytest.skip(f"no PostgreSQL programs: {error}")
        url = f"sqlite:///{folder / 'data' / 'cases.sqlite'}" if server is None else server.url()
        (folder / "data").mkdir()
        one = Gateway(folder, roster, **({} if server is None else {"store": url}))
        assert main(["db", "upgrade", "--config", str(one.config)]) == 0
        engine = sa.create_engine(url)
        try:
            yield one, engine
        finally:
            engine.dispose()
            one.stop()


def long_ended(number: int, data: str) -> dict[str, Any]:
    """A case that ended so long ago that its personal data are to go; the first number first."""
    ended_ms = int(time.time() * 1000) - 400 * DAY_MS + number
    return {
        "id": f"case-{number}", "client": "platform", "created_ms": ended_ms, "version": 1, "state": "withdrawn",
        "stage": "locate", "holder": "330483", "ended_ms": ended_ms, "data": data, "kept": 1,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_ended_case_of_another_version_ends_no_gateway(
    tmp_path: Path, archives: ScriptedArchives, kind: str
):
    """Upkeep looks at it at every start: it is put aside and counted, and the next one is forgotten."""
    newer = '{"id":"case-1","client":"platform","created_ms":1,"request":{},"state":"contested"}'
    whole = encode_case(Case("case-2", "platform", 1, {"subject": {"name": "钱试验"}}, state=State.WITHDRAWN))
    with prepared(tmp_path, archives.roster(), kind) as (one, engine):
        with engine.begin() as connection:
            connection.execute(sa.insert(CASES), [long_ended(1, newer), long_ended(2, whole.decode())])
        one.start()

        def kept() -> list[tuple[str, int]]:
            with engine.connect() as connection:
                rows = connection.execute(sa.select(CASES.c.id, CASES.c.kept).order_by(CASES.c.id)).all()
            return [(row.id, row.kept) for row in rows]

        until(lambda: kept() == [("case-1", 1), ("case-2", 2)], one.log())
        until(lambda: one.metric("gw_task_failures_total") == 1, "nobody is told")
        assert 'gw_task_failures_total{task="upkeep"} 1.0' in one.get("/metrics")[1]
        searches_go_on(one, one.token())
        assert one.stop() == 0
