"""The archive's keys, one file and one use each: seal, credentials, status list, packages, evidence log, witness.

Made by `lantai-node keys create`, except the seal's certificate, which an authority issues for the key made here. What
`lantai-node keys show` prints is the archive's entry for the federation's trust list. Where the federation asks for a second
crypto suite, every use but cosigning as witness has a key of that suite too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from federation.documents import DOCUMENT_SIGNING
from federation.process.os_errors import said
from federation.suites import SM
from federation.suites.base import PrivateKey
from federation.suites.encoding import thumbprint
from federation.suites.registry import suite
from federation.tlog.note import KeyKind, SecondSigner, Signer
from federation.trust import Use
from federation.verify.report import VerifyError, rfc3339
from node_agent.certificates.revocation_lists import ListFiles
from node_agent.certificates.sealing import SealError, SealKey

FOLDER = "keys"
SUITE, ALG = "intl-1", "ES256"
SIGNING = (Use.CREDENTIAL, Use.STATUS, Use.DELIVERY)
SECOND = {SM: "SM2"}
"""Suites a second signature may be of, and the algorithm of their keys."""
SIGNED_TWICE = (Use.CREDENTIAL, Use.STATUS, Use.DELIVERY, Use.SEAL, Use.LOG)
_SEAL_USAGE = x509.KeyUsage(
    digital_signature=True, content_commitment=True, key_encipherment=False, data_encipherment=False, key_agreement=False,
    key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip
"""What the request asks for beside document signing; a seal is made with nothing less."""

LIFETIME = timedelta(days=730)
"""How long a key of the trust list is proposed to be believed; the federation decides."""


class KeysMissingError(Exception):
    """Keys can not be read; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A signing key and the id it is found by in the trust list: its use and the head of its RFC 7638 thumbprint."""

    key: PrivateKey
    id: str


@dataclass(frozen=True)
class ArchiveKeys:
    """All keys of one archive. `seal` is None until its certificate has been issued; `second` is empty or has a key of
    the second suite for each use that is signed twice.
    """

    credential: NamedKey
    status: NamedKey
    delivery: NamedKey
    log: Signer
    witness: Signer
    seal: SealKey | None
    second: Mapping[Use, NamedKey] = field(default_factory=dict)

    def second_of(self, use: Use) -> tuple[PrivateKey, str] | None:
        """The key beside the first one of this use and its id, as signing takes them; None without a second suite."""
        named = self.second.get(use)
        return None if named is None else (named.key, named.id)

    @property
    def second_log(self) -> SecondSigner | None:
        """The signer beside the log's own, under the same name."""
        named = self.second.get(Use.LOG)
        return None if named is None else SecondSigner(self.log.name, named.key)

    @property
    def second_suite(self) -> str | None:
        """The suite of the second keys, None without them."""
        return next((one.key.suite for one in self.second.values()), None)


def create(folder: Path, archive: str, federation: str, *, second_suite: str | None = None) -> list[str]:
    """Make the keys that are not there yet, and a request for the seal's certificate; the names of the files made.

    With `second_suite` also the keys of second signatures. KeysMissingError, before anything is made, where this machine
    lacks that suite.
    """
    home = folder / FOLDER
    beside = {}
    for use in SIGNED_TWICE if second_suite else ():
        path = _second_path(home, use, second_suite or "")
        if not path.exists():
            beside[path] = _generate_second(second_suite or "")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = []
    for path, key in beside.items():
        _write(path, suite(key.suite).dump(key))
        made.append(path.name)
    for use in SIGNING:
        path = home / f"{use.value}.pem"
        if not path.exists():
            chosen = suite(SUITE)
            _write(path, chosen.dump(chosen.generate(ALG)))
            made.append(path.name)
    for name, kind in (("log", KeyKind.LOG), ("witness", KeyKind.WITNESS)):
        path = home / f"{name}.key"
        if not path.exists():
            _write(path, Signer.generate(origin(archive, federation, name), kind).secret().encode())
            made.append(path.name)
    seal = home / "seal.key"
    if not seal.exists():
        seal_key = ec.generate_private_key(ec.SECP256R1())
        secret = seal_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(seal, secret)
        made.append(seal.name)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, archive)])
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(subject)
            .add_extension(_SEAL_USAGE, critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(DOCUMENT_SIGNING)]), critical=False)
            .sign(seal_key, hashes.SHA256())
        )
        (home / "seal.csr").write_bytes(request.public_bytes(serialization.Encoding.PEM))
        made.append("seal.csr")
    return made


def origin(archive: str, federation: str, name: str = "log") -> str:
    """The C2SP name of an archive's log or witness: no two logs of a federation share one."""
    return f"{federation}.lantai/{archive}/{name}"


