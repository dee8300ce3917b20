"""The auditor: computes a whole log again from its entries and holds it against everything that was derived or said.

Entries against their columns and leaves, tiles of level 0 against the tiles above, checkpoints against roots, and a
checkpoint seen before (remembered outside the log) against today. It trusts no stored hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from federation.tlog.checkpoint import ANY, Checkpoint, Quorum, check_second, open_checkpoint
from federation.tlog.event import Event, EventKind
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.merkle import HASH_BYTES, Frontier, leaf_hash, tree_root, verify_consistency
from federation.tlog.note import Note, VerifierKey
from federation.tlog.reader import Entry, LogReader
from federation.tlog.store import naming_trouble
from federation.tlog.tiles import TILE_WIDTH, hashes_of

MOST_FINDINGS = 1_000
"""Findings listed; further ones are counted."""
_PROGRESS_EVERY = 10_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where (an index of the log, or a size), and what in words without contents."""

    flaw: Flaw
    place: int
    detail: str = ""


@dataclass(slots=True)
class Audit:
    """What an audit found. `ok` means: nothing was altered, and nothing seen before is missing."""

    origin: str = ""
    size: int = 0
    root: bytes = b""
    erased: int = 0
    checkpoints: int = 0
    signed_twice: int = 0
    """Checkpoints with a signature of the second suite."""
    cosigned: int = 0
    """Checkpoints that meet the quorum."""
    compared: int = 0
    """Checkpoints seen before that were held against the log."""
    findings: list[Finding] = field(default_factory=list)
    left_out: int = 0

    @property
    def ok(self) -> bool:
        return not self.findings

    def add(self, flaw: Flaw, place: int, detail: str = "") -> None:
        """Note one finding."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(flaw, place, detail))
        else:
            self.left_out += 1


def audit(
    reader: LogReader,
    keys: VerifierKey | Iterable[VerifierKey],
    *,
    seen: Sequence[Note] = (),
    quorum: Quorum = ANY,
    second: Iterable[VerifierKey] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Audit:
    """Audit a log in one moment of it, beside its writer.

    `keys` are the log's, `second` its keys of another suite: where given, every line of theirs must hold and the newest
    checkpoint must have one. It commits to all before it, so older ones from before the second suite need none.
    `seen` are checkpoints from outside the log: the auditor's own of the last run, a witness's, one out
    of a certificate's proof. Without one, a cut end or a restored backup can not be told from a log that never grew.
    """
    result = Audit()
    keys = [keys] if isinstance(keys, VerifierKey) else list(keys)
    try:
        with reader.moment():
            result.origin = reader.origin
            _Auditor(reader, keys, quorum, None if second is None else list(second), result, progress).run(
                seen
            )
    except EvidenceError as error:
        result.add(error.flaw, result.size, error.detail)
    return result


class _Auditor:
    def __init__(
        self,
        reader: LogReader,
        keys: list[VerifierKey],
        quorum: Quorum,
        second: list[VerifierKey] | None,
        result: Audit,
        progress: Callable[[int, int], None],
    ) -> None:
        self._reader, self._keys, self._quorum, self._result = reader, keys, quorum, result
        self._second, self._progress = second, progress
        self._newest_twice = (
            0,
            True,
        )  # size of the newest own checkpoint, and whether it has the second signature
        self._tiles = reader.tiles()
        self._wanted: dict[int, list[tuple[Checkpoint, bool]]] = {}
        self._seen: list[Checkpoint] = []
        self._unfit: list[int] = []  # entries whose hash is not the stored leaf
        self._proven = 0  # up to here the entries give the root of a signed checkpoint
        self._erased: set[int] = set()
        self._logged_erased: set[int] = set()

    def run(self, seen: Sequence[Note]) -> None:
        result = self._result
        result.size = self._tiles.size()
        for text in self._reader.checkpoint_texts():
            self._collect(text, own=True)
        size, is_twice = self._newest_twice
        if self._second is not None and not is_twice:
            result.add(Flaw.SECOND_SIGNATURE_MISSING, size, "the newest checkpoint")
        for note in seen:
            self._collect(str(note), own=False)
        frontier = self._entries()
        result.root = frontier.root()
        for index in self._unfit:  # where the entries are proven, it is the tile that was altered
            flaw = Flaw.TILE_ALTERED if index < self._proven else Flaw.ENTRY_ALTERED
            result.add(flaw, index, "entry and leaf do not fit")
        for index in sorted(self._erased - self._logged_erased):
            result.add(Flaw.ERASED_UNLOGGED, index)
        self._tile_levels()
        self._consistency()

    def _collect(self, text: str, *, own: bool) -> None:
        """Check a checkpoint's signatures, and remember which root it claims for which size."""
        result = self._result
        place = 0
        try:
            note = Note.parse(text)
            claimed = Checkpoint.parse(note.text)
            place = claimed.size
            checkpoint = open_checkpoint(note, self._keys, result.origin)
            cosigners = self._quorum.cosigners(note)
            is_twice = self._is_signed_twice(note)
        except EvidenceError as error:
            result.add(error.flaw, place, "a checkpoint of the log" if own else "a checkpoint seen before")
            return
        if own:
            result.checkpoints += 1
            result.signed_twice += is_twice
            self._newest_twice = max(self._newest_twice, (checkpoint.size, is_twice))
            result.cosigned += len(cosigners) >= self._quorum.least > 0
        else:
            result.compared += 1
            self._seen.append(checkpoint)
        if checkpoint.size > result.size:
            flaw = Flaw.CHECKPOINT_ALTERED if own else Flaw.HISTORY_SHORTENED
            result.add(flaw, checkpoint.size, f"the log has {result.size}")
        else:
            self._wanted.setdefault(checkpoint.size, []).append((checkpoint, own))

    def _is_signed_twice(self, note: Note) -> bool:
        """EvidenceError for a line of a second key that does not hold."""
        if self._second is None:
            return False
        try:
            check_second(note, self._second)
        except EvidenceError as error:
            if error.flaw is not Flaw.SECOND_SIGNATURE_MISSING:
                raise
            return False
        return True

    def _entries(self) -> Frontier:
        frontier, tile = Frontier(), b""
        expected = 0
        for entry in self._reader.entries():
            while expected < entry.index and expected < self._result.size:
                self._result.add(Flaw.ENTRY_MISSING, expected)
                tile = self._step(frontier, expected, None, tile)
                expected += 1
            if entry.index >= self._result.size:
                self._result.add(Flaw.TILE_ALTERED, entry.index, "an entry beyond the tiles")
                expected = entry.index + 1
                continue
            tile = self._step(frontier, expected, entry, tile)
            expected += 1
        for missing in range(expected, self._result.size):
            self._result.add(Flaw.ENTRY_MISSING, missing)
            tile = self._step(frontier, missing, None, tile)
        return frontier

    def _step(self, frontier: Frontier, index: int, entry: Entry | None, tile: bytes) -> bytes:
        """Check one entry against its leaf, then the root against every checkpoint of the new size."""
        within = index % TILE_WIDTH
        if not within:
            tile = self._tiles.tile(0, index // TILE_WIDTH)
        stored = tile[within * HASH_BYTES : (within + 1) * HASH_BYTES]
        leaf = stored
        if entry is not None:
            self._entry(entry)
            leaf = leaf_hash(entry.commitment())
            if leaf != stored:
                self._unfit.append(index)
        frontier.add(leaf)
        if frontier.size in self._wanted:
            root = frontier.root()
            for checkpoint, own in self._wanted.pop(frontier.size):
                if checkpoint.root == root:
                    self._proven = max(self._proven, frontier.size)
                else:
                    flaw = Flaw.CHECKPOINT_ALTERED if own else Flaw.HISTORY_REWRITTEN
                    self._result.add(flaw, checkpoint.size, "the entries give another root")
        if frontier.size % _PROGRESS_EVERY == 0:
            self._progress(frontier.size, self._result.size)
        return tile

    def _entry(self, entry: Entry) -> None:
        result = self._result
        if entry.is_erased:
            result.erased += 1
            self._erased.add(entry.index)
            return
        try:
            event = entry.read()
        except EvidenceError:
            result.add(Flaw.ENTRY_ALTERED, entry.index, "not an event")
            return
        assert event is not None
        if (event.id, event.kind.value, event.request, event.at_ms) != (
            entry.id,
            entry.kind,
            entry.request,
            entry.at_ms,
        ):
            result.add(Flaw.ENTRY_ALTERED, entry.index, "its columns say something else")
        self._note_erasing(event)

    def _note_erasing(self, event: Event) -> None:
        if event.kind is EventKind.ERASED:
            place = event.fields["entry"]
            assert isinstance(place, int)
            self._logged_erased.add(place)

    def _tile_levels(self) -> None:
        """Every tile has the length its level must have, and every full one hashes to its place in the level above."""
        size = self._result.size
        held: dict[tuple[int, int], int] = {}
        for level, number, length in self._tiles.addresses():
            held[level, number] = length
            hashes = size >> (8 * level) if level < 8 else 0
            expected = min(TILE_WIDTH, hashes - number * TILE_WIDTH) * HASH_BYTES
            if length != expected:
                self._result.add(
                    Flaw.TILE_ALTERED, number, f"level {level}: {length} bytes of {max(expected, 0)}"
                )
        for (level, number), length in held.items():
            if length != TILE_WIDTH * HASH_BYTES:
                continue
            upper = self._tiles.tile(level + 1, number // TILE_WIDTH)
            within = number % TILE_WIDTH * HASH_BYTES
            if upper[within : within + HASH_BYTES] != tree_root(hashes_of(self._tiles.tile(level, number))):
                self._result.add(Flaw.TILE_ALTERED, number, f"level {level} does not fit the level above")
        for level in range(8):
            for number in range(-(-(size >> (8 * level)) // TILE_WIDTH)):
                if (level, number) not in held:
                    self._result.add(Flaw.TILE_ALTERED, number, f"level {level}: a tile is missing")

    def _consistency(self) -> None:
        """What a distant auditor without the entries can check: the tiles prove today from every checkpoint seen."""
        told = {one.place for one in self._result.findings if one.flaw is Flaw.HISTORY_REWRITTEN}
        for old in self._seen:
            if old.size in told or not 0 < old.size <= self._result.size:
                continue
            try:
                with naming_trouble():
                    tree = self._reader.tree(self._result.size)
                    verify_consistency(old.size, tree.size, old.root, tree.root(), tree.consistency(old.size))
            except EvidenceError:
                self._result.add(
                    Flaw.HISTORY_REWRITTEN, old.size, "the tiles prove no way from there to today"
                )
