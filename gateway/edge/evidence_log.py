"""The public routes of the gateway's evidence log, as C2SP tlog-tiles has them: the newest checkpoint, and tiles."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from federation.http.limits import RateLimit
from federation.tlog.note import Note

Handler = Callable[[web.Request, str], Awaitable[web.StreamResponse]]


class EvidenceLog(Protocol):
    """What is read of the log; both block. Refusal(NOT_FOUND) for what there is not."""

    def newest(self) -> Note: ...
    def tile(self, path: str) -> bytes: ...


class LogRoutes:
    """Anyone may read: no event leaves by tiles, only commitments."""

    def __init__(self, log: EvidenceLog, limit: RateLimit) -> None:
        self._log, self._limit = log, limit

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/log/checkpoint", self._checkpoint),
            ("GET", "/log/tile/{path:.+}", self._tile),
        ]

    async def _checkpoint(self, request: web.Request, _trace: str) -> web.StreamResponse:
        self._limit.take_stranger(request.remote)
        note = await asyncio.to_thread(self._log.newest)
        headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "max-age=1"}
        return web.Response(body=str(note).encode(), headers=headers)

    async def _tile(self, request: web.Request, _trace: str) -> web.StreamResponse:
        self._limit.take_stranger(request.remote)
        data = await asyncio.to_thread(self._log.tile, f"tile/{request.match_info['path']}")
        # a tile of a given width never changes
        headers = {"Content-Type": "application/octet-stream", "Cache-Control": "max-age=31536000, immutable"}
        return web.Response(body=data, headers=headers)
