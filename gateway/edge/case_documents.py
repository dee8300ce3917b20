"""The answer of a case: the document and the credential, carried from the archive that issued them to whoever asked.

The clock stops when the last byte of the document was written, whether it came in one piece or was resumed. An archive
that makes no documents gives a notice, which is in the answer itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from federation.reasons import Reason, Refusal
from gateway.cases.case import Case, when
from gateway.cases.states import WITH_DOCUMENT, State
from gateway.edge.accepting import accepted
from gateway.edge.case_rendering import decided
from gateway.edge.delivery import Carried, Deliveries, hand_over, wanted_from

MOST_AT_ONCE = 256
"""Deliveries of one gateway process at a time: each may hold one window of a bulk stream, 1 MB."""

NOTE_AGAIN_S = 2.0
_REFERENCE = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9A-Za-z-]{1,40}")
_ENDINGS = {
    "application/pdf": "pdf",
    "application/vnd.lantai.sealed": "sealed",
    "application/dc+sd-jwt": "sd-jwt",
    "application/sd-jwt+json": "json",
    "text/plain": "txt",
}
_TEMPORARY = frozenset(
    {Reason.HOLDER_UNREACHABLE, Reason.OVERLOADED, Reason.DRAINING, Reason.STORE_UNAVAILABLE}
)


class CaseDocuments:
    """Handlers of /v1/cases/{id}/document and /credential. `find` gives the caller's case or refuses, `delivered` notes
    that the answer is in the caller's hands.
    """

    def __init__(
        self,
        find: Callable[[web.Request], Awaitable[Case]],
        delivered: Callable[[Case], Awaitable[Case]],
        deliveries: Deliveries | None,
    ) -> None:
        self._find, self._delivered, self._deliveries = find, delivered, deliveries
        self._running = 0

    async def document(self, request: web.Request, _trace: str) -> web.StreamResponse:
        """The document in bytes; its description where JSON is asked for or there is nothing else."""
        case = await self._find(request)
        if case.state not in WITH_DOCUMENT:
            raise Refusal(Reason.NO_DOCUMENT)
        reference = str(case.decision.get("document", ""))
        if case.awaits_note and not _wants_json(request):
            raise Refusal(Reason.NO_DOCUMENT, retry_after_s=NOTE_AGAIN_S)
        if (reference or case.awaits_note) and _wants_json(request):
            return self._json(_described(case))
        if reference:
            response = await self._carry(request, case, "document", reference)
        else:
            response = self._json(_described(case))
        await asyncio.shield(self._delivered(case))
        return response

    async def credential(self, request: web.Request, _trace: str) -> web.StreamResponse:
        """The machine-verifiable form; it does not stop the clock. A sealed package holds it inside."""
        case = await self._find(request)
        reference = str(case.decision.get("credential", ""))
        if case.state not in WITH_DOCUMENT or not reference:
            raise Refusal(Reason.NO_DOCUMENT)
        return await self._carry(request, case, "credential", reference)

    @staticmethod
    def _json(body: dict[str, Any]) -> web.Response:
        return web.Response(
            body=msgspec.json.encode(body),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    async def _carry(self, request: web.Request, case: Case, kind: str, reference: str) -> web.StreamResponse:
        """Hand one object over; on return its last byte was written."""
        if not _REFERENCE.fullmatch(reference):
            raise Refusal(Reason.ALTERED)  # the archive said what can not be a digest
        if self._deliveries is None:
            raise Refusal(Reason.HOLDER_UNREACHABLE, retry_after_s=5.0)
        if self._running >= MOST_AT_ONCE:
            raise Refusal(Reason.OVERLOADED, retry_after_s=2.0)
        self._running += 1
        try:
            offset = wanted_from(request, reference)
            carried = await self._open(case.issuer, f"{kind}/{reference}", offset or 0)
            if carried.sha256.hex() != reference:
                await carried.close()
                raise Refusal(Reason.ALTERED)
            number = str(case.decision.get("number", ""))
            name = number if _NUMBER.fullmatch(number) else case.id
            ending = _ENDINGS.get(carried.media_type, "bin")
            return await hand_over(request, carried, offset, f"{name}.{ending}")
        finally:
            self._running -= 1

    async def _open(self, archive: str, name: str, offset: int) -> Carried:
        """The object, or why it does not come, in words of this contract."""
        assert self._deliveries is not None
        try:
            return await self._deliveries.open(archive, name, offset)
        except Refusal as refusal:
            if refusal.reason is Reason.OUT_OF_RANGE:
                raise Refusal(Reason.RANGE_NOT_SATISFIABLE) from None
            if refusal.reason is Reason.NOT_FOUND:
                raise Refusal(Reason.UNKNOWN_DOCUMENT) from None
            if refusal.reason is Reason.ALTERED:
                raise
            kept = refusal.reason if refusal.reason in _TEMPORARY else Reason.HOLDER_UNREACHABLE
            raise Refusal(kept, retry_after_s=refusal.retry_after_s or 5.0) from None


def _wants_json(request: web.Request) -> bool:
    """Whether the caller accepts JSON and no document."""
    kinds = accepted(request)
    return "application/json" in kinds and not {"*/*", "application/*", "application/pdf"} & kinds


def _described(case: Case) -> dict[str, Any]:
    """The holder's notice or the statement that no record is held, with the references of what is there to fetch."""
    is_note = case.state is State.NO_RECORD
    body: dict[str, Any] = {
        "case": case.id,
        "kind": "no_record_statement" if is_note else "approval_notice",
        "category": case.request.get("category", ""),
    }
    if is_note:
        body["archives"] = sorted(case.outcomes)
        body["verdict"] = case.verdict
    if case.decision:
        body["archive"] = case.issuer
        body["decision"] = decided(case)
        if not is_note:
            body["issued"] = when(case.entered_ms)
    return body
