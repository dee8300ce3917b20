"""A batch: many units in one transaction. It reads all they need, applies them in order, and writes each table once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from federation.reasons import Reason, Refusal
from gateway.cases import machine, rows, statements
from gateway.cases.case import Case, Effects, Event, Task, decode_case, encode_case
from gateway.cases.policy import Policy
from gateway.cases.units import Done, Result, Unit


class SinglyError(Exception):
    """A unit failed after it had written, or on a case that the same batch had changed: the transaction must be undone
    and its units applied one by one.
    """

    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self.fault = fault


class Batch:
    """One transaction's worth of units: `apply`, then `write`, both inside it."""

    def __init__(
        self,
        connection: Connection,
        units: Sequence[Unit],
        *,
        policy: Policy,
        clock_ms: Callable[[], int],
        owner: str,
        lease_ms: int,
        remembered: dict[str, Case],
    ) -> None:
        """`owner` is leased, for `lease_ms`, what the units order now. `remembered` cases are not read; a case that a unit
        left half changed is taken out of them.
        """
        self._connection, self._units = connection, units
        self._policy, self._clock_ms = policy, clock_ms
        self._owner, self._lease_ms, self._remembered = owner, lease_ms, remembered
        self._now = 0
        self.cases: dict[str, Case] = {}
        """What the units were about, as it is after them."""
        self._known_requests: dict[tuple[str, str], tuple[str, str]] = {}
        self._known_messages: set[str] = set()
        self._held: set[tuple[str, int]] = set()
        self._inserts: dict[str, list[rows.Row]] = {name: [] for name in statements.INSERTS}
        self._changed: dict[str, Case] = {}
        self._created: set[str] = set()
        self._raw: dict[str, bytes] = {}  # changed cases as they are written
        self._put_backs: list[rows.Row] = []
        self._complete: list[rows.Row] = []
        self._searches_ended: list[rows.Row] = []

    def apply(self) -> list[Result]:
        """How each unit ended, or its error; SinglyError when the transaction must be undone."""
        self._load()
        self._now = self._clock_ms()  # only now: another replica may have held the cases until a moment ago
        results: list[Result] = []
        for unit in self._units:
            try:
                results.append(self._one(unit))
            except Refusal as refusal:
                results.append(refusal)
            except DBAPIError:
                raise
            except Exception as error:
                # the case may be half changed: it must be read again
                results.append(error)
                self._reload(unit, error)
        return results

    def write(self) -> None:
        """Everything the units did, each table once. Search tasks are dropped before new ones are put in."""
        to = self._connection
        changed = [case for case_id, case in self._changed.items() if case_id not in self._created]
        done = {row["id"] for row in self._complete}
        put_backs = [row for row in self._put_backs if row["id"] not in done]
        if self._created:
            created = [self.cases[case_id] for case_id in self._created]
            statements.INSERT_CASE(to, [rows.of_case(case, self._raw[case.id]) for case in created])
        if changed:
            statements.UPDATE_CASE(to, [rows.of_case(case, self._raw[case.id]) for case in changed])
        if put_backs:
            statements.PUT_BACK(to, put_backs)
        if self._searches_ended:
            statements.END_SEARCH(to, self._searches_ended)
        if self._complete:
            statements.COMPLETE(to, self._complete)
        for name, insert_many in statements.INSERTS.items():
            if inserted := self._inserts[name]:
                insert_many(to, inserted)

    # reading -----------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Read all this batch needs: cases, known keys and messages, and which leases are still held."""
        keys = [unit.asked_as for unit in self._units if unit.key]
        if keys:
            found = statements.FIND_REQUESTS(self._connection, keys)
            self._known_requests = {(row[0], row[1]): (row[2], row[3]) for row in found}
        messages = [unit.message for unit in self._units if unit.message]
        if messages:
            self._known_messages = {row[0] for row in statements.FIND_MESSAGES(self._connection, messages)}
        wanted = {
            unit.case_id
            for unit in self._units
            if unit.new is None and unit.case_id and unit.event is not None
        }
        wanted |= {case_id for _digest, case_id in self._known_requests.values()}
        for case_id in list(wanted):
            remembered = self._remembered.get(case_id)
            if remembered is not None:
                self.cases[case_id] = remembered
                wanted.discard(case_id)
        if wanted:
            for row in statements.LOCK_CASES(self._connection, sorted(wanted)):
                self.cases[row[0]] = decode_case(row[1])
        # cases before tasks, in every transaction: two replicas that lock in one order wait, and do not deadlock
        leases = [unit.lease for unit in self._units if unit.lease is not None]
        if leases:
            self._held = {(row[0], row[1]) for row in statements.COMPLETE_HELD(self._connection, leases)}

    def _reload(self, unit: Unit, error: Exception) -> None:
        case_id = unit.case_id
        self._remembered.pop(case_id, None)
        self.cases.pop(case_id, None)
        if case_id in self._changed or case_id in self._created:
            raise SinglyError(error) from error
        for row in statements.FIND_CASES(self._connection, [case_id]):
            self.cases[row[0]] = decode_case(row[1])
        if unit.lease is not None:  # the task is not done: it is due again when its lease would have ended
            again = {"id": unit.lease[0], "visible_at": self._now + self._lease_ms, "dead": 0}
            statements.PUT_BACK(self._connection, [again])

    # one unit ----------------------------------------------------------------------------------------------------

    def _one(self, unit: Unit) -> Done:
        if unit.lease is not None:
            if unit.lease not in self._held:
                return Done("fenced")
            self._held.discard(unit.lease)  # a lease is good for one write
        if unit.message in self._known_messages:
            return Done("duplicate")
        if unit.key and (known := self._known_requests.get(unit.asked_as)) is not None:
            digest, case_id = known
            if digest != unit.digest:
                raise Refusal(Reason.IDEMPOTENCY_MISMATCH)
            return Done("replayed", encode_case(self.cases[case_id]))
        if unit.new is not None:
            return self._create(unit, unit.new)
        if unit.lease is not None and (unit.postpone_ms or unit.bury):
            at = None if unit.bury else unit.postpone_ms
            self._put_backs.append({"id": unit.lease[0], "visible_at": at, "dead": int(unit.bury)})
        self._complete += [{"id": task_id} for task_id in unit.completes]
        if unit.event is None:
            return Done("applied", next_ms=0 if unit.bury else unit.postpone_ms)
        case = self.cases.get(unit.case_id)
        if case is None:
            raise Refusal(Reason.UNKNOWN_CASE)
        done = self._happen(case, unit.event)
        self._remember(unit, case.id)
        if unit.message:  # remembered only once it was taken: a refused one is refused again
            self._known_messages.add(unit.message)
            self._inserts["messages"].append({"id": unit.message, "at_ms": self._now})
        return done

    def _create(self, unit: Unit, case: Case) -> Done:
        assert unit.event is not None
        # a copy: when the transaction is undone, the same unit is applied again
        case = msgspec.structs.replace(case, passed=[*case.passed])
        done = self._happen(case, unit.event)  # refused, it leaves no case behind
        self.cases[case.id] = case
        self._created.add(case.id)
        self._remember(unit, case.id)
        return done

    def _remember(self, unit: Unit, case_id: str) -> None:
        """The caller's key stands for this from now on."""
        if not unit.key:
            return
        client, key = unit.asked_as
        self._known_requests[client, key] = (unit.digest, case_id)
        self._inserts["requests"].append(
            {"client": client, "key": key, "digest": unit.digest, "case_id": case_id, "at_ms": self._now}
        )

    def _happen(self, case: Case, happened: Event) -> Done:
        before = (case.wake_at_ms, case.ladder)
        effects = machine.apply(case, happened, self._now, self._policy)
        # a silent rung is a change too: the clock must not find it due again
        if effects.entries or (case.wake_at_ms, case.ladder) != before:
            self._changed[case.id] = case
        raw = self._raw[case.id] = encode_case(case)
        if not effects.entries:
            return Done("applied", raw)
        self._write_down(case, effects)
        due = self._order(effects.tasks)
        later = [task.visible_at_ms for task in effects.tasks if task.visible_at_ms > self._now]
        if case.wake_at_ms:
            later.append(case.wake_at_ms)
        return Done(
            "applied",
            raw,
            effects.entries,
            due,
            effects.left,
            effects.stopped,
            min(later, default=0),
        )

    def _write_down(self, case: Case, effects: Effects) -> None:
        """What is to be written beside the case, without the tasks."""
        self._inserts["journal"] += [rows.of_entry(case.id, entry) for entry in effects.entries]
        if effects.stopped is not None:
            self._inserts["results"].append(rows.of_result(case, effects.stopped, self._now))
        if effects.ends_search:
            self._searches_ended.append({"case_id": case.id})

    def _order(self, tasks: Sequence[Task]) -> list[Task]:
        """Put tasks in; those that are due now are leased to this process at once, and are what is given back."""
        due = []
        for task in tasks:
            owner, visible_at, ordered = "", task.visible_at_ms, task
            if task.visible_at_ms <= self._now:
                owner, visible_at = self._owner, self._now + self._lease_ms
                ordered = msgspec.structs.replace(task, fence=1, attempts=1, ordered_ms=self._now)
                due.append(ordered)
            self._inserts["tasks"].append(rows.of_task(ordered, self._now, owner, visible_at))
        return due
