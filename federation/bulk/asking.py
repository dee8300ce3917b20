"""The asking end of a bulk stream: objects by name, from any offset, each with a window of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

from google.protobuf.message import DecodeError

from federation.bulk import DEAD_AFTER_S, LEAST_COUNTED, PART_SIZE, WINDOW
from federation.reasons import Reason, Refusal
from federation.session.link import Link, LinkLostError, first_message
from federation.wire.v1 import bulk_pb2 as pb

HELLO_WITHIN_S = 2.0
PART_WITHIN_S = 20.0
"""How long an asker waits for the next part; opening an object may mean making it."""

_MOST_WAITING = WINDOW + PART_SIZE
"""Bytes of one object kept for who reads it: a sender with one byte of room left may still send a part."""

_REFUSALS = frozenset(
    {Reason.NOT_FOUND, Reason.OUT_OF_RANGE, Reason.OVERLOADED, Reason.NOT_PERMITTED, Reason.INTERNAL,
     Reason.NO_DOCUMENT, Reason.STORE_UNAVAILABLE, Reason.MALFORMED_TEXT, Reason.DRAINING, Reason.TOO_LARGE}
)  # fmt: skip
"""Reasons believed from the other side; any other word is read as `internal`."""


class BulkLostError(Exception):
    """The stream ended before the object did: ask again from where it stopped, on a new stream."""


class WrongBytesError(Exception):
    """What came is not what its digest says; nothing of it may be used."""


class Incoming:
    """One object being received. `size`, `sha256` and `media_type` are of the whole object, whatever the offset."""

    def __init__(self, stream: BulkAsking, number: int, offset: int) -> None:
        self._stream, self._number = stream, number
        self._parts: asyncio.Queue[pb.Part | None] = asyncio.Queue()  # bounded by `_waiting`
        self._waiting = 0
        self._at = offset
        self._eaten = 0
        self._first: pb.Part | None = None
        self.size = 0
        self.sha256 = b""
        self.media_type = ""

    def put(self, part: pb.Part, size: int) -> bool:
        """Keep a part, which came in a frame of `size` bytes, until it is read; False, and nothing is kept, when there are more bytes than
        the sender was given room for, or the frame holds much beside the data: it is kept with its part.
        """
        counted = _counted(part)
        if self._waiting + counted > _MOST_WAITING or size - len(part.data) > LEAST_COUNTED:
            return False
        self._waiting += counted
        self._parts.put_nowait(part)
        return True

    def lose(self) -> None:
        """The stream is lost; what has come is still read."""
        self._parts.put_nowait(None)

    async def _next(self) -> pb.Part:
        try:
            async with asyncio.timeout(PART_WITHIN_S):
                part = await self._parts.get()
        except TimeoutError:
            raise BulkLostError("silent") from None
        if part is None:
            raise BulkLostError("lost")
        self._waiting -= _counted(part)
        if part.reason:
            raise Refusal(Reason(part.reason) if part.reason in _REFUSALS else Reason.INTERNAL)
        if part.offset != self._at or len(part.data) > PART_SIZE * 2:
            raise BulkLostError("out of order")
        self._at += len(part.data)
        return part

    async def begin(self) -> None:
        """Wait for the first part; Refusal when the object is not given."""
        first = self._first = await self._next()
        self.size, self.sha256, self.media_type = first.size, first.sha256, first.media_type
        if len(self.sha256) != 32 or self._at > self.size:
            raise BulkLostError("no digest")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces in order; BulkLostError when the stream ends first, WrongBytesError when there are too many."""
        part = self._first
        self._first = None
        while part is not None:
            if self._at > self.size or (part.last and self._at != self.size):
                raise WrongBytesError
            if part.data:
                yield part.data
                self._eaten += len(part.data)
                if self._eaten >= WINDOW // 2 and not part.last:
                    with contextlib.suppress(BulkLostError):  # what had come before the loss is read first
                        await self._stream.make_room(self._number, self._eaten)
                    self._eaten = 0
            part = None if part.last else await self._next()

    async def close(self) -> None:
        """Want no more of it."""
        await self._stream.forget(self._number)


