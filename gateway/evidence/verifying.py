"""Verifying for anyone: a PDF, the text of its QR code, a credential; against the pinned trust list and the lists at hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from federation.reasons import Reason, Refusal
from federation.trust import TrustList
from federation.verify.challenge import Challenge, MemoryNonces
from federation.verify.documents import verify
from federation.verify.report import Report
from federation.verify.status import StatusSource

LARGEST_DOCUMENT = 64 << 20
"""Bytes taken for verification over HTTP; larger ones are verified where they lie, by lantai-verify."""

_AT_ONCE = 2
_WAITING = 16


class Verifying:
    """Verification of one gateway process; two at once, so that strangers' documents never hold up a search."""

    def __init__(
        self,
        trust: TrustList,
        statuses: StatusSource,
        verified: Callable[[bytes, Report, Challenge | None], None] = lambda _data, _report, _challenge: None,
    ) -> None:
        """`verified` is told each report with the bytes it is about and what was asked of them: the evidence log."""
        self._verified = verified
        self._trust, self._statuses = trust, statuses
        self._nonces = MemoryNonces()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    def nonce(self) -> str:
        """A nonce for one presentation, good for five minutes."""
        return self._nonces.give(datetime.now(UTC))

    async def verify(self, data: bytes, challenge: Challenge | None = None) -> Report:
        """The report; Refusal(OVERLOADED) when too many wait."""
        if self._waiting >= _WAITING:
            raise Refusal(Reason.OVERLOADED, retry_after_s=2.0)
        self._waiting += 1
        try:
            async with self._room:
                report = await asyncio.to_thread(
                    verify,
                    data,
                    self._trust,
                    self._statuses,
                    datetime.now(UTC),
                    challenge=challenge,
                    nonces=self._nonces,
                )
        finally:
            self._waiting -= 1
        self._verified(data, report, challenge)
        return report
