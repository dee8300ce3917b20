"""The courier: case messages from gateways' sessions to the desk and back, each kept until the other side has it.

Arriving messages are receipted only after they are durable. Leaving ones stay in the desk's outbox until their receipt
came: they are sent on whichever session is open, again on another when that one ends, again after a while when no receipt
comes. Of one case only the oldest is under way, so that a case's messages arrive in order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from federation.reasons import Reason, Refusal
from node_agent.desk.desk import Desk, OutgoingMail
from node_agent.desk.thread import DeskThread

AGAIN_AFTER_S = 10.0
"""A message without a receipt is sent again after this, on a session that is still open."""
LOOK_EVERY_S = 1.0
_UNDER_WAY = 200
_MOST_REMEMBERED = 10_000


class Evidence(Protocol):
    """The archive's evidence log. Raises whatever it raises when it can not write: then the message waits."""

    async def message(self, mail_id: bytes, case_id: str, body: bytes, *, is_arriving: bool) -> None: ...


class Line(Protocol):
    """One open session with a gateway."""

    def send(self, mail_id: bytes, case_id: str, body: bytes) -> bool:
        """Queue a message; False when the session can not take it now."""
        ...

    def receipt(self, mail_id: bytes, reason: str) -> None:
        """Tell the gateway that its message is durable here, or why it never will be."""
        ...


@dataclass(slots=True)
class _Sent:
    line: Line
    again_at: float


class Courier:
    """Carries between all sessions and one desk. `run` sends until it is cancelled."""

    def __init__(
        self,
        desk: Desk,
        thread: DeskThread,
        count: Callable[[str], None],
        evidence: Evidence | None = None,
    ) -> None:
        """`count` is told constant words: received, sent, receipted and what went wrong. With `evidence` nothing is
        receipted and nothing leaves that is not in the log.
        """
        self._desk, self._thread, self._count, self._evidence = desk, thread, count, evidence
        self._noting: set[asyncio.Task[None]] = set()
        self._lines: list[Line] = []
        self._asked_by: OrderedDict[str, Line] = OrderedDict()
        self._sent: dict[bytes, _Sent] = {}
        self._bell = asyncio.Event()

    def ring(self) -> None:
        """There may be something to send."""
        self._bell.set()

    # sessions ----------------------------------------------------------------------------------------------------

    def joined(self, line: Line) -> None:
        """A session that takes case messages is open: what waits goes out."""
        self._lines.append(line)
        self.ring()

    def left(self, line: Line) -> None:
        """It is over: what was under way on it goes out on another."""
        if line in self._lines:
            self._lines.remove(line)
        for case_id in [one for one, by in self._asked_by.items() if by is line]:
            del self._asked_by[case_id]
        self.ring()

    @property
    def lines(self) -> int:
        return len(self._lines)

    # arriving ----------------------------------------------------------------------------------------------------

    def arrived(self, line: Line, mail_id: bytes, case_id: str, body: bytes) -> None:
        """A gateway's message. Without a receipt the gateway sends it again, so a full queue may drop it."""
        self._asked_by[case_id] = line
        self._asked_by.move_to_end(case_id)
        if len(self._asked_by) > _MOST_REMEMBERED:
            self._asked_by.popitem(last=False)
        try:
            receiving = self._thread.call(self._desk.receive, mail_id, case_id, body)
        except Refusal:
            self._count("turned_away")
            return

        def received(done: asyncio.Future[Reason | None]) -> None:
            if done.cancelled():
                return
            error = done.exception()
            if error is None:
                reason = done.result()
                self._count("received" if reason is None else "never_taken")
                if reason is None and self._evidence is not None:
                    noting = asyncio.ensure_future(self._note(line, mail_id, case_id, body))
                    self._noting.add(noting)
                    noting.add_done_callback(self._noting.discard)
                else:
                    line.receipt(mail_id, "" if reason is None else reason.value)
            elif isinstance(error, Refusal):
                self._count("not_stored")  # the disk is full or locked: no receipt, it comes again
            else:
                self._count("failed")
                line.receipt(mail_id, Reason.INTERNAL.value)

        receiving.add_done_callback(received)

    async def _note(self, line: Line, mail_id: bytes, case_id: str, body: bytes) -> None:
        """Receipt what is in the evidence log; what can not be logged comes again."""
        assert self._evidence is not None
        try:
            await self._evidence.message(mail_id, case_id, body, is_arriving=True)
        except Exception:
            self._count("not_logged")
            return
        line.receipt(mail_id, "")

    def receipted(self, mail_id: bytes, reason: str) -> None:
        """A gateway's receipt. One that can not be written is asked for again by sending again."""
        try:
            writing = self._thread.call(self._desk.receipted, mail_id, reason)
        except Refusal:
            return

        def written(done: asyncio.Future[None]) -> None:
            if done.cancelled() or done.exception() is not None:
                self._count("receipt_lost")
                return
            self._sent.pop(mail_id, None)
            self._count("refused_by_gateway" if reason else "receipted")
            self.ring()

        writing.add_done_callback(written)

    # leaving -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            self._bell.clear()
            with contextlib.suppress(Refusal):  # the desk's file can not be read for a moment
                if self._lines:
                    await self._send(await self._thread.call(self._desk.outbox, _UNDER_WAY))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._bell.wait()

    async def _send(self, waiting: list[OutgoingMail]) -> None:
        now = asyncio.get_running_loop().time()
        known = {mail.id for mail in waiting}
        for gone in [one for one in self._sent if one not in known]:
            del self._sent[gone]
        for mail in waiting:
            sent = self._sent.get(mail.id)
            if sent is not None and sent.line in self._lines and now < sent.again_at:
                continue
            if sent is None and self._evidence is not None:
                try:
                    await self._evidence.message(mail.id, mail.case_id, mail.body, is_arriving=False)
                except Exception:  # tried again at the next look
                    self._count("not_logged")
                    continue
            line = self._line_for(mail.case_id)
            if line is not None and line.send(mail.id, mail.case_id, mail.body):
                self._sent[mail.id] = _Sent(line, now + AGAIN_AFTER_S)
                self._count("sent" if sent is None else "sent_again")

    def _line_for(self, case_id: str) -> Line | None:
        """The session through which the gateway spoke of the case last, else the newest."""
        asked = self._asked_by.get(case_id)
        if asked is not None and asked in self._lines:
            return asked
        return self._lines[-1] if self._lines else None
