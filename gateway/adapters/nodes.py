"""Sessions with all member archives, dialled or accepted; fills the search feature's `Holdings`.

Whoever dialled, an archive is who its certificate says it is, and must say the same in HELLO. The newest session of
an archive wins; the older one drains, so that re-dialling before a certificate ages loses no search.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Callable
from typing import Any, Protocol

import grpc
import grpc.aio
import msgspec

from federation.candidate import Candidate
from federation.outcome import Outcome
from federation.reasons import Reason
from federation.rpc import transport
from federation.rpc.links import HOLDINGS, LINK, AcceptedLink, DialledLink, open_handler
from federation.rpc.naming import uri_name
from federation.service_hours import CalendarError, ServiceHours
from federation.session.asking import BAD_FRAMES_ALLOWED, Asked, AskingSession, Item
from federation.session.base import CASES, DOCUMENTS, LARGEST_FRAME, PROTOCOL, SessionEndedError, known_reason
from federation.session.link import Link
from federation.session.timers import TimerWheel
from federation.wire.translate import BadMessageError, candidate_from_wire, query_to_wire
from federation.wire.v1 import holdings_pb2 as pb
from gateway.search.ports import CategoryHoldings, Manifest, Reply, SubRequest
from gateway.search.roster import Member, Roster

CONNECT_WITHIN_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0
_STABLE_S = 60.0
_DRAIN_S = 5.0
_QUARANTINE_S = 30.0
"""How long an archive whose frames ended its session gets no other one: what sends garbage is mended by a person or a restart, and each
new session would close its circuit and have searches wait for it again.
"""
_LONGEST_ANNOUNCEMENT = 64 * 1024
_MOST_STRANGERS = 64
_CODE = re.compile(r"[0-9]{6}")


class NodesObserver(Protocol):
    """Counts what happens on sessions, and tells why there is none: constant words and archive codes, nothing else."""

    def session_event(self, archive: str, event: str) -> None: ...
    def connected(self, archive: str, *, up: bool) -> None: ...
    def no_session(self, archive: str, reason: str) -> None:
        """Told at a change, not at each try. `archive` is "" where nobody of the roster or of the federation is meant."""


class _Line:
    """One member archive: its session now, what it last announced, and the loop that dials it."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.session: AskingSession | None = None
        self.manifest: Manifest | None = None
        self.generation = 0
        self.heard = asyncio.Event()  # set when a session opened: a dialling pause ends
        self.wrong = ""  # why the last session was refused, as a reason; none since it has one
        self.quarantined_until = float("-inf")  # loop time
        self.told: set[str] = set()  # reasons told since the last session that was of use
        self.empty = Reply(member.code, Outcome.EMPTY)  # said again and again: made once an index epoch

    def is_quarantined(self, now: float) -> bool:
        """Whether its last session was ended by its frames, just now; that one may still be winding up."""
        session = self.session
        return now < self.quarantined_until or (session is not None and _by_its_frames(session))

    def why_none(self, now: float) -> str:
        """Why it has no session by its own fault, as a reason; "" = it is away, or may be."""
        return Reason.BAD_FRAME.value if self.is_quarantined(now) else self.wrong


class _Item(Item):
    """One question, and whom to tell its replies."""

    __slots__ = ("asked_at", "observer", "on_reply")

    def __init__(
        self, request: SubRequest, now: float, on_reply: Callable[[str, Reply], None], observer: NodesObserver
    ) -> None:
        query = query_to_wire(request.query)
        ends_at, soft_at = now + request.budget_s, now + request.soft_s
        super().__init__(query, request.subrequest_id, ends_at, soft_at, request.max_candidates)
        self.asked_at, self.on_reply, self.observer = now, on_reply, observer


