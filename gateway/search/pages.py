"""Pages: the first page fixes the ranking of its search; cursors are opaque, authenticated places in it.

Rankings are kept for ten minutes in a bounded store of this process; a cursor made up, altered or expired is refused.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from federation.reasons import Reason, Refusal
from federation.suites.encoding import b64u
from gateway.search.completeness import Completeness
from gateway.search.merge import Ranked

KEPT_S = 600.0
MOST_KEPT = 2_000
_TAG = 12


@dataclass(frozen=True, slots=True)
class Kept:
    """The fixed ranking of one search."""

    search_id: str
    caller: str
    completeness: Completeness
    ranked: tuple[Ranked, ...]
    page_size: int
    category: str
    until: float


class Pages:
    """Keeps rankings and makes cursors. `key` authenticates them; `clock` is monotonic seconds."""

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key, self._clock = key, clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def keep(self, kept: Kept) -> None:
        """Remember a ranking that has more than one page."""
        self._kept[kept.search_id] = kept
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    def cursor(self, search_id: str, offset: int) -> str:
        """The opaque cursor of the page that starts at `offset`."""
        body = f"{search_id}.{offset}".encode()
        return b64u(self._tag(body) + body)

    def resume(self, cursor: str, caller: str) -> tuple[Kept, int]:
        """The ranking and offset a cursor stands for; Refusal(INVALID_CURSOR) for any that is not this caller's."""
        try:
            raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            tag, body = raw[:_TAG], raw[_TAG:]
            search_id, _, offset = body.decode("ascii").rpartition(".")
        except (ValueError, UnicodeError) as error:
            raise Refusal(Reason.INVALID_CURSOR, "/cursor") from error
        if not hmac.compare_digest(tag, self._tag(body)) or b64u(raw) != cursor:
            raise Refusal(Reason.INVALID_CURSOR, "/cursor")
        kept = self._kept.get(search_id)
        if kept is None or kept.until < self._clock() or kept.caller != caller:
            raise Refusal(Reason.INVALID_CURSOR, "/cursor")
        return kept, int(offset)

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, sha256)[:_TAG]
