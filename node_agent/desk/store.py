"""The desk's file: items, outgoing mail, what was seen, what was done, who may do it. One transaction for one action.

desk.sqlite lies in the data folder and is opened by the running agent and by `lantai-node desk` at the same time. Writers
take the write lock at once (BEGIN IMMEDIATE), so that of two who act on one item the second sees what the first did.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from federation.mail import FromDesk, mail_id, write
from federation.reasons import Reason, Refusal

FILE = "desk.sqlite"
SCHEMA_VERSION = 2
MOST_NOTICES = 1_000
WITHDRAWN = "withdrawn"
"""Reason of an item whose applicant no longer asks."""

BUSY_S = 5.0
"""How long a writer waits for another process: far more than any action takes."""


class State(StrEnum):
    """Where an item stands at this desk."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    AWAITING_EVIDENCE = "awaiting_evidence"
    RETRIEVING = "retrieving"
    APPROVED = (
        "approved"  # the gateway has not taken the decision yet; a deputy's stays so, for the holder issues
    )
    ISSUING = "issuing"  # the gateway has taken it: the document is being made
    ISSUED = "issued"
    REFUSED = "refused"
    REFERRED = "referred"
    CLOSED = (
        "closed"  # withdrawn, taken by another desk, superseded, or not accepted by the gateway: see `reason`
    )


OPEN = frozenset({State.WAITING, State.CLAIMED, State.AWAITING_EVIDENCE, State.RETRIEVING})
DECIDED = frozenset({State.APPROVED, State.ISSUING, State.ISSUED, State.REFUSED, State.REFERRED})


class Item(msgspec.Struct):
    """One question of one case. Times are milliseconds of UTC, 0 = not yet.

    `version` grows whenever somebody else's view of the item would be wrong; renewing a lease and being reminded leave
    it. `dispatch` is the request as it came; None when something about it came before it did.
    """

    case_id: str
    grp: int
    state: State
    version: int = 1
    mails: int = 0
    heard: int = 0
    """The latest word of the gateway on whether this desk has the item: `seq` of its message."""
    dispatch: bytes | None = None
    on_behalf_of: str = ""
    received_ms: int = 0
    queued_ms: int = 0
    pick_up_until_ms: int = 0
    review_until_ms: int = 0
    target_until_ms: int = 0
    reviewer: str = ""
    lease_until_ms: int = 0
    rung: int = 0
    told: int = -1
    told_to: str = ""
    """Who was told last, names joined by spaces: when others come on duty, they are told too."""
    proofs: bytes = b"[]"
    archival_code: str = ""
    release: bytes = b"{}"
    number: str = ""
    reason: str = ""
    decided_by: str = ""
    decided_ms: int = 0
    rule: str = ""
    """The release rule that decided, with its version; "" = a person."""
    document: str = ""
    form: str = ""
    credential: str = ""
    pages: bytes = b"[]"
    """Pages of the record's scans a reviewer chose for a certified copy, with what is hidden on each; none = no copy."""
    issue_due_ms: int = 0
    issue_tries: int = 0
    last: str = ""
    """Who did what last, so that the same request sent twice is answered alike."""


