"""What carries a session's bytes: a gRPC stream, dialled or accepted."""

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
