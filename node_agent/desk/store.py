"""The desk's file: items, outgoing mail, what was seen, what was done, who may do it. One transaction for one action.

desk.sqlite lies in the data folder and is opened by the running agent and by `lantai-node desk` at the same time. Writers
take the write lock at once (BEGIN IMMEDIATE), so that of two who act on one item the second sees what the first did.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from federation.reasons import Reason, Refusal
from node_agent.desk import tables
from node_agent.desk.items import WITHDRAWN, Action, Item, Notice, Waiting
from node_agent.desk.transaction import Transaction

FILE = "desk.sqlite"
BUSY_S = 5.0
"""How long a writer waits for another process: far more than any action takes."""


class StoreVersionError(Exception):
    """The file was made by another version; the text says what to do."""


def check_version(found: int) -> None:
    """StoreVersionError unless a desk.sqlite whose `user_version` is `found` can be used."""
    if found != tables.SCHEMA_VERSION:
        raise StoreVersionError(
            f"{FILE} 由其他版本建立，请用该版本打开 · {FILE} was made by another version; open it with that one"
        )


class Store:
    """One connection to desk.sqlite, made on first use. Any thread may call; one at a time is let in."""

    def __init__(self, folder: Path, archive: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.archive = archive
        self._path = folder / FILE
        self._lock = threading.RLock()
        self.on_unreadable: Callable[[tuple[str, int]], None] = lambda _row: None
        """Told of each row that nobody can read, and so is left out of what was asked for, by a name that stays while it does."""
        if not self._path.exists():
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))  # people's requests are inside
        with _named_troubles():
            self._connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=BUSY_S
            )
            self._connection.text_factory = tables.text
            self._connection.execute("pragma journal_mode=wal")
            self._connection.execute("pragma synchronous=full")
            self._connection.execute("pragma secure_delete=on")  # what is forgotten leaves the file too
            self._make()

    def _make(self) -> None:
        do = self._connection.execute
        found = do("pragma user_version").fetchone()[0]
        if found == 0:
            do("begin immediate")
            try:
                if do("pragma user_version").fetchone()[0] == 0:  # another process may have been first
                    for statement in tables.TABLES.split(";\n"):
                        if statement.strip():
                            do(statement)
                do("commit")
            except BaseException:
                do("rollback")
                raise
        else:
            try:
                check_version(found)
            except StoreVersionError:
                self._connection.close()
                raise
        do(tables.IN_VAIN_INDEX)  # files of before it are the same but for this

    @contextlib.contextmanager
    def writing(self, now_ms: int) -> Iterator[Transaction]:
        """One transaction, durable when the block has ended; Refusal(STORE_UNAVAILABLE) when the file can not be written."""
        with self._lock, _named_troubles():
            self._connection.execute("begin immediate")
            try:
                yield Transaction(self._connection, self.archive, now_ms)
                self._connection.execute("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("rollback")
                raise

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        """What a statement gives, but for rows whose text nobody can read."""
        with self._lock, _named_troubles():
            rows = self._connection.execute(sql, values).fetchall()
        return [row for row in rows if tables.is_readable(row) or self._leave_out(row)]

    def _items(self, sql: str, *values: Any) -> list[Item]:
        """The same of items, but for those in a state nobody knows."""
        found = []
        for row in self._rows(sql, *values):
            try:
                found.append(tables.item(row))
            except tables.UnreadableItemError:
                self._leave_out(row)
        return found

    def _leave_out(self, row: tuple[Any, ...]) -> bool:
        self.on_unreadable(("row", hash(row)))
        return False

    # reading -----------------------------------------------------------------------------------------------------

    def item(self, case_id: str) -> Item | None:
        """The newest question of a case. UnreadableItemError when it is in a state nobody knows."""
        rows = self._rows(tables.NEWEST_OF_CASE, case_id)
        return tables.item(rows[0]) if rows else None

    def open_items(self) -> list[Item]:
        return self._items(tables.OPEN_ITEMS)

    def ended_items(self, limit: int) -> list[Item]:
        """What was decided or closed, the latest first."""
        return self._items(
            f"{tables.ITEM} where state not in ({tables.OPEN_STATES}) order by max(decided_ms, received_ms) desc limit ?",
            limit,
        )

    def outbox(self, limit: int) -> list[Waiting]:
        """The oldest waiting message of each case, oldest first: a case's messages are sent one after the other."""
        rows = self._rows(
            f"{tables.OUTBOX} where seq in"  # noqa: S608 - a statement of our own
            " (select min(seq) from outbox where receipted_ms = 0 group by case_id) order by seq limit ?",
            limit,
        )
        return [Waiting(*row) for row in rows]

    def issuing_items(self, until_ms: int, limit: int) -> list[Item]:
        """Items whose document is due to be made, the longest waiting first."""
        return self._items(
            f"{tables.ITEM} where state = 'issuing' and issue_due_ms <= ? order by issue_due_ms limit ?",
            until_ms,
            limit,
        )

    def in_vain_items(self, limit: int) -> list[Item]:
        """Items whose case was withdrawn, or had ended by the gateway's word, after their document had been ordered."""
        reasons = (WITHDRAWN, Reason.ILLEGAL_TRANSITION.value)
        return self._items(
            f"{tables.ITEM} where {tables.IN_VAIN} and reason in (?, ?) order by issue_due_ms limit ?",
            *reasons,
            limit,
        )

    def notices(self, until_ms: int, limit: int) -> list[Notice]:
        """Calls that are due: of each address the oldest, so that one that hangs holds up no other."""
        rows = self._rows(
            "select seq, at_ms, case_id, grp, stage, rung, until_ms, address, tries from notices where seq in"
            " (select min(seq) from notices where due_ms <= ? group by address) order by seq limit ?",
            until_ms,
            limit,
        )
        return [Notice(*row) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many items stand in each state in which somebody must still do something."""
        rows = self._rows(
            f"select state, count(*) from items where state in ({tables.OPEN_STATES}) group by state"  # noqa: S608
            " union all select state, count(*) from items where state = 'issuing' group by state"
        )
        return {str(state): int(count) for state, count in rows}

    def oldest_waiting_ms(self) -> int | None:
        """Since when the oldest item waits for a reviewer; None = none does."""
        row = self._rows("select min(queued_ms) from items where state = 'waiting'")[0]
        return None if row[0] is None else int(row[0])

    def has_seen(self, message_id: bytes) -> bool:
        return bool(self._rows("select 1 from seen where id = ?", message_id))

    def waiting_count(self) -> tuple[int, int]:
        """(messages without a receipt, when the oldest happened)."""
        row = self._rows("select count(*), coalesce(min(happened_ms), 0) from outbox where receipted_ms = 0")[
            0
        ]
        return int(row[0]), int(row[1])

    def actions(self, after: int = 0, case_id: str = "", limit: int = 500) -> list[Action]:
        """What was done after a sequence number, in order; of one case or of all."""
        columns = "seq, at_ms, case_id, grp, actor, action, state, version, detail"
        where, values = ("case_id = ? and", (case_id,)) if case_id else ("", ())
        rows = self._rows(
            f"select {columns} from actions where {where} seq > ? order by seq limit ?",  # noqa: S608
            *values,
            after,
            limit,
        )
        return [_action(row) for row in rows]

    def done_after(self, seq: int, limit: int = 500) -> list[tuple[int, str, str]]:
        """(seq, actor, action) of what was done after a sequence number, in order: what counting needs."""
        return self._rows(
            "select seq, actor, action from actions where seq > ? order by seq limit ?", seq, limit
        )

    def last_action(self) -> int:
        return int(self._rows("select coalesce(max(seq), 0) from actions")[0][0])

    def data_version(self) -> int:
        """Changes when another process has written."""
        return int(self._rows("pragma data_version")[0][0])

    # users -------------------------------------------------------------------------------------------------------

    def users(self) -> list[tuple[str, str, int]]:
        """(name, role, since) of everybody who may use the desk."""
        return [
            tuple(row)
            for row in self._rows(
                "select name, role, created_ms from users where removed_ms = 0 order by name"
            )
        ]

    def role(self, name: str) -> str:
        """A user's role; "" when there is no such user."""
        rows = self._rows("select role from users where name = ? and removed_ms = 0", name)
        return str(rows[0][0]) if rows else ""

    def user_of(self, digest: bytes) -> tuple[str, str] | None:
        """(name, role) of the user whose token has this SHA-256."""
        rows = self._rows("select name, role from users where hash = ? and removed_ms = 0", digest)
        return (str(rows[0][0]), str(rows[0][1])) if rows else None

    def put_user(self, name: str, role: str, digest: bytes, now_ms: int) -> bool:
        """Add a user, or one removed earlier again; False when the name is in use."""
        with self.writing(now_ms):
            done = self._connection.execute(
                "insert into users(name, role, hash, created_ms) values (?,?,?,?) on conflict(name) do update set"
                " role = excluded.role, hash = excluded.hash, created_ms = excluded.created_ms,"
                " removed_ms = 0 where removed_ms > 0",
                (name, role, digest, now_ms),
            )
            return done.rowcount == 1

    def change_token(self, name: str, digest: bytes, now_ms: int) -> bool:
        """Give a user another token; the old one ends. False when there is no such user."""
        with self.writing(now_ms):
            done = self._connection.execute(
                "update users set hash = ? where name = ? and removed_ms = 0", (digest, name)
            )
            return done.rowcount == 1

    def remove_user(self, name: str, now_ms: int) -> bool:
        with self.writing(now_ms):
            done = self._connection.execute(
                "update users set removed_ms = ? where name = ? and removed_ms = 0", (now_ms, name)
            )
            return done.rowcount == 1

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _action(row: tuple[Any, ...]) -> Action:
    """A line as a value; one whose details nobody can read is shown without them."""
    seq, at_ms, case_id, group, actor, action, state, version, written = row
    detail: dict[str, Any] = {}
    with contextlib.suppress(msgspec.MsgspecError):
        detail = msgspec.json.decode(written, type=dict[str, Any])
    return Action(seq, at_ms, case_id, group, actor, action, state, version, detail)


@contextlib.contextmanager
def _named_troubles() -> Iterator[None]:
    """A locked, full or broken disk is one named reason; SQLite's own texts never leave."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a mistake of ours, not of the disk
    except (sqlite3.DatabaseError, tables.UnreadableItemError) as error:
        raise Refusal(Reason.STORE_UNAVAILABLE, retry_after_s=1.0) from error
