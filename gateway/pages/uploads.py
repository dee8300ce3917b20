"""What a form of a page sent: a few small fields or one file, refused as soon as it is too large."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, web

from federation.reasons import Reason, Refusal
from gateway.bodies import Bodies

_MOST_PARTS = 4
_PIECE = 1 << 16
_LARGEST_PLAIN = 64 * 1024
_BAD_PARTS = (ValueError, AssertionError, RuntimeError, LookupError)
"""What aiohttp raises over parts that are none."""


class Uploads:
    """Reads forms, each in a place of `bodies`. `most` bounds each field, in bytes."""

    def __init__(self, most: dict[str, int], bodies: Bodies) -> None:
        self._most, self._bodies = most, bodies

    async def read(self, request: web.Request) -> dict[str, bytes]:
        """The fields that hold something.

        Refusal: unsupported_media_type, unknown_field, too_large, malformed_text, and those of `Bodies`.
        """
        try:
            async with self._bodies.reading(request) as came:
                match request.content_type:
                    case "multipart/form-data":
                        fields = await self._parts(request, came)
                    case "application/x-www-form-urlencoded":
                        fields = await self._plain(request, came)
                    case _:
                        raise Refusal(Reason.UNSUPPORTED_MEDIA_TYPE)
        except _BAD_PARTS as error:
            raise Refusal(Reason.MALFORMED_TEXT) from error
        return {name: data for name, data in fields.items() if data}

    async def _parts(self, request: web.Request, came: Callable[[int], None]) -> dict[str, bytes]:
        fields: dict[str, bytes] = {}
        pieces: list[bytes] = []
        try:
            async for part in await request.multipart():
                if not isinstance(part, BodyPartReader) or len(fields) >= _MOST_PARTS:
                    raise Refusal(Reason.MALFORMED_TEXT)
                name = part.name or ""
                if name not in self._most or name in fields:
                    raise Refusal(Reason.UNKNOWN_FIELD)
                size = 0
                while piece := await part.read_chunk(_PIECE):
                    size += len(piece)
                    if size > self._most[name]:
                        raise Refusal(Reason.TOO_LARGE)
                    came(len(piece))
                    pieces.append(piece)
                fields[name] = b"".join(pieces)
                pieces.clear()
            return dict(fields)
        finally:
            # the request keeps what ended it, and with that this frame, until garbage is collected
            pieces.clear()
            fields.clear()

    async def _plain(self, request: web.Request, came: Callable[[int], None]) -> dict[str, bytes]:
        body = b""
        async for piece in request.content.iter_chunked(_PIECE):
            came(len(piece))
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
