"""Random bytes for names that must not be guessed, read from the system in large pieces: each read costs 2 us."""

from __future__ import annotations

import os

_PIECE = 4_096


class Randomness:
    """For one thread. Bytes are given out once; a process that forks must make a new one."""

    def __init__(self) -> None:
        self._held = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """`size` bytes of the system's randomness."""
        end = self._at + size
        if end > len(self._held):
            self._held, end = os.urandom(max(size, _PIECE)), size
        taken = self._held[end - size : end]
        self._at = end
        return taken