def load(folder: Path) -> ArchiveKeys:
    """Read them all. KeysMissingError says what to do; SealError when the seal's files are there but wrong."""
    home = folder / FOLDER
    try:
        named = {use: _named(use, (home / f"{use.value}.pem").read_bytes()) for use in SIGNING}
        signers = {
            name: Signer.parse((home / f"{name}.key").read_text("ascii").strip())
            for name in ("log", "witness")
        }
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        raise KeysMissingError(
            f"缺少密钥 {name}，请运行 lantai-node keys create · the key {name} is missing; run lantai-node keys create"
        ) from error
    except OSError as error:
        raise KeysMissingError(f"密钥无法读取 · a key can not be read: {said(error)}") from error
    except (VerifyError, ValueError) as error:
        raise KeysMissingError(f"密钥文件有误 · a key file is broken: {error}") from error
    certificate = home / "seal.pem"
    seal = None
    if certificate.exists():
        lists = ListFiles(lambda: sorted(home.glob("*.crl")))
        seal = SealKey.load(home / "seal.key", certificate, lists)
    return ArchiveKeys(
        named[Use.CREDENTIAL],
        named[Use.STATUS],
        named[Use.DELIVERY],
        signers["log"],
        signers["witness"],
        seal,
        _load_second(home),
    )


def trust_entry(keys: ArchiveKeys, archive: str, name: str, at: datetime) -> dict[str, Any]:
    """The archive's entry for the trust list, as `federation/trust.py` reads it; public halves only.

    With keys of a second suite it proposes that the second signature be asked for from `at`.
    """
    term = {"not_before": rfc3339(at - timedelta(days=1)), "not_after": rfc3339(at + LIFETIME)}
    entries: list[dict[str, Any]] = [
        {
            "id": one.id, "use": use.value, "suite": one.key.suite, "alg": one.key.alg,
            "jwk": suite(one.key.suite).jwk(one.key.public), **term,
        }
        for use, one in (
            (Use.CREDENTIAL, keys.credential), (Use.STATUS, keys.status), (Use.DELIVERY, keys.delivery),
            *((use, one) for use, one in keys.second.items() if use is not Use.LOG),
        )
    ]  # fmt: skip
    noted = [
        (Use.LOG.value, Use.LOG, SUITE, "Ed25519", keys.log.key),
        (Use.WITNESS.value, Use.WITNESS, SUITE, "Ed25519", keys.witness.key),
    ]
    if keys.second_log is not None:
        log = keys.second[Use.LOG]
        noted.append((log.id, Use.LOG, log.key.suite, log.key.alg, keys.second_log.key))
    entries += [
        {"id": key_id, "use": use.value, "suite": name, "alg": alg, "vkey": str(vkey), **term}
        for key_id, use, name, alg, vkey in noted
    ]
    if keys.seal is not None:
        leaf = keys.seal.chain[0]
        chain = "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in keys.seal.chain)
        entries.append(
            {
                "id": f"seal-{leaf.fingerprint(hashes.SHA256()).hex()[:12]}", "use": Use.SEAL.value, "suite": SUITE,
                "alg": ALG, "certificate": chain,
                "not_before": rfc3339(leaf.not_valid_before_utc), "not_after": rfc3339(leaf.not_valid_after_utc),
            }
        )  # fmt: skip
    asked = {"second_suite": {"suite": keys.second_suite, "from": rfc3339(at)}} if keys.second_suite else {}
    return {"code": archive, "name": name, **asked, "keys": entries}


def _named(use: Use, pem: bytes, name: str = SUITE, alg: str = ALG) -> NamedKey:
    key = suite(name).load(pem, alg)
    return NamedKey(key, f"{use.value}-{thumbprint(suite(name).jwk(key.public))[:12]}")


def _second_path(home: Path, use: Use, name: str) -> Path:
    return home / f"{use.value}.{name}.pem"


def _generate_second(name: str) -> PrivateKey:
    """A key that this machine has been seen to sign with."""
    try:
        key = suite(name).generate(SECOND[name])
        _try(key)
    except (VerifyError, RuntimeError, ValueError) as error:
        raise _lacking(name) from error
    return key


def _load_second(home: Path) -> dict[Use, NamedKey]:
    """The keys of the second suite; none, or all of them."""
    for name, alg in SECOND.items():
        paths = {use: _second_path(home, use, name) for use in SIGNED_TWICE}
        missing = [path.name for path in paths.values() if not path.exists()]
        if len(missing) == len(paths):
            continue
        if missing:
            raise KeysMissingError(
                f"缺少密钥 {missing[0]}，请运行 lantai-node keys create --second-suite {name}"
                f" · the key {missing[0]} is missing; run lantai-node keys create --second-suite {name}"
            )
        _generate_second(name)  # says that the machine lacks the suite before a file is blamed
        try:
            return {use: _named(use, path.read_bytes(), name, alg) for use, path in paths.items()}
        except (VerifyError, ValueError, OSError) as error:
            raise KeysMissingError(f"密钥文件有误 · a key file is broken: {error}") from error
    return {}


def _try(key: PrivateKey) -> None:
    chosen = suite(key.suite)
    chosen.verify(key.public, b"lantai", chosen.sign(key, b"lantai"))


def _lacking(name: str) -> KeysMissingError:
    return KeysMissingError(
        f"本机没有 {name} 所需的 libcrypto 3（含 SM2 与 SM3），无法作第二签名；请安装 OpenSSL 3"
        f" · this machine lacks what {name} needs, a libcrypto 3 with SM2 and SM3; install OpenSSL 3"
    )


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


__all__ = [
    "ArchiveKeys",
    "KeysMissingError",
    "NamedKey",
    "SealError",
    "create",
    "load",
    "origin",
    "trust_entry",
]
