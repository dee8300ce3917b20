"""The tables of the case core, the same on SQLite and PostgreSQL: plain columns, JSON as text, times as milliseconds."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text, text

METADATA = MetaData()

CASES = Table(
    "cases",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("ended_ms", BigInteger),
    Column("wake_at", BigInteger),  # when the clock looks at the case next; NULL = never again
    Column("data", Text, nullable=False),
    # of an ended case: 0 = everything, 1 = its tasks are gone, 2 = its personal data too
    Column("kept", Integer, nullable=False, server_default=text("0")),
    Index(
        "cases_wake",
        "wake_at",
        sqlite_where=text("wake_at IS NOT NULL"),
        postgresql_where=text("wake_at IS NOT NULL"),
    ),
    Index(
        "cases_open",
        "state",
        sqlite_where=text("ended_ms IS NULL"),
        postgresql_where=text("ended_ms IS NULL"),
    ),
    Index(
        "cases_ended",
        "kept",
        "ended_ms",
        sqlite_where=text("ended_ms IS NOT NULL AND kept < 2"),
        postgresql_where=text("ended_ms IS NOT NULL AND kept < 2"),
    ),
    Index("cases_client", "client", "created_ms"),
    Index("cases_holder", "holder", "created_ms"),
)

JOURNAL = Table(
    "journal",
    METADATA,
    Column("case_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("data", Text, nullable=False),
)

TASKS = Table(
    "tasks",
    METADATA,
    Column(
        "id", Text, primary_key=True
    ),  # derived from case, step and group: ordering twice dies on the constraint
    Column("case_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("target", Text, nullable=False),
    # One predicate, visible_at <= now: a lease pushes it forward, a timer lies in the future, NULL is done. Two
    # predicates joined by OR made SQLite scan: 10.7 ms a claim with 200,000 timers instead of 6.4 us.
    Column("visible_at", BigInteger),
    Column("owner", Text, nullable=False),  # "" = nobody's
    Column("fence", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("dead", Integer, nullable=False),  # 1 = given up, kept for the operator
    Column("payload", Text, nullable=False),
    Column("ordered_ms", BigInteger, nullable=False, server_default=text("0")),
    Index("tasks_dead", "ordered_ms", sqlite_where=text("dead = 1"), postgresql_where=text("dead = 1")),
    Index(
        "tasks_due",
        "visible_at",
        sqlite_where=text("visible_at IS NOT NULL"),
        postgresql_where=text("visible_at IS NOT NULL"),
    ),
    Index(
        "tasks_waiting",
        "kind",
        "target",
        sqlite_where=text("visible_at IS NOT NULL"),
        postgresql_where=text("visible_at IS NOT NULL"),
    ),
    Index("tasks_case", "case_id"),
)

REQUESTS = Table(
    "requests",
    METADATA,
    Column("client", Text, primary_key=True),
    Column("key", Text, primary_key=True),  # the caller's Idempotency-Key
    Column("digest", Text, nullable=False),  # SHA-256 of the body
    Column("case_id", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index("requests_time", "at_ms"),
)

MESSAGES = Table(
    "messages",
    METADATA,
    Column("id", Text, primary_key=True),  # of messages from desks already applied
    Column("at_ms", BigInteger, nullable=False),
    Index("messages_time", "at_ms"),
)

RESULTS = Table(
    "results",
    METADATA,
    Column("case_id", Text, primary_key=True),  # of a case whose clock has stopped
    Column("holder", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("stopped_ms", BigInteger, nullable=False),
    Column("counted_ms", BigInteger, nullable=False),
    Column("spent", Text, nullable=False),  # JSON: stage -> milliseconds
    Index("results_holder", "holder", "stopped_ms"),
    Index("results_time", "stopped_ms"),
)

STOPPED_CALLS = Table(
    "stopped_calls",
    METADATA,
    Column("client", Text, primary_key=True),  # a platform that said it wants no more calls (410)
    Column("at_ms", BigInteger, nullable=False),
)

AVAILABILITY = Table(
    "availability",
    METADATA,
    Column("archive", Text, primary_key=True),
    Column("day", Integer, primary_key=True),  # days of UTC since 1970
    Column("up_ms", BigInteger, nullable=False),  # of them it had a session, over all replicas
    Column("watched_ms", BigInteger, nullable=False),  # gateways were there to see it
)

CERTIFICATES = Table(
    "certificates",
    METADATA,
    Column("short_code", Text, primary_key=True),  # as printed, without hyphens
    Column("archive", Text, nullable=False),
    Column("number", Text, nullable=False),
    Column("case_id", Text, nullable=False),
    Column("form", Text, nullable=False),
    Column("issued_on", Text, nullable=False),  # YYYY-MM-DD, as on the document
    Column("document", Text, nullable=False),  # SHA-256 of what was delivered
    Column("status_uri", Text, nullable=False),
    Column("status_index", Integer, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index("certificates_number", "archive", "number"),
)