class BulkAsking:
    """Asks on one link. `greet`, then `run` as a task until it returns; `open` and `fetch` meanwhile."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._writing = asyncio.Lock()
        self._incoming: dict[int, Incoming] = {}
        self._last = 0
        self._is_retired = False
        self.is_lost = False

    async def greet(self) -> str:
        """The archive that says it answers here; BulkLostError when nobody does in time."""
        try:
            frame = pb.BulkFrame.FromString(await first_message(self._link, HELLO_WITHIN_S))
        except (TimeoutError, LinkLostError, DecodeError):
            raise BulkLostError("no greeting") from None
        if frame.WhichOneof("body") != "here":
            raise BulkLostError("no greeting")
        return frame.here.archive

    async def run(self) -> None:
        """Hand parts out until the link is lost, silent for too long, or brings what is no frame or more than was asked for."""
        reading: asyncio.Future[bytes] | None = None
        try:
            while True:
                reading = asyncio.ensure_future(self._link.receive())
                done, _ = await asyncio.wait({reading}, timeout=DEAD_AFTER_S)
                if not done or not self._take(reading.result()):
                    break
                if self._is_retired and not self._incoming:
                    break
        except LinkLostError:
            pass
        finally:
            self.is_lost = True
            for incoming in self._incoming.values():
                incoming.lose()
            self._incoming.clear()
            await self._link.close()
            if reading is not None and not reading.done():
                with contextlib.suppress(LinkLostError, asyncio.CancelledError):
                    await reading

    def _take(self, message: bytes) -> bool:
        try:
            frame = pb.BulkFrame.FromString(message)
        except DecodeError:
            return False
        kind = frame.WhichOneof("body")
        if kind == "part":
            incoming = self._incoming.get(frame.part.id)
            if incoming is not None:
                if not incoming.put(frame.part, len(message)):
                    return False
                if frame.part.last:
                    del self._incoming[frame.part.id]
        return kind in {"part", "here"}

    async def _send(self, frame: pb.BulkFrame) -> None:
        if self.is_lost:
            raise BulkLostError("lost")
        try:
            async with self._writing:
                await asyncio.shield(self._link.send(frame.SerializeToString()))
        except LinkLostError:
            raise BulkLostError("lost") from None

    async def open(self, name: str, offset: int = 0, body: bytes = b"") -> Incoming:
        """The object's head is here when this returns; Refusal, BulkLostError."""
        self._last += 1
        number = self._last
        incoming = self._incoming[number] = Incoming(self, number, offset)
        try:
            want = pb.Want(id=number, name=name, offset=offset, body=body, window=WINDOW)
            await self._send(pb.BulkFrame(want=want))
            await incoming.begin()
        except BaseException:
            await self.forget(number)
            raise
        return incoming

    async def fetch(self, name: str, most: int, body: bytes = b"") -> bytes:
        """A small object whole; Refusal(TOO_LARGE) above `most` bytes, WrongBytesError, BulkLostError."""
        incoming = await self.open(name, body=body)
        try:
            if incoming.size > most:
                raise Refusal(Reason.TOO_LARGE)
            found = b"".join([chunk async for chunk in incoming.chunks()])
        finally:
            await incoming.close()
        if hashlib.sha256(found).digest() != incoming.sha256:
            raise WrongBytesError
        return found

    async def make_room(self, number: int, room: int) -> None:
        await self._send(pb.BulkFrame(more=pb.More(id=number, bytes=room)))

    async def forget(self, number: int) -> None:
        if self._incoming.pop(number, None) is not None and not self.is_lost:
            with contextlib.suppress(BulkLostError):
                await self._send(pb.BulkFrame(stop=pb.Stop(id=number)))

    def retire(self) -> None:
        """A newer stream took over: end when what is under way has arrived, at the next beat at the latest."""
        self._is_retired = True

    async def close(self) -> None:
        await self._link.close()


def _counted(part: pb.Part) -> int:
    return max(len(part.data), LEAST_COUNTED)
