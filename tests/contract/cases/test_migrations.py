"""Migrations on both databases: from every revision to the newest, with rows in it, and equal to the declared tables."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from gateway.cases import migrate
from gateway.cases.schema import CASES, METADATA, TASKS
from gateway.cases.states import State
from gateway.cases.store import StoreError
from loadtest.case_core import make_tables
from tests.fakes.case_stores import Stores, accept, agrees, dispatched, do

REVISIONS = [one.revision for one in ScriptDirectory.from_config(migrate.config()).walk_revisions()]


def upgrade_to(engine: sa.Engine, revision: str) -> None:
    migrate.upgrade(engine, revision)


def test_the_program_knows_its_newest_revision():
    assert ScriptDirectory.from_config(migrate.config()).get_heads() == [migrate.NEWEST]


def differences(engine: sa.Engine) -> list[str]:
    def ours(_object: object, name: str | None, kind: str, _reflected: bool, _compare: object) -> bool:
        return not (kind == "table" and name == "alembic_version")

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "include_object": ours}
        )
        return [str(one) for one in compare_metadata(context, METADATA)]


def conditions(engine: sa.Engine) -> dict[str, str]:
    """Each partial index's condition, as the database says it: the comparison does not look at it."""
    inspector = sa.inspect(engine)
    found: dict[str, str] = {}
    for table in METADATA.tables:
        for index in inspector.get_indexes(table):
            options = index.get("dialect_options", {})
            where = options.get("sqlite_where", options.get("postgresql_where"))
            if where is not None:
                found[str(index["name"])] = str(where)
    return found


@pytest.mark.parametrize("start", [None, *REVISIONS])
def test_every_revision_comes_to_the_declared_tables(stores: Stores, start: str | None):
    store = stores.open()
    if start is not None:
        upgrade_to(store.engine, start)
        assert migrate.current(store.engine) == start
    before, after = migrate.upgrade(store.engine)
    assert (before, after) == (start or "", migrate.NEWEST)
    assert differences(store.engine) == []
    assert migrate.upgrade(store.engine) == (after, after), "a second time changes nothing"


def test_partial_indexes_have_the_declared_conditions(stores: Stores):
    migrated, declared = stores.open(), None
    migrate.upgrade(migrated.engine)
    found = conditions(migrated.engine)
    with migrated.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE alembic_version"))
        METADATA.drop_all(connection)
        METADATA.create_all(connection)
    declared = conditions(migrated.engine)
    assert found == declared
    assert len(found) == 6


def test_a_case_of_the_first_revision_goes_on_in_the_newest(stores: Stores):
    """Rows as an older version wrote them: without the columns that came later."""
    store = stores.open()
    make_tables(store)
    dispatched(store)
    rows = {
        table.name: [
            dict(row) for row in store.read(lambda c, t=table: c.execute(sa.select(t)).mappings().all())
        ]
        for table in (CASES, TASKS)
    }
    journal = store.journal("case-00001")
    with store.engine.begin() as connection:
        METADATA.drop_all(connection)
    upgrade_to(store.engine, "0001")
    old = sa.MetaData()
    with store.engine.begin() as connection:
        for name, kept in rows.items():
            table = sa.Table(name, old, autoload_with=connection)
            names = set(table.c.keys())
            connection.execute(
                sa.insert(table), [{key: value for key, value in row.items() if key in names} for row in kept]
            )
        table = sa.Table("journal", old, autoload_with=connection)
        connection.execute(
            sa.insert(table),
            [
                {"case_id": "case-00001", "seq": one.seq, "at_ms": one.at_ms, "kind": one.kind.value,
                 "actor": one.actor, "state": one.state.value, "stage": one.stage, "data": "{}"}
                for one in journal
            ],
        )  # fmt: skip
    stores.close(store)
    again = stores.open("two")
    migrate.upgrade(again.engine)
    case = again.case("case-00001")
    assert case is not None
    assert case.state is State.DISPATCHED
    assert agrees(case, again.journal("case-00001"))
    stores.clock.go(10)
    assert [task.target for task in again.claim(10) if task.kind == "mail"] == [case.holder]
    assert again.oldest_waiting()["mail"] >= 0
    do(again, accept(2))


def test_a_replica_refuses_tables_of_another_revision_and_a_file_is_brought_up(stores: Stores):
    store = stores.open()
    upgrade_to(store.engine, REVISIONS[-1])
    if stores.is_sqlite:
        store.open()
        assert migrate.current(store.engine) == migrate.NEWEST
    else:
        with pytest.raises(StoreError, match="db upgrade"):
            store.open()
        migrate.upgrade(store.engine)
        store.open()


def test_a_store_that_is_not_there_is_named_at_start(replicas: Stores):
    from gateway.cases.policy import Policy
    from gateway.cases.store import Store

    store = Store(
        replicas.url.replace("host=", "host=/nowhere"), Policy(), clock_ms=replicas.clock, owner="one"
    )
    with pytest.raises(StoreError, match="can not be used"):
        store.open()
    store.close()