class _Asked(Asked):
    """One question to one member; turns what the session says of it into a reply."""

    __slots__ = ("_line",)
    item: _Item

    def __init__(self, item: _Item, line: _Line) -> None:
        super().__init__(item)
        self._line = line

    def on_empty(self, index_epoch: int) -> None:
        line = self._line
        reply = line.empty
        if reply.index_epoch != index_epoch:
            reply = line.empty = Reply(line.member.code, Outcome.EMPTY, index_epoch=index_epoch)
        self.item.on_reply(reply.archive, reply)

    def on_result(self, result: pb.ResultItem | None) -> None:
        archive = self._line.member.code
        if result is None:
            self.item.on_reply(archive, Reply(archive, Outcome.TIMEOUT))
        else:
            self.item.on_reply(archive, self._reply(archive, result))

    def on_lost(self) -> None:
        archive = self._line.member.code
        wrong = Reason.BAD_FRAME.value if self._session is not None and _by_its_frames(self._session) else ""
        self.item.on_reply(archive, _no_session_reply(archive, wrong, lost=True))

    def _reply(self, archive: str, item: pb.ResultItem) -> Reply:
        match item.status:
            case pb.STATUS_OK | pb.STATUS_SOFT_TIMEOUT | pb.STATUS_TOO_MANY:
                return self._found(archive, item)
            case pb.STATUS_OVERLOADED:
                return Reply(archive, Outcome.OVERLOADED, retry_after_s=min(60.0, item.retry_after_ms / 1000))
            case pb.STATUS_REFUSED_POLICY:
                return Reply(archive, Outcome.REFUSED_POLICY, reason=known_reason(item.reason))
            case pb.STATUS_UNSUPPORTED:
                return Reply(archive, Outcome.UNSUPPORTED, reason=known_reason(item.reason))
            case pb.STATUS_EXPIRED | pb.STATUS_CANCELLED:
                return Reply(archive, Outcome.TIMEOUT)
            case pb.STATUS_FAILED:
                return Reply(archive, Outcome.BAD_ANSWER, reason=Reason.INTERNAL.value)
            case _:
                return Reply(archive, Outcome.BAD_ANSWER, reason=Reason.BAD_FRAME.value)

    def _found(self, archive: str, item: pb.ResultItem) -> Reply:
        """What an archive found. A candidate that can not be read is dropped, and since it may be the record asked for the
        others are no answer in full; one that is told twice counts once.
        """
        most = self.item.max_candidates
        good: dict[str, Candidate] = {}
        bad = 0
        for data in item.candidates[:most]:
            try:
                candidate = candidate_from_wire(data)
            except BadMessageError:
                bad += 1
                self.item.observer.session_event(archive, "bad_candidate")
                continue
            if candidate.ref in good:
                self.item.observer.session_event(archive, "duplicate_candidate")
            else:
                good[candidate.ref] = candidate
        reason = ""
        match item.status:
            case _ if bad:
                outcome = Outcome.BAD_ANSWER
            case pb.STATUS_OK:
                outcome = Outcome.HIT if good else Outcome.EMPTY
            case pb.STATUS_TOO_MANY:
                outcome, reason = Outcome.UNSUPPORTED, Reason.TOO_MANY_RECORDS.value
            case _:
                outcome = Outcome.TIMEOUT
        return Reply(
            archive,
            outcome,
            tuple(good.values()),
            reason=reason,
            truncated=bool(bad) or item.truncated or len(item.candidates) > most,
            index_epoch=item.index_epoch,
            bad_candidates=bad,
        )


