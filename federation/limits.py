"""How often a client may ask: a bucket of tokens for each, refilled steadily."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from federation.reasons import Reason, Refusal

_MOST_CLIENTS = 10_000


class RateLimit:
    """`per_minute` requests a client, a burst of a sixth of that. `clock` is monotonic seconds."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._rate = per_minute / 60.0
        self._burst = max(1.0, per_minute / 6.0)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> int:
        """Take one request; how many are left now. Refusal(RATE_LIMITED) when there is none."""
        now = self._clock()
        level, at = self._buckets.get(client, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        if level < 1.0:
            raise Refusal(Reason.RATE_LIMITED, retry_after_s=(1.0 - level) / self._rate)
        self._buckets[client] = (level - 1.0, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return int(level - 1.0)

    def take_stranger(self, address: str | None) -> int:
        """The same for somebody without a name: counted by address; behind a proxy that hides it they share one bucket."""
        return self.take(f"public {address or ''}")

    def headers(self, left: int) -> dict[str, str]:
        """What a response says of the limit (draft-ietf-httpapi-ratelimit-headers)."""
        return {
            "RateLimit-Policy": f'"default";q={self.per_minute};w=60',
            "RateLimit": f'"default";r={left};t={0 if left else max(1, round(1 / self._rate))}',
        }
