"""Revocations and replacements as evidence: what an archive says about documents that this gateway's exchanges led to.

How far an archive was read is kept in memory alone, as the last notice it gave, which it is asked for again with what is new: when
it says something else in that place, or nothing, it was restored from a backup, and all is read from the start. So it is from time
to time, for what could not be logged yet because its case had not been told of the document. What is logged already stays as it is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator

import msgspec

from federation.reasons import Refusal
from federation.tlog.event import EventKind
from federation.tlog.exchange import standing
from federation.tlog.flaws import EvidenceError, Flaw
from gateway.evidence.apart import Apart
from gateway.evidence.log import GatewayLog
from gateway.evidence.witnesses import Objects

EVERY_S = 40.0
"""Pause between two askings of one archive: with the time its answer may take, what it revokes is logged within a minute."""

AGAIN_FROM_THE_START_S = 3_600.0
LARGEST_NOTICES, MOST_PAGES = 8 << 20, 40
"""Of one answer, and how many of them are taken without a pause; an archive puts 10,000 notices into one."""

_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


class Notice(msgspec.Struct, frozen=True):
    """One change: `state` is revoked, replaced …; `digest` is the SHA-256 (hex) of the document."""

    seq: int
    at_ms: int
    case_id: str
    number: str
    state: str
    reason: str = ""
    successor: str = ""
    digest: str = ""


class _Reading:
    """The last notice of an archive, None = none yet, and when it is read from the start again, in seconds of the loop."""

    def __init__(self) -> None:
        self.last: Notice | None = None
        self.again_at = math.inf


class StandingNotices:
    """Asks the archives what changed and logs what concerns cases in this log. `run` until cancelled."""

    def __init__(
        self,
        archives: Iterable[str],
        objects: Objects,
        connected: Callable[[str], bool],
        log: GatewayLog,
        changed: Callable[[Iterable[str]], None] = lambda _archives: None,
    ) -> None:
        """`changed` is told which archives' documents changed: their status lists are older than that."""
        self._reading = {archive: _Reading() for archive in archives}
        self._objects, self._connected, self._log, self._changed = objects, connected, log, changed
        self._apart = Apart("standing notices")

    async def run(self) -> None:
        """Ask each archive again and again; none waits for another one's answer."""
        await self._apart.run(self._reading, self._keep_asking)

    async def _keep_asking(self, archive: str) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if self._connected(archive):
                await self.ask(archive)

    async def ask(self, archive: str) -> None:
        """What is new of one archive; what does not come in time or can not be logged is asked for again."""
        reading, now = self._reading[archive], asyncio.get_running_loop().time()
        if reading.again_at <= now:
            reading.last = None
        if reading.last is None:
            reading.again_at = now + AGAIN_FROM_THE_START_S
        try:
            notices = await self._news(archive, reading)
            for _page in range(MOST_PAGES):
                if not notices:
                    return
                self._changed([archive])
                for notice in notices:
                    await self._note(archive, notice)
                    reading.last = notice
                notices = await self._fetch(archive, notices[-1].seq)
        except (Refusal, EvidenceError, TimeoutError):
            return

    async def _news(self, archive: str, reading: _Reading) -> list[Notice]:
        """What follows the last notice: asked for together with it, and if it is no longer there, from the start."""
        last = reading.last
        if last is not None:
            notices = await self._fetch(archive, last.seq - 1)
            if notices[:1] == [last]:
                return notices[1:]
            reading.last = None
        return await self._fetch(archive, 0)

    async def _fetch(self, archive: str, after: int) -> list[Notice]:
        async with self._apart.answer():
            data = await self._objects.fetch(archive, f"status/changes/{after}", LARGEST_NOTICES)
        return [notice for notice in self._read(data) if notice.seq > after]

    def _read(self, data: bytes) -> Iterator[Notice]:
        """The notices an archive sent; what nobody can read is counted, and holds up no other. EvidenceError: not even a list."""
        try:
            written = msgspec.json.decode(data, type=list[msgspec.Raw])
        except _UNREADABLE as error:
            self._log.missed(Flaw.MALFORMED_EVENT)
            raise EvidenceError(Flaw.MALFORMED_EVENT) from error
        for one in written:
            try:
                yield msgspec.json.decode(one, type=Notice)
            except _UNREADABLE:
                self._log.missed(Flaw.MALFORMED_EVENT)

    async def _note(self, archive: str, notice: Notice) -> None:
        """Log one; EvidenceError when the log can not be read or written now. What no event may say is counted and left."""
        if not await asyncio.to_thread(self._log.has, notice.case_id, EventKind.DOCUMENT_ISSUED, archive):
            return
        try:
            event = standing(
                archive, notice.number, notice.case_id, notice.state, notice.reason, notice.successor, notice.digest,
                notice.at_ms,
            )  # fmt: skip
        except EvidenceError as error:
            self._log.missed(error.flaw)
            return
        if await asyncio.to_thread(self._log.knows, event):
            return  # read from the start again: it is neither logged nor counted twice
        try:
            await self._log.note(event)
        except EvidenceError as error:
            # it said something else before: counted by the log, and that stays
            if error.flaw is not Flaw.EVENT_CONFLICT:
                raise