class NodeSessions:
    """All sessions of this gateway process. `start` before use; `stop` drains."""

    def __init__(
        self,
        roster: Roster,
        credentials: transport.Credentials,
        observer: NodesObserver,
        *,
        link_listen: str = "",
        session_age_s: float = 750.0,
        beside: dict[str, grpc.RpcMethodHandler[Any, Any]] | None = None,
    ) -> None:
        """`beside` are further methods served to archives that dial in."""
        self._credentials, self._observer = credentials, observer
        self._beside = beside
        self._lines = {member.code: _Line(member) for member in roster.members}
        self._strangers: set[tuple[str, str]] = set()  # (code, reason) told of who is not on the roster
        self._link_listen, self._session_age_s = link_listen, session_age_s
        self.on_session: Callable[[str], None] = lambda _archive: None
        self.on_mail: Callable[[str, pb.Mail, Callable[[str], None]], None] = _no_cases
        """Told (archive, message, answer): `answer(reason)` sends the receipt, reason "" = durable."""
        self.on_receipt: Callable[[str, bytes, str], bool] = lambda _archive, _name, _reason: True
        """Told (archive, message, reason): False = it was not this archive that was sent the message."""
        self._wheel = TimerWheel()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: grpc.aio.Server | None = None
        self.link_port = 0
        self._stopping = False

    # Holdings --------------------------------------------------------------------------------------------------

    def manifest(self, archive: str) -> Manifest | None:
        line = self._lines.get(archive)
        return line.manifest if line is not None else None

    def current_manifest(self, archive: str) -> Manifest | None:
        line = self._lines[archive]
        session, manifest = line.session, line.manifest
        if session is None or manifest is None or session.ended or manifest.index_epoch < session.index_epoch:
            return None
        return manifest

    def connected(self, archive: str) -> bool:
        session = self._lines[archive].session
        return session is not None and not session.ended

    def issues(self, archive: str) -> bool:
        """Whether the archive is there now and makes documents."""
        line = self._lines.get(archive)
        session = line.session if line is not None else None
        if session is None or session.ended or session.hello is None:
            return False
        return DOCUMENTS in session.hello.features

    def ask(
        self, archive: str, request: SubRequest, on_reply: Callable[[str, Reply], None]
    ) -> Callable[[], None]:
        line = self._lines[archive]
        session = line.session
        if session is None or session.ended:
            wrong = line.why_none(asyncio.get_running_loop().time())
            on_reply(archive, _no_session_reply(archive, wrong))
            return _nothing
        item: _Item | None = request.made
        if item is None:
            now = asyncio.get_running_loop().time()
            item = request.made = _Item(request, now, on_reply, self._observer)
        asked = _Asked(item, line)
        if not session.ask(asked, item.asked_at):
            on_reply(archive, Reply(archive, Outcome.OVERLOADED, retry_after_s=0.2))
            return _nothing
        return asked.cancel

    # Desks -----------------------------------------------------------------------------------------------------

    def send(self, archive: str, mail_id: bytes, case_id: str, body: bytes) -> bool:
        line = self._lines.get(archive)
        if line is None or line.session is None:
            return False
        return line.session.mail(pb.Mail(id=mail_id, case_id=case_id, body=body))

    def _takes_mail(self, line: _Line, session: AskingSession) -> None:
        """From now on this session carries case messages of its archive."""

        def on_mail(mail: pb.Mail) -> None:
            name = bytes(mail.id)

            def answer(reason: str) -> None:
                if not session.ended:
                    session.receipt(name, reason)

            self.on_mail(line.member.code, mail, answer)

        def on_receipt(receipt: pb.Receipt) -> None:
            reason = known_reason(receipt.reason) if receipt.reason else ""
            if not self.on_receipt(line.member.code, receipt.id, reason):
                self._observer.session_event(line.member.code, "foreign_receipt")

        session.on_mail, session.on_receipt = on_mail, on_receipt

    # Sessions --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin dialling, and listen for archives that dial in. Does not wait for anyone."""
        if self._link_listen:
            self._server = transport.server()
            self._server.add_generic_rpc_handlers((open_handler(LINK, self._accept, self._beside),))
            self.link_port = transport.listen(
                self._server, self._link_listen, self._credentials, "link_listen"
            )
            await self._server.start()
        for line in self._lines.values():
            if line.member.address:
                self._spawn(self._dial(line), f"dial {line.member.code}")

    def _spawn(self, work: Any, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._stopping:
            self._observer.session_event("", "task_died")
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"task {task.get_name()} died", "exception": task.exception()}
            )

    async def _dial(self, line: _Line) -> None:
        """Keep a session to one archive, and renew it before it ages out: the new one first, then the old one drains."""
        pause = _FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while not self._stopping:
            began = loop.time()
            if line.is_quarantined(began):
                await asyncio.sleep(max(_FIRST_PAUSE_S, line.quarantined_until - began))
                continue
            opened: asyncio.Future[None] = loop.create_future()
            serving = self._spawn(self._dial_once(line, opened), f"session {line.member.code}")
            with contextlib.suppress(SessionEndedError):
                await opened
                age = self._session_age_s * random.uniform(0.85, 1.0)  # noqa: S311 - jitter, not a secret
                await asyncio.wait({serving}, timeout=age)
                if not serving.done():
                    pause = _FIRST_PAUSE_S  # it was of use, whatever came before
                    continue  # renew: the old session drains by itself when the new one takes over
            if loop.time() - began > _STABLE_S:
                pause = _FIRST_PAUSE_S
            line.heard.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(0.3, 1.0) * pause):  # noqa: S311
                    await line.heard.wait()
            pause = min(_LONGEST_PAUSE_S, pause * 2)

    async def _dial_once(self, line: _Line, opened: asyncio.Future[None]) -> None:
        channel: grpc.aio.Channel | None = None
        try:
            channel = transport.channel(line.member.address, self._credentials, "node", line.member.code)
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await channel.channel_ready()
            await self._serve(line, DialledLink(channel, HOLDINGS), opened)
        except (TimeoutError, SessionEndedError, transport.TransportRefusedError) as error:
            # refused: certificate and key are being replaced, and do not belong together now
            self._observer.session_event(line.member.code, "dial_failed")
            if not self.connected(line.member.code):  # else it was to be renewed, and the old one goes on
                self._no_session(line, getattr(error, "reason", "") or Outcome.UNREACHABLE.value)
            if not opened.done():
                opened.set_exception(error if isinstance(error, SessionEndedError) else SessionEndedError())
        finally:
            if not opened.done():
                opened.set_exception(SessionEndedError())
            if channel is not None:
                await channel.close(None)

    async def _accept(self, link: AcceptedLink, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        names = transport.peer_names(context)
        if names is None and not self._credentials.is_plaintext:
            self._refused_stranger("", Reason.NOT_A_MEMBER.value)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, Reason.NOT_A_MEMBER.value)
        try:
            await self._serve_accepted(link, names)
        except SessionEndedError as error:
            if error.reason:  # without one it just hung up before it had said who it is
                self._refused_stranger(self._shown(names), error.reason)

    async def _serve_accepted(self, link: Link, names: frozenset[str] | None) -> None:
        """An archive that dialled in: who it is comes from its certificate, on plaintext loopback from HELLO."""
        holder: list[_Line] = []
        session = self._session(holder, link)
        hello = await session.greet(self._hello(0))
        code = hello.manifest.archive
        line = self._lines.get(code)
        expected = uri_name(self._credentials.federation, "node", code)
        if line is None or (names is not None and expected not in names):
            self._observer.session_event(code if line is not None else "", "not_a_member")
            if line is not None:
                self._no_session(line, Reason.NOT_A_MEMBER.value)
            else:
                self._refused_stranger(self._shown(names), Reason.NOT_A_MEMBER.value)
            await session.refuse(Reason.NOT_A_MEMBER)
            return
        holder.append(line)
        await self._run(line, session)

    async def _serve(self, line: _Line, link: Link, opened: asyncio.Future[None]) -> None:
        session = self._session([line], link)
        hello = await session.greet(self._hello(line.generation + 1))
        if hello.manifest.archive != line.member.code:
            line.wrong = Reason.WRONG_ARCHIVE.value
            self._observer.session_event(line.member.code, "wrong_archive")
            await session.refuse(Reason.WRONG_ARCHIVE)
            raise SessionEndedError(Reason.WRONG_ARCHIVE.value)
        if not opened.done():
            opened.set_result(None)
        await self._run(line, session)

    def _session(self, holder: list[_Line], link: Link) -> AskingSession:
        """A session of the archive in `holder`, which is empty until an archive that dialled in is known."""

        def on_manifest(message: pb.Manifest) -> bool:
            if not holder:
                return True
            line = holder[0]
            if line.session is not session:  # a newer one has taken over, and its word counts
                return message.archive == line.member.code
            return self._learn(line, message)

        def observe(event: str) -> None:
            self._observer.session_event(holder[0].member.code if holder else "", event)

        name = f"session {holder[0].member.code}" if holder else "session dialled in"
        session = AskingSession(link, name, self._wheel, on_manifest=on_manifest, observe=observe)
        return session

    @staticmethod
    def _hello(generation: int) -> pb.Hello:
        return pb.Hello(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            features=[CASES],
            generation=generation,
            max_frame_bytes=LARGEST_FRAME,
        )

    async def _run(self, line: _Line, session: AskingSession) -> None:
        assert session.hello is not None
        loop = asyncio.get_running_loop()
        session.credits = min(4_096, session.hello.credits or 1)
        if line.is_quarantined(loop.time()):
            self._observer.session_event(line.member.code, "quarantined")
            await session.refuse(Reason.BAD_FRAME)
            return
        if not self._learn(line, session.hello.manifest):
            self._no_session(line, Reason.WRONG_ARCHIVE.value)
            await session.refuse(Reason.WRONG_ARCHIVE)
            return
        self._takes_mail(line, session)
        older, line.session = line.session, session
        line.generation += 1
        line.wrong = ""
        line.heard.set()
        self._observer.connected(line.member.code, up=True)
        self.on_session(line.member.code)
        if older is not None:
            self._spawn(self._retire(older), f"retire {line.member.code}")
        began = loop.time()
        try:
            await session.run()
        finally:
            why = ""
            if line.session is session:  # else a newer one serves, and how this one ended is no matter
                if _by_its_frames(session):
                    line.quarantined_until = loop.time() + _QUARANTINE_S
                why = line.why_none(loop.time()) or session.refused
                line.session = None
                self._observer.connected(line.member.code, up=False)
            if not why or loop.time() - began > _STABLE_S:
                line.told.clear()
            if why:
                self._no_session(line, why)

    def _no_session(self, line: _Line, reason: str) -> None:
        """Tell why an archive has no session, once for each reason until it has had one that was of use."""
        if not self._stopping and reason not in line.told:
            line.told.add(reason)
            self._observer.no_session(line.member.code, reason)

    def _refused_stranger(self, code: str, reason: str) -> None:
        """Tell of a caller who is nobody of the roster; each once in the life of the process."""
        if (code, reason) not in self._strangers and len(self._strangers) < _MOST_STRANGERS:
            self._strangers.add((code, reason))
            self._observer.no_session(code, reason)

    def _shown(self, names: frozenset[str] | None) -> str:
        """The archive's code in a certificate the federation's authority vouches for, "" = none of that form."""
        start = uri_name(self._credentials.federation, "node", "")
        codes = [name.removeprefix(start) for name in names or () if name.startswith(start)]
        return next((code for code in codes if _CODE.fullmatch(code)), "")

    @staticmethod
    async def _retire(session: AskingSession) -> None:
        """Let an older session finish what it carries, for at most five seconds, then close it."""
        session.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while session.in_flight and not session.ended:  # noqa: ASYNC110 - bounded above
                    await asyncio.sleep(0.02)
        await session.close()

    def _learn(self, line: _Line, message: pb.Manifest) -> bool:
        """Keep what an archive announces; False when it speaks for another one."""
        if message.archive != line.member.code:
            self._observer.session_event(line.member.code, "wrong_archive")
            line.wrong = Reason.WRONG_ARCHIVE.value
            return False
        hours, release = self._announced(line, message)
        line.manifest = Manifest(
            message.archive,
            message.name,
            message.index_epoch,
            message.records,
            {
                one.category: CategoryHoldings(
                    one.records, one.first_year, one.last_year, one.undated, one.copies
                )
                for one in message.categories
            },
            message.index_age_s,
            hours,
            release,
        )
        return True

    def _announced(
        self, line: _Line, message: pb.Manifest
    ) -> tuple[ServiceHours | None, dict[str, Any] | None]:
        """The desk's calendar and release rule; what can not be read is as if it were not said, and counted."""
        hours: ServiceHours | None = None
        release: dict[str, Any] | None = None
        is_short = len(message.service_hours) + len(message.release_rule) <= _LONGEST_ANNOUNCEMENT
        try:
            if is_short and message.service_hours:
                hours = ServiceHours.from_dict(
                    msgspec.json.decode(message.service_hours, type=dict[str, Any])
                )
            if is_short and message.release_rule:
                release = msgspec.json.decode(message.release_rule, type=dict[str, Any])
        except (CalendarError, msgspec.DecodeError, RecursionError, OverflowError):
            is_short = False
        if not is_short:
            self._observer.session_event(line.member.code, "bad_announcement")
        return hours, release

    async def stop(self) -> None:
        """Stop dialling, let sessions finish for a moment, close everything; bounded."""
        self._stopping = True
        sessions = [line.session for line in self._lines.values() if line.session is not None]
        await asyncio.gather(*[self._retire(session) for session in sessions], return_exceptions=True)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.stop(0.5)


def _no_session_reply(archive: str, wrong: str, *, lost: bool = False) -> Reply:
    """What became of a question without a session; `wrong` = why by the archive's own fault, `lost` = it ended under the question."""
    outcome = Outcome.BAD_ANSWER if wrong else Outcome.UNREACHABLE
    return Reply(archive, outcome, transport=True, lost=lost, reason=wrong)


def _by_its_frames(session: AskingSession) -> bool:
    """Whether a session was ended by frames that could not be parsed; fewer are tolerated."""
    return session.bad_frames >= BAD_FRAMES_ALLOWED


def _no_cases(_archive: str, _mail: pb.Mail, _answer: Callable[[str], None]) -> None:
    """Nobody takes case messages here: without a receipt the desk keeps them."""


def _nothing() -> None:
    """Cancel what is already settled."""
