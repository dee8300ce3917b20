"""The desk's refusals as problems of RFC 9457: the reason of the closed list, words in the caller's language, never a value."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from federation.reasons import TEXTS, Reason, Refusal

STATUS: dict[Reason, int] = {
    Reason.MALFORMED_JSON: 400,
    Reason.MALFORMED_TEXT: 400,
    Reason.WRONG_TYPE: 422,
    Reason.MISSING_FIELD: 422,
    Reason.UNKNOWN_FIELD: 422,
    Reason.TOO_LARGE: 413,
    Reason.TOO_DEEP: 400,
    Reason.TOO_LONG: 422,
    Reason.OUT_OF_RANGE: 422,
    Reason.UNSUPPORTED_MEDIA_TYPE: 415,
    Reason.TOKEN_MISSING: 401,
    Reason.TOKEN_INVALID: 401,
    Reason.NOT_PERMITTED: 403,
    Reason.RATE_LIMITED: 429,
    Reason.NOT_FOUND: 404,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.OVERLOADED: 503,
    Reason.INTERNAL: 500,
    Reason.UNKNOWN_CASE: 404,
    Reason.ILLEGAL_TRANSITION: 409,
    Reason.TAKEN: 409,
    Reason.REFERRED_IN_A_CIRCLE: 409,
    Reason.STORE_UNAVAILABLE: 503,
}
"""Every reason the desk gives; anything else is a mistake of ours and answered as 500."""


def language_of(request: web.BaseRequest) -> str:
    """The language to answer in: "en" when the caller names it before Chinese, else "zh"."""
    for part in request.headers.get("Accept-Language", "").split(",")[:10]:
        short = part.strip().partition(";")[0].lower().split("-")[0]
        if short in {"zh", "en"}:
            return short
    return "zh"


def problem(refusal: Refusal, language: str, more: dict[str, Any] | None = None) -> web.Response:
    """The response for a refusal; `more` are members beside the standard ones."""
    reason = refusal.reason
    status = STATUS.get(reason, 500)
    detail = TEXTS[reason].in_language(language)
    body: dict[str, Any] = {
        "type": f"urn:lantai:problem:{reason.value}",
        "title": TEXTS[reason].en,
        "status": status,
        "detail": detail,
        "reason": reason.value,
        **(more or {}),
    }
    if refusal.pointer:
        body["errors"] = [{"pointer": refusal.pointer, "reason": reason.value, "detail": detail}]
    headers = {"Content-Language": "en" if language == "en" else "zh-CN", "Cache-Control": "no-store"}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        headers=headers,
        content_type="application/problem+json",
    )
