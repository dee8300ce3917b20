"""Revocation lists (CRLs) in files: read again whenever a file came, went or changed, so that a fresh one counts at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

Lists = Sequence[bytes] | Callable[[], Sequence[bytes]]
"""Revocation lists (DER), or what gives them as they are now."""


class SealError(Exception):
    """Nothing can be sealed: `kind` is key, certificate, revocation_list, time_revocation_list, time_authority or seal; the text
    says what to do.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def current(lists: Lists) -> list[bytes]:
    """The lists as they are now. SealError when a file can not be read."""
    return list(lists() if callable(lists) else lists)


class ListFiles:
    """The lists of some files, PEM or DER. Blocking; any thread may call."""

    def __init__(self, paths: Callable[[], Sequence[Path]], kind: str = "revocation_list") -> None:
        """`paths` names the files each time it is asked, `kind` is that of the SealError when one can not be read."""
        self._paths, self._kind = paths, kind
        self._lock = threading.Lock()
        self._seen: tuple[tuple[Path, int, int, int], ...] | None = None
        self._lists: tuple[bytes, ...] = ()

    def __call__(self) -> tuple[bytes, ...]:
        """SealError naming the file and what to do."""
        with self._lock:
            paths = self._paths()
            seen = tuple(self._stamp(path) for path in paths)
            if seen != self._seen:
                self._lists = tuple(self._load(path) for path in paths)
                self._seen = seen
            return self._lists

    def _stamp(self, path: Path) -> tuple[Path, int, int, int]:
        try:
            found = path.stat()
        except OSError as error:
            raise self._unreadable(path) from error
        return path, found.st_ino, found.st_size, found.st_mtime_ns

    def _load(self, path: Path) -> bytes:
        try:
            data = path.read_bytes()
            crl = x509.load_pem_x509_crl(data) if data.startswith(b"-----") else x509.load_der_x509_crl(data)
        except OSError as error:
            raise self._unreadable(path) from error
        except ValueError as error:
            raise SealError(
                self._kind, f"{path.name} 不是证书吊销列表 · {path.name} is not a revocation list"
            ) from error
        return crl.public_bytes(serialization.Encoding.DER)

    def _unreadable(self, path: Path) -> SealError:
        return SealError(
            self._kind,
            f"读不到吊销列表 {path.name}：请检查设置与权限"
            f" · can not read {path.name}; check the setting and permissions",
        )


def flaw(chain: Sequence[x509.Certificate], lists: Sequence[bytes], at: datetime) -> str:
    """What speaks against a chain (leaf first, root last): missing or stale, a list of one of its issuers; revoked, one of its
    certificates; "" = nothing. Of several lists of one issuer one in date is enough, and any may revoke.
    """
    read = [x509.load_der_x509_crl(one) for one in lists]
    for below, issuer in pairwise(chain):
        told = [one for one in read if one.issuer == issuer.subject]
        if not told:
            return "missing"
        entries = (one.get_revoked_certificate_by_serial_number(below.serial_number) for one in told)
        if any(entry is not None and entry.revocation_date_utc <= at for entry in entries):
            return "revoked"
        if all(one.next_update_utc is not None and one.next_update_utc <= at for one in told):
            return "stale"
    return ""
