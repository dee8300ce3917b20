"""One POST to a configured address, bounded as a whole: a server that sends a byte now and then holds nobody longer.

It goes to that address and nowhere else: no redirect is followed, no proxy of the environment is asked, and there is no
handler for anything but http and https, whose connections alone are bounded.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.request
from collections.abc import Mapping
from typing import Any


class RedirectedError(OSError):
    """The server sends whoever asks elsewhere; an address that has moved is for the operator to set."""


def post(url: str, body: bytes, headers: Mapping[str, str], *, within_s: float, most: int) -> bytes:
    """The answer's body, cut after `most` bytes and one more, by which the caller knows that it is too large.

    Waiting of the connection is bounded by `within_s` as is the whole: socket timeouts begin anew with each byte. OSError
    when there is no whole answer in that time, RedirectedError when there is only a redirect.
    """
    limit = _Limit(within_s)
    # `build_opener` would add redirects, proxies, ftp, files and data
    opener = urllib.request.OpenerDirector()
    for handler in (limit.handler(), limit.secure_handler(), _Refusing(), urllib.request.UnknownHandler()):
        opener.add_handler(handler)
    asked = urllib.request.Request(url, body, dict(headers))  # noqa: S310 - callers check the scheme of a setting
    try:
        with opener.open(asked, timeout=within_s) as answer:
            read = bytes(answer.read(most + 1))
    except http.client.HTTPException as error:  # what answers speaks no HTTP, or stopped in the middle
        raise OSError(type(error).__name__) from error
    finally:
        limit.end()
    if limit.is_over:  # what came is a part
        raise TimeoutError
    return read


class _Refusing(urllib.request.HTTPErrorProcessor):
    """Every answer but 2xx is an error."""

    def http_response(
        self,
        request: urllib.request.Request,  # noqa: ARG002
        response: http.client.HTTPResponse,
    ) -> http.client.HTTPResponse:
        code = response.status
        if 200 <= code < 300:
            return response
        response.close()
        if 300 <= code < 400:
            raise RedirectedError(f"HTTP {code}")
        raise OSError(f"HTTP {code}")

    https_response = http_response


class _Limit:
    """Shuts the connections of one exchange when its time is up."""

    def __init__(self, within_s: float) -> None:
        self.is_over = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(within_s, self._shut)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        self._timer.cancel()

    def _shut(self) -> None:
        with self._lock:
            self.is_over = True
            for one in self._sockets:
                _shut(one)

    def _take(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._sockets.append(connection.sock)
            if self.is_over:
                _shut(connection.sock)

    def handler(self) -> urllib.request.HTTPHandler:
        limit = self

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                limit._take(self)

        class Handler(urllib.request.HTTPHandler):
            def http_open(self, req: urllib.request.Request) -> Any:
                return self.do_open(Connection, req)

        return Handler()

    def secure_handler(self) -> urllib.request.HTTPSHandler:
        limit = self

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()  # a TLS handshake is bounded as a whole by the socket's timeout
                limit._take(self)

        class Handler(urllib.request.HTTPSHandler):
            def https_open(self, req: urllib.request.Request) -> Any:
                return self.do_open(Connection, req)

        return Handler()


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(
            one, socket.SHUT_RDWR
        )  # of the bare socket: whoever reads is woken, TLS or not
