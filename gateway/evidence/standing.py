"""Revocations and replacements as evidence: what an archive says about documents that this gateway's exchanges led to."""

from __future__ import annotations

import asyncio
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

LARGEST_NOTICES = 8 << 20
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
        self._seen = dict.fromkeys(archives, 0)
        self._objects, self._connected, self._log, self._changed = objects, connected, log, changed
        self._apart = Apart("standing notices")

    async def run(self) -> None:
        """Ask each archive again and again; none waits for another one's answer."""
        await self._apart.run(self._seen, self._keep_asking)

    async def _keep_asking(self, archive: str) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if self._connected(archive):
                await self.ask(archive)

    async def ask(self, archive: str) -> None:
        """What is new of one archive; what does not come in time or can not be logged is asked for again."""
        try:
            name = f"status/changes/{self._seen[archive]}"
            async with self._apart.answer():
                data = await self._objects.fetch(archive, name, LARGEST_NOTICES)
            notices = list(self._read(data))
            if notices:
                self._changed([archive])
            for notice in notices:
                await self._note(archive, notice)
                self._seen[archive] = notice.seq
        except (Refusal, EvidenceError, TimeoutError):
            return

    def _read(self, data: bytes) -> Iterator[Notice]:
        """The notices an archive sent; what nobody can read is counted, and holds up no other."""
        try:
            written = msgspec.json.decode(data, type=list[msgspec.Raw])
        except _UNREADABLE:
            self._log.missed(Flaw.MALFORMED_EVENT)
            return
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
        try:
            await self._log.note(event)
        except EvidenceError as error:
            if (
                error.flaw is not Flaw.EVENT_CONFLICT
            ):  # it said something else before: counted by the log, and that stays
                raise
