"""Handing an object of an archive to a caller: part by part as it comes, from any byte, with its digest said beforehand.

The gateway keeps nothing of it. A response that ends early is an error at the caller's end too: the length was said.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncGenerator
from typing import Protocol

from aiohttp import hdrs, web

from federation.reasons import Reason, Refusal

MEDIA_TYPES = frozenset({
    "application/pdf", "application/json", "application/dc+sd-jwt", "application/sd-jwt+json",
    "application/vnd.lantai.package", "application/vnd.lantai.sealed", "text/plain",
})  # fmt: skip
"""What an archive may send through; anything else travels as bytes without a meaning."""

SLOWEST_READER_S = 60.0
"""A caller that takes no piece for this long is gone: it may come again and go on where it stopped."""

_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})?")


class Carried(Protocol):
    """An object on its way."""

    size: int
    sha256: bytes
    media_type: str

    def chunks(self) -> AsyncGenerator[bytes]: ...
    async def close(self) -> None: ...


class Deliveries(Protocol):
    """Fetches objects from archives. Refusal says why one does not come."""

    async def open(self, archive: str, name: str, offset: int = 0) -> Carried: ...


def wanted_from(request: web.Request, digest: str = "") -> int | None:
    """The first byte the caller wants (RFC 9110 §14): of `Range: bytes=N-`, None = the whole. An `If-Range` that names
    another object asks for the whole; any other kind of range is ignored, as the standard allows.
    """
    match = _RANGE.fullmatch(request.headers.get(hdrs.RANGE, "").strip())
    if match is None or match[2] is not None:
        return None
    condition = request.headers.get(hdrs.IF_RANGE, "").strip()
    if condition and condition != f'"{digest}"':
        return None
    return int(match[1])


async def hand_over(
    request: web.Request, carried: Carried, offset: int | None, filename: str
) -> web.StreamResponse:
    """Send the object from `offset`; on return its last byte was written. Refusal only before the first byte; later a
    ConnectionResetError, when the caller or the archive is gone or the caller takes nothing for too long.
    """
    if offset is not None and offset >= carried.size > 0:
        await carried.close()
        raise Refusal(Reason.RANGE_NOT_SATISFIABLE)
    media_type = carried.media_type if carried.media_type in MEDIA_TYPES else "application/octet-stream"
    begin = offset or 0
    headers = {
        "Content-Type": media_type,
        "Content-Length": str(carried.size - begin),
        "Content-Disposition": f'attachment; filename="{filename}"',
        "ETag": f'"{carried.sha256.hex()}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(carried.sha256).decode()}:",
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    if offset is not None:
        headers["Content-Range"] = f"bytes {begin}-{max(begin, carried.size - 1)}/{carried.size}"
    response = web.StreamResponse(status=206 if offset is not None else 200, headers=headers)
    chunks = carried.chunks()
    try:
        first = await anext(chunks, b"")  # an archive that can not send after all is still a problem document
        await response.prepare(request)
        if first:
            await _write(response, first)
        async for chunk in chunks:
            await _write(response, chunk)
        await response.write_eof()
    except (Refusal, ConnectionResetError, TimeoutError):
        if not response.prepared:
            raise
        if request.transport is not None:
            request.transport.close()  # cut short: the caller sees fewer bytes than were said
        raise ConnectionResetError from None
    finally:
        await chunks.aclose()
        await carried.close()
    return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(SLOWEST_READER_S):
        await response.write(data)
