"""Calling platforms back, signed after Standard Webhooks 1.0; fills the case feature's `Hooks`.

No redirect and no second host is ever followed. A platform that hangs or fails fills only its own few slots, and after some
failures in a row it is tried with one call at a time, until one succeeds.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp

from gateway.adapters.webhook_guard import AddressError, GuardedResolver, Network, check_url, guarded_sockets
from gateway.adapters.webhook_signing import CallKey, SecretError, Signer, read_secret
from gateway.cases.ports import HookAnswer

_TIMEOUT_S = 15.0
_SLOTS = 8
_FAILURES = 3
"""Failures in a row after which a platform is tried with one call at a time."""

_PROBE_EVERY_S = (2.0, 30.0)
_LONGEST_PAUSE_S = 3_600.0
_NO_ANSWER = HookAnswer(0)


class HookSettingsError(ValueError):
    """A platform's call-back settings can not be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a platform wants to be called, and how calls to it are signed. `networks` are private ones it may be in."""

    url: str
    signer: Signer
    networks: tuple[Network, ...] = ()


def read_targets(path: Path | None, key: CallKey | None = None) -> dict[str, Target]:
    """`webhook`, `webhook_secret` (one or a list, the newest first) and `webhook_networks` of every `[[client]]` that has
    them; HookSettingsError says what is wrong. Calls are signed with `key` too.
    """
    return {} if path is None else parse_targets(path.read_bytes(), key)


def parse_targets(content: bytes, key: CallKey | None = None) -> dict[str, Target]:
    """The same of what such a file holds."""
    targets: dict[str, Target] = {}
    for row in tomllib.loads(content.decode()).get("client", []):
        url, client = row.get("webhook", ""), row["id"]
        if not url:
            continue
        try:
            networks = tuple(ipaddress.ip_network(one) for one in row.get("webhook_networks", ()))
            check_url(url, networks)
            given = row.get("webhook_secret", [])
            secrets = [read_secret(text) for text in ([given] if isinstance(given, str) else given)]
        except (AddressError, SecretError, ValueError) as error:
            raise HookSettingsError(f"client {client}: {error}") from error
        if not secrets and key is None:
            raise HookSettingsError(f"client {client}: 缺少 webhook_secret · webhook_secret is missing")
        targets[client] = Target(url, Signer(tuple(secrets), key), networks)
    return targets


@dataclass(slots=True)
class _Line:
    """One platform: its open calls, and how the last ones went."""

    session: aiohttp.ClientSession | None = None
    open: int = 0
    failures: int = 0
    not_before: float = 0.0


class WebHooks:
    """Calls all platforms that gave an address. `close` ends open calls."""

    def __init__(
        self,
        targets: dict[str, Target],
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._targets, self._clock, self._steady, self._timeout_s = targets, clock, steady, timeout_s
        self._lines = {client: _Line() for client in targets}

    def wants(self, client: str) -> bool:
        return client in self._targets

    async def call(self, client: str, message_id: str, body: bytes) -> HookAnswer:
        target = self._targets.get(client)
        if target is None:
            return _NO_ANSWER  # a replica that was started with another file may know it: it did not say that it is gone
        line = self._lines[client]
        now = self._steady()
        is_ill = line.failures >= _FAILURES
        if line.open >= (1 if is_ill else _SLOTS) or (is_ill and now < line.not_before):
            # the more it has failed, the less often its messages are looked at
            return HookAnswer(-1, max(1.0, line.not_before - now) * 1.5 if is_ill else None)
        line.open += 1
        try:
            answer = await self._post(line, target, message_id, body)
        finally:
            line.open -= 1
        self._learn(line, answer)
        return answer

    def _learn(self, line: _Line, answer: HookAnswer) -> None:
        """Any answer below 500 shows that somebody is there, 429 that it is too much."""
        if 0 < answer.status < 500 and answer.status != 429:
            line.failures, line.not_before = 0, 0.0
            return
        line.failures += 1
        least, most = _PROBE_EVERY_S
        pause = min(most, least * 2.0 ** min(10, max(0, line.failures - _FAILURES)))
        line.not_before = self._steady() + max(pause, min(answer.retry_after_s or 0.0, 10 * most))

    async def _post(self, line: _Line, target: Target, message_id: str, body: bytes) -> HookAnswer:
        stamp = int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": target.signer.sign(message_id, stamp, body),
        }
        try:
            check_url(target.url, target.networks)
            async with self._session(line, target).post(
                target.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return HookAnswer(answer.status, self._pause(answer.headers.get("Retry-After", "")))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return _NO_ANSWER

    def _session(self, line: _Line, target: Target) -> aiohttp.ClientSession:
        if line.session is None:
            connector = aiohttp.TCPConnector(
                resolver=GuardedResolver(target.networks),
                socket_factory=guarded_sockets(target.networks),
                limit=_SLOTS,
                use_dns_cache=False,
            )
            line.session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return line.session

    def _pause(self, value: str) -> float | None:
        """Retry-After as seconds: it may be a number or a date (RFC 9110)."""
        text = value.strip()
        if text.isascii() and text.isdigit():
            return min(_LONGEST_PAUSE_S, float(text[:9]))
        try:
            until = parsedate_to_datetime(text).timestamp()
        except (TypeError, ValueError, OverflowError):
            return None
        return min(_LONGEST_PAUSE_S, max(0.0, until - self._clock()))

    async def close(self) -> None:
        sessions = [line.session for line in self._lines.values() if line.session is not None]
        await asyncio.gather(*[session.close() for session in sessions])
