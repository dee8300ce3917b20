"""Calling platforms back, signed after Standard Webhooks 1.0; fills the case feature's `Hooks`.

Every call goes to an address checked just before connecting: government networks are private, so a platform's own
networks can be allowed one by one, but nothing else private, no redirect and no second host is ever followed. A platform
that hangs fills only its own few slots.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import socket
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.cases.ports import HookAnswer

_TIMEOUT_S = 15.0
_SLOTS = 4
_SHORTEST_SECRET = 24
_NOT_NOW = HookAnswer(-1)
_NO_ANSWER = HookAnswer(0)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class HookSettingsError(ValueError):
    """A platform's call-back settings can not be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a platform wants to be called. `networks` are private ones it may be reached in."""

    url: str
    secret: bytes
    networks: tuple[Network, ...] = ()

    def allows(self, address: str) -> bool:
        """Whether a resolved address may be connected to."""
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if any(ip in network for network in self.networks):
            return True
        return ip.is_global and not ip.is_multicast


def read_targets(path: Path | None) -> dict[str, Target]:
    """`webhook`, `webhook_secret` (`whsec_` + base64) and `webhook_networks` of every `[[client]]` that has them."""
    if path is None:
        return {}
    targets: dict[str, Target] = {}
    for row in tomllib.loads(path.read_text("utf-8")).get("client", []):
        url = row.get("webhook", "")
        if not url:
            continue
        client = row["id"]
        parts = urlsplit(url)
        networks = tuple(ipaddress.ip_network(one) for one in row.get("webhook_networks", ()))
        if not parts.hostname or parts.username or parts.fragment:
            raise HookSettingsError(f"client {client}: webhook 应为完整网址 · webhook must be a plain URL")
        if parts.scheme != "https" and not (parts.scheme == "http" and networks):
            raise HookSettingsError(
                f"client {client}: webhook 应为 https（内网可用 http 并列出 webhook_networks）"
                " · webhook must be https, or http inside listed webhook_networks"
            )
        targets[client] = Target(url, _secret(client, row.get("webhook_secret", "")), networks)
    return targets


def _secret(client: str, text: str) -> bytes:
    try:
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise HookSettingsError(f"client {client}: webhook_secret is not base64") from error
    if len(secret) < _SHORTEST_SECRET:
        raise HookSettingsError(
            f"client {client}: webhook_secret 至少 24 字节 · webhook_secret must be at least 24 bytes"
        )
    return secret


def signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` value of one call (HMAC-SHA256)."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


class _Guarded(AbstractResolver):
    """Gives only the addresses a target allows, so that what was checked is what is connected to."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, family=family
        )
        allowed = [one for one in found if self._target.allows(str(one[4][0]))]
        if not allowed:
            raise OSError(None, "no address of this host may be called")
        return [
            ResolveResult(
                hostname=host,
                host=str(one[4][0]),
                port=port,
                family=one[0],
                proto=one[2],
                flags=socket.AI_NUMERICHOST,
            )
            for one in allowed
        ]

    async def close(self) -> None:
        """Nothing to close."""


class WebHooks:
    """Calls all platforms that gave an address. `close` ends open calls."""

    def __init__(self, targets: dict[str, Target], *, clock: Callable[[], float] = time.time) -> None:
        self._targets, self._clock = targets, clock
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._open: dict[str, int] = {}

    def wants(self, client: str) -> bool:
        return client in self._targets

    async def call(self, client: str, message_id: str, body: bytes) -> HookAnswer:
        target = self._targets.get(client)
        if target is None:
            return HookAnswer(410)  # the platform no longer wants to be called
        if self._open.get(client, 0) >= _SLOTS:
            return _NOT_NOW
        self._open[client] = self._open.get(client, 0) + 1
        try:
            return await self._post(client, target, message_id, body)
        finally:
            self._open[client] -= 1

    async def _post(self, client: str, target: Target, message_id: str, body: bytes) -> HookAnswer:
        host = urlsplit(target.url).hostname or ""
        if _is_literal(host) and not target.allows(host):  # a literal address never meets the resolver
            return _NO_ANSWER
        stamp = int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": signature(target.secret, message_id, stamp, body),
        }
        try:
            async with self._session(client, target).post(
                target.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return HookAnswer(answer.status, _pause(answer.headers.get("Retry-After", "")))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return _NO_ANSWER

    def _session(self, client: str, target: Target) -> aiohttp.ClientSession:
        session = self._sessions.get(client)
        if session is None:
            connector = aiohttp.TCPConnector(resolver=_Guarded(target), limit=_SLOTS, use_dns_cache=False)
            session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
            self._sessions[client] = session
        return session

    async def close(self) -> None:
        await asyncio.gather(*[session.close() for session in self._sessions.values()])


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _pause(value: str) -> float | None:
    return min(3600.0, float(value)) if value.isascii() and value.isdigit() else None


__all__ = ["HookSettingsError", "Target", "WebHooks", "read_targets", "signature"]
