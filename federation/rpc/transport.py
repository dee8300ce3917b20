"""Servers and channels: mutual TLS with names checked on both ends, bounded messages, keepalive left to our own beats."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from cryptography import x509

from federation.process import tls_files
from federation.process.addresses import can_not_listen
from federation.rpc.naming import dns_name, missing_names

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
        """(root, certificate chain, key), of which the last two belong together; TransportRefusedError names the setting and
        the file that can not be used.
        """
        if self.ca is None or self.certificate is None or self.key is None:
            missing = ", ".join(name for name in ("ca", "certificate", "key") if getattr(self, name) is None)
            raise TransportRefusedError(
                f"缺少 TLS 证书：请设置 {missing} · TLS files are missing: set {missing},"
                " or plaintext_on_loopback for a try-out on one machine"
            )
        ca, certificate, key = ("ca", self.ca), ("certificate", self.certificate), ("key", self.key)
        try:
            root, chain, secret = tls_files.read(ca), tls_files.read(certificate), tls_files.read(key)
            tls_files.check_certificates(ca, root)
            tls_files.check_pair(certificate, chain, key, secret)
        except tls_files.TlsFileError as error:
            raise TransportRefusedError(str(error)) from error
        return root, chain, secret


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


def check(
    credentials: Credentials,
    addresses: Iterable[tuple[str, str]],
    role: str,
    name: str = "",
    *,
    listens: bool,
) -> None:
    """Whether `listen` and `channel` can do with these, and the certificate proves to be `name` ("" = any) in `role`; else
    TransportRefusedError names the setting, and the file or the address. `addresses` are settings and what they say, host:port.
    """
    if not credentials.is_plaintext:
        _root, chain, _key = credentials.read()
        leaf = x509.load_pem_x509_certificates(chain)[0]
        if missing := missing_names(leaf, credentials.federation, role, name, listens=listens):
            raise TransportRefusedError(
                f"certificate: 证书缺少联合体所认的名称 · the certificate lacks the name it is known by: {', '.join(missing)}"
                f" (subjectAltName): {credentials.certificate}"
            )
        return
    for setting, address in addresses:
        try:
            _require_loopback(address)
        except TransportRefusedError as error:
            raise TransportRefusedError(f"{setting} {address}: {error}") from error


def _require_loopback(address: str) -> None:
    if not is_loopback(address):
        raise TransportRefusedError(
            "明文只允许用于本机回环地址 · plaintext is allowed on loopback only; set the TLS files for other addresses"
        )


def listen(server: grpc.aio.Server, address: str, credentials: Credentials, setting: str = "listen") -> int:
    """Bind a server; gives the port bound. TLS certificates are read again for each handshake, so that they rotate.
    TransportRefusedError names the `setting` that gave the address, where nothing can listen there.
    """
    if credentials.is_plaintext:
        _require_loopback(address)
        return _bound(server.add_insecure_port, setting, address)
    secured = _server_credentials(credentials)
    return _bound(lambda where: server.add_secure_port(where, secured), setting, address)


def listen_for_probes(server: grpc.aio.Server, address: str, setting: str = "health_listen") -> int:
    """Bind a server that serves nothing but grpc.health.v1, in the clear: an orchestrator's probe has no certificate."""
    return _bound(server.add_insecure_port, setting, address)


def _bound(add: Callable[[str], int], setting: str, address: str) -> int:
    try:
        return add(address)
    except RuntimeError as error:
        raise TransportRefusedError(can_not_listen(setting, address, why_not(address))) from error


def why_not(address: str) -> OSError | None:
    """Why nothing can listen there: gRPC does not tell. None when something can, now."""
    host, _, port = address.rpartition(":")
    try:
        for family, kind, protocol, _name, where in socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(where)
                tried.listen()
    except OSError as error:
        return error
    return None


def _server_credentials(credentials: Credentials) -> grpc.ServerCredentials:
    held = (
        credentials.read()
    )  # the pair is checked: with a wrong one every handshake would fail, and nobody be told

    def configuration(parts: tuple[bytes, bytes, bytes]) -> grpc.ServerCertificateConfiguration:
        root, chain, key = parts
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=root)

    def fetch() -> grpc.ServerCertificateConfiguration:
        nonlocal held
        try:
            fresh = credentials.read()
        except TransportRefusedError:
            return configuration(held)  # a certificate or key being replaced right now: the old pair goes on
        held = fresh
        return configuration(fresh)

    return grpc.dynamic_ssl_server_credentials(configuration(held), fetch, require_client_authentication=True)


def server(options: Sequence[tuple[str, int]] = ()) -> grpc.aio.Server:
    """A gRPC server with our limits, nothing registered yet. It shares its port with no other: two processes on one would each get
    some of the connections.
    """
    own = [("grpc.max_concurrent_streams", 1000), ("grpc.so_reuseport", 0)]
    return grpc.aio.server(options=[*_COMMON, *own, *options])


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
