"""The desk's JSON API, on an address of its own: what pages and the archive's own programs need, keyboard-first.

Everything a reviewer sees is unmasked, so that every route but the contract and the pulse asks for a user's token. Work
on the desk's file happens in the desk's thread; nothing here waits for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any

import msgspec
import yaml
from aiohttp import hdrs, web

from federation.http.bodies import LARGEST_BODY, in_time
from federation.http.limits import ConnectionBounds, RateLimit
from federation.http.problems import language_of
from federation.http.server import listening
from federation.reasons import Reason, Refusal
from node_agent import telemetry
from node_agent.desk import bodies, users
from node_agent.desk.desk import Desk
from node_agent.desk.events import Events
from node_agent.desk.items import Item
from node_agent.desk.office import Office
from node_agent.desk.problems import problem
from node_agent.desk.showing import action_body, case_body, item_body, words_body

User = tuple[str, str]
"""(name, role)"""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Doing = Callable[[Desk, str, str, Any], Item]

MOST_SHOWN = 200
_READING_SCANS = frozenset({"approve"})
"""Actions that may take seconds: the desk's one thread does not wait for them."""
REQUESTS_PER_MINUTE = 1_200
"""Of one user: a page that renews its claim and looks at every event stays far below."""

ACTIONS: dict[str, tuple[type[bodies.Seen], Doing]] = {
    "claim": (bodies.Seen, lambda desk, case, who, seen: desk.claim(case, who, seen.version)),
    "renew": (bodies.Seen, lambda desk, case, who, seen: desk.renew(case, who, seen.version)),
    "release": (bodies.Seen, lambda desk, case, who, seen: desk.release(case, who, seen.version)),
    "approve": (
        bodies.Approval,
        lambda desk, case, who, seen: desk.approve(
            case, who, seen.version, seen.archival_code, msgspec.to_builtins(seen.pages)
        ),
    ),
    "refuse": (
        bodies.Refusing,
        lambda desk, case, who, seen: desk.refuse(case, who, seen.version, seen.reason),
    ),
    "ask": (
        bodies.Asking,
        lambda desk, case, who, seen: desk.want_evidence(case, who, seen.version, seen.items),
    ),
    "retrieving": (
        bodies.Retrieving,
        lambda desk, case, who, seen: desk.retrieving(case, who, seen.version, pauses=seen.pauses),
    ),
    "retrieved": (bodies.Seen, lambda desk, case, who, seen: desk.retrieved(case, who, seen.version)),
    "refer": (
        bodies.Referral,
        lambda desk, case, who, seen: desk.refer(case, who, seen.version, seen.archive),
    ),
    "hand-over": (
        bodies.HandOver,
        lambda desk, case, who, seen: desk.hand_over(case, who, seen.version, seen.to),
    ),
}
"""What a user does to a case: the body it needs and the desk's method. The same words as the commands."""


def openapi() -> dict[str, Any]:
    """The hand-written contract; everything served is held to it."""
    loaded: dict[str, Any] = yaml.safe_load(
        resources.files("node_agent.desk").joinpath("openapi.yaml").read_text("utf-8")
    )
    return loaded


