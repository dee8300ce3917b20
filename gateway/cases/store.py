"""The store: units of work, many in one transaction, the same code on SQLite and PostgreSQL.

`Store.transact` takes a batch of units, applies each to its case with the machine, and writes everything at once. A unit
that may not be done gets its own error; the others stand. Whoever waits is told only after COMMIT.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
from sqlalchemy import (
    Connection,
    Engine,
    Text,
    bindparam,
    create_engine,
    event,
    func,
    literal_column,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from federation.reasons import Reason, Refusal
from gateway.cases import clock, machine, migrate
from gateway.cases.bulk import Bulk, Matching
from gateway.cases.case import (
    Case,
    Entry,
    Event,
    Stopped,
    Task,
    decode_case,
    decode_data,
    encode_case,
    encode_data,
)
from gateway.cases.policy import Policy
from gateway.cases.schema import CASES, JOURNAL, MESSAGES, METADATA, REQUESTS, RESULTS, TASKS
from gateway.cases.states import Kind, Stage, State
from gateway.cases.upkeep import Keep, tidy

LEASE_MS = 3_000
"""A dead replica's tasks are taken over after at most this; the living extend theirs four times in it."""

_MOST_CACHED = 20_000
_ALL_KINDS = (machine.SEARCH, machine.MAIL, machine.HOOK)

_T = TypeVar("_T")


class _SinglyError(Exception):
    """A unit failed after it had written, or on a case that the same batch had changed: the transaction must be undone
    and its units applied one by one.
    """

    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self.fault = fault


class StoreError(Exception):
    """The store can not be used; the message says what to do."""


class Unit(msgspec.Struct):
    """One unit of work on one case.

    With `new`, the case is created under (client, `key`): the same key and `digest` again gives the stored case, another
    digest a Refusal. An event under a key of `client` works alike: again, it gives the case as it is now. `lease` (task id, fence) must still be held, or the unit is fenced and nothing happens. `message` is
    the id of a desk's message: the second time it is a duplicate. `completes` are tasks done whoever holds them.
    `postpone_ms` makes the leased task visible again then instead of completing it; `bury` gives it up for the operator.
    """

    case_id: str
    event: Event | None = None
    new: Case | None = None
    client: str = ""
    key: str = ""
    digest: str = ""
    lease: tuple[str, int] | None = None
    message: str = ""
    completes: tuple[str, ...] = ()
    postpone_ms: int = 0
    bury: bool = False


class Done(msgspec.Struct):
    """How a unit ended: applied, replayed (same idempotency key), duplicate (same message), fenced, or unknown case.
    `tasks` are due now and already leased to this process.
    """

    status: str
    raw: bytes = b""
    entries: list[Entry] = []
    tasks: list[Task] = []
    left: list[tuple[str, int]] = []
    stopped: Stopped | None = None
    next_ms: int = 0
    """When the earliest of what this unit ordered for later is due; 0 = nothing."""

    @property
    def case(self) -> Case:
        return decode_case(self.raw)


class StoppedCase(msgspec.Struct, frozen=True):
    """What remains to be counted of a case whose clock stopped; `spent` is milliseconds by stage."""

    outcome: str
    scope: str
    state: str
    stopped_ms: int
    counted_ms: int
    spent: dict[str, int]


Result = Done | Exception


