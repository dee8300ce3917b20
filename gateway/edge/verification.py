"""The public routes of verification: anyone may verify, take a status list or the trust list; nothing needs a token."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta, Struct

from federation.http.limits import RateLimit
from federation.reasons import Reason, Refusal
from federation.verify.challenge import NONCE_LIFETIME, Challenge
from federation.verify.report import Report
from gateway.bodies import Bodies
from gateway.edge.accepting import accepted
from gateway.edge.requests import decode
from gateway.evidence.verifying import LARGEST_DOCUMENT

Handler = Callable[[web.Request, str], Awaitable[web.StreamResponse]]

_LIST_FORMS = ("application/statuslist+cwt", "application/statuslist+jwt")
_TYPES = (
    "application/pdf", "text/plain", "application/dc+sd-jwt", "application/sd-jwt+json", "application/octet-stream",
)  # fmt: skip


Word = Annotated[str, Meta(min_length=1, max_length=512)]


class PresentedBody(Struct, forbid_unknown_fields=True, frozen=True):
    """The JSON body of POST /v1/documents/verify; `audience` and `nonce` come together, `purpose` with both."""

    document: Annotated[str, Meta(min_length=1)]
    audience: Word | None = None
    nonce: Word | None = None
    purpose: Word | None = None


_PRESENTED = msgspec.json.Decoder(PresentedBody)


class VerifyingFeature(Protocol):
    """What the edge needs of verification."""

    def nonce(self) -> str: ...
    async def verify(self, data: bytes, challenge: Challenge | None = None) -> Report: ...


class StatusTokens(Protocol):
    """The status lists as their archives signed them."""

    def token(self, archive: str, form: str = "") -> tuple[bytes, str] | None:
        """A list and its media type; `form` is the media type wanted, "" = the one this gateway believes."""
        ...


class VerificationRoutes:
    """`audience` names this verifier in presentations; `trust_list` is the pinned list as it lies on disk, empty = none:
    then every route says so.
    """

    def __init__(
        self,
        verifying: VerifyingFeature | None,
        statuses: StatusTokens | None,
        limit: RateLimit,
        bodies: Bodies,
        *,
        audience: str,
        trust_list: bytes,
    ) -> None:
        self._verifying, self._statuses, self._limit, self._bodies = verifying, statuses, limit, bodies
        self._audience, self._trust_list = audience, trust_list

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "/v1/documents/verify", self._verify),
            ("POST", "/v1/documents/nonces", self._nonce),
            ("GET", "/v1/status-lists/{archive}", self._status_list),
            ("GET", "/.well-known/lantai-trust-list.json", self._trust),
        ]

    def _take(self, request: web.Request) -> None:
        self._limit.take_stranger(request.remote)
        if self._verifying is None:
            raise Refusal(Reason.NO_TRUST_LIST)

    async def _verify(self, request: web.Request, _trace: str) -> web.StreamResponse:
        self._take(request)
        assert self._verifying is not None
        kind = request.content_type
        if kind != "application/json" and kind not in _TYPES:
            raise Refusal(Reason.UNSUPPORTED_MEDIA_TYPE, allowed=", ".join(("application/json", *_TYPES)))
        async with self._bodies.reading(request) as came:
            body = await (request.read() if kind == "application/json" else _whole(request, came))
        data, challenge = _presented(body) if kind == "application/json" else (body, None)
        report = await self._verifying.verify(data, challenge)
        return web.json_response(report.as_json(), headers={"Cache-Control": "no-store"}, dumps=_dumps)

    async def _nonce(self, request: web.Request, _trace: str) -> web.StreamResponse:
        self._take(request)
        assert self._verifying is not None
        body = {
            "nonce": self._verifying.nonce(),
            "audience": self._audience,
            "expires_in": int(NONCE_LIFETIME.total_seconds()),
        }
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    async def _status_list(self, request: web.Request, _trace: str) -> web.StreamResponse:
        self._take(request)
        assert self._statuses is not None
        kinds = accepted(request)
        wanted = next((form for form in _LIST_FORMS if form in kinds), "")
        archive = request.match_info["archive"]
        found = self._statuses.token(archive, wanted) or self._statuses.token(archive)
        if found is None:
            raise Refusal(Reason.NOT_FOUND)
        headers = {"Content-Type": found[1], "Cache-Control": "max-age=300", "Vary": "Accept"}
        return web.Response(body=found[0], headers=headers)

    async def _trust(self, request: web.Request, _trace: str) -> web.StreamResponse:
        self._take(request)
        headers = {"Content-Type": "application/json", "Cache-Control": "max-age=300"}
        return web.Response(body=self._trust_list, headers=headers)


async def _whole(request: web.Request, came: Callable[[int], None]) -> bytes:
    """The body, refused as soon as it is larger than allowed."""
    said = request.headers.get(hdrs.CONTENT_LENGTH, "")
    if said.isdigit() and int(said) > LARGEST_DOCUMENT:
        raise Refusal(Reason.TOO_LARGE, allowed=f"<= {LARGEST_DOCUMENT}")
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.content.iter_chunked(1 << 18):
            size += len(part)
            if size > LARGEST_DOCUMENT:
                raise Refusal(Reason.TOO_LARGE, allowed=f"<= {LARGEST_DOCUMENT}")
            came(len(part))
            parts.append(part)
        return b"".join(parts)
    finally:
        parts.clear()  # the request keeps what ended it, and with that this frame, until garbage is collected


def _presented(body: bytes) -> tuple[bytes, Challenge | None]:
    """The text to verify and, for a presentation, what was asked of it. Refusal names reason and field."""
    said: PresentedBody = decode(_PRESENTED, body)
    data = said.document.encode()
    if said.audience is None and said.nonce is None and said.purpose is None:
        return data, None
    if said.audience is None or said.nonce is None:
        raise Refusal(Reason.MISSING_FIELD, "/nonce" if said.nonce is None else "/audience")
    return data, Challenge(said.audience, said.nonce, said.purpose)


def _dumps(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False)
