"""What both ends of a session do alike: one reader, one writer, beats, and noticing the death of any of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from google.protobuf.message import DecodeError

from federation.reasons import Reason
from federation.session.link import Link, LinkLostError, first_message
from federation.wire.v1 import holdings_pb2 as pb

PROTOCOL: Final = 1
BEAT_EVERY_S = 5.0
DEAD_AFTER_S = 15.0
HELLO_WITHIN_S = 2.0
LARGEST_FRAME = 256 * 1024
MOST_WAITING_FRAMES = 64
MOST_WAITING_MAILS = 256
MOST_WAITING_RECEIPTS, LONGEST_MAIL_ID = 4_096, 64
"""A receipt beyond these is dropped: who sends messages and reads no receipts fills no memory here. An id has 16 bytes."""

CASES: Final = "cases"
"""Feature of a HELLO: this side takes case messages."""
DOCUMENTS: Final = "documents"
"""Feature of a HELLO: this side issues documents and gives them over the bulk stream."""


_REASONS = frozenset(Reason)
_Item = TypeVar("_Item", pb.Mail, pb.Receipt)


class SessionEndedError(Exception):
    """The session is over; `reason` is of the closed list or "" for a lost link."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "link lost")
        self.reason = reason


class Session:
    """The shared half. Subclasses handle frames in `_on_frame` and gather outgoing ones in `_gather`."""

    def __init__(self, link: Link, name: str, observe: Observer) -> None:
        self._link = link
        self._name = name
        self._observe = observe
        self._wake = asyncio.Event()
        self._control: list[pb.Frame] = []
        self._heard_at = 0.0
        self._beat = 0
        self._echo = 0
        self.draining = False
        self.ended = False
        self.bad_frames = 0
        self.hello: pb.Hello | None = None
        self.refused = ""  # why the other side ended the session, as a reason
        self._mails: deque[pb.Mail] = deque()
        self._receipts: deque[pb.Receipt] = deque()
        self.on_mail: Callable[[pb.Mail], None] | None = None
        self.on_receipt: Callable[[pb.Receipt], None] | None = None

    async def greet(self, hello: pb.Hello) -> pb.Hello:
        """Exchange HELLO; SessionEndedError when the other side says none in time or speaks no common version."""
        await self._send(pb.Frame(hello=hello))
        try:
            frame = pb.Frame.FromString(await first_message(self._link, HELLO_WITHIN_S))
        except TimeoutError:
            raise SessionEndedError(Reason.OUT_OF_TIME.value) from None
        except LinkLostError as error:
            raise SessionEndedError(_refused_by(error)) from error
        except DecodeError as error:
            await self._link.close()
            raise SessionEndedError(Reason.BAD_FRAME.value) from error
        if frame.WhichOneof("body") == "error":
            raise SessionEndedError(known_reason(frame.error.reason))
        if frame.WhichOneof("body") != "hello":
            raise SessionEndedError(Reason.BAD_FRAME.value)
        other = frame.hello
        if not other.protocol_min <= PROTOCOL <= other.protocol_max:
            await self.refuse(Reason.PROTOCOL_VERSION)
            raise SessionEndedError(Reason.PROTOCOL_VERSION.value)
        self.hello = other
        return other

    async def refuse(self, reason: Reason) -> None:
        """Tell the other side why, and close."""
        with contextlib.suppress(LinkLostError):
            await self._link.send(pb.Frame(error=pb.SessionError(reason=reason.value)).SerializeToString())
        await self._link.close()

    async def _send(self, frame: pb.Frame) -> None:
        try:
            await self._link.send(frame.SerializeToString())
        except LinkLostError as error:
            raise SessionEndedError(_refused_by(error)) from error

    async def run(self) -> None:
        """Serve the session until it ends; returns then. Every task of it is named and its end ends the others.

        An error that is no loss of the link is a fault of this process: it ends the session too, is counted as `fault`, and
        told to the loop's exception handler, which logs its kind and where it was raised.
        """
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        beats = asyncio.create_task(self._beats(), name=f"{self._name} beats")
        tasks = {
            asyncio.create_task(self._read(), name=f"{self._name} reader"),
            asyncio.create_task(self._write(), name=f"{self._name} writer"),
            beats,
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.ended = True
            self._wake.set()
            try:
                self._on_end()  # whoever waits is told at once, not when the transport has wound up
            except Exception as error:
                self._fault(error, f"{self._name} end")
            beats.cancel()
            await self._link.close()  # ends reader and writer; they are never cancelled inside the transport
            await asyncio.shield(self._finish(tasks))

    async def _finish(self, tasks: set[asyncio.Task[None]]) -> None:
        _, stuck = await asyncio.wait(tasks, timeout=2.0)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                self._fault(error, task.get_name())

    def _fault(self, error: BaseException, what: str) -> None:
        self._observe("fault")
        asyncio.get_running_loop().call_exception_handler({"message": f"{what} failed", "exception": error})

    async def close(self) -> None:
        """End the session now; what is in flight is lost."""
        self.ended = True
        self._wake.set()
        await self._link.close()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.ended:
            try:
                data = await self._link.receive()
            except LinkLostError:
                return
            self._heard_at = loop.time()
            try:
                frame = pb.Frame.FromString(data)
            except DecodeError:
                if self._on_bad_frame():
                    return
                continue
            kind = frame.WhichOneof("body")
            match kind:
                case "beat":
                    self._echo = frame.beat.sequence
                case "mails" if self.on_mail is not None:
                    for mail in frame.mails.items:
                        self.on_mail(mail)
                    continue
                case "receipts" if self.on_receipt is not None:
                    for receipt in frame.receipts.items:
                        self.on_receipt(receipt)
                    continue
            if self._on_frame(frame, kind):
                return

    async def _write(self) -> None:
        while True:
            control, self._control = self._control, []
            messages = [frame.SerializeToString() for frame in control]
            messages += self._gather_mail()
            messages += self._gather()
            for message in messages:
                try:
                    await self._link.send(message)
                except LinkLostError:
                    return
            if self.ended:
                return
            if not messages:
                self._wake.clear()
                if not self._ready() and not self._mails and not self._receipts:
                    await self._wake.wait()

    async def _beats(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.ended:
            before = loop.time()
            await asyncio.sleep(BEAT_EVERY_S)
            if loop.time() - self._heard_at > DEAD_AFTER_S:
                return
            lag = max(0.0, loop.time() - before - BEAT_EVERY_S)
            self._beat += 1
            beat = pb.Beat(sequence=self._beat, loop_lag_ms=int(lag * 1000), echo=self._echo)
            self._fill_beat(beat)
            self.post(pb.Frame(beat=beat))

    def post(self, frame: pb.Frame) -> bool:
        """Queue a control frame before everything else; False when the queue is full (the link does not move)."""
        if len(self._control) >= MOST_WAITING_FRAMES:
            return False
        self._control.append(frame)
        self._wake.set()
        return True

    # case messages ---------------------------------------------------------------------------------------------

    @property
    def takes_cases(self) -> bool:
        """Whether the other side takes case messages."""
        return self.hello is not None and CASES in self.hello.features and not self.ended

    def mail(self, mail: pb.Mail) -> bool:
        """Queue a case message; False when this session can not take it now. Its sender keeps it until the receipt."""
        if not self.takes_cases or len(self._mails) >= MOST_WAITING_MAILS:
            return False
        self._mails.append(mail)
        self._wake.set()
        return True

    def receipt(self, mail_id: bytes, reason: str = "") -> None:
        """Tell the other side that its message is durable here, or, with a reason, that it will never be taken. Dropped, and
        counted, where too many wait: the message comes again.
        """
        if len(self._receipts) >= MOST_WAITING_RECEIPTS or len(mail_id) > LONGEST_MAIL_ID:
            self._observe("receipt_dropped")
            return
        self._receipts.append(pb.Receipt(id=mail_id, reason=reason))
        self._wake.set()

    def _gather_mail(self) -> list[bytes]:
        messages = []
        if self._receipts:
            frame = pb.Frame(receipts=pb.Receipts(items=_of_one_frame(self._receipts)))
            messages.append(frame.SerializeToString())
        if self._mails:
            messages.append(pb.Frame(mails=pb.Mails(items=_of_one_frame(self._mails))).SerializeToString())
        return messages

    def _gather(self) -> list[bytes]:
        """Frames to send now, serialised."""
        raise NotImplementedError

    def _ready(self) -> bool:
        """Whether `_gather` would give something now."""
        raise NotImplementedError

    def _on_frame(self, frame: pb.Frame, kind: str | None) -> bool:
        """Handle a frame whose body is of `kind` (None: of no kind known here); True ends the session."""
        raise NotImplementedError

    def _on_bad_frame(self) -> bool:
        """Count a frame that could not be parsed; True ends the session."""
        raise NotImplementedError

    def _fill_beat(self, beat: pb.Beat) -> None:
        """Add what this side reports with a beat."""

    def _on_end(self) -> None:
        """Settle what is still open."""


def _of_one_frame(waiting: deque[_Item]) -> list[_Item]:
    """Take the first of what waits, as many as one frame has room for, one at least."""
    taken: list[_Item] = []
    size = 0
    while waiting and (not taken or size + waiting[0].ByteSize() < LARGEST_FRAME // 2):
        size += waiting[0].ByteSize() + 8
        taken.append(waiting.popleft())
    return taken


def known_reason(text: str) -> str:
    """A peer's reason only if it is of the closed list: free text of a peer goes nowhere."""
    return text if text in _REASONS else Reason.POLICY.value


def _refused_by(error: LinkLostError) -> str:
    """Why a stream was not taken at all: both sides turn away who shows no proper certificate by this one status."""
    return Reason.NOT_A_MEMBER.value if str(error) == "permission_denied" else ""


Observer = Callable[[str], None]
"""Told a constant word for what happened: late_result, unknown_cid, bad_candidate …; counted, never logged with content."""