class Store:
    """One database. `transact`, `claim` and the other writing calls belong to one thread; `read` may be any other."""

    def __init__(
        self, url: str, policy: Policy, *, clock_ms: Callable[[], int], owner: str, lease_ms: int = LEASE_MS
    ) -> None:
        self.policy, self.owner, self.lease_ms = policy, owner, lease_ms
        self._clock_ms = clock_ms
        self.is_exclusive = url.startswith("sqlite")
        self._lock: IO[bytes] | None = None
        self.engine = self._engine(url)
        self._writing: Connection | None = None
        self._cache: dict[str, Case] = {}
        self._offset_ms = 0

    def _engine(self, url: str) -> Engine:
        if not self.is_exclusive:
            return create_engine(
                url,
                poolclass=QueuePool,
                pool_size=4,
                hide_parameters=True,  # an error's text would hold the row, and with it names
                connect_args={
                    "application_name": "lantai-gateway",
                    "options": "-c statement_timeout=10000 -c idle_in_transaction_session_timeout=5000",
                },
            )
        path = url.removeprefix("sqlite:///")
        self._take_lock(Path(path))
        engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=4,
            hide_parameters=True,
            connect_args={"check_same_thread": False, "timeout": 10},
        )

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _record: Any) -> None:
            connection.isolation_level = None
            # FULL: NORMAL may lose the last commits when the power goes
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                "busy_timeout=10000",
                "wal_autocheckpoint=4000",
            ):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # a deferred transaction that reads first and writes then fails at once and ignores busy_timeout
            connection.exec_driver_sql(
                "BEGIN" if connection.get_execution_options().get("reads") else "BEGIN IMMEDIATE"
            )

        return engine

    def _take_lock(self, path: Path) -> None:
        """One gateway process for a file: a stopped second writer would hold the database's own lock."""
        lock = path.with_suffix(path.suffix + ".lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise StoreError(
                f"案件库 {path} 正被另一网关进程使用 · the case database is in use by another gateway process;"
                " use PostgreSQL for more than one replica"
            ) from error
        self._lock = lock

    def create(self) -> None:
        """Make the tables where they are missing, without their history; for tests."""
        METADATA.create_all(self.engine)

    def open(self) -> None:
        """Bring a SQLite file to this version's tables; StoreError when PostgreSQL's are not: replicas never migrate it."""
        try:
            self._open()
        except SQLAlchemyError as error:
            raise StoreError(
                f"案件库无法使用 · the case store can not be used: {type(error).__name__}"
            ) from error

    def _open(self) -> None:
        if self.is_exclusive:
            migrate.upgrade(self.engine)
            return
        found, wanted = migrate.current(self.engine), migrate.NEWEST
        if found != wanted:
            raise StoreError(
                f"案件库版本为 {found or '空'}，需要 {wanted}：请运行 lantai-gateway db upgrade"
                f" · the case store is at revision {found or 'none'}, {wanted} is needed: run lantai-gateway db upgrade"
            )

    def close(self) -> None:
        if self._writing is not None:
            self._writing.close()
        self.engine.dispose()
        if self._lock is not None:
            self._lock.close()

    # writing ---------------------------------------------------------------------------------------------------

    def _connection(self) -> Connection:
        if self._writing is not None and self._writing.invalidated:
            self._writing.close()
            self._writing = None
        if self._writing is None:
            self._writing = self.engine.connect()
            if not self.is_exclusive:
                self._writing.exec_driver_sql(_BY_INDEX)
                self._writing.commit()
        return self._writing

    def now_ms(self) -> int:
        """The clock of this process, corrected to the database's where replicas share one."""
        return self._clock_ms() + self._offset_ms

    def synchronise(self) -> int:
        """Measure how far this clock is from the database's; StoreError when more than a quarter of the lease."""
        if self.is_exclusive:
            return 0
        skew = self._offset_ms + self.skew_ms()
        self._offset_ms = skew
        if abs(skew) > self.lease_ms // 4 and abs(skew) > 5_000:
            raise StoreError(
                f"本机时钟与数据库相差 {skew / 1000:.1f} 秒，请校时 · this clock and the database's differ by"
                f" {skew / 1000:.1f} s: set up time synchronisation"
            )
        return skew

    def skew_ms(self) -> int:
        """How far the database's clock is ahead of this store's time; the machine's own time of day where it is a file."""
        if self.is_exclusive:
            return clock.wall_ms() - self.now_ms()
        before = time.monotonic()
        theirs = int(self.read(lambda c: c.execute(_DATABASE_CLOCK).scalar_one()))
        return theirs - self.now_ms() + int((time.monotonic() - before) * 500)

    def transact(self, units: Sequence[Unit]) -> list[Result]:
        """Apply the units in order, in one transaction; when that fails, each by itself, so that one bad unit never
        fails its neighbours.
        """
        try:
            return self._try(units)
        except Exception as error:
            self._cache.clear()
            if _is_unavailable(error):  # no unit's fault: trying each would wait for each
                return [self._named(error) for _unit in units]
        results: list[Result] = []
        for unit in units:
            results.append(self._alone(unit))
            last = results[-1]
            if isinstance(last, Exception) and isinstance(last.__cause__, Exception):
                cause = last.__cause__
                if _is_unavailable(cause):
                    return results + [self._named(cause) for _unit in units[len(results) :]]
        return results

    def _alone(self, unit: Unit) -> Result:
        """One unit in a transaction of its own; once more when another replica won a race."""
        try:
            return self._try([unit])[0]
        except Exception as error:
            self._cache.clear()
            if not _is_race(error):
                return self._named(error)
        try:
            return self._try([unit])[0]
        except Exception as error:
            self._cache.clear()
            return self._named(error)

    @staticmethod
    def _named(error: Exception) -> Exception:
        """What whoever waits is told: the database's own troubles as one reason, a unit's own fault as it is."""
        if isinstance(error, _SinglyError):
            return error.fault
        if _is_unavailable(error) or _is_race(error):
            refusal = Refusal(Reason.STORE_UNAVAILABLE, retry_after_s=5.0)
            refusal.__cause__ = error
            return refusal
        return error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._available():
            connection = self._connection()
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def _available(self) -> Iterator[None]:
        """The same for calls that are no units."""
        try:
            yield
        except (DBAPIError, PoolTimeoutError) as error:
            raise self._named(error) from error

    def _try(self, units: Sequence[Unit]) -> list[Result]:
        connection = self._connection()
        with connection.begin():
            batch = _Batch(self, connection, units)
            results = batch.apply()
            batch.write()
        for case in batch.cases.values():
            self._cache[case.id] = case
        if len(self._cache) > _MOST_CACHED or not self.is_exclusive:
            self._cache.clear()  # another replica may write the same cases: nothing may be remembered
        return results

    def cached(self, case_id: str) -> Case | None:
        return self._cache.get(case_id)

    def forget(self, case_id: str) -> None:
        self._cache.pop(case_id, None)

    def claim(self, limit: int, kinds: Sequence[str] = _ALL_KINDS) -> list[Task]:
        """Lease up to `limit` due tasks; each lease raises the task's fence."""
        now = self.now_ms()
        values = {
            "now_": now, "most": limit, "kinds": list(kinds), "owner_": self.owner, "until": now + self.lease_ms
        }  # fmt: skip
        statement = _CLAIM if self.is_exclusive else _CLAIM_SHARED
        with self._transaction() as connection:
            rows = connection.execute(statement, values).all()
            tasks, broken = [], []
            for row in rows:
                try:
                    tasks.append(_task(row))
                except (msgspec.DecodeError, UnicodeError):
                    broken.append({"id": row.id, "visible_at": None, "dead": 1})
            if broken:  # nobody can do it: it is the operator's, and holds up no other
                _PUT_BACK(connection, broken)
        return tasks

    def extend(self, leases: Sequence[tuple[str, int]]) -> set[str]:
        """Extend these leases (task id, fence) of work that is still being done; the tasks whose lease is still held.

        Only what is named: a lease of work that nobody does must run out.
        """
        if not leases:
            return set()
        values = {"leases": list(leases), "until": self.now_ms() + self.lease_ms}
        with self._transaction() as connection:
            rows = connection.execute(_EXTEND if self.is_exclusive else _EXTEND_UNLOCKED, values)
            return set(rows.scalars())

    def release_all(self) -> None:
        """Give up this process's leases at once (drain); on SQLite at start everybody's, because nobody else lives."""
        statement = update(TASKS).where(TASKS.c.visible_at.is_not(None), TASKS.c.owner != "")
        if not self.is_exclusive:
            statement = statement.where(TASKS.c.owner == self.owner)
        with self._transaction() as connection:
            connection.execute(statement.values(owner="", visible_at=self.now_ms()))

    def put_off(self, case_id: str, until_ms: int) -> None:
        """The clock looks at this case again only then: what it found due could not be done."""
        with self._transaction() as connection:
            connection.execute(update(CASES).where(CASES.c.id == case_id).values(wake_at=until_ms))
        self.forget(case_id)

    def wake(self, archive: str) -> None:
        """An archive is back: messages to it and searches that miss it are due now. Leased tasks stay with their owner."""
        now = self.now_ms()
        mails, searches = _WAKE if self.is_exclusive else _WAKE_SHARED
        with self._transaction() as connection:
            connection.execute(mails, {"kind_": machine.MAIL, "target_": archive, "now_": now})
            connection.execute(searches, {"kind_": machine.SEARCH, "target_": f"%{archive}%", "now_": now})

    def change(self, work: Callable[[Connection, int], _T]) -> _T:
        """Run a function of upkeep in a transaction of its own; it is given the time."""
        with self._transaction() as connection:
            return work(connection, self.now_ms())

    def tidy(self, keep: Keep) -> int:
        """One batch of forgetting; how many rows it was about. Again while it is more than nothing."""
        gone, forgotten = self.change(lambda connection, now: tidy(connection, now, keep))
        for case_id in forgotten:
            self.forget(case_id)
        return gone

    # reading ---------------------------------------------------------------------------------------------------

    def read(self, work: Callable[[Connection], _T]) -> _T:
        """Run a reading function on a connection of its own."""
        with self._available(), self.engine.connect().execution_options(reads=True) as connection:
            return work(connection)

    def case(self, case_id: str) -> Case | None:
        row = self.read(lambda c: c.execute(select(CASES.c.data).where(CASES.c.id == case_id)).first())
        return decode_case(row[0]) if row else None

    def journal(self, case_id: str, after: int = 0) -> list[Entry]:
        """The case's journal lines after `after`, in order."""
        statement = (
            select(JOURNAL).where(JOURNAL.c.case_id == case_id, JOURNAL.c.seq > after).order_by(JOURNAL.c.seq)
        )
        rows = self.read(lambda c: c.execute(statement).all())
        return [_entry(row) for row in rows]

    def versions(self, case_ids: Iterable[str]) -> dict[str, int]:
        statement = select(CASES.c.id, CASES.c.version).where(CASES.c.id.in_(list(case_ids)))
        return {row[0]: row[1] for row in self.read(lambda c: c.execute(statement).all())}

    def unstopped(self, holder: str, since_ms: int) -> list[Case]:
        """A holder's cases accepted since then whose clock has not stopped: open ones, and ends nobody has fetched."""
        statement = (
            select(CASES.c.data)
            .outerjoin(RESULTS, RESULTS.c.case_id == CASES.c.id)
            .where(CASES.c.holder == holder, CASES.c.created_ms >= since_ms, RESULTS.c.case_id.is_(None))
        )
        return [decode_case(data) for data in self.read(lambda c: c.execute(statement).scalars().all())]

    def results(self, holder: str, since_ms: int, limit: int = 0) -> list[StoppedCase]:
        """The newest cases of a holder whose clock stopped since then, at most `limit`; 0 = all."""
        statement = (
            select(RESULTS)
            .where(RESULTS.c.holder == holder, RESULTS.c.stopped_ms >= since_ms)
            .order_by(RESULTS.c.stopped_ms.desc())
            .limit(limit or None)
        )
        rows = self.read(lambda c: c.execute(statement).all())
        return [
            StoppedCase(
                row.outcome, row.scope, row.state, row.stopped_ms, row.counted_ms, decode_data(row.spent)
            )
            for row in rows
        ]

    def open_stages(self) -> dict[str, int]:
        """How many cases are open in each stage."""
        statement = (
            select(CASES.c.stage, func.count()).where(CASES.c.ended_ms.is_(None)).group_by(CASES.c.stage)
        )
        return {row[0]: row[1] for row in self.read(lambda c: c.execute(statement).all())}

    def oldest_waiting(self) -> dict[str, int]:
        """Of every kind of task, how many milliseconds ago the oldest that is not done yet was ordered."""
        statement = (
            select(TASKS.c.kind, func.min(TASKS.c.ordered_ms))
            .where(TASKS.c.visible_at.is_not(None))
            .group_by(TASKS.c.kind)
        )
        now = self.now_ms()
        return {row[0]: now - row[1] for row in self.read(lambda c: c.execute(statement).all())}

    def oldest_due_ms(self) -> int:
        """How many milliseconds what has been due for longest, task or case, has waited to be taken."""
        first = self.next_due_ms()
        return max(0, self.now_ms() - first) if first is not None else 0

    def due_cases(self, limit: int) -> list[str]:
        """Cases the clock must look at now."""
        values = {"now_": self.now_ms(), "most": limit}
        return list(self.read(lambda c: c.execute(_DUE_CASES, values).scalars().all()))

    def next_due_ms(self, kinds: Sequence[str] = _ALL_KINDS) -> int | None:
        """When the next task of these kinds or the next case is due; None when nothing waits."""
        is_all = set(kinds) == set(_ALL_KINDS)
        some = _NEXT_OF if self.is_exclusive else _NEXT_OF_SHARED
        statement = _NEXT_TASK if is_all else some

        def work(connection: Connection) -> int | None:
            first_task = connection.execute(statement, {} if is_all else {"kinds": list(kinds)}).scalar()
            first_case = connection.execute(_NEXT_CASE).scalar()
            times = [int(one) for one in (first_task, first_case) if one is not None]
            return min(times) if times else None

        return self.read(work)


