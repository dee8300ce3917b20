"""Reading the store: cases, journals and results as they stand, and what is due. Any thread may read, at any time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sqlalchemy import Connection, func, select

from gateway.cases import clock, rows, statements
from gateway.cases.case import HOOK, MAIL, SEARCH, UNREADABLE, Case, Entry, StoppedCase, decode_case
from gateway.cases.database import Database, naming_troubles
from gateway.cases.schema import CASES, JOURNAL, RESULTS, TASKS

ALL_KINDS = (SEARCH, MAIL, HOOK)

_T = TypeVar("_T")
_Row = TypeVar("_Row")


class Reading:
    """What may be asked of one database, at the time of this process. Refusal(STORE_UNAVAILABLE) when it is in trouble."""

    def __init__(self, database: Database, clock_ms: Callable[[], int]) -> None:
        self._database = database
        self.engine, self.is_exclusive = database.engine, database.is_exclusive
        self._tasks = statements.ALONE if database.is_exclusive else statements.SHARED
        self._clock_ms = clock_ms
        self._offset_ms = 0

    def read(self, work: Callable[[Connection], _T]) -> _T:
        """Run a reading function on a connection of its own."""
        with naming_troubles(), self._database.reading() as connection:
            return work(connection)

    # time --------------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The clock of this process, corrected to the database's where replicas share one."""
        return self._clock_ms() + self._offset_ms

    def skew_ms(self) -> int:
        """How far the database's clock is ahead of this store's time; the machine's own time of day where it is a file."""
        if self.is_exclusive:
            return clock.wall_ms() - self.now_ms()
        before = time.monotonic()
        theirs = int(self.read(lambda c: c.execute(statements.DATABASE_CLOCK).scalar_one()))
        return theirs - self.now_ms() + int((time.monotonic() - before) * 500)

    # cases -------------------------------------------------------------------------------------------------------

    def case(self, case_id: str) -> Case | None:
        row = self.read(lambda c: c.execute(select(CASES.c.data).where(CASES.c.id == case_id)).first())
        return decode_case(row[0]) if row else None

    def journal(self, case_id: str, after: int = 0) -> list[Entry]:
        """The case's journal lines after `after`, in order."""
        statement = (
            select(JOURNAL).where(JOURNAL.c.case_id == case_id, JOURNAL.c.seq > after).order_by(JOURNAL.c.seq)
        )
        return [rows.entry(row) for row in self.read(lambda c: c.execute(statement).all())]

    def versions(self, case_ids: Iterable[str]) -> dict[str, int]:
        statement = select(CASES.c.id, CASES.c.version).where(CASES.c.id.in_(list(case_ids)))
        return {row[0]: row[1] for row in self.read(lambda c: c.execute(statement).all())}

    def open_stages(self) -> dict[str, int]:
        """How many cases are open in each stage."""
        statement = (
            select(CASES.c.stage, func.count()).where(CASES.c.ended_ms.is_(None)).group_by(CASES.c.stage)
        )
        return {row[0]: row[1] for row in self.read(lambda c: c.execute(statement).all())}

    def unstopped(self, holder: str, since_ms: int, accepted_ms: int) -> tuple[list[Case], int]:
        """A holder's cases whose clock has not stopped: open ones, whatever their age, and ends since then that nobody has
        fetched. `accepted_ms` bounds the look: no case accepted before it can be either. How many nobody can read.
        """
        is_under_way = CASES.c.ended_ms.is_(None) | (CASES.c.ended_ms >= since_ms)
        statement = (
            select(CASES.c.data)
            .outerjoin(RESULTS, RESULTS.c.case_id == CASES.c.id)
            .where(
                CASES.c.holder == holder,
                CASES.c.created_ms >= accepted_ms,
                is_under_way,
                RESULTS.c.case_id.is_(None),
            )
        )
        return _readable(self.read(lambda c: c.execute(statement).scalars().all()), decode_case)

    def results(self, holder: str, since_ms: int, limit: int = 0) -> tuple[list[StoppedCase], int]:
        """The newest cases of a holder whose clock stopped since then, at most `limit`; 0 = all. How many nobody can read."""
        statement = (
            select(RESULTS)
            .where(RESULTS.c.holder == holder, RESULTS.c.stopped_ms >= since_ms)
            .order_by(RESULTS.c.stopped_ms.desc())
            .limit(limit or None)
        )
        return _readable(self.read(lambda c: c.execute(statement).all()), rows.stopped_case)

    # what is due -------------------------------------------------------------------------------------------------

    def due_cases(self, limit: int) -> list[str]:
        """Cases the clock must look at now."""
        values = {"now_": self.now_ms(), "most": limit}
        return list(self.read(lambda c: c.execute(statements.DUE_CASES, values).scalars().all()))

    def next_due_ms(self, kinds: Sequence[str] = ALL_KINDS) -> int | None:
        """When the next task of these kinds or the next case is due; None when nothing waits."""
        is_all = set(kinds) == set(ALL_KINDS)
        statement = statements.NEXT_TASK if is_all else self._tasks.next_of

        def work(connection: Connection) -> int | None:
            first_task = connection.execute(statement, {} if is_all else {"kinds": list(kinds)}).scalar()
            first_case = connection.execute(statements.NEXT_CASE).scalar()
            times = [int(one) for one in (first_task, first_case) if one is not None]
            return min(times) if times else None

        return self.read(work)

    def oldest_due_ms(self) -> int:
        """How many milliseconds what has been due for longest, task or case, has waited to be taken."""
        first = self.next_due_ms()
        return max(0, self.now_ms() - first) if first is not None else 0

    def oldest_waiting(self) -> dict[str, int]:
        """Of every kind of task, how many milliseconds ago the oldest that is not done yet was ordered."""
        statement = (
            select(TASKS.c.kind, func.min(TASKS.c.ordered_ms))
            .where(TASKS.c.visible_at.is_not(None))
            .group_by(TASKS.c.kind)
        )
        now = self.now_ms()
        return {row[0]: now - row[1] for row in self.read(lambda c: c.execute(statement).all())}


def _readable(found: Iterable[_Row], read: Callable[[_Row], _T]) -> tuple[list[_T], int]:
    """What can be read of many rows, and how many can not: a damaged one holds up no other."""
    values, unreadable = [], 0
    for row in found:
        try:
            values.append(read(row))
        except UNREADABLE:
            unreadable += 1
    return values, unreadable
