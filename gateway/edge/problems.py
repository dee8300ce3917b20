"""The edge's refusals as problems, with the trace they are found by, and the language to answer in."""

from __future__ import annotations

from aiohttp import web

from federation import problems
from federation.reasons import Reason, Refusal


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


def problem(refusal: Refusal, language: str, trace: str) -> web.Response:
    """The response for a refusal."""
    given = refusal.reason is not Reason.TOKEN_MISSING
    return problems.response(
        refusal,
        problems.STATUS[refusal.reason],
        language,
        {"trace_id": trace},
        challenge='Bearer error="invalid_token"' if given else "Bearer",
    )
