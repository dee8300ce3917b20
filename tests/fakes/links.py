"""A session's link inside one process, for virtual time; held to the same contract as the links over gRPC."""

from __future__ import annotations

import asyncio

from federation.session.link import LinkLostError


class MemoryLink:
    """One end of a link inside a process; `MemoryLink.pair()` makes both."""

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
