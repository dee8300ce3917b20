"""Upkeep of the store: what is forgotten and when, dead letters, stopped calls, how long archives were there.

Functions over one transaction's connection: the gateway runs them in its writer, the operator's commands by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.cases.case import HOOK, UNREADABLE, Case, decode_case, encode_case
from gateway.cases.schema import AVAILABILITY, CASES, MESSAGES, REQUESTS, STOPPED_CALLS, TASKS

DAY_MS = 86_400_000
BATCH = 200
"""Cases of one transaction: upkeep must not hold up the living."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Days things are kept. Tasks and personal data: after their case has ended. Idempotency keys: what the contract
    says. Identifiers of desks' messages: longer than any desk goes on sending one again.
    """

    tasks: int = 1
    personal_data: int = 180
    requests: int = 7
    messages: int = 100
    availability: int = 400


Place = tuple[int, str]
"""When an ended case ended, and its id: where a round of forgetting has come to."""

BEGINNING: Place = (0, "")


@dataclass(frozen=True, slots=True)
class Tidied:
    """One batch: how many rows went or changed, the cases whose personal data are gone now, how many could not be read, and
    the place after which the next batch begins.
    """

    gone: int
    forgotten: list[str]
    unreadable: int
    upto: Place

    @property
    def is_last(self) -> bool:
        """Whether it found nothing: the round is over."""
        return not self.gone and not self.unreadable


def tidy(connection: Connection, now_ms: int, keep: Keep, after: Place = BEGINNING) -> Tidied:
    """One batch of forgetting. A case nobody can read stays as it is and is tried again in the next round, which begins at
    `BEGINNING`: a later version may read it, and until then it holds up no other.
    """
    ended = [id_ for _at, id_ in _ended(connection, 0, BEGINNING, now_ms - keep.tasks * DAY_MS)]
    if ended:
        connection.execute(
            delete(TASKS).where(TASKS.c.case_id.in_(ended), TASKS.c.visible_at.is_(None), TASKS.c.dead == 0)
        )
        connection.execute(update(CASES).where(CASES.c.id.in_(ended)).values(kept=1))
    due = _ended(connection, 1, after, now_ms - keep.personal_data * DAY_MS)
    forgotten = _forget(connection, [id_ for _at, id_ in due], now_ms)
    gone = len(ended) + len(forgotten)
    for table, days in ((REQUESTS, keep.requests), (MESSAGES, keep.messages)):
        gone += connection.execute(delete(table).where(table.c.at_ms < now_ms - days * DAY_MS)).rowcount
    oldest = now_ms // DAY_MS - keep.availability
    gone += connection.execute(delete(AVAILABILITY).where(AVAILABILITY.c.day < oldest)).rowcount
    return Tidied(gone, forgotten, len(due) - len(forgotten), due[-1] if due else after)


def _ended(connection: Connection, kept: int, after: Place, before_ms: int) -> list[Place]:
    at, id_ = CASES.c.ended_ms, CASES.c.id
    statement = (
        select(at, id_)
        .where(CASES.c.kept == kept, at >= after[0], at < before_ms, (at > after[0]) | (id_ > after[1]))
        .order_by(at, id_)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    return [(row[0], row[1]) for row in connection.execute(statement)]


def _forget(connection: Connection, ids: Sequence[str], now_ms: int) -> list[str]:
    """Take the personal data out of those of the cases that can be read; which they were."""
    forgotten = []
    for case_id, data in connection.execute(
        select(CASES.c.id, CASES.c.data).where(CASES.c.id.in_(ids))
    ).all():
        try:
            case = decode_case(data)
        except UNREADABLE:
            continue
        values = {"data": encode_case(without_personal_data(case, now_ms)).decode(), "kept": 2}
        connection.execute(update(CASES).where(CASES.c.id == case_id).values(values))
        forgotten.append(case_id)
    if forgotten:
        connection.execute(delete(TASKS).where(TASKS.c.case_id.in_(forgotten)))
    return forgotten


def without_personal_data(case: Case, now_ms: int) -> Case:
    """What is left of a case: what it was about in codes, what became of it, its minutes."""
    kept = ("category", "purpose", "applicant")
    case.request = {name: case.request[name] for name in kept if name in case.request}
    case.candidates, case.selected = [], ""
    case.decision = {name: value for name, value in case.decision.items() if name != "archival_code"}
    case.forgotten_ms = now_ms
    return case


# Dead letters --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message or call that was given up: it stays until the operator sends it again or its case is forgotten."""

    id: str
    case_id: str
    kind: str
    target: str
    ordered_ms: int
    attempts: int


def dead_letters(connection: Connection, target: str = "", limit: int = 1000) -> list[DeadLetter]:
    """The oldest dead letters, of one platform or archive or of all."""
    columns = (
        TASKS.c.id,
        TASKS.c.case_id,
        TASKS.c.kind,
        TASKS.c.target,
        TASKS.c.ordered_ms,
        TASKS.c.attempts,
    )
    statement = select(*columns).where(TASKS.c.dead == 1).order_by(TASKS.c.ordered_ms).limit(limit)
    if target:
        statement = statement.where(TASKS.c.target == target)
    return [DeadLetter(*row) for row in connection.execute(statement)]


