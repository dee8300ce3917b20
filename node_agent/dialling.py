"""Keeps the connections this agent dials: again after a loss, with growing, jittered pauses; a new one before the old one
ages out, which then ends by itself when the gateway has drained it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import grpc.aio

from federation.outcome import Outcome
from federation.process.supervising import why_ended
from federation.rpc import transport
from federation.session.base import SessionEndedError
from node_agent import telemetry

CONNECT_WITHIN_S = 2.0  # nobody waits for it: searches see `unreachable` meanwhile
_BACKOFF_S = (0.5, 15.0)  # an archive that is back should be found within a stage of a case
_STABLE_S = 60.0

Serve = Callable[[grpc.aio.Channel, Callable[[], None]], Awaitable[None]]
"""Serves one connection to its end; calls its second argument once the connection is of use."""


class Ways:
    """The ways to gateways, and what the log has said of each: a line for each reason until it is open again, not for
    each try. A way is the address this agent dials, with what for, or "" for gateways that dial in.
    """

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], set[str]] = {}  # reasons told since it was open; none = it is

    def failed(self, address: str, reason: str, kind: str = "session") -> None:
        """A try has failed; `reason` is of the closed list, or `unreachable`."""
        said = self._said.setdefault((address, kind), set())
        if reason not in said:
            said.add(reason)
            telemetry.log.warning(
                "no session", action="agent.no_session", address=address, kind=kind, reason=reason
            )

    def open(self, address: str, kind: str = "session") -> None:
        """It is open, and was not refused at once."""
        if self._said.get((address, kind)) != set():
            self._said[address, kind] = set()
            telemetry.log.info("session open", action="agent.session", address=address, kind=kind)


class Dialler:
    """Dials gateways. `gateway_name` is the name they must prove."""

    def __init__(
        self, credentials: transport.Credentials, gateway_name: str, ways: Ways | None = None
    ) -> None:
        self._credentials, self._gateway_name = credentials, gateway_name
        self._ways = ways or Ways()
        self._serving: set[asyncio.Task[None]] = set()

    async def keep(
        self, address: str, serve: Serve, *, age_s: float | None = None, kind: str = "session"
    ) -> None:
        """Keep one connection to a gateway; with `age_s`, renew it before that age. Cancelling stops the dialling only:
        what is open goes on until it ends or `close`.
        """
        pause = _BACKOFF_S[0]
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            opened = asyncio.Event()
            serving = asyncio.create_task(
                self._dial(address, serve, opened, kind), name=f"connection to {address}"
            )
            self._serving.add(serving)
            serving.add_done_callback(self._ended)
            waiting = asyncio.create_task(opened.wait(), name="wait for a greeting")
            try:
                await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            if opened.is_set():
                age = None if age_s is None else age_s * random.uniform(0.85, 1.0)  # noqa: S311 - jitter, not a secret
                await asyncio.wait({serving}, timeout=age)
                if not serving.done():
                    pause = _BACKOFF_S[0]  # it was of use to its end: an outage before it is over
                    continue  # renew: the gateway lets the old one finish once it has the new one
            if loop.time() - began > _STABLE_S:
                pause = _BACKOFF_S[0]
            await asyncio.sleep(random.uniform(0.2, 1.0) * pause)  # noqa: S311
            pause = min(_BACKOFF_S[1], pause * 2)

    async def _dial(self, address: str, serve: Serve, opened: asyncio.Event, kind: str) -> None:
        channel: grpc.aio.Channel | None = None
        try:
            channel = transport.channel(address, self._credentials, "gateway", self._gateway_name)
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await channel.channel_ready()
            await serve(channel, opened.set)
        except (TimeoutError, SessionEndedError, transport.TransportRefusedError) as error:
            # refused: certificate and key are being replaced, and do not belong together now
            self._ways.failed(address, getattr(error, "reason", "") or Outcome.UNREACHABLE.value, kind)
        finally:
            if channel is not None:
                await channel.close(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            telemetry.log.error("a task ended", action="agent.task_ended", **why_ended(error))

    async def close(self) -> None:
        """End every connection that is still open."""
        tasks = list(self._serving)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await asyncio.gather(*tasks, return_exceptions=True)
