"""Servers and channels: mutual TLS with names checked on both ends, bounded messages, keepalive left to our own beats."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from federation.rpc.authority import dns_name

LARGEST_MESSAGE = 1 << 20
"""Bytes of one message on a session: one big answer may not block small ones for long."""

_COMMON = [
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
]


class TransportRefusedError(Exception):
    """The transport asked for is not allowed; the message says what to set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Where this process's certificate lies. `plaintext_on_loopback` is the only way to do without one."""

    federation: str = "lantai"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    plaintext_on_loopback: bool = False

    @property
    def is_plaintext(self) -> bool:
        return self.certificate is None and self.plaintext_on_loopback

    def read(self) -> tuple[bytes, bytes, bytes]:
        """(root, certificate chain, key); TransportRefusedError names what is missing."""
        if self.ca is None or self.certificate is None or self.key is None:
            raise TransportRefusedError(
                "缺少 TLS 证书：请设置 ca、certificate、key · TLS files are missing: set ca, certificate and key,"
                " or plaintext_on_loopback for a try-out on one machine"
            )
        try:
            return self.ca.read_bytes(), self.certificate.read_bytes(), self.key.read_bytes()
        except OSError as error:
            raise TransportRefusedError(
                f"无法读取证书文件 · can not read a TLS file: {error.filename}"
            ) from error


def is_loopback(address: str) -> bool:
    """Whether host:port stays on this machine."""
    return is_loopback_host(address.rsplit(":", 1)[0].strip("[]"))


def is_loopback_host(host: str) -> bool:
    """The same for a host alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _require_loopback(address: str) -> None:
    if not is_loopback(address):
        raise TransportRefusedError(
            "明文只允许用于本机回环地址 · plaintext is allowed on loopback only; set the TLS files for other addresses"
        )


def listen(server: grpc.aio.Server, address: str, credentials: Credentials) -> int:
    """Bind a server; gives the port bound. TLS certificates are read again for each handshake, so that they rotate."""
    if credentials.is_plaintext:
        _require_loopback(address)
        return server.add_insecure_port(address)
    return server.add_secure_port(address, _server_credentials(credentials))


def listen_for_probes(server: grpc.aio.Server, address: str) -> int:
    """Bind a server that serves nothing but grpc.health.v1, in the clear: an orchestrator's probe has no certificate."""
    return server.add_insecure_port(address)


def _server_credentials(credentials: Credentials) -> grpc.ServerCredentials:
    held = credentials.read()

    def configuration(parts: tuple[bytes, bytes, bytes]) -> grpc.ServerCertificateConfiguration:
        root, chain, key = parts
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=root)

    def fetch() -> grpc.ServerCertificateConfiguration:
        nonlocal held
        try:
            fresh = credentials.read()
        except TransportRefusedError:
            return configuration(held)  # a file being replaced right now: the old certificate goes on
        held = fresh
        return configuration(fresh)

    return grpc.dynamic_ssl_server_credentials(configuration(held), fetch, require_client_authentication=True)


def server(options: Sequence[tuple[str, int]] = ()) -> grpc.aio.Server:
    """A gRPC server with our limits, nothing registered yet."""
    return grpc.aio.server(options=[*_COMMON, ("grpc.max_concurrent_streams", 1000), *options])


def channel(address: str, credentials: Credentials, role: str, name: str) -> grpc.aio.Channel:
    """A channel to the peer that must prove to be `name` in `role`; a connection of its own, not shared."""
    options: list[tuple[str, int | str]] = [*_COMMON, ("grpc.use_local_subchannel_pool", 1)]
    if credentials.is_plaintext:
        _require_loopback(address)
        return grpc.aio.insecure_channel(address, options=options)
    root, chain, key = credentials.read()
    options.append(("grpc.ssl_target_name_override", dns_name(credentials.federation, role, name)))
    return grpc.aio.secure_channel(
        address, grpc.ssl_channel_credentials(root, private_key=key, certificate_chain=chain), options=options
    )


def peer_names(context: grpc.aio.ServicerContext[object, object]) -> frozenset[str] | None:
    """The URI names in the peer's certificate; None on a plaintext connection, which only loopback may have."""
    held = context.auth_context()
    if b"ssl" not in held.get("transport_security_type", ()):
        return None
    names = [*held.get("peer_spiffe_id", ()), *held.get("peer_uri", ())]
    return frozenset(
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names
    )
