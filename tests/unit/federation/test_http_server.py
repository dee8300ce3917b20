"""How our HTTP servers listen: who finds no place, who gives one back, and what is said before there is a request."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import inspect
import json
import os
import resource
import socket
import ssl
import zlib
from collections import Counter

import pytest
import uvloop
from aiohttp import web

from federation.http import server as http_server
from federation.http.limits import ConnectionBounds
from federation.http.server import listening
from loadtest.authorities.tls import Authority
from tests.fakes.waiting import soon

ASK = b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 8_000_000


class Seen:
    """What a server told its process."""

    def __init__(self):
        self.held, self.refused, self.unread = 0, Counter(), []

    def connections(self, held):
        self.held = held

    def connection_refused(self, why):
        self.refused[why] += 1

    def unreadable(self, status, kind, trace):
        self.unread.append((status, kind, trace))


@pytest.fixture
def seen():
    return Seen()


def on_both_loops(test):
    """Run a test on the loop our processes use, and on asyncio's own."""

    def run(loop, **fixtures):
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(test(**fixtures))

    wanted = inspect.signature(test)
    loop = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = wanted.replace(parameters=[loop, *wanted.parameters.values()])
    run.__name__ = test.__name__
    loops = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return pytest.mark.parametrize("loop", loops.values(), ids=loops)(run)


def app():
    async def ok(_request):
        return web.Response(text="ok")

    async def echo(request):
        return web.Response(body=await request.read())

    async def large(_request):
        return web.Response(body=b"x" * LARGE)

    async def fails(_request):
        raise RuntimeError("钱伟明")

    async def events(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"event: first\n\n")
        await asyncio.sleep(60)
        return response

    made = web.Application()
    made.add_routes(
        [
            web.get("/ok", ok),
            web.post("/ok", echo),
            web.get("/large", large),
            web.get("/fails", fails),
            web.get("/events", events),
        ]
    )
    return made


def serve(seen, in_all, of_a_line=None, *, tls=None):
    bounds = ConnectionBounds(in_all, of_a_line or in_all)
    return listening(app(), "127.0.0.1", 0, bounds, seen, tls=tls, close_s=0.1)


class Caller:
    """One connection; `sender` is the loopback address it comes from."""

    def __init__(self, port, sender="127.0.0.1", tls=None):
        self._port, self._sender, self._tls = port, sender, tls

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=(self._sender, 0), ssl=self._tls, server_hostname="localhost" if self._tls else None
        )  # fmt: skip
        return self

    async def __aexit__(self, *_error):
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def ask(self, sent=ASK):
        """(status line, headers, body) of one answer."""
        async with asyncio.timeout(10):
            self.writer.write(sent)
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().strip().split("\r\n")
            headers = dict(one.split(": ", 1) for one in lines)
            body = await self.reader.readexactly(int(headers.get("Content-Length", 0)))
            return first, headers, body


async def closed(caller):
    """Whether the other side has ended the connection, in whichever way."""
    async with asyncio.timeout(10):
        try:
            return await caller.reader.read() == b""
        except OSError:
            return True


@on_both_loops
async def test_one_connection_too_many_is_told_and_served_once_another_has_closed(seen):
    async with serve(seen, 2) as port, Caller(port) as first:
        async with Caller(port) as second:
            assert (await first.ask())[2] == (await second.ask())[2] == b"ok"
            async with Caller(port) as third:
                status, headers, body = await third.ask()
                assert status == "HTTP/1.1 503 Service Unavailable"
                assert headers["Content-Type"] == "application/problem+json"
                assert headers["Content-Language"] == "zh-CN"
                assert headers["Connection"] == "close"
                assert int(headers["Retry-After"]) >= 1
                problem = json.loads(body)
                assert (problem["reason"], problem["status"]) == ("overloaded", 503)
                assert problem["detail"] == "系统繁忙，请稍后再试"
                assert problem["trace_id"]
                assert await closed(third)
            assert (seen.held, seen.refused) == (2, {"in_all": 1})
            assert (await first.ask())[2] == b"ok"  # who has a place keeps it
        await soon(lambda: seen.held == 1)
        async with Caller(port) as fourth:
            assert (await fourth.ask())[2] == b"ok"
    assert seen.held == 0


