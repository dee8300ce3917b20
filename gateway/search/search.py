"""One search: admit, select, ask everyone in one turn of the loop, wait once, merge, account.

No task and no waiting per archive: replies are counted as they come, one timer ends the search. An archive can make its
own outcome bad, never the search's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Literal

import msgspec
from msgspec import structs

from federation.outcome import ANSWERED, Outcome
from federation.places import find, in_region
from federation.reasons import Reason
from gateway.search.admission import Admission
from gateway.search.circuit import FAIR_BUDGET_S, Circuit
from gateway.search.completeness import ArchiveOutcome, Completeness, settle
from gateway.search.latency import Latency
from gateway.search.merge import MOST_RANKED, Ranked, rank
from gateway.search.pages import KEPT_S, Kept, Pages
from gateway.search.ports import Holdings, Reply, SearchObserver, SubRequest
from gateway.search.question import Question, check
from gateway.search.randomness import Randomness
from gateway.search.retry import RetryBudget, pause_before
from gateway.search.roster import Roster
from gateway.search.selection import MembershipFilters, Selection, select

_RESERVE_S, _RESERVE_SHARE = 0.080, 0.05  # kept back for merging, rendering and the way home
_RESERVE_MOST_SHARE = 0.4  # of a short deadline: 80 ms of 100 would leave no archive the time to answer
_SOFT_MARGIN_S = 0.040  # between an archive's best-so-far and its hard end
_CANDIDATES_PER_ARCHIVE = 50
_RETRY_LEAST_S = 0.050
_QUICK_COVERAGE = 0.95
_QUICK_SHARE = 0.3  # of the time left, waited on once a quick search has its coverage


class SearchAnswer(msgspec.Struct, frozen=True, gc=False):
    """The answer: the account, one page of the ranking, and the cursor of the next page ("" = there is none)."""

    search_id: str
    completeness: Completeness
    candidates: tuple[Ranked, ...]
    total: int
    category: str
    cursor: str = ""


SearchEvent = tuple[Literal["outcome"], ArchiveOutcome, int] | tuple[Literal["answer"], SearchAnswer]
"""What a streamed search says: each archive's outcome with its number of candidates as it comes, then the answer."""


class Searches:
    """All searches of this process."""

    def __init__(
        self,
        roster: Roster,
        holdings: Holdings,
        observer: SearchObserver,
        *,
        clock: Callable[[], float],
        cursor_key: bytes | None = None,
        filters: MembershipFilters | None = None,
    ) -> None:
        self.roster, self._holdings, self._observer, self._clock = roster, holdings, observer, clock
        self._filters = filters
        self._circuits = {member.code: Circuit(clock) for member in roster.members}
        self._latencies = {member.code: Latency(clock) for member in roster.members}
        self._admission = Admission(clock, observer)
        self._budget = RetryBudget(clock)
        self._random = Randomness()
        self._pages = Pages(cursor_key or secrets.token_bytes(32), clock)

    def session_opened(self, archive: str) -> None:
        """A new session shows that an archive is back: its circuit closes."""
        self._circuits[archive].reset()

    def circuit(self, archive: str) -> Circuit:
        return self._circuits[archive]

    async def search(self, question: Question) -> SearchAnswer:
        """Ask and answer inside the question's deadline; Refusal when it may not or can not be asked."""
        check(question)
        ends_at = self._clock() + question.deadline_s
        await self._admission.enter(ends_at)
        try:
            return await self._run(question, ends_at, None)
        finally:
            self._admission.leave()

    async def stream(self, question: Question) -> AsyncGenerator[SearchEvent]:
        """The same, telling each archive's outcome as it comes. A caller who reads slowly holds no place of others."""
        check(question)
        ends_at = self._clock() + question.deadline_s
        await self._admission.enter(ends_at)
        told: asyncio.Queue[SearchEvent | None] = (
            asyncio.Queue()
        )  # bounded by the roster: one each and one more

        def tell(one: ArchiveOutcome, candidates: int) -> None:
            told.put_nowait(("outcome", one, candidates))

        async def run() -> None:
            told.put_nowait(("answer", await self._run(question, ends_at, tell)))

        def ended(_task: asyncio.Task[None]) -> None:
            self._admission.leave()
            told.put_nowait(None)

        running = asyncio.create_task(run(), name="streamed search")
        running.add_done_callback(ended)
        try:
            while (event := await told.get()) is not None:
                yield event
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def page(self, cursor: str, caller: str) -> SearchAnswer:
        """A later page of an earlier search, exactly as ranked then."""
        kept, offset = self._pages.resume(cursor, caller)
        return self._page(kept, offset)

    # -----------------------------------------------------------------------------------------------------------

    async def _run(
        self, question: Question, ends_at: float, tell: Callable[[ArchiveOutcome, int], None] | None
    ) -> SearchAnswer:
        began = self._clock()
        manifest = self._holdings.manifest
        selection = select(self.roster, question, self._holdings.current_manifest, filters=self._filters)
        fan_out = _FanOut(self, question, selection, ends_at, tell)
        replies = await fan_out.run()
        ages = self._index_ages(replies) if self.roster.limits_age else {}
        completeness = settle(
            self.roster, selection, replies, fan_out.circuit_open, ages, fan_out.stopped_early
        )
        found = [(code, reply.candidates) for code, reply in replies.items() if reply.candidates]
        records = {code: known.records for code, _found in found if (known := manifest(code)) is not None}
        ranked = rank(sorted(found), self.roster, records) if found else ()
        if len(ranked) == MOST_RANKED:  # what comes after is not kept
            completeness = structs.replace(completeness, exact_count=False)
        self._observer.searched(self._clock() - began, completeness.verdict.value, completeness.asked)
        for one in completeness.outcomes:
            self._observer.outcome(one.archive, one.outcome)
        kept = Kept(
            self._random.take(16).hex(),
            question.caller,
            completeness,
            ranked,
            question.page_size,
            question.query.category,
            self._clock() + KEPT_S,
        )
        if len(ranked) > question.page_size:
            self._pages.keep(kept)
        return self._page(kept, 0)

    def _page(self, kept: Kept, offset: int) -> SearchAnswer:
        end = offset + kept.page_size
        cursor = self._pages.cursor(kept.search_id, end) if end < len(kept.ranked) else ""
        return SearchAnswer(
            kept.search_id,
            kept.completeness,
            kept.ranked[offset:end],
            len(kept.ranked),
            kept.category,
            cursor,
        )

    def _index_ages(self, archives: Iterable[str]) -> dict[str, int]:
        """Seconds since each archive's last import, as announced plus the time since we heard it."""
        now = self._clock()
        known = {code: self._holdings.manifest(code) for code in archives}
        return {
            code: manifest.index_age_s + int(now - manifest.heard_at)
            for code, manifest in known.items()
            if manifest is not None
        }


