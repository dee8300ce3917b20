"""Documents found by what is printed on them: the register of short codes, and what the archives' status lists say.

The register holds no content and no person: which archive issued which number on which day, and where its status stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from federation import mail, short_code
from federation.reasons import Reason, Refusal
from federation.trust import TrustList
from federation.verify.report import VerificationReason, VerifyError
from federation.verify.status import State, StatusReference, StatusSource

FORMS = frozenset({"certified_copy", "recorded_facts", "no_record"})
_NUMBER = re.compile(r"[0-9]{6}-[0-9]{4}-[0-9]{1,12}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONGEST_ADDRESS, _LARGEST_INDEX = 512, 1 << 24


@dataclass(frozen=True, slots=True)
class Registered:
    """One document as its archive told of it. `document` is the SHA-256 (hex) of what was delivered."""

    short_code: str
    archive: str
    number: str
    case_id: str
    form: str
    issued_on: str
    document: str
    status: StatusReference


class Register(Protocol):
    """Finds documents. Refusal(STORE_UNAVAILABLE)."""

    async def by_code(self, code: str) -> Registered | None:
        """The document of a short code in its kept form."""
        ...

    async def by_number(self, archive: str, number: str) -> Registered | None: ...


def registered(archive: str, case_id: str, message: mail.Issued) -> Registered | None:
    """What is kept of a message from an archive; None when it tells of no short code, or of something no archive writes."""
    paper = message.paper
    if paper is None or short_code.canonical(paper.short_code) != paper.short_code:
        return None
    is_sound = (
        _NUMBER.fullmatch(message.number)
        and message.number.startswith(f"{archive}-")  # an archive speaks of its own documents alone
        and _DAY.fullmatch(paper.issued_on)
        and message.form in FORMS
        and len(paper.status_uri) <= _LONGEST_ADDRESS
        and 0 <= paper.status_index < _LARGEST_INDEX
    )
    if not is_sound:
        return None
    status = StatusReference(paper.status_uri, paper.status_index)
    return Registered(
        paper.short_code, archive, message.number, case_id, message.form, paper.issued_on, message.document, status
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """A document and how it stands. `state` None: the status list at hand can not tell, and `reason` says why. `as_of` is
    when the archive signed the newest list at hand (UTC), None without one.
    """

    certificate: Registered
    archive_name: str
    state: State | None
    as_of: datetime | None = None
    successor: str = ""
    reason: VerificationReason | None = None


class ShortCodes:
    """Looks up what is printed on paper."""

    def __init__(
        self,
        register: Register,
        trust: TrustList,
        statuses: StatusSource,
        seen: Callable[[Found], None] = lambda _found: None,
    ) -> None:
        """`seen` is told of every document that was looked up: the evidence log."""
        self._register, self._trust, self._statuses, self._seen = register, trust, statuses, seen

    async def look_up(self, code: str) -> Found:
        """The document of a short code in its kept form. Refusal: not_found, store_unavailable."""
        certificate = await self._register.by_code(code)
        if certificate is None:
            raise Refusal(Reason.NOT_FOUND)
        found = self._standing(certificate)
        self._seen(found)
        return found

    def _standing(self, certificate: Registered) -> Found:
        name = self._trust.name(certificate.archive)
        try:
            standing = self._statuses.standing(certificate.archive, certificate.status, datetime.now(UTC))
        except VerifyError as error:
            is_old = error.reason is VerificationReason.STATUS_TOO_OLD  # its detail is the time of the list
            as_of = datetime.fromisoformat(error.detail) if is_old else None
            return Found(certificate, name, None, as_of, reason=error.reason)
        return Found(certificate, name, standing.state, standing.as_of, standing.successor or "")
