"""Problems of RFC 9457: a stable type, the reason of the closed list, words in the language the caller asks for, never a value."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from federation.reasons import TEXTS, Reason, Refusal

STATUS: dict[Reason, int] = {
    Reason.MALFORMED_REQUEST: 400,
    Reason.MALFORMED_JSON: 400,
    Reason.MALFORMED_TEXT: 400,
    Reason.MALFORMED_BODY: 400,
    Reason.WRONG_TYPE: 422,
    Reason.MISSING_FIELD: 422,
    Reason.UNKNOWN_FIELD: 422,
    Reason.REPEATED_FIELD: 422,
    Reason.TOO_LARGE: 413,
    Reason.TOO_DEEP: 400,
    Reason.TOO_LONG: 422,
    Reason.UNKNOWN_CATEGORY: 422,
    Reason.UNKNOWN_PURPOSE: 422,
    Reason.UNKNOWN_RELATION: 422,
    Reason.UNKNOWN_REGION: 422,
    Reason.UNKNOWN_ARCHIVE: 422,
    Reason.NOBODY_IN_SCOPE: 422,
    Reason.IMPOSSIBLE_DATE: 422,
    Reason.INVALID_ID_NUMBER: 422,
    Reason.INVALID_NAME: 422,
    Reason.WILDCARD: 422,
    Reason.MINIMUM_QUERY: 422,
    Reason.INVALID_CURSOR: 422,
    Reason.OUT_OF_RANGE: 422,
    Reason.INVALID_KEY: 422,
    Reason.PRIVATE_KEY_GIVEN: 422,
    Reason.RANGE_NOT_SATISFIABLE: 416,
    Reason.UNSUPPORTED_MEDIA_TYPE: 415,
    Reason.NOT_ACCEPTABLE: 406,
    Reason.TOKEN_MISSING: 401,
    Reason.TOKEN_INVALID: 401,
    Reason.TOKEN_EXPIRED: 401,
    Reason.ASSERTION_INVALID: 401,
    Reason.NOT_PERMITTED: 403,
    Reason.RATE_LIMITED: 429,
    Reason.NOT_FOUND: 404,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.OVERLOADED: 503,
    Reason.DRAINING: 503,
    Reason.OUT_OF_TIME: 504,
    Reason.INTERNAL: 500,
    Reason.UNKNOWN_CASE: 404,
    Reason.UNKNOWN_CANDIDATE: 422,
    Reason.ILLEGAL_TRANSITION: 409,
    Reason.CANDIDATES_CHANGED: 409,
    Reason.IDEMPOTENCY_KEY_MISSING: 400,
    Reason.IDEMPOTENCY_MISMATCH: 422,
    Reason.TAKEN: 409,
    Reason.REFERRED_IN_A_CIRCLE: 409,
    Reason.NO_DOCUMENT: 409,
    Reason.SEARCH_NOT_COMPLETE: 409,
    Reason.PRIVATE_USE_CHARACTER: 422,
    Reason.MISSING_GLYPH: 422,
    Reason.TEXT_NOT_KEPT: 422,
    Reason.FILE_UNREADABLE: 422,
    Reason.FILE_TOO_LARGE: 413,
    Reason.NO_PAGES: 422,
    Reason.DECISION_CHANGED: 409,
    Reason.UNKNOWN_DOCUMENT: 404,
    Reason.STORE_UNAVAILABLE: 503,
    Reason.HOLDER_UNREACHABLE: 503,
    Reason.ALTERED: 502,
    Reason.NO_TRUST_LIST: 404,
    Reason.NOT_A_MEMBER: 403,
    Reason.WRONG_ARCHIVE: 502,
    Reason.BAD_FRAME: 502,
    Reason.PROTOCOL_VERSION: 502,
    Reason.SUPERSEDED: 503,
    Reason.CATEGORY_NOT_HELD: 404,
    Reason.POLICY: 403,
    Reason.NO_INDEX: 503,
    Reason.TOO_MANY_RECORDS: 422,
}
"""Every reason's HTTP status; a test holds the table complete."""


LANGUAGE_TAGS = {"zh": "zh-CN", "en": "en"}
"""`Content-Language` of what is said in a language."""


def language_of(request: web.BaseRequest) -> str:
    """The language to answer in: "en" when the caller prefers it over Chinese, else "zh"."""
    best, chosen = 0.0, "zh"
    for part in request.headers.get("Accept-Language", "").split(",")[:10]:
        tag, _, rest = part.strip().partition(";")
        try:
            weight = float(rest.strip().removeprefix("q=")) if rest else 1.0
        except ValueError:
            continue
        short = tag.lower().split("-")[0]
        if short in {"zh", "en"} and weight > best:
            best, chosen = weight, short
    return chosen


def response(
    refusal: Refusal, status: int, language: str, more: dict[str, Any], *, challenge: str = "Bearer"
) -> web.Response:
    """The response for a refusal; `more` are members beside the standard ones, `challenge` goes with a 401 (RFC 6750)."""
    reason = refusal.reason
    detail = TEXTS[reason].in_language(language)
    if refusal.allowed:
        detail += f"; accepted: {refusal.allowed}" if language == "en" else f"；可接受：{refusal.allowed}"
    body: dict[str, Any] = {
        "type": f"urn:lantai:problem:{reason.value}",
        "title": TEXTS[reason].en,
        "status": status,
        "detail": detail,
        "reason": reason.value,
        **more,
    }
    if refusal.pointer or refusal.allowed:
        error = {"pointer": refusal.pointer, "reason": reason.value, "detail": detail}
        body["errors"] = [error | {"allowed": refusal.allowed} if refusal.allowed else error]
    headers = {"Content-Language": LANGUAGE_TAGS[language], "Cache-Control": "no-store"}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    if status == 401:
        headers["WWW-Authenticate"] = challenge
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        headers=headers,
        content_type="application/problem+json",
    )
