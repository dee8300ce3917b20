"""Cases as evidence: what happens to a case becomes events of this gateway's log, and what a crash kept out is added.

A case is durable in its store first and in the log a moment later. Messages are receipted only when both have them, so
they come again; acceptances and ends are looked up in the store at every start and after every trouble of the log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from federation import mail
from federation.reasons import Reason, Refusal
from federation.tlog.event import Event, EventKind
from federation.tlog.exchange import delivered, event_of
from federation.tlog.flaws import EvidenceError, Flaw
from gateway.adapters.register import StoredRegister
from gateway.cases.case import UNREADABLE, Case, decode_case
from gateway.cases.cases import first_case_id
from gateway.cases.schema import CASES, REQUESTS, RESULTS
from gateway.cases.states import ENDED, State
from gateway.cases.store import Store
from gateway.evidence.log import GatewayLog
from gateway.evidence.register import registered

HEAL_EVERY_S = 30.0
"""After trouble of the log the store is looked through this often, until it went well."""

_MARGIN_MS = 600_000
"""What is older than this before the log's newest event was logged, or was noticed not to be while the process lived."""

_FIRST_LOOK_MS = 86_400_000
_PAGE = 500


def requested(case: Case, digest: str) -> Event:
    """The case was accepted. `digest` is the SHA-256 (hex) of the request's body."""
    request = case.request
    said = {
        "digest": digest,
        "purpose": str(request.get("purpose", "")),
        "relation": str(request.get("applicant", {}).get("relation", "")).lower(),
        "category": str(request.get("category", "")),
    }
    fields = {name: value for name, value in said.items() if value}
    return Event(EventKind.REQUESTED, "requested", case.created_ms, case.id, fields)


def ended(case: Case) -> list[Event]:
    """How it ended: its document in the caller's hands, or closed without one; nothing while it goes on. A case closed
    because no record is held may have its note delivered later.
    """
    document, number = case.decision.get("document"), case.decision.get("number")
    events = []
    if case.state in ENDED and not (case.state is State.DELIVERED and document):
        events.append(
            Event(EventKind.CLOSED, "closed", case.ended_ms, case.id, {"outcome": case.state.value})
        )
    if case.delivered_ms and document and number:
        events.append(delivered(case.issuer, case.id, str(number), str(document), case.delivered_ms))
    return events


