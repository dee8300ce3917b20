"""Reading JSON bodies of the two HTTP APIs alike: bounded, strict, and whatever is wrong refused by name and place."""

from __future__ import annotations

import asyncio
import contextlib
import json
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

_FIELD = re.compile(r"[a-z][a-z_]{0,30}")
_PLAIN_FIELD = re.compile(rf"field `({_FIELD.pattern})`")

_EXPECTED = re.compile(r"Expected `([^`]+)`")
_JSON_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


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
        raise Refusal(Reason.TOO_LARGE, allowed=f"<= {LARGEST_BODY}")
    if body.count(b"[") + body.count(b"{") > most_brackets:
        raise Refusal(Reason.TOO_DEEP)
    try:
        decoded = decoder.decode(body)
        _NAMES.decode(body.decode())
    except _NameRepeatedError:
        raise Refusal(Reason.REPEATED_FIELD, _repeated(_PAIRS.decode(body.decode())) or "") from None
    except msgspec.ValidationError as error:
        _check_form(body)  # what is wrong with a field was found before the end was looked at
        raise _refused(str(error), decoder.type) from None
    except (msgspec.DecodeError, ValueError, RecursionError):  # ValueError: of the names, or no UTF-8
        _check_form(body)
        raise Refusal(Reason.MALFORMED_JSON) from None
    return decoded


class _NameRepeatedError(Exception):
    """A name stands twice in one object."""


class _Pairs(tuple[tuple[str, Any], ...]):
    """An object as it was written."""

    __slots__ = ()


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _NameRepeatedError


_NAMES = json.JSONDecoder(object_pairs_hook=_once, parse_int=float)
"""Reads a body only for its names, which msgspec does not tell: 6 us of a search's 400. `float`, as an `int` has a longest."""

_PAIRS = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=float)


def _repeated(tree: Any) -> str | None:
    """The pointer of the first name that stands twice in an object; a name that can be no field of ours is not said back."""
    if isinstance(tree, _Pairs):
        seen: set[str] = set()
        for name, value in tree:
            if name in seen:
                return f"/{name}" if _FIELD.fullmatch(name) else ""
            seen.add(name)
            if (inside := _repeated(value)) is not None:
                return f"/{name}{inside}" if _FIELD.fullmatch(name) else ""
    elif isinstance(tree, list):
        for place, value in enumerate(tree):
            if (inside := _repeated(value)) is not None:
                return f"/{place}{inside}"
    return None


def _check_form(body: bytes) -> None:
    """Refusal malformed_text, too_deep or malformed_json for what is no JSON text at all."""
    try:
        msgspec.json.decode(body)
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


def _known_fields(kind: Any, names: list[str]) -> str:
    """The fields of the object at this place of a body of type `kind`; an empty name is a place in a list."""
    found = msgspec.inspect.type_info(kind)
    for name in ["", *names]:
        if isinstance(found, msgspec.inspect.StructType) and name:
            found = next(field.type for field in found.fields if field.encode_name == name)
        elif isinstance(found, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
            found = found.item_type
        if isinstance(found, msgspec.inspect.UnionType):
            found = next(one for one in found.types if not isinstance(one, msgspec.inspect.NoneType))
    fields = found.fields if isinstance(found, msgspec.inspect.StructType) else ()
    return ", ".join(field.encode_name for field in fields)


def _refused(message: str, kind: Any) -> Refusal:
    """Msgspec's message as a Refusal: its kinds are few and it never quotes a value, only types and the place."""
    told, _, path = message.partition(" - at `")
    parts = _PATH_PART.findall(path.rstrip("`"))
    pointer = "".join(f"/{name or index}" for name, index in parts)
    field = re.search(r"field `(\w{1,60})`", told)
    if "missing required field" in told:
        return Refusal(Reason.MISSING_FIELD, f"{pointer}/{field.group(1)}" if field else pointer)
    if "unknown field" in told:
        known = _known_fields(kind, [name for name, _index in parts])
        named = _PLAIN_FIELD.search(told)  # any other is the caller's own text, and is not said back
        return Refusal(
            Reason.UNKNOWN_FIELD, f"{pointer}/{named.group(1)}" if named else pointer, allowed=known
        )
    bound = re.search(r"[<>]= \d+", told)
    allowed = bound.group() if bound else ""
    if "of length <=" in told:
        return Refusal(Reason.TOO_LONG, pointer, allowed=allowed)
    if "`int` <=" in told or "`int` >=" in told or "of length >=" in told:
        return Refusal(Reason.OUT_OF_RANGE, pointer, allowed=allowed)
    expected = _EXPECTED.match(told)
    types = expected.group(1).split(" | ") if expected else []
    return Refusal(Reason.WRONG_TYPE, pointer, allowed=", ".join(_JSON_TYPES.get(one, one) for one in types))
