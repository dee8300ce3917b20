"""A desk over real SQLite with a clock somebody else moves, and a gateway that takes what it sends or says why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from federation import mail
from federation.levels import IdLevel, Levels, NameLevel
from node_agent.desk.desk import Desk
from node_agent.desk.issuing import ApprovalNotice, CanIssue, Document
from node_agent.desk.records import Holding
from node_agent.desk.rota import Rota
from node_agent.desk.rules import ReleaseRule
from node_agent.desk.store import Store

HOLDER, DEPUTY = "330483", "330400"
START_MS = 1_768_440_600_000
"""Thursday, 2026-01-15 09:30 in Shanghai."""

HOLDING = Holding(
    archival_code="T001-ZY·HY·1999·Y-0001-001",
    category="marriage",
    digitised=True,
    hits=1,
    levels=Levels(name=NameLevel.EXACT, id_number=IdLevel.EQUAL),
    dates_meet=True,
    names=("欧阳试验",),
)


class Clock:
    """Milliseconds of UTC."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def go(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)


class FakeRecords:
    """Finds `holding` whatever is asked. `on_ask` may raise or look."""

    def __init__(self, holding: Holding | None = HOLDING) -> None:
        self.holding_now = holding
        self.on_ask: Callable[[mail.Dispatch], None] | None = None

    def holding(self, dispatch: mail.Dispatch) -> Holding | None:
        if self.on_ask is not None:
            self.on_ask(dispatch)
        return self.holding_now


def desk_at(
    folder: Path,
    clock: Clock,
    *,
    archive: str = HOLDER,
    rules: ReleaseRule | None = None,
    rota: dict[str, Any] | None = None,
    records: FakeRecords | None = None,
    people: bool = True,
    can_issue: CanIssue | None = None,
) -> Desk:
    """A desk with two reviewers and a lead."""
    store = Store(folder, archive)
    if people:
        for name, role in (("沈甲", "reviewer"), ("陆乙", "reviewer"), ("顾丙", "lead")):
            store.put_user(name, role, hashlib.sha256(name.encode()).digest(), clock())
    return Desk(
        store,
        archive,
        now_ms=clock,
        rules=rules,
        rota=Rota.from_dict(rota or {}),
        records=records or FakeRecords(),
        can_issue=can_issue,
    )


def dispatch(group: int = 1, **changes: Any) -> mail.Dispatch:
    """A request of nobody real, with the budgets of a case in one city."""
    given: dict[str, Any] = {
        "ref": "r1",
        "category": "marriage",
        "purpose": "marriage_proof",
        "relation": "SELF",
        "subject": mail.Subject(name="欧阳试验", id_number="330483197001010017"),
        "window": "330402",
        "pick_up_ms": 90_000,
        "review_ms": 210_000,
        "target_ms": 600_000,
        **changes,
    }
    return mail.Dispatch(group, **given)


def name_of(message: Any, case: str = "c1") -> bytes:
    """An identifier derived from a message, as the gateway derives its own."""
    return hashlib.sha256(case.encode() + mail.write(message)).digest()[:16]


def give(desk: Desk, message: Any, case: str = "c1") -> Any:
    """Let a gateway's message arrive; the reason for which it will never be taken, or None."""
    return desk.receive(name_of(message, case), case, mail.write(message))


def notice_count(desk: Desk) -> int:
    """How many calls wait, due or not."""
    return desk.store._rows("select count(*) from notices")[0][0]


def take(desk: Desk, answer: Callable[[Any], str] = lambda _message: "") -> list[Any]:
    """Take everything the desk sends, as a gateway that answers each with a receipt; the messages in order."""
    taken = []
    while waiting := desk.outbox():
        for one in waiting:
            message = mail.read_from_desk(one.body)
            taken.append(message)
            desk.receipted(one.id, answer(message))
    return taken


def issue(desk: Desk) -> list[Document]:
    """Make what is to be made, as the running office does."""
    made = []
    for order in desk.orders():
        document = ApprovalNotice().issue(order)
        desk.issued(order, document)
        made.append(document)
    return made


def kinds(messages: list[Any]) -> list[str]:
    return [str(type(message).__struct_config__.tag) for message in messages]
