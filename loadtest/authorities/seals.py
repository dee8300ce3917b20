"""An authority for seals and time stamps: root, issuing CA, leaves, revocation lists.

Each leaf has one usage: document signing (RFC 9336) or time stamping (RFC 3161).
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, Self

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from federation.documents import DOCUMENT_SIGNING, TIME_STAMPING

Usage = Literal["seal", "time"]
_EKU = {"seal": DOCUMENT_SIGNING, "time": TIME_STAMPING}
_BACKDATE = timedelta(minutes=5)
_POLICY = "1.3.6.1.4.1.4146.2.3"
_PEM, _DER = serialization.Encoding.PEM, serialization.Encoding.DER


@dataclass(frozen=True)
class Leaf:
    """An issued certificate with its key and issuers, leaf first, root last."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]

    @property
    def pem(self) -> str:
        return "".join(one.public_bytes(_PEM).decode() for one in self.chain)

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """(key, certificate chain) as PEM files; the key is readable by its owner alone."""
        folder.mkdir(parents=True, exist_ok=True)
        key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
        secret = self.key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secret)
        certificate.write_text(self.pem)
        return key, certificate


class SealAuthority:
    """Root and issuing CA in memory; `starts` and `days` bound everything it issues."""

    def __init__(
        self, name: str = "Lantai try-out", *, starts: datetime | None = None, days: int = 365
    ) -> None:
        self.starts = (starts or datetime.now(UTC)).replace(microsecond=0) - _BACKDATE
        self.ends = self.starts + timedelta(days=days)
        self._root_key, self._key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        root_name, ca_name = (_name(f"{name} {part}") for part in ("root", "seal CA"))
        self.root = self._certificate(root_name, root_name, self._root_key.public_key(), self._root_key, None)
        self.ca = self._certificate(ca_name, root_name, self._key.public_key(), self._root_key, None)

    def issue(
        self,
        name: str,
        usage: Usage | str = "seal",
        *,
        starts: datetime | None = None,
        ends: datetime | None = None,
    ) -> Leaf:
        """A certificate for one usage; `usage` may also be the dotted form of another extended key usage."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._certificate(
            _name(name), self.ca.subject, key.public_key(), self._key, _EKU.get(usage, usage), starts, ends
        )
        return Leaf(key, (leaf, self.ca, self.root))

    def crls(
        self, revoked: dict[int, datetime] | None = None, *, at: datetime | None = None, days: int = 30
    ) -> tuple[bytes, bytes]:
        """Revocation lists (DER) of issuing CA and root; `revoked` maps serial numbers to times."""
        at = at or datetime.now(UTC)
        return (
            _crl(self.ca.subject, self._key, at, days, revoked or {}),
            _crl(self.root.subject, self._root_key, at, days, {}),
        )

    def _certificate(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        key: ec.EllipticCurvePublicKey,
        by: ec.EllipticCurvePrivateKey,
        usage: str | None,
        starts: datetime | None = None,
        ends: datetime | None = None,
    ) -> x509.Certificate:
        is_ca = usage is None
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(starts or self.starts)
            .not_valid_after(ends or self.ends)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not is_ca,
                    content_commitment=usage not in {None, TIME_STAMPING},
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=is_ca,
                    crl_sign=is_ca,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        if usage is not None:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([x509.ObjectIdentifier(usage)]), critical=True
            )
        return builder.sign(by, hashes.SHA256())


class TimeStampServer:
    """A small RFC 3161 authority on loopback over HTTP, for try-outs: time is this machine's clock. A context manager."""

    def __init__(self, leaf: Leaf, port: int = 0) -> None:
        self.leaf = leaf
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 64 * 1024))
                answer = outer.stamp(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="time-stamps", daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def stamp(self, request: bytes, at: datetime | None = None) -> bytes:
        """The response to one request, both DER; a request that can not be read is rejected by status."""
        try:
            asked = tsp.TimeStampReq.load(request, strict=True)
            imprint = asked["message_imprint"]
            if imprint["hash_algorithm"]["algorithm"].native != "sha256":
                raise ValueError("sha256 only")  # noqa: TRY301
            nonce = asked["nonce"].native
        except (ValueError, TypeError, KeyError):
            return bytes(tsp.TimeStampResp({"status": {"status": "rejection"}}).dump())
        info: dict[str, object] = {
            "version": "v1",
            "policy": _POLICY,
            "message_imprint": imprint,
            "serial_number": x509.random_serial_number() >> 64,
            "gen_time": (at or datetime.now(UTC)).replace(microsecond=0),
        }
        if nonce is not None:
            info["nonce"] = nonce
        return bytes(
            tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": self._token(info)}).dump()
        )

    def _token(self, info: dict[str, object]) -> cms.ContentInfo:
        content = tsp.TSTInfo(info).dump()
        certificate = asn1_x509.Certificate.load(self.leaf.chain[0].public_bytes(_DER))
        digest = {"algorithm": "sha256"}
        attributes = cms.CMSAttributes(
            [
                {"type": "content_type", "values": ["tst_info"]},
                {"type": "message_digest", "values": [_sha256(content)]},
                {
                    "type": "signing_certificate_v2",
                    "values": [{"certs": [{"cert_hash": _sha256(certificate.dump())}]}],
                },
            ]
        )
        signature = self.leaf.key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256()))
        signer = cms.SignerInfo(
            {
                "version": "v1",
                "sid": {
                    "issuer_and_serial_number": {
                        "issuer": certificate.issuer,
                        "serial_number": certificate.serial_number,
                    }
                },
                "digest_algorithm": algos.DigestAlgorithm(digest),
                "signed_attrs": attributes,
                "signature_algorithm": {"algorithm": "sha256_ecdsa"},
                "signature": signature,
            }
        )
        return cms.ContentInfo(
            {
                "content_type": "signed_data",
                "content": cms.SignedData(
                    {
                        "version": "v3",
                        "digest_algorithms": [digest],
                        "encap_content_info": {
                            "content_type": "tst_info",
                            "content": core.ParsableOctetString(content),
                        },
                        "certificates": [certificate],
                        "signer_infos": [signer],
                    }
                ),
            }
        )


def main(argv: list[str] | None = None) -> int:
    """Serve time stamps for a try-out until interrupted; prints its address."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.authorities.seals")
    parser.add_argument("key", type=Path, help="PEM 私钥 · private key")
    parser.add_argument("certificate", type=Path, help="PEM 证书链 · certificate chain, leaf first")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args(argv)
    key = serialization.load_pem_private_key(options.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    chain = tuple(x509.load_pem_x509_certificates(options.certificate.read_bytes()))
    with TimeStampServer(Leaf(key, chain), options.port) as server:
        print(server.url, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


def _sha256(data: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _crl(
    issuer: x509.Name, key: ec.EllipticCurvePrivateKey, at: datetime, days: int, revoked: dict[int, datetime]
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer)
        .last_update(at - _BACKDATE)
        .next_update(at + timedelta(days=days))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(int(at.timestamp())), critical=False)
    )
    for serial, when in revoked.items():
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        )
    return builder.sign(key, hashes.SHA256()).public_bytes(_DER)


if __name__ == "__main__":
    sys.exit(main())
