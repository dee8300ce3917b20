"""What a verifier asks of whoever presents a credential: its own name, a nonce good for one use, a purpose."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

NONCE_LIFETIME = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Challenge:
    """`audience` names the verifier, `nonce` was given to this holder for this presentation, `purpose` is a closed code."""

    audience: str
    nonce: str
    purpose: str | None = None


class NonceStore(Protocol):
    """Nonces given out and not yet used."""

    def take(self, nonce: str, at: datetime) -> bool:
        """Use up a nonce: True exactly once for one that was given out and is not expired, however many ask at once."""
        ...


class MemoryNonces:
    """A NonceStore of one process; at most `most` nonces wait at a time, the oldest is forgotten first."""

    def __init__(self, *, lifetime: timedelta = NONCE_LIFETIME, most: int = 100_000) -> None:
        self._lifetime, self._most = lifetime, most
        self._waiting: OrderedDict[str, datetime] = OrderedDict()
        self._lock = threading.Lock()

    def give(self, at: datetime) -> str:
        """A new nonce of 128 random bits."""
        nonce = secrets.token_urlsafe(16)
        with self._lock:
            self._waiting[nonce] = at + self._lifetime
            while len(self._waiting) > self._most:
                self._waiting.popitem(last=False)
        return nonce

    def take(self, nonce: str, at: datetime) -> bool:
        with self._lock:
            expiry = self._waiting.pop(nonce, None)
        return expiry is not None and at < expiry
