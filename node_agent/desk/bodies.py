"""Bodies of the desk's API: strict, small, and refused by name and place."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from federation.http import bodies as json_bodies

_MOST_BRACKETS = 1_024

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
    return json_bodies.decode(decoder, body, most_brackets=_MOST_BRACKETS)
