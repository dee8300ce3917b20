"""When tasks were ordered, which ended cases are still whole, whose calls are stopped, how long archives were there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _partial(name: str, table: str, columns: list[str], condition: str) -> None:
    op.create_index(
        name, table, columns, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition)
    )


def upgrade() -> None:
    """Columns have defaults, so that an older replica still running meanwhile can write rows."""
    op.add_column("tasks", sa.Column("ordered_ms", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE tasks SET ordered_ms = visible_at WHERE visible_at IS NOT NULL")
    _partial("tasks_dead", "tasks", ["ordered_ms"], "dead = 1")
    op.add_column("cases", sa.Column("kept", sa.Integer(), nullable=False, server_default="0"))
    op.drop_index("cases_ended", "cases")
    _partial("cases_ended", "cases", ["kept", "ended_ms"], "ended_ms IS NOT NULL AND kept < 2")
    op.create_index("cases_holder", "cases", ["holder", "created_ms"])
    op.create_index("requests_time", "requests", ["at_ms"])
    op.create_index("messages_time", "messages", ["at_ms"])
    op.create_table(
        "stopped_calls",
        sa.Column("client", sa.Text(), primary_key=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "availability",
        sa.Column("archive", sa.Text(), primary_key=True),
        sa.Column("day", sa.Integer(), primary_key=True),
        sa.Column("up_ms", sa.BigInteger(), nullable=False),
        sa.Column("watched_ms", sa.BigInteger(), nullable=False),
    )
