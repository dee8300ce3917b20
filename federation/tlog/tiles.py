"""The tree cut into tiles (C2SP tlog-tiles): 256 hashes of one height each, from which every root and proof is computed.

A tile of level L holds hashes of perfect subtrees of 256**L leaves. Only full tiles are hashed into the level above; the
last tile of a level may be partial and grows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    Span,
    consistency_spans,
    inclusion_spans,
    node_hash,
    split,
    tree_root,
)

TILE_WIDTH = 256
TILE_BYTES = TILE_WIDTH * HASH_BYTES
_TILE_HEIGHT = 8  # 2**8 hashes
_PATH = re.compile(r"tile/(entries|0|[1-9]\d?)/((?:x\d{3}/){0,6}\d{3})(?:\.p/([1-9]\d{0,2}))?")


class TileSource(Protocol):
    """Where tiles are read from; a tile may be longer than the asked size needs. b"" when there is none."""

    def tile(self, level: int, number: int) -> bytes: ...


class TileStore(TileSource, Protocol):
    """Where tiles are also written to."""

    def put_tile(self, level: int, number: int, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class TilePath:
    """The address of a tile, or with `level` None of a bundle of entries; `width` below 256 names a partial one."""

    level: int | None
    number: int
    width: int = TILE_WIDTH

    def __str__(self) -> str:
        digits = f"{self.number:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        path = "/".join([*("x" + part for part in parts[:-1]), parts[-1]])
        level = "entries" if self.level is None else self.level
        return f"tile/{level}/{path}" + ("" if self.width == TILE_WIDTH else f".p/{self.width}")

    @classmethod
    def parse(cls, text: str) -> TilePath:
        """Read `tile/<L>/<N>[.p/<W>]`; only the one canonical spelling of an address is taken."""
        matched = _PATH.fullmatch(text)
        if matched is None or not text.isascii():
            raise EvidenceError(Flaw.UNKNOWN_ENTRY, "no tile address")
        level, number, width = matched.groups()
        path = cls(
            None if level == "entries" else int(level),
            int(number.replace("x", "").replace("/", "")),
            int(width or TILE_WIDTH),
        )
        if str(path) != text:
            raise EvidenceError(Flaw.UNKNOWN_ENTRY, "no tile address")
        return path


def hashes_of(tile: bytes) -> list[bytes]:
    """The hashes a tile holds."""
    return [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]


def extend(store: TileStore, size: int, leaves: Sequence[bytes]) -> int:
    """Add leaf hashes to the tree of `size` leaves in `store`, writing every changed tile once; returns the new size."""
    level, first, hashes = 0, size, leaves
    while hashes:
        number, within = divmod(first, TILE_WIDTH)
        kept = store.tile(level, number)[: within * HASH_BYTES] if within else b""
        if len(kept) != within * HASH_BYTES:
            raise EvidenceError(Flaw.LOG_DAMAGED, f"tile {level}/{number} is too short")
        data = kept + b"".join(hashes)
        full: list[bytes] = []
        for at in range(0, len(data), TILE_BYTES):
            tile = data[at : at + TILE_BYTES]
            store.put_tile(level, number, tile)
            if len(tile) == TILE_BYTES:
                full.append(tree_root(hashes_of(tile)))
            number += 1
        level, first, hashes = level + 1, first // TILE_WIDTH, full
    return size + len(leaves)


class TiledTree:
    """A tree of `size` leaves as one reading of its tiles shows it; computes its root and proofs.

    Nothing here is verified: a caller that hands a proof out checks it against the root it signed.
    """

    def __init__(self, source: TileSource, size: int) -> None:
        self._source, self.size = source, size
        self._read: dict[tuple[int, int], bytes] = {}

    def root(self) -> bytes:
        """The root of all leaves."""
        return self._hash((0, self.size)) if self.size else EMPTY_ROOT

    def leaf(self, index: int) -> bytes:
        """The hash of one leaf."""
        if not 0 <= index < self.size:
            raise EvidenceError(Flaw.UNKNOWN_ENTRY, f"index {index} in a tree of {self.size}")
        return self._perfect(index, 0)

    def inclusion(self, index: int) -> tuple[bytes, ...]:
        """The inclusion proof of one leaf."""
        return tuple(self._hash(span) for span in inclusion_spans(index, self.size))

    def consistency(self, old: int) -> tuple[bytes, ...]:
        """The proof that the first `old` leaves were the whole tree once; empty from the empty tree."""
        return tuple(self._hash(span) for span in consistency_spans(old, self.size)) if old else ()

    def _hash(self, span: Span) -> bytes:
        start, end = span
        width = end - start
        if width & (width - 1) == 0:  # spans of proofs and splits are aligned
            return self._perfect(start, width.bit_length() - 1)
        middle = split(start, end)
        return node_hash(self._hash((start, middle)), self._hash((middle, end)))

    def _perfect(self, start: int, height: int) -> bytes:
        level, above = divmod(height, _TILE_HEIGHT)
        first = start >> (_TILE_HEIGHT * level)
        number, within = divmod(first, TILE_WIDTH)
        tile = self._read.get((level, number))
        if tile is None:
            tile = self._read[level, number] = self._source.tile(level, number)
        part = tile[within * HASH_BYTES : (within + (1 << above)) * HASH_BYTES]
        if len(part) != HASH_BYTES << above:
            raise EvidenceError(Flaw.LOG_DAMAGED, f"tile {level}/{number} is too short")
        return tree_root(hashes_of(part))
