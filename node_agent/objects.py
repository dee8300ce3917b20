"""What this archive gives out by name on the bulk stream: each part of the agent puts its own kind of object here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from federation.bulk.answering import Object
from federation.reasons import Reason, Refusal

LONGEST_NAME = 200

Opener = Callable[[str, bytes], Object]
"""Takes the rest of the name and what was sent along; Refusal says why not. Called in threads."""


class Shelf:
    """Objects by the first word of their name: `document/…`, `status/…`. Fits `federation.bulk.answering.Objects`."""

    def __init__(self) -> None:
        self._openers: dict[str, Opener] = {}

    def put(self, kind: str, opener: Opener) -> None:
        """Objects of `kind` are opened by `opener`."""
        self._openers[kind] = opener

    def open(self, name: str, body: bytes) -> Object:
        kind, _, rest = name.partition("/")
        opener = self._openers.get(kind)
        if opener is None or len(name) > LONGEST_NAME:
            raise Refusal(Reason.NOT_FOUND)
        return opener(rest, body)


def in_memory(data: bytes, media_type: str) -> Object:
    """A small object made for this question."""
    return Object(
        len(data),
        hashlib.sha256(data).digest(),
        media_type,
        lambda offset, length: data[offset : offset + length],
    )
