"""The asking end: the gateway's side of a session with one archive.

Sub-requests gather and leave in one frame when the window opens: at once while fewer than two frames are not yet
received by the other side, else together. A sub-request ends exactly once: by its result, by its budget, by cancelling,
or with the session. What is alike for all archives of one search, its encoding and its timer, is made once in its `Item`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

from federation.session.base import LARGEST_FRAME, Observer, Session, known_reason
from federation.session.link import Link
from federation.session.timers import Timer, TimerWheel
from federation.wire.v1 import holdings_pb2 as pb

WINDOW_FRAMES = 2
MOST_ITEMS = 256
_MOST_BYTES = LARGEST_FRAME // 2
MOST_QUEUED = 4_096
BAD_FRAMES_ALLOWED = 3

REUSED_S: Final = 0.002
"""How long an encoded item is used again; its budget is stamped that much short, so that no archive is told too much."""

_cids = count(1)


class Item:
    """One question of one search, as all its sessions send it. `ends_at` and `soft_at` are loop time."""

    __slots__ = (
        "_encoded", "_encoded_at", "_timer", "_waiting", "asked", "cid", "ends_at", "max_candidates", "query", "soft_at",
        "subrequest_id",
    )  # fmt: skip

    def __init__(
        self, query: bytes, subrequest_id: bytes, ends_at: float, soft_at: float, max_candidates: int
    ) -> None:
        self.query, self.subrequest_id = query, subrequest_id
        self.ends_at, self.soft_at, self.max_candidates = ends_at, soft_at, max_candidates
        self.cid = (next(_cids) - 1) % 0xFFFFFFF0 + 1  # unique in every session, because it is in the process
        self.asked: list[Asked] = []
        self._waiting = 0
        self._timer: Timer | None = None
        self._encoded = b""
        self._encoded_at = float("-inf")

    def encoded(self, now: float) -> bytes:
        """The item as a field of a Queries message; its budget holds for the next `REUSED_S`."""
        if now - self._encoded_at > REUSED_S:
            short = now + REUSED_S
            item = pb.QueryItem(
                cid=self.cid,
                subrequest_id=self.subrequest_id,
                budget_ms=max(1, int((self.ends_at - short) * 1000)),
                soft_ms=max(1, int((self.soft_at - short) * 1000)),
                max_candidates=self.max_candidates,
                query=self.query,
            ).SerializeToString()
            self._encoded = b"\x0a" + _varint(len(item)) + item  # field 1, length-delimited
            self._encoded_at = now
        return self._encoded

    def opened(self, asked: Asked, wheel: TimerWheel, now: float) -> None:
        """One more session has the question; the first one arms the timer for all."""
        self.asked.append(asked)
        self._waiting += 1
        if self._timer is None:
            self._timer = wheel.arm(self.ends_at - now, self._expire)

    def settled(self) -> None:
        """One session is done with it; after the last it waits for nothing."""
        self._waiting -= 1
        if not self._waiting:
            self.asked.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _expire(self) -> None:
        self._timer = None
        for asked in list(self.asked):
            try:
                asked.expire()
            except Exception as error:  # the others are told all the same
                told = {"message": "telling of a budget's end failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(told)


class Asked:
    """One question in one session. Subclasses say what to do when it ends: exactly one of the three methods is called."""

    __slots__ = ("_session", "is_open", "item", "sent")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.is_open = self.sent = False
        self._session: AskingSession | None = None

    def on_result(self, result: pb.ResultItem | None) -> None:
        """The archive's result; None when the budget ended first."""
        raise NotImplementedError

    def on_empty(self, index_epoch: int) -> None:
        """The archive found nothing; the same as an empty result, told without building one."""
        raise NotImplementedError

    def on_lost(self) -> None:
        """The session ended under it."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Forget it; the other side is told if it already has it. Nothing when it has ended."""
        if self.is_open and self._session is not None:
            self._session.cancel(self)

    def expire(self) -> None:
        """Its budget has ended."""
        if self.is_open:
            self.cancel()
            self.on_result(None)


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
        super().__init__(link, name, observe)
        self._wheel = wheel
        self._on_manifest = on_manifest
        self._queue: deque[Asked] = deque()
        self._open: dict[int, Asked] = {}
        self._cancelled: list[int] = []
        self._frames_sent = 0
        self._frames_received = 0
        self.credits = 256
        self.index_epoch = 0  # the newest the other side has told of, with a beat or an answer

    @property
    def in_flight(self) -> int:
        return len(self._open)

    def ask(self, asked: Asked, now: float) -> bool:
        """Queue a sub-request at `now` of the loop's time; False when this session can take no more (then nothing of it
        is kept).
        """
        if self.ended or self.draining or len(self._queue) >= MOST_QUEUED or len(self._open) >= self.credits:
            return False
        asked._session = self
        asked.is_open = True
        item = asked.item
        self._open[item.cid] = asked
        self._queue.append(asked)
        self._wake.set()
        item.opened(asked, self._wheel, now)
        return True

    def cancel(self, asked: Asked) -> None:
        """Forget a sub-request that is open here."""
        if self._take(asked.item.cid) is not None and asked.sent and not self.ended:
            self._cancelled.append(asked.item.cid)
            self._wake.set()

    def _take(self, cid: int) -> Asked | None:
        """End the sub-request's life in this session; None when it has none."""
        asked = self._open.pop(cid, None)
        if asked is not None:
            asked.is_open = False
            asked.item.settled()
        return asked

    def _ready(self) -> bool:
        window = self._frames_sent - self._frames_received < WINDOW_FRAMES
        return bool(self._cancelled or self._control or (self._queue and window))

    def _gather(self) -> list[bytes]:
        messages = []
        if self._cancelled:
            messages.append(pb.Frame(cancel=pb.Cancel(cids=self._cancelled)).SerializeToString())
            self._cancelled = []
        if self._queue and self._frames_sent - self._frames_received < WINDOW_FRAMES:
            message = self._next_frame()
            if message:
                messages.append(message)
                self._frames_sent += 1
        return messages

    def _next_frame(self) -> bytes:
        """What has gathered, as one serialised Frame of Queries; empty when all of it has ended meanwhile."""
        now = asyncio.get_running_loop().time()
        queue = self._queue
        items: list[bytes] = []
        size = 0
        while queue and len(items) < MOST_ITEMS and size < _MOST_BYTES:
            asked = queue.popleft()
            if not asked.is_open or asked.item.ends_at <= now:
                continue  # cancelled or expired while it waited: its timer tells the caller
            data = asked.item.encoded(now)
            items.append(data)
            size += len(data)
            asked.sent = True
        return queries_frame(items) if items else b""

    def _on_frame(self, frame: pb.Frame, kind: str | None) -> bool:
        match kind:
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
                self.refused = known_reason(frame.error.reason)
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
        epoch = results.index_epoch
        self.index_epoch = max(self.index_epoch, epoch)
        for item in results.items:
            self.index_epoch = max(self.index_epoch, item.index_epoch)
            asked = self._take(item.cid)
            if asked is None:
                self._observe("late_result")
            else:
                asked.on_result(item)
        for cid in results.empty_cids:
            asked = self._take(cid)
            if asked is None:
                self._observe("late_result")
            else:
                asked.on_empty(epoch)

    def _on_bad_frame(self) -> bool:
        self._observe("bad_frame")
        self.bad_frames += 1
        return self.bad_frames >= BAD_FRAMES_ALLOWED

    def _on_end(self) -> None:
        lost: Sequence[Asked] = list(self._open.values())
        self._queue.clear()
        for asked in lost:
            self._take(asked.item.cid)
        for asked in lost:
            try:
                asked.on_lost()
            except Exception as error:  # the others are told all the same
                self._fault(error, f"{self._name} end")


def queries_frame(items: Sequence[bytes]) -> bytes:
    """A serialised Frame of Queries, put together from items that are encoded already."""
    body = b"".join(items)
    return b"\x12" + _varint(len(body)) + body  # field 2 of Frame, length-delimited


def _varint(value: int) -> bytes:
    """A base-128 varint, as protobuf writes lengths."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
