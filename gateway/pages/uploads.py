"""What a form of a page sent: a few small fields or one file, read under a deadline, refused as soon as it is too large."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from federation.reasons import Reason, Refusal

READ_WITHIN_S = 120.0
"""64 MB over 5 Mbit/s, as a counter's line has them."""

_AT_ONCE = 8
_MOST_PARTS = 4
_PIECE = 1 << 16
_LARGEST_PLAIN = 64 * 1024
_BAD_PARTS = (ValueError, AssertionError, RuntimeError, LookupError, HttpProcessingError)
"""What aiohttp raises over parts that are none."""


class Uploads:
    """Reads forms; a few at a time, so that slow senders take no more memory than that. `most` bounds each field, in bytes."""

    def __init__(self, most: dict[str, int]) -> None:
        self._most = most
        self._reading = 0

    async def read(self, request: web.Request) -> dict[str, bytes]:
        """The fields that hold something.

        Refusal: unsupported_media_type, unknown_field, too_large, malformed_text, out_of_time, overloaded.
        """
        if self._reading >= _AT_ONCE:
            raise Refusal(Reason.OVERLOADED, retry_after_s=5.0)
        self._reading += 1
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                match request.content_type:
                    case "multipart/form-data":
                        fields = await self._parts(request)
                    case "application/x-www-form-urlencoded":
                        fields = await self._plain(request)
                    case _:
                        raise Refusal(Reason.UNSUPPORTED_MEDIA_TYPE)
        except TimeoutError:
            raise Refusal(Reason.OUT_OF_TIME) from None
        except _BAD_PARTS as error:
            raise Refusal(Reason.MALFORMED_TEXT) from error
        finally:
            self._reading -= 1
        return {name: data for name, data in fields.items() if data}

    async def _parts(self, request: web.Request) -> dict[str, bytes]:
        fields: dict[str, bytes] = {}
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or len(fields) >= _MOST_PARTS:
                raise Refusal(Reason.MALFORMED_TEXT)
            name = part.name or ""
            if name not in self._most or name in fields:
                raise Refusal(Reason.UNKNOWN_FIELD)
            pieces, size = [], 0
            while piece := await part.read_chunk(_PIECE):
                size += len(piece)
                if size > self._most[name]:
                    raise Refusal(Reason.TOO_LARGE)
                pieces.append(piece)
            fields[name] = b"".join(pieces)
        return fields

    async def _plain(self, request: web.Request) -> dict[str, bytes]:
        body = b""
        async for piece in request.content.iter_chunked(_PIECE):
            body += piece
            if len(body) > _LARGEST_PLAIN:
                raise Refusal(Reason.TOO_LARGE)
        fields: dict[str, bytes] = {}
        for name, value in parse_qsl(body.decode("ascii"), max_num_fields=_MOST_PARTS, errors="strict"):
            if name not in self._most or name in fields:
                raise Refusal(Reason.UNKNOWN_FIELD)
            fields[name] = value.encode()
            if len(fields[name]) > self._most[name]:
                raise Refusal(Reason.TOO_LARGE)
        return fields
