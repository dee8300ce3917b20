"""Bulk streams with member archives, dialled when needed or accepted; objects carried over them, resumed when one is lost.

Nothing is kept here: an object's parts go on to whoever asked as they come.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import grpc.aio

from federation.bulk.asking import BulkAsking, BulkLostError, Incoming, WrongBytesError
from federation.reasons import Reason, Refusal
from federation.rpc import transport
from federation.rpc.links import HOLDINGS, AcceptedLink, DialledLink, stream_handler
from federation.rpc.naming import uri_name
from gateway.search.roster import Member, Roster

CONNECT_WITHIN_S = 2.0
RESUME_WITHIN_S = 30.0
"""How long an object may make no progress before whoever waits for it is told to come again."""

_PAUSE_S = 0.25
_STOP_WITHIN_S = 2.0


class _Line:
    """One archive's stream: the newest, and what is told when another opens."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.stream: BulkAsking | None = None
        self.opened_at = 0.0
        self.dialling = asyncio.Lock()
        self.opened = asyncio.Event()


class Carried:
    """An object on its way from one archive. `size`, `sha256`, `media_type` are of the whole, wherever it begins."""

    def __init__(self, carrier: Carrier, archive: str, name: str, offset: int, incoming: Incoming) -> None:
        self._carrier, self._archive, self._name, self._offset = carrier, archive, name, offset
        self._incoming = incoming
        self.size, self.sha256, self.media_type = incoming.size, incoming.sha256, incoming.media_type

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The pieces, in order, over as many streams as it takes. Refusal(HOLDER_UNREACHABLE) without progress,
        Refusal(ALTERED) when what came is not what the digest says: then nothing of it may be used.
        """
        at, whole = self._offset, hashlib.sha256()
        progressed_at = time.monotonic()
        held = b""  # the last piece goes out only when the whole was found right
        try:
            while True:
                try:
                    async for chunk in self._incoming.chunks():
                        at += len(chunk)
                        whole.update(chunk)
                        if held:
                            yield held
                        held = chunk
                        progressed_at = time.monotonic()
                    break
                except BulkLostError:
                    self._incoming = await self._again(at, progressed_at + RESUME_WITHIN_S)
        except WrongBytesError:
            raise Refusal(Reason.ALTERED) from None
        finally:
            await self._incoming.close()
        if at != self.size or (not self._offset and whole.digest() != self.sha256):
            raise Refusal(Reason.ALTERED)
        if held:
            yield held

    async def _again(self, offset: int, until: float) -> Incoming:
        """The same object from where it stopped."""
        while True:
            try:
                incoming = await self._carrier.begin(self._archive, self._name, offset)
            except (BulkLostError, Refusal) as error:
                is_gone = isinstance(error, Refusal) and error.reason is not Reason.HOLDER_UNREACHABLE
                if is_gone or time.monotonic() > until:
                    raise Refusal(Reason.HOLDER_UNREACHABLE, retry_after_s=5.0) from None
                await asyncio.sleep(_PAUSE_S)
                continue
            if (incoming.size, incoming.sha256) != (self.size, self.sha256):
                await incoming.close()
                raise Refusal(Reason.ALTERED)
            return incoming

    async def close(self) -> None:
        await self._incoming.close()


class Carrier:
    """All bulk streams of this gateway process. `stop` closes them."""

    def __init__(
        self, roster: Roster, credentials: transport.Credentials, *, stream_age_s: float = 750.0
    ) -> None:
        self._credentials, self._age_s = credentials, stream_age_s
        self._lines = {member.code: _Line(member) for member in roster.members}
        self._tasks: set[asyncio.Task[None]] = set()

    # asking ----------------------------------------------------------------------------------------------------

    async def open(self, archive: str, name: str, offset: int = 0) -> Carried:
        """An object of an archive; its head is known on return. Refusal: the archive's own, or HOLDER_UNREACHABLE."""
        for last in (False, True):  # a stream that was just lost tells so at its next use
            try:
                incoming = await self.begin(archive, name, offset)
            except BulkLostError:
                if last:
                    break
                continue
            return Carried(self, archive, name, offset, incoming)
        raise Refusal(Reason.HOLDER_UNREACHABLE, retry_after_s=5.0)

    async def fetch(self, archive: str, name: str, most: int, body: bytes = b"") -> bytes:
        """A small object whole. Refusal as of `open`, TOO_LARGE, ALTERED."""
        for last in (False, True):
            try:
                return await (await self._stream(archive)).fetch(name, most, body)
            except WrongBytesError:
                raise Refusal(Reason.ALTERED) from None
            except BulkLostError:
                if last:
                    break
        raise Refusal(Reason.HOLDER_UNREACHABLE, retry_after_s=5.0)

    async def begin(self, archive: str, name: str, offset: int) -> Incoming:
        """One try on the archive's stream; BulkLostError, Refusal."""
        return await (await self._stream(archive)).open(name, offset)

    # streams ---------------------------------------------------------------------------------------------------

    async def _stream(self, archive: str) -> BulkAsking:
        line = self._lines.get(archive)
        if line is None:
            raise Refusal(Reason.NOT_A_MEMBER)
        now = time.monotonic()
        if line.stream is not None and not line.stream.is_lost and now - line.opened_at < self._age_s:
            return line.stream
        if line.member.address:
            async with line.dialling:
                if line.stream is None or line.stream.is_lost or line.opened_at < now - self._age_s:
                    await self._dial(line)
        elif line.stream is None or line.stream.is_lost:
            with contextlib.suppress(TimeoutError):  # it dials in; it may be about to
                async with asyncio.timeout(CONNECT_WITHIN_S):
                    await line.opened.wait()
        if line.stream is None or line.stream.is_lost:
            raise Refusal(Reason.HOLDER_UNREACHABLE, retry_after_s=5.0)
        return line.stream

    async def _dial(self, line: _Line) -> None:
        """A new stream first; an older one ends by itself when what it carries has arrived."""
        try:
            channel = transport.channel(line.member.address, self._credentials, "node", line.member.code)
        except transport.TransportRefusedError:  # certificate and key are being replaced
            raise Refusal(Reason.HOLDER_UNREACHABLE, retry_after_s=5.0) from None
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await channel.channel_ready()
            stream = BulkAsking(DialledLink(channel, HOLDINGS, "Bulk"))
            if await stream.greet() != line.member.code:
                await stream.close()
                raise Refusal(Reason.WRONG_ARCHIVE)
        except (TimeoutError, BulkLostError):
            await channel.close(None)
            raise Refusal(Reason.HOLDER_UNREACHABLE, retry_after_s=5.0) from None
        self._begin(line, stream)

    def _begin(self, line: _Line, stream: BulkAsking) -> asyncio.Task[None]:
        older, line.stream = line.stream, stream
        line.opened_at = time.monotonic()
        line.opened.set()
        if older is not None:
            older.retire()
        task = asyncio.create_task(self._run(line, stream), name=f"bulk {line.member.code}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @staticmethod
    async def _run(line: _Line, stream: BulkAsking) -> None:
        try:
            await stream.run()
        finally:
            if line.stream is stream:
                line.stream = None
                line.opened.clear()

    def handler(self) -> grpc.RpcMethodHandler[Any, Any]:
        """Serves archives that dial in."""
        return stream_handler(self._accept)

    async def _accept(self, link: AcceptedLink, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        names = transport.peer_names(context)
        if names is None and not self._credentials.is_plaintext:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, Reason.NOT_A_MEMBER.value)
        stream = BulkAsking(link)
        try:
            code = await stream.greet()
        except BulkLostError:
            return
        line = self._lines.get(code)
        if line is None or (
            names is not None and uri_name(self._credentials.federation, "node", code) not in names
        ):
            await stream.close()
            return
        await asyncio.wait({self._begin(line, stream)})  # the RPC ends with this handler

    async def stop(self) -> None:
        """Close every stream."""
        streams = [line.stream for line in self._lines.values() if line.stream is not None]
        await asyncio.gather(*[stream.close() for stream in streams], return_exceptions=True)
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=_STOP_WITHIN_S)
            for task in stuck:
                task.cancel()
