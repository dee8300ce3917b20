"""Calls of people: signed, without anything personal, tried again within bounds, each address by itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import stat

import pytest
from aiohttp import web

from federation.reasons import Reason, Refusal
from node_agent.desk import messenger
from node_agent.desk.thread import DeskThread
from tests.fakes.desks import Clock, desk_at, dispatch, give, notice_count

KEY = b"k" * 32


class Receiver:
    """A messenger on loopback: answers from `answers`, then 200; hangs on a path of that name."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/{path}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_error):
        self.release.set()
        await self._runner.cleanup()

    async def _answer(self, request):
        self.got.append((request.path, dict(request.headers), await request.read()))
        self.arrived.set()
        if request.path == "/hangs":
            await self.release.wait()
        if request.path == "/moved":
            raise web.HTTPTemporaryRedirect("/elsewhere")
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def wait(self, count):
        async with asyncio.timeout(10):
            while len(self.got) < count:
                self.arrived.clear()
                await self.arrived.wait()


class Calling:
    """A running messenger over a desk whose rota calls `channels`."""

    def __init__(self, folder, base, path="all", channels=None):
        rota = {"webhook": f"{base}/{path}", "channels": channels or {},
                "shifts": [{"days": ["thu"], "span": "08:30-11:30", "first": ["沈甲", "陆乙"]}]}  # fmt: skip
        self.clock = Clock()
        self.desk = desk_at(folder, self.clock, rota=rota)
        self.thread = DeskThread()
        self.messenger = messenger.Messenger(self.desk, self.thread, KEY)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.messenger.run())
        return self

    async def __aexit__(self, *_error):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.thread.close()
        self.desk.store.close()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                self.messenger.ring()
                await asyncio.sleep(0.01)


async def test_a_call_is_signed_and_says_case_stage_and_minutes_only(tmp_path):
    async with Receiver() as receiver, Calling(tmp_path, receiver.base) as calling:
        give(calling.desk, dispatch(), "0190-case")
        calling.messenger.ring()
        await receiver.wait(1)
        await calling.until(lambda: not calling.desk.store.notices(calling.clock(), 10))
    _path, headers, body = receiver.got[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    said = json.loads(body)
    assert said["timestamp"] == "2026-01-15T01:30:00.000Z", "as the API writes times"
    assert said["data"].keys() == {"archive", "case", "stage", "minutes_left", "escalated", "text"}
    assert (said["type"], said["data"]["case"], said["data"]["minutes_left"]) == (
        "desk.notice",
        "0190-case",
        1,
    )
    for personal in ("欧阳试验", "330483197001010017", "沈甲", "marriage"):
        assert personal not in body.decode()
    assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [500, 429, 302, 404])
async def test_what_is_not_a_success_is_tried_again_under_the_same_name(tmp_path, status):
    async with Receiver() as receiver, Calling(tmp_path, receiver.base) as calling:
        receiver.answers = [status]
        give(calling.desk, dispatch())
        calling.messenger.ring()
        await receiver.wait(1)
        await calling.until(lambda: (found := calling.desk.store.notices(2**60, 10)) and found[0].tries == 1)
        assert calling.desk.calls() == []
        calling.clock.go(5)
        await calling.until(lambda: len(receiver.got) == 2)
    assert receiver.got[0][1]["webhook-id"] == receiver.got[1][1]["webhook-id"]


async def test_a_redirect_is_not_followed_and_gone_is_gone(tmp_path):
    async with Receiver() as receiver, Calling(tmp_path, receiver.base, "moved") as calling:
        give(calling.desk, dispatch())
        calling.messenger.ring()
        await receiver.wait(1)
        await calling.until(lambda: (found := calling.desk.store.notices(2**60, 10)) and found[0].tries == 1)
    assert [path for path, _headers, _body in receiver.got] == ["/moved"]
    async with Receiver() as receiver, Calling(tmp_path / "gone", receiver.base) as calling:
        receiver.answers = [410]
        give(calling.desk, dispatch())
        await calling.until(lambda: receiver.got and not calling.desk.store.notices(2**60, 10))


async def test_a_messenger_that_hangs_holds_up_only_itself(tmp_path):
    async with Receiver() as receiver:
        channels = {"沈甲": f"{receiver.base}/hangs", "陆乙": f"{receiver.base}/works"}
        async with Calling(tmp_path, receiver.base, channels=channels) as calling:
            for place in range(3):
                give(calling.desk, dispatch(), f"c{place}")
            await calling.until(lambda: [path for path, *_rest in receiver.got].count("/works") == 3)
            assert [path for path, *_rest in receiver.got].count("/hangs") == 1
            await calling.until(lambda: notice_count(calling.desk) == 3)  # what hangs waits
            receiver.release.set()


async def test_an_address_nobody_answers_is_tried_again(tmp_path):
    async with Calling(tmp_path, "http://127.0.0.1:9") as calling:
        give(calling.desk, dispatch())
        await calling.until(lambda: (found := calling.desk.store.notices(2**60, 10)) and found[0].tries == 1)


async def test_a_call_that_can_not_be_noted_is_not_made_again_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(messenger, "LOOK_EVERY_S", 3600.0)
    async with Receiver() as receiver, Calling(tmp_path, receiver.base) as calling:
        failed = asyncio.Event()

        def called(_notice):
            asyncio_loop.call_soon_threadsafe(failed.set)
            raise Refusal(Reason.STORE_UNAVAILABLE)

        asyncio_loop = asyncio.get_running_loop()
        monkeypatch.setattr(calling.desk, "called", called)
        give(calling.desk, dispatch())
        calling.messenger.ring()
        async with asyncio.timeout(10):
            await failed.wait()
            while calling.messenger._calling:
                await asyncio.sleep(0)
        assert not calling.messenger._bell.is_set(), "whoever is on duty would be called without pause"
        monkeypatch.undo()
        await calling.until(lambda: not calling.desk.store.notices(calling.clock(), 10))
    assert len(receiver.got) == 2


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path):
    key = messenger.key_of(tmp_path)
    assert len(key) == 32
    assert messenger.key_of(tmp_path) == key
    path = tmp_path / messenger.KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert base64.b64decode(messenger.written(key).removeprefix("whsec_")) == key
