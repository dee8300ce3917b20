"""What carries a session's bytes: a dialled gRPC stream, an accepted one, or memory."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol


class LinkLostError(Exception):
    """The link is gone; whatever was in flight on it is lost together. The text is a kind of failure, never a content."""


class Link(Protocol):
    """A duplex stream of messages, in order. One reader and one writer at a time.

    `send` returns when the transport took the message (its flow control is the only back-pressure); both calls raise
    LinkLostError for good once the link is gone. Never cancel a running `send` or `receive`: close the link instead.
    """

    async def send(self, message: bytes) -> None: ...
    async def receive(self) -> bytes: ...
    async def close(self) -> None: ...


async def first_message(link: Link, within_s: float) -> bytes:
    """What the other side says first. TimeoutError when that is nothing in time: the link is closed then."""
    receiving = asyncio.ensure_future(link.receive())
    done, _ = await asyncio.wait({receiving}, timeout=within_s)
    if not done:
        await link.close()
        with contextlib.suppress(LinkLostError, asyncio.CancelledError):
            await receiving
        raise TimeoutError
    return receiving.result()


class MemoryLink:
    """One end of a link inside a process; `MemoryLink.pair()` makes both. For tests on virtual time."""

    def __init__(self, incoming: asyncio.Queue[bytes | None], outgoing: asyncio.Queue[bytes | None]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._closed = False

    @classmethod
    def pair(cls, bound: int = 64) -> tuple[MemoryLink, MemoryLink]:
        here: asyncio.Queue[bytes | None] = asyncio.Queue(bound)
        there: asyncio.Queue[bytes | None] = asyncio.Queue(bound)
        return cls(here, there), cls(there, here)

    async def send(self, message: bytes) -> None:
        if self._closed:
            raise LinkLostError("closed")
        await self._outgoing.put(message)

    async def receive(self) -> bytes:
        if self._closed:
            raise LinkLostError("closed")
        message = await self._incoming.get()
        if message is None:
            self._closed = True
            raise LinkLostError("closed by the other side")
        return message

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for queue in (self._outgoing, self._incoming):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)