class _Batch:
    """One transaction's worth of units."""

    def __init__(self, store: Store, connection: Connection, units: Sequence[Unit]) -> None:
        self._store, self._connection, self._units = store, connection, units
        self._now = store.now_ms()
        self.cases: dict[str, Case] = {}
        self._known_requests: dict[tuple[str, str], tuple[str, str]] = {}
        self._known_messages: set[str] = set()
        self._held: set[tuple[str, int]] = set()
        self._inserts: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("cases", "journal", "tasks", "requests", "messages", "results")
        }
        self._changed: dict[str, Case] = {}
        self._created: set[str] = set()
        self._raw: dict[str, bytes] = {}  # changed cases as they are written
        self._put_backs: list[dict[str, Any]] = []
        self._complete: list[dict[str, Any]] = []
        self._searches_ended: list[dict[str, Any]] = []

    def apply(self) -> list[Result]:
        self._load()
        self._now = (
            self._store.now_ms()
        )  # only now: another replica may have held the cases until a moment ago
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

    def _load(self) -> None:
        """Read all this batch needs: cases, known keys and messages, and which leases are still held."""
        keys = [(_client(unit), unit.key) for unit in self._units if unit.key]
        if keys:
            rows = _KNOWN_REQUESTS(self._connection, keys)
            self._known_requests = {(row[0], row[1]): (row[2], row[3]) for row in rows}
        messages = [unit.message for unit in self._units if unit.message]
        if messages:
            self._known_messages = {row[0] for row in _KNOWN_MESSAGES(self._connection, messages)}
        wanted = {
            unit.case_id
            for unit in self._units
            if unit.new is None and unit.case_id and unit.event is not None
        }
        wanted |= {case_id for _digest, case_id in self._known_requests.values()}
        for case_id in list(wanted):
            cached = self._store.cached(case_id)
            if cached is not None:
                self.cases[case_id] = cached
                wanted.discard(case_id)
        if wanted:
            for row in _CASES_LOCKED(self._connection, sorted(wanted)):
                self.cases[row[0]] = decode_case(row[1])
        # cases before tasks, in every transaction: two replicas that lock in one order wait, and do not deadlock
        leases = [unit.lease for unit in self._units if unit.lease is not None]
        if leases:
            self._held = {(row[0], row[1]) for row in _COMPLETE_HELD(self._connection, leases)}

    def _reload(self, unit: Unit, error: Exception) -> None:
        case_id = unit.case_id
        self._store.forget(case_id)
        self.cases.pop(case_id, None)
        if case_id in self._changed or case_id in self._created:
            raise _SinglyError(error) from error
        for row in _CASES(self._connection, [case_id]):
            self.cases[row[0]] = decode_case(row[1])
        if unit.lease is not None:  # the task is not done: it is due again when its lease would have ended
            again = {"id": unit.lease[0], "visible_at": self._now + self._store.lease_ms, "dead": 0}
            _PUT_BACK(self._connection, [again])

    def _one(self, unit: Unit) -> Done:
        if unit.lease is not None:
            if unit.lease not in self._held:
                return Done("fenced")
            self._held.discard(unit.lease)  # a lease is good for one write
        if unit.message in self._known_messages:
            return Done("duplicate")
        if unit.key and (known := self._known_requests.get((_client(unit), unit.key))) is not None:
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
        self._known_requests[_client(unit), unit.key] = (unit.digest, case_id)
        row = {
            "client": _client(unit),
            "key": unit.key,
            "digest": unit.digest,
            "case_id": case_id,
            "at_ms": self._now,
        }
        self._inserts["requests"].append(row)

    def _happen(self, case: Case, happened: Event) -> Done:
        before = (case.wake_at_ms, case.ladder)
        effects = machine.apply(case, happened, self._now, self._store.policy)
        if not effects.entries:
            if (
                case.wake_at_ms,
                case.ladder,
            ) != before:  # a silent rung: the clock must not find it due again
                self._changed[case.id] = case
            raw = self._raw[case.id] = encode_case(case)
            return Done("applied", raw)
        self._changed[case.id] = case
        raw = self._raw[case.id] = encode_case(case)
        for entry in effects.entries:
            self._inserts["journal"].append(
                {
                    "case_id": case.id,
                    "seq": entry.seq,
                    "at_ms": entry.at_ms,
                    "kind": entry.kind.value,
                    "actor": entry.actor,
                    "state": entry.state.value,
                    "stage": entry.stage,
                    "data": encode_data(entry.data).decode(),
                }
            )
        if (stopped := effects.stopped) is not None:
            self._inserts["results"].append(
                {
                    "case_id": case.id,
                    "holder": case.holder,
                    "scope": stopped.scope,
                    "outcome": stopped.outcome,
                    "state": case.state.value,
                    "stopped_ms": self._now,
                    "counted_ms": stopped.counted_ms,
                    "spent": encode_data(case.spent_ms).decode(),
                }
            )
        if effects.ends_search:
            self._searches_ended.append({"case_id": case.id})
        due = []
        for task in effects.tasks:
            is_due = task.visible_at_ms <= self._now
            leased = (
                msgspec.structs.replace(task, fence=1, attempts=1, ordered_ms=self._now) if is_due else task
            )
            if is_due:
                due.append(leased)
            self._inserts["tasks"].append(
                {
                    "id": task.id,
                    "case_id": task.case_id,
                    "kind": task.kind,
                    "target": task.target,
                    "visible_at": self._now + self._store.lease_ms if is_due else task.visible_at_ms,
                    "owner": self._store.owner if is_due else "",
                    "fence": leased.fence,
                    "attempts": leased.attempts,
                    "dead": 0,
                    "payload": encode_data(task.payload).decode(),
                    "ordered_ms": self._now,
                }
            )
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

    def write(self) -> None:
        """Everything the units did, each table once. Search tasks are dropped before new ones are put in."""
        to = self._connection
        changed = [case for case_id, case in self._changed.items() if case_id not in self._created]
        done = {row["id"] for row in self._complete}
        put_backs = [row for row in self._put_backs if row["id"] not in done]
        if self._created:
            created = [self.cases[case_id] for case_id in self._created]
            _INSERT_CASE(to, [_case_row(case, self._raw[case.id]) for case in created])
        if changed:
            _UPDATE_CASE(to, [_case_row(case, self._raw[case.id]) for case in changed])
        if put_backs:
            _PUT_BACK(to, put_backs)
        if self._searches_ended:
            _END_SEARCH(to, self._searches_ended)
        if self._complete:
            _COMPLETE(to, self._complete)
        for name, insert_many in _INSERTS.items():
            if rows := self._inserts[name]:
                insert_many(to, rows)


