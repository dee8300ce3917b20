"""Where a platform may be called: a public address, or one inside the private networks the operator listed for it.

Government networks are private, so "nothing private" would shut out those who matter, and "anything" would let a platform's
entry in a file reach the gateway's own neighbours. What is checked is the address that is then connected to.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48")))
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_OLD_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")
_NUMERIC = re.compile(r"(0x[0-9a-f]+|[0-9]+)(\.(0x[0-9a-f]+|[0-9]+))*\.?", re.IGNORECASE)


class AddressError(ValueError):
    """A call-back address that can not be used; the message says why."""


def allows(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address may be connected to. An address inside an address counts as the inner one."""
    try:
        ip: Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner = _inner(ip)
    if any(one.version == network.version and one in network for network in networks for one in {ip, inner}):
        return True
    return _is_public(ip) and _is_public(inner)


def _is_public(ip: Address) -> bool:
    if isinstance(ip, ipaddress.IPv6Address) and ip in _OLD_SITE_LOCAL:
        return False
    return ip.is_global and not ip.is_multicast


def _inner(ip: Address) -> Address:
    """The IPv4 address an IPv6 one stands for: mapped, compatible, 6to4, Teredo, NAT64; else itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    if any(ip in network for network in _NAT64) or ip in _COMPATIBLE:
        return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip


def check_url(url: str, networks: Sequence[Network]) -> None:
    """AddressError unless a platform may give this address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise AddressError("webhook 应为完整网址 · webhook must be a plain URL") from error
    if not host or parts.username is not None or parts.password is not None or parts.fragment or port == 0:
        raise AddressError("webhook 应为完整网址 · webhook must be a plain URL")
    if parts.scheme != "https" and not (parts.scheme == "http" and networks):
        raise AddressError(
            "webhook 应为 https（内网可用 http 并列出 webhook_networks）"
            " · webhook must be https, or http inside listed webhook_networks"
        )
    if not parts.netloc.isascii():
        # １２７.0.0.1, ①②⑦.0.0.1, 127。0。0。1: the client folds each to an address, after everything that looks at names
        raise AddressError(
            "webhook 的主机名须为 ASCII（国际化域名写作 xn--…）"
            " · webhook must name its host in ASCII, an internationalised name as xn--…"
        )
    if _NUMERIC.fullmatch(host) and not _is_literal(host):
        # 2130706433, 127.1, 0x7f.1, 0177.0.0.1: a resolver would take each for an address nobody wrote
        raise AddressError(
            "webhook 的主机名不能是缩写的地址 · webhook must not name its host by a shortened address"
        )
    if _is_literal(host) and not allows(host, networks):
        raise AddressError(
            "webhook 的地址属于内网：请列入 webhook_networks · webhook names a private address: list it in webhook_networks"
        )


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def guarded_sockets(networks: Sequence[Network]) -> Callable[[tuple[Any, ...]], socket.socket]:
    """Makes a client's sockets, each only for an address that may be called: however a URL came to mean the address, nothing
    is connected to past this.
    """

    def make(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _name, address = info
        if not allows(str(address[0]), networks):
            raise _no_address()
        return socket.socket(family, kind, protocol)

    return make


def _no_address() -> OSError:
    return OSError(None, "no address of this host may be called")


class GuardedResolver(AbstractResolver):
    """Gives only addresses that may be called, so that what was checked is what is connected to.

    It looks names up in a thread of its own: a platform whose name server hangs holds up only itself.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="webhook names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        allowed = [one for one in found if allows(str(one[4][0]), self._networks)]
        if not allowed:
            raise _no_address()
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
        self._thread.shutdown(wait=False, cancel_futures=True)
