"""Case stores for tests: several over one database, with one clock that the test moves, and short words for units."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg
import sqlalchemy as sa

from gateway.cases.case import Case, Entry, Event, Task
from gateway.cases.policy import Policy
from gateway.cases.schema import TASKS
from gateway.cases.store import Done, Store, Unit
from loadtest.postgres import Postgres
from tests.fakes.cases import ACCEPTED, HOLDER, Clock, found, located, new_case

_NUMBERS = itertools.count()


class Stores:
    """Opens stores over one database, and closes them all."""

    def __init__(self, url: str) -> None:
        self.url, self.clock = url, Clock()
        self._open: list[Store] = []

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    def open(self, owner: str = "one", policy: Policy | None = None) -> Store:
        store = Store(self.url, policy or Policy(), clock_ms=self.clock, owner=owner)
        self._open.append(store)
        return store

    def close(self, store: Store) -> None:
        self._open.remove(store)
        store.close()

    def close_all(self) -> None:
        for store in self._open:
            store.close()


def fresh_schema(server: Postgres) -> str:
    """The address of an empty place on the server: a schema that all connections from now on use first."""
    name = f"cases_{next(_NUMBERS)}"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
        connection.execute(f"ALTER DATABASE postgres SET search_path = {name}".encode())
    return server.url()


def accept(number: int = 1, *, key: str = "", digest: str = "", **about: Any) -> Unit:
    """The unit that makes a case."""
    case = new_case(number, **about)
    return Unit(case.id, ACCEPTED, new=case, key=key, digest=digest)


def do(store: Store, unit: Unit) -> Done:
    """Write one unit that must be written; its error otherwise."""
    [result] = store.transact([unit])
    if isinstance(result, Exception):
        raise result
    return result


def made(store: Store, number: int = 1, **about: Any) -> Case:
    """An accepted case; its search is leased to this store."""
    return do(store, accept(number, **about)).case


def dispatched(store: Store, number: int = 1, archive: str = HOLDER) -> Done:
    """A case on its way to a holder; its mail is leased to this store."""
    case = made(store, number)
    return do(store, Unit(case.id, located({archive: "hit"}, [found(archive)])))


def told(case_id: str, kind: Any, actor: str = HOLDER, **data: Any) -> Unit:
    return Unit(case_id, Event(kind, actor, data))


def tasks(store: Store) -> dict[str, Any]:
    """All rows of tasks by id, as they stand."""
    return {row.id: row for row in store.read(lambda c: c.execute(sa.select(TASKS)).all())}


def timers(store: Store, count: int, at_ms: int) -> None:
    """Many tasks of nobody, due in the future, as other cases leave them."""
    rows = [
        {
            "id": f"timer-{n}", "case_id": f"other-{n}", "kind": ("search", "mail", "hook")[n % 3], "target": str(n % 40),
            "visible_at": at_ms + n, "owner": "", "fence": 0, "attempts": 0, "dead": 0, "payload": "{}",
        }
        for n in range(count)
    ]  # fmt: skip
    with store.engine.begin() as connection:
        connection.execute(sa.insert(TASKS), rows)


def agrees(case: Case, journal: list[Entry]) -> bool:
    """Whether a journal and its case tell the same."""
    return [entry.seq for entry in journal] == list(range(1, case.version + 1)) and journal[
        -1
    ].state is case.state


def lease(task: Task) -> tuple[str, int]:
    return (task.id, task.fence)
