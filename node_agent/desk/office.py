"""The desk as a running part of the agent: its thread, its courier, and the loops that keep its time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from federation.reasons import Refusal
from node_agent import telemetry
from node_agent.desk.courier import Courier, Evidence
from node_agent.desk.desk import Desk
from node_agent.desk.issuing import Document, IssueDeferredError, Issuer, Order
from node_agent.desk.items import OPEN, State
from node_agent.desk.messenger import Messenger
from node_agent.desk.thread import DeskThread
from node_agent.desk.users import NOT_NAMES

TICK_EVERY_S = 1.0
MEASURE_EVERY_S = 2.0
POLL_EVERY_S = 0.2
"""How soon the agent notices what `lantai-node desk` did; a look costs some microseconds."""


class Office:
    """Runs one desk. `loops` are to be run as named tasks; `close` after they have ended."""

    def __init__(
        self, desk: Desk, issuer: Issuer, messenger_key: bytes, evidence: Evidence | None = None
    ) -> None:
        self.desk, self._issuer = desk, issuer
        self.thread = DeskThread()
        self.courier = Courier(desk, self.thread, _count, evidence)
        self.messenger = Messenger(desk, self.thread, messenger_key)
        self._counted = desk.store.last_action()
        self._issuing = ThreadPoolExecutor(1, thread_name_prefix="issuing")
        self._to_issue = asyncio.Event()
        self._told: set[str] = set()
        self._watchers: list[Callable[[], None]] = []
        loop = asyncio.get_running_loop()

        def changed() -> None:  # in the desk's thread
            loop.call_soon_threadsafe(self._changed)

        self._stop_listening = desk.on_change(changed)
        desk.on_unreadable = partial(_count, "unreadable")

    def loops(self) -> dict[str, Awaitable[None]]:
        """Name -> what to run until the process stops."""
        return {
            "desk outbox": self.courier.run(),
            "desk clock": self._keep_time(),
            "desk poll": self._poll(),
            "desk issuing": self._issue(),
            "desk calls": self.messenger.run(),
            "desk counts": self._measure(),
        }

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called on the loop after every change of the desk; call what is returned to end that."""
        self._watchers.append(listener)
        return lambda: self._watchers.remove(listener)

    def _changed(self) -> None:
        self.courier.ring()
        self.messenger.ring()
        self._to_issue.set()
        for listener in list(self._watchers):
            listener()

    async def _keep_time(self) -> None:
        """Leases end, waiting items are shown to more people, whether a gateway is there or not."""
        while True:
            with contextlib.suppress(
                Refusal
            ):  # the file can not be written for a moment; the next tick does it
                await self.thread.call(self.desk.tick)
            await asyncio.sleep(TICK_EVERY_S)

    async def _poll(self) -> None:
        """Notice what another process did to the desk's file."""
        while True:
            await asyncio.sleep(POLL_EVERY_S)
            with contextlib.suppress(Refusal):
                await self.thread.call(self.desk.poll)

    async def _measure(self) -> None:
        """Show what is open, what waits and what was done, whichever process did it."""
        while True:
            with contextlib.suppress(Refusal):
                await self.thread.call(self._show)
            telemetry.DESK_SESSIONS.set(self.courier.lines)
            await asyncio.sleep(MEASURE_EVERY_S)

    def _show(self) -> None:
        store, now = self.desk.store, self.desk.now_ms()
        counts = store.counts()
        for state in sorted(OPEN | {State.ISSUING}):
            telemetry.DESK_ITEMS.labels(state=state.value).set(counts.get(state.value, 0))
        oldest = store.oldest_waiting_ms()
        telemetry.DESK_OLDEST.set(0 if oldest is None else max(0, now - oldest) / 1000)
        waiting, since = store.waiting_count()
        telemetry.DESK_OUTBOX.set(waiting)
        telemetry.DESK_OUTBOX_AGE.set(max(0, now - since) / 1000 if waiting else 0)
        while done := store.done_after(self._counted):
            for _seq, actor, action in done:
                by = actor if actor in NOT_NAMES else "person"
                telemetry.DESK_ACTIONS.labels(action=action, by=by).inc()
            self._counted = done[-1][0]

    async def _issue(self) -> None:
        """Make documents of decisions, one after the other, the longest waiting first."""
        while True:
            self._to_issue.clear()
            with contextlib.suppress(Refusal):
                for order in await self.thread.call(self.desk.orders):
                    await self._issue_one(order)
                for order, announced in await self.thread.call(self.desk.in_vain):
                    await self._take_back(order, announced=announced)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_EVERY_S):
                    await self._to_issue.wait()

    async def _issue_one(self, order: Order) -> None:
        loop = asyncio.get_running_loop()
        try:
            document: Document = await loop.run_in_executor(self._issuing, self._issuer.issue, order)
        except IssueDeferredError as error:
            self._tell(error.kind, error.text)
            await self.thread.call(self.desk.not_issued, order, error.kind, error.retry_after_s)
        except Exception as error:
            _count("not_issued")
            telemetry.log.error("issuing failed", action="desk.issuing_failed", kind=type(error).__name__)
            await self.thread.call(self.desk.not_issued, order, "failed")
        else:
            self._told.clear()
            if await self.thread.call(self.desk.issued, order, document):
                _count("issued")  # else it is taken back below, as after a crash between the two

    def _tell(self, kind: str, text: str) -> None:
        """Why no document is made: each kind once until one was made, however many orders wait for it."""
        _count("not_issued")
        if kind not in self._told:
            self._told.add(kind)
            telemetry.log.warning("no document made", action="desk.not_issued", kind=kind, reason=text)

    async def _take_back(self, order: Order, *, announced: bool) -> None:
        """In the thread that makes documents, so that none is being made meanwhile. What fails is tried again."""
        loop = asyncio.get_running_loop()
        work = partial(self._issuer.take_back, order, announced=announced)
        try:
            number = await loop.run_in_executor(self._issuing, work)
        except Exception as error:
            kind = error.reason.value if isinstance(error, Refusal) else type(error).__name__
            telemetry.log.error("not taken back", action="desk.not_taken_back", kind=kind)
            return
        await self.thread.call(self.desk.taken_back, order, number)
        if number:
            _count("issued_in_vain")

    def close(self) -> None:
        """Finish what is being written and close the file."""
        self._stop_listening()
        self._issuing.shutdown(wait=True, cancel_futures=True)
        self.thread.close()
        self.desk.store.close()


def _count(event: str) -> None:
    telemetry.DESK_EVENTS.labels(event=event).inc()
