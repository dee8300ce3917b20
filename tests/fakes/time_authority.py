"""A real time-stamp authority on loopback: openssl ts over HTTP, which can be broken."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def certificate(name: str, key: Any, issuer: Any, issuer_key: Any, *, usage: Any = None) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=usage is None, path_length=None), critical=True)
    )
    if usage is not None:
        built = built.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
    return built.sign(issuer_key, hashes.SHA256())


@dataclass(frozen=True)
class Served:
    """Where it answers, its root (PEM too), and how to break it: `faults.broken` is None or the (status, body) it answers
    instead; with `faults.trickles` set, "headers" or "body", that comes a byte at a time and never ends. `faults.asked`
    counts.
    """

    url: str
    root: x509.Certificate
    pem: bytes
    faults: Any


@contextmanager
def time_authority(folder: Path) -> Iterator[Served]:
    """Skips the test where openssl is missing."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("TSA root", root_key, None, root_key)
    leaf = certificate("TSA", key, root, root_key, usage=ExtendedKeyUsageOID.TIME_STAMPING)
    (folder / "tsa.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    (folder / "tsa.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (folder / "tsa.cnf").write_text(
        "[tsa]\ndefault_tsa=one\n[one]\nserial=serial\nsigner_cert=tsa.pem\nsigner_key=tsa.key\n"
        "signer_digest=sha256\ndefault_policy=1.2.3.4\ndigests=sha256\ness_cert_id_alg=sha256\n"
    )

    class Answering(BaseHTTPRequestHandler):
        broken, trickles, asked = None, "", 0

        def trickle(self):
            start = b"HTTP/1.0 200 OK\r\nContent-Length: 60000\r\n"
            self.wfile.write(start + (b"\r\n" if self.trickles == "body" else b"X-Filler: "))
            with contextlib.suppress(OSError):
                while self.trickles:
                    self.wfile.write(b"x")
                    time.sleep(0.05)

        def do_POST(self):
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            Answering.asked += 1
            if self.trickles:
                self.trickle()
                return
            if self.broken is not None:
                status, body = self.broken
            else:
                (folder / "asked.tsq").write_bytes(asked)
                subprocess.run(
                    ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "asked.tsq", "-out", "answer.tsr"],
                    cwd=folder, check=True, capture_output=True, timeout=30,
                )  # fmt: skip
                status, body = 200, (folder / "answer.tsr").read_bytes()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield Served(url, root, root.public_bytes(serialization.Encoding.PEM), Answering)
    finally:
        Answering.trickles = ""
        server.shutdown()
        server.server_close()
        thread.join(10)
