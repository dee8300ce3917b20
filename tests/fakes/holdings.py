"""Archives that answer as told: the search feature's `Holdings` with a hook for every way an archive can fail.

Works on the running event loop, so that it keeps virtual time as well as real time. What was asked and cancelled is kept
for tests to look at. Some faults break the port's promise on purpose: the search must survive a broken adapter too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from msgspec import structs

from federation.candidate import Candidate
from federation.levels import DateLevel, Levels, NameLevel
from federation.outcome import Outcome
from federation.query import Query
from gateway.search.ports import CategoryHoldings, Manifest, Reply, SubRequest


class Fault(Enum):
    NONE = "answers after its delay"
    AT_ONCE = "answers inside ask"
    SILENT = "says nothing; the port reports TIMEOUT when the budget ends"
    LOST = "never calls back: breaks the port's promise"
    LATE = "calls back after the budget and although it was cancelled: breaks the port's promise"
    DUPLICATE = "answers twice"
    WRONG = "answers in the name of another archive"
    NO_SESSION = "unreachable inside ask"
    CUT = "the session is lost after the delay"
    CUT_ONCE = "the session is lost after the delay; a second attempt is answered"
    RAISES = "ask raises: breaks the port's promise"
    CANCEL_RAISES = "says nothing, and cancelling raises: breaks the port's promise"


FAILING = frozenset(Fault) - {Fault.NONE, Fault.AT_ONCE, Fault.DUPLICATE, Fault.CUT_ONCE}
"""Faults after which an archive has not answered in full, whatever its reply says."""


@dataclass(frozen=True)
class Behaviour:
    """What one archive does with every question."""

    candidates: tuple[Candidate, ...] = ()
    fault: Fault = Fault.NONE
    delay_s: float = 0.0
    reply: Reply | None = None
    """Said instead of a plain HIT or EMPTY."""


def candidate(ref: str = "r1", **changes: object) -> Candidate:
    """A fictitious masked candidate."""
    plain = Candidate(
        ref=ref,
        category="marriage",
        masked_name="钱*明",
        year=1987,
        levels=Levels(name=NameLevel.VARIANT, birth=DateLevel.YEAR),
        name_bits=12.0,
    )
    return structs.replace(plain, **changes)  # type: ignore[arg-type]


def manifest(archive: str, **changes: object) -> Manifest:
    """An archive of 100,000 records, a tenth of them marriages of 1950 to 2010."""
    plain = Manifest(archive, f"{archive}馆", 1, 100_000, {"marriage": CategoryHoldings(10_000, 1950, 2010)})
    return replace(plain, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Put:
    """One question as one archive was asked it."""

    archive: str
    query: Query
    subrequest_id: bytes
    budget_s: float
    soft_s: float


class FakeHoldings:
    """`behaviours` by archive; an archive without one answers EMPTY on the next turn of the loop."""

    def __init__(
        self,
        behaviours: Mapping[str, Behaviour] | None = None,
        manifests: Mapping[str, Manifest | None] | None = None,
    ) -> None:
        self.behaviours = dict(behaviours or {})
        self.manifests = dict(manifests or {})
        self.down: set[str] = set()
        self.outdated: set[str] = set()
        """Archives that have told of a newer index than their manifest is of."""
        self.asked: list[Put] = []
        self.cancelled: list[Put] = []

    def manifest(self, archive: str) -> Manifest | None:
        return self.manifests.get(archive)

    def current_manifest(self, archive: str) -> Manifest | None:
        is_current = self.connected(archive) and archive not in self.outdated
        return self.manifest(archive) if is_current else None

    def connected(self, archive: str) -> bool:
        if archive in self.down:
            return False
        return self.behaviours.get(archive, _PLAIN).fault is not Fault.NO_SESSION

    def attempts(self, archive: str) -> int:
        return sum(request.archive == archive for request in self.asked)

    def ask(
        self, archive: str, request: SubRequest, on_reply: Callable[[str, Reply], None]
    ) -> Callable[[], None]:
        put = Put(archive, request.query, request.subrequest_id, request.budget_s, request.soft_s)
        self.asked.append(put)
        behaviour = self.behaviours.get(archive, _PLAIN)
        reply = behaviour.reply or Reply(
            archive,
            Outcome.HIT if behaviour.candidates else Outcome.EMPTY,
            behaviour.candidates,
            index_epoch=1,
        )
        fault = behaviour.fault
        if archive in self.down:
            fault = Fault.NO_SESSION
        if fault is Fault.CUT_ONCE:
            fault = Fault.CUT if self.attempts(archive) == 1 else Fault.NONE
        absent = Reply(archive, Outcome.UNREACHABLE, transport=True)
        lost = structs.replace(absent, lost=True)
        later = asyncio.get_running_loop().call_later
        match fault:
            case Fault.RAISES:
                raise RuntimeError("the adapter broke its promise")
            case Fault.NO_SESSION:
                on_reply(archive, absent)
                return _nothing
            case Fault.AT_ONCE:
                on_reply(archive, reply)
                return _nothing
            case Fault.LOST:
                return lambda: self.cancelled.append(put)
            case Fault.CANCEL_RAISES:
                return _raise
            case Fault.LATE:
                later(request.budget_s + 0.5, on_reply, archive, reply)
                return lambda: self.cancelled.append(put)
            case Fault.SILENT:
                handles = [later(request.budget_s, on_reply, archive, Reply(archive, Outcome.TIMEOUT))]
            case Fault.CUT:
                handles = [later(behaviour.delay_s, on_reply, archive, lost)]
            case Fault.WRONG:
                handles = [
                    later(behaviour.delay_s, on_reply, archive, structs.replace(reply, archive="000000"))
                ]
            case Fault.DUPLICATE:
                handles = [later(behaviour.delay_s, on_reply, archive, reply) for _ in range(2)]
            case _:
                handles = [later(behaviour.delay_s, on_reply, archive, reply)]

        def cancel() -> None:
            self.cancelled.append(put)
            for handle in handles:
                handle.cancel()

        return cancel


_PLAIN = Behaviour()


def _nothing() -> None:
    """Nothing is in flight any more."""


def _raise() -> None:
    raise RuntimeError("the adapter broke its promise")
