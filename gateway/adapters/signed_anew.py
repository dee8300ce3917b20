"""Credentials that were signed anew: asked of the archives that issued them, given from then on instead of the first ones.

An archive is asked like for its revocations; what it says is believed of its own certificates in cases it issued for, and of nothing
else. A notice is logged first and then written to its case: both may be done again and are done once, so that a process killed at
any moment asks for it again and goes on. Where to read on is kept in memory alone, and all is read again from time to time: what
could not be taken yet (its case had not been told of the document), and what an archive tells after it was restored.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from sqlalchemy import select

from federation import signed_anew
from federation.reasons import Reason, Refusal
from federation.signed_anew import Notice, UnreadablePageError
from federation.tlog.exchange import signed_anew as event_of
from federation.tlog.flaws import EvidenceError
from gateway.cases.case import UNREADABLE, Case, Event, decode_case
from gateway.cases.schema import CASES
from gateway.cases.states import Kind
from gateway.cases.store import Done, Store, Unit
from gateway.evidence.log import GatewayLog
from gateway.evidence.witnesses import Objects

EVERY_S, AGAIN_FROM_THE_START_S = 60.0, 3_600.0
WRITING_PAUSE_S = 10.0
"""After a page of which something was written: 500 cases in ten seconds, a hundred thousand in half an hour, and the living wait
for none of it.
"""

FETCH_WITHIN_S, MOST_PAGES = 10.0, 40
"""Of one archive at a time, before it is another's turn: 20,000 notices that are known already, and how long they may take to come."""

_CLOCKS_MS = 3_600_000
"""How far the clock of an archive may be ahead: a notice from later would keep out every one that follows."""


class Engine(Protocol):
    """Writes one unit, and starts what it ordered."""

    async def happen(self, unit: Unit) -> Done: ...


class _Reading:
    """How far an archive was read, and when it is asked next and read from the start, in seconds of the loop."""

    def __init__(self) -> None:
        self.after = 0
        self.due_at = 0.0
        self.again_at = math.inf


class SignedAnewNotices:
    """Asks every archive that is there and issues documents, until cancelled: `run`."""

    def __init__(
        self,
        archives: Iterable[str],
        objects: Objects,
        issues: Callable[[str], bool],
        store: Store,
        engine: Engine,
        log: GatewayLog,
    ) -> None:
        """`issues` says whether an archive is there now and makes documents."""
        self._reading = {archive: _Reading() for archive in archives}
        self._objects, self._issues = objects, issues
        self._store, self._engine, self._log = store, engine, log
        self._bell = asyncio.Event()

    def returned(self, archive: str) -> None:
        """A session opened: the archive is asked now."""
        self._reading[archive].due_at = 0.0
        self._bell.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._bell.clear()
            for archive, reading in self._reading.items():
                if reading.due_at <= loop.time() and self._issues(archive):
                    pause = WRITING_PAUSE_S if await self.ask(archive) else EVERY_S
                    reading.due_at = loop.time() + pause
            now = loop.time()  # one that is due and away rings when it is back
            pauses = [one.due_at - now for one in self._reading.values() if one.due_at > now]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(pauses, default=EVERY_S)):
                    await self._bell.wait()

    async def ask(self, archive: str) -> bool:
        """Take what is new of one archive; whether there may be more at once. What does not come, or can not be logged or written,
        is asked for again.
        """
        reading, now = self._reading[archive], asyncio.get_running_loop().time()
        if reading.again_at <= now:
            reading.after, reading.again_at = 0, math.inf
        if not reading.after:
            reading.again_at = now + AGAIN_FROM_THE_START_S
        with contextlib.suppress(Refusal, EvidenceError, UnreadablePageError, TimeoutError):
            for _page in range(MOST_PAGES):
                async with asyncio.timeout_at(now + FETCH_WITHIN_S):
                    name = f"{signed_anew.OBJECT}/{reading.after}"
                    data = await self._objects.fetch(archive, name, signed_anew.LARGEST_PAGE)
                page = signed_anew.read(data, archive)
                is_written = await self._take(archive, page.notices)
                if page.upto <= reading.after:
                    return False
                reading.after = page.upto
                if is_written:
                    return True
            return True
        return False

    async def _take(self, archive: str, notices: Sequence[Notice]) -> bool:
        """Log and write those that change what a case gives, of a case the newest; whether there were any."""
        latest = self._store.now_ms() + _CLOCKS_MS
        cases = await asyncio.to_thread(self._cases, [one.case_id for one in notices])
        newest: dict[str, Notice] = {}
        for one in sorted(notices, key=lambda one: one.at_ms):
            case = cases.get(one.case_id)
            if case is None or one.at_ms > latest:
                continue
            if case.is_succeeded(archive, one.number, one.digest, one.at_ms):
                newest[case.id] = one
        if not newest:
            return False
        # logged first: a case that names a new digest has it explained, wherever the process was killed
        await asyncio.gather(*[
            self._log.note(event_of(archive, one.number, one.case_id, one.form, one.digest, one.at_ms))
            for one in newest.values()
        ])  # fmt: skip
        written = await asyncio.gather(
            *[self._write(archive, one) for one in newest.values()], return_exceptions=True
        )
        for error in written:
            if isinstance(error, Refusal) and error.reason in {Reason.STORE_UNAVAILABLE, Reason.OVERLOADED}:
                raise error
        return True  # of any other: another replica was quicker, or the case has gone on

    def _cases(self, ids: Sequence[str]) -> dict[str, Case]:
        """Those of the cases that are this gateway's; one that can not be read is the operator's, and holds up no other."""
        rows = self._store.read(
            lambda c: c.execute(select(CASES.c.id, CASES.c.data).where(CASES.c.id.in_(ids))).all()
        )
        found = {}
        for row in rows:
            with contextlib.suppress(*UNREADABLE):
                found[row.id] = decode_case(row.data)
        return found

    async def _write(self, archive: str, one: Notice) -> None:
        said = {"number": one.number, "credential": one.digest, "signed_ms": one.at_ms}
        await self._engine.happen(Unit(one.case_id, Event(Kind.SIGNED_ANEW, archive, said)))
