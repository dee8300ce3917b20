"""Agents that break the protocol on purpose, over any link; and TCP ends that are no agents at all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

from federation.bulk import PART_SIZE
from federation.session.base import PROTOCOL
from federation.session.link import Link
from federation.wire.v1 import bulk_pb2
from federation.wire.v1 import holdings_pb2 as pb


def hello(archive: str, **changes: object) -> bytes:
    manifest = pb.Manifest(archive=archive, name="x", index_epoch=1, records=10)
    manifest.categories.add(category="marriage", records=10, first_year=1950, last_year=2010)
    plain = {"protocol_min": PROTOCOL, "protocol_max": PROTOCOL, "credits": 64, "manifest": manifest}
    return pb.Frame(hello=pb.Hello(**{**plain, **changes})).SerializeToString()  # type: ignore[arg-type]


async def _items(link: Link) -> AsyncIterator[pb.QueryItem]:
    """The questions asked, one by one."""
    while True:
        frame = pb.Frame.FromString(await link.receive())
        for item in frame.queries.items:
            yield item


def _result(
    cid: int, candidates: list[bytes] | None = None, status: int = pb.STATUS_OK, **more: object
) -> bytes:
    item = pb.ResultItem(cid=cid, status=status, candidates=candidates or [], **more)  # type: ignore[arg-type]
    return pb.Frame(results=pb.Results(items=[item], frames_received=1)).SerializeToString()


async def black_hole(link: Link, archive: str) -> None:
    """Greets, and never answers."""
    await link.send(hello(archive))
    async for _item in _items(link):
        pass


async def no_greeting(link: Link, archive: str) -> None:
    del archive
    await asyncio.sleep(60)


GARBAGE = b"\xff\xff\xff\xff"
"""No frame of any version."""


async def garbage_frames(link: Link, archive: str) -> None:
    await link.send(hello(archive))
    async for _item in _items(link):
        for _ in range(5):
            await link.send(GARBAGE)


async def garbage_candidates(link: Link, archive: str) -> None:
    await link.send(hello(archive))
    async for item in _items(link):
        await link.send(_result(item.cid, [b"\xff\xff\xff", b""]))


async def other_archive(link: Link, archive: str) -> None:
    del archive
    await link.send(hello("110101"))
    async for item in _items(link):
        await link.send(_result(item.cid))


async def turns_into_another(link: Link, archive: str) -> None:
    """Greets as itself and later announces the holdings of another archive."""
    await link.send(hello(archive))
    async for item in _items(link):
        beat = pb.Beat(sequence=1, manifest=pb.Manifest(archive="110101", index_epoch=9, records=1))
        await link.send(pb.Frame(beat=beat).SerializeToString())
        await link.send(_result(item.cid))


async def oversize(link: Link, archive: str) -> None:
    await link.send(hello(archive))
    async for item in _items(link):
        await link.send(_result(item.cid, [b"c" * (3 << 20)]))


async def bad_status(link: Link, archive: str) -> None:
    await link.send(hello(archive))
    async for item in _items(link):
        await link.send(_result(item.cid, status=99))


async def compares_a_part(link: Link, archive: str) -> None:
    """No rogue: it found nothing among the records it compared, and says that there are more."""
    await link.send(hello(archive))
    async for item in _items(link):
        await link.send(_result(item.cid, status=pb.STATUS_TOO_MANY))


async def secret_reason(link: Link, archive: str) -> None:
    """Puts free text where a reason of the closed list belongs."""
    await link.send(hello(archive))
    async for item in _items(link):
        await link.send(_result(item.cid, status=pb.STATUS_REFUSED_POLICY, reason="钱伟明330483196305120013"))


async def flood(link: Link, archive: str) -> None:
    """Answers a thousand questions nobody asked, and the asked one never."""
    await link.send(hello(archive))
    async for item in _items(link):
        for number in range(1000):
            await link.send(_result(item.cid + 1 + number))


async def hangs_up(link: Link, archive: str) -> None:
    await link.send(hello(archive))
    async for _item in _items(link):
        return


Rogue = Callable[[Link, str], Awaitable[None]]
ROGUES: dict[Rogue, set[str]] = {
    black_hole: {"timeout"},
    no_greeting: {"unreachable"},
    garbage_frames: {"bad_answer"},
    garbage_candidates: {"bad_answer"},
    other_archive: {"bad_answer", "unreachable"},
    turns_into_another: {"bad_answer", "unreachable"},
    oversize: {"unreachable", "bad_answer"},
    bad_status: {"bad_answer"},
    compares_a_part: {"unsupported"},
    secret_reason: {"refused_policy"},
    flood: {"timeout"},
    hangs_up: {"unreachable"},
}
"""Each with the outcomes that tell the truth about it."""


# bulk streams --------------------------------------------------------------------------------------------------------


def part(number: int, offset: int, data: bytes, whole: bytes) -> bytes:
    """A part of an object as it is sent, with the head of the whole."""
    one = bulk_pb2.Part(
        id=number, offset=offset, data=data, last=offset + len(data) == len(whole), size=len(whole),
        sha256=hashlib.sha256(whole).digest(),
    )  # fmt: skip
    return bulk_pb2.BulkFrame(part=one).SerializeToString()


async def _wants(link: Link, archive: str) -> AsyncIterator[bulk_pb2.Want]:
    """The objects asked for on a stream, after its greeting."""
    await link.send(bulk_pb2.BulkFrame(here=bulk_pb2.BulkHere(archive=archive)).SerializeToString())
    while True:
        frame = bulk_pb2.BulkFrame.FromString(await link.receive())
        if frame.WhichOneof("body") == "want":
            yield frame.want


async def ignores_windows(link: Link, archive: str, whole: bytes) -> None:
    """Sends all of an object at once, however little room there is for it."""
    async for want in _wants(link, archive):
        for at in range(want.offset, len(whole), PART_SIZE):
            await link.send(part(want.id, at, whole[at : at + PART_SIZE], whole))


async def empty_parts(link: Link, archive: str, whole: bytes) -> None:
    """Sends parts without data, on and on: of the window they would take nothing."""
    async for want in _wants(link, archive):
        empty = part(want.id, want.offset, b"", whole)
        while True:
            await link.send(empty)


async def fat_frames(link: Link, archive: str, whole: bytes) -> None:
    """Sends small parts in frames with a megabyte of fields nobody knows."""
    async for want in _wants(link, archive):
        await link.send(part(want.id, want.offset, whole[want.offset :][:1], whole))
        for at in range(want.offset + 1, len(whole)):
            await link.send(
                part(want.id, at, whole[at : at + 1], whole) + b"\xfa\x07\x80\x80\x3c" + bytes(960 << 10)
            )


async def endless_words(link: Link, archive: str, whole: bytes) -> None:
    """Sends a media type of a megabyte with each part."""
    async for want in _wants(link, archive):
        await link.send(part(want.id, want.offset, whole[want.offset :][:1], whole))
        for at in range(want.offset + 1, len(whole)):
            one = bulk_pb2.Part(id=want.id, offset=at, data=whole[at : at + 1], media_type="x" * (960 << 10))
            await link.send(bulk_pb2.BulkFrame(part=one).SerializeToString())


BULK_ROGUES = [ignores_windows, empty_parts, fat_frames, endless_words]


# no agents at all ----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def tcp(
    behave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A TCP port on loopback that is no gRPC server."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await behave(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def swallows(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Takes everything and says nothing."""
    while await reader.read(65536):
        pass


async def talks_http(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\noops")
    await writer.drain()


async def drips(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The beginning of an HTTP/2 answer, a byte at a time."""
    for byte in bytes(64) * 10:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.2)
