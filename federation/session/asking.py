"""The asking end: the gateway's side of a session with one archive.

Sub-requests gather and leave in one frame when the window opens: at once while fewer than two frames are not yet
received by the other side, else together. A sub-request ends exactly once: by its result, by its budget, by cancelling,
or with the session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from federation.session.base import LARGEST_FRAME, Observer, Session
from federation.session.link import Link
from federation.session.timers import TimerWheel
from federation.wire.v1 import holdings_pb2 as pb

WINDOW_FRAMES = 2
MOST_ITEMS = 256
_MOST_BYTES = LARGEST_FRAME // 2
MOST_QUEUED = 4_096
BAD_FRAMES_ALLOWED = 3


@dataclass(slots=True)
class Asked:
    """One sub-request in this session. `on_result` is called with the result item, or None when the budget ended."""

    query: bytes
    subrequest_id: bytes
    ends_at: float  # loop time
    soft_at: float
    max_candidates: int
    on_result: Callable[[pb.ResultItem | None], None]
    on_lost: Callable[[], None]
    cid: int = 0
    sent: bool = False


class AskingSession(Session):
    """Asks over one link. Not thread-safe; lives on the event loop."""

    def __init__(
        self,
        link: Link,
        name: str,
        wheel: TimerWheel,
        *,
        on_manifest: Callable[[pb.Manifest], bool],
        observe: Observer,
    ) -> None:
        super().__init__(link, name)
        self._wheel = wheel
        self._on_manifest = on_manifest
        self._observe = observe
        self._queue: deque[Asked] = deque()
        self._open: dict[int, Asked] = {}
        self._cancelled: list[int] = []
        self._next_cid = 1
        self._frames_sent = 0
        self._frames_received = 0
        self.credits = 256
        self.index_epoch = 0

    @property
    def in_flight(self) -> int:
        return len(self._open)

    def ask(self, asked: Asked) -> bool:
        """Queue a sub-request; False when this session can take no more (then nothing of it is kept)."""
        if self.ended or self.draining or len(self._queue) >= MOST_QUEUED or len(self._open) >= self.credits:
            return False
        asked.cid = self._next_cid
        self._next_cid = self._next_cid % 0xFFFFFFF0 + 1
        self._open[asked.cid] = asked
        self._queue.append(asked)
        self._wake.set()
        self._wheel.arm(asked.ends_at - asyncio.get_running_loop().time(), lambda: self._expire(asked))
        return True

    def cancel(self, asked: Asked) -> None:
        """Forget a sub-request; the other side is told if it already has it."""
        if self._open.pop(asked.cid, None) is not None and asked.sent and not self.ended:
            self._cancelled.append(asked.cid)
            self._wake.set()

    def _expire(self, asked: Asked) -> None:
        if self._open.get(asked.cid) is asked:
            self.cancel(asked)
            asked.on_result(None)

    def _ready(self) -> bool:
        window = self._frames_sent - self._frames_received < WINDOW_FRAMES
        return bool(self._cancelled or self._control or (self._queue and window))

    def _gather(self) -> list[pb.Frame]:
        frames = []
        if self._cancelled:
            frames.append(pb.Frame(cancel=pb.Cancel(cids=self._cancelled)))
            self._cancelled = []
        if self._queue and self._frames_sent - self._frames_received < WINDOW_FRAMES:
            frame = self._next_frame()
            if frame is not None:
                frames.append(frame)
                self._frames_sent += 1
        return frames

    def _next_frame(self) -> pb.Frame | None:
        now = asyncio.get_running_loop().time()
        frame = pb.Frame()
        items = frame.queries.items
        size = 0
        while self._queue and len(items) < MOST_ITEMS and size < _MOST_BYTES:
            asked = self._queue.popleft()
            if asked.cid not in self._open or asked.ends_at <= now:
                continue  # cancelled or expired while it waited: its timer tells the caller
            items.add(
                cid=asked.cid,
                subrequest_id=asked.subrequest_id,
                budget_ms=max(1, int((asked.ends_at - now) * 1000)),
                soft_ms=max(1, int((asked.soft_at - now) * 1000)),
                max_candidates=asked.max_candidates,
                query=asked.query,
            )
            asked.sent = True
            size += len(asked.query) + 40
        return frame if items else None

    def _on_frame(self, frame: pb.Frame) -> bool:
        match frame.WhichOneof("body"):
            case "results":
                self._on_results(frame.results)
            case "beat":
                self.index_epoch = max(self.index_epoch, frame.beat.index_epoch)
                if frame.beat.HasField("manifest"):
                    return not self._on_manifest(frame.beat.manifest)
            case "credit":
                self.credits = min(MOST_QUEUED, frame.credit.subrequests)
            case "drain":
                self.draining = True
                self._observe("drain")
            case "error":
                self._observe("session_error")
                return True
            case None:
                return self._on_bad_frame()
            case _:
                self._observe("unexpected_frame")
        return False

    def _on_results(self, results: pb.Results) -> None:
        if results.frames_received:
            self._frames_received = min(self._frames_sent, results.frames_received)
            self._wake.set()
        self.index_epoch = max(self.index_epoch, results.index_epoch)
        for item in results.items:
            self._settle(item.cid, item)
        for cid in results.empty_cids:
            self._settle(cid, pb.ResultItem(cid=cid, status=pb.STATUS_OK, index_epoch=results.index_epoch))

    def _settle(self, cid: int, item: pb.ResultItem) -> None:
        asked = self._open.pop(cid, None)
        if asked is None:
            self._observe("late_result")
            return
        asked.on_result(item)

    def _on_bad_frame(self) -> bool:
        self._observe("bad_frame")
        self.bad_frames += 1
        return self.bad_frames >= BAD_FRAMES_ALLOWED

    def _on_end(self) -> None:
        lost: Sequence[Asked] = list(self._open.values())
        self._open.clear()
        self._queue.clear()
        for asked in lost:
            asked.on_lost()
