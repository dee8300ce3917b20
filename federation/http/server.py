"""How every HTTP server of ours listens: how many connections it holds, how long a silent one, and what it says before there is a
request: its name, and why a connection or bytes that are no HTTP are refused.

A connection takes its place the moment it is accepted, before TLS is spoken, and holds it until it is closed; requests and
streams of events alike. Who finds no place is told so, without TLS; a handshake for a refusal alone would cost more than many
requests, so with TLS the connection is closed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from ssl import SSLContext
from typing import Any, Literal, Protocol, cast

from aiohttp import hdrs, web
from aiohttp.http_exceptions import ContentEncodingError
from aiohttp.web_protocol import RequestHandler

from federation.http import problems
from federation.http.limits import ConnectionBounds, line
from federation.reasons import Reason, Refusal

NAME = "lantai"
"""What the `Server` header says; aiohttp would tell its version and Python's."""

QUIET_S = 75.0
"""Seconds a connection may stay without a request; aiohttp would keep it for an hour."""

UNREAD_S = 60.0
"""Seconds in which the other side takes nothing of what it asked for, until the kernel ends the connection (`tcp(7)`,
TCP_USER_TIMEOUT); a place would else be held by asking and never reading.
"""

HANDSHAKE_S = 10.0
"""Seconds a TLS handshake may take; asyncio would wait for a minute."""

RETRY_AFTER_S = 5.0

CODINGS = "gzip, deflate"
"""How a body may be coded (RFC 9110, 8.4), one of them at a time."""

_ACCEPTED_AT_ONCE = 32
_BACKLOG = 128
_BREATHER_S = 1.0  # as asyncio's own servers pause when they can not accept

_TOLD_AT_ONCE = 32
_TOLD_WITHIN_S = 2.0

_NO_CONNECTION = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Why = Literal["in_all", "of_a_line", "descriptors"]
"""Why a connection was refused: the server holds its most, the line holds its share; or it can not be accepted because the process
has no file descriptor left, and waits.
"""


class Observer(Protocol):
    """What a process counts and logs of its server."""

    def connections(self, held: int) -> None: ...
    def connection_refused(self, why: Why) -> None: ...
    def unreadable(self, status: int, kind: str, trace: str) -> None: ...


@contextlib.asynccontextmanager
async def listening(
    app: web.Application,
    host: str,
    port: int,
    bounds: ConnectionBounds,
    observer: Observer,
    *,
    tls: SSLContext | None = None,
    close_s: float = 2.0,
) -> AsyncIterator[int]:
    """Serve `app` on every address of `host`; gives the port (of the first, when `port` is 0). OSError when it can not be bound.

    On leaving nothing more is accepted, and requests that run have `close_s` to end.
    """
    app.on_response_prepare.append(_say_our_name)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=close_s)
    await runner.setup()
    try:
        server = runner.server
        assert server is not None
        server.request_handler = partial(_answered, server.request_handler, observer)
        listeners = await _bind(host, port)
        door = _Door(server, listeners, bounds, observer, tls)
        try:
            yield int(listeners[0].getsockname()[1])
        finally:
            await door.close()
    finally:
        await runner.cleanup()