_FIELDS = Item.__struct_fields__
_BLOBS = frozenset({"dispatch", "proofs", "release", "pages"})
_TEXTS = frozenset(
    {
        "case_id",
        "state",
        "on_behalf_of",
        "reviewer",
        "archival_code",
        "number",
        "reason",
        "decided_by",
        "rule",
        "document",
        "form",
        "credential",
        "told_to",
        "last",
    }
)
_COLUMNS = ", ".join(
    f"{name} {'blob' if name in _BLOBS else 'text not null' if name in _TEXTS else 'integer not null'}"
    for name in _FIELDS
)
_OPEN_STATES = ", ".join(f"'{state}'" for state in sorted(OPEN))
# items that ended after their document had been ordered, until somebody has looked whether it was made
_IN_VAIN = "state = 'closed' and issue_due_ms > 0"
_IN_VAIN_INDEX = f"create index if not exists in_vain on items(issue_due_ms) where {_IN_VAIN}"
_TABLES = f"""
create table items({_COLUMNS}, primary key(case_id, grp)) strict, without rowid;
create index open_items on items(queued_ms) where state in ({_OPEN_STATES});
create index rule_releases on items(decided_ms) where decided_by = 'rule';
create index issuing on items(issue_due_ms) where state = 'issuing';
{_IN_VAIN_INDEX};
create table outbox(seq integer primary key autoincrement, id blob not null unique, case_id text not null,
  grp integer not null, kind text not null, body blob not null, happened_ms integer not null,
  receipted_ms integer not null default 0, reason text not null default '') strict;
create index unsent on outbox(case_id, seq) where receipted_ms = 0;
create table seen(id blob primary key, at_ms integer not null) strict, without rowid;
create table actions(seq integer primary key autoincrement, at_ms integer not null, case_id text not null,
  grp integer not null, actor text not null, action text not null, state text not null, version integer not null,
  detail text not null) strict;
create index case_actions on actions(case_id, seq);
create table users(name text primary key, role text not null, hash blob not null unique,
  created_ms integer not null, removed_ms integer not null default 0) strict, without rowid;
create table notices(seq integer primary key autoincrement, at_ms integer not null, case_id text not null,
  grp integer not null, stage text not null, rung integer not null, until_ms integer not null, address text not null,
  due_ms integer not null, tries integer not null default 0) strict;
create table numbers(year integer primary key, last integer not null) strict;
pragma user_version = {SCHEMA_VERSION};
"""
_SAVE = (
    f"insert into items({', '.join(_FIELDS)}) values ({', '.join('?' * len(_FIELDS))}) on conflict(case_id, grp) do update set "  # noqa: S608
    + ", ".join(f"{name} = excluded.{name}" for name in _FIELDS if name not in {"case_id", "grp"})
)
_ITEM = f"select {', '.join(_FIELDS)} from items"  # noqa: S608 - names of our own columns


class StoreVersionError(Exception):
    """The file was made by another version; the text says what to do."""


class Action(msgspec.Struct, frozen=True):
    """One line of what was done: `actor` is a user's name, gateway, clock or rule. Stays at the archive."""

    seq: int
    at_ms: int
    case_id: str
    group: int
    actor: str
    action: str
    state: str
    version: int
    detail: dict[str, Any]


class Waiting(msgspec.Struct, frozen=True):
    """A message that has no receipt yet."""

    id: bytes
    case_id: str
    group: int
    kind: str
    body: bytes
    happened_ms: int


class Notice(msgspec.Struct, frozen=True):
    """Somebody should look, and is to be called at `address`. `rung`: 0 first reviewer, 1 second, 2 duty lead."""

    seq: int
    at_ms: int
    case_id: str
    group: int
    stage: str
    rung: int
    until_ms: int
    address: str
    tries: int


