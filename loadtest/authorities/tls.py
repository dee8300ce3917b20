"""An authority for the sessions' certificates: one root, short-lived certificates for nodes and gateways, named as
federation/rpc/naming.py says.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federation.rpc.naming import dns_name, uri_name

_BACKDATE = timedelta(minutes=5)  # clocks of two machines are never equal


@dataclass(frozen=True, slots=True)
class Issued:
    """Where an issued certificate and its key lie."""

    ca: Path
    certificate: Path
    key: Path


class Authority:
    """Issues certificates of one federation under one root made on first use in `folder`."""

    def __init__(self, folder: Path, federation: str = "lantai") -> None:
        self._folder, self._federation = folder, federation
        folder.mkdir(parents=True, exist_ok=True)
        self.ca = folder / "ca.pem"
        key_path = folder / "ca.key"
        if self.ca.exists():
            self._root = x509.load_pem_x509_certificate(self.ca.read_bytes())
            loaded = serialization.load_pem_private_key(key_path.read_bytes(), None)
            assert isinstance(loaded, ec.EllipticCurvePrivateKey)
            self._key = loaded
            return
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{federation} try-out root")])
        now = datetime.now(UTC)
        self._root = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        _write(key_path, _pem(self._key))
        _write(self.ca, self._root.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        role: str,
        name: str,
        *,
        lifetime: timedelta = timedelta(hours=24),
        starts: datetime | None = None,
    ) -> Issued:
        """A certificate for `role` ("node" or "gateway") and `name`, usable by either end of a connection."""
        key = ec.generate_private_key(ec.SECP256R1())
        begin = (starts or datetime.now(UTC)) - _BACKDATE
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{role} {name}")]))
            .issuer_name(self._root.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + _BACKDATE + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        x509.UniformResourceIdentifier(uri_name(self._federation, role, name)),
                        x509.DNSName(dns_name(self._federation, role, name)),
                        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                    ]
                ),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        base = self._folder / f"{role}-{name}"
        issued = Issued(self.ca, base.with_suffix(".pem"), base.with_suffix(".key"))
        _write(issued.key, _pem(key))
        _write(issued.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        return issued


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