def _client(unit: Unit) -> str:
    return unit.new.client if unit.new is not None else unit.client


def _case_row(case: Case, raw: bytes) -> dict[str, Any]:
    return {
        "id": case.id,
        "client": case.client,
        "created_ms": case.created_ms,
        "version": case.version,
        "state": case.state.value,
        "stage": case.stage.value,
        "holder": case.holder,
        "ended_ms": case.ended_ms or None,
        "wake_at": case.wake_at_ms or None,
        "data": raw.decode(),
        "kept": 0,
    }


def _task(row: Any) -> Task:
    return Task(
        row.id,
        row.case_id,
        row.kind,
        row.target,
        row.visible_at,
        decode_data(row.payload),
        row.attempts,
        row.fence,
        row.ordered_ms,
    )


def _entry(row: Any) -> Entry:
    return Entry(
        row.seq, row.at_ms, Kind(row.kind), row.actor, State(row.state), row.stage, decode_data(row.data)
    )


def _is_race(error: BaseException | None) -> bool:
    """Whether another replica wrote the same first: the same again may well succeed."""
    return isinstance(error, IntegrityError) or (
        isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", "") in {"40001", "40P01"}
    )


def _is_unavailable(error: BaseException | None) -> bool:
    """Whether the database is in trouble, whatever the unit: locked, full, gone."""
    if isinstance(error, PoolTimeoutError):
        return True
    return isinstance(error, DBAPIError) and not isinstance(error, DataError) and not _is_race(error)


