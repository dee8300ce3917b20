"""What one action reads and writes in the desk's file, all of it or nothing."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from federation.mail import FromDesk, mail_id, write
from node_agent.desk import tables
from node_agent.desk.items import Item, Waiting

MOST_NOTICES = 1_000
"""Calls of people that wait at a time."""


class Transaction:
    """What one action may read and write; all of it is kept or none."""

    def __init__(self, connection: sqlite3.Connection, archive: str, now_ms: int) -> None:
        self._do = connection.execute
        self._archive, self.now_ms = archive, now_ms

    def item(self, case_id: str, group: int) -> Item | None:
        return self._one(f"{tables.ITEM} where case_id = ? and grp = ?", (case_id, group))

    def newest(self, case_id: str) -> Item | None:
        return self._one(tables.NEWEST_OF_CASE, (case_id,))

    def open_of_case(self, case_id: str, up_to_group: int) -> list[Item]:
        found = self._do(
            f"{tables.ITEM} where case_id = ? and grp <= ? and state in ({tables.OPEN_STATES})",
            (case_id, up_to_group),
        )
        return [tables.item(row) for row in found]

    def save(self, item: Item) -> None:
        self._do(tables.SAVE_ITEM, msgspec.structs.astuple(item))

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
        row = self._do(f"{tables.OUTBOX} where id = ? and receipted_ms = 0", (message_id,)).fetchone()
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
        """Take requests and proofs out of items that ended before; what was decided, when and by whom stays. How many. What came
        without a request, or before it, counts from its arrival.
        """
        is_over = (
            f"state not in ({tables.OPEN_STATES}, 'issuing') and max(decided_ms, received_ms, queued_ms) < ?"
        )
        done = self._do(
            "update items set dispatch = null, proofs = cast('[]' as blob)"  # noqa: S608 - states are our own words
            f" where (dispatch is not null or proofs <> cast('[]' as blob)) and {is_over}",
            (before_ms,),
        )
        return done.rowcount

    def _one(self, sql: str, values: tuple[Any, ...]) -> Item | None:
        row = self._do(sql, values).fetchone()
        return tables.item(row) if row else None
