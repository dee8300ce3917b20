"""Addresses in settings, host:port: gRPC takes port 99999 as another and a missing one as 443, and says nothing."""

from __future__ import annotations

import ipaddress
import re

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_NUMBERS = re.compile(r"[0-9.]+")


def check_address(text: str, *, least_port: int = 1) -> None:
    """ValueError unless `text` is a host, or an IP address (IPv6 in brackets), and a port. Where a server listens `least_port` may
    be 0: any free one.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r}: 地址应为 主机:端口 · an address is host:port")
    host, port = found.groups()
    if not least_port <= int(port) <= 65_535:
        raise ValueError(f"{text!r}: 端口应在 {least_port} 到 65535 之间 · a port is {least_port} to 65535")
    if host.startswith("[") or _NUMBERS.fullmatch(host):
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            raise ValueError(f"{text!r}: 不是 IP 地址 · not an IP address: {host}") from None


def can_not_listen(setting: str, address: str, error: OSError | None) -> str:
    """What to tell when nothing can listen there."""
    why = f": {error.strerror}" if error is not None and error.strerror else ""
    return f"{setting}: 无法监听 · can not listen on {address}{why}"
