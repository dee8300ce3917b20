"""The engine: takes due tasks, has them done (`tasks.py`), and writes what came of it; lets the clock look at cases when due.

Work is done at least once and takes effect exactly once: a result is written only under the lease it was done with, and
every effect outside carries an identifier derived from the task.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from federation.reasons import Reason, Refusal
from gateway.cases.case import HOOK, MAIL, SEARCH, Task
from gateway.cases.machine import TICK
from gateway.cases.ports import CaseObserver, Desks, Evidence, Hooks, Locator, NoEvidence
from gateway.cases.store import Done, Store, Unit
from gateway.cases.tasks import Read, Tasks
from gateway.cases.writer import Writer

MOST_RUNNING = 64
"""Tasks of one lane being worked at a time; what came of them is then written without a place, in batches with others. Calls
to platforms have a lane of their own: theirs can hang, ours must not wait.
"""

_CLAIM = 64
_READERS = 4
_MOST_BACKLOG = 4_096
_POISON_S = 60.0
"""A case the clock can not look at is left for this long, so that it holds up no other."""

_LONGEST_TROUBLE_S = 1.0
_TICKS = 256
_LONGEST_NAP_S, _LONGEST_SHARED_NAP_S = 10.0, 1.0
"""Where one process owns the store only the operator's commands ring no bell; where replicas share it, their orders too."""