class Transaction:
    """What one action may read and write; all of it is kept or none."""

    def __init__(self, connection: sqlite3.Connection, archive: str, now_ms: int) -> None:
        self._do = connection.execute
        self._archive, self.now_ms = archive, now_ms

    def item(self, case_id: str, group: int) -> Item | None:
        return _one(self._do(f"{_ITEM} where case_id = ? and grp = ?", (case_id, group)))

    def newest(self, case_id: str) -> Item | None:
        return _one(self._do(f"{_ITEM} where case_id = ? order by grp desc limit 1", (case_id,)))

    def open_of_case(self, case_id: str, up_to_group: int) -> list[Item]:
        found = self._do(
            f"{_ITEM} where case_id = ? and grp <= ? and state in ({_OPEN_STATES})", (case_id, up_to_group)
        )
        return [_item(row) for row in found]

    def open_items(self) -> list[Item]:
        return [_item(row) for row in self._do(f"{_ITEM} where state in ({_OPEN_STATES}) order by queued_ms")]

    def save(self, item: Item) -> None:
        self._do(_SAVE, tuple(getattr(item, name) for name in _FIELDS))

    def act(self, item: Item, actor: str, action: str, detail: dict[str, Any] | None = None) -> None:
        """Write down what was done; the item as it stands after it."""
        text = msgspec.json.encode(detail or {}).decode()
        self._do(
            "insert into actions(at_ms, case_id, grp, actor, action, state, version, detail) values (?,?,?,?,?,?,?,?)",
            (self.now_ms, item.case_id, item.grp, actor, action, item.state, item.version, text),
        )

    def post(self, item: Item, message: FromDesk) -> None:
        """Put a message into the outbox, under an identifier derived from its place among the item's messages."""
        item.mails += 1
        name = mail_id(f"{self._archive}:{item.case_id}:{item.grp}:{item.mails}")
        kind = str(type(message).__struct_config__.tag)
        self._do(
            "insert into outbox(id, case_id, grp, kind, body, happened_ms) values (?,?,?,?,?,?)",
            (name, item.case_id, item.grp, kind, write(message), self.now_ms),
        )

    def notify(self, item: Item, stage: str, until_ms: int, addresses: tuple[str, ...]) -> None:
        """Have people called; of too many waiting calls the oldest are dropped: the queue itself still shows the items."""
        for address in addresses:
            self._do(
                "insert into notices(at_ms, case_id, grp, stage, rung, until_ms, address, due_ms) values (?,?,?,?,?,?,?,?)",
                (self.now_ms, item.case_id, item.grp, stage, item.rung, until_ms, address, self.now_ms),
            )
        if addresses:
            self._do("delete from notices where seq <= (select max(seq) from notices) - ?", (MOST_NOTICES,))

    def called(self, seq: int) -> None:
        """A notice was delivered, or is no longer worth it."""
        self._do("delete from notices where seq = ?", (seq,))

    def call_again(self, seq: int, due_ms: int) -> None:
        self._do("update notices set tries = tries + 1, due_ms = ? where seq = ?", (due_ms, seq))

    def take(self, message_id: bytes) -> bool:
        """Whether a message is new; from now on it is not."""
        done = self._do(
            "insert into seen(id, at_ms) values (?,?) on conflict do nothing", (message_id, self.now_ms)
        )
        return done.rowcount == 1

    def waiting(self, message_id: bytes) -> Waiting | None:
        row = self._do(
            "select id, case_id, grp, kind, body, happened_ms from outbox where id = ? and receipted_ms = 0",
            (message_id,),
        ).fetchone()
        return Waiting(*row) if row else None

    def receipt(self, message_id: bytes, reason: str) -> None:
        self._do(
            "update outbox set receipted_ms = ?, reason = ? where id = ?", (self.now_ms, reason, message_id)
        )

    def next_number(self, year: int) -> str:
        """The archive's next decision number of a year, never given twice."""
        last = self._do(
            "insert into numbers(year, last) values (?, 1) on conflict(year) do update set last = last + 1 returning last",
            (year,),
        ).fetchone()[0]
        return f"{year:04d}-{last:06d}"

    def released_since(self, since_ms: int) -> int:
        """How many items the release rule has decided since a moment."""
        row = self._do(
            "select count(*) from items where decided_by = 'rule' and decided_ms >= ?", (since_ms,)
        ).fetchone()
        return int(row[0])

    def forget_before(self, before_ms: int) -> None:
        """Drop identifiers of messages nobody will send again, and receipted mail."""
        self._do("delete from seen where at_ms < ?", (before_ms,))
        self._do("delete from outbox where receipted_ms > 0 and receipted_ms < ?", (before_ms,))

    def forget_people(self, before_ms: int) -> int:
        """Take requests and proofs out of items that ended before; what was decided, when and by whom stays. How many."""
        is_over = f"state not in ({_OPEN_STATES}, 'issuing') and max(decided_ms, received_ms) < ?"
        done = self._do(
            "update items set dispatch = null, proofs = cast('[]' as blob)"  # noqa: S608 - states are our own words
            f" where dispatch is not null and {is_over}",
            (before_ms,),
        )
        return done.rowcount


