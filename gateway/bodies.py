"""Bodies of strangers, read a few at a time: who sends slowly is let go, and keeps nobody else from being heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from federation.http.bodies import GRACE_S, named
from federation.http.limits import line
from federation.reasons import Reason, Refusal

LARGEST_SMALL = 64 * 1024
"""Bytes of a small body, such as a typed code: it must say its length, and be as long as it says (not compressed)."""

SLOWEST = 64 * 1024
"""Bytes a second: half of what the poorest counter's line sends (1 Mbit/s)."""


@dataclass(frozen=True, slots=True)
class Places:
    """How many bodies of one kind are read at once: in all, of one line (`federation.http.limits.line`), and how long each."""

    in_all: int
    of_a_line: int
    within_s: float


SMALL = Places(64, 8, GRACE_S)
LARGE = Places(8, 2, 120.0)
"""120 s: 64 MB over 5 Mbit/s, as a counter's line has them."""


class Bodies:
    """One for all routes that read what strangers send: two large bodies a line and eight in all, small ones apart from
    them. A large one must have come whole within 10 s and a second more for every 64 KB that came, at most 120 s, a small
    one within 10 s.
    """

    def __init__(self, small: Places = SMALL, large: Places = LARGE) -> None:
        self._small, self._large = small, large
        self._readers: Counter[tuple[Places, str]] = Counter()

    @contextlib.asynccontextmanager
    async def reading(self, request: web.Request) -> AsyncIterator[Callable[[int], None]]:
        """A place to read the body in; what it gives is told the bytes of each piece that came.

        Refusal: overloaded (no place), out_of_time (too slow), malformed_body (cut off, or not as it is said to be coded).
        """
        places, sender = self._places(request), line(request.remote)
        taken = sum(count for (one, _), count in self._readers.items() if one is places)
        if taken >= places.in_all or self._readers[places, sender] >= places.of_a_line:
            raise Refusal(Reason.OVERLOADED, retry_after_s=5.0)
        self._readers[places, sender] += 1
        began, size = asyncio.get_running_loop().time(), 0

        def came(more: int) -> None:
            nonlocal size
            size += more
            timeout.reschedule(began + min(places.within_s, GRACE_S + size / SLOWEST))

        try:
            with named():
                async with asyncio.timeout(min(places.within_s, GRACE_S)) as timeout:
                    yield came
        finally:
            self._readers[places, sender] -= 1
            if not self._readers[places, sender]:
                del self._readers[places, sender]

    def _places(self, request: web.Request) -> Places:
        length = request.content_length
        short = (
            length is not None and length <= LARGEST_SMALL and hdrs.CONTENT_ENCODING not in request.headers
        )
        return self._small if short else self._large
