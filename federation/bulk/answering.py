"""The answering end of a bulk stream: opens what is asked for and sends it in parts, as fast as the asker has room."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import DecodeError

from federation.bulk import BEAT_EVERY_S, LARGEST_BODY, MOST_AT_ONCE, PART_SIZE
from federation.reasons import Reason, Refusal
from federation.session.link import Link, LinkLostError
from federation.wire.v1 import bulk_pb2 as pb

ROOM_WITHIN_S = 60.0
"""An asker that makes no room for so long has forgotten the object."""


@dataclass(frozen=True, slots=True)
class Object:
    """An object as it is sent: `read(offset, length)` blocks and gives that piece; the bytes of one digest never change."""

    size: int
    sha256: bytes
    media_type: str
    read: Callable[[int, int], bytes]


class Objects(Protocol):
    """What an archive gives out by name. `open` is called in a thread; Refusal says why not."""

    def open(self, name: str, body: bytes) -> Object: ...


class _Answer:
    """One object under way."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.is_stopped = False
        self.changed = asyncio.Event()

    def more(self, room: int) -> None:
        self.room += room
        self.changed.set()

    def stop(self) -> None:
        self.is_stopped = True
        self.changed.set()

    async def has_room(self) -> bool:
        """Wait until the asker has room; False when it wants no more, or makes none for too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROOM_WITHIN_S):
                while self.room <= 0 and not self.is_stopped:
                    self.changed.clear()
                    await self.changed.wait()
        return self.room > 0 and not self.is_stopped


class BulkAnswering:
    """Answers on one link until it is lost. `run` once."""

    def __init__(self, link: Link, archive: str, objects: Objects) -> None:
        self._link, self._archive, self._objects = link, archive, objects
        self._writing = asyncio.Lock()
        self._answers: dict[int, _Answer] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve; returns when the link is lost or the other side sends what is no frame."""
        beats = asyncio.create_task(self._beat(), name="bulk beats")
        try:
            while await self._take(await self._link.receive()):
                pass
        except LinkLostError:
            pass
        finally:
            for answer in self._answers.values():
                answer.stop()
            await (
                self._link.close()
            )  # what is being sent ends with it; nothing is cancelled inside the transport
            beats.cancel()
            await asyncio.gather(beats, *self._tasks, return_exceptions=True)

    async def _send(self, frame: pb.BulkFrame) -> None:
        async with self._writing:
            await asyncio.shield(self._link.send(frame.SerializeToString()))

    async def _beat(self) -> None:
        with contextlib.suppress(LinkLostError):
            while True:
                await self._send(pb.BulkFrame(here=pb.BulkHere(archive=self._archive)))
                await asyncio.sleep(BEAT_EVERY_S)

    async def _take(self, message: bytes) -> bool:
        """Act on one frame; False when it is none of ours."""
        try:
            frame = pb.BulkFrame.FromString(message)
        except DecodeError:
            return False
        match frame.WhichOneof("body"):
            case "want":
                want = frame.want
                if want.id in self._answers or len(want.body) > LARGEST_BODY:
                    return False
                if len(self._answers) >= MOST_AT_ONCE:
                    await self._refuse(want.id, Reason.OVERLOADED)
                    return True
                answer = self._answers[want.id] = _Answer(want.window)
                task = asyncio.create_task(self._answer(want, answer), name="bulk object")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case "more":
                if frame.more.id in self._answers:
                    self._answers[frame.more.id].more(frame.more.bytes)
            case "stop":
                if frame.stop.id in self._answers:
                    self._answers[frame.stop.id].stop()
            case _:
                return False
        return True

    async def _refuse(self, number: int, reason: Reason) -> None:
        await self._send(pb.BulkFrame(part=pb.Part(id=number, last=True, reason=reason.value)))

    async def _answer(self, want: pb.Want, answer: _Answer) -> None:
        with contextlib.suppress(LinkLostError):
            try:
                held = await asyncio.to_thread(self._objects.open, want.name, want.body)
                await self._send_parts(want, answer, held)
            except Refusal as refusal:
                await self._refuse(want.id, refusal.reason)
            except LinkLostError:
                raise
            except Exception:  # a disk that fails, a file that is gone: this object only
                await self._refuse(want.id, Reason.INTERNAL)
            finally:
                self._answers.pop(want.id, None)

    async def _send_parts(self, want: pb.Want, answer: _Answer, held: Object) -> None:
        at = want.offset
        if at > held.size:
            raise Refusal(Reason.OUT_OF_RANGE)
        is_first = True
        while await answer.has_room():
            length = min(PART_SIZE, held.size - at)
            data = await asyncio.to_thread(held.read, at, length) if length else b""
            if len(data) != length:
                raise Refusal(Reason.INTERNAL)
            part = pb.Part(id=want.id, offset=at, data=data, last=at + length == held.size)
            if is_first:
                part.size, part.sha256, part.media_type = held.size, held.sha256, held.media_type
                is_first = False
            await self._send(pb.BulkFrame(part=part))
            at += length
            answer.room -= length
            if part.last:
                return
