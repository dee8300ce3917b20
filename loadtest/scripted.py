"""Archives that do as told, for gateways under attack: the real session over real gRPC, with a script instead of an index
and a desk. They run in a thread of their own and keep, like a real desk, what they have told until it is receipted.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Self

from federation import mail
from federation.candidate import Candidate
from federation.levels import DateLevel, Levels, NameLevel
from federation.rpc import transport
from federation.rpc.links import HOLDINGS, AcceptedLink, open_handler
from federation.session.answering import CREDITS, AnsweringSession
from federation.session.base import CASES, LARGEST_FRAME, PROTOCOL, SessionEndedError
from federation.session.link import LinkLostError
from federation.tlog.exchange import event_of
from federation.tlog.reconcile import Account, Line
from federation.wire.translate import candidate_to_wire
from federation.wire.v1 import holdings_pb2 as pb

_PLAIN = transport.Credentials(plaintext_on_loopback=True)
_AGAIN_S = 1.0
"""A word without a receipt is said again after this."""

Script = Callable[["ScriptedArchive", str, mail.Dispatch], Sequence[mail.FromDesk]]


def approve_at_once(archive: ScriptedArchive, case_id: str, asked: mail.Dispatch) -> list[mail.FromDesk]:
    """A desk that takes, approves and issues whatever comes."""
    number = f"{archive.code}-{case_id[-6:]}-{asked.group}"
    return [
        mail.Received(group=asked.group),
        mail.Claimed(group=asked.group),
        mail.Approved(group=asked.group, number=number),
        mail.Issued(group=asked.group, number=number),
    ]


def receive_only(_archive: ScriptedArchive, _case_id: str, asked: mail.Dispatch) -> list[mail.FromDesk]:
    """A desk that has the case and does nothing with it."""
    return [mail.Received(group=asked.group)]


def one_record(ref: str = "r1", year: int = 1987) -> Candidate:
    """A fictitious masked candidate that nobody needs to choose."""
    levels = Levels(name=NameLevel.EXACT, birth=DateLevel.DAY)
    return Candidate(
        ref=ref,
        category="marriage",
        masked_name="钱*明",
        year=year,
        levels=levels,
        name_bits=16.0,
        digitised=True,
    )


class ScriptedArchive:
    """One archive. Hooks: `records` answered to every question, `delay_s` before answering, `silent` = no answer at all,
    `script` of its desk, `takes` = whether it gives receipts. What happened is in `dispatches`, `told`, `receipts`.
    """

    def __init__(self, code: str, records: Sequence[Candidate] = ()) -> None:
        self.code = code
        self.records = tuple(records)
        self.delay_s = 0.0
        self.silent = False
        self.takes = True
        self.script: Script = approve_at_once
        self.category = "marriage"
        self.asked = 0
        self.dispatches: dict[tuple[str, int], set[bytes]] = defaultdict(set)
        """(case, group) -> the identifiers under which the question came: one, however often it was sent."""
        self.heard: list[tuple[str, mail.ToDesk]] = []
        self.receipts: dict[bytes, str] = {}
        self.told: dict[bytes, tuple[str, mail.FromDesk]] = {}
        self._outbox: dict[bytes, tuple[str, bytes]] = {}
        self._seen: set[bytes] = set()
        self._sessions: set[AnsweringSession] = set()
        self._server: Any = None
        self.port = 0

    # on the loop -----------------------------------------------------------------------------------------------

    async def up(self) -> None:
        """Listen, on the same port as before."""
        self._server = transport.server([("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((open_handler(HOLDINGS, self._accept),))
        self.port = transport.listen(self._server, f"127.0.0.1:{self.port}", _PLAIN)
        await self._server.start()

    async def down(self) -> None:
        """Vanish: no listener, no session."""
        for session in list(self._sessions):
            await session.close()
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def _accept(self, link: AcceptedLink, _context: object) -> None:
        session = AnsweringSession(link, f"scripted {self.code}", self, observe=lambda _event: None)
        session.on_mail = lambda one: self._mailed(session, one)
        session.on_receipt = self._receipted
        with contextlib.suppress(SessionEndedError, LinkLostError):
            await session.greet(
                pb.Hello(
                    protocol_min=PROTOCOL, protocol_max=PROTOCOL, features=[CASES], credits=CREDITS,
                    max_frame_bytes=LARGEST_FRAME, manifest=self.manifest(),
                )
            )  # fmt: skip
            self._sessions.add(session)
            self._say(session)
            again = asyncio.create_task(self._repeat(session), name="say again")
            try:
                await session.run()
            finally:
                self._sessions.discard(session)
                again.cancel()

    async def _repeat(self, session: AnsweringSession) -> None:
        while True:
            await asyncio.sleep(_AGAIN_S)
            self._say(session)

    def _say(self, session: AnsweringSession) -> None:
        for name, (case_id, body) in list(self._outbox.items()):
            session.mail(pb.Mail(id=name, case_id=case_id, body=body))

    def turn(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def manifest(self) -> pb.Manifest:
        made = pb.Manifest(archive=self.code, name=f"{self.code}馆", index_epoch=1, records=1000)
        made.categories.add(category=self.category, records=1000, first_year=1900, last_year=2020)
        return made

    def begin(
        self, item: pb.QueryItem, _ends_at: float, done: Callable[[pb.ResultItem], None]
    ) -> Callable[[], None] | None:
        self.asked += 1
        if self.silent:
            return None
        answer = pb.ResultItem(
            cid=item.cid,
            status=pb.STATUS_OK,
            candidates=[candidate_to_wire(one) for one in self.records],
            index_epoch=1,
        )
        if not self.delay_s:
            done(answer)
            return None
        return asyncio.get_running_loop().call_later(self.delay_s, done, answer).cancel

    def _mailed(self, session: AnsweringSession, one: pb.Mail) -> None:
        if not self.takes:
            return
        name = bytes(one.id)
        message = mail.read_to_desk(one.body)
        if isinstance(message, mail.Dispatch):
            self.dispatches[one.case_id, message.group].add(name)
        if name not in self._seen:
            self._seen.add(name)
            self.heard.append((one.case_id, message))
            if isinstance(message, mail.Dispatch):
                for said in self.script(self, one.case_id, message):
                    self.tell(one.case_id, said)
        session.receipt(name)

    def tell(self, case_id: str, said: mail.FromDesk) -> bytes:
        """Say something about a case, again and again until it is receipted; the identifier, of these words alone."""
        body = mail.write(said)
        name = mail.mail_id(f"{self.code}:{case_id}:{body.decode()}")
        self._outbox[name] = (case_id, body)
        self.told[name] = (case_id, said)
        for session in self._sessions:
            session.mail(pb.Mail(id=name, case_id=case_id, body=body))
        return name

    def account(self) -> Account:
        """What this archive's evidence log would hold: each message it took, and each it told."""
        found: dict[str, list[Line]] = defaultdict(list)
        for case_id, message in [*self.heard, *self.told.values()]:
            event = event_of(self.code, b"", case_id, message, 0)
            if event is not None:
                line = Line(event.kind.value, str(event.fields["digest"]), 0, 0)
                found[case_id].append(line)
        return Account(self.code, dict(found))

    def _receipted(self, receipt: pb.Receipt) -> None:
        self.receipts[bytes(receipt.id)] = receipt.reason
        self._outbox.pop(bytes(receipt.id), None)


class ScriptedArchives:
    """Archives on a loop of their own, in a thread; a context manager. `run` does something on that loop."""

    def __init__(self, *archives: ScriptedArchive) -> None:
        self.archives = archives
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted archives", daemon=True)

    def run(self, work: Any) -> Any:
        """The result of a coroutine on the archives' loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def call(self, work: Callable[[], Any]) -> Any:
        """The result of a function on the archives' loop."""

        async def calling() -> Any:
            return work()

        return self.run(calling())

    def roster(self) -> str:
        """The text of a roster file of these archives."""
        return "epoch = 1\n" + "".join(
            f'[[archive]]\ncode = "{one.code}"\nname = "{one.code}馆"\naddress = "127.0.0.1:{one.port}"\n'
            for one in self.archives
        )

    def __enter__(self) -> Self:
        self._thread.start()
        for one in self.archives:
            self.run(one.up())
        return self

    def __exit__(self, *_error: object) -> None:
        for one in self.archives:
            self.run(one.down())

        async def ending() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(ending())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
