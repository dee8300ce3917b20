"""Reading an evidence log: entries, tiles, checkpoints and proofs, beside its writer or long after it."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from federation.tlog.checkpoint import ANY, Checkpoint, Quorum
from federation.tlog.event import Event, EventKind, commitment
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.merkle import HASH_BYTES, verify_consistency, verify_inclusion
from federation.tlog.note import Note
from federation.tlog.proof import InclusionProof
from federation.tlog.store import SqliteTiles, naming_trouble, open_reading, transaction
from federation.tlog.tiles import TILE_WIDTH, TiledTree, TilePath

_T = TypeVar("_T")
_COLUMNS = "idx, id, kind, request, at, salt, event, commitment"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as the file holds it; `salt` and `event` (its byte form) are None once erased."""

    index: int
    id: str
    kind: str
    request: str
    at_ms: int
    salt: bytes | None
    event: bytes | None
    kept: bytes | None

    @property
    def is_erased(self) -> bool:
        return self.event is None

    def commitment(self) -> bytes:
        """What was hashed into the tree; b"" when it is lost."""
        if self.event is None or self.salt is None:
            return self.kept or b""
        return commitment(self.salt, self.event)

    def read(self) -> Event | None:
        """The event, None when it was erased. Raises EvidenceError if what the file holds is no event."""
        return None if self.event is None else Event.parse(self.event)


@dataclass(frozen=True, slots=True)
class Stamp:
    """A time stamp (`kind` "rfc3161") or an anchor's receipt over the checkpoint of `size`; `at_ms` by our clock."""

    size: int
    at_ms: int
    name: str
    kind: str
    receipt: bytes

    def event(self, kind: EventKind, verb: str) -> Event:
        """What the log says of it; `verb` keeps the event's id apart from other kinds'."""
        fields: dict[str, str | int] = {
            "digest": hashlib.sha256(self.receipt).hexdigest(),
            "size": self.size,
            "name": self.name,
        }
        return Event(kind, f"{verb}:{self.name}:{self.size}", self.at_ms, "", fields)


