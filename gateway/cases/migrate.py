"""Bringing the case store's tables to this version's: `lantai-gateway db upgrade`, and at start on SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, inspect, text

if (
    TYPE_CHECKING
):  # loading alembic takes longer than opening the store; it is needed only when there is something to do
    from alembic.config import Config

NEWEST = "0003"
"""The revision this version of the program works with."""


def config() -> Config:
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return made


def current(engine: Engine) -> str:
    """The revision of the store; "" = no tables yet."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return ""
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def upgrade(engine: Engine, revision: str = NEWEST) -> tuple[str, str]:
    """Bring the tables to a revision, in one transaction; the revisions before and after."""
    before = current(engine)
    if before == revision:
        return before, before
    from alembic import command

    made = config()
    with engine.begin() as connection:
        made.attributes["connection"] = connection
        command.upgrade(made, revision)
    return before, current(engine)
