"""The case feature: accept a request durably, show it, take what callers and desks say, tell whoever watches.

A caller sees only its own cases; anybody else's are unknown to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import msgspec

from federation.mail import UnreadableMailError, read_from_desk
from federation.reasons import Reason, Refusal
from gateway.cases.case import Case, Entry, Event, StoppedCase
from gateway.cases.engine import Engine
from gateway.cases.letters import NEWS_ONLY, from_desk
from gateway.cases.minutes import Minutes, minutes
from gateway.cases.ports import Evidence, Hooks, Hours, NoEvidence
from gateway.cases.scorecard import Scorecard, estimate_s, scorecard
from gateway.cases.states import ENDED, Kind, State
from gateway.cases.store import Done, Store, Unit
from gateway.cases.upkeep import DAY_MS, availability

_LOOK_EVERY_S = 0.5
_MOST_WATCHERS = 10_000
_REMEMBER_MS = 30_000
_RECENT_MS, _MOST_RECENT = 30 * 86_400_000, 100


def first_case_id(at_ms: int) -> str:
    """No id of a case accepted at or after `at_ms` sorts before this."""
    text = max(0, at_ms).to_bytes(6, "big").hex()
    return f"{text[:8]}-{text[8:]}"


def new_case_id(now_ms: int) -> str:
    """A UUID of version 7 (RFC 9562): its first 48 bits are the time, so that rows of one day lie together."""
    value = bytearray(now_ms.to_bytes(6, "big") + os.urandom(10))
    value[6] = 0x70 | value[6] & 0x0F
    value[8] = 0x80 | value[8] & 0x3F
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class NewCase(msgspec.Struct, frozen=True):
    """A request as the edge read it. `request` holds category, purpose, applicant, subject, event, scope and `question`,
    which is what the locator asks. `key` and `digest` are the Idempotency-Key and the SHA-256 of the body.
    """

    client: str
    key: str
    digest: str
    request: dict[str, Any]
    window: str = ""


class Once(msgspec.Struct, frozen=True):
    """The Idempotency-Key of something said about a case and the SHA-256 of its body; "" = none given."""

    key: str = ""
    digest: str = ""


NO_KEY = Once()


class Cases:
    """All cases of this gateway."""

    def __init__(
        self, store: Store, engine: Engine, hooks: Hooks, hours: Hours, evidence: Evidence | None = None
    ) -> None:
        self._store, self._engine, self._hooks, self._hours = store, engine, hooks, hours
        self._evidence: Evidence = evidence or NoEvidence()
        self._records: dict[str, tuple[int, list[StoppedCase]]] = {}
        self._watching: dict[str, set[asyncio.Event]] = {}
        self._watchers = 0
        self._is_leaving = False
        engine.on_change = self._changed

    async def _read(self, work: Callable[..., Any], *given: Any) -> Any:
        return await self._engine.read(lambda: work(*given))

    # the clock and the record ----------------------------------------------------------------------------------

    async def minutes(self, case: Case) -> Minutes | None:
        """The case's minutes until now, from its journal."""
        journal = await self.journal(case.id)
        return minutes(journal, self._store.now_ms(), self._hours.service_ms)

    async def estimate_s(self, case: Case) -> float | None:
        """Seconds until the answer is there; None when it is."""
        if case.is_paused or case.ended_ms or case.state is State.ISSUED:
            return None
        recent = await self._recent(case.holder) if case.holder else []
        now = self._store.now_ms()
        left = estimate_s(case, recent, self._store.policy, now)
        if left is None or not case.holder:
            return left
        desks = (
            {case.deciding}
            if case.deciding
            else {case.holder, self._store.policy.deputies.get(case.holder, "")}
        )
        done = [self._hours.done_ms(desk, now, round(left * 1000)) for desk in desks - {""}]
        known = [at - now for at in done if at is not None]
        return min(known) / 1000 if known else None  # none of them opens within a year: nothing is promised

    async def _recent(self, archive: str) -> list[StoppedCase]:
        """The archive's newest results, looked up at most every half minute."""
        now = self._store.now_ms()
        at, kept = self._records.get(archive, (0, []))
        if now - at > _REMEMBER_MS:
            kept, unreadable = await self._read(self._store.results, archive, now - _RECENT_MS, _MOST_RECENT)
            self._engine.unreadable(unreadable)
            self._records[archive] = (now, kept)
        return kept

    async def scorecard(self, archive: str, days: int) -> Scorecard:
        """The archive's scorecard over the last days: all of its cases that were under way in them, none left out but
        those that nobody can read, which it counts.
        """

        def look() -> Scorecard:
            store, now = self._store, self._store.now_ms()
            since = now - days * DAY_MS
            up, watched = store.read(lambda c: availability(c, archive, since // DAY_MS))
            stopped, damaged = store.results(archive, since)
            unstopped, damaged_too = store.unstopped(
                archive, since, since - store.policy.longest_case_s * 1000
            )
            return scorecard(
                stopped,
                unstopped,
                now,
                unreadable=damaged + damaged_too,
                up_ms=up,
                watched_ms=watched,
                in_city_s=store.policy.in_city.target,
            )

        card: Scorecard = await self._read(look)
        self._engine.unreadable(card.unreadable)
        return card

    # what callers do -------------------------------------------------------------------------------------------

    async def accept(self, new: NewCase) -> tuple[Case, bool]:
        """Make the request durable; the case, and whether it was there before. Returns only after COMMIT."""
        if self._engine.is_busy:
            raise Refusal(Reason.OVERLOADED, retry_after_s=2.0)
        now = self._store.now_ms()
        case = Case(
            id=new_case_id(now),
            client=new.client,
            created_ms=now,
            request=new.request,
            window=new.window,
            has_hook=self._hooks.wants(new.client),
        )
        unit = Unit(case.id, Event(Kind.ACCEPTED, "caller"), new=case, key=new.key, digest=new.digest)
        done = await self._engine.happen(unit)
        accepted, is_replayed = done.case, done.status == "replayed"
        if not is_replayed:
            self._evidence.accepted(accepted, new.digest)
        return accepted, is_replayed

    async def case(self, case_id: str, client: str) -> Case:
        """The client's case; Refusal(UNKNOWN_CASE) when there is none of that name or it is another client's."""
        case: Case | None = await self._read(self._store.case, case_id)
        if case is None or case.client != client:
            raise Refusal(Reason.UNKNOWN_CASE)
        return case

    async def journal(self, case_id: str, after: int = 0) -> list[Entry]:
        """The journal lines after `after`. Whose case it is was asked before."""
        entries: list[Entry] = await self._read(self._store.journal, case_id, after)
        return entries

    async def select(self, case: Case, ref: str, version: int = 0, once: Once = NO_KEY) -> Case:
        """The caller chose a candidate; "" = none of those in `version` of the case, 0 = the present one."""
        none_fits = Event(Kind.NONE_FITS, "caller", {"version": version})
        return await self._happen(
            case, Event(Kind.SELECTED, "caller", {"ref": ref}) if ref else none_fits, once
        )

    async def give_evidence(self, case: Case, proofs: list[dict[str, str]], once: Once = NO_KEY) -> Case:
        items = [proof["kind"] for proof in proofs]
        return await self._happen(
            case, Event(Kind.EVIDENCE_GIVEN, "caller", {"items": items, "evidence": proofs}), once
        )

    async def withdraw(self, case: Case) -> Case:
        """A second time is the same, whoever was quicker."""
        if case.state is State.WITHDRAWN:
            return case
        try:
            return await self._happen(case, Event(Kind.WITHDRAWN, "caller"))
        except Refusal:
            again = await self.case(case.id, case.client)
            if again.state is State.WITHDRAWN:
                return again
            raise

    async def delivered(self, case: Case) -> Case:
        """The caller has the answer in hand: the clock stops. A second time changes nothing."""
        if case.delivered_ms:
            return case
        with contextlib.suppress(Refusal):  # another request was quicker
            return await self._happen(case, Event(Kind.DELIVERED, "gateway", {"by": "caller"}))
        return await self.case(case.id, case.client)

    async def seen(self, case: Case) -> Case:
        """The caller has seen the case as it is: where that is the answer, the clock stops."""
        return await self.delivered(case) if case.is_answer(self._store.now_ms()) else case

    async def _happen(self, case: Case, event: Event, once: Once = NO_KEY) -> Case:
        key = f"{case.id}:{once.key}" if once.key else ""
        unit = Unit(case.id, event, client=case.client, key=key, digest=once.digest)
        return (await self._engine.happen(unit)).case

    # watching --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _watcher(self, case_id: str) -> Any:
        if self._watchers >= _MOST_WATCHERS:
            raise Refusal(Reason.OVERLOADED, retry_after_s=5.0)
        bell = asyncio.Event()
        self._watchers += 1
        self._watching.setdefault(case_id, set()).add(bell)
        try:
            yield bell
        finally:
            self._watchers -= 1
            bells = self._watching[case_id]
            bells.discard(bell)
            if not bells:
                del self._watching[case_id]

    async def wait(self, case: Case, known_version: int, seconds: float) -> Case:
        """The case as soon as it is newer than `known_version`, or as it is after `seconds`."""
        with self._watcher(case.id) as bell:
            current = await self.case(case.id, case.client)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while current.version <= known_version and not self._is_leaving:
                        await bell.wait()
                        bell.clear()
                        current = await self.case(case.id, case.client)
        return current

    @contextlib.asynccontextmanager
    async def follow(
        self, case_id: str, after: int, quiet_s: float
    ) -> AsyncIterator[AsyncIterator[list[Entry]]]:
        """Journal lines after `after` as they are written, wherever; an empty list after each `quiet_s` of silence. It takes one
        of the places of those who watch before it gives anything; Refusal(OVERLOADED) when there is none left.
        """
        with self._watcher(case_id) as bell:
            async with contextlib.aclosing(self._lines(case_id, after, quiet_s, bell)) as lines:
                yield lines

    async def _lines(
        self, case_id: str, after: int, quiet_s: float, bell: asyncio.Event
    ) -> AsyncGenerator[list[Entry], None]:
        while True:
            entries = await self.journal(case_id, after)
            if entries:
                after = entries[-1].seq
                yield entries
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0 if self._is_leaving else quiet_s):
                    await bell.wait()
                    bell.clear()
                    continue
            yield []

    def _changed(self, case_id: str, done: Done) -> None:
        if any(entry.state in ENDED and entry.kind is not Kind.SIGNED_ANEW for entry in done.entries):
            self._evidence.ended(done.case)
        for bell in self._watching.get(case_id, ()):
            bell.set()

    def leave(self) -> None:
        """The process is ending: whoever waits is answered now, and asks another replica."""
        self._is_leaving = True
        for bells in self._watching.values():
            for bell in bells:
                bell.set()

    async def look(self) -> None:
        """Notice what other replicas wrote about cases watched here; runs until cancelled. Needless on SQLite."""
        known: dict[str, int] = {}
        while not self._store.is_exclusive:
            await asyncio.sleep(_LOOK_EVERY_S)
            watched = list(self._watching)
            if not watched:
                known.clear()
                continue
            try:
                versions = await self._read(self._store.versions, watched)
            except (
                Refusal
            ):  # the store is in trouble for a moment; watchers look for themselves when it is not
                continue
            for case_id, version in versions.items():
                if (
                    known.get(case_id) != version
                ):  # one not looked at before may have changed since it was read
                    for bell in self._watching.get(case_id, ()):
                        bell.set()
            known = versions

    # what desks say --------------------------------------------------------------------------------------------

    def desk_said(
        self, archive: str, name: bytes, case_id: str, body: bytes, answer: Callable[[str], None]
    ) -> None:
        """A message from an archive's desk. `answer` is called with "" once it is durable here, with a reason when it will
        never be taken, and not at all when the desk should send it again.
        """
        try:
            message = read_from_desk(body)
        except UnreadableMailError:
            answer(Reason.BAD_FRAME.value)
            return
        # no case has such a name, and PostgreSQL would refuse the whole batch for a NUL
        if not case_id.isprintable():
            answer(Reason.UNKNOWN_CASE.value)
            return
        event = from_desk(archive, message)

        def logged(reason: str) -> None:
            """Receipted is only what is in the evidence log: what can not be logged comes again."""
            try:
                logging = self._evidence.message(archive, name, case_id, message)
            except Refusal as refusal:
                answer(reason or refusal.reason.value)
                return
            if logging is None:
                answer(reason)
                return

            def told(done: asyncio.Future[None]) -> None:
                if not done.cancelled() and done.exception() is None:
                    answer(reason)

            logging.add_done_callback(told)

        writing = self._engine.begin(Unit(case_id, event, message=f"{archive}:{name.hex()}"))

        def written(done: asyncio.Future[Done]) -> None:
            if done.cancelled():
                return
            error = done.exception()
            if error is None:
                logged("")
            elif isinstance(error, Refusal) and error.reason not in {
                Reason.OVERLOADED,
                Reason.STORE_UNAVAILABLE,
            }:
                logged("" if event.kind in NEWS_ONLY else error.reason.value)
            elif not isinstance(error, Refusal):
                answer(Reason.INTERNAL.value)

        writing.add_done_callback(written)
