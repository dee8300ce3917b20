"""What the case feature needs of the rest: someone who searches, someone who carries messages to desks and platforms."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from federation import mail
from gateway.cases.case import Case


@dataclass(frozen=True, slots=True)
class Located:
    """One round of asking. `candidates` are Found values as plain dictionaries, `gaps` are {archive, outcome, reason}.
    `roster_epoch` is the roster it was asked by, `gone` are archives to be asked that are no longer on it, `ruled_out` are
    archives that were not asked because by their own word they can not hold the record. `searched` says for each archive
    that answered the date (YYYY-MM-DD) of its index, "" = not known, and for each ruled out why. `noting` is the archive
    that can issue the note over this search if nobody holds the record, "" = none. `unshown`: there are more candidates.
    """

    outcomes: dict[str, str]
    candidates: list[dict[str, Any]] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    roster_epoch: int = 0
    gone: list[str] = field(default_factory=list)
    ruled_out: list[str] = field(default_factory=list)
    searched: dict[str, str] = field(default_factory=dict)
    noting: str = ""
    unshown: bool = False


class Locator(Protocol):
    """Asks archives for the record of a case; `archives` empty = everyone in its scope. Refusal when it may not."""

    async def locate(self, case: Case, archives: list[str]) -> Located: ...


class Desks(Protocol):
    """Carries messages to the desks of archives."""

    def send(self, archive: str, mail_id: bytes, case_id: str, body: bytes) -> bool:
        """Hand a message to the archive's session; False when there is none. The desk's receipt comes later."""
        ...


@dataclass(frozen=True, slots=True)
class HookAnswer:
    """What a platform said to a call: an HTTP status, 0 = none, -1 = not called, because it has too many open calls or did
    not answer the last ones; `retry_after_s` when a pause is asked for.
    """

    status: int
    retry_after_s: float | None = None


class Hooks(Protocol):
    """Calls platforms back."""

    def wants(self, client: str) -> bool: ...

    async def call(self, client: str, message_id: str, body: bytes) -> HookAnswer: ...


class Hours(Protocol):
    """The service hours archives announced; an archive that announced none is always open."""

    def service_ms(self, archive: str, from_ms: int, to_ms: int) -> int:
        """Milliseconds of the archive's service hours in a span of UTC milliseconds."""
        ...

    def done_ms(self, archive: str, now_ms: int, work_ms: int) -> int | None:
        """When `work_ms` of the archive's service hours will have passed since now; None when they never will."""
        ...


class Evidence(Protocol):
    """The evidence log of this gateway process. Acceptances and ends are not waited for: they are in the store."""

    def accepted(self, case: Case, digest: str) -> None:
        """The case is durable; `digest` is the SHA-256 (hex) of the request's body."""
        ...

    def ended(self, case: Case) -> None:
        """Something came to the case that may have been its end."""
        ...

    def message(
        self, archive: str, name: bytes, case_id: str, message: mail.ToDesk | mail.FromDesk
    ) -> asyncio.Future[None] | None:
        """A message that both sides have now: the future ends when it is logged, with an exception when it is not. None for
        one that only tells. Refusal when it holds what no event may.
        """
        ...


class NoEvidence:
    """For a case core that is looked at by itself: nothing is logged."""

    def accepted(self, case: Case, digest: str) -> None: ...
    def ended(self, case: Case) -> None: ...
    def message(self, archive: str, name: bytes, case_id: str, message: Any) -> None: ...


class CaseObserver(Protocol):
    """Counts what happens to cases; constant words and archive codes only."""

    def happened(self, kind: str, stage: str) -> None: ...
    def stage_ended(self, stage: str, seconds: float) -> None: ...
    def stopped(self, outcome: str, scope: str, seconds: float) -> None: ...
    def lease_lost(self, kind: str) -> None: ...
    def task_failed(self, kind: str) -> None: ...
