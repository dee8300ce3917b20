"""Fakes of everything the case core needs of the rest, each with hooks for what may go wrong, and values to feed it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from gateway.cases.case import Case, Event
from gateway.cases.ports import HookAnswer, Located
from gateway.cases.states import Kind

WINDOW, HOLDER, DEPUTY, FAR = "330402", "330483", "330400", "310115"
"""An asking window, a holder of the same city with its deputy, and a holder of another city."""

START_MS = 1_700_000_000_000

ACCEPTED = Event(Kind.ACCEPTED, "caller")


def new_case(
    number: int = 1, *, window: str = WINDOW, client: str = "platform", has_hook: bool = False
) -> Case:
    """A case nobody has accepted yet. Its request holds nobody real."""
    return Case(
        id=f"case-{number:05d}",
        client=client,
        created_ms=START_MS,
        request={"category": "marriage", "purpose": "marriage_proof", "subject": {"name": "錢偉明"}},
        window=window,
        has_hook=has_hook,
    )


def found(
    archive: str = HOLDER, score: float = 30.0, *, decision: str = "likely", ref: str = ""
) -> dict[str, Any]:
    """A masked candidate as an archive's answer carries it."""
    return {
        "ref": ref or f"{archive}.r1",
        "archive": archive,
        "score": score,
        "decision": decision,
        "name": "錢*明",
        "year": 1987,
    }


def located(outcomes: dict[str, str], candidates: Iterable[dict[str, Any]] = ()) -> Event:
    """One round's answers; every outcome but hit, empty and not_asked is a gap."""
    return Event(
        Kind.LOCATED,
        "gateway",
        {"outcomes": outcomes, "gaps": gaps_of(outcomes), "candidates": list(candidates)},
    )


def gaps_of(outcomes: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"archive": archive, "outcome": outcome, "reason": ""}
        for archive, outcome in sorted(outcomes.items())
        if outcome not in {"hit", "empty", "not_asked"}
    ]


class Clock:
    """A clock somebody else moves, in milliseconds."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def go(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)


class FakeLocator:
    """Answers rounds from `rounds`, one after the other, the last again and again.

    A round is a Located or an exception. `on_ask` runs before each answer: it may wait, raise, or look.
    """

    def __init__(self, *rounds: Located | Exception) -> None:
        self.rounds: list[Located | Exception] = list(rounds) or [Located({HOLDER: "empty"})]
        self.asked: list[tuple[str, list[str]]] = []
        self.on_ask: Callable[[Case, list[str]], Awaitable[None]] | None = None

    async def locate(self, case: Case, archives: list[str]) -> Located:
        self.asked.append((case.id, archives))
        if self.on_ask is not None:
            await self.on_ask(case, archives)
        answer = self.rounds.pop(0) if len(self.rounds) > 1 else self.rounds[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeDesks:
    """Keeps what was sent. Archives in `away` have no session; `on_send` may raise or deliver at once."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, str, bytes]] = []
        self.away: set[str] = set()
        self.on_send: Callable[[str, bytes, str, bytes], None] | None = None

    def send(self, archive: str, mail_id: bytes, case_id: str, body: bytes) -> bool:
        if self.on_send is not None:
            self.on_send(archive, mail_id, case_id, body)
        if archive in self.away:
            return False
        self.sent.append((archive, mail_id, case_id, body))
        return True

    def to(self, archive: str) -> list[tuple[bytes, bytes]]:
        """What went to one archive: (mail id, body), in order."""
        return [(mail_id, body) for code, mail_id, _case, body in self.sent if code == archive]


class FakeHooks:
    """A platform: answers from `answers`, one after the other, then 200. `on_call` may wait or raise."""

    def __init__(self, *answers: HookAnswer, clients: Iterable[str] = ("platform",)) -> None:
        self.answers = list(answers)
        self.clients = set(clients)
        self.calls: list[tuple[str, str, bytes]] = []
        self.on_call: Callable[[str, str, bytes], Awaitable[None]] | None = None

    def wants(self, client: str) -> bool:
        return client in self.clients

    async def call(self, client: str, message_id: str, body: bytes) -> HookAnswer:
        self.calls.append((client, message_id, body))
        if self.on_call is not None:
            await self.on_call(client, message_id, body)
        return self.answers.pop(0) if self.answers else HookAnswer(200)


class CountingObserver:
    """Remembers what it was told, in order, as tuples that begin with the call's name."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def count(self, *start: Any) -> int:
        """How many calls began with these words."""
        return sum(1 for one in self.seen if one[: len(start)] == start)

    def happened(self, kind: str, stage: str) -> None:
        self.seen.append(("happened", kind, stage))

    def stage_ended(self, stage: str, seconds: float) -> None:
        self.seen.append(("stage_ended", stage, seconds))

    def stopped(self, outcome: str, scope: str, seconds: float) -> None:
        self.seen.append(("stopped", outcome, scope, seconds))

    def lease_lost(self, kind: str) -> None:
        self.seen.append(("lease_lost", kind))

    def task_failed(self, kind: str) -> None:
        self.seen.append(("task_failed", kind))

    def committed(self, seconds: float, units: int, waiting: int) -> None:
        self.seen.append(("committed", units, waiting))
