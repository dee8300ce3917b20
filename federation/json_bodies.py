"""Reading JSON bodies of the two HTTP APIs alike: bounded, strict, and whatever is wrong refused by name and place."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from federation.reasons import Reason, Refusal

LARGEST_BODY = 64 * 1024
"""Bytes; also what an HTTP server takes before it looks at them."""

GRACE_S = 10.0
"""Seconds a small body may take to come."""

T = TypeVar("T")

_PATH_PART = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+|\.\.\.)\]")


@contextlib.contextmanager
def named() -> Iterator[None]:
    """Around the reading of a body: its faults by their reasons. Refusal: out_of_time, malformed_body."""
    try:
        yield
    except TimeoutError:
        raise Refusal(Reason.OUT_OF_TIME) from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise Refusal(Reason.MALFORMED_BODY) from None


async def in_time(request: web.Request, body: Awaitable[T]) -> T:
    """The small body of a caller, which has 10 s to come; Refusal as of `named`. Most came with the request's head."""
    with named():
        if request.content.is_eof():
            return await body
        async with asyncio.timeout(GRACE_S):
            return await body


def decode(decoder: msgspec.json.Decoder[Any], body: bytes, *, most_brackets: int) -> Any:
    """A body of the decoder's type. Refusal: too_large, too_deep (more than `most_brackets` objects and lists), malformed_text,
    malformed_json, or what is wrong with a field, which it names.
    """
    if len(body) > LARGEST_BODY:
        raise Refusal(Reason.TOO_LARGE)
    if body.count(b"[") + body.count(b"{") > most_brackets:
        raise Refusal(Reason.TOO_DEEP)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _refused(str(error)) from None
    except UnicodeDecodeError:
        raise Refusal(Reason.MALFORMED_TEXT) from None
    except (msgspec.DecodeError, RecursionError) as error:
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            raise Refusal(Reason.MALFORMED_TEXT) from None
        raise Refusal(
            Reason.TOO_DEEP if isinstance(error, RecursionError) else Reason.MALFORMED_JSON
        ) from None


def _refused(message: str) -> Refusal:
    """Msgspec's message as a Refusal: its kinds are few and it never quotes a value, only types and the place."""
    told, _, path = message.partition(" - at `")
    pointer = "".join(f"/{name or index}" for name, index in _PATH_PART.findall(path.rstrip("`")))
    field = re.search(r"field `(\w{1,60})`", told)
    if "missing required field" in told:
        return Refusal(Reason.MISSING_FIELD, f"{pointer}/{field.group(1)}" if field else pointer)
    if "unknown field" in told:
        return Refusal(Reason.UNKNOWN_FIELD, pointer)
    if "of length <=" in told:
        return Refusal(Reason.TOO_LONG, pointer)
    if "`int` <=" in told or "`int` >=" in told or "of length >=" in told:
        return Refusal(Reason.OUT_OF_RANGE, pointer)
    return Refusal(Reason.WRONG_TYPE, pointer)
