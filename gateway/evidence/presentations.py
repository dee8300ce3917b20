"""Certificates in use, as evidence: what was verified or looked up here, under the case that led to the certificate.

Nobody waits for it: whoever checks a certificate has the answer at once, and what can not be logged is counted. It stands in
this gateway's log alone: the archive does not learn who checks what.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any

from federation.categories import PURPOSES
from federation.reasons import Refusal
from federation.tlog.event import Event, EventKind
from federation.tlog.flaws import EvidenceError, Flaw
from federation.verify.challenge import Challenge
from federation.verify.report import Report, Verdict
from gateway.evidence.log import GatewayLog
from gateway.evidence.register import Found, Register

DAY_MS = 86_400_000
MOST_WAITING = 64
_MOST_REMEMBERED = 4_096


class Presentations:
    """Notes each document and outcome once a day, each presentation to a verifier once."""

    def __init__(
        self, log: GatewayLog, register: Register, now_ms: Callable[[], int], *, audience: str = ""
    ) -> None:
        """`audience` is this gateway's own name in presentations; shown to others, nobody is named."""
        self._log, self._register, self._now_ms, self._audience = log, register, now_ms, audience
        self._noted: OrderedDict[str, None] = OrderedDict()
        self._waiting: set[asyncio.Task[None]] = set()

    def verified(self, data: bytes, report: Report, challenge: Challenge | None = None) -> None:
        """A document was checked: its digest, who issued it and the outcome. What is no document is not logged: anybody may
        send a name, and the digest of a name can be guessed. Nor is a credential whose holder withheld its number.
        """
        archive, number = report.issuer, report.number
        if archive is None or number is None:
            return
        digest, now = sha256(data).hexdigest(), self._now_ms()
        if challenge is not None and report.verdict is Verdict.VALID:
            fields = {"digest": digest, "archive": archive, "number": number}
            if challenge.audience == self._audience:
                fields["audience"] = self._audience
            if challenge.purpose in PURPOSES:
                fields["purpose"] = challenge.purpose or ""
            self._begin(EventKind.PRESENTED, f"presented:{digest[:40]}", now, fields)
        else:
            fields = {"digest": digest, "outcome": report.verdict.value, "archive": archive, "number": number}
            name = f"verified:{digest[:40]}:{now // DAY_MS}:{report.verdict.value}"
            self._begin(EventKind.VERIFIED, name, now, fields)

    def looked_up(self, found: Found) -> None:
        """Somebody typed the short code of a certificate."""
        one, now = found.certificate, self._now_ms()
        outcome = "unknown" if found.state is None else found.state.value
        fields = {
            "digest": one.document, "outcome": outcome, "archive": one.archive, "number": one.number,
            "reason": "short_code",
        }  # fmt: skip
        name = f"looked_up:{one.number}:{now // DAY_MS}:{outcome}"
        self._begin(EventKind.VERIFIED, name, now, fields, one.case_id)

    # ---------------------------------------------------------------------------------------------------------------

    def _begin(
        self, kind: EventKind, name: str, at_ms: int, fields: dict[str, str], case_id: str | None = None
    ) -> None:
        if name in self._noted:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._log.missed(Flaw.OVERLOADED)
            return
        self._noted[name] = None
        if len(self._noted) > _MOST_REMEMBERED:
            self._noted.popitem(last=False)
        self._start(self._note(kind, name, at_ms, fields, case_id))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="note a presentation")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _note(
        self, kind: EventKind, name: str, at_ms: int, fields: dict[str, str], case_id: str | None
    ) -> None:
        """Log it under the certificate's case. A certificate nobody here knows belongs to none: then only its check is logged."""
        try:
            if case_id is None:
                case_id = await self._case_of(fields["archive"], fields["number"])
            if not case_id and kind is EventKind.PRESENTED:
                kind, fields = (
                    EventKind.VERIFIED,
                    {"outcome": Verdict.VALID.value}
                    | {one: fields[one] for one in ("digest", "archive", "number")},
                )
            await self._log.note(Event(kind, name, at_ms, case_id, fields))
        except EvidenceError:  # counted by the log; or an issuer or number that no event may hold
            self._noted.pop(name, None)

    async def _case_of(self, archive: str, number: str) -> str:
        try:
            known = await self._register.by_number(archive, number)
        except Refusal:
            return ""
        return "" if known is None else known.case_id
