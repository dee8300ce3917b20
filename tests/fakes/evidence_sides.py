"""Both sides' real evidence logs around a real case core: a gateway's, and those of archives whose desks answer at once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from federation import mail
from federation.mail import mail_id, write
from federation.tlog.checkpoint import Quorum
from federation.tlog.note import KeyKind, Signer
from federation.tlog.reconcile import Account, Reconciliation, reconcile
from federation.tlog.witness import witnessed
from gateway.adapters.case_evidence import CaseEvidence
from gateway.cases.case import Case
from gateway.cases.cases import NewCase
from gateway.cases.clock import wall_ms
from gateway.cases.ports import Located
from gateway.evidence.log import GatewayLog, signer_at
from node_agent.evidence.archive_log import ArchiveLog, ArchiveWitness
from node_agent.objects import Shelf
from tests.fakes.case_engines import Core, core
from tests.fakes.cases import HOLDER, WINDOW, FakeLocator, found
from tests.fakes.waiting import soon

NUMBER = f"{HOLDER}-2026-000001"
FOUND = Located({HOLDER: "hit"}, [found()])


class Counts:
    """Counts what the log tells, by its words."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.age_s = 0.0

    def logged(self, kind: str) -> None:
        self.kinds[kind] += 1

    def log_failed(self, why: str) -> None:
        self.failures[why] += 1

    def log_size(self, entries: int) -> None: ...

    def stamp_age(self, seconds: float) -> None:
        self.age_s = seconds

    def stamp_failed(self, what: str, why: str) -> None:
        self.failures[f"{what}: {why}"] += 1


class Side:
    """An archive: its log, its witness, its shelf. `drop` names messages that its log does not get."""

    def __init__(self, folder: Path, code: str = HOLDER) -> None:
        self.folder, self.code = folder / code, code
        self.folder.mkdir(exist_ok=True)
        self.log_signer = Signer.generate(f"lantai.lantai/{code}")
        self.witness_signer = Signer.generate(f"lantai.lantai/witness/{code}", KeyKind.WITNESS)
        self.drop: set[type] = set()
        self.log: ArchiveLog
        self.witness: ArchiveWitness | None = None
        self.shelf = Shelf()

    def open(self, logs: list[Signer], witnesses: list[Signer]) -> None:
        quorum = Quorum(0, tuple(one.key for one in witnesses))
        self.log = ArchiveLog(self.folder, self.code, self.log_signer, wall_ms, quorum)
        others = [one.key for one in logs if one.name != self.log_signer.name]
        self.witness = ArchiveWitness(self.folder, self.witness_signer, lambda _at: witnessed(others))
        self.shelf = Shelf()
        self.shelf.put("log", self.log.open)
        self.shelf.put("witness", self.witness.open)

    def close(self) -> None:
        self.log.close()
        if self.witness is not None:
            self.witness.close()

    def fetch(self, name: str, body: bytes = b"") -> bytes:
        held = self.shelf.open(name, body)
        return held.read(0, held.size)

    def account(self) -> Account:
        return Account.read(self.fetch("log/account"))

    async def note(self, name: bytes, case_id: str, body: bytes, *, is_arriving: bool) -> None:
        read = mail.read_to_desk if is_arriving else mail.read_from_desk
        if type(read(body)) not in self.drop:
            await self.log.message(name, case_id, body, is_arriving=is_arriving)


class Sides:
    """A gateway's case core with its log, and one archive that answers."""

    def __init__(self, running: Core, log: GatewayLog, evidence: CaseEvidence, side: Side) -> None:
        self.core, self.log, self.evidence, self.side = running, log, evidence, side
        self.answers: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        running.desks.on_send = self._sent

    def _sent(self, archive: str, name: bytes, case_id: str, body: bytes) -> None:
        """The desk logs, then receipts, as its courier does."""

        async def arrive() -> None:
            await self.side.note(name, case_id, body, is_arriving=True)
            self.core.engine.receipted(archive, name, "")

        if archive == self.side.code:
            task = asyncio.get_running_loop().create_task(arrive())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def say(self, case: Case, message: mail.FromDesk) -> str:
        """A message of the archive's desk, until it is receipted; "" or the reason."""
        name = mail_id(f"{case.id}:{message}")
        body = write(message)
        await self.side.note(name, case.id, body, is_arriving=False)
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.core.cases.desk_said(self.side.code, name, case.id, body, answered.set_result)
        return await answered

    async def accept(self, key: str, **request: Any) -> Case:
        asked = {
            "purpose": "marriage_proof", "category": "marriage", "applicant": {"relation": "SELF"},
            "subject": {"name": "錢偉明"}, **request,
        }  # fmt: skip
        digest = hashlib.sha256(key.encode()).hexdigest()
        return (await self.core.cases.accept(NewCase("platform", key, digest, asked, WINDOW)))[0]

    async def issue(self, key: str = "1", **request: Any) -> Case:
        """One case from acceptance to its delivered document."""
        case = await self.accept(key, **request)
        await soon(lambda: self.logged(case, "dispatched"))
        assert await self.say(case, mail.Claimed(group=1)) == ""
        assert await self.say(case, mail.Approved(number="2026-1", group=1, rule="release-3")) == ""
        document = hashlib.sha256(case.id.encode()).hexdigest()
        issued = mail.Issued(number=NUMBER, group=1, document=document, form="certified_copy")
        assert await self.say(case, issued) == ""
        self.side.log.delivered(case.id, NUMBER, document)
        stored = self.core.store.case(case.id)
        assert stored is not None
        ended = await self.core.cases.delivered(stored)
        await soon(lambda: self.logged(case, "delivered"))
        return ended

    def kinds(self, case: Case) -> list[str]:
        return [entry.kind for entry in self.log._reader.of_request(case.id)]

    def logged(self, case: Case, kind: str) -> bool:
        return kind in self.kinds(case)

    def reconcile(self) -> Reconciliation:
        return reconcile(self.log.account(self.side.code), self.side.account())


@contextlib.asynccontextmanager
async def sides(
    folder: Path, *, locator: FakeLocator | None = None, counts: Counts | None = None,
    wrap: Callable[[GatewayLog], GatewayLog] = lambda log: log, side: Side | None = None,
) -> AsyncIterator[Sides]:  # fmt: skip
    """Everything open in `folder`; opened again there, it goes on."""
    signer = signer_at(folder / "log.key", "lantai.lantai/gateway/gateway")
    log = wrap(GatewayLog(folder / "evidence.sqlite", signer, wall_ms, counts or Counts()))
    side = side or Side(folder)
    side.open([signer, side.log_signer], [side.witness_signer])
    evidence: list[CaseEvidence] = []

    def make(store):
        evidence.append(CaseEvidence(log, store, store.now_ms))
        return evidence[0]

    try:
        async with core(
            f"sqlite:///{folder / 'cases.db'}", locator=locator or FakeLocator(FOUND), evidence=make
        ) as running:
            yield Sides(running, log, evidence[0], side)
    finally:
        log.close()
        side.close()
