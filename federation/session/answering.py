"""The answering end: the node agent's side of a session. Questions in, results out in any order and grouping."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import Protocol

from federation.session.base import LARGEST_FRAME, Observer, Session, known_reason
from federation.session.link import Link
from federation.wire.v1 import holdings_pb2 as pb

_LARGEST_RESULTS = LARGEST_FRAME - 4_096
CREDITS = 256
TURN_S = 0.010
"""How long questions of a session are begun before the event loop has its turn: a frame of quick look-ups is not quick
itself (up to 256 of about a millisecond), and beats, cancellings and the answers found so far should not wait for it.
"""
_BAD_FRAMES_ALLOWED = 3


class Responder(Protocol):
    """Answers questions. `begin` never raises and never blocks for longer than a quick look-up: it either calls `done`
    before it returns, or later, exactly once; the function it gives back cancels the work, which then is told to nobody.

    `turn` is around the questions begun in one turn of the loop, at most `TURN_S` and a look-up long: what they look up
    they may look up in one state. It never raises.
    """

    def begin(
        self, item: pb.QueryItem, ends_at: float, done: Callable[[pb.ResultItem], None]
    ) -> Callable[[], None] | None: ...

    def turn(self) -> AbstractContextManager[None]: ...

    def manifest(self) -> pb.Manifest: ...


class AnsweringSession(Session):
    """Answers over one link."""

    def __init__(self, link: Link, name: str, responder: Responder, *, observe: Observer) -> None:
        super().__init__(link, name, observe)
        self._responder = responder
        self._results: list[pb.ResultItem] = []
        self._empty: list[int] = []
        self._frames_received = 0
        self._acknowledged = 0
        self._waiting: OrderedDict[int, tuple[pb.QueryItem, float]] = OrderedDict()  # with the time it came
        self._turn: asyncio.Handle | None = None
        self._working: OrderedDict[int, Callable[[], None] | None] = OrderedDict()
        self._epoch = 0
        self._told_epoch = 0

    async def greet(self, hello: pb.Hello) -> pb.Hello:
        self._told_epoch = hello.manifest.index_epoch
        return await super().greet(hello)

    def tell_manifest(self, manifest: pb.Manifest) -> None:
        """Tell the asker that the holdings changed, if it was not told of this epoch last. Call it again and again: while
        the link does not move there may be no room for it.
        """
        if manifest.index_epoch == self._told_epoch:
            return
        beat = pb.Beat(
            sequence=self._beat, echo=self._echo, index_epoch=manifest.index_epoch, manifest=manifest
        )
        if self.post(pb.Frame(beat=beat)):
            self._told_epoch = manifest.index_epoch

    def drain(self, deadline_ms: int, reason: str) -> None:
        """Ask the other side to send nothing more; what is being worked on is still answered."""
        self.draining = True
        self.post(pb.Frame(drain=pb.Drain(deadline_ms=deadline_ms, reason=reason)))

    @property
    def working(self) -> int:
        return len(self._waiting) + len(self._working) + len(self._results) + len(self._empty)

    def _on_frame(self, frame: pb.Frame, kind: str | None) -> bool:
        match kind:
            case "queries":
                self._frames_received += 1
                now = asyncio.get_running_loop().time()
                for item in frame.queries.items:
                    self._take(item, now)
                if self._turn is None:
                    self._begin_some()
                self._wake.set()
            case "cancel":
                for cid in frame.cancel.cids:
                    self._waiting.pop(cid, None)
                    cancel = self._working.pop(cid, None)
                    if cancel is not None:
                        cancel()
            case "beat":
                pass
            case "drain":
                self.draining = True
            case "error":
                self._observe("session_error")
                self.refused = known_reason(frame.error.reason)
                return True
            case None:
                return self._on_bad_frame()
            case _:
                self._observe("unexpected_frame")
        return False

    def _take(self, item: pb.QueryItem, now: float) -> None:
        if len(self._waiting) + len(self._working) >= CREDITS:
            overloaded = pb.ResultItem(cid=item.cid, status=pb.STATUS_OVERLOADED, retry_after_ms=200)
            self._results.append(overloaded)
        else:
            self._waiting[item.cid] = item, now

    def _begin_some(self) -> None:
        """Begin what waits, first come first served, for one turn; the rest after the loop has had its own."""
        self._turn = None
        began = monotonic()
        with self._responder.turn():
            while self._waiting and not self.ended:
                cid, (item, came_at) = self._waiting.popitem(last=False)
                self._working[cid] = None
                cancel = self._responder.begin(item, came_at + item.budget_ms / 1000, self._done)
                if cid in self._working:
                    self._working[cid] = cancel
                if self._waiting and monotonic() - began >= TURN_S:
                    self._turn = asyncio.get_running_loop().call_soon(self._begin_some)
                    return

    def _done(self, result: pb.ResultItem) -> None:
        if result.cid not in self._working:
            return  # cancelled meanwhile
        del self._working[result.cid]
        if result.status == pb.STATUS_OK and not result.candidates:
            self._empty.append(result.cid)
            self._epoch = result.index_epoch
        else:
            self._results.append(result)
        self._wake.set()

    def _ready(self) -> bool:
        return bool(
            self._results or self._empty or self._control or self._acknowledged < self._frames_received
        )

    def _gather(self) -> list[bytes]:
        messages = []
        while self._results or self._empty or self._acknowledged < self._frames_received:
            frame = pb.Frame()
            results = frame.results
            results.frames_received = self._frames_received
            results.index_epoch = self._epoch
            results.empty_cids.extend(self._empty)
            self._empty = []
            size, taken = 0, 0
            for item in self._results:
                size += item.ByteSize() + 8
                if taken and size > _LARGEST_RESULTS:
                    break
                taken += 1
            results.items.extend(self._results[:taken])
            del self._results[:taken]
            self._acknowledged = self._frames_received
            messages.append(frame.SerializeToString())
        return messages

    def _fill_beat(self, beat: pb.Beat) -> None:
        beat.index_epoch = self._epoch

    def _on_bad_frame(self) -> bool:
        self._observe("bad_frame")
        self.bad_frames += 1
        return self.bad_frames >= _BAD_FRAMES_ALLOWED

    def _on_end(self) -> None:
        self._waiting.clear()
        for cancel in self._working.values():
            if cancel is not None:
                cancel()
        self._working.clear()
