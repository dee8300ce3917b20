"""A lean HTTP client that keeps a fixed number of requests in flight, for throughput figures.

Requests are bytes made beforehand and answers are only counted, so that the client takes as little as possible of the
cores it shares with what it measures. For latency under load use the open-loop driver instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import uvloop


@dataclass(slots=True)
class Run:
    """What came back: (seconds since the start, milliseconds, status, has the marker) of each answer."""

    seconds: float = 0.0
    answers: list[tuple[float, float, int, bool]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return sum(status == 200 for _at, _ms, status, _mark in self.answers) / self.seconds

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(ms for _at, ms, _status, _mark in self.answers)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def request(path: str, body: bytes, token: str = "") -> bytes:
    """One keep-alive POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    return head.encode() + b"\r\n" + body


class _Line(asyncio.Protocol):
    """One connection that sends the next request as soon as the answer to the last is whole."""

    def __init__(
        self, run: Run, requests: Sequence[bytes], first: int, ends_at: float, marker: bytes
    ) -> None:
        self._run, self._requests, self._next, self._ends_at, self._marker = (
            run,
            requests,
            first,
            ends_at,
            marker,
        )
        self._held = b""
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        now = time.perf_counter()
        if now >= self._ends_at:
            self._transport.close()
            return
        self._sent = now
        self._transport.write(self._requests[self._next % len(self._requests)])  # type: ignore[attr-defined]
        self._next += 1

    def data_received(self, data: bytes) -> None:
        self._held += data
        head_end = self._held.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._held[:head_end].lower()
        at = head.find(b"content-length:")
        size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._held) < head_end + 4 + size:
            return
        now = time.perf_counter()
        marked = self._marker in self._held
        began = self._ends_at - self._run.seconds
        self._run.answers.append((now - began, (now - self._sent) * 1000, int(head[9:12]), marked))
        self._held = b""
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def _hammer(
    host: str, port: int, requests: Sequence[bytes], in_flight: int, seconds: float, marker: bytes
) -> Run:
    run = Run(seconds)
    loop = asyncio.get_running_loop()
    ends_at = time.perf_counter() + seconds
    lines = []
    for number in range(in_flight):
        first = number * (len(requests) // in_flight or 1)
        _transport, line = await loop.create_connection(
            partial(_Line, run, requests, first, ends_at, marker), host, port
        )
        lines.append(line)
    await asyncio.wait_for(asyncio.gather(*[line.done for line in lines]), seconds + 30)
    return run


def hammer(
    port: int,
    requests: Sequence[bytes],
    *,
    in_flight: int = 32,
    seconds: float = 5.0,
    marker: bytes = b'"partial"',
) -> Run:
    """Keep `in_flight` requests going to a server on loopback for `seconds`."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_hammer("127.0.0.1", port, requests, in_flight, seconds, marker))