async def _say_our_name(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = NAME


async def _answered(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    observer: Observer,
    request: web.BaseRequest,
) -> web.StreamResponse:
    """What the handlers of the application answer. Before any of them is refused: an expectation (RFC 9110, 10.1.1) that is none,
    which aiohttp would quote, and a body in a coding we do not know, which aiohttp would hand on as it is.
    """
    if request.body_exists and not _is_coding_known(request):
        trace = secrets.token_hex(8)
        observer.unreadable(415, "UnknownContentEncoding", trace)
        return _unknown_coding(trace, problems.language_of(request))
    try:
        return await handler(request)
    except web.HTTPExpectationFailed as error:
        trace = secrets.token_hex(8)
        answer = _problem(Reason.MALFORMED_REQUEST, trace)
        observer.unreadable(answer.status, type(error).__name__, trace)
        return answer


def _is_coding_known(request: web.BaseRequest) -> bool:
    said = [one.strip().lower() for one in request.headers.getall(hdrs.CONTENT_ENCODING, ())]
    return not said or (len(said) == 1 and said[0] in {"", "identity", *CODINGS.split(", ")})


async def _bind(host: str, port: int) -> list[socket.socket]:
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listeners: list[socket.socket] = []
    unspoken: OSError | None = None
    try:
        for family, _type, _protocol, _name, address in dict.fromkeys(found):
            try:
                listeners.append(socket.create_server(address, family=family, backlog=_BACKLOG))
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    raise
                unspoken = error  # a kernel without IPv6: a name, or every address, may stand for some of it
            else:
                listeners[-1].setblocking(False)
        if not listeners and unspoken is not None:
            raise unspoken
    except OSError:
        for one in listeners:
            one.close()
        raise
    return listeners


class _Door:
    """Accepts connections and knows who holds a place."""

    def __init__(
        self,
        server: web.Server,
        listeners: list[socket.socket],
        bounds: ConnectionBounds,
        observer: Observer,
        tls: SSLContext | None,
    ) -> None:
        self._server, self._listeners, self._tls = server, listeners, tls
        self._bounds, self._observer = bounds, observer
        self._loop = asyncio.get_running_loop()
        self._held: dict[object, str] = {}  # place -> line
        self._of_line: Counter[str] = Counter()
        self._told: set[_Refused] = set()
        self._opening: set[asyncio.Task[None]] = set()
        for one in listeners:
            self._loop.add_reader(one, self._accept, one)

    async def close(self) -> None:
        """Accept nothing more. Open connections stay, but for refused ones and handshakes."""
        for one in self._listeners:
            self._loop.remove_reader(one)
            one.close()
        self._listeners = []
        for refused in list(self._told):
            refused.end()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        """Take what waits, a few at a time, so that open connections have their turn in between."""
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                sock, address = listener.accept()
            except OSError as error:
                if error.errno in _NO_CONNECTION:
                    self._observer.connection_refused("descriptors")
                    self._loop.remove_reader(listener)
                    self._loop.call_later(_BREATHER_S, self._go_on, listener)
                return  # else nobody waits any more
            self._admit(sock, line(str(address[0])))

    def _go_on(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def _admit(self, sock: socket.socket, sender: str) -> None:
        sock.setblocking(False)
        if sys.platform == "linux":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNREAD_S * 1000))
        why = self._why_not(sender)
        if why is None:
            place = object()
            self._held[place] = sender
            self._of_line[sender] += 1
            self._observer.connections(len(self._held))
            gone = partial(self._leave, place)
            self._open(sock, partial(_Connection, self._server, self._observer, gone), gone)
            return
        self._observer.connection_refused(why)
        if self._tls is not None or len(self._told) >= _TOLD_AT_ONCE:
            sock.close()
            return
        refused = _Refused(self._told)
        self._open(sock, lambda: refused, refused.gone)

    def _why_not(self, sender: str) -> Why | None:
        own = self._of_line[sender]
        if len(self._held) >= self._bounds.in_all - (self._bounds.kept if own else 0):
            return "in_all"
        return "of_a_line" if own >= self._bounds.of_a_line else None

    def _leave(self, place: object) -> None:
        """Give a place back; the second time nothing happens."""
        sender = self._held.pop(place, None)
        if sender is None:
            return
        self._of_line[sender] -= 1
        if not self._of_line[sender]:
            del self._of_line[sender]
        self._observer.connections(len(self._held))

    def _open(
        self, sock: socket.socket, made: Callable[[], asyncio.Protocol], gone: Callable[[], None]
    ) -> None:
        task = self._loop.create_task(self._opened(sock, made, gone), name="accepted connection")
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _opened(
        self, sock: socket.socket, made: Callable[[], asyncio.Protocol], gone: Callable[[], None]
    ) -> None:
        """Make a connection of what was accepted. One that ends before it is one calls `gone` here, any other by itself."""
        try:
            await self._loop.connect_accepted_socket(
                made, sock, ssl=self._tls, ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_S
            )
        except BaseException as error:
            gone()
            if not isinstance(error, OSError):  # that is a peer who hung up, or who speaks no TLS
                raise


