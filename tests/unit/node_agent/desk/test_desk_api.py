"""The desk's API over real HTTP: who may, what is refused and how, what a page needs to work by keyboard alone."""

from __future__ import annotations

import asyncio
import json
import threading

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import generate_latest

from federation import mail
from federation.http import bodies as json_bodies
from federation.http import server as http_server
from federation.http.limits import ConnectionBounds, RateLimit
from federation.reasons import Reason, Refusal
from node_agent import telemetry
from node_agent.desk import users
from node_agent.desk.api import ACTIONS, DeskApi, openapi, serving
from node_agent.desk.issuing import ApprovalNotice
from node_agent.desk.office import Office
from node_agent.desk.problems import STATUS
from node_agent.settings import NodeSettings
from tests.fakes.desks import DEPUTY, HOLDER, Clock, desk_at, dispatch, give


class Running:
    """A desk with one waiting case `c1`, served on loopback."""

    def __init__(self, folder):
        self.folder, self.can_issue = folder, None

    async def __aenter__(self):
        self.clock = Clock()
        self.desk = desk_at(self.folder, self.clock, people=False, can_issue=self.can_issue)
        self.tokens = {
            name: users.add(self.desk.store, name, role, self.clock())
            for name, role in (("沈甲", "reviewer"), ("陆乙", "reviewer"), ("顾丙", "lead"))
        }
        give(self.desk, dispatch())
        self.office = Office(self.desk, ApprovalNotice(), b"k" * 32)
        self.api = DeskApi(self.office)
        self.runner = web.AppRunner(self.api.app(), access_log=None, shutdown_timeout=0.5)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.http = aiohttp.ClientSession(f"http://127.0.0.1:{self.runner.addresses[0][1]}")
        self.loops = [asyncio.ensure_future(one) for one in self.office.loops().values()]
        return self

    async def __aexit__(self, *_error):
        self.api.stop()
        await self.http.close()
        await self.runner.cleanup()
        for one in self.loops:
            one.cancel()
        await asyncio.gather(*self.loops, return_exceptions=True)
        self.office.close()

    async def ask(self, method, path, body=None, *, who="沈甲", **more):
        headers = {"Authorization": f"Bearer {self.tokens.get(who, who)}", **more.pop("headers", {})}
        async with self.http.request(method, path, json=body, headers=headers, **more) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
def running(tmp_path):
    return Running(tmp_path)


def test_every_action_and_reason_is_in_the_contract():
    paths = openapi()["paths"]
    assert {path.rsplit("/", 1)[1] for path, item in paths.items() if "post" in item} == set(ACTIONS)
    for item in paths.values():
        for name, operation in item.items():
            if name in {"get", "post"}:
                assert {int(code) for code in operation["responses"]} <= {200, *STATUS.values()}


