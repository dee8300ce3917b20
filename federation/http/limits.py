"""How often a client may ask: a bucket of tokens for each, refilled steadily; and how many connections a server holds."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address, IPv6Network

from federation.reasons import Reason, Refusal

_MOST_CLIENTS = 10_000

_Buckets = OrderedDict[str, tuple[float, float]]
"""Each client's level and when it was taken; the one seen longest ago first."""


def line(address: str | None) -> str:
    """What strangers are counted by: an IPv4 address, the /64 of an IPv6 address, "" for none.

    A /64 is what one line or one machine gets at least (RFC 6177), to take 2^64 addresses from as it likes.
    """
    try:
        full = IPv6Address(address or "")
    except AddressValueError:
        return address or ""
    if full.ipv4_mapped is not None:
        return str(full.ipv4_mapped)
    return str(IPv6Network((int(full), 64), strict=False))


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """How many connections a server holds open at once: in all, and of one line."""

    in_all: int
    of_a_line: int

    @property
    def kept(self) -> int:
        """How many of the places in all are kept for lines that hold none, such as a probe's, which no crowd may keep out."""
        return self.in_all // 32


class RateLimit:
    """`per_minute` requests a client, a burst of a sixth of that. `clock` is monotonic seconds.

    Clients with a name and strangers lie in tables of their own, each of 10,000: strangers forget strangers alone.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._rate = per_minute / 60.0
        self._burst = max(1.0, per_minute / 6.0)
        self._clock = clock
        self._named: _Buckets = OrderedDict()
        self._strangers: _Buckets = OrderedDict()

    def take(self, client: str) -> int:
        """Take one request; how many are left now. Refusal(RATE_LIMITED) when there is none."""
        return self._take(self._named, client)

    def take_stranger(self, address: str | None) -> int:
        """The same for somebody without a name: counted by `line`; behind a proxy that hides it they share one bucket."""
        return self._take(self._strangers, line(address))

    def _take(self, buckets: _Buckets, client: str) -> int:
        now = self._clock()
        level, at = buckets.get(client, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        if level < 1.0:
            raise Refusal(Reason.RATE_LIMITED, retry_after_s=(1.0 - level) / self._rate)
        buckets[client] = (level - 1.0, now)
        buckets.move_to_end(client)
        if len(buckets) > _MOST_CLIENTS:
            buckets.popitem(last=False)
        return int(level - 1.0)

    def headers(self, left: int) -> dict[str, str]:
        """What a response says of the limit (draft-ietf-httpapi-ratelimit-headers)."""
        quota = int(self._burst)  # what a full bucket gives at once, and what the window fills it by again
        return {
            "RateLimit-Policy": f'"default";q={quota};w={math.ceil(quota / self._rate)}',
            "RateLimit": f'"default";r={left};t={0 if left else max(1, round(1 / self._rate))}',
        }
