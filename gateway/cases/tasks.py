"""Doing one task: archives are asked, a desk is sent a message, a platform is called, and what came of it is a unit to write.

Nothing is written here but what stands beside a task: a desk's receipt, and a platform's wish for no more calls.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from federation.mail import mail_id, read_to_desk, write
from federation.reasons import Reason, Refusal
from gateway.cases.case import MAIL, SEARCH, Case, Event, Task, decode_case, when
from gateway.cases.letters import to_desk
from gateway.cases.ports import CaseObserver, Desks, Evidence, Hooks, Locator
from gateway.cases.states import ANSWER_IN_THE_CASE, Kind, State
from gateway.cases.store import Store, Unit
from gateway.cases.upkeep import bury, calls_stopped, stop_calls
from gateway.cases.writer import Writer

_RECEIPT_WITHIN_S = 10.0
"""A message without a receipt is sent again after this; the desk knows it by its identifier."""

_MAIL_AFTER_END_MS = 7 * 86_400_000
"""A desk that was away this long is not told any more that a case has ended."""

_MOST_MAILED = 100_000
"""Messages whose receipt is awaited in memory."""

HOOK_SCHEDULE_S = (5, 15, 30, 60, 120, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Pauses between tries of a call back: quick enough for a 15-minute target, then for about three days."""

_BACKOFF_S = (1.0, 60.0)

_NO_END = frozenset({Kind.DELIVERED, Kind.SIGNED_ANEW})
"""What calls may tell of a case that has ended but its end: whoever takes them has not been given the answer by that."""


class _Mailed(NamedTuple):
    """A message whose receipt is awaited, as it was sent last."""

    case_id: str
    task_id: str
    archive: str
    body: bytes


_LAST_LATE_MS = HOOK_SCHEDULE_S[-1] * 200
"""How late the last call may be made: its pause is up to a tenth longer, and it may wait for its turn."""

Read = Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]
"""Runs what only reads the store, without holding up the loop."""