def _reserve_s(deadline_s: float) -> float:
    """Seconds of a deadline that no archive is given: 80 ms or a twentieth, and of a short one two fifths at most."""
    return min(max(_RESERVE_S, _RESERVE_SHARE * deadline_s), _RESERVE_MOST_SHARE * deadline_s)


class _FanOut:
    """The asking part of one search."""

    def __init__(
        self,
        searches: Searches,
        question: Question,
        selection: Selection,
        ends_at: float,
        tell: Callable[[ArchiveOutcome, int], None] | None,
    ) -> None:
        self._searches, self._question, self._tell = searches, question, tell
        self._ends_at = ends_at - _reserve_s(question.deadline_s)
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._quick_timer: asyncio.TimerHandle | None = None
        self._cancels: dict[str, Callable[[], None]] = {}
        self._replies: dict[str, Reply] = {}
        self._subrequest_id = searches._random.take(16)
        self._asked_at: dict[str, float] = {}
        self._retried: set[str] = set()
        self._pending: set[str] = set()
        self.circuit_open: dict[str, float] = {}
        self.stopped_early: frozenset[str] = frozenset()
        for code in selection.asked:
            circuit = searches.circuit(code)
            if circuit.admits(question.deadline_s):
                self._pending.add(code)
            else:
                self.circuit_open[code] = circuit.retry_after()
        self._weights = {code: self._weight(code) for code in selection.asked} if question.quick else {}
        self._place = find(question.query.place) if question.quick else ""

    def _weight(self, code: str) -> float:
        manifest = self._searches._holdings.manifest(code)
        held = manifest.categories.get(self._question.query.category) if manifest else None
        return max(1.0, float(held.records)) if held else 1.0

    async def run(self) -> dict[str, Reply]:
        """Ask all pending archives; their replies, whatever came by the end."""
        if not self._pending:
            return self._replies
        self._searches._budget.sent(len(self._pending))
        budget = max(0.0, self._ends_at - self._searches._clock())
        self._timer = self._loop.call_later(budget, self._end_late)
        request = self._request(budget)
        for code in sorted(self._pending):
            self._ask(code, request)
        try:
            if self._pending:
                await self._finished
        finally:
            self._close()
        return self._replies

    def _request(self, budget: float) -> SubRequest:
        """The question with `budget` seconds left; its identifier is the search's, and so stable over retries."""
        return SubRequest(
            self._question.query,
            self._subrequest_id,
            budget,
            max(0.0, budget - _SOFT_MARGIN_S),
            _CANDIDATES_PER_ARCHIVE,
        )

    def _ask(self, code: str, request: SubRequest) -> None:
        self._asked_at[code] = self._searches._clock()
        try:
            cancel = self._searches._holdings.ask(code, request, self._on_reply)
        except Exception:  # a port may not raise; if it does, it is that archive's outcome alone
            self._searches._observer.event("port_raised")
            self._settle(code, Reply(code, Outcome.UNREACHABLE))
            return
        if code in self._pending:
            self._cancels[code] = cancel

    def _on_reply(self, code: str, reply: Reply) -> None:
        if code not in self._pending or self._finished.done():
            self._searches._observer.event("late_reply")
            return
        if reply.archive != code:
            reply = Reply(code, Outcome.BAD_ANSWER, reason=Reason.WRONG_ARCHIVE.value)
        if reply.transport and self._retry(code):
            return
        self._settle(code, reply)

    def _retry(self, code: str) -> bool:
        """Ask once more after a lost session, inside the budget of retries and of time."""
        searches = self._searches
        left = self._ends_at - searches._clock()
        least = max(_RETRY_LEAST_S, searches._latencies[code].expected())
        if code in self._retried or left < least or not searches._holdings.connected(code):
            return False
        if not searches._budget.grant(code):
            searches._observer.event("retry_denied")
            return False
        self._retried.add(code)
        searches._observer.event("retry")
        pause = pause_before(2)

        def again() -> None:
            if code in self._pending and not self._finished.done():
                self._ask(code, self._request(max(0.0, self._ends_at - searches._clock())))

        self._loop.call_later(min(pause, left / 2), again)
        return True

    def _settle(self, code: str, reply: Reply) -> None:
        self._replies[code] = reply
        self._pending.discard(code)
        self._cancels.pop(code, None)
        if code in self._retried:
            self._searches._budget.settled(code)
        self._judge(code, reply)
        if self._tell is not None:
            one = ArchiveOutcome(code, reply.outcome, reply.reason, reply.retry_after_s, reply.truncated)
            self._tell(one, len(reply.candidates))
        if not self._pending:
            self._end()
        elif self._weights:
            self._maybe_stop()

    def _judge(self, code: str, reply: Reply) -> None:
        """What this reply says about the archive's health, to its circuit and its expected time."""
        searches = self._searches
        circuit = searches._circuits[code]
        asked_at = self._asked_at[code]
        if reply.outcome is Outcome.OVERLOADED:
            circuit.busy(asked_at)
        elif reply.outcome is Outcome.UNREACHABLE or reply.transport:
            if reply.lost:  # without a session there is nothing of its speed or health
                circuit.lost_session(asked_at)
        elif reply.outcome is Outcome.TIMEOUT and not reply.candidates:
            self._silent(code)
        else:
            now = searches._clock()
            searches._latencies[code].observe(now - asked_at, now)
            circuit.succeeded()

    def _silent(self, code: str) -> None:
        """Silence is a failure only when the archive had the time it usually needs."""
        asked_at = self._asked_at[code]
        fair = max(FAIR_BUDGET_S, self._searches._latencies[code].expected())
        if self._searches._clock() - asked_at >= fair:
            self._searches.circuit(code).failed(asked_at)

    def _maybe_stop(self) -> None:
        """The stop rule of a quick search: enough expected records answered, and everyone who must."""
        if self._quick_timer is not None or any(self._is_mandatory(code) for code in self._pending):
            return
        answered = sum(w for code, w in self._weights.items() if self._answered(code))
        found = any(reply.candidates for reply in self._replies.values())
        if found and answered >= _QUICK_COVERAGE * sum(self._weights.values()):
            left = self._ends_at - self._searches._clock()
            self._quick_timer = self._loop.call_later(max(0.0, left * _QUICK_SHARE), self._stop_early)

    def _answered(self, code: str) -> bool:
        reply = self._replies.get(code)
        return reply is not None and reply.outcome in ANSWERED

    def _is_mandatory(self, code: str) -> bool:
        return code in self._question.scope.archives or bool(self._place and in_region(code, self._place))

    def _stop_early(self) -> None:
        """The stop rule ends the search: whoever is still silent is not waited for, and has not failed."""
        if not self._finished.done():
            self.stopped_early = frozenset(self._pending)
            self._end()

    def _end_late(self) -> None:
        """The time is up: whoever is still silent has failed."""
        if not self._finished.done():
            for code in self._pending:
                self._silent(code)
            self._end()

    def _end(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)

    def _close(self) -> None:
        for timer in (self._timer, self._quick_timer):
            if timer is not None:
                timer.cancel()
        if not self._finished.done():
            self._finished.cancel()
        for code in self._pending:
            if code in self._retried:
                self._searches._budget.settled(code)
        for cancel in self._cancels.values():
            try:
                cancel()
            except Exception:  # a port may not raise; if it does, the answer still stands
                self._searches._observer.event("port_raised")
        self._cancels.clear()
