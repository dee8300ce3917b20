"""One POST goes to the configured address and nowhere else, whatever is answered there."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from federation.http.posting import RedirectedError, post


@contextlib.contextmanager
def answering(status: int, location: str = "") -> Iterator[str]:
    """A server that gives one answer; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"said")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextlib.contextmanager
def elsewhere() -> Iterator[tuple[int, list[bytes]]]:
    """A port, and a list that has one entry for each connection to it; each is closed at once."""
    met: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    one, _address = listening.accept()
                    met.append(b"met")
                    one.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listening.getsockname()[1], met
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_the_answer_comes_back_cut_behind_the_most_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")  # nobody listens there: it is not asked
    with answering(200) as url:
        assert post(url, b"asked", {}, within_s=10, most=10) == b"said"
        assert post(url, b"asked", {}, within_s=10, most=2) == b"sai"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_a_redirect_is_an_error_of_its_own_and_nobody_is_asked_elsewhere(scheme: str, status: int) -> None:
    with (
        elsewhere() as (port, met),
        answering(status, f"{scheme}://127.0.0.1:{port}/x") as url,
        pytest.raises(RedirectedError, match=str(status)),
    ):
        post(url, b"asked", {}, within_s=10, most=10)
    assert met == []


def test_other_answers_and_other_schemes_are_errors() -> None:
    for status in (404, 500):
        with answering(status) as url, pytest.raises(OSError, match=str(status)) as caught:
            post(url, b"asked", {}, within_s=10, most=10)
        assert not isinstance(caught.value, RedirectedError)
    for url in ("ftp://127.0.0.1:9/x", "file:///etc/hostname", "data:,x"):
        with pytest.raises(OSError, match="unknown url type"):
            post(url, b"asked", {}, within_s=10, most=10)
