"""The register of documents by their short codes. It is never tidied: paper is checked years later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """A table of its own: an older replica still running meanwhile does not look at it."""
    op.create_table(
        "certificates",
        sa.Column("short_code", sa.Text(), primary_key=True),
        sa.Column("archive", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("issued_on", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("status_uri", sa.Text(), nullable=False),
        sa.Column("status_index", sa.Integer(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("certificates_number", "certificates", ["archive", "number"])
