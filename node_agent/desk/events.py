"""Desk push: what is done at the desk as server-sent events, read from the actions written down, so that nothing is missed.

A page opens the stream at the `seq` its queue was rendered at and resumes by Last-Event-ID. Each open stream is one
reader of the same table; a bell wakes it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec
from aiohttp import web

from federation.reasons import Reason, Refusal
from node_agent import telemetry
from node_agent.desk.office import Office
from node_agent.desk.showing import action_body

HEARTBEAT_S = 15.0
LONGEST_S = 3_600.0
"""A stream ends after this and is resumed; whether its user still may is asked again then."""
MOST_STREAMS, MOST_OF_ONE = 100, 10
_BATCH = 200


class Events:
    """All open streams of one desk. `user_of(request)` runs in the desk's thread and may refuse."""

    def __init__(self, office: Office, user_of: Callable[[web.Request], tuple[str, str]]) -> None:
        self._office, self._desk, self._user_of = office, office.desk, user_of
        self._open: dict[asyncio.Event, str] = {}
        self._stopping = False

    def stop(self) -> None:
        """End all streams; they resume elsewhere or later."""
        self._stopping = True
        for bell in self._open:
            bell.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One stream, until the client goes, an hour has passed, or the agent stops."""
        given = request.headers.get("Last-Event-ID", "") or request.query.get("after", "")
        if given and not (given.isascii() and given.isdigit() and len(given) < 16):
            raise Refusal(Reason.OUT_OF_RANGE, "/after")
        (name, _role), last = await self._office.thread.call(
            lambda: (self._user_of(request), self._desk.store.last_action())
        )
        after = min(int(given), last) if given else last
        if len(self._open) >= MOST_STREAMS or list(self._open.values()).count(name) >= MOST_OF_ONE:
            raise Refusal(Reason.OVERLOADED, retry_after_s=5.0)
        bell = asyncio.Event()
        self._open[bell] = name
        telemetry.DESK_STREAMS.set(len(self._open))
        unwatch = self._office.watch(bell.set)
        try:
            return await self._stream(request, after, bell)
        finally:
            unwatch()
            del self._open[bell]
            telemetry.DESK_STREAMS.set(len(self._open))

    async def _stream(self, request: web.Request, after: int, bell: asyncio.Event) -> web.StreamResponse:
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(b"retry: 3000\n\n")
        loop = asyncio.get_running_loop()
        until = loop.time() + LONGEST_S
        while not self._stopping and loop.time() < until:
            bell.clear()
            with contextlib.suppress(Refusal):  # the file can not be read for a moment
                actions = await self._office.thread.call(self._desk.store.actions, after, "", _BATCH)
                for action in actions:
                    after = action.seq
                    data = msgspec.json.encode(action_body(action))
                    await response.write(
                        b"id: %d\nevent: %s\ndata: %s\n\n" % (after, action.action.encode(), data)
                    )
                if len(actions) == _BATCH:
                    continue
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await bell.wait()
            except TimeoutError:
                await response.write(b": still here\n\n")
        await response.write_eof()
        return response
