"""Certificates in use, as evidence: what was verified or looked up here, under the case that led to the certificate.

Anybody may send anything any number of times, so an entry is named by what can not be multiplied: certificate, day and
outcome, never by the bytes that were sent, of which one genuine certificate has endless spellings.

Nobody waits for it: whoever checks a certificate has the answer at once, and what can not be logged is counted. It stands in
this gateway's log alone: the archive does not learn who checks what.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

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
"""Certificates with entries of one kind (checked, presented, looked up) that wait to be logged; one waits once a kind."""
MOST_PRESENTED = 32
"""Presentations of one certificate that are entries of their own in a day (UTC)."""
_MOST_REMEMBERED = 4_096

_Place = tuple[str, str, str]
"""What waits: kind of use, archive, certificate number."""


@dataclass(frozen=True, slots=True)
class _Use:
    """One use as it will be logged; `otherwise` is what is logged of a certificate that nobody here knows."""

    kind: EventKind
    name: str
    at_ms: int
    fields: dict[str, str]
    case_id: str | None = None
    otherwise: _Use | None = None


class Presentations:
    """Notes each certificate and outcome once a day, whoever asks how often, and each presentation to a verifier once."""

    def __init__(
        self, log: GatewayLog, register: Register, now_ms: Callable[[], int], *, audience: str = ""
    ) -> None:
        """`audience` is this gateway's own name in presentations; shown to others, nobody is named."""
        self._log, self._register, self._now_ms, self._audience = log, register, now_ms, audience
        self._noted: OrderedDict[str, None] = OrderedDict()
        self._presented: OrderedDict[str, int] = OrderedDict()
        self._waiting: dict[_Place, deque[_Use]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def verified(self, data: bytes, report: Report, challenge: Challenge | None = None) -> None:
        """A document was checked: who issued it, the outcome, and the digest of the first that came that day. What is no
        document is not logged: anybody may send a name, and the digest of a name can be guessed. Nor is a credential whose
        holder withheld its number.
        """
        archive, number = report.issuer, report.number
        if archive is None or number is None:
            return
        now, outcome = self._now_ms(), report.verdict.value
        fields = {"digest": sha256(data).hexdigest(), "archive": archive, "number": number}
        of_day = f"{archive}:{number}:{now // DAY_MS}"
        checked = _Use(
            EventKind.VERIFIED, f"verified:{of_day}:{outcome}", now, {**fields, "outcome": outcome}
        )
        if challenge is None or report.verdict is not Verdict.VALID or not self._may_be_own(of_day):
            self._begin("verified", checked)
            return
        if challenge.audience == self._audience:
            fields["audience"] = self._audience
        if challenge.purpose in PURPOSES:
            fields["purpose"] = challenge.purpose or ""
        name = f"presented:{sha256(challenge.nonce.encode()).hexdigest()[:40]}"
        self._begin("presented", _Use(EventKind.PRESENTED, name, now, fields, otherwise=checked))

    def looked_up(self, found: Found) -> None:
        """Somebody typed the short code of a certificate."""
        one, now = found.certificate, self._now_ms()
        outcome = "unknown" if found.state is None else found.state.value
        fields = {
            "digest": one.document, "outcome": outcome, "archive": one.archive, "number": one.number,
            "reason": "short_code",
        }  # fmt: skip
        name = f"looked_up:{one.number}:{now // DAY_MS}:{outcome}"
        self._begin("looked_up", _Use(EventKind.VERIFIED, name, now, fields, one.case_id))

    # ---------------------------------------------------------------------------------------------------------------

    def _may_be_own(self, of_day: str) -> bool:
        """Whether one more presentation of a certificate that day is an entry of its own; else it counts as checked."""
        before = self._presented.pop(of_day, 0)
        self._presented[of_day] = min(before + 1, MOST_PRESENTED)
        if len(self._presented) > _MOST_REMEMBERED:
            self._presented.popitem(last=False)
        return before < MOST_PRESENTED

    def _begin(self, what: str, use: _Use) -> None:
        if use.name in self._noted:
            return
        place = what, use.fields["archive"], use.fields["number"]
        queue = self._waiting.get(place)
        if queue is None and sum(kind == what for kind, _archive, _number in self._waiting) >= MOST_WAITING:
            self._log.missed(Flaw.OVERLOADED)
            return
        self._noted[use.name] = None
        if len(self._noted) > _MOST_REMEMBERED:
            self._noted.popitem(last=False)
        if queue is not None:  # at most one of each outcome, or a day's presentations
            queue.append(use)
            return
        self._waiting[place] = deque([use])
        task = asyncio.get_running_loop().create_task(self._work(place), name="note a presentation")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, place: _Place) -> None:
        """Log what waits of one certificate, one after the other."""
        queue = self._waiting[place]
        try:
            while queue:
                await self._note(queue.popleft())
        finally:
            del self._waiting[place]

    async def _note(self, use: _Use) -> None:
        """Log it under the certificate's case. A certificate nobody here knows belongs to none: then only its check is logged."""
        try:
            case_id = use.case_id
            if case_id is None:
                case_id = await self._case_of(use.fields["archive"], use.fields["number"])
            if not case_id and use.otherwise is not None:
                use = use.otherwise
            await self._log.note(Event(use.kind, use.name, use.at_ms, case_id, use.fields), first_stays=True)
        except EvidenceError:  # counted by the log; or an issuer or number that no event may hold
            self._noted.pop(use.name, None)

    async def _case_of(self, archive: str, number: str) -> str:
        try:
            known = await self._register.by_number(archive, number)
        except Refusal:
            return ""
        return "" if known is None else known.case_id
