"""A fresh case store on SQLite or on a real PostgreSQL; one server for the whole session, one schema for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cases.store import Store
from loadtest.case_core import make_tables
from loadtest.postgres import NoPostgresError, Postgres, postgres
from tests.fakes.case_stores import Stores, fresh_schema


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    try:
        # nothing here outlives the test: waiting for the disk would only make it slow
        with postgres("fsync=off", "synchronous_commit=off", "deadlock_timeout=200ms") as running:
            yield running
    except NoPostgresError as error:
        pytest.skip(f"no PostgreSQL programs: {error}")


@pytest.fixture(params=["sqlite", "postgresql"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'cases.db'}"
    else:
        url = fresh_schema(request.getfixturevalue("server"))
    yield from _opened(url)


@pytest.fixture
def replicas(server: Postgres) -> Iterator[Stores]:
    """For what only several replicas can do: PostgreSQL."""
    yield from _opened(fresh_schema(server))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Stores]:
    """For what only a file can suffer: SQLite."""
    yield from _opened(f"sqlite:///{tmp_path / 'cases.db'}")


@pytest.fixture
def store(stores: Stores) -> Store:
    opened = stores.open()
    make_tables(opened)
    return opened


def _opened(url: str) -> Iterator[Stores]:
    stores = Stores(url)
    yield stores
    stores.close_all()