def new_owner() -> str:
    """A name no other process and no earlier life of this one has."""
    return f"{os.getpid()}-{os.urandom(6).hex()}"


# All writing is by keys that come as one JSON parameter; how many, the planner can only guess, and a young table has no
# statistics: it must not read whole tables for a handful of keys.
_BY_INDEX = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
_DATABASE_CLOCK = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
_TASK_COLUMNS = (
    TASKS.c.id, TASKS.c.case_id, TASKS.c.kind, TASKS.c.target, TASKS.c.visible_at, TASKS.c.payload, TASKS.c.attempts,
    TASKS.c.fence, TASKS.c.ordered_ms,
)  # fmt: skip
_INSERTS = {table.name: Bulk.inserting(table) for table in (JOURNAL, TASKS, REQUESTS, MESSAGES, RESULTS)}
_CASES = Matching.finding(CASES, ["id"], ["id", "data"])
_CASES_LOCKED = Matching.finding(CASES, ["id"], ["id", "data"], locking=True)
_KNOWN_REQUESTS = Matching.finding(REQUESTS, ["client", "key"], ["client", "key", "digest", "case_id"])
_KNOWN_MESSAGES = Matching.finding(MESSAGES, ["id"], ["id"])
# Completes what is held and gives back its ids: whatever is not given back was taken over by somebody else.
_COMPLETE_HELD = Matching(
    TASKS,
    ["id", "fence"],
    "UPDATE tasks SET visible_at = NULL, owner = '' FROM {given} WHERE {matching} AND tasks.visible_at IS NOT NULL"
    " RETURNING tasks.id, tasks.fence",
)
_COMPLETE = Bulk.updating(TASKS, "id", fixed="visible_at = NULL, owner = '', payload = '{}'")
_PUT_BACK = Bulk.updating(TASKS, "id", ("visible_at", "dead"), fixed="owner = ''")
_END_SEARCH = Bulk.updating(
    TASKS,
    "case_id",
    fixed="visible_at = NULL, owner = ''",
    only=f"tasks.kind = '{machine.SEARCH}' AND tasks.visible_at IS NOT NULL",
)
_INSERT_CASE = Bulk.inserting(CASES)
_UPDATE_CASE = Bulk.updating(
    CASES, "id", ("version", "state", "stage", "holder", "ended_ms", "wake_at", "data")
)
_EXTENDED = (
    tuple_(TASKS.c.id, TASKS.c.fence).in_(bindparam("leases", expanding=True)),
    TASKS.c.visible_at.is_not(None),
    TASKS.c.owner != "",
)
_EXTEND = update(TASKS).where(*_EXTENDED).values(visible_at=bindparam("until")).returning(TASKS.c.id)
# what another replica is just completing needs no longer lease, and waiting for it here could deadlock
_EXTEND_UNLOCKED = (
    update(TASKS)
    .where(TASKS.c.id.in_(select(TASKS.c.id).where(*_EXTENDED).with_for_update(skip_locked=True)))
    .values(visible_at=bindparam("until"))
    .returning(TASKS.c.id)
)


