"""The first tables of the case store: cases, journal, tasks, requests, messages, results."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _partial(name: str, table: str, columns: list[str], condition: str) -> None:
    op.create_index(
        name, table, columns, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition)
    )


def upgrade() -> None:
    """Expand only: nothing older exists."""
    text, big, whole = sa.Text(), sa.BigInteger(), sa.Integer()

    def column(
        name: str, kind: sa.types.TypeEngine[Any], *, primary_key: bool = False, nullable: bool = False
    ) -> sa.Column[Any]:
        return sa.Column(name, kind, primary_key=primary_key, nullable=nullable)

    op.create_table(
        "cases",
        column("id", text, primary_key=True),
        column("client", text),
        column("created_ms", big),
        column("version", whole),
        column("state", text),
        column("stage", text),
        column("holder", text),
        column("ended_ms", big, nullable=True),
        column("wake_at", big, nullable=True),
        column("data", text),
    )
    _partial("cases_wake", "cases", ["wake_at"], "wake_at IS NOT NULL")
    _partial("cases_open", "cases", ["state"], "ended_ms IS NULL")
    _partial("cases_ended", "cases", ["ended_ms"], "ended_ms IS NOT NULL")
    op.create_index("cases_client", "cases", ["client", "created_ms"])
    op.create_table(
        "journal",
        column("case_id", text, primary_key=True),
        column("seq", whole, primary_key=True),
        column("at_ms", big),
        column("kind", text),
        column("actor", text),
        column("state", text),
        column("stage", text),
        column("data", text),
    )
    op.create_table(
        "tasks",
        column("id", text, primary_key=True),
        column("case_id", text),
        column("kind", text),
        column("target", text),
        column("visible_at", big, nullable=True),
        column("owner", text),
        column("fence", whole),
        column("attempts", whole),
        column("dead", whole),
        column("payload", text),
    )
    _partial("tasks_due", "tasks", ["visible_at"], "visible_at IS NOT NULL")
    _partial("tasks_waiting", "tasks", ["kind", "target"], "visible_at IS NOT NULL")
    op.create_index("tasks_case", "tasks", ["case_id"])
    op.create_table(
        "requests",
        column("client", text, primary_key=True),
        column("key", text, primary_key=True),
        column("digest", text),
        column("case_id", text),
        column("at_ms", big),
    )
    op.create_table("messages", column("id", text, primary_key=True), column("at_ms", big))
    op.create_table(
        "results",
        column("case_id", text, primary_key=True),
        column("holder", text),
        column("scope", text),
        column("outcome", text),
        column("state", text),
        column("stopped_ms", big),
        column("counted_ms", big),
        column("spent", text),
    )
    op.create_index("results_holder", "results", ["holder", "stopped_ms"])
    op.create_index("results_time", "results", ["stopped_ms"])