@on_both_loops
async def test_a_stream_of_events_holds_a_place(seen):
    async with serve(seen, 1) as port:
        async with Caller(port) as stream:
            stream.writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.reader.readuntil(b"event: first\n\n")
            async with Caller(port) as other:
                assert (await other.ask())[0].startswith("HTTP/1.1 503 ")
        await soon(lambda: seen.held == 0)
        async with Caller(port) as other:
            assert (await other.ask())[2] == b"ok"


@on_both_loops
async def test_a_line_has_its_share_and_others_the_rest(seen):
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serve(seen, 3, 2))
        greedy = [await stack.enter_async_context(Caller(port)) for _ in range(3)]
        answers = [await one.ask() for one in greedy]
        assert [one[0].split()[1] for one in answers] == ["200", "200", "503"]
        assert seen.refused == {"of_a_line": 1}
        neighbour = await stack.enter_async_context(Caller(port, "127.0.0.2"))
        assert (await neighbour.ask())[2] == b"ok"
    assert seen.held == 0


@on_both_loops
async def test_a_crowd_does_not_keep_out_who_holds_nothing_yet(seen):
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serve(seen, 32))
        crowd = [await stack.enter_async_context(Caller(port)) for _ in range(32)]
        answers = [await one.ask() for one in crowd]
        assert [one[0].split()[1] for one in answers] == ["200"] * 31 + ["503"]
        probe = await stack.enter_async_context(Caller(port, "127.0.0.2"))
        assert (await probe.ask())[2] == b"ok"
        another = await stack.enter_async_context(Caller(port, "127.0.0.2"))
        assert (await another.ask())[0].startswith("HTTP/1.1 503 ")


@on_both_loops
async def test_of_a_flood_few_are_told_and_the_rest_closed_at_once(seen, monkeypatch):
    monkeypatch.setattr(http_server, "_TOLD_AT_ONCE", 3)
    monkeypatch.setattr(http_server, "_TOLD_WITHIN_S", 60.0)
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serve(seen, 1))
        holder = await stack.enter_async_context(Caller(port))
        await holder.ask()
        flood = [await stack.enter_async_context(Caller(port)) for _ in range(20)]
        for one in flood[3:]:
            assert await closed(one)
        assert (seen.held, seen.refused) == (1, {"in_all": 20})
        for one in flood[:3]:
            assert (await one.ask())[0].startswith("HTTP/1.1 503 ")
            assert await closed(one)  # once it has been told, and not when its time is over
        assert (await holder.ask())[2] == b"ok"


@on_both_loops
async def test_a_refused_connection_that_says_nothing_is_closed(seen, monkeypatch):
    monkeypatch.setattr(http_server, "_TOLD_AT_ONCE", 1)
    monkeypatch.setattr(http_server, "_TOLD_WITHIN_S", 0.2)
    async with serve(seen, 1) as port, Caller(port) as holder:
        await holder.ask()
        async with Caller(port) as silent:
            assert await closed(silent)
        async with Caller(port) as late:  # and there is somebody to tell it again
            assert (await late.ask())[0].startswith("HTTP/1.1 503 ")


@on_both_loops
async def test_who_sends_a_large_body_before_reading_is_told_all_the_same(seen):
    def send_and_read(port):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
            caller.sendall(b"POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n")
            caller.sendall(b"x" * 16_000_000)
            return caller.recv(4096)

    async with serve(seen, 1) as port, Caller(port) as first:
        await first.ask()
        assert (await asyncio.to_thread(send_and_read, port)).startswith(b"HTTP/1.1 503 ")


@pytest.fixture
def certified(tmp_path):
    """(the server's TLS, a caller's)."""
    authority = Authority(tmp_path)
    issued = authority.issue("gateway", "one")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(issued.certificate, issued.key)
    caller = ssl.create_default_context(cafile=str(authority.ca))
    caller.check_hostname = False
    return server, caller