def _waking(target: Any, *, shared: bool) -> Any:
    waiting = (
        TASKS.c.kind == bindparam("kind_"),
        target,
        TASKS.c.visible_at > bindparam("now_"),
        TASKS.c.owner == "",
    )
    statement = update(TASKS).values(visible_at=bindparam("now_"))
    if not shared:
        return statement.where(*waiting)
    # what another replica holds now is not waiting, and waiting for it here could deadlock
    return statement.where(
        TASKS.c.id.in_(select(TASKS.c.id).where(*waiting).with_for_update(skip_locked=True))
    )


_TO_ARCHIVE = TASKS.c.target == bindparam("target_")
_NAMING_ARCHIVE = TASKS.c.target.like(bindparam("target_"))  # searches name all archives they miss
_WAKE = [_waking(_TO_ARCHIVE, shared=False), _waking(_NAMING_ARCHIVE, shared=False)]
_WAKE_SHARED = [_waking(_TO_ARCHIVE, shared=True), _waking(_NAMING_ARCHIVE, shared=True)]


def _due(kind: Any) -> Any:
    return (
        select(TASKS.c.id)
        .where(TASKS.c.visible_at <= bindparam("now_"), kind.in_(bindparam("kinds", expanding=True)))
        .order_by(TASKS.c.visible_at)
        .limit(bindparam("most"))
    )


