"""What kinds of answer a caller accepts (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from functools import lru_cache

from aiohttp import hdrs, web

_REFUSED = re.compile(r";\s*q=0(\.0*)?\s*(;|$)")


def accepted(request: web.BaseRequest) -> frozenset[str]:
    """The media ranges of `Accept` in small letters, without those of weight 0; `*/*` where there is none.

    How they are preferred over each other is not looked at: no route of ours has two forms between which it would matter.
    """
    return _ranges(request.headers.get(hdrs.ACCEPT, ""))


@lru_cache(256)
def _ranges(header: str) -> frozenset[str]:
    parts = [one.strip() for one in header.lower().split(",") if one.strip()]
    return frozenset(one.partition(";")[0].strip() for one in parts or ["*/*"] if not _REFUSED.search(one))
