"""The suites this machine knows, by name."""

from __future__ import annotations

from functools import cache

from federation.suites import INTL, SM
from federation.suites.base import CryptoSuite
from federation.suites.intl import Intl
from federation.verify.report import VerificationReason, VerifyError


@cache
def suite(name: str) -> CryptoSuite:
    """The suite of this name; raises VerifyError `unsupported_suite` (open: another machine may know it)."""
    if name == INTL:
        return Intl()
    if name == SM:
        from federation.suites.sm import Sm  # optional: needs the system's libcrypto

        return Sm()
    raise VerifyError(VerificationReason.UNSUPPORTED_SUITE, name, open=True)
