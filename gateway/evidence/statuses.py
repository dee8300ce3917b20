"""The archives' status lists, fetched while they are young, believed only as their keys allow, and served to anyone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from federation.reasons import Refusal
from federation.trust import TrustList, Use
from federation.verify.report import VerifyError
from federation.verify.status_lists import StatusLists
from gateway.evidence.witnesses import Objects

REFRESH_S = 300.0
"""How long a list may be served before it is fetched again: a third of an hour's ttl passes at most."""

_AGAIN_S = 15.0
LARGEST_LIST = 1 << 20


class StatusKeeper:
    """Keeps one list of each archive that signs any. `run` until cancelled; `sources` is what verifying looks at."""

    def __init__(self, trust: TrustList, lists: Objects) -> None:
        self.sources = StatusLists(trust)
        self._archives = sorted({key.issuer for key in trust.keys(Use.STATUS)})
        self._lists = lists
        self._tokens: dict[str, bytes] = {}
        self._due: dict[str, float] = dict.fromkeys(self._archives, 0.0)
        self._wake = asyncio.Event()

    def token(self, archive: str) -> bytes | None:
        """The newest list of an archive as it signed it."""
        return self._tokens.get(archive)

    def refresh(self, archives: Iterable[str]) -> None:
        """Fetch these now: an archive connected, or said that it revoked something."""
        for archive in archives:
            if archive in self._due:
                self._due[archive] = 0.0
        self._wake.set()

    async def run(self) -> None:
        """Fetch what is due, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            for archive in [one for one in self._archives if self._due[one] <= loop.time()]:
                is_fresh = await self._fetch(archive)
                self._due[archive] = loop.time() + (REFRESH_S if is_fresh else _AGAIN_S)
            pause = min(self._due.values(), default=loop.time() + REFRESH_S) - loop.time()
            try:
                async with asyncio.timeout(max(0.05, pause)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _fetch(self, archive: str) -> bool:
        """Whether a list came and is believed; what is not stays out, the older list goes on until it is too old."""
        try:
            token = await self._lists.fetch(archive, "status/list", LARGEST_LIST)
            self.sources.add(token.decode("ascii"))
        except (Refusal, VerifyError, UnicodeDecodeError):
            return False
        self._tokens[archive] = token
        return True