class LogReader:
    """One reader of one log; many may read beside the writer. Safe to share between threads.

    Every method sees one moment of the log. Raises EvidenceError: `log_foreign`, `log_unavailable`, `log_damaged`.
    """

    def __init__(self, path: Path | str, *, connection: sqlite3.Connection | None = None) -> None:
        self.path = Path(path)
        self._connection = connection or open_reading(self.path)
        self._lock = threading.RLock()
        self._tiles = SqliteTiles(self._connection)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with self._lock:
            if self._connection.in_transaction:
                yield
            else:
                with transaction(self._connection, "deferred"):
                    yield

    def _read(self, work: Callable[[], _T]) -> _T:
        with self.moment(), naming_trouble():
            return work()

    # the log as a whole
    @property
    def origin(self) -> str:
        """The name of the log, as in its checkpoints."""
        return self._read(lambda: self._meta("origin"))

    @property
    def size(self) -> int:
        """How many entries are durable."""
        return self._read(self._tiles.size)

    def _meta(self, key: str) -> str:
        row = self._connection.execute("select value from meta where key = ?", (key,)).fetchone()
        if row is None:
            raise EvidenceError(Flaw.LOG_FOREIGN, f"no {key}")
        return str(row[0])

    def tree(self, size: int | None = None) -> TiledTree:
        """The tree at a size, now if None; to be used inside `moment`."""
        return TiledTree(self._tiles, self._tiles.size() if size is None else size)

    def tiles(self) -> SqliteTiles:
        """The tiles as the file holds them; to be used inside `moment`."""
        return self._tiles

    def root(self, size: int | None = None) -> bytes:
        """The root at a size, now if None."""
        return self._read(lambda: self.tree(size).root())

    # entries
    def _entries(self, where: str, values: tuple[object, ...]) -> list[Entry]:
        rows = self._connection.execute(f"select {_COLUMNS} from entries where {where}", values)  # noqa: S608
        return [Entry(*row) for row in rows]

    def entry(self, event_id: str, request: str = "") -> Entry | None:
        """The entry of an event, by its id and the request it is about."""
        found = self._read(lambda: self._entries("request = ? and id = ?", (request, event_id)))
        return found[0] if found else None

    def entry_at(self, index: int) -> Entry | None:
        """The entry at a place of the log."""
        found = self._read(lambda: self._entries("idx = ?", (index,)))
        return found[0] if found else None

    def of_request(self, request: str, most: int = 10_000) -> list[Entry]:
        """All entries about one request, oldest first."""
        where = "request = ? and request != '' order by idx limit ?"
        return self._read(lambda: self._entries(where, (request, most)))

    def entries(
        self, start: int = 0, end: int | None = None, page: int = 1_000, kinds: Collection[str] = ()
    ) -> Iterator[Entry]:
        """All entries from `start` (and before `end`) in order, of one of these kinds if any are named, read page by page."""
        last = start - 1
        bound = 2**62 if end is None else end
        only = f" and kind in ({','.join('?' * len(kinds))})" if kinds else ""
        while True:
            where = f"idx > ? and idx < ?{only} order by idx limit ?"
            found = self._read(lambda: self._entries(where, (last, bound, *kinds, page)))  # noqa: B023
            yield from found
            if len(found) < page:
                return
            last = found[-1].index

    def requests(self, since_ms: int = 0, kinds: Collection[str] = ()) -> list[str]:
        """Identifiers of requests with an entry, of one of these kinds if any are named, at or after a time."""
        only = f" and kind in ({','.join('?' * len(kinds))})" if kinds else ""
        query = f"select distinct request from entries where request != '' and at >= ?{only} order by request"  # noqa: S608
        return self._read(lambda: [row[0] for row in self._connection.execute(query, (since_ms, *kinds))])

    # what the tile addresses of C2SP serve
    def tile(self, path: TilePath | str) -> bytes:
        """A tile, or a bundle of entries (of commitments: events do not leave by this way). Cut to the asked width."""
        path = TilePath.parse(path) if isinstance(path, str) else path
        if path.level is None:
            return self._bundle(path)
        level = path.level
        data = self._read(lambda: self._tiles.tile(level, path.number))[: path.width * HASH_BYTES]
        if len(data) != path.width * HASH_BYTES:
            raise EvidenceError(Flaw.UNKNOWN_ENTRY, "no such tile")
        return data

    def _bundle(self, path: TilePath) -> bytes:
        start = path.number * TILE_WIDTH
        where = "idx >= ? and idx < ? order by idx"
        found = [
            one.commitment() for one in self._read(lambda: self._entries(where, (start, start + path.width)))
        ]
        if len(found) != path.width:
            raise EvidenceError(Flaw.UNKNOWN_ENTRY, "no such bundle")
        return b"".join(len(one).to_bytes(2, "big") + one for one in found)

    # checkpoints and proofs
    def checkpoints(self, after: int = -1) -> list[Note]:
        """All kept checkpoints of more than `after` leaves, smallest first."""
        query = "select note from checkpoints where size > ? order by size"
        return self._read(lambda: [Note.parse(row[0]) for row in self._connection.execute(query, (after,))])

    def checkpoint_texts(self) -> list[str]:
        """All kept checkpoints as the file holds them, smallest first: for an auditor, who trusts none."""
        query = "select note from checkpoints order by size"
        return self._read(lambda: [row[0] for row in self._connection.execute(query)])

    def latest(self, quorum: Quorum = ANY, *, at_least: int = 0) -> Note | None:
        """The newest checkpoint that this quorum cosigned and that covers `at_least` leaves."""
        query = "select note from checkpoints where size >= ? order by size desc"

        def find() -> Note | None:
            for (text,) in self._connection.execute(query, (at_least,)):
                note = Note.parse(text)
                if len(quorum.cosigners(note)) >= quorum.least:
                    return note
            return None

        return self._read(find)

    def prove(self, index: int, quorum: Quorum = ANY) -> InclusionProof:
        """The proof of one entry under the newest checkpoint that the quorum cosigned.

        It is checked before it is handed out, so that a damaged tile is `log_damaged` here and not a wrong proof there.
        """

        def work() -> InclusionProof:
            note = self.latest(quorum, at_least=index + 1)
            if note is None:
                known = index < self._tiles.size()
                raise EvidenceError(Flaw.NO_CHECKPOINT if known else Flaw.UNKNOWN_ENTRY, f"index {index}")
            checkpoint = Checkpoint.parse(note.text)
            tree = self.tree(checkpoint.size)
            hashes = tree.inclusion(index)
            try:
                verify_inclusion(index, tree.size, tree.leaf(index), hashes, checkpoint.root)
            except EvidenceError as error:
                raise EvidenceError(Flaw.LOG_DAMAGED, f"index {index} of {tree.size}") from error
            return InclusionProof(index, hashes, note)

        return self._read(work)

    def consistency(self, old: int, new: Checkpoint) -> tuple[bytes, ...]:
        """The proof from an earlier size to a checkpoint of this log; checked like `prove`."""

        def work() -> tuple[bytes, ...]:
            tree = self.tree(new.size)
            hashes = tree.consistency(old)
            if old:
                try:
                    verify_consistency(old, new.size, self.tree(old).root(), new.root, hashes)
                except EvidenceError as error:
                    raise EvidenceError(Flaw.LOG_DAMAGED, f"from {old} to {new.size}") from error
            return hashes

        return self._read(work)

    # stamps
    def stamps(self, kind: str = "") -> list[Stamp]:
        """Kept stamps and receipts in the order they came."""
        query = "select size, at, name, kind, receipt from stamps where ? in ('', kind) order by seq"
        return self._read(lambda: [Stamp(*row) for row in self._connection.execute(query, (kind,))])

    def last_stamp(self, kind: str, name: str = "") -> Stamp | None:
        """The newest stamp of a kind, by anyone or by `name`."""
        query = (
            "select size, at, name, kind, receipt from stamps where kind = ? and ? in ('', name)"
            " order by seq desc limit 1"
        )
        row = self._read(lambda: self._connection.execute(query, (kind, name)).fetchone())
        return Stamp(*row) if row else None

    def oldest_uncovered_ms(self, size: int) -> int | None:
        """Time of the first entry at or after `size` that is more than the log's own stamps; None when there is none."""
        query = "select at from entries where idx >= ? and kind not in (?, ?) order by idx limit 1"
        own = (EventKind.CHECKPOINT_STAMPED.value, EventKind.CHECKPOINT_ANCHORED.value)
        row = self._read(lambda: self._connection.execute(query, (size, *own)).fetchone())
        return row[0] if row else None
