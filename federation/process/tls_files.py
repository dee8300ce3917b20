"""Certificates and keys a process is configured with, read and paired before it listens or dials: OpenSSL says `PEM lib` of a bad
one, gRPC nothing at all. Errors name the setting and the file.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key


class TlsFileError(Exception):
    """A certificate or key can not be used; the message names the setting and the file, in both languages."""


Named = tuple[str, Path]
"""A setting, and the file it names."""


def read(file: Named) -> bytes:
    """What the file holds. TlsFileError."""
    setting, path = file
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsFileError(f"{setting}: 无法读取 · can not read {path}: {error.strerror}") from error


def check_certificates(file: Named, content: bytes) -> x509.Certificate:
    """The first of the PEM certificates there. TlsFileError when one can not be read, or there is none."""
    setting, path = file
    try:
        return x509.load_pem_x509_certificates(content)[0]
    except ValueError as error:
        raise TlsFileError(f"{setting}: 不是 PEM 证书 · no PEM certificate: {path}") from error


def check_pair(certificate: Named, chain: bytes, key: Named, secret: bytes) -> None:
    """TlsFileError unless `secret` is the key of the first certificate of `chain`."""
    leaf = check_certificates(certificate, chain)
    setting, path = key
    try:
        private = load_pem_private_key(
            secret, None, unsafe_skip_rsa_key_validation=True
        )  # which takes 0.3 s of RSA-4096
    except TypeError as error:
        raise TlsFileError(f"{setting}: 私钥不得有口令 · the key must have no password: {path}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TlsFileError(f"{setting}: 不是 PEM 私钥 · no PEM private key: {path}") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        public = leaf.public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TlsFileError(
            f"{certificate[0]}: 证书的密钥算法不受支持 · a certificate with a key of an unknown kind: {certificate[1]}"
        ) from error
    if private.public_key().public_bytes(*form) != public:
        raise TlsFileError(
            f"{setting}: 私钥与证书不成一对 · the key is not the certificate's: {path}, {certificate[0]} {certificate[1]}"
        )


def http_context(certificate: Named, key: Named) -> ssl.SSLContext:
    """TLS of an HTTP server, 1.2 at least. TlsFileError."""
    check_pair(certificate, read(certificate), key, read(key))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate[1], key[1])
    except OSError as error:  # SSLError is one
        raise TlsFileError(
            f"{certificate[0]}: 证书无法使用 · the certificate can not be used: {certificate[1]}:"
            f" {getattr(error, 'reason', None) or error.strerror}"
        ) from error
    return context