class _Connection(RequestHandler):
    """A connection with a place; `gone` is called when it is closed.

    Bytes that are no HTTP are refused like everything else, by a named reason and without an echo: aiohttp would quote what it
    could not read in its answer and in a log, and that may be a name.
    """

    __slots__ = ("_gone", "_observer")

    def __init__(self, server: web.Server, observer: Observer, gone: Callable[[], None]) -> None:
        options: dict[str, Any] = {"access_log": None, "keepalive_timeout": QUIET_S}
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._observer, self._gone = observer, gone

    def connection_lost(self, exc: BaseException | None) -> None:
        self._gone()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        del message
        trace = secrets.token_hex(8)
        is_coding = isinstance(exc, ContentEncodingError)  # one that aiohttp knows, and lacks the library for
        self._observer.unreadable(415 if is_coding else status, type(exc).__name__, trace)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        if is_coding:
            answer = _unknown_coding(trace)
        else:
            answer = _problem(Reason.INTERNAL if status >= 500 else Reason.MALFORMED_REQUEST, trace)
        answer.force_close()
        return answer


class _Refused(asyncio.Protocol):
    """A connection without a place: told so once it has begun to ask, then closed, after 2 s at the latest.

    What else it sends is taken and thrown away until then: closing over unread bytes resets a connection, and the caller may
    never see why.
    """

    def __init__(self, all_told: set[_Refused]) -> None:
        self._all_told, self._has_answered = all_told, False
        self._transport: asyncio.Transport | None = None
        all_told.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._last = asyncio.get_running_loop().call_later(_TOLD_WITHIN_S, self._transport.abort)

    def data_received(self, _data: bytes) -> None:
        if not self._has_answered and self._transport is not None:
            self._has_answered = True
            self._transport.write(_no_place())
            self._transport.write_eof()

    def connection_lost(self, _exc: BaseException | None) -> None:
        self._last.cancel()
        self.gone()

    def gone(self) -> None:
        self._all_told.discard(self)

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _problem(reason: Reason, trace: str, retry_after_s: float | None = None) -> web.Response:
    """In Chinese: nothing of the request was read that would say which language is wanted."""
    refusal = Refusal(reason, retry_after_s=retry_after_s)
    answer = problems.response(refusal, problems.STATUS[reason], "zh", {"trace_id": trace})
    answer.headers[hdrs.SERVER] = NAME
    return answer


def _unknown_coding(trace: str, language: str = "zh") -> web.Response:
    """What is accepted is also said in `Accept-Encoding` (RFC 9110, 12.5.3)."""
    reason = Reason.UNSUPPORTED_MEDIA_TYPE
    refusal = Refusal(reason, allowed=f"Content-Encoding: {CODINGS}")
    answer = problems.response(refusal, problems.STATUS[reason], language, {"trace_id": trace})
    answer.headers[hdrs.SERVER] = NAME
    answer.headers[hdrs.ACCEPT_ENCODING] = CODINGS
    return answer


def _no_place() -> bytes:
    """The whole answer to a connection above the bound. It is counted, not logged: a flood would be a flood of lines."""
    answer = _problem(Reason.OVERLOADED, secrets.token_hex(8), RETRY_AFTER_S)
    assert isinstance(answer.body, bytes)
    answer.headers[hdrs.CONNECTION] = "close"
    answer.headers[hdrs.CONTENT_LENGTH] = str(len(answer.body))
    head = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{k}: {v}" for k, v in answer.headers.items())]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + answer.body