async def test_a_case_by_keyboard_alone(running):
    async with running as here:
        status, queue = await here.ask("GET", "/desk/queue")
        assert (status, queue["archive"], queue["role"], queue["count"]) == (200, "330483", "reviewer", 1)
        item = queue["items"][0]
        assert (item["state"], item["left_s"], item["name"]) == ("waiting", 90, "欧阳试验")
        status, case = await here.ask("GET", "/desk/cases/c1", headers={"Accept-Language": "en"})
        assert case["record"]["names"] == ["欧阳试验"]
        assert case["request"]["subject"]["id_number"] == "330483197001010017"
        assert case["release"]["failed"] == ["switched_on", "sensitivity_low"]
        assert case["status"] == "waiting"
        status, claimed = await here.ask("POST", "/desk/cases/c1/claim", {"version": item["version"]})
        assert (status, claimed["reviewer"]) == (200, "沈甲")
        status, same = await here.ask("POST", "/desk/cases/c1/claim", {"version": item["version"]})
        assert (status, same["version"]) == (200, claimed["version"])  # a double click
        status, renewed = await here.ask("POST", "/desk/cases/c1/renew", {"version": claimed["version"]})
        assert renewed["version"] == claimed["version"]
        status, done = await here.ask(
            "POST", "/desk/cases/c1/refuse", {"version": claimed["version"], "reason": "secret"}
        )
        assert (status, done["state"], done["reason_text"]) == (200, "refused", "档案涉密")
        status, late = await here.ask(
            "POST", "/desk/cases/c1/approve", {"version": claimed["version"]}, who="陆乙"
        )
        assert (status, late["reason"], late["case"]["decided_by"]) == (409, "taken", "沈甲")
        status, late = await here.ask(
            "POST", "/desk/cases/c1/approve", {"version": done["version"]}, who="陆乙"
        )
        assert (status, late["reason"]) == (409, "illegal_transition")
        status, history = await here.ask("GET", "/desk/cases/c1/history")
        assert [one["action"] for one in history["actions"]] == ["received", "notified", "claim", "refuse"]
        status, ended = await here.ask("GET", "/desk/ended?limit=1")
        assert [one["case"] for one in ended["items"]] == ["c1"]
        status, words = await here.ask("GET", "/desk/words", headers={"Accept-Language": "en"})
        assert {"key": "secret", "text": "The record is classified"} in words["refusal_reasons"]
        weighed = {"Accept-Language": "en;q=0.3, zh;q=0.9"}
        status, words = await here.ask("GET", "/desk/words", headers=weighed)
        assert {"key": "secret", "text": "档案涉密"} in words["refusal_reasons"]


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/desk/cases/c9", None, (404, "unknown_case")),
        ("POST", "/desk/cases/c9/claim", {"version": 1}, (404, "unknown_case")),
        ("POST", "/desk/cases/c1/claim", {}, (422, "missing_field")),
        ("POST", "/desk/cases/c1/claim", {"version": "1"}, (422, "wrong_type")),
        ("POST", "/desk/cases/c1/claim", {"version": -1}, (422, "out_of_range")),
        ("POST", "/desk/cases/c1/claim", {"version": 1, "force": True}, (422, "unknown_field")),
        ("POST", "/desk/cases/c1/refuse", {"version": 1, "reason": "不想"}, (422, "out_of_range")),
        ("POST", "/desk/cases/c1/ask", {"version": 1, "items": []}, (422, "out_of_range")),
        ("POST", "/desk/cases/c1/refer", {"version": 1, "archive": "330483"}, (409, "referred_in_a_circle")),
        ("POST", "/desk/cases/c1/hand-over", {"version": 1, "to": "无此人"}, (422, "out_of_range")),
        ("POST", "/desk/cases/c1/approve", {"version": 1, "archival_code": "x" * 101}, (422, "too_long")),
        ("DELETE", "/desk/cases/c1", None, (405, "method_not_allowed")),
        ("GET", "/desk/elsewhere", None, (404, "not_found")),
        ("GET", "/desk/ended?limit=-1", None, (422, "out_of_range")),
        ("GET", "/desk/events?after=x", None, (422, "out_of_range")),
    ],
)
async def test_what_is_wrong_is_named(running, method, path, body, expected):
    async with running as here:
        status, problem = await here.ask(method, path, body)
        assert (status, problem["reason"]) == expected
        assert problem["type"] == f"urn:lantai:problem:{expected[1]}"
        assert here.desk.item("c1").version == 1


async def test_bodies_that_are_none_are_named(running):
    async with running as here:
        headers = {"Authorization": f"Bearer {here.tokens['沈甲']}", "Content-Type": "application/json"}
        for data, expected in (
            (b"", (400, "malformed_json")), (b'{"version": 1', (400, "malformed_json")), (b"\xff\xfe", (400, "malformed_text")),
            (b"[" * 2_000, (400, "too_deep")), (b" " * 2_000_000, (413, "too_large")),
        ):  # fmt: skip
            async with here.http.post("/desk/cases/c1/claim", data=data, headers=headers) as answer:
                assert (answer.status, (await answer.json(content_type=None))["reason"]) == expected
        headers["Content-Type"] = "text/plain"
        async with here.http.post("/desk/cases/c1/claim", data=b"{}", headers=headers) as answer:
            assert answer.status == 415


async def test_only_users_of_the_desk_see_anything(running):
    async with running as here:
        paths = [
            "/desk/queue",
            "/desk/ended",
            "/desk/cases/c1",
            "/desk/cases/c1/history",
            "/desk/words",
            "/desk/events",
        ]
        for path in paths:
            async with here.http.get(path) as answer:
                assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            for token in ("x", "lantai-desk-x", "lantai-desk-" + "x" * 5_000):
                status, problem = await here.ask("GET", path, who=token)
                assert (status, problem["reason"]) == (401, Reason.TOKEN_INVALID)
        for action in ACTIONS:
            async with here.http.post(f"/desk/cases/c1/{action}", data=b"not even json") as answer:
                assert answer.status == 401
        old = here.tokens["沈甲"]
        here.tokens["沈甲"] = users.renew_token(here.desk.store, "沈甲", here.clock())
        assert (await here.ask("GET", "/desk/queue", who=old))[0] == 401
        assert (await here.ask("GET", "/desk/queue"))[0] == 200
        users.remove(here.desk.store, "沈甲", here.clock())
        assert (await here.ask("GET", "/desk/queue"))[0] == 401
        async with here.http.get("/livez") as answer:
            assert answer.status == 200