class CaseEvidence:
    """Fills `gateway.cases.ports.Evidence`. `run` adds what is missing, until cancelled."""

    def __init__(
        self, log: GatewayLog, store: Store, now_ms: Callable[[], int], register: StoredRegister | None = None
    ) -> None:
        """`register` keeps the short codes of documents that archives tell of."""
        self._log, self._store, self._now_ms, self._register = log, store, now_ms, register
        self._trouble_since_ms = 0
        self._trouble = asyncio.Event()

    # what the case feature tells -----------------------------------------------------------------------------------

    def accepted(self, case: Case, digest: str) -> None:
        self._add(lambda: [requested(case, digest)])

    def ended(self, case: Case) -> None:
        self._add(lambda: ended(case))

    def message(
        self, archive: str, name: bytes, case_id: str, message: mail.ToDesk | mail.FromDesk
    ) -> asyncio.Future[None] | None:
        try:
            event = event_of(archive, name, case_id, message, self._now_ms())
        except EvidenceError:
            raise Refusal(Reason.BAD_FRAME) from None
        logging = None if event is None else self._log.note(event)
        if self._register is None or not isinstance(message, mail.Issued):
            return logging
        document = registered(archive, case_id, message)
        if document is None or logging is None:
            return logging
        return asyncio.ensure_future(_both(logging, self._register.keep(document)))

    def _add(self, make: Callable[[], list[Event]]) -> None:
        """Log what nobody waits for; what can not be is looked up again later."""
        with contextlib.suppress(EvidenceError):  # a word of the request that no event may hold
            for event in make():
                self._log.note(event).add_done_callback(self._noted)

    def _noted(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled() and done.exception() is not None:
            self._trouble_since_ms = self._trouble_since_ms or self._now_ms()
            self._trouble.set()

    # what a crash or a full disk kept out --------------------------------------------------------------------------

    async def run(self) -> None:
        """Look through the store at start and after trouble, until cancelled."""
        newest = await asyncio.to_thread(self._log.newest_at_ms)
        since = newest - _MARGIN_MS if newest else self._now_ms() - _FIRST_LOOK_MS
        while True:
            self._trouble.clear()
            self._trouble_since_ms = 0
            try:
                await self.heal(since)
            except (Refusal, EvidenceError):
                await asyncio.sleep(HEAL_EVERY_S)
                continue
            await self._trouble.wait()
            since = self._trouble_since_ms - _MARGIN_MS
            await asyncio.sleep(HEAL_EVERY_S)

    async def heal(self, since_ms: int) -> None:
        """Log every acceptance and end since then that is not in the log. Refusal, EvidenceError when it can not be."""
        pages = self._missing(since_ms)
        while (events := await asyncio.to_thread(next, pages, None)) is not None:
            await asyncio.gather(*[self._log.note(event) for event in events])

    def _missing(self, since_ms: int) -> Iterator[list[Event]]:
        """Page by page, what should be in the log."""
        digests = self._store.read(lambda c: _digests(c, since_ms))
        id_ = first_case_id(since_ms)
        while rows := self._store.read(partial(_accepted, after=id_)):
            id_ = rows[-1].id
            yield self._events(
                rows, lambda case: [requested(case, digests[case.id])] if case.id in digests else []
            )
        at, id_ = since_ms, ""
        while rows := self._store.read(partial(_ended, since_ms=at, after=id_)):
            at, id_ = rows[-1].ended_ms, rows[-1].id
            yield self._events(rows, ended)
        at, id_ = since_ms, ""
        while rows := self._store.read(partial(_stopped, since_ms=at, after=id_)):  # notes delivered later
            at, id_ = rows[-1].stopped_ms, rows[-1].id
            yield self._events(rows, ended)

    def _events(self, rows: Sequence[Any], make: Callable[[Case], list[Event]]) -> list[Event]:
        """The events of cases; one that can not be read is counted and for the operator, and holds up no other."""
        found = []
        for row in rows:
            try:
                found += make(decode_case(row.data))
            except EvidenceError:  # a word of the request that no event may hold
                continue
            except (*UNREADABLE, AttributeError, TypeError):  # of a request that is built in another way too
                self._log.missed(Flaw.MALFORMED_EVENT)
        return found


async def _both(logging: asyncio.Future[None], keeping: asyncio.Future[None]) -> None:
    await asyncio.gather(logging, keeping)


def _digests(connection: Connection, since_ms: int) -> dict[str, str]:
    """Case -> digest of the body it was asked by; the keys of what was said about a case begin with its id."""
    query = select(REQUESTS.c.case_id, REQUESTS.c.digest, REQUESTS.c.key).where(REQUESTS.c.at_ms >= since_ms)
    return {
        case_id: digest
        for case_id, digest, key in connection.execute(query)
        if not key.startswith(f"{case_id}:")
    }


def _accepted(connection: Connection, after: str) -> Sequence[Any]:
    query = select(CASES.c.id, CASES.c.data).where(CASES.c.id > after).order_by(CASES.c.id).limit(_PAGE)
    return connection.execute(query).all()


def _ended(connection: Connection, since_ms: int, after: str) -> Sequence[Any]:
    at, id_ = CASES.c.ended_ms, CASES.c.id
    query = (
        select(id_, at, CASES.c.data)
        .where(at.is_not(None), CASES.c.kept < 2, (at > since_ms) | ((at == since_ms) & (id_ > after)))
        .order_by(at, id_)
        .limit(_PAGE)
    )
    return connection.execute(query).all()


def _stopped(connection: Connection, since_ms: int, after: str) -> Sequence[Any]:
    at, id_ = RESULTS.c.stopped_ms, CASES.c.id
    query = (
        select(id_, at, CASES.c.data)
        .join(RESULTS, RESULTS.c.case_id == id_)
        .where((at > since_ms) | ((at == since_ms) & (id_ > after)))
        .order_by(at, id_)
        .limit(_PAGE)
    )
    return connection.execute(query).all()
