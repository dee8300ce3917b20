"""Runs the HTTP edge so that bytes that are no HTTP are refused like everything else: by a named reason, without an echo.

aiohttp would quote what it could not read in its answer and in a log, and that may be a name.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from federation.reasons import Reason, Refusal
from gateway import telemetry
from gateway.edge.problems import problem


class _Protocol(RequestHandler):
    """One connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        del message
        trace = secrets.token_hex(8)
        telemetry.log.warning(
            "no request", action="http.unreadable", status=status, kind=type(exc).__name__, trace=trace
        )
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        reason = Reason.INTERNAL if status >= 500 else Reason.MALFORMED_REQUEST
        response = problem(Refusal(reason), "zh", trace)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=asyncio.get_running_loop(), **self._kwargs)


class EdgeRunner(web.AppRunner):
    """`web.AppRunner` with our connections."""

    __slots__ = ()

    async def _make_server(self) -> Any:
        made = await super()._make_server()
        made.__class__ = _Server
        return made
