"""What the search feature needs from the outside, as Protocols; adapters fill them, app.py connects them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from federation.candidate import Candidate
from federation.outcome import Outcome
from federation.query import Query
from federation.service_hours import ServiceHours


@dataclass(frozen=True, slots=True)
class CategoryHoldings:
    """What an archive holds of one category. Years 0 = none dated; `undated` records fit every year."""

    records: int
    first_year: int = 0
    last_year: int = 0
    undated: int = 0
    copies: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """An archive's own word about its holdings, as of `index_epoch`; `index_age_s` is the age when received, which was
    at `heard_at` on the monotonic clock.
    """

    archive: str
    name: str
    index_epoch: int
    records: int
    categories: dict[str, CategoryHoldings]
    index_age_s: int = 0
    hours: ServiceHours | None = None
    """When its desk serves; None = it announces nothing."""
    release: dict[str, Any] | None = None
    """Its published rule of automatic release."""
    heard_at: float = field(default_factory=time.monotonic, compare=False)


class Reply(msgspec.Struct, frozen=True, gc=False):
    """How one sub-request ended. Exactly one per `ask`. `candidates` may be non-empty beside TIMEOUT (best so far)."""

    archive: str
    outcome: Outcome
    candidates: tuple[Candidate, ...] = ()
    truncated: bool = False
    index_epoch: int = 0
    bad_candidates: int = 0  # malformed candidates that were dropped; the others stand
    retry_after_s: float | None = None
    transport: bool = False  # there was no session, or it failed: another attempt may help
    lost: bool = False  # a session ended under this question
    reason: str = ""  # a Reason of the closed list


@dataclass(slots=True, eq=False)
class SubRequest:
    """One question as a search puts it to any number of archives. `subrequest_id` (16 bytes) is stable over retries.

    `budget_s` is the hard limit counted from the first asking; after `soft_s` an archive answers with the best found so far.
    """

    query: Query
    subrequest_id: bytes
    budget_s: float
    soft_s: float
    max_candidates: int = 50
    made: Any = None
    """What the adapter makes of it once for all archives; its own business."""


class Holdings(Protocol):
    """Asks archives over their sessions.

    `ask` never raises and never blocks: it queues the sub-request and returns a function that cancels it. A request has one
    `on_reply`, whichever archives it is put to.
    `on_reply` is called with the archive asked, exactly once on the event loop, at the latest when the budget ends (then
    with TIMEOUT), unless cancelled first. No session = UNREACHABLE at once. Retries nothing.
    """

    def ask(
        self, archive: str, request: SubRequest, on_reply: Callable[[str, Reply], None]
    ) -> Callable[[], None]: ...

    def manifest(self, archive: str) -> Manifest | None:
        """The newest manifest the archive announced to us in this process's life, however long ago, or None."""
        ...

    def current_manifest(self, archive: str) -> Manifest | None:
        """The same while it is known to describe the archive's index as it is: the archive has a session and has told of no
        newer index on it. Else None; only this may be a reason not to ask.
        """
        ...

    def connected(self, archive: str) -> bool: ...


class SearchObserver(Protocol):
    """Counts searches: constant words and archive codes, nothing of a question."""

    def searched(self, seconds: float, verdict: str, asked: int) -> None: ...
    def outcome(self, archive: str, outcome: str) -> None: ...
    def event(self, name: str) -> None: ...
