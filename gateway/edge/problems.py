"""The edge's refusals as problems, with the trace they are found by."""

from __future__ import annotations

from aiohttp import web

from federation import problems
from federation.reasons import Reason, Refusal


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