class _Lane:
    """Tasks of some kinds: those being done or written, of them `working` in a place, and those leased that wait for one."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds
        self.running: set[asyncio.Task[None]] = set()
        self.working = 0
        self.backlog: list[tuple[Task, bytes]] = []
        self.was_full = False

    @property
    def free(self) -> int:
        return MOST_RUNNING - self.working - len(self.backlog)


class Engine:
    """Runs the tasks and the clock of one gateway process. `run` serves until cancelled; `drain` ends gently."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        locator: Locator,
        desks: Desks,
        hooks: Hooks,
        observer: CaseObserver,
        *,
        read: Read | None = None,
        longest_nap_s: float | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        self._store, self._writer = store, writer
        self._observer = observer
        self.read: Read = read or _Readers()
        self._tasks = Tasks(
            store, writer, locator, desks, hooks, observer, evidence or NoEvidence(), self.read
        )
        self._longest_nap_s = longest_nap_s or (
            _LONGEST_NAP_S if store.is_exclusive else _LONGEST_SHARED_NAP_S
        )
        self._wake = asyncio.Event()
        self._looks_at_ms: float = math.inf
        self._idle = 0
        work, calls = _Lane((SEARCH, MAIL)), _Lane((HOOK,))
        self._lanes = (work, calls)
        self._lane_of = {SEARCH: work, MAIL: work, HOOK: calls}
        self._leases: dict[tuple[str, int], float] = {}
        self._leased = asyncio.Event()
        self._draining = False
        self.on_change: Callable[[str, Done], None] = lambda _case_id, _done: None

    # for the feature -------------------------------------------------------------------------------------------

    async def happen(self, unit: Unit) -> Done:
        """Write one unit, and start at once what it ordered."""
        return await self.begin(unit)

    def begin(self, unit: Unit) -> asyncio.Future[Done]:
        """The same for whoever does not wait: the future of its end, whose orders are started before it is told."""
        writing = self._writer.submit(unit)

        def written(done: asyncio.Future[Done]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._after(unit.case_id, done.result())

        writing.add_done_callback(written)
        return writing

    @property
    def is_busy(self) -> bool:
        """Whether new cases should be turned away for a moment."""
        return self._writer.is_busy or any(len(lane.backlog) > _MOST_BACKLOG for lane in self._lanes)

    def _after(self, case_id: str, done: Done) -> None:
        if done.entries:
            for entry in done.entries:
                self._observer.happened(entry.kind.value, entry.stage)
            for stage, ms in done.left:
                self._observer.stage_ended(stage, ms / 1000)
            if done.stopped is not None:
                self._observer.stopped(
                    done.stopped.outcome, done.stopped.scope, done.stopped.counted_ms / 1000
                )
            self.on_change(case_id, done)
        if done.next_ms and done.next_ms < self._looks_at_ms:
            self._wake.set()  # it is due before the next look that was planned
        for task in done.tasks:
            self._start(task, done.raw)

    def archive_returned(self, archive: str) -> None:
        """A session opened: what waits for this archive is due now, messages and searches alike."""

        def woken(done: asyncio.Future[None]) -> None:
            if done.cancelled() or done.exception() is None:
                self._wake.set()

        self._writer.call(lambda store: store.wake(archive)).add_done_callback(woken)

    def receipted(self, archive: str, name: bytes, reason: str) -> bool:
        """What a desk says of a message it was sent: `Tasks.receipted`."""
        return self._tasks.receipted(archive, name, reason)

    def unreadable(self, count: int) -> None:
        """So many rows that a scorecard or an estimate needs can be read by nobody: they are left out, the operator must look."""
        for _row in range(count):
            self._observer.task_failed("scorecard")

    # serving ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take due tasks and let the clock tick, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve(), name="case engine")
            group.create_task(self._extend(), name="case leases")

    async def _serve(self) -> None:
        """While the store is in trouble nothing is done and nothing is lost: look again, a little later each time."""
        trouble = 0.0
        while True:
            self._wake.clear()
            self._looks_at_ms = math.inf
            try:
                if await self._round():
                    self._idle = 0
                else:
                    await self._nap()
                trouble = 0.0
            except Refusal:
                self._observer.task_failed("store")
                trouble = min(_LONGEST_TROUBLE_S, max(0.05, 2 * trouble))
                await asyncio.sleep(trouble)

    async def _round(self) -> bool:
        """One look at what is due; whether any of it went on."""
        due = await self.read(lambda: self._store.due_cases(_TICKS))
        results = await asyncio.gather(
            *[self._writer.submit(Unit(case_id, TICK)) for case_id in due], return_exceptions=True
        )
        went_on, refusal, unreadable = False, None, []
        for case_id, done in zip(due, results, strict=True):
            if isinstance(done, Done):
                went_on = went_on or bool(done.entries)
                self._after(case_id, done)
            elif isinstance(done, Refusal):
                refusal = refusal or done
            else:
                unreadable.append(case_id)
        if refusal is not None:  # only now: what the other ticks wrote has been told
            raise refusal
        for case_id in unreadable:
            await self._put_off(case_id)
        return bool(await self._claim()) or went_on

    async def _put_off(self, case_id: str) -> None:
        """A case that can not be read or ticked is for the operator; all others go on."""
        self._observer.task_failed("tick")
        until = self._store.now_ms() + int(_POISON_S * 1000)
        await self._writer.call(lambda store: store.put_off(case_id, until))

    async def _claim(self) -> int:
        """Lease and start due tasks for the free places of every lane; how many."""
        wanted = []
        for lane in self._lanes:
            lane.was_full = lane.free <= 0
            if not lane.was_full and not self._draining:
                wanted.append((min(lane.free, _CLAIM), lane.kinds))
        if not wanted:
            return 0
        tasks = await self._writer.call(
            lambda store: [task for most, kinds in wanted for task in store.claim(most, kinds)]
        )
        for task in tasks:
            self._start(task)
        return len(tasks)

    async def _nap(self) -> None:
        """Sleep until the next thing is due that there is a place for, or something earlier is ordered."""
        kinds = [kind for lane in self._lanes if not lane.was_full for kind in lane.kinds]
        next_ms = await self.read(lambda: self._store.next_due_ms(kinds))
        now = self._store.now_ms()
        longest = self._longest_nap_s
        until = longest if next_ms is None else min(longest, (next_ms - now) / 1000)
        if next_ms is not None:
            self._looks_at_ms = next_ms
        # due and yet nothing went on: somebody else has it, or it can not be done; look less and less often
        self._idle = self._idle + 1 if until <= 0 else 0
        shortest = min(_LONGEST_TROUBLE_S, 0.005 * 2.0 ** min(self._idle, 10))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(shortest, until)):
                await self._wake.wait()

    async def _extend(self) -> None:
        """Extend the leases of work that takes long, four times in each; whoever can not loses its tasks to others."""
        every_s = self._store.lease_ms / 4000
        while True:
            await self._leased.wait()
            await asyncio.sleep(every_s)
            old = asyncio.get_running_loop().time() - every_s * 0.9
            long = [lease for lease, began in self._leases.items() if began <= old]
            if long:
                with contextlib.suppress(Refusal):
                    await self._writer.call(lambda store, long=long: store.extend(long))  # type: ignore[misc]

    def _start(self, task: Task, raw: bytes = b"") -> None:
        """Begin a leased task; `raw` is its case as the transaction left it, or nothing when it must be read."""
        if self._draining:
            return
        lane = self._lane_of[task.kind]
        self._leases[task.id, task.fence] = asyncio.get_running_loop().time()
        self._leased.set()
        if lane.working >= MOST_RUNNING:
            lane.backlog.append((task, raw))
            return
        lane.working += 1
        running = asyncio.create_task(self._do(lane, task, raw), name=f"case task {task.kind}")
        lane.running.add(running)
        running.add_done_callback(lambda done: self._finished(lane, task, done))

    def _finished(self, lane: _Lane, task: Task, running: asyncio.Task[None]) -> None:
        lane.running.discard(running)
        self._leases.pop((task.id, task.fence), None)
        if not self._leases:
            self._leased.clear()
        if not running.cancelled() and running.exception() is not None:
            self._observer.task_failed("crashed")

    def _leave(self, lane: _Lane) -> None:
        """A place is free."""
        lane.working -= 1
        while lane.backlog and lane.working < MOST_RUNNING:
            self._start(*lane.backlog.pop(0))
        if lane.was_full:
            self._wake.set()

    async def drain(self, within_s: float = 5.0) -> None:
        """Take no more, let running work finish for a moment, give the leases back."""
        self._draining = True
        running = [one for lane in self._lanes for one in lane.running]
        if running:
            await asyncio.wait(running, timeout=within_s)
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        with contextlib.suppress(Refusal):  # then they run out
            await self._writer.call(lambda store: store.release_all())

    async def _do(self, lane: _Lane, task: Task, raw: bytes) -> None:
        """Work at one task in a place of its lane, then write what came of it."""
        try:
            unit = await self._tasks.do(task, raw)
        finally:
            self._leave(lane)
        try:
            done = await self._writer.submit(unit)
        except Refusal as refusal:
            if refusal.reason is Reason.ILLEGAL_TRANSITION:
                return  # the case has moved on: a late result changes nothing
            self._observer.task_failed(task.kind)
            return  # the lease runs out and the task is done again
        except Exception:
            self._observer.task_failed(task.kind)
            return
        if done.status == "fenced":
            self._observer.lease_lost(task.kind)
            return
        self._after(task.case_id, done)


class _Readers:
    """Threads that only read the store: whatever else hangs in the process, they do not wait for it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="case reader")

    async def __call__(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
