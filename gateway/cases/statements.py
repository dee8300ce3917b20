"""The store's statements, each said once for both databases; a plain SELECT stands where it is read, in `reading`.

First what a batch of units reads and writes, many rows to a statement (`bulk`); then tasks and what is due, where replicas
that share a database lock what they take and pass over what another has locked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, bindparam, literal_column, select, text, tuple_, update

from gateway.cases.bulk import Bulk, Matching
from gateway.cases.case import SEARCH
from gateway.cases.schema import CASES, JOURNAL, MESSAGES, REQUESTS, RESULTS, TASKS

DATABASE_CLOCK = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
"""PostgreSQL's, in milliseconds of UTC since 1970."""

# units ---------------------------------------------------------------------------------------------------------

FIND_REQUESTS = Matching.finding(REQUESTS, ["client", "key"], ["client", "key", "digest", "case_id"])
FIND_MESSAGES = Matching.finding(MESSAGES, ["id"], ["id"])
FIND_CASES = Matching.finding(CASES, ["id"], ["id", "data"])
LOCK_CASES = Matching.finding(CASES, ["id"], ["id", "data"], locking=True)
COMPLETE_HELD = Matching(
    TASKS,
    ["id", "fence"],
    "UPDATE tasks SET visible_at = NULL, owner = '' FROM {given} WHERE {matching} AND tasks.visible_at IS NOT NULL"
    " RETURNING tasks.id, tasks.fence",
)
"""Completes what is held and gives back its leases: whatever is not given back was taken over by somebody else."""

INSERT_CASE = Bulk.inserting(CASES)
UPDATE_CASE = Bulk.updating(
    CASES, "id", ("version", "state", "stage", "holder", "ended_ms", "wake_at", "data")
)
INSERTS = {table.name: Bulk.inserting(table) for table in (JOURNAL, TASKS, REQUESTS, MESSAGES, RESULTS)}
"""Of tables whose rows a unit only adds, by their names."""

COMPLETE = Bulk.updating(TASKS, "id", fixed="visible_at = NULL, owner = '', payload = '{}'")
"""Whoever holds them."""

PUT_BACK = Bulk.updating(TASKS, "id", ("visible_at", "dead"), fixed="owner = ''")
"""Makes tasks visible again at a time, or gives them up: NULL and dead."""

END_SEARCH = Bulk.updating(
    TASKS,
    "case_id",
    fixed="visible_at = NULL, owner = ''",
    only=f"tasks.kind = '{SEARCH}' AND tasks.visible_at IS NOT NULL",
)

# tasks and what is due -----------------------------------------------------------------------------------------

DUE_CASES = (
    select(CASES.c.id)
    .where(CASES.c.wake_at <= bindparam("now_"))
    .order_by(CASES.c.wake_at)
    .limit(bindparam("most"))
)
NEXT_CASE = select(CASES.c.wake_at).where(CASES.c.wake_at.is_not(None)).order_by(CASES.c.wake_at).limit(1)
NEXT_TASK = (
    select(TASKS.c.visible_at).where(TASKS.c.visible_at.is_not(None)).order_by(TASKS.c.visible_at).limit(1)
)
_TASK_COLUMNS = (
    TASKS.c.id, TASKS.c.case_id, TASKS.c.kind, TASKS.c.target, TASKS.c.visible_at, TASKS.c.payload, TASKS.c.attempts,
    TASKS.c.fence, TASKS.c.ordered_ms,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatements:
    """What is said of tasks differently to a file of one process and to a database that replicas share."""

    claim: Any
    """Lease to `owner_` until `until` the `most` tasks of `kinds` that have been due for longest by `now_`; the tasks."""
    extend: Any
    """Let those `leases` (id, fence) that are still held run until `until`; the ids of their tasks."""
    wake_mail: Any
    wake_search: Any
    """Make what waits of `kind_` due by `now_`: mail to the archive `target_`, searches whose archives are like it."""
    next_of: Any
    """When the next task of `kinds` is due."""


def _task_statements(*, shared: bool) -> TaskStatements:
    to_archive = TASKS.c.target == bindparam("target_")
    naming_archive = TASKS.c.target.like(bindparam("target_"))  # searches name all archives they miss
    return TaskStatements(
        claim=_claim(shared=shared),
        extend=_extend(shared=shared),
        wake_mail=_wake(to_archive, shared=shared),
        wake_search=_wake(naming_archive, shared=shared),
        next_of=select(TASKS.c.visible_at)
        .where(TASKS.c.visible_at.is_not(None), _of_kinds(shared=shared))
        .order_by(TASKS.c.visible_at)
        .limit(1),
    )


def _claim(*, shared: bool) -> Any:
    due = (
        select(TASKS.c.id)
        .where(TASKS.c.visible_at <= bindparam("now_"), _of_kinds(shared=shared))
        .order_by(TASKS.c.visible_at)
        .limit(bindparam("most"))
    )
    if shared:
        # a CTE with row locks runs once, whatever the plan: a plain subquery might lease more than the limit
        due = select(due.with_for_update(skip_locked=True).cte("due").c.id)
    return (
        update(TASKS)
        .where(TASKS.c.id.in_(due.scalar_subquery()))
        .values(
            owner=bindparam("owner_"),
            fence=TASKS.c.fence + 1,
            attempts=TASKS.c.attempts + 1,
            visible_at=bindparam("until"),
        )
        .returning(*_TASK_COLUMNS)
    )


def _extend(*, shared: bool) -> Any:
    held = _unlocked(
        tuple_(TASKS.c.id, TASKS.c.fence).in_(bindparam("leases", expanding=True)),
        TASKS.c.visible_at.is_not(None),
        TASKS.c.owner != "",
        shared=shared,
    )
    return update(TASKS).where(*held).values(visible_at=bindparam("until")).returning(TASKS.c.id)


def _wake(target: Any, *, shared: bool) -> Any:
    waiting = _unlocked(
        TASKS.c.kind == bindparam("kind_"),
        target,
        TASKS.c.visible_at > bindparam("now_"),
        TASKS.c.owner == "",
        shared=shared,
    )
    return update(TASKS).values(visible_at=bindparam("now_")).where(*waiting)


def _of_kinds(*, shared: bool) -> Any:
    # the plus keeps SQLite from going through every timer of these kinds by the index on kinds
    kind: Any = TASKS.c.kind if shared else literal_column("+tasks.kind", Text)
    return kind.in_(bindparam("kinds", expanding=True))


def _unlocked(*conditions: Any, shared: bool) -> tuple[Any, ...]:
    """Conditions of tasks to change. What another replica has locked is being completed or taken: it needs no longer
    lease and waits for nothing, and waiting for it here could deadlock.
    """
    if not shared:
        return conditions
    return (TASKS.c.id.in_(select(TASKS.c.id).where(*conditions).with_for_update(skip_locked=True)),)


ALONE, SHARED = _task_statements(shared=False), _task_statements(shared=True)
