"""The HTTP edge as callers meet it: methods, media types, pages, streams, limits, draining."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket

import aiohttp
import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from federation.http import bodies as json_bodies
from federation.http import server as http_server
from federation.reasons import Reason, Refusal
from gateway import app, telemetry
from gateway.edge.server import openapi
from gateway.settings import GatewaySettings
from tests.fakes.contract import messages
from tests.fakes.edge import CODES, CONTRACT, QUESTION, Gateway
from tests.fakes.holdings import Behaviour, Fault, candidate


async def test_an_answer_is_as_the_contract_says_and_not_stored():
    async with Gateway() as gateway:
        status, headers, body = await gateway.ask(QUESTION)
        assert status == 200
        assert headers["Cache-Control"] == "no-store"
        assert headers["RateLimit-Policy"].startswith('"default";q=')
        assert body["completeness"]["verdict"] == "complete"
        assert [one["archive"] for one in body["completeness"]["outcomes"]] == list(CODES)
        assert body["candidates"][0]["name"] == "钱*明"
        assert "偉" not in json.dumps(body, ensure_ascii=False)


async def test_the_contracts_own_examples_are_answered():
    body = openapi()["paths"]["/v1/searches"]["post"]["requestBody"]["content"]["application/json"]
    async with Gateway() as gateway:
        assert (await gateway.ask(body["examples"]["question"]["value"]))[0] == 200
        status, _headers, problem = await gateway.ask(body["examples"]["page"]["value"])
        assert (status, problem["reason"]) == (422, "invalid_cursor"), "of the right form, and nobody's"


async def test_pages_follow_cursors():
    world = {"330483": Behaviour(tuple(candidate(f"r{n}", year=1950 + n) for n in range(5)))}
    async with Gateway(behaviours=world) as gateway:
        _status, _headers, page = await gateway.ask({**QUESTION, "page_size": 2})
        refs = [one["ref"] for one in page["candidates"]]
        while "cursor" in page:
            _status, _headers, page = await gateway.ask({"cursor": page["cursor"]})
            refs += [one["ref"] for one in page["candidates"]]
        assert len(refs) == len(set(refs)) == page["total"] == 5
        other = gateway.tokens.mint("another platform")
        _status, _headers, first = await gateway.ask({**QUESTION, "page_size": 2})
        status, _headers, problem = await gateway.ask({"cursor": first["cursor"]}, token=other)
        assert (status, problem["reason"]) == (422, "invalid_cursor")


async def test_a_stream_tells_each_archive_and_then_the_answer():
    world = {
        "330483": Behaviour((candidate("r1"),), delay_s=0.05),
        "330421": Behaviour(fault=Fault.NO_SESSION),
    }
    async with Gateway(behaviours=world) as gateway:
        status, headers, text = await gateway.ask(QUESTION, headers={"Accept": "text/event-stream"})
        assert status == 200
        assert headers["Content-Type"] == "text/event-stream"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["X-Trace-Id"]
        events = [
            dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")
        ]
        assert [one["event"] for one in events] == ["outcome"] * 3 + ["answer"]
        told = {json.loads(one["data"])["archive"]: json.loads(one["data"])["outcome"] for one in events[:-1]}
        assert told == {"330402": "empty", "330421": "unreachable", "330483": "hit"}
        assert json.loads(events[-1]["data"])["completeness"]["verdict"] == "partial"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("APPLICATION/JSON", "application/json"),
        ("application/*;q=0.5", "application/json"),
        ("text/event-stream;q=0, application/json", "application/json"),
        ("text/event-stream; q=0.001", "text/event-stream"),
        ("application/json;q=0", "application/problem+json"),
        ("application/jsonish", "application/problem+json"),
    ],
)
async def test_the_kind_of_answer_is_one_that_is_accepted(accept, kind):
    async with Gateway() as gateway:
        status, headers, _body = await gateway.ask(QUESTION, headers={"Accept": accept})
        assert headers["Content-Type"].partition(";")[0] == kind
        assert status == (406 if "problem" in kind else 200)


async def test_a_later_page_comes_as_an_event_to_who_reads_events():
    world = {"330483": Behaviour(tuple(candidate(f"r{n}", year=1950 + n) for n in range(3)))}
    async with Gateway(behaviours=world) as gateway:
        _status, _headers, page = await gateway.ask({**QUESTION, "page_size": 2})
        cursor = {"cursor": page["cursor"]}
        _status, headers, text = await gateway.ask(cursor, headers={"Accept": "text/event-stream"})
        assert headers["Content-Type"] == "text/event-stream"
        [message] = messages(text)
        assert message["event"] == "answer"
        assert json.loads(message["data"]) == (await gateway.ask(cursor))[2]


@pytest.mark.parametrize(("accept", "language"), [("en-GB", "en"), ("fr", "zh-CN")])
async def test_an_answer_says_in_which_language_it_speaks(accept, language):
    async with Gateway() as gateway:
        for kind in ("application/json", "text/event-stream"):
            asked = {"Accept-Language": accept, "Accept": kind}
            _status, headers, _body = await gateway.ask(QUESTION, headers=asked)
            assert headers["Content-Language"] == language


async def test_probes_may_ask_for_the_head_alone():
    async with Gateway() as gateway:
        for path in ("/livez", "/readyz"):
            assert (await gateway.ask(method="HEAD", path=path, token=None))[::2] == (200, "")
        gateway.health.draining = True
        assert (await gateway.ask(method="HEAD", path="/readyz", token=None))[0] == 503
        status, headers, _body = await gateway.ask(method="PUT", path="/readyz", token=None)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


async def test_a_wrong_kind_of_body_and_a_missing_scope_are_told_what_is_wanted():
    async with Gateway() as gateway:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        _status, _headers, problem = await gateway.ask(QUESTION, headers=form)
        assert problem["errors"][0]["allowed"] == "application/json"
        _status, _headers, problem = await gateway.ask(QUESTION, path="/oauth2/token")
        assert problem["errors"][0]["allowed"] == form["Content-Type"]
        _status, _headers, problem = await gateway.ask(QUESTION, token=gateway.tokens.mint("p", "cases"))
        assert problem["errors"][0]["allowed"] == "scope search"


async def test_a_stream_that_may_not_be_asked_is_an_ordinary_problem():
    async with Gateway() as gateway:
        body = {**QUESTION, "event": None, "subject": {"name": "钱伟明", "birth": "1963"}}
        status, _headers, problem = await gateway.ask(body, headers={"Accept": "text/event-stream"})
        assert (status, problem["reason"]) == (422, "minimum_query")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "reason"),
    [
        ("POST", "/nowhere", {}, 404, "not_found"),
        ("GET", "/v1/searches/x", {}, 404, "not_found"),
        ("GET", "/v1/archives/999999", {}, 404, "not_found"),
        ("GET", "/v1/searches", {}, 405, "method_not_allowed"),
        ("DELETE", "/v1/archives", {}, 405, "method_not_allowed"),
        ("POST", "/v1/searches", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ("POST", "/v1/searches", {"Accept": "image/png"}, 406, "not_acceptable"),
        ("POST", "/oauth2/token", {"Content-Type": "application/json"}, 415, "unsupported_media_type"),
    ],
)
async def test_wrong_doors_are_named_to_the_caller_and_in_the_log(method, path, headers, status, reason):
    async with Gateway() as gateway:
        with capture_logs() as lines:
            got, answered, problem = await gateway.ask(
                QUESTION if method == "POST" else None, method=method, path=path, headers=headers
            )
        assert (got, problem["reason"]) == (status, reason)
        told = [line for line in lines if line["event"] == "request"]
        assert [(line["trace"], line["reason"]) for line in told] == [(problem["trace_id"], reason)]
        if status == 405:
            assert answered["Allow"]


async def test_too_many_requests_are_told_when_to_come_back():
    async with Gateway(per_minute=12) as gateway:
        statuses = [(await gateway.ask(QUESTION))[0] for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        _status, headers, problem = await gateway.ask(QUESTION)
        assert int(headers["Retry-After"]) >= 1
        assert problem["reason"] == "rate_limited"
        other = gateway.tokens.mint("another")
        assert (await gateway.ask(QUESTION, token=other))[0] == 200  # its own bucket


async def test_draining_refuses_new_searches_and_says_not_ready():
    async with Gateway() as gateway:
        assert (await gateway.ask(method="GET", path="/readyz", token=None))[0] == 200
        gateway.health.draining = True
        assert (await gateway.ask(method="GET", path="/readyz", token=None))[0] == 503
        assert (await gateway.ask(method="GET", path="/livez", token=None))[0] == 200
        status, headers, problem = await gateway.ask(QUESTION)
        assert (status, problem["reason"]) == (503, "draining")
        assert headers["Retry-After"]


async def test_a_stuck_loop_is_not_alive():
    async with Gateway() as gateway:
        gateway.health.ticked_at -= 60
        assert (await gateway.ask(method="GET", path="/livez", token=None))[0] == 503


@pytest.mark.parametrize(
    "path", ["/openapi.json", "/docs", "/livez", "/readyz", "/metrics", "/.well-known/jwks.json"]
)
async def test_open_doors_need_no_token(path):
    async with Gateway() as gateway:
        status, _headers, body = await gateway.ask(method="GET", path=path, token=None)
        assert status == 200
        assert body


async def test_archives_are_listed_with_their_holdings():
    async with Gateway() as gateway:
        _status, _headers, body = await gateway.ask(method="GET", path="/v1/archives")
        assert [one["code"] for one in body["archives"]] == list(CODES)
        status, _headers, one = await gateway.ask(method="GET", path="/v1/archives/330483")
        assert status == 200
        assert one["categories"]["marriage"]["records"] == 10_000


async def test_an_error_inside_says_nothing_of_itself(capsys):
    async with Gateway() as gateway:
        gateway.edge._searches = None  # the feature is gone: any request fails inside
        status, _headers, problem = await gateway.ask(QUESTION)
        assert (status, problem["reason"]) == (500, "internal")
        assert "NoneType" not in json.dumps(problem)
        assert "Traceback" not in capsys.readouterr().err


def test_the_contract_is_valid_openapi():
    from openapi_spec_validator import validate

    validate(openapi())


async def test_the_limit_is_told_on_every_answer_of_a_search():
    async with Gateway(per_minute=12) as gateway:
        _status, headers, _body = await gateway.ask(QUESTION)
        assert headers["RateLimit"].startswith('"default";r=1')
        _status, headers, _text = await gateway.ask(QUESTION, headers={"Accept": "text/event-stream"})
        assert headers["RateLimit"].startswith('"default";r=0')
        status, headers, _problem = await gateway.ask(QUESTION)
        assert status == 429
        assert headers["RateLimit"].startswith('"default";r=0')
        assert headers["RateLimit-Policy"] == '"default";q=2;w=10'


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_archives_are_told_soon_after_a_caller_hung_up(accept):
    async with Gateway(behaviours=dict.fromkeys(CODES, Behaviour(fault=Fault.SILENT))) as gateway:
        body = {**QUESTION, "deadline_ms": 10_000}
        asking = asyncio.create_task(gateway.ask(body, headers={"Accept": accept}))
        async with asyncio.timeout(5):
            while len(gateway.holdings.asked) < len(CODES):
                await asyncio.sleep(0.01)
            asking.cancel()  # the client's connection closes with it
            await asyncio.gather(asking, return_exceptions=True)
            while len(gateway.holdings.cancelled) < len(CODES):
                await asyncio.sleep(0.01)
        assert (await gateway.ask({**QUESTION, "deadline_ms": 100}))[0] == 200


async def test_of_two_callers_only_the_one_who_hung_up_is_given_up():
    silent = Behaviour(fault=Fault.SILENT)
    async with Gateway(behaviours={CODES[0]: silent}) as gateway:
        body = {**QUESTION, "deadline_ms": 2_500}
        leaving, staying = (asyncio.create_task(gateway.ask(body)) for _ in range(2))
        async with asyncio.timeout(5):
            while len(gateway.holdings.asked) < 2 * len(CODES):
                await asyncio.sleep(0.01)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            while not gateway.holdings.cancelled:
                await asyncio.sleep(0.01)
            assert not staying.done()
            status, _headers, answer = await staying
        assert (status, answer["completeness"]["verdict"]) == (200, "partial")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_body_that_is_not_as_it_says_it_is_coded_is_named(coding):
    async with Gateway() as gateway:
        status, _headers, problem = await gateway.ask(raw=b"as it is", headers={"Content-Encoding": coding})
        assert (status, problem["reason"]) == (400, "malformed_body")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/searches", {"Content-Type": "application/json"}),
        ("/oauth2/token", {"Content-Type": "application/x-www-form-urlencoded"}),
    ],
)
async def test_a_body_that_never_comes_is_not_waited_for(monkeypatch, path, headers):
    monkeypatch.setattr(json_bodies, "GRACE_S", 0.2)
    async with Gateway() as gateway:
        reader, writer = await asyncio.open_connection(gateway.client.host, gateway.client.port)
        head = {
            **headers,
            "Host": "x",
            "Content-Length": "500",
            "Authorization": f"Bearer {gateway.tokens.mint('platform')}",
        }
        writer.write(
            f"POST {path} HTTP/1.1\r\n".encode()
            + "".join(f"{name}: {value}\r\n" for name, value in head.items()).encode()
            + b"\r\n{"
        )
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"out_of_time")
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert "504" in openapi()["paths"][path]["post"]["responses"]
        writer.write_eof()  # else the server would wait for the rest of the body, which it throws away
        await reader.read()
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half a head"])
async def test_a_connection_that_asks_nothing_is_closed(monkeypatch, tmp_path, sent):
    monkeypatch.setattr(http_server, "QUIET_S", 0.2)
    settings = listening_settings()
    async with Gateway() as gateway, app.serving(gateway.edge, settings, tmp_path, gateway.health):
        reader, writer = await asyncio.open_connection("127.0.0.1", settings.port)
        writer.write(sent)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


def listening_settings(**more):
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    return GatewaySettings(host="127.0.0.1", port=port, **more)


async def test_a_stream_holds_a_place_and_the_next_caller_is_refused_as_the_contract_says(tmp_path):
    settings = listening_settings(connections=1)
    silent = dict.fromkeys(CODES, Behaviour(fault=Fault.SILENT))
    asked = json.dumps({**QUESTION, "deadline_ms": 10_000}).encode()
    async with Gateway(behaviours=silent) as gateway, contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(app.serving(gateway.edge, settings, tmp_path, gateway.health))
        _reader, stream = await asyncio.open_connection("127.0.0.1", settings.port)
        head = f"POST /v1/searches HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.tokens.mint('platform')}\r\n"
        head += f"Content-Type: application/json\r\nAccept: text/event-stream\r\nContent-Length: {len(asked)}\r\n\r\n"
        stream.write(head.encode() + asked)
        async with asyncio.timeout(10):
            while not gateway.holdings.asked:
                await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{settings.port}/livez"
        http = await stack.enter_async_context(aiohttp.ClientSession())
        async with http.get(url) as answer:
            problem = await answer.json(content_type="application/problem+json")
            assert (answer.status, problem["reason"]) == (503, "overloaded")
            CONTRACT.hold("GET", "/of-no-operation", 503, answer.headers, await answer.read())
        told = generate_latest(telemetry.REGISTRY).decode()
        assert "\ngw_http_connections 1.0\n" in told
        assert '\ngw_http_connections_refused_total{why="in_all"} ' in told
        stream.close()
        async with asyncio.timeout(10):
            while (await http.get(url)).status == 503:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({"host": "10.0.0.1", "http_certificate": "c", "http_key": "k"}, 20),
        ({"host": "10.0.0.1", "behind_tls_proxy": True}, 100),  # everybody comes from the proxy
        ({"host": "127.0.0.1"}, 100),
    ],
)
def test_one_line_has_its_share_where_addresses_can_be_told_apart(settings, share):
    bounds = GatewaySettings(connections=100, connections_of_a_line=20, **settings).connection_bounds()
    assert (bounds.in_all, bounds.of_a_line) == (100, share)


async def test_a_token_of_bytes_that_are_no_text_is_no_token():
    async with Gateway() as gateway:
        reader, writer = await asyncio.open_connection(gateway.client.host, gateway.client.port)
        for said in (b"\xff\xfe", b"a.\xff.b", "张三".encode()):
            writer.write(
                b"POST /v1/searches HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: Bearer "
                + said
                + b"\r\n\r\n"
            )
            async with asyncio.timeout(10):
                answer = await reader.readuntil(b"trace_id")
            assert b"401 Unauthorized" in answer
            assert b'"reason":"token_invalid"' in answer
        writer.close()


@pytest.mark.parametrize("mark", ["\u200b", "\u202e", "\u2067", "\ufeff", "\u00ad"])
async def test_marks_nobody_sees_do_not_hide_a_person(mark):
    async with Gateway() as gateway:
        plain = await gateway.ask(QUESTION)
        asked = {**QUESTION, "subject": {**QUESTION["subject"], "name": f"{mark}錢偉{mark}明{mark}"}}
        assert (await gateway.ask(asked))[2]["candidates"] == plain[2]["candidates"]
        first, second = gateway.holdings.asked[:: len(CODES)]
        assert first.query == second.query


async def test_a_small_body_that_unpacks_to_a_large_one_is_too_large():
    async with Gateway() as gateway:
        bomb = gzip.compress(b'{"purpose": "' + b" " * 50_000_000 + b'"}')
        assert len(bomb) < 60_000
        status, _headers, problem = await gateway.ask(raw=bomb, headers={"Content-Encoding": "gzip"})
        assert (status, problem["reason"]) == (413, "too_large")


@pytest.mark.parametrize("fault", [Refusal(Reason.STORE_UNAVAILABLE), RuntimeError("錢偉明")])
async def test_a_stream_that_fails_after_it_began_is_cut_off_and_holds_no_second_answer(monkeypatch, fault):
    async with Gateway() as gateway:
        searches = gateway.edge._searches
        whole = searches.stream

        async def failing(question):
            async with contextlib.aclosing(whole(question)) as events:
                yield await anext(events)
                raise fault

        monkeypatch.setattr(searches, "stream", failing)
        body = json.dumps(QUESTION).encode()
        head = (
            f"POST /v1/searches HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.tokens.mint('platform')}\r\n"
            f"Content-Type: application/json\r\nAccept: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(gateway.client.host, gateway.client.port)
        writer.write(head.encode() + body)
        async with asyncio.timeout(30):
            told = await reader.read()  # until the gateway closes the connection
        writer.close()
        assert told.count(b"HTTP/1.1") == 1
        assert b"event: outcome" in told
        assert not told.endswith(b"0\r\n\r\n"), "cut off, and not ended as if that were all"
        assert gateway.health.running == 0
