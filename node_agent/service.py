"""Answering questions from outside: quick look-ups on the event loop, slow ones in one worker thread.

More threads make SQLite look-ups slower (measured: four threads reach .38 of one), so there is one, with a bounded queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, perf_counter

from federation.process.log_lines import raised_at
from federation.process.version import VERSION
from federation.query import Query
from federation.reasons import Reason, Refusal
from federation.wire.translate import BadMessageError, candidate_to_wire, query_from_wire
from federation.wire.v1 import holdings_pb2 as pb
from node_agent import telemetry
from node_agent.disclosure import Disclosure
from node_agent.index import (
    Answer,
    LongSearchError,
    Lookup,
    NoIndexError,
    SearchCancelledError,
    UnusableIndexError,
)

MOST_CANDIDATES = 200
_AT_ONCE = 400
"""Records compared on the loop, 2.5 ms: one question in six has more among a million records, one in 600 among 100,000."""

MEANINGFUL_WORK_S = 0.005
"""With less than this left of a question's time, it is refused instead of begun."""

_RETRY_AFTER_MS = 250
SOFTWARE_VERSION = VERSION


class ArchiveService:
    """One archive's answers. Fits `federation.session.answering.Responder`."""

    def __init__(
        self,
        archive: str,
        name: str,
        lookup: Lookup,
        disclosure: Disclosure,
        *,
        worker_queue: int = 32,
        service_hours: str = "",
        release_rule: str = "",
    ) -> None:
        """`service_hours` and `release_rule` are what the desk announces, as JSON."""
        self.archive, self.name = archive, name
        self._hours, self._rule = service_hours, release_rule
        self._lookup, self._disclosure = lookup, disclosure
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="slow searches")
        self._room = worker_queue
        self._waiting = 0
        self._outcomes = {
            status: telemetry.SEARCHES.labels(outcome=pb.Status.Name(status).removeprefix("STATUS_").lower())
            for status in pb.Status.values()
        }
        self._seconds = {lane: telemetry.SEARCH_SECONDS.labels(lane=lane) for lane in ("inline", "worker")}

    def begin(
        self, item: pb.QueryItem, ends_at: float, done: Callable[[pb.ResultItem], None]
    ) -> Callable[[], None] | None:
        """Answer one question of a session; `ends_at` is loop time (monotonic)."""
        cid, lane, started = item.cid, "inline", perf_counter()
        try:
            query = query_from_wire(item.query)
            self._disclosure.check(query)
            limit = min(item.max_candidates or MOST_CANDIDATES, MOST_CANDIDATES)
            deadline = min(ends_at, monotonic() + item.soft_ms / 1000) if item.soft_ms else ends_at
            if ends_at - monotonic() < MEANINGFUL_WORK_S:
                answer = pb.ResultItem(cid=cid, status=pb.STATUS_EXPIRED)
            elif (short := self._at_once(cid, query, limit, deadline)) is not None:
                answer = short
            elif self._waiting < self._room:
                return self._in_worker(cid, query, limit, deadline, started, done)
            else:
                lane = "worker"
                answer = pb.ResultItem(cid=cid, status=pb.STATUS_OVERLOADED, retry_after_ms=_RETRY_AFTER_MS)
        except BadMessageError:
            answer = pb.ResultItem(cid=cid, status=pb.STATUS_UNSUPPORTED, reason=Reason.BAD_FRAME.value)
        except Refusal as refusal:
            answer = pb.ResultItem(cid=cid, status=pb.STATUS_REFUSED_POLICY, reason=refusal.reason.value)
        except Exception as error:  # a fault here would end the session, and with it all questions that wait
            answer = _failed(cid, error)
        self._finish(answer, lane, started, done)
        return None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """One state of the index for the quick look-ups of a turn: its lock is then taken once and not for each."""
        reading = contextlib.ExitStack()
        with contextlib.suppress(Exception):  # each question tells by itself that it can not be looked up
            reading.enter_context(self._lookup.reading())
        try:
            yield
        finally:
            try:
                reading.close()
            except Exception as error:  # all are answered: the session goes on
                _log_failure(error)

    def _in_worker(
        self,
        cid: int,
        query: Query,
        limit: int,
        deadline: float,
        started: float,
        done: Callable[[pb.ResultItem], None],
    ) -> Callable[[], None]:
        """Have the worker answer: `done` is called later, never before this returns."""
        cancelled = threading.Event()
        work = self._worker.submit(self._answer, cid, query, limit, deadline, cancelled=cancelled)
        self._waiting += 1
        telemetry.WAITING.set(self._waiting)

        def settled(ended: asyncio.Future[pb.ResultItem]) -> None:
            """The worker has ended it, or will never begin it: only now there is room for another one."""
            self._waiting -= 1
            telemetry.WAITING.set(self._waiting)
            if cancelled.is_set():
                self._outcomes[pb.STATUS_CANCELLED].inc()
            else:
                self._finish(ended.result(), "worker", started, done)

        asyncio.wrap_future(work).add_done_callback(settled)

        def cancel() -> None:
            cancelled.set()
            work.cancel()  # what waits only; what runs looks at `cancelled`, and has its place until it has ended

        return cancel

    def _finish(
        self, result: pb.ResultItem, lane: str, started: float, done: Callable[[pb.ResultItem], None]
    ) -> None:
        took = perf_counter() - started
        result.took_ms = int(took * 1000)
        self._outcomes[result.status].inc()
        self._seconds[lane].observe(took)
        done(result)

    def _at_once(self, cid: int, query: Query, limit: int, deadline: float) -> pb.ResultItem | None:
        """Answer on the loop; None when that would take too long for the questions behind it."""
        if not self._lookup.is_fast(query):
            return None
        try:
            return self._answer(cid, query, limit, deadline, _AT_ONCE)
        except LongSearchError:
            return None

    def _answer(
        self,
        cid: int,
        query: Query,
        limit: int,
        deadline: float,
        at_once: int = 0,
        cancelled: threading.Event | None = None,
    ) -> pb.ResultItem:
        """Search and mask; whatever goes wrong is a status, never an exception and never an empty answer. LongSearchError
        when more than `at_once` records are to be compared, 0 = however many.
        """
        if deadline - monotonic() < MEANINGFUL_WORK_S:
            return pb.ResultItem(cid=cid, status=pb.STATUS_EXPIRED)
        try:
            # what can not be the record asked for does not leave the archive, not even masked
            answer = self._lookup.search(
                query, limit=limit, deadline=deadline, cancelled=cancelled, weak=False, at_once=at_once
            )
            return self._result(cid, answer) if answer.records else _no_index(cid)
        except LongSearchError:
            raise
        except NoIndexError:
            return _no_index(cid)
        except SearchCancelledError:
            return pb.ResultItem(cid=cid, status=pb.STATUS_CANCELLED)
        except Exception as error:  # one poisonous question spoils only itself
            return _failed(cid, error)

    def _result(self, cid: int, answer: Answer) -> pb.ResultItem:
        return pb.ResultItem(
            cid=cid,
            status=_status_of(answer),
            candidates=[
                candidate_to_wire(self._disclosure.candidate(found))
                for found in answer.found
                if self._disclosure.may_tell(found)
            ],
            truncated=answer.truncated,
            index_epoch=answer.epoch,
        )

    def manifest(self) -> pb.Manifest:
        """The archive's own word about its holdings; without an epoch before the first import, and while the index has no
        record: whoever announces an index is not asked for what is not in it.
        """
        manifest = pb.Manifest(
            archive=self.archive,
            name=self.name,
            software_version=SOFTWARE_VERSION,
            service_hours=self._hours,
            release_rule=self._rule,
        )
        try:
            holdings = self._lookup.holdings()
        except NoIndexError:
            return manifest
        telemetry.RECORDS.set(holdings.records)
        telemetry.EPOCH.set(holdings.epoch)
        if not holdings.records:
            return manifest
        manifest.index_epoch, manifest.records, manifest.index_age_s = (
            holdings.epoch,
            holdings.records,
            holdings.age_s,
        )
        for key, count in holdings.categories.items():
            manifest.categories.add(
                category=key,
                records=count.records,
                first_year=count.first_year,
                last_year=count.last_year,
                undated=count.undated,
                copies=count.copies,
                digitised=count.digitised,
            )
        return manifest

    async def search(self, request: pb.SearchRequest) -> pb.SearchResponse:
        """The unary form, for simple clients."""
        item = pb.QueryItem(
            cid=1,
            budget_ms=request.budget_ms or 2000,
            max_candidates=request.max_candidates or 50,
            query=request.query.SerializeToString(),
        )
        item.soft_ms = item.budget_ms
        answered: asyncio.Future[pb.ResultItem] = asyncio.get_running_loop().create_future()

        def done(result: pb.ResultItem) -> None:
            if not answered.done():
                answered.set_result(result)

        cancel = self.begin(item, monotonic() + item.budget_ms / 1000, done)
        try:
            async with asyncio.timeout(item.budget_ms / 1000 + 1.0):
                result = await answered
        except BaseException:
            if cancel is not None:
                cancel()  # the caller hung up, or has waited long enough
            raise
        return pb.SearchResponse(
            status=result.status,
            candidates=result.candidates,
            truncated=result.truncated,
            index_epoch=result.index_epoch,
            reason=result.reason,
        )

    def let_go_of_older_files(self) -> None:
        """Have the worker thread look at the index again: one that was replaced is kept on disk while any thread has it open, and the next
        slow search may be days away.
        """
        self._worker.submit(self._lookup.holdings)  # what is wrong with the index, a search tells

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)


def _status_of(answer: Answer) -> pb.Status.ValueType:
    """OK only when all that could be the record asked for was compared."""
    if answer.soft_timeout:
        return pb.STATUS_SOFT_TIMEOUT
    return pb.STATUS_TOO_MANY if answer.capped else pb.STATUS_OK


def _failed(cid: int, error: Exception) -> pb.ResultItem:
    """The answer to a question that went wrong here; what went wrong is for the log of the archive's own people."""
    _log_failure(error)
    return pb.ResultItem(cid=cid, status=pb.STATUS_FAILED, reason=Reason.INTERNAL.value)


def _log_failure(error: Exception) -> None:
    if isinstance(error, UnusableIndexError):
        why = {"kind": error.trouble.value, "reason": str(error)}
    else:
        why = {"kind": type(error).__name__, "where": raised_at(error)}
    telemetry.log.error("a search failed", action="search.failed", **why)


def _no_index(cid: int) -> pb.ResultItem:
    """What an archive says that can not look anything up: nothing was imported, or all of it was taken out."""
    return pb.ResultItem(cid=cid, status=pb.STATUS_UNSUPPORTED, reason=Reason.NO_INDEX.value)