@on_both_loops
async def test_with_tls_a_place_is_held_before_and_given_back_after_a_handshake_that_fails(seen, certified):
    server, caller = certified
    async with serve(seen, 2, tls=server) as port, Caller(port, tls=caller) as spoken:
        assert (await spoken.ask())[2] == b"ok"
        async with Caller(port) as silent:
            await soon(lambda: seen.held == 2)
            async with Caller(port) as third:
                assert await closed(third)  # without a word: that would cost a handshake
            assert seen.refused == {"in_all": 1}
            silent.writer.write(b"GET / HTTP/1.1\r\n\r\n")  # no TLS
            await soon(lambda: seen.held == 1)
        async with Caller(port, tls=caller) as late:
            assert (await late.ask())[2] == b"ok"
    assert seen.held == 0


@on_both_loops
async def test_a_handshake_that_never_ends_holds_its_place_for_a_while_only(seen, certified, monkeypatch):
    monkeypatch.setattr(http_server, "HANDSHAKE_S", 0.3)
    server, caller = certified
    async with serve(seen, 1, tls=server) as port, Caller(port) as silent:
        await soon(lambda: seen.held == 1)
        assert await closed(silent)
        await soon(lambda: seen.held == 0)
        async with Caller(port, tls=caller) as late:
            assert (await late.ask())[2] == b"ok"


@pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system does not end such connections"
)
@on_both_loops
async def test_who_asks_and_never_reads_loses_the_place(seen, monkeypatch):
    monkeypatch.setattr(http_server, "UNREAD_S", 0.3)
    async with serve(seen, 1) as port:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", port))
            deaf.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            await soon(lambda: seen.held == 1)
            await soon(lambda: seen.held == 0)
        async with Caller(port) as late:
            assert (await late.ask())[2] == b"ok"


@on_both_loops
async def test_without_a_file_descriptor_callers_wait_and_are_then_served(seen):
    async with serve(seen, 8) as port:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as caller:
            caller.setblocking(False)
            free = os.dup(caller.fileno())
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                await asyncio.get_running_loop().sock_connect(caller, ("127.0.0.1", port))
                await soon(lambda: seen.refused["descriptors"])
                await asyncio.sleep(0.1)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            caller.send(ASK)
            async with asyncio.timeout(10):
                answer = await asyncio.get_running_loop().sock_recv(caller, 4096)
            assert answer.startswith(b"HTTP/1.1 200 OK")
        assert seen.refused == {"descriptors": 1}  # asked once, then a pause


