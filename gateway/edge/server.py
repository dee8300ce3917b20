"""The HTTP server: routes, and what every request goes through: trace id, refusals as problems, count, one log line."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol

import msgspec
import yaml
from aiohttp import hdrs, web
from jinja2 import Environment, PackageLoader, StrictUndefined
from prometheus_client import generate_latest

from federation.http.bodies import LARGEST_BODY, in_time
from federation.http.limits import RateLimit
from federation.http.problems import LANGUAGE_TAGS, language_of
from federation.reasons import Reason, Refusal
from gateway import telemetry
from gateway.edge import rendering
from gateway.edge.accepting import accepted
from gateway.edge.cases import CaseFeature, CaseRoutes
from gateway.edge.delivery import Deliveries
from gateway.edge.hung_up import HungUp
from gateway.edge.problems import problem, reason_of
from gateway.edge.requests import read_search
from gateway.edge.tokens import Caller, Clients, Tokens
from gateway.search.ports import Holdings
from gateway.search.question import Question
from gateway.search.roster import Member, Roster
from gateway.search.search import SearchAnswer, SearchEvent
from gateway.search.selection import check_scope

Handler = Callable[[web.Request, str], Awaitable[web.StreamResponse]]
"""Takes the request and its trace id."""

Route = tuple[str, str, Handler]
"""(method, path, handler)."""

TOKEN_LIFETIME_S = 600
_LAG_LIVE_S = 5.0
_SLOWEST_READER_S = 10.0  # beyond the deadline, for reading a stream that is told
_CLIENT = web.RequestKey("client", str)
_TRACE = web.RequestKey("trace", str)
_TOKEN = "/oauth2/token"  # noqa: S105
_FORM = "application/x-www-form-urlencoded"
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class SearchFeature(Protocol):
    """What the edge needs of the search feature."""

    roster: Roster

    async def search(self, question: Question) -> SearchAnswer: ...
    def stream(self, question: Question) -> AsyncGenerator[SearchEvent]: ...
    def page(self, cursor: str, caller: str) -> SearchAnswer: ...


@dataclass(slots=True)
class Health:
    """What /livez and /readyz look at."""

    draining: bool = False
    ticked_at: float = 0.0
    running: int = 0  # requests being answered, but for streams of events that last as long as a case


def openapi(issuer: str = "") -> dict[str, Any]:
    """The hand-written contract; everything served is held to it. With `issuer` it names the one of this gateway's tokens."""
    text = resources.files("gateway.edge").joinpath("openapi.yaml").read_text("utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text.replace("{issuer}", issuer) if issuer else text)
    return loaded


class Edge:
    """The HTTP edge. `app()` gives the aiohttp application."""

    def __init__(
        self,
        searches: SearchFeature,
        holdings: Holdings,
        tokens: Tokens,
        clients: Clients,
        limit: RateLimit,
        health: Health,
        cases: CaseFeature | None = None,
        keep: Callable[[Question], dict[str, Any]] | None = None,
        beside: Sequence[Route] = (),
        deliveries: Deliveries | None = None,
    ) -> None:
        """`beside` are the routes of further features; without `deliveries` no archive's documents can be fetched."""
        self._searches, self._holdings = searches, holdings
        self._tokens, self._clients, self._limit, self._health = tokens, clients, limit, health
        self._cases, self._beside = None, beside
        self._hung_up = HungUp()
        if cases is not None and keep is not None:

            def kept(question: Question) -> dict[str, Any]:
                check_scope(question.scope, searches.roster)
                return keep(question)

            self._cases = CaseRoutes(
                cases, self._caller, limit, lambda: health.draining, kept, self._is_connected, deliveries
            )
        self._contract = openapi(tokens.issuer)
        self._contract_json = msgspec.json.encode(self._contract)
        self._pages = Environment(
            loader=PackageLoader("gateway.edge", "templates"), autoescape=True, undefined=StrictUndefined
        )

    def app(self) -> web.Application:
        """All routes. Bodies are bounded before they are read."""
        app = web.Application(client_max_size=LARGEST_BODY)
        app.on_response_prepare.append(_say_trace)
        routes: list[tuple[str, str, Handler]] = [
            ("POST", "/v1/searches", self._search),
            ("GET", "/v1/archives", self._archives),
            ("GET", "/v1/archives/{code}", self._archive),
            ("POST", _TOKEN, self._token),
            ("GET", "/openapi.json", self._openapi),
            ("GET", "/docs", self._docs),
            *((method, "/livez", self._livez) for method in ("GET", "HEAD")),
            *((method, "/readyz", self._readyz) for method in ("GET", "HEAD")),
            ("GET", "/metrics", self._metrics),
            ("GET", "/.well-known/jwks.json", self._jwks),
        ]
        if self._cases is not None:
            routes += self._cases.routes()
        routes += self._beside
        allowed: dict[str, list[str]] = {}
        for method, path, handler in routes:
            app.router.add_route(method, path, self._through(path, handler))
            allowed.setdefault(path, []).append(method)
        for path, methods in allowed.items():
            app.router.add_route("*", path, self._through(path, self._wrong_method(methods)))
        app.router.add_route("*", "/{any:.*}", self._through("other", self._nowhere))
        return app

    def _through(
        self, route: str, handler: Handler
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """What every request of a route goes through."""
        counted: dict[int, Any] = {}
        counts = 0 if route.endswith("/events") else 1

        async def handle(request: web.Request) -> web.StreamResponse:
            began = time.perf_counter()
            trace = request[_TRACE] = secrets.token_hex(8)
            client = ""
            self._health.running += counts
            try:
                response = await handler(request, trace)
            except Refusal as refusal:
                telemetry.REFUSALS.labels(reason=refusal.reason.value).inc()
                response = problem(refusal, language_of(request), trace, of_tokens=route == _TOKEN)
                if refusal.reason is Reason.RATE_LIMITED:
                    response.headers.update(self._limit.headers(0))
            except web.HTTPRequestEntityTooLarge:
                large = Refusal(Reason.TOO_LARGE, allowed=f"<= {LARGEST_BODY}")
                response = problem(large, language_of(request), trace, of_tokens=route == _TOKEN)
            except (asyncio.CancelledError, ConnectionResetError):
                raise
            except Exception as error:
                telemetry.log.error(
                    "a request failed",
                    action="http.failed",
                    route=route,
                    kind=type(error).__name__,
                    trace=trace,
                )
                broken = Refusal(Reason.INTERNAL)
                response = problem(broken, language_of(request), trace, of_tokens=route == _TOKEN)
            finally:
                self._health.running -= counts
            if request.writer.output_size > 0 and not response.prepared:
                # a stream failed: a second answer inside the first would be read as a part of it
                if request.transport is not None:
                    request.transport.close()
                raise ConnectionResetError
            status = response.status
            count = counted.get(status)
            if count is None:
                count = counted[status] = telemetry.REQUESTS.labels(route=route, status=str(status))
            count.inc()
            if status >= 500 or route not in {"/livez", "/readyz", "/metrics"}:
                ms = round((time.perf_counter() - began) * 1000, 1)
                client = request.get(_CLIENT, "")
                telemetry.log.info(
                    "request",
                    route=route,
                    method=request.method,
                    status=status,
                    ms=ms,
                    client=client,
                    trace=trace,
                    **reason_of(response),
                )
            return response

        return handle

    @staticmethod
    def _wrong_method(allowed: list[str]) -> Handler:
        async def refuse(request: web.Request, trace: str) -> web.StreamResponse:
            response = problem(Refusal(Reason.METHOD_NOT_ALLOWED), language_of(request), trace)
            response.headers["Allow"] = ", ".join(allowed)
            return response

        return refuse

    @staticmethod
    async def _nowhere(_request: web.Request, _trace: str) -> web.StreamResponse:
        raise Refusal(Reason.NOT_FOUND)

    def _caller(self, request: web.Request, scope: str) -> Caller:
        """Who asks; Refusal when the token is missing, wrong, or without the scope."""
        header = request.headers.get(hdrs.AUTHORIZATION, "")
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise Refusal(Reason.TOKEN_MISSING)
        caller = self._tokens.verify(token.strip())
        request[_CLIENT] = caller.client
        if scope not in caller.scopes:
            raise Refusal(Reason.NOT_PERMITTED, allowed=f"scope {scope}")
        return caller

    # /v1/searches ----------------------------------------------------------------------------------------------

    async def _search(self, request: web.Request, _trace: str) -> web.StreamResponse:
        caller = self._caller(request, "search")
        left = self._limit.take(caller.client)
        if self._health.draining:
            raise Refusal(Reason.DRAINING, retry_after_s=1.0)
        if request.content_type != "application/json":
            raise Refusal(Reason.UNSUPPORTED_MEDIA_TYPE, allowed="application/json")
        kinds = accepted(request)
        wants_stream = "text/event-stream" in kinds
        if not wants_stream and not kinds & {"application/json", "application/*", "*/*"}:
            raise Refusal(Reason.NOT_ACCEPTABLE, allowed="application/json, text/event-stream")
        question = read_search(await in_time(request, request.read()), caller.client)
        language = language_of(request)
        if isinstance(question, str):
            found = self._searches.page(question, caller.client)
            if not wants_stream:
                return self._json(rendering.answer(found, language), left, language)
            headers = self._stream_headers(language, left)
            return web.Response(body=_event(("answer", found), language), headers=headers)
        check_scope(question.scope, self._searches.roster)
        if wants_stream:
            return await self._stream(request, question, language, left)
        with self._hung_up.watching(request):
            found = await self._searches.search(question)
        return self._json(rendering.answer(found, language), left, language)

    def _json(self, body: Any, left: int | None = None, language: str = "") -> web.Response:
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        if language:
            headers["Content-Language"] = LANGUAGE_TAGS[language]
        if left is not None:
            headers |= self._limit.headers(left)
        return web.Response(body=msgspec.json.encode(body), headers=headers)

    def _stream_headers(self, language: str, left: int) -> dict[str, str]:
        return {
            "Content-Type": "text/event-stream",
            "Content-Language": LANGUAGE_TAGS[language],
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            **self._limit.headers(left),
        }

    async def _stream(
        self, request: web.Request, question: Question, language: str, left: int
    ) -> web.StreamResponse:
        """Server-sent events: `outcome` for each archive as it comes, then `answer`. Nothing is sent before the question
        was accepted, so that a refusal is still an ordinary problem.
        """
        with self._hung_up.watching(request):
            async with contextlib.aclosing(self._searches.stream(question)) as events:
                first = await anext(events)
                response = web.StreamResponse(headers=self._stream_headers(language, left))
                async with asyncio.timeout(question.deadline_s + _SLOWEST_READER_S):
                    await response.prepare(request)
                    await response.write(_event(first, language))
                    async for event in events:
                        await response.write(_event(event, language))
                    await response.write_eof()
        return response

    # the rest --------------------------------------------------------------------------------------------------

    async def _archives(self, request: web.Request, _trace: str) -> web.StreamResponse:
        self._caller(request, "search")
        members = self._searches.roster.members
        return self._json(
            {
                "roster_epoch": self._searches.roster.epoch,
                "archives": [self._described(one) for one in members],
            }
        )

    async def _archive(self, request: web.Request, _trace: str) -> web.StreamResponse:
        self._caller(request, "search")
        member = self._searches.roster.by_code.get(request.match_info["code"])
        if member is None:
            raise Refusal(Reason.NOT_FOUND)
        return self._json(self._described(member))

    def _is_connected(self, code: str) -> bool | None:
        """Whether a member has a session now; None for an archive that is not on the roster."""
        return self._holdings.connected(code) if code in self._searches.roster.by_code else None

    def _described(self, member: Member) -> dict[str, Any]:
        manifest = self._holdings.manifest(member.code)
        body: dict[str, Any] = {
            "code": member.code,
            "name": member.name,
            "connected": self._holdings.connected(member.code),
        }
        if manifest is not None:
            body["service_hours"] = manifest.hours.to_dict() if manifest.hours is not None else None
            body["release_rule"] = manifest.release
            body["records"] = manifest.records
            body["index_epoch"] = manifest.index_epoch
            body["categories"] = {
                key: {
                    "records": one.records,
                    "first_year": one.first_year or None,
                    "last_year": one.last_year or None,
                    "undated": one.undated,
                }
                for key, one in manifest.categories.items()
            }
        return body

    async def _token(self, request: web.Request, _trace: str) -> web.StreamResponse:
        """Client credentials with private_key_jwt (RFC 7523); the assertion's audience is our issuer's token endpoint."""
        if request.content_type != _FORM:
            raise Refusal(Reason.UNSUPPORTED_MEDIA_TYPE, allowed=_FORM)
        try:
            form = await in_time(request, request.post())
        except (ValueError, UnicodeError) as error:
            raise Refusal(Reason.MALFORMED_TEXT) from error
        if len(set(form)) < len(form):
            raise Refusal(Reason.REPEATED_FIELD)
        for name, wanted in (("grant_type", "client_credentials"), ("client_assertion_type", _JWT_BEARER)):
            if not form.get(name):
                raise Refusal(Reason.MISSING_FIELD, f"/{name}")
            if form[name] != wanted:
                raise Refusal(Reason.OUT_OF_RANGE, f"/{name}", allowed=wanted)
        assertion = form.get("client_assertion")
        if not isinstance(assertion, str) or not assertion:
            raise Refusal(Reason.MISSING_FIELD, "/client_assertion")
        audience = f"{self._tokens.issuer}{_TOKEN}"
        try:
            client, scope = self._clients.authenticate(assertion, audience, self._limit.take)
        except Refusal as refusal:
            if refusal.reason not in {Reason.TOKEN_INVALID, Reason.TOKEN_EXPIRED}:
                raise
            # what is wrong with it is not told to a stranger; the audience is no secret, and easily taken for another
            raise Refusal(Reason.ASSERTION_INVALID, allowed=f"aud = {audience}") from None
        token = self._tokens.mint(client, scope, TOKEN_LIFETIME_S)
        return self._json(
            {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFETIME_S, "scope": scope}
        )

    async def _openapi(self, _request: web.Request, _trace: str) -> web.StreamResponse:
        return web.Response(body=self._contract_json, content_type="application/json")

    async def _docs(self, request: web.Request, _trace: str) -> web.StreamResponse:
        chosen = request.query.get("lang", "")
        language = chosen if chosen in {"zh", "en"} else language_of(request)
        told = {"spec": self._contract, "language": language, "resolved": self._resolved}
        page = self._pages.get_template("docs.html").render(**told)
        headers = {
            "Content-Security-Policy": "default-src 'none'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
        }
        return web.Response(text=page, content_type="text/html", headers=headers)

    def _resolved(self, part: dict[str, Any]) -> dict[str, Any]:
        """The part of the contract that is meant, where a reference stands for it."""
        while "$ref" in part:
            found: Any = self._contract
            for name in part["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            part = found
        return part

    async def _livez(self, _request: web.Request, _trace: str) -> web.StreamResponse:
        alive = time.monotonic() - self._health.ticked_at < _LAG_LIVE_S
        return web.Response(
            text="ok\n" if alive else "the event loop is stuck\n", status=200 if alive else 503
        )

    async def _readyz(self, _request: web.Request, _trace: str) -> web.StreamResponse:
        if self._health.draining:
            return web.Response(text="draining\n", status=503)
        return web.Response(text="ok\n")

    async def _metrics(self, _request: web.Request, _trace: str) -> web.StreamResponse:
        telemetry.RUNNING.set(self._health.running - 1)  # this one does not count
        text = await asyncio.to_thread(generate_latest, telemetry.REGISTRY)  # rendering 300 nodes takes 31 ms
        return web.Response(body=text, content_type="text/plain", charset="utf-8")

    async def _jwks(self, _request: web.Request, _trace: str) -> web.StreamResponse:
        return web.Response(body=msgspec.json.encode(self._tokens.jwks()), content_type="application/json")


async def _say_trace(request: web.Request, response: web.StreamResponse) -> None:
    if trace := request.get(_TRACE):  # none where a request was refused before any route
        response.headers["X-Trace-Id"] = trace


def _event(event: SearchEvent, language: str) -> bytes:
    if event[0] == "outcome":
        body = {**rendering.outcome(event[1]), "candidates": event[2]}
    else:
        body = rendering.answer(event[1], language)
    return b"event: " + event[0].encode() + b"\ndata: " + msgspec.json.encode(body) + b"\n\n"