async def test_push_begins_where_the_page_was_rendered_and_resumes(running):
    async with running as here:
        _status, queue = await here.ask("GET", "/desk/queue")
        headers = {"Authorization": f"Bearer {here.tokens['沈甲']}", "Last-Event-ID": str(queue["seq"])}
        async with here.http.get("/desk/events", headers=headers) as stream:
            assert stream.headers["Content-Type"] == "text/event-stream"
            give(here.desk, dispatch(), "c2")
            first = await next_event(stream)
            assert (first["case"], first["action"]) == ("c2", "received")
        other = desk_at(here.folder, here.clock, people=False)  # another process, while nobody listens
        other.claim("c2", "陆乙", other.item("c2").version)
        other.store.close()
        headers["Last-Event-ID"] = str(first["seq"])
        async with here.http.get("/desk/events", headers=headers) as stream:
            seen = [await next_event(stream) for _ in range(2)]
            assert [one["action"] for one in seen] == ["notified", "claim"]
            other = desk_at(here.folder, here.clock, people=False)  # and while somebody does
            other.release("c2", "陆乙", other.item("c2").version)
            other.store.close()
            assert (await next_event(stream))["action"] == "release"


async def next_event(stream):
    async with asyncio.timeout(10):
        while True:
            line = await stream.content.readline()
            if line.startswith(b"data: "):
                return json.loads(line[6:])


async def test_streams_are_bounded_and_end_when_the_agent_stops(running):
    async with running as here:
        headers = {"Authorization": f"Bearer {here.tokens['沈甲']}"}
        streams = [await here.http.get("/desk/events", headers=headers) for _ in range(10)]
        async with here.http.get("/desk/events", headers=headers) as answer:
            assert answer.status == 503
        here.api.stop()
        for stream in streams:
            async with asyncio.timeout(10):
                await stream.read()


def test_a_user_may_ask_only_so_often():
    times = iter([0.0] * 21 + [0.5, 0.5])
    limit = RateLimit(120, lambda: next(times))
    for _ in range(20):
        limit.take("沈甲")
    with pytest.raises(Exception, match="rate_limited"):
        limit.take("沈甲")
    limit.take("沈甲")
    with pytest.raises(Exception, match="rate_limited"):
        limit.take("沈甲")


async def test_what_is_approved_is_issued_by_the_running_office(running):
    """Approve over HTTP, let the gateway take it, and the office issues by itself."""
    async with running as here:
        await here.ask("POST", "/desk/cases/c1/approve", {"version": 1})
        for waiting in here.desk.outbox():
            here.desk.receipted(waiting.id)
        for waiting in here.desk.outbox():
            here.desk.receipted(waiting.id)
        async with asyncio.timeout(10):
            while not any(
                isinstance(mail.read_from_desk(one.body), mail.Issued) for one in here.desk.outbox()
            ):
                await asyncio.sleep(0.01)
        assert here.desk.item("c1").state == "issued"


async def test_what_could_never_be_issued_is_not_approved_and_holds_up_nobody_meanwhile(running):
    asked, look = [], threading.Event()

    def can_issue(request, code, pages):
        asked.append((request.ref, code, pages[0]["page"]))
        assert look.wait(10)
        if code == "none":
            raise Refusal(Reason.OUT_OF_RANGE, "/archival_code")

    running.can_issue = can_issue
    body = {"version": 1, "archival_code": "none", "pages": [{"file": "a.pdf", "page": 9}]}
    async with running as here:
        approving = asyncio.ensure_future(here.ask("POST", "/desk/cases/c1/approve", body))
        async with asyncio.timeout(10):
            while not asked:
                await asyncio.sleep(0.01)
        assert (await here.ask("GET", "/desk/queue"))[1]["count"] == 1
        look.set()
        status, said = await approving
        assert (status, said["reason"], said["errors"][0]["pointer"]) == (
            422,
            "out_of_range",
            "/archival_code",
        )
        assert (here.desk.item("c1").state, here.desk.outbox()[-1:]) == ("waiting", here.desk.outbox()[:1])
        status, done = await here.ask("POST", "/desk/cases/c1/approve", {**body, "archival_code": "有"})
        assert (status, done["state"], done["archival_code"]) == (200, "approved", "有")
        assert asked == [("r1", "none", 9), ("r1", "有", 9)]
        again = await here.ask("POST", "/desk/cases/c1/approve", {**body, "archival_code": "有"})
        assert (again, len(asked)) == ((200, done), 2)  # answered alike, though the scan may be gone since