NAMED = {
    "good": (ASK, "200"),
    "unknown route": (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
    "unmet expectation": (b"GET /ok HTTP/1.1\r\nHost: x\r\nExpect: 330483196301010012\r\n\r\n", "400"),
    "no HTTP": ("钱伟明 330483196301010012\r\n\r\n".encode(), "400"),
    "too long a head": (b"GET /ok HTTP/1.1\r\nHost: x\r\nX: " + b"1" * 20_000 + b"\r\n\r\n", "400"),
    "an error of ours": (b"GET /fails HTTP/1.1\r\nHost: x\r\n\r\n", "500"),
}


@pytest.mark.parametrize("kind", NAMED)
@on_both_loops
async def test_every_answer_tells_our_name_and_no_version_and_repeats_nothing(seen, kind, capfd):
    sent, expected = NAMED[kind]
    async with serve(seen, 8) as port, Caller(port) as caller:
        status, headers, body = await caller.ask(sent)
        assert status.split()[1] == expected
        assert headers["Server"] == "lantai"
        if kind not in {"good", "unknown route"}:
            assert headers["Content-Type"] == "application/problem+json"
            reason = "internal" if expected == "500" else "malformed_request"
            problem = json.loads(body)
            assert (problem["reason"], problem["trace_id"]) == (reason, seen.unread[0][2])
            assert seen.unread[0][0] == int(expected)
        if kind in {"no HTTP", "too long a head", "an error of ours"}:
            assert await closed(caller)
        assert "钱" not in body.decode()
        assert "330483" not in body.decode()
    assert "钱" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("coding", ["br", "zstd", "BR", "compress", "x-gzip", "gzip, gzip", "钱"])
@on_both_loops
async def test_a_body_in_a_coding_we_do_not_know_is_refused_with_those_we_do(seen, coding):
    sent = f"POST /ok HTTP/1.1\r\nHost: x\r\nAccept-Language: en\r\nContent-Encoding: {coding}\r\nContent-Length: 2\r\n\r\n{{}}"
    async with serve(seen, 8) as port, Caller(port) as caller:
        status, headers, body = await caller.ask(sent.encode())
        problem = json.loads(body)
        assert (status.split()[1], problem["reason"]) == ("415", "unsupported_media_type")
        assert problem["errors"][0]["allowed"] == "Content-Encoding: gzip, deflate"
        assert (headers["Accept-Encoding"], headers["Server"]) == ("gzip, deflate", "lantai")
        assert seen.unread[0][::2] == (415, problem["trace_id"])
        assert "钱" not in body.decode()


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "identity", "", "compress"])
@on_both_loops
async def test_a_known_coding_or_one_of_no_body_is_not_in_the_way(seen, coding):
    body = {"gzip": gzip.compress(b"{}"), "deflate": zlib.compress(b"{}"), "compress": b""}.get(
        coding.lower(), b"{}"
    )
    method = b"POST" if body else b"GET"
    head = f" /ok HTTP/1.1\r\nHost: x\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    async with serve(seen, 8) as port, Caller(port) as caller:
        status, _headers, text = await caller.ask(method + head.encode() + body)
        assert (status.split()[1], text) == ("200", b"{}" if body else b"ok")


@on_both_loops
async def test_the_refusal_of_a_connection_tells_our_name_and_no_version(seen):
    async with serve(seen, 1) as port, Caller(port) as first:
        await first.ask()
        async with Caller(port) as second:
            status, headers, _body = await second.ask()
            assert (status.split()[1], headers["Server"]) == ("503", "lantai")


@on_both_loops
async def test_a_port_that_is_taken_is_an_error_and_nothing_is_left_open(seen):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            async with listening(app(), "127.0.0.1", port, ConnectionBounds(1, 1), seen):
                pass


@on_both_loops
async def test_an_address_of_a_kind_the_kernel_does_not_know_is_left_out(seen):
    """As on a machine without IPv6, where `localhost` or every address stands for one of IPv6 too."""
    unknown = (socket.AF_APPLETALK, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))
    known = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
    for found in ([unknown, known], [unknown]):

        async def getaddrinfo(*_asked, found=found, **_more):
            return found

        asyncio.get_running_loop().getaddrinfo = getaddrinfo
        if known in found:
            async with serve(seen, 1) as port, Caller(port) as caller:
                assert (await caller.ask())[2] == b"ok"
        else:
            with pytest.raises(OSError, match="not supported"):
                await http_server._bind("localhost", 0)


@on_both_loops
async def test_leaving_ends_refused_connections_and_handshakes(seen, certified, monkeypatch):
    monkeypatch.setattr(http_server, "_TOLD_WITHIN_S", 60.0)
    monkeypatch.setattr(http_server, "HANDSHAKE_S", 60.0)
    server, _caller = certified
    async with asyncio.timeout(30), contextlib.AsyncExitStack() as stack:
        async with serve(seen, 1) as port:
            waits = await stack.enter_async_context(Caller(port))
            await waits.ask()
            told = await stack.enter_async_context(Caller(port))
            await soon(lambda: seen.refused["in_all"])
            await asyncio.sleep(0.1)  # it is a connection by now
        async with serve(seen, 1, tls=server) as port:
            silent = await stack.enter_async_context(Caller(port))
            await soon(lambda: seen.held == 1)
        for one in (waits, told, silent):
            assert await closed(one)
        assert seen.held == 0
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
