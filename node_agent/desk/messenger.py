"""Calling people through the archive's own messenger: webhooks signed after Standard Webhooks 1.0.

What is to be called waits in the desk's file, so that a restart forgets nobody. A call says which case, which stage and
how many minutes are left, and nothing of what the case is about. A messenger that hangs holds up only its own calls.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import secrets
from functools import partial
from pathlib import Path

import aiohttp
import msgspec

from federation.process.durable import write_secret
from federation.reasons import Refusal
from node_agent import telemetry
from node_agent.desk.desk import Desk
from node_agent.desk.items import Notice
from node_agent.desk.showing import when
from node_agent.desk.thread import DeskThread

KEY_FILE = "messenger.key"
TIMEOUT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 120.0
LOOK_EVERY_S = 1.0
_AT_ONCE = 64
_MOST_CALLING = 16

_STAGES = {"pick_up": ("待受理", "waits to be picked up"), "review": ("待审结", "waits for its decision")}


def key_of(folder: Path) -> bytes:
    """The secret that signs calls, made on first use."""
    path = folder / KEY_FILE
    if not path.exists():
        write_secret(path, secrets.token_bytes(32))
    return path.read_bytes()


def written(key: bytes) -> str:
    """The secret as the messenger is configured with it."""
    return "whsec_" + base64.b64encode(key).decode()


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of one call (HMAC-SHA256)."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def body_of(notice: Notice, archive: str, now_ms: int) -> bytes:
    """What a call says. `text` is for people, in both languages."""
    minutes = (notice.until_ms - now_ms) // 60_000
    zh, en = _STAGES[notice.stage]
    left_zh, left_en = (f"剩 {minutes} 分钟", f"{minutes} min left") if minutes >= 0 else ("已超时", "late")
    return msgspec.json.encode(
        {
            "type": "desk.notice",
            "timestamp": when(notice.at_ms),
            "data": {
                "archive": archive,
                "case": notice.case_id,
                "stage": notice.stage,
                "minutes_left": minutes,
                "escalated": notice.rung,
                "text": f"案件 {notice.case_id} {zh}，{left_zh} · case {notice.case_id} {en}, {left_en}",
            },
        }
    )


class Messenger:
    """Makes the calls that are due. `run` serves until cancelled."""

    def __init__(self, desk: Desk, thread: DeskThread, key: bytes) -> None:
        self._desk, self._thread, self._key = desk, thread, key
        self._bell = asyncio.Event()
        self._calling: dict[str, asyncio.Task[None]] = {}

    def ring(self) -> None:
        """There may be somebody to call."""
        self._bell.set()

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(
            timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        ) as session:
            try:
                while True:
                    self._bell.clear()
                    with contextlib.suppress(Refusal):  # the file can not be read for a moment
                        self._begin(session, await self._thread.call(self._desk.calls, _AT_ONCE))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_EVERY_S):
                            await self._bell.wait()
            finally:
                for task in self._calling.values():
                    task.cancel()
                await asyncio.gather(*self._calling.values(), return_exceptions=True)

    def _begin(self, session: aiohttp.ClientSession, due: list[Notice]) -> None:
        """Each address is called once at a time, in the order of its notices."""
        for notice in due:
            if notice.address in self._calling or len(self._calling) >= _MOST_CALLING:
                continue
            task = asyncio.create_task(self._call(session, notice), name="desk call")
            self._calling[notice.address] = task
            task.add_done_callback(partial(self._ended, notice.address))

    def _ended(self, address: str, done: asyncio.Task[None]) -> None:
        del self._calling[address]
        if not done.cancelled() and done.exception() is not None:
            telemetry.DESK_NOTICES.labels(outcome="failed").inc()
            return  # it is called again at the next look, not at once
        self.ring()

    async def _call(self, session: aiohttp.ClientSession, notice: Notice) -> None:
        now_ms = self._desk.now_ms()
        body = body_of(notice, self._desk.archive, now_ms)
        name = hashlib.sha256(f"{self._desk.archive}:notice:{notice.seq}".encode()).hexdigest()[:32]
        stamp = now_ms // 1000
        headers = {
            "Content-Type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(stamp),
            "webhook-signature": signature(self._key, name, stamp, body),
        }
        status = 0
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
            async with session.post(
                notice.address, data=body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
        if 200 <= status < 300 or status == 410:
            telemetry.DESK_NOTICES.labels(outcome="delivered" if status != 410 else "gone").inc()
            await self._thread.call(self._desk.called, notice)
        else:
            telemetry.DESK_NOTICES.labels(outcome="again").inc()
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(notice.tries, 10))
            await self._thread.call(self._desk.call_again, notice, pause)
