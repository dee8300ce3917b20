"""Where the agent listens and whom it dials, looked at from this machine within a few seconds; and the clock."""

from __future__ import annotations

import contextlib
import ctypes
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from federation.rpc.naming import dns_name
from federation.rpc.transport import TransportRefusedError, why_not
from node_agent.dialling import CONNECT_WITHIN_S
from node_agent.doctor.findings import Finding, Installation, Result, ok, warning, wrong

WAIT_S = 3 * CONNECT_WITHIN_S
"""For all gateways together: name, connection and handshake; the agent itself gives all three `CONNECT_WITHIN_S`."""

_LOOK_WITHIN_S = 0.5
_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a setting may say


def ports(at: Installation) -> Iterator[Finding]:
    """Each address to listen on is served by the running agent, or free for it."""
    for setting in ("listen", "desk_listen", "metrics_listen", "health_listen"):
        address = getattr(at.settings, setting)
        if address and not address.endswith(":0"):
            yield _port(setting, address, running=at.running)


def _port(setting: str, address: str, *, running: bool) -> Finding:
    told = f"{setting} {address}"
    if _answers(address):
        if running:
            return ok(f"{told}: 有应答，节点在运行 · answers, the agent runs")
        return wrong(
            f"{told}: 已被其他程序占用 · another program listens there",
            "停止该程序，或换一个端口 · stop it, or set another port",
        )
    if running:
        return warning(
            f"{told}: 节点在运行，但此处无应答 · the agent runs, but nothing answers there",
            "设置改过后尚未重启？请看节点日志 · were settings changed and the agent not restarted? See its log",
        )
    error = why_not(address)
    if error is not None:
        return wrong(
            f"{told}: 无法监听 · can not be listened on: {error.strerror or error}",
            "核对地址与权限 · look at the address and rights",
        )
    return ok(f"{told}: 可用 · free")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with contextlib.suppress(OSError):
        socket.create_connection((_EVERYWHERE.get(host, host), int(port)), _LOOK_WITHIN_S).close()
        return True
    return False


# gateways --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Way:
    """How a gateway is dialled: None for `context` = without TLS."""

    address: str
    context: ssl.SSLContext | None
    name: str


def gateways(at: Installation) -> Iterator[Finding]:
    """Each gateway this agent dials is reached, proves its name, and takes this archive's certificate."""
    settings = at.settings
    if not settings.gateways:
        yield ok("由网关拨入，无需拨出 · gateways dial in, none is dialled")
        return
    credentials = settings.credentials(at.folder)
    try:
        context = (
            None
            if credentials.is_plaintext
            else _context(*credentials.read()[:1], credentials.certificate, credentials.key)
        )
    except (TransportRefusedError, ssl.SSLError) as error:
        yield Finding(
            Result.NOT_CHECKED,
            "证书不可用，未能尝试 · not tried, the certificate can not be used",
            str(error),
        )
        return
    name = dns_name(settings.federation, "gateway", settings.gateway_names[0])
    found: queue.SimpleQueue[tuple[str, Finding]] = queue.SimpleQueue()
    for address in settings.gateways:
        way = _Way(address, context, name)
        threading.Thread(target=lambda way=way: found.put((way.address, _tried(way))), daemon=True).start()
    told = dict.fromkeys(settings.gateways, wrong("", _WAY))
    ends_at = time.monotonic() + WAIT_S
    waiting = set(settings.gateways)
    while waiting:
        try:
            address, finding = found.get(timeout=max(0.0, ends_at - time.monotonic()))
        except queue.Empty:
            break
        told[address] = finding
        waiting.discard(address)
    for address in settings.gateways:
        yield (
            wrong(f"{address}: {WAIT_S:.0f} 秒内无应答 · no answer within {WAIT_S:.0f} s", _WAY)
            if address in waiting
            else told[address]
        )


_WAY = "核对地址、域名解析与防火墙 · look at the address, its name and the firewall"
_BOTH = "核对双方证书的日期、名称与签发机构 · look at dates, names and authority of both certificates"


def _context(root: bytes, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """As gRPC shakes hands: TLS 1.2 at least, the federation's authority alone, HTTP/2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=root.decode("ascii"))
    assert certificate is not None
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    return context


def _tried(way: _Way) -> Finding:
    host, _, port = way.address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_WITHIN_S) as line:
            if way.context is None:
                return ok(f"{way.address}: 已连通 · reached")
            line.settimeout(CONNECT_WITHIN_S)
            with way.context.wrap_socket(line, server_hostname=way.name) as secured:
                if not secured.recv(1):  # its settings come first, or the alert that says why not
                    return wrong(f"{way.address}: 握手后即被断开 · hangs up after the handshake", _BOTH)
    except ssl.SSLCertVerificationError as error:
        return wrong(
            f"{way.address}: 网关证书未通过 · the gateway's certificate is not believed: {error.verify_message}",
            _BOTH,
        )
    except ssl.SSLError as error:
        return wrong(f"{way.address}: TLS 握手失败 · the TLS handshake fails: {error.reason}", _BOTH)
    except TimeoutError:
        return wrong(f"{way.address}: 超时 · out of time", _WAY)
    except (OSError, UnicodeError) as error:  # UnicodeError: of a name that is none
        why = getattr(error, "strerror", None) or type(error).__name__
        return wrong(f"{way.address}: 连不上 · can not be reached: {why}", _WAY)
    return ok(f"{way.address}: 已连通，证书与名称 {way.name} 相符 · reached, and it proves to be {way.name}")


# the clock -------------------------------------------------------------------------------------------------------


def clock(_at: Installation) -> Iterator[Finding]:
    """Sessions carry no time of day, so that a gateway's clock is not known here; whether this one is kept, the kernel knows."""
    if _is_unsynchronised():
        yield warning(
            "本机时钟未同步 · this machine's clock is not synchronised",
            "启用时间同步（chrony 或 systemd-timesyncd） · have it synchronised (chrony, systemd-timesyncd)",
        )
    yield Finding(
        Result.NOT_CHECKED,
        "与网关时钟之差未测：会话不带时刻 · not held against a gateway's clock: sessions carry no time of day",
    )


def _is_unsynchronised() -> bool:
    """False where the kernel does not say."""
    try:
        call = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return False
    return bool(call(ctypes.create_string_buffer(512)) == _TIME_ERROR)  # all zero: only asks