def replay(connection: Connection, now_ms: int, *, target: str = "", ids: Sequence[str] = ()) -> int:
    """Make dead letters due again, with their whole schedule before them, and let their platforms be called again."""
    which = [TASKS.c.dead == 1]
    if target:
        which.append(TASKS.c.target == target)
    if ids:
        which.append(TASKS.c.id.in_(list(ids)))
    clients = set(connection.execute(select(TASKS.c.target).where(*which, TASKS.c.kind == HOOK)).scalars())
    if target:
        clients.add(target)
    connection.execute(delete(STOPPED_CALLS).where(STOPPED_CALLS.c.client.in_(sorted(clients))))
    values = {"dead": 0, "visible_at": now_ms, "ordered_ms": now_ms, "attempts": 0, "owner": ""}
    return connection.execute(update(TASKS).where(*which).values(values)).rowcount


def bury(connection: Connection, task_id: str) -> None:
    """A message its receiver will never take."""
    connection.execute(
        update(TASKS)
        .where(TASKS.c.id == task_id, TASKS.c.visible_at.is_not(None))
        .values(visible_at=None, dead=1, owner="")
    )


# Stopped calls -------------------------------------------------------------------------------------------------


def stop_calls(connection: Connection, client: str, now_ms: int, *, but: str = "") -> None:
    """The platform said that it wants no more calls: none is made, all that wait `but` one become dead letters."""
    if not calls_stopped(connection, client):
        connection.execute(insert(STOPPED_CALLS), [{"client": client, "at_ms": now_ms}])
    waiting = (
        TASKS.c.kind == HOOK, TASKS.c.target == client, TASKS.c.visible_at.is_not(None), TASKS.c.id != but
    )  # fmt: skip
    connection.execute(update(TASKS).where(*waiting).values(visible_at=None, dead=1, owner=""))


def calls_stopped(connection: Connection, client: str) -> bool:
    found = select(func.count()).where(STOPPED_CALLS.c.client == client)
    return bool(connection.execute(found).scalar_one())


# Availability --------------------------------------------------------------------------------------------------


def add_availability(connection: Connection, seen: Mapping[tuple[str, int], tuple[int, int]]) -> None:
    """Add to (archive, day) the milliseconds (up, watched) that this replica has seen."""
    if not seen:
        return
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as upsert
    else:
        from sqlalchemy.dialects.sqlite import insert as upsert  # type: ignore[assignment]
    statement = upsert(AVAILABILITY)
    statement = statement.on_conflict_do_update(
        index_elements=["archive", "day"],
        set_={
            "up_ms": AVAILABILITY.c.up_ms + statement.excluded.up_ms,
            "watched_ms": AVAILABILITY.c.watched_ms + statement.excluded.watched_ms,
        },
    )
    rows = [
        {"archive": archive, "day": day, "up_ms": up, "watched_ms": watched}
        for (archive, day), (up, watched) in sorted(seen.items())  # one order: replicas must not deadlock
    ]
    connection.execute(statement, rows)


def availability(connection: Connection, archive: str, since_day: int) -> tuple[int, int]:
    """(up, watched) milliseconds of an archive since a day."""
    sums = select(func.sum(AVAILABILITY.c.up_ms), func.sum(AVAILABILITY.c.watched_ms)).where(
        AVAILABILITY.c.archive == archive, AVAILABILITY.c.day >= since_day
    )
    up, watched = connection.execute(sums).one()
    return int(up or 0), int(watched or 0)


class Presence:
    """Adds up, in memory, how long archives had a session; `take` gives what is to be written."""

    def __init__(self, archives: Iterable[str]) -> None:
        self._archives = list(archives)
        self._last_ms = 0
        self._seen: dict[tuple[str, int], tuple[int, int]] = {}

    def look(self, now_ms: int, present: Iterable[str], longest_ms: int = 10_000) -> None:
        """What holds now held since the last look; a look after more than `longest_ms` says nothing of the time before."""
        passed = now_ms - self._last_ms
        self._last_ms = now_ms
        if not 0 < passed <= longest_ms:
            return
        there, day = set(present), now_ms // DAY_MS
        for archive in self._archives:
            up, watched = self._seen.get((archive, day), (0, 0))
            self._seen[archive, day] = (up + passed * (archive in there), watched + passed)

    def take(self) -> dict[tuple[str, int], tuple[int, int]]:
        seen, self._seen = self._seen, {}
        return seen

    def give_back(self, seen: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        """It could not be written."""
        for key, (up, watched) in seen.items():
            more = self._seen.get(key, (0, 0))
            self._seen[key] = (up + more[0], watched + more[1])
