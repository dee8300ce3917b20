"""The desk's refusals as problems."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from federation.http import problems
from federation.reasons import Reason, Refusal

STATUS: dict[Reason, int] = {
    reason: problems.STATUS[reason]
    for reason in (
        Reason.MALFORMED_JSON,
        Reason.MALFORMED_TEXT,
        Reason.MALFORMED_BODY,
        Reason.WRONG_TYPE,
        Reason.MISSING_FIELD,
        Reason.UNKNOWN_FIELD,
        Reason.REPEATED_FIELD,
        Reason.TOO_LARGE,
        Reason.TOO_DEEP,
        Reason.TOO_LONG,
        Reason.OUT_OF_RANGE,
        Reason.FILE_UNREADABLE,
        Reason.FILE_TOO_LARGE,
        Reason.INVALID_NAME,
        Reason.MISSING_GLYPH,
        Reason.PRIVATE_USE_CHARACTER,
        Reason.UNSUPPORTED_MEDIA_TYPE,
        Reason.TOKEN_MISSING,
        Reason.TOKEN_INVALID,
        Reason.NOT_PERMITTED,
        Reason.RATE_LIMITED,
        Reason.NOT_FOUND,
        Reason.METHOD_NOT_ALLOWED,
        Reason.OVERLOADED,
        Reason.OUT_OF_TIME,
        Reason.INTERNAL,
        Reason.UNKNOWN_CASE,
        Reason.ILLEGAL_TRANSITION,
        Reason.TAKEN,
        Reason.REFERRED_IN_A_CIRCLE,
        Reason.STORE_UNAVAILABLE,
    )
}
"""Every reason the desk gives; anything else is a mistake of ours and answered as 500."""


def problem(refusal: Refusal, language: str, more: dict[str, Any] | None = None) -> web.Response:
    """The response for a refusal; `more` are members beside the standard ones."""
    return problems.response(refusal, STATUS.get(refusal.reason, 500), language, more or {})