class DeskApi:
    """The API over a running office. `app()` gives the aiohttp application."""

    def __init__(self, office: Office, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._office, self._desk = office, office.desk
        self._events = Events(office, self._user)
        self._limit = RateLimit(REQUESTS_PER_MINUTE, clock)
        self._contract = msgspec.json.encode(openapi())

    def app(self) -> web.Application:
        """All routes. Bodies are bounded before they are read."""
        app = web.Application(client_max_size=LARGEST_BODY)
        one = "/desk/cases/{case}"
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/desk/queue", self._queue),
            ("GET", "/desk/ended", self._ended),
            ("GET", one, self._case),
            ("GET", f"{one}/history", self._history),
            ("GET", "/desk/words", self._words),
            ("GET", "/desk/events", self._events.serve),
            ("GET", "/desk/openapi.json", self._openapi),
            ("GET", "/livez", self._livez),
            *[("POST", f"{one}/{name}", self._acting(name)) for name in ACTIONS],
        ]
        allowed: dict[str, list[str]] = {}
        for method, path, handler in routes:
            app.router.add_route(method, path, _through(f"{method} {path}", handler))
            allowed.setdefault(path, []).append(method)
        for path, methods in allowed.items():
            app.router.add_route("*", path, _through(path, _wrong_method(methods)))
        app.router.add_route("*", "/{any:.*}", _through("other", _nowhere))
        return app

    def stop(self) -> None:
        """End open event streams, so that the server can close."""
        self._events.stop()

    # who asks ----------------------------------------------------------------------------------------------------

    def _user(self, request: web.Request) -> User:
        """In the desk's thread: whose token it is; Refusal when it is missing or nobody's."""
        return users.whose(self._desk.store, _token(request))

    async def _do(self, request: web.Request, work: Callable[[User], Any]) -> Any:
        """Authenticate and work, in one visit to the desk's thread."""

        def both() -> Any:
            user = self._user(request)
            self._limit.take(user[0])
            return work(user)

        return await self._office.thread.call(both)

    # looking -----------------------------------------------------------------------------------------------------

    async def _queue(self, request: web.Request) -> web.StreamResponse:
        language = language_of(request)

        def work(user: User) -> dict[str, Any]:
            seq, now = self._desk.store.last_action(), self._desk.now_ms()
            items = self._desk.queue(user[0])
            return {
                "archive": self._desk.archive,
                "user": user[0],
                "role": user[1],
                "seq": seq,
                "count": len(items),
                "items": [item_body(item, language, now) for item in items[:MOST_SHOWN]],
            }

        return _json(await self._do(request, work))

    async def _ended(self, request: web.Request) -> web.StreamResponse:
        language, limit = language_of(request), _number(request, "limit", 50, MOST_SHOWN)

        def work(_user: User) -> dict[str, Any]:
            now = self._desk.now_ms()
            return {"items": [item_body(one, language, now) for one in self._desk.store.ended_items(limit)]}

        return _json(await self._do(request, work))

    async def _case(self, request: web.Request) -> web.StreamResponse:
        language = language_of(request)

        def work(_user: User) -> dict[str, Any]:
            item = self._desk.item(request.match_info["case"])
            return case_body(item, self._desk.record(item), language, self._desk.now_ms())

        body = await self._do(request, work)
        return _json(body, {"ETag": f'"{body["version"]}"'})

    async def _history(self, request: web.Request) -> web.StreamResponse:
        def work(_user: User) -> dict[str, Any]:
            case = request.match_info["case"]
            self._desk.item(case)
            return {"actions": [action_body(one) for one in self._desk.history(case)]}

        return _json(await self._do(request, work))

    async def _words(self, request: web.Request) -> web.StreamResponse:
        language = language_of(request)
        return _json(await self._do(request, lambda _user: words_body(language)))

    # acting ------------------------------------------------------------------------------------------------------

    def _acting(self, name: str) -> Handler:
        shape, do = ACTIONS[name]
        decoder = msgspec.json.Decoder(shape)

        async def act(request: web.Request) -> web.StreamResponse:
            _token(request)  # without one the body is not looked at
            if request.content_type != "application/json":
                raise Refusal(Reason.UNSUPPORTED_MEDIA_TYPE)
            seen = bodies.read(decoder, await in_time(request, request.read()))
            language, case = language_of(request), request.match_info["case"]

            def work(user: User) -> web.Response:
                try:
                    item = do(self._desk, case, user[0], seen)
                except Refusal as refusal:
                    if refusal.reason in {Reason.TAKEN, Reason.ILLEGAL_TRANSITION}:
                        telemetry.DESK_REFUSALS.labels(reason=refusal.reason.value).inc()
                        now = item_body(self._desk.item(case), language, self._desk.now_ms())
                        return problem(
                            refusal, language, {"case": now}
                        )  # who was quicker, inside the archive
                    raise
                return _json(item_body(item, language, self._desk.now_ms()))

            if name in _READING_SCANS:
                user = await self._do(request, lambda user: user)
                return await asyncio.to_thread(work, user)
            response: web.Response = await self._do(request, work)
            return response

        return act

    # the rest ----------------------------------------------------------------------------------------------------

    async def _openapi(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._contract, content_type="application/json")

    @staticmethod
    async def _livez(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")


@contextlib.asynccontextmanager
async def serving(
    api: DeskApi, address: str, bounds: ConnectionBounds, tls: ssl.SSLContext | None
) -> AsyncIterator[int]:
    """Serve on host:port; gives the port."""
    host, port = address.rsplit(":", 1)
    observer = telemetry.ServerObserver("desk")
    async with listening(api.app(), host.strip("[]"), int(port), bounds, observer, tls=tls) as bound:
        try:
            yield bound
        finally:
            api.stop()


def _through(route: str, handler: Handler) -> Handler:
    """What every request of a route goes through: refusals as problems, one log line without a case or a name."""

    async def handle(request: web.Request) -> web.StreamResponse:
        began = time.perf_counter()
        try:
            response = await handler(request)
        except Refusal as refusal:
            telemetry.DESK_REFUSALS.labels(reason=refusal.reason.value).inc()
            response = problem(refusal, language_of(request))
        except web.HTTPRequestEntityTooLarge:
            response = problem(Refusal(Reason.TOO_LARGE), language_of(request))
        except (asyncio.CancelledError, ConnectionResetError):
            raise
        except Exception as error:
            telemetry.log.error("a request failed", action="desk.failed", kind=type(error).__name__)
            response = problem(Refusal(Reason.INTERNAL), language_of(request))
        telemetry.log.info(
            "request",
            action="desk.request",
            kind=route,
            outcome=str(response.status),
            seconds=round(time.perf_counter() - began, 4),
        )
        return response

    return handle


def _wrong_method(allowed: list[str]) -> Handler:
    async def refuse(request: web.Request) -> web.StreamResponse:
        response = problem(Refusal(Reason.METHOD_NOT_ALLOWED), language_of(request))
        response.headers["Allow"] = ", ".join(allowed)
        return response

    return refuse


async def _nowhere(_request: web.Request) -> web.StreamResponse:
    raise Refusal(Reason.NOT_FOUND)


def _token(request: web.Request) -> str:
    """The bearer token; Refusal(TOKEN_MISSING)."""
    kind, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Refusal(Reason.TOKEN_MISSING)
    return token.strip()


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10):
        raise Refusal(Reason.OUT_OF_RANGE, f"/{name}")
    return min(int(text), most)


def _json(body: Any, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
