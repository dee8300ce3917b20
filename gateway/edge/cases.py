"""The routes of cases: 202 and a place to look, waiting, events that resume, what callers may say, the answer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec
from aiohttp import hdrs, web

from federation.http.bodies import in_time
from federation.http.limits import RateLimit
from federation.http.problems import LANGUAGE_TAGS, language_of
from federation.reasons import Reason, Refusal
from gateway.cases.case import Case, Entry
from gateway.cases.cases import NewCase, Once
from gateway.cases.minutes import Minutes
from gateway.cases.scorecard import Scorecard
from gateway.cases.states import ANSWER_IN_THE_CASE, ENDED, Kind, State
from gateway.edge.case_documents import CaseDocuments
from gateway.edge.case_rendering import case_body, event_body, scorecard_body
from gateway.edge.case_requests import (
    as_kept,
    idempotency_key,
    is_case_id,
    known_version,
    last_event,
    once,
    read_case,
    read_evidence,
    read_selection,
    wanted_wait,
)
from gateway.edge.delivery import Deliveries
from gateway.edge.tokens import Caller
from gateway.search.question import Question

SCOPE = "cases"
_HEARTBEAT_S = 15.0
_LONGEST_STREAM_S = 3600.0
SCORECARD_DAYS = 30

Handler = Callable[[web.Request, str], Awaitable[web.StreamResponse]]


class CaseFeature(Protocol):
    """What the edge needs of the case feature."""

    async def accept(self, new: NewCase) -> tuple[Case, bool]: ...
    async def case(self, case_id: str, client: str) -> Case: ...
    async def journal(self, case_id: str, after: int = 0) -> list[Entry]: ...
    async def minutes(self, case: Case) -> Minutes | None: ...
    async def estimate_s(self, case: Case) -> float | None: ...
    async def scorecard(self, archive: str, days: int) -> Scorecard: ...
    async def select(self, case: Case, ref: str, version: int = ..., once: Once = ...) -> Case: ...
    async def give_evidence(self, case: Case, proofs: list[dict[str, str]], once: Once = ...) -> Case: ...
    async def withdraw(self, case: Case) -> Case: ...
    async def delivered(self, case: Case) -> Case: ...
    async def seen(self, case: Case) -> Case: ...
    async def wait(self, case: Case, known_version: int, seconds: float) -> Case: ...
    def follow(
        self, case_id: str, after: int, quiet_s: float
    ) -> AbstractAsyncContextManager[AsyncIterator[list[Entry]]]: ...


class CaseRoutes:
    """Handlers of everything below /v1/cases, and of scorecards. `authorise` gives the caller or refuses."""

    def __init__(
        self,
        cases: CaseFeature,
        authorise: Callable[[web.Request, str], Caller],
        limit: RateLimit,
        is_draining: Callable[[], bool],
        keep: Callable[[Question], dict[str, Any]],
        is_connected: Callable[[str], bool | None],
        deliveries: Deliveries | None = None,
    ) -> None:
        self._cases, self._authorise, self._limit = cases, authorise, limit
        self._is_draining, self._keep, self._is_connected = is_draining, keep, is_connected
        self._documents = CaseDocuments(self._case, cases.delivered, deliveries)

    def routes(self) -> list[tuple[str, str, Handler]]:
        own = "/v1/cases/{id}"
        return [
            ("POST", "/v1/cases", self._create),
            ("GET", own, self._show),
            ("GET", f"{own}/events", self._events),
            ("POST", f"{own}/selection", self._select),
            ("POST", f"{own}/evidence", self._evidence),
            ("POST", f"{own}/withdrawal", self._withdraw),
            ("GET", f"{own}/document", self._documents.document),
            ("GET", f"{own}/credential", self._documents.credential),
            ("GET", "/v1/archives/{code}/scorecard", self._scorecard),
        ]

    async def _case(self, request: web.Request) -> Case:
        caller = self._authorise(request, SCOPE)
        self._limit.take(caller.client)
        case_id = request.match_info["id"]
        if not is_case_id(case_id):
            raise Refusal(Reason.UNKNOWN_CASE)
        return await self._cases.case(case_id, caller.client)

    async def _body(self, request: web.Request) -> bytes:
        if request.content_type != "application/json":
            raise Refusal(Reason.UNSUPPORTED_MEDIA_TYPE, allowed="application/json")
        return await in_time(request, request.read())

    async def _answer(self, request: web.Request, case: Case, status: int = 200) -> web.Response:
        clock = await self._cases.minutes(case)
        estimate = await self._cases.estimate_s(case)
        language = language_of(request)
        body = case_body(case, clock, language, estimate)
        headers = {
            "Cache-Control": "no-store",
            "ETag": _etag(case),
            "Content-Language": LANGUAGE_TAGS[language],
        }
        if status == 202:
            headers["Location"] = f"/v1/cases/{case.id}"
        if case.state not in ENDED:
            headers["Retry-After"] = "1"
        return web.Response(
            body=msgspec.json.encode(body), status=status, content_type="application/json", headers=headers
        )

    # accepting -------------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request, _trace: str) -> web.StreamResponse:
        caller = self._authorise(request, SCOPE)
        self._limit.take(caller.client)
        if self._is_draining():
            raise Refusal(Reason.DRAINING, retry_after_s=1.0)
        body = await self._body(request)
        key, digest = idempotency_key(request, body)
        asked, question = read_case(body, caller.client)
        kept = {**as_kept(asked, digest), "question": self._keep(question)}
        case, _replayed = await self._cases.accept(
            NewCase(caller.client, key, digest, kept, asked.window or "")
        )
        return await self._answer(request, case, 202)

    # showing ---------------------------------------------------------------------------------------------------

    async def _show(self, request: web.Request, _trace: str) -> web.StreamResponse:
        case = await self._case(request)
        seconds = wanted_wait(request)
        is_new = hdrs.IF_NONE_MATCH in request.headers and not known_version(request, _etag(case))
        is_final = case.state in ENDED and not case.awaits_note
        if seconds is not None and not is_final and not is_new:
            case = await self._cases.wait(case, case.version, 0.0 if self._is_draining() else seconds)
        # before 304: whoever names this version has it; by `*` nobody says that
        if request.headers.get(hdrs.IF_NONE_MATCH, "").strip() != "*":
            case = await self._cases.seen(case)
        if known_version(request, _etag(case)):
            return web.Response(status=304, headers={"ETag": _etag(case), "Cache-Control": "no-store"})
        response = await self._answer(request, case)
        if seconds is not None:
            response.headers["Preference-Applied"] = f"wait={int(seconds)}"
        return response

    async def _events(self, request: web.Request, _trace: str) -> web.StreamResponse:
        """Journal lines as server-sent events; the stream ends with the case or after an hour, then resumes. Whoever has read
        all of a case that is over is told so by 204, at which an EventSource does not come back.
        """
        case = await self._case(request)
        after = last_event(request)
        if after >= case.version:
            case = await self._cases.seen(case)
            if after >= case.version and _is_over(case.state, is_delivered=case.delivered_ms > 0):
                return web.Response(status=204, headers={"Cache-Control": "no-store"})
        async with self._cases.follow(case.id, after, _HEARTBEAT_S) as following:
            return await self._stream(request, case, following)

    async def _stream(
        self, request: web.Request, case: Case, following: AsyncIterator[list[Entry]]
    ) -> web.StreamResponse:
        headers = {
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "Content-Type": "text/event-stream",
        }
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(b"retry: 3000\n\n")
        until = time.monotonic() + _LONGEST_STREAM_S
        stands, is_delivered = case.state, case.delivered_ms > 0
        async for entries in following:
            if not entries:
                await response.write(b": still here\n\n")
            for entry in entries:
                data = msgspec.json.encode(event_body(entry))
                await response.write(
                    b"id: %d\nevent: %s\ndata: %s\n\n" % (entry.seq, entry.kind.value.encode(), data)
                )
                stands = entry.state
                is_delivered = is_delivered or entry.kind is Kind.DELIVERED
            if stands in ANSWER_IN_THE_CASE:
                await self._cases.seen(await self._cases.case(case.id, case.client))
            if _is_over(stands, is_delivered=is_delivered):
                break
            if self._is_draining() or time.monotonic() > until:
                break
        await response.write_eof()
        return response

    # what callers say ------------------------------------------------------------------------------------------

    async def _select(self, request: web.Request, _trace: str) -> web.StreamResponse:
        case, body = await self._case(request), await self._body(request)
        ref, version = read_selection(body)
        chosen = await self._cases.select(case, ref, version, once(request, "selection", body))
        return await self._answer(request, chosen)

    async def _evidence(self, request: web.Request, _trace: str) -> web.StreamResponse:
        case, body = await self._case(request), await self._body(request)
        given = read_evidence(body)
        return await self._answer(
            request, await self._cases.give_evidence(case, given, once(request, "evidence", body))
        )

    async def _withdraw(self, request: web.Request, _trace: str) -> web.StreamResponse:
        case = await self._case(request)
        return await self._answer(request, await self._cases.withdraw(case))

    # an archive's record ----------------------------------------------------------------------------------------

    async def _scorecard(self, request: web.Request, _trace: str) -> web.StreamResponse:
        self._limit.take(self._authorise(request, SCOPE).client)
        code = request.match_info["code"]
        connected = self._is_connected(code)
        if connected is None:
            raise Refusal(Reason.NOT_FOUND)
        card = await self._cases.scorecard(code, SCORECARD_DAYS)
        return web.json_response(
            scorecard_body(code, card, SCORECARD_DAYS, connected),
            headers={"Cache-Control": "no-store"},
            dumps=_dumps,
        )


def _is_over(state: State, *, is_delivered: bool) -> bool:
    """Nothing more is to be expected of a case: withdrawn, or ended and delivered. A credential that its archive signs anew
    later is told to whoever asks again.
    """
    return state is State.WITHDRAWN or (state in ENDED and is_delivered)


def _etag(case: Case) -> str:
    return f'W/"{case.version}"'  # weak: the minutes in the body go on without a new version


def _dumps(body: Any) -> str:
    return msgspec.json.encode(body).decode()