class Store:
    """One connection to desk.sqlite, made on first use. Any thread may call; one at a time is let in."""

    def __init__(self, folder: Path, archive: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.archive = archive
        self._path = folder / FILE
        self._lock = threading.RLock()
        if not self._path.exists():
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))  # people's requests are inside
        with _named_troubles():
            self._connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=BUSY_S
            )
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
                    for statement in _TABLES.split(";\n"):
                        if statement.strip():
                            do(statement)
                do("commit")
            except BaseException:
                do("rollback")
                raise
        elif found != SCHEMA_VERSION:
            self._connection.close()
            raise StoreVersionError(
                f"{FILE} 由其他版本建立，请用该版本打开 · {FILE} was made by another version; open it with that one"
            )
        do(_IN_VAIN_INDEX)  # files of before it are the same but for this

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
        with self._lock, _named_troubles():
            return self._connection.execute(sql, values).fetchall()

    # reading -----------------------------------------------------------------------------------------------------

    def item(self, case_id: str) -> Item | None:
        """The newest question of a case."""
        rows = self._rows(f"{_ITEM} where case_id = ? order by grp desc limit 1", case_id)
        return _item(rows[0]) if rows else None

    def open_items(self) -> list[Item]:
        return [
            _item(row) for row in self._rows(f"{_ITEM} where state in ({_OPEN_STATES}) order by queued_ms")
        ]

    def ended_items(self, limit: int) -> list[Item]:
        """What was decided or closed, the latest first."""
        rows = self._rows(
            f"{_ITEM} where state not in ({_OPEN_STATES}) order by max(decided_ms, received_ms) desc limit ?",
            limit,
        )
        return [_item(row) for row in rows]

    def outbox(self, limit: int) -> list[Waiting]:
        """The oldest waiting message of each case, oldest first: a case's messages are sent one after the other."""
        rows = self._rows(
            "select id, case_id, grp, kind, body, happened_ms from outbox where seq in"
            " (select min(seq) from outbox where receipted_ms = 0 group by case_id) order by seq limit ?",
            limit,
        )
        return [Waiting(*row) for row in rows]

    def issuing_items(self, until_ms: int, limit: int) -> list[Item]:
        """Items whose document is due to be made, the longest waiting first."""
        rows = self._rows(
            f"{_ITEM} where state = 'issuing' and issue_due_ms <= ? order by issue_due_ms limit ?",
            until_ms,
            limit,
        )
        return [_item(row) for row in rows]

    def in_vain_items(self, limit: int) -> list[Item]:
        """Items whose case was withdrawn, or had ended by the gateway's word, after their document had been ordered."""
        reasons = (WITHDRAWN, Reason.ILLEGAL_TRANSITION.value)
        rows = self._rows(
            f"{_ITEM} where {_IN_VAIN} and reason in (?, ?) order by issue_due_ms limit ?", *reasons, limit
        )
        return [_item(row) for row in rows]

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
            f"select state, count(*) from items where state in ({_OPEN_STATES}) group by state"  # noqa: S608
            " union all select state, count(*) from items where state = 'issuing' group by state"
        )
        return {str(state): int(count) for state, count in rows}

    def notice_count(self) -> int:
        return int(self._rows("select count(*) from notices")[0][0])

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
        return [
            Action(seq, at, case, group, actor, action, state, version, msgspec.json.decode(detail))
            for seq, at, case, group, actor, action, state, version, detail in rows
        ]

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


@contextlib.contextmanager
def _named_troubles() -> Iterator[None]:
    """A locked, full or broken disk is one named reason; SQLite's own texts never leave."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise  # a mistake of ours, not of the disk
    except sqlite3.DatabaseError as error:
        raise Refusal(Reason.STORE_UNAVAILABLE, retry_after_s=1.0) from error


def _one(found: sqlite3.Cursor) -> Item | None:
    row = found.fetchone()
    return _item(row) if row else None


def _item(row: tuple[Any, ...]) -> Item:
    item = Item(*row)
    item.state = State(item.state)
    return item
