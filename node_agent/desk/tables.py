"""The tables of desk.sqlite, what is said of items and mail in more than one place, and rows of items as values again."""

from __future__ import annotations

from functools import partial
from typing import Any

from node_agent.desk.items import OPEN, Item, State

SCHEMA_VERSION = 2

_FIELDS = Item.__struct_fields__
_BLOBS = frozenset({"dispatch", "proofs", "release", "pages"})
_TEXTS = frozenset({
    "case_id", "state", "on_behalf_of", "reviewer", "archival_code", "number", "reason", "decided_by", "rule", "document",
    "form", "credential", "told_to", "last",
})  # fmt: skip
_COLUMNS = ", ".join(
    f"{name} {'blob' if name in _BLOBS else 'text not null' if name in _TEXTS else 'integer not null'}"
    for name in _FIELDS
)
OPEN_STATES = ", ".join(f"'{state}'" for state in sorted(OPEN))
"""The words of a list in SQL."""

IN_VAIN = "state = 'closed' and issue_due_ms > 0"
"""Condition of items that ended after their document had been ordered, until somebody has looked whether it was made."""

IN_VAIN_INDEX = f"create index if not exists in_vain on items(issue_due_ms) where {IN_VAIN}"
TABLES = f"""
create table items({_COLUMNS}, primary key(case_id, grp)) strict, without rowid;
create index open_items on items(queued_ms) where state in ({OPEN_STATES});
create index rule_releases on items(decided_ms) where decided_by = 'rule';
create index issuing on items(issue_due_ms) where state = 'issuing';
{IN_VAIN_INDEX};
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
ITEM = f"select {', '.join(_FIELDS)} from items"  # noqa: S608 - names of our own columns
"""Items, as `item` reads them."""

SAVE_ITEM = (
    f"insert into items({', '.join(_FIELDS)}) values ({', '.join('?' * len(_FIELDS))}) on conflict(case_id, grp) do update set "  # noqa: S608
    + ", ".join(f"{name} = excluded.{name}" for name in _FIELDS if name not in {"case_id", "grp"})
)
"""Put in or replace an item, given as its values in order."""

NEWEST_OF_CASE = f"{ITEM} where case_id = ? order by grp desc limit 1"
OPEN_ITEMS = f"{ITEM} where state in ({OPEN_STATES}) order by queued_ms"
OUTBOX = "select id, case_id, grp, kind, body, happened_ms from outbox"
"""Messages, as `Waiting` holds them."""


text = partial(str, encoding="utf-8", errors="surrogateescape")
"""Text of the file. A damaged one is given as it can be, for whoever reads the row to refuse it: SQLite's driver would refuse the
whole answer, with all the other rows in it.
"""


class UnreadableItemError(ValueError):
    """A row that is damaged, or was written by a later version."""


def is_readable(row: tuple[Any, ...]) -> bool:
    """Whether all text of a row is text."""
    try:
        for value in row:
            if isinstance(value, str) and not value.isascii():
                value.encode()
    except UnicodeEncodeError:
        return False
    return True


def item(row: tuple[Any, ...]) -> Item:
    """A row of ITEM as a value. UnreadableItemError."""
    if not is_readable(row):
        raise UnreadableItemError("text")
    found = Item(*row)
    try:
        found.state = State(found.state)
    except ValueError as error:
        raise UnreadableItemError("state") from error
    return found
