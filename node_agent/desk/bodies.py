"""Bodies of the desk's API: strict, small, and refused by name and place."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from federation.reasons import Reason, Refusal

LARGEST_BODY = 64 * 1024
_MOST_BRACKETS = 1_024
_PATH_PART = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")

Version = Annotated[int, Meta(ge=0, le=2**53)]
Word = Annotated[str, Meta(max_length=100)]


class Seen(Struct, forbid_unknown_fields=True, frozen=True):
    """`version` of the item as its user saw it: the action is refused when somebody was quicker."""

    version: Version


Share = Annotated[float, Meta(ge=0, le=1)]


class Page(Struct, forbid_unknown_fields=True, frozen=True):
    """One page of a file in the record's scan folder; `hidden` are rectangles (left, top, right, bottom) in shares of it."""

    file: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^/\\\\\x00]+$")]
    page: Annotated[int, Meta(ge=1, le=10_000)] = 1
    hidden: Annotated[tuple[tuple[Share, Share, Share, Share], ...], Meta(max_length=50)] = ()


class Approval(Seen, forbid_unknown_fields=True, frozen=True):
    archival_code: Word = ""
    pages: Annotated[tuple[Page, ...], Meta(max_length=50)] = ()


class Refusing(Seen, forbid_unknown_fields=True, frozen=True):
    reason: Word


class Asking(Seen, forbid_unknown_fields=True, frozen=True):
    items: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=20)]


class Retrieving(Seen, forbid_unknown_fields=True, frozen=True):
    pauses: bool = False


class Referral(Seen, forbid_unknown_fields=True, frozen=True):
    archive: Annotated[str, Meta(max_length=6)]


class HandOver(Seen, forbid_unknown_fields=True, frozen=True):
    to: Word


def read(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """A body of the decoder's type; Refusal names reason and field."""
    if len(body) > LARGEST_BODY:
        raise Refusal(Reason.TOO_LARGE)
    if body.count(b"[") + body.count(b"{") > _MOST_BRACKETS:
        raise Refusal(Reason.TOO_DEEP)
    try:
        body.decode("utf-8")
        return decoder.decode(body)
    except UnicodeDecodeError:
        raise Refusal(Reason.MALFORMED_TEXT) from None
    except msgspec.ValidationError as error:
        raise _refused(str(error)) from None
    except (msgspec.DecodeError, RecursionError):
        raise Refusal(Reason.MALFORMED_JSON) from None


def _refused(message: str) -> Refusal:
    """Msgspec's message as a Refusal: it tells types and the place, never a value."""
    told, _, path = message.partition(" - at `")
    pointer = "".join(f"/{name or index}" for name, index in _PATH_PART.findall(path.rstrip("`")))
    field = re.search(r"field `([^`]{1,60})`", told)
    if "missing required field" in told and field:
        return Refusal(Reason.MISSING_FIELD, f"{pointer}/{field.group(1)}")
    if "unknown field" in told:
        return Refusal(Reason.UNKNOWN_FIELD, pointer)
    if "of length <=" in told:
        return Refusal(Reason.TOO_LONG, pointer)
    if "`int` <=" in told or "`int` >=" in told or "of length >=" in told:
        return Refusal(Reason.OUT_OF_RANGE, pointer)
    return Refusal(Reason.WRONG_TYPE, pointer)
