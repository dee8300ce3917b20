"""Where a verifier learns whether a certificate still stands: the port, and what it answers.

A status is looked up in the lists at hand, never asked for certificate by certificate: whoever verifies tells nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class State(StrEnum):
    """What the issuer says of a certificate (Token Status List, 2 bits: 0, 1, 2, 3)."""

    VALID = "valid"
    REVOKED = "revoked"
    SUSPENDED = "suspended"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class StatusReference:
    """Where a certificate's status stands: the list's address and the certificate's random index in it."""

    uri: str
    index: int


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a certificate at `as_of`, the time its list was signed (UTC); `successor` is a certificate number."""

    state: State
    as_of: datetime
    successor: str | None = None


class StatusSource(Protocol):
    """The status lists at hand."""

    def standing(self, issuer: str, reference: StatusReference, at: datetime) -> Standing:
        """What the list of `issuer` says at the time `at`.

        Raises VerifyError: `status_unknown` or `status_too_old` (both open) when no list fresh enough is at hand,
        `wrong_status_list` when the issuer's list has no such index. A list of another issuer is as good as none.
        """
        ...
