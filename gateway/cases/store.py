"""The store: units of work, many in one transaction, the same code on SQLite and PostgreSQL; tasks and their leases.

`Store.transact` takes a batch of units, applies each to its case with the machine, and writes everything at once. A unit
that may not be done gets its own error; the others stand. Whoever waits is told only after COMMIT.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import Connection, update

from gateway.cases import rows, statements
from gateway.cases.batch import Batch, SinglyError
from gateway.cases.case import MAIL, SEARCH, UNREADABLE, Case, Task
from gateway.cases.database import Database, StoreError, is_race, is_unavailable, named, naming_troubles
from gateway.cases.policy import Policy
from gateway.cases.reading import ALL_KINDS, Reading
from gateway.cases.schema import CASES, TASKS
from gateway.cases.units import Done, Result, Unit
from gateway.cases.upkeep import BEGINNING, Keep, Place, Tidied, tidy

LEASE_MS = 3_000
"""A dead replica's tasks are taken over after at most this; the living extend theirs four times in it."""

_MOST_SKEW_MS = 5_000
"""A machine further off signs and logs wrong times as well. The store's own times are corrected, whatever the difference."""

_MOST_REMEMBERED = 20_000

_T = TypeVar("_T")


class Store(Reading):
    """One database. `transact`, `claim` and the other writing calls belong to one thread; reading may be any other's."""

    def __init__(
        self, url: str, policy: Policy, *, clock_ms: Callable[[], int], owner: str, lease_ms: int = LEASE_MS
    ) -> None:
        super().__init__(Database(url), clock_ms)
        self.policy, self.owner, self.lease_ms = policy, owner, lease_ms
        self._remembered: dict[str, Case] = {}

    def open(self) -> None:
        """Bring a SQLite file to this version's tables; StoreError when PostgreSQL's are not."""
        self._database.prepare()

    def close(self) -> None:
        self._database.close()

    def synchronise(self) -> int:
        """Measure by how many milliseconds this clock differs from the database's, and go by the database's from now on, so that
        replicas agree when a lease ends; StoreError when by more than five seconds.
        """
        if self.is_exclusive:
            return 0
        skew = self._offset_ms + self.skew_ms()
        self._offset_ms = skew
        if abs(skew) > _MOST_SKEW_MS:
            raise StoreError(
                f"本机时钟与数据库相差 {skew / 1000:.1f} 秒，请校时 · this clock and the database's differ by"
                f" {skew / 1000:.1f} s: set up time synchronisation"
            )
        return skew

    # units -------------------------------------------------------------------------------------------------------

    def transact(self, units: Sequence[Unit]) -> list[Result]:
        """Apply the units in order, in one transaction; when that fails, each by itself, so that one bad unit never
        fails its neighbours.
        """
        try:
            return self._try(units)
        except Exception as error:
            if is_unavailable(error):  # no unit's fault: trying each would wait for each
                return [named(error) for _unit in units]
        results: list[Result] = []
        for unit in units:
            results.append(self._alone(unit))
            last = results[-1]
            if isinstance(last, Exception) and isinstance(last.__cause__, Exception):
                cause = last.__cause__
                if is_unavailable(cause):
                    return results + [named(cause) for _unit in units[len(results) :]]
        return results

    def _alone(self, unit: Unit) -> Result:
        """One unit in a transaction of its own; once more when another replica won a race."""
        try:
            return self._try([unit])[0]
        except Exception as error:
            if not is_race(error):
                return _told(error)
        try:
            return self._try([unit])[0]
        except Exception as error:
            return _told(error)

    def _try(self, units: Sequence[Unit]) -> list[Result]:
        try:
            with self._database.writing() as connection:
                batch = Batch(
                    connection,
                    units,
                    policy=self.policy,
                    clock_ms=self.now_ms,
                    owner=self.owner,
                    lease_ms=self.lease_ms,
                    remembered=self._remembered,
                )
                results = batch.apply()
                batch.write()
        except Exception:
            self._remembered.clear()  # a unit may have changed them in memory, and nothing was written
            raise
        self._remembered |= batch.cases
        if len(self._remembered) > _MOST_REMEMBERED or not self.is_exclusive:
            self._remembered.clear()  # another replica may write the same cases: nothing may be remembered
        return results

    # tasks -------------------------------------------------------------------------------------------------------

    def claim(self, limit: int, kinds: Sequence[str] = ALL_KINDS) -> list[Task]:
        """Lease up to `limit` due tasks; each lease raises the task's fence."""
        now = self.now_ms()
        values = {
            "now_": now, "most": limit, "kinds": list(kinds), "owner_": self.owner, "until": now + self.lease_ms
        }  # fmt: skip
        with self._transaction() as connection:
            tasks, broken = [], []
            for row in connection.execute(self._tasks.claim, values).all():
                try:
                    tasks.append(rows.task(row))
                except UNREADABLE:
                    broken.append({"id": row.id, "visible_at": None, "dead": 1})
            if broken:  # nobody can do it: it is the operator's, and holds up no other
                statements.PUT_BACK(connection, broken)
        return tasks

    def extend(self, leases: Sequence[tuple[str, int]]) -> set[str]:
        """Extend these leases (task id, fence) of work that is still being done; the tasks whose lease is still held.

        Only what is named: a lease of work that nobody does must run out.
        """
        if not leases:
            return set()
        values = {"leases": list(leases), "until": self.now_ms() + self.lease_ms}
        with self._transaction() as connection:
            return set(connection.execute(self._tasks.extend, values).scalars())

    def release_all(self) -> None:
        """Give up this process's leases at once (drain); on SQLite at start everybody's, because nobody else lives."""
        statement = update(TASKS).where(TASKS.c.visible_at.is_not(None), TASKS.c.owner != "")
        if not self.is_exclusive:
            statement = statement.where(TASKS.c.owner == self.owner)
        with self._transaction() as connection:
            connection.execute(statement.values(owner="", visible_at=self.now_ms()))

    def wake(self, archive: str) -> None:
        """An archive is back: messages to it and searches that miss it are due now. Leased tasks stay with their owner."""
        now = self.now_ms()
        with self._transaction() as connection:
            connection.execute(self._tasks.wake_mail, {"kind_": MAIL, "target_": archive, "now_": now})
            connection.execute(
                self._tasks.wake_search, {"kind_": SEARCH, "target_": f"%{archive}%", "now_": now}
            )

    # cases by themselves -----------------------------------------------------------------------------------------

    def put_off(self, case_id: str, until_ms: int) -> None:
        """The clock looks at this case again only then: what it found due could not be done."""
        with self._transaction() as connection:
            connection.execute(update(CASES).where(CASES.c.id == case_id).values(wake_at=until_ms))
        self.forget(case_id)

    def change(self, work: Callable[[Connection, int], _T]) -> _T:
        """Run a function of upkeep in a transaction of its own; it is given the time."""
        with self._transaction() as connection:
            return work(connection, self.now_ms())

    def tidy(self, keep: Keep, after: Place = BEGINNING) -> Tidied:
        """One batch of forgetting; again from where it ended while it was about any row."""
        done = self.change(lambda connection, now: tidy(connection, now, keep, after))
        for case_id in done.forgotten:
            self.forget(case_id)
        return done

    def forget(self, case_id: str) -> None:
        """Read this case again when it is needed next: what is remembered of it may no longer be so."""
        self._remembered.pop(case_id, None)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with naming_troubles(), self._database.writing() as connection:
            yield connection


def _told(error: Exception) -> Exception:
    """What whoever waits for a unit is told: its own fault as it is."""
    return error.fault if isinstance(error, SinglyError) else named(error)


def new_owner() -> str:
    """A name no other process and no earlier life of this one has."""
    return f"{os.getpid()}-{os.urandom(6).hex()}"


__all__ = ["LEASE_MS", "Done", "Result", "Store", "StoreError", "Unit", "new_owner"]
