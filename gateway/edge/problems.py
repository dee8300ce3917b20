"""The edge's refusals as problems, with the trace they are found by."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from federation.http import problems
from federation.reasons import Reason, Refusal

_REASON = web.ResponseKey("reason", str)


def problem(refusal: Refusal, language: str, trace: str, *, of_tokens: bool = False) -> web.Response:
    """The response for a refusal; `of_tokens` at the token endpoint, whose clients look for `error` (RFC 6749, 5.2)."""
    given = refusal.reason not in {Reason.TOKEN_MISSING, Reason.ASSERTION_INVALID}
    status = problems.STATUS[refusal.reason]
    more: dict[str, Any] = {"trace_id": trace}
    if of_tokens:
        more["error"] = _oauth_error(refusal, status)
    response = problems.response(
        refusal,
        status,
        language,
        more,
        challenge='Bearer error="invalid_token"' if given else "Bearer",
    )
    response[_REASON] = refusal.reason.value
    return response


def reason_of(response: web.StreamResponse) -> dict[str, str]:
    """`reason`, for the log's line of a request, where its answer is a problem: a trace that a caller quotes leads to why."""
    return {"reason": response[_REASON]} if _REASON in response else {}


def _oauth_error(refusal: Refusal, status: int) -> str:
    """The word of RFC 6749; the last is not among those of 5.2, but is what clients know for "later"."""
    if refusal.reason is Reason.ASSERTION_INVALID:
        return "invalid_client"
    if refusal.pointer == "/grant_type" and refusal.reason is Reason.OUT_OF_RANGE:
        return "unsupported_grant_type"
    return "invalid_request" if status < 500 and status != 429 else "temporarily_unavailable"
