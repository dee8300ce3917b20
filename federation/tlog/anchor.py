"""Anchors: where a checkpoint's root is posted so that others keep it, such as a province's chain (区块链存证).

An anchor proves that a root existed when the chain says so. It adds nothing to a proof for a citizen that witnesses do not
already give, so failing to anchor never stops an exchange.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Protocol

from federation.tlog.checkpoint import Checkpoint
from federation.tlog.event import EventKind
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.log import EvidenceLog
from federation.tlog.note import to_base64
from federation.tlog.reader import Stamp

ANCHORED = "anchor"
"""The `kind` of stamps that are receipts of an anchor."""
_GENESIS = "0" * 64


class Anchor(Protocol):
    """A chain. `name` is an identifier that goes into events; any exception of `post` means: not anchored, try later."""

    name: str

    def post(self, checkpoint: Checkpoint) -> bytes:
        """Post origin, size and root, and return the chain's receipt. Posting the same again is harmless."""
        ...

    def check(self, checkpoint: Checkpoint, receipt: bytes) -> None:
        """Raise EvidenceError unless the chain holds this checkpoint under this receipt."""
        ...


def anchor_latest(log: EvidenceLog, anchor: Anchor, now_ms: int) -> Stamp | None:
    """Post the newest checkpoint if it holds more than was anchored before, and log the receipt; None if there is no need."""
    note = log.latest()
    if note is None:
        return None
    checkpoint = Checkpoint.parse(note.text)
    before = log.last_stamp(ANCHORED, anchor.name)
    if before is not None and log.oldest_uncovered_ms(before.size) is None:
        return None
    receipt = anchor.post(checkpoint)
    stamp = Stamp(checkpoint.size, now_ms, anchor.name, ANCHORED, receipt)
    log.add_stamp(stamp, stamp.event(EventKind.CHECKPOINT_ANCHORED, "anchored"))
    return stamp


class FileAnchor:
    """The example: a hash-chained file of JSON lines, as a chain would keep them. The receipt is the line.

    Good for a second office that appends by its own rules; it is no consensus. Several processes may post.
    """

    def __init__(self, path: Path | str, name: str = "file") -> None:
        self.name = name
        self._path = Path(path)

    def post(self, checkpoint: Checkpoint) -> bytes:
        """Append one line, durable before it returns; the same checkpoint again gives the line it has."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            lines = self._lines(file.read())
            posted = _said(checkpoint)
            for line in lines:
                if json.loads(line)["posted"] == posted:
                    return line
            previous = hashlib.sha256(lines[-1]).hexdigest() if lines else _GENESIS
            whole = {"height": len(lines), "posted": posted, "previous": previous}
            line = json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
            return line

    def check(self, checkpoint: Checkpoint, receipt: bytes) -> None:
        """Read the whole chain and find the receipt in it."""
        try:
            lines = self._lines(self._path.read_bytes())
        except OSError as error:
            raise EvidenceError(Flaw.STAMP_UNAVAILABLE, error.strerror or "") from error
        if receipt not in lines or json.loads(receipt)["posted"] != _said(checkpoint):
            raise EvidenceError(Flaw.STAMP_INVALID, "the chain does not hold it")

    def _lines(self, data: bytes) -> list[bytes]:
        lines = data.split(b"\n")
        if lines.pop():  # a torn last line was never receipted
            raise EvidenceError(Flaw.STAMP_INVALID, "the last line of the chain is torn")
        previous = _GENESIS
        for height, line in enumerate(lines):
            try:
                whole = json.loads(line)
                fits = whole["height"] == height and whole["previous"] == previous
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                raise EvidenceError(Flaw.STAMP_INVALID, f"the chain breaks at {height}")
            previous = hashlib.sha256(line).hexdigest()
        return lines


def _said(checkpoint: Checkpoint) -> dict[str, str | int]:
    return {"origin": checkpoint.origin, "size": checkpoint.size, "root": to_base64(checkpoint.root)}
