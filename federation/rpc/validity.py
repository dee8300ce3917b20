"""From when to when this process's own TLS certificate is valid, looked at again and again: files are replaced, time passes.
The other side only sees a handshake that fails.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from cryptography import x509

from federation.rpc.transport import Credentials, TransportRefusedError

SOON = timedelta(days=14)
LOOK_EVERY_S = 600.0


class Fault(StrEnum):
    """What is wrong with a certificate's dates."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRES_SOON = "expires_soon"
    UNREADABLE = "unreadable"


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
        fault: Fault | None
        try:
            validity = Validity.of(self._credentials.read()[1])
        except (TransportRefusedError, ValueError):
            fault = Fault.UNREADABLE
        else:
            self._observer.certificate_expires(validity.ends)
            fault = validity.fault(now)
        if fault is not None and fault is not self._before:
            self._observer.certificate_fault(fault.value)
        self._before = fault

    async def watch(self) -> None:
        """Look at once and then every ten minutes, for ever."""
        while True:
            self.look(datetime.now(UTC))
            await asyncio.sleep(LOOK_EVERY_S)
