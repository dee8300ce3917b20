"""What was signed anew, as an archive tells it to the gateway that asks: which certificate of which case, and the digest of what
takes the place of its credential. A page of notices is a JSON object of the bulk stream, `signed-anew/<after>`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import msgspec

OBJECT = "signed-anew"
"""First word of the object's name; what follows is the number up to which the asker has read."""

MOST_NOTICES, LARGEST_PAGE = 500, 1 << 20
LARGEST_PLACE = 2**53 - 1
FORMS = frozenset({"qr", "credential"})
"""The text of a QR code, or the credentials of phones."""

_CASE = re.compile(r"[0-9A-Za-z-]{1,64}")
_NUMBER = re.compile(r"[0-9]{6}-[0-9]{4}-[0-9]{1,12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Notice(msgspec.Struct, frozen=True):
    """One certificate's: `digest` is the SHA-256 (hex) of what was made and the name it is fetched by; `at_ms` is when it was
    signed (UTC), by which the later of two notices about one certificate is known.
    """

    case_id: str
    number: str
    form: str
    digest: str
    at_ms: int

    def is_of(self, archive: str) -> bool:
        """Whether an archive may say this: words of their form, and about a certificate of its own."""
        return bool(
            _CASE.fullmatch(self.case_id)
            and _NUMBER.fullmatch(self.number)
            and self.number.startswith(f"{archive}-")
            and self.form in FORMS
            and _DIGEST.fullmatch(self.digest)
            and 0 < self.at_ms <= LARGEST_PLACE
        )


class Page(msgspec.Struct, frozen=True):
    """What follows a place, the oldest first. `upto` is the place the next page begins after; where it does not grow, there is no
    more.
    """

    upto: int
    notices: tuple[Notice, ...]


class UnreadablePageError(Exception):
    """Bytes that are no page."""


class _Raw(msgspec.Struct, frozen=True):
    upto: int
    notices: tuple[msgspec.Raw, ...]


def write(upto: int, notices: Sequence[Notice]) -> bytes:
    return msgspec.json.encode(Page(upto, tuple(notices)))


def read(data: bytes, archive: str) -> Page:
    """The page an archive sent, without what it may not say or nobody can read. UnreadablePageError."""
    if len(data) > LARGEST_PAGE:
        raise UnreadablePageError("too large")
    try:
        raw = msgspec.json.decode(data, type=_Raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UnreadablePageError("not a page") from error
    if not 0 <= raw.upto <= LARGEST_PLACE or len(raw.notices) > MOST_NOTICES:
        raise UnreadablePageError("out of range")
    found = []
    for one in raw.notices:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
            notice = msgspec.json.decode(one, type=Notice)
            if notice.is_of(archive):
                found.append(notice)
    return Page(raw.upto, tuple(found))