class Tasks:
    """Does the tasks of one gateway process."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        locator: Locator,
        desks: Desks,
        hooks: Hooks,
        observer: CaseObserver,
        evidence: Evidence,
        read: Read,
    ) -> None:
        self._store, self._writer, self._read = store, writer, read
        self._locator, self._desks, self._hooks = locator, desks, hooks
        self._observer, self._evidence = observer, evidence
        self._mailed: OrderedDict[bytes, _Mailed] = OrderedDict()

    async def do(self, task: Task, raw: bytes) -> Unit:
        """What came of a task; whatever goes wrong makes it visible again later, never lost."""
        try:
            if task.kind == SEARCH:
                return await self._search(task, raw)
            if task.kind == MAIL:
                return await self._mail(task, raw)
            return await self._hook(task)
        except asyncio.CancelledError:
            raise
        except Exception:
            self._observer.task_failed(task.kind)
            return self._again(task, _pause(task.attempts))

    def _again(self, task: Task, after_s: float) -> Unit:
        due = self._store.now_ms() + int(after_s * 1000)
        return Unit(task.case_id, lease=(task.id, task.fence), postpone_ms=due)

    async def _case(self, case_id: str, raw: bytes) -> Case | None:
        if raw:
            return decode_case(raw)
        found: Case | None = await self._read(lambda: self._store.case(case_id))
        return found

    async def _search(self, task: Task, raw: bytes) -> Unit:
        lease = (task.id, task.fence)
        case = await self._case(task.case_id, raw)
        if case is None:
            return Unit(task.case_id, lease=lease)
        try:
            located = await self._locator.locate(case, [str(code) for code in task.payload["archives"]])
        except Refusal as refusal:
            if refusal.reason in {Reason.OVERLOADED, Reason.DRAINING}:
                return self._again(task, refusal.retry_after_s or 1.0)
            raise
        data = {
            "outcomes": located.outcomes,
            "gaps": located.gaps,
            "candidates": located.candidates,
            "gone": located.gone,
            "ruled_out": located.ruled_out,
            "searched": located.searched,
            "unshown": located.unshown,
            "whole": not task.payload["archives"],
            "noting": located.noting,
            **({"roster_epoch": located.roster_epoch} if located.roster_epoch else {}),
        }
        return Unit(task.case_id, Event(Kind.LOCATED, "gateway", data), lease=lease)

    async def _mail(self, task: Task, raw: bytes) -> Unit:
        case = await self._case(task.case_id, raw)
        if case is None:
            return Unit(task.case_id, lease=(task.id, task.fence))
        now = self._store.now_ms()
        if case.ended_ms and now - task.ordered_ms > _MAIL_AFTER_END_MS:
            return self._bury(task, "mail")
        body = write(to_desk(case, task.payload, now, self._store.policy, task.target))
        name = mail_id(task.id)
        self._mailed[name] = _Mailed(task.case_id, task.id, task.target, body)
        if len(self._mailed) > _MOST_MAILED:
            self._mailed.popitem(last=False)  # sent again after its pause, it is remembered again
        if self._desks.send(task.target, name, case.id, body):
            return self._again(task, _RECEIPT_WITHIN_S)  # until the receipt completes it
        return self._again(task, _pause(task.attempts))

    def _bury(self, task: Task, why: str) -> Unit:
        """Given up: a dead letter, for the operator to look at and to send again."""
        self._observer.task_failed(f"{why}_dead")
        return Unit(task.case_id, lease=(task.id, task.fence), bury=True)

    async def _hook(self, task: Task) -> Unit:
        if await self._read(lambda: self._store.read(lambda c: calls_stopped(c, task.target))):
            return self._bury(task, "hook")
        if task.attempts > 1 and _next_try(task.ordered_ms, self._store.now_ms() - _LAST_LATE_MS) is None:
            return self._bury(task, "hook")  # its turn never came
        payload = task.payload
        body = {
            "type": f"case.{payload['kind']}",
            "timestamp": when(payload["at"]),
            "data": {"case": task.case_id, "seq": payload["seq"], "state": payload["state"]},
        }
        answer = await self._hooks.call(task.target, mail_id(task.id).hex(), msgspec.json.encode(body))
        if 200 <= answer.status < 300:
            # an end whose answer is the case itself is in the caller's hands now
            ends = State(payload["state"]) in ANSWER_IN_THE_CASE and payload["kind"] not in _NO_END
            if ends and State(payload["state"]) is State.NO_RECORD:
                case = await self._case(task.case_id, b"")
                ends = case is not None and case.is_answer(self._store.now_ms())
            event = Event(Kind.DELIVERED, "gateway", {"by": "webhook"}) if ends else None
            return Unit(task.case_id, event, lease=(task.id, task.fence))
        if answer.status < 0:  # not called: its turn comes
            return self._again(task, (answer.retry_after_s or 1.0) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        self._observer.task_failed("hook")
        if answer.status == 410:
            await self._writer.call(
                lambda store: store.change(lambda c, now: stop_calls(c, task.target, now, but=task.id))
            )
            return self._bury(task, "hook")
        pause = _next_try(task.ordered_ms, self._store.now_ms())
        if pause is None:
            return self._bury(task, "hook")
        return self._again(task, max(pause * random.uniform(1.0, 1.1), answer.retry_after_s or 0.0))  # noqa: S311

    def receipted(self, archive: str, name: bytes, reason: str) -> bool:
        """A desk made a message durable, or, with a reason, will never take it: then the operator must look. False, and nothing
        happened, when the message went to another archive: its name is no secret to whoever knows the case.
        """
        mailed = self._mailed.get(name)
        if mailed is None:
            return True  # of an earlier life of this process: it is sent again and receipted again
        if mailed.archive != archive:
            return False
        del self._mailed[name]
        task_id = mailed.task_id
        if reason:
            self._observer.task_failed("mail_refused")
            self._writer.call(lambda store: store.change(lambda c, _now: bury(c, task_id))).add_done_callback(
                _looked_at
            )
            return True

        def logged(done: asyncio.Future[None] | None) -> None:
            if done is not None and (done.cancelled() or done.exception() is not None):
                return  # not in the evidence log: it is sent again and receipted again
            done_with = Unit(mailed.case_id, completes=(task_id,))
            self._writer.submit(done_with).add_done_callback(_looked_at)

        message = read_to_desk(mailed.body)
        logging = self._evidence.message(mailed.archive, name, mailed.case_id, message)
        if logging is None:
            logged(None)
        else:
            logging.add_done_callback(logged)
        return True


def _next_try(at_ms: int, now_ms: int) -> float | None:
    """Seconds until the schedule's next call of something ordered at `at_ms`; None = it has been tried enough."""
    for due_s in accumulate(HOOK_SCHEDULE_S):
        left = at_ms / 1000 + due_s - now_ms / 1000
        if left > 0:
            return left
    return None


def _pause(attempts: int) -> float:
    """Seconds until the next try: doubling from one second to a minute, a fifth of jitter."""
    low, high = _BACKOFF_S
    return min(high, low * 2.0 ** min(attempts - 1, 10)) * random.uniform(0.8, 1.2)  # noqa: S311


def _looked_at(done: asyncio.Future[Any]) -> None:
    """A receipt that could not be written is no loss: the message is sent again and receipted again."""
    if not done.cancelled():
        done.exception()