def _claiming(ids: Any) -> Any:
    return (
        update(TASKS)
        .where(TASKS.c.id.in_(ids))
        .values(
            owner=bindparam("owner_"),
            fence=TASKS.c.fence + 1,
            attempts=TASKS.c.attempts + 1,
            visible_at=bindparam("until"),
        )
        .returning(*_TASK_COLUMNS)
    )


def _next_of(kind: Any) -> Any:
    return (
        select(TASKS.c.visible_at)
        .where(TASKS.c.visible_at.is_not(None), kind.in_(bindparam("kinds", expanding=True)))
        .order_by(TASKS.c.visible_at)
        .limit(1)
    )


# The plus keeps SQLite from going through every timer of these kinds by the index on kinds.
_PLAIN_KIND = literal_column("+tasks.kind", Text)
_CLAIM = _claiming(_due(_PLAIN_KIND).scalar_subquery())
_NEXT_OF, _NEXT_OF_SHARED = _next_of(_PLAIN_KIND), _next_of(TASKS.c.kind)
# A CTE with row locks runs once, whatever the plan: a plain subquery might lease more than the limit.
_LOCKED = _due(TASKS.c.kind).with_for_update(skip_locked=True).cte("due")
_CLAIM_SHARED = _claiming(select(_LOCKED.c.id).scalar_subquery())
_DUE_CASES = (
    select(CASES.c.id)
    .where(CASES.c.wake_at <= bindparam("now_"))
    .order_by(CASES.c.wake_at)
    .limit(bindparam("most"))
)
_NEXT_TASK = (
    select(TASKS.c.visible_at).where(TASKS.c.visible_at.is_not(None)).order_by(TASKS.c.visible_at).limit(1)
)
_NEXT_CASE = select(CASES.c.wake_at).where(CASES.c.wake_at.is_not(None)).order_by(CASES.c.wake_at).limit(1)
__all__ = ["LEASE_MS", "Done", "Result", "Stage", "Store", "StoreError", "Unit", "new_owner"]
