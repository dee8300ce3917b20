"""Revocation lists (CRLs) in files: read again whenever a file came, went or changed, so that a fresh one counts at once; and
watched, for without one in date no document is made, and whatever fetches them may have stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from federation.rpc.validity import Validity

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


def validity(chain: Sequence[x509.Certificate], lists: Sequence[bytes]) -> Validity | None:
    """From when to when the lists of all issuers of a chain are in date: of several of one issuer the last to end counts, of the
    issuers the first. None where nothing ends.
    """
    read = [x509.load_der_x509_crl(one) for one in lists]
    ending = []
    for issuer in chain[1:]:
        told = [one for one in read if one.issuer == issuer.subject]
        terms = [Validity(one.last_update_utc, one.next_update_utc) for one in told if one.next_update_utc]
        if terms and len(terms) == len(told):
            ending.append(max(terms, key=lambda one: one.ends))
    return min(ending, key=lambda one: one.ends, default=None)


def fault(chain: Sequence[x509.Certificate], lists: Sequence[bytes], at: datetime) -> str:
    """What an operator should know of a chain's lists: a flaw, or `expires_soon` as of certificates (`Validity.fault`); "" = nothing."""
    if found := flaw(chain, lists, at):
        return found
    term = validity(chain, lists)
    soon = term.fault(at) if term is not None else None
    return soon.value if soon is not None else ""


class ListsObserver(Protocol):
    """Told of the revocation lists of a chain."""

    def lists_end(self, kind: str, at: datetime) -> None: ...
    def lists_fault(self, kind: str, fault: str) -> None:
        """Told when it changes, and once a day while it lasts; never that all is well again."""


class ListsWatch:
    """Looks at the lists of one chain, and what was said of them last."""

    def __init__(
        self, kind: str, chain: Sequence[x509.Certificate], lists: Lists, observer: ListsObserver
    ) -> None:
        """`kind` says whose chain it is: `seal` or `time`."""
        self._kind, self._chain, self._lists, self._observer = kind, chain, lists, observer
        self._said: tuple[str, date] | None = None

    def look(self, now: datetime) -> None:
        """Read what is new in the files, and tell. Blocking."""
        try:
            lists = current(self._lists)
        except SealError:
            found = "unreadable"
        else:
            found = fault(self._chain, lists, now)
            if (term := validity(self._chain, lists)) is not None:
                self._observer.lists_end(self._kind, term.ends)
        said = (found, now.date()) if found else None
        if said is not None and said != self._said:
            self._observer.lists_fault(self._kind, found)
        self._said = said
