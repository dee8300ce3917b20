"""Whether this process's own TLS certificate is believed by others now, looked at again and again: files are replaced, time
passes. The other side only sees a handshake that fails.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from federation.rpc.transport import Credentials, TransportRefusedError

SOON = timedelta(days=14)
LOOK_EVERY_S = 600.0


class Fault(StrEnum):
    """What is wrong with a certificate's dates, or with who issued it."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRES_SOON = "expires_soon"
    UNREADABLE = "unreadable"
    UNKNOWN_ISSUER = "unknown_issuer"
    """None of the authorities in `ca` issued it; those who have the same file refuse it."""


TEXTS = {
    Fault.EXPIRED: "证书已过期，请更换 · the certificate has expired; replace it",
    Fault.NOT_YET_VALID: "证书尚未生效，请更换或校正时钟 · the certificate is not valid yet; replace it, or set the clock right",
    Fault.EXPIRES_SOON: "证书即将过期，请更换 · the certificate expires soon; replace it",
    Fault.UNREADABLE: "证书无法读取 · the certificate can not be read",
    Fault.UNKNOWN_ISSUER: "证书不是由 ca 中的机构签发的 · the certificate is issued by none of the authorities in ca",
}


@dataclass(frozen=True, slots=True)
class Validity:
    """Both ends count as valid."""

    begins: datetime
    ends: datetime

    @classmethod
    def of(cls, chain: bytes) -> Validity:
        """Of a PEM chain: the time in which all its certificates are valid. ValueError when there is none in it."""
        certificates = x509.load_pem_x509_certificates(chain)
        return cls(
            max(one.not_valid_before_utc for one in certificates),
            min(one.not_valid_after_utc for one in certificates),
        )

    def fault(self, now: datetime) -> Fault | None:
        """What is wrong at `now`. Of a certificate that lives less than six weeks only the last third is soon."""
        if now > self.ends:
            return Fault.EXPIRED
        if now < self.begins:
            return Fault.NOT_YET_VALID
        soon = min(SOON, (self.ends - self.begins) / 3)
        return Fault.EXPIRES_SOON if self.ends - now < soon else None


def leads_to(chain: bytes, authorities: bytes) -> bool:
    """Whether the first certificate of a PEM chain is issued by one of the PEM `authorities`, directly or by others of the
    chain. ValueError when a certificate can not be read.
    """
    current, *others = x509.load_pem_x509_certificates(chain)
    roots = x509.load_pem_x509_certificates(authorities)
    while current not in roots and not any(_issued(current, root) for root in roots):
        above = next((one for one in others if _issued(current, one)), None)
        if above is None:
            return False
        others.remove(above)
        current = above
    return True


def _issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def fault_now(credentials: Credentials) -> Fault | None:
    """What is wrong with this process's certificate at this moment; on plaintext there is none."""
    return None if credentials.is_plaintext else _looked_at(credentials, datetime.now(UTC))[1]


def _looked_at(credentials: Credentials, now: datetime) -> tuple[datetime | None, Fault | None]:
    """When the certificate ends, None = unreadable, and what is wrong with it."""
    try:
        authorities, chain, _key = credentials.read()
        validity = Validity.of(chain)
        fault = validity.fault(now)
        if fault in (None, Fault.EXPIRES_SOON) and not leads_to(chain, authorities):
            fault = Fault.UNKNOWN_ISSUER
    except (TransportRefusedError, ValueError):
        return None, Fault.UNREADABLE
    return validity.ends, fault


class ValidityObserver(Protocol):
    """Told of this process's own certificate."""

    def certificate_expires(self, at: datetime) -> None: ...
    def certificate_fault(self, fault: str) -> None:
        """Told when it changes; never that all is well again."""


class OwnCertificate:
    """The certificate of this very process, and what was said of it last."""

    def __init__(self, credentials: Credentials, observer: ValidityObserver) -> None:
        self._credentials, self._observer = credentials, observer
        self._before: Fault | None = None

    def look(self, now: datetime) -> None:
        """Read the file again and tell what has changed; on plaintext there is nothing to see."""
        if self._credentials.is_plaintext:
            return
        ends, fault = _looked_at(self._credentials, now)
        if ends is not None:
            self._observer.certificate_expires(ends)
        if fault is not None and fault is not self._before:
            self._observer.certificate_fault(fault.value)
        self._before = fault

    async def watch(self) -> None:
        """Look at once and then every ten minutes, for ever."""
        while True:
            self.look(datetime.now(UTC))
            await asyncio.sleep(LOOK_EVERY_S)