def test_a_deputy_approves_without_the_holders_record_at_hand(tmp_path):
    def can_issue(*_asked):
        raise Refusal(Reason.OUT_OF_RANGE, "/archival_code")

    desk = desk_at(tmp_path, Clock(), archive=DEPUTY, can_issue=can_issue)
    give(desk, dispatch(on_behalf_of=HOLDER))
    assert desk.approve("c1", "沈甲", desk.item("c1").version).state == "approved"
    desk.store.close()


async def test_a_body_that_never_comes_and_one_that_is_not_as_it_is_coded_are_named(running, monkeypatch):
    monkeypatch.setattr(json_bodies, "GRACE_S", 0.2)
    async with running as here:
        token = f"Bearer {here.tokens['沈甲']}"
        headers = {"Authorization": token, "Content-Type": "application/json", "Content-Encoding": "gzip"}
        async with here.http.post("/desk/cases/c1/claim", data=b"as it is", headers=headers) as answer:
            told = await answer.json(content_type=None)
            assert (answer.status, told["reason"]) == (400, "malformed_body")
        host, port = here.runner.addresses[0][:2]
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            f"POST /desk/cases/c1/claim HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {'a' * 43}\r\n"
            "Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{".encode()
        )
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"out_of_time")).startswith(b"HTTP/1.1 504 ")
        writer.close()


async def test_a_connection_that_asks_nothing_is_closed(running, monkeypatch):
    monkeypatch.setattr(http_server, "QUIET_S", 0.2)
    async with running as here, serving(here.api, "127.0.0.1:0", ConnectionBounds(8, 8), None) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def test_an_event_stream_holds_a_place_and_the_next_caller_is_refused_by_name(running):
    async with (
        running as here,
        serving(here.api, "127.0.0.1:0", ConnectionBounds(1, 1), None) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):
        headers = {"Authorization": f"Bearer {here.tokens['沈甲']}"}
        async with http.get("/desk/events", headers=headers) as stream:
            await stream.content.readline()
            assert stream.headers["Server"] == "lantai"
            async with http.get("/livez") as answer:
                told = await answer.json(content_type="application/problem+json")
                assert (answer.status, told["reason"]) == (503, "overloaded")
                assert answer.headers["Server"] == "lantai"
            metrics = generate_latest(telemetry.REGISTRY).decode()
            assert '\nagent_http_connections{server="desk"} 1.0\n' in metrics
            assert '\nagent_http_connections_refused_total{server="desk",why="in_all"} 1.0\n' in metrics
            stream.close()
        async with asyncio.timeout(10):
            while (await http.get("/livez")).status == 503:
                await asyncio.sleep(0.01)


async def test_bytes_that_are_no_request_are_refused_by_name_without_an_echo(running, capsys):
    async with running as here, serving(here.api, "127.0.0.1:0", ConnectionBounds(8, 8), None) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write("欧阳试验 330483197001010017\r\n\r\n".encode())
        async with asyncio.timeout(10):
            answer = (await reader.read()).decode()
        assert answer.split(" ")[1] == "400"
        assert '"reason":"malformed_request"' in answer
        said = answer + "".join(capsys.readouterr())
        assert not [one for one in ("欧阳", "330483197001010017") if one in said]
        writer.close()


def test_one_line_has_its_share_of_the_desk_off_loopback():
    off = {"desk_listen": "10.0.0.1:8443", "desk_certificate": "c", "desk_key": "k"}
    for more, share in ((off, 20), ({"desk_listen": "127.0.0.1:8443"}, 100)):
        numbers = {"desk_connections": 100, "desk_connections_of_a_line": 20}
        settings = NodeSettings(archive="330483", name="桐乡市档案馆", **numbers, **more)
        assert (settings.desk_bounds().in_all, settings.desk_bounds().of_a_line) == (100, share)


async def test_a_request_nobody_can_read_hides_neither_its_item_nor_others(running):
    async with running as desk:
        give(desk.desk, dispatch(), "c2")
        with desk.desk.store.writing(0):
            desk.desk.store._connection.execute("update items set dispatch = x'7b' where case_id = 'c1'")
        status, body = await desk.ask("GET", "/desk/queue")
        assert status == 200
        shown = {item["case"]: item.get("name") for item in body["items"]}
        assert shown == {"c1": None, "c2": "欧阳试验"}
