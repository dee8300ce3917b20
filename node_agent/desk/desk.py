"""The desk: what gateways ask, what reviewers do, what leaves. Each action is one transaction and is durable on return.

Every method may be called from any thread. Refusals: TAKEN when the item has changed since it was looked at,
ILLEGAL_TRANSITION when its state does not allow the action, STORE_UNAVAILABLE when nothing could be written.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from federation import mail
from federation.mail import UnreadableMailError
from federation.reasons import Reason, Refusal
from federation.service_hours import ServiceHours
from node_agent.desk import incoming, issuing, reviewing
from node_agent.desk.issuing import Document, Order
from node_agent.desk.records import Holding, Records
from node_agent.desk.reviewing import LEASE_MS
from node_agent.desk.rota import Rota
from node_agent.desk.rules import Judgement, ReleaseRule
from node_agent.desk.store import DECIDED, OPEN, Action, Item, State, Store, Transaction

MOST_NOTICES = 1_000
REMEMBER_MS = 90 * 86_400_000
"""How long identifiers of messages are kept: longer than any gateway sends one again."""

_BACK_AFTER_REFERRAL = frozenset({Reason.REFERRED_IN_A_CIRCLE, Reason.NOT_A_MEMBER, Reason.OUT_OF_RANGE})
"""Answers to a referral that leave the case with this archive."""

_NOT_UNDERSTOOD = frozenset({Reason.INTERNAL, Reason.BAD_FRAME})
"""Answers that say nothing about the case: it is still open, and a person must look again."""

_DECIDING = frozenset({"approved", "refused", "referred", "evidence_wanted", "issued"})
"""Messages that ask something of the gateway; the others only tell."""


class OutgoingMail(msgspec.Struct, frozen=True):
    """A message as it is to be sent now."""

    id: bytes
    case_id: str
    body: bytes


class Notice(msgspec.Struct, frozen=True):
    """Somebody should look: `to` names users. `rung`: 0 first reviewer, 1 second, 2 duty lead; milliseconds left."""

    case_id: str
    stage: str
    rung: int
    left_ms: int
    to: tuple[str, ...] = ()


class Desk:
    """One archive's desk. `now_ms` is UTC; `records` finds what a request points at, None = there is no index."""

    def __init__(
        self,
        store: Store,
        archive: str,
        *,
        now_ms: Callable[[], int],
        rules: ReleaseRule | None = None,
        rota: Rota | None = None,
        hours: ServiceHours | None = None,
        records: Records | None = None,
    ) -> None:
        self.store, self.archive = store, archive
        self.rules, self.rota, self.hours = rules or ReleaseRule(), rota or Rota(), hours
        self.now_ms = now_ms
        self._records = records
        self._listeners: list[Callable[[], None]] = []
        self._notices: deque[Notice] = deque(maxlen=MOST_NOTICES)
        self._data_version = store.data_version()
        self._lock = threading.Lock()
        self._forgot_ms = 0
        self.changes = 0
        """Grows with every change this process made or noticed."""

    # being told of changes ---------------------------------------------------------------------------------------

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called after every change, in the thread that made it; call what is returned to end that.
        On an event loop: `desk.on_change(lambda: loop.call_soon_threadsafe(bell.set))`.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def poll(self) -> bool:
        """Notice what another process did (`lantai-node desk`); costs some microseconds."""
        version = self.store.data_version()
        if version == self._data_version:
            return False
        self._data_version = version
        self._changed(())
        return True

    def take_notices(self) -> list[Notice]:
        """Whom to call since the last time; what nobody takes is dropped, the oldest first."""
        with self._lock:
            taken = list(self._notices)
            self._notices.clear()
        return taken

    def _changed(self, notices: Iterable[Notice]) -> None:
        with self._lock:
            self._notices.extend(notices)
            self.changes += 1
        for listener in list(self._listeners):
            listener()

    # with the gateway --------------------------------------------------------------------------------------------

    def receive(self, mail_id: bytes, case_id: str, body: bytes) -> Reason | None:
        """A message from a gateway: None = it is durable here, a reason = it will never be taken. The same message again
        changes nothing. Refusal(STORE_UNAVAILABLE): neither, let it be sent again.
        """
        try:
            message = mail.read_to_desk(body)
        except UnreadableMailError:
            return Reason.BAD_FRAME
        if not case_id or len(case_id) > 64 or not mail_id:
            return Reason.BAD_FRAME
        if self.store.has_seen(mail_id):
            return None
        holding: Holding | None = None
        if isinstance(message, mail.Dispatch) and self._records is not None and not message.on_behalf_of:
            holding = self._records.holding(message)  # the write lock is not held meanwhile
        notices: list[Notice] = []
        with self.store.writing(self.now_ms()) as tx:
            if not tx.take(mail_id):
                return None
            incoming.arrive(tx, case_id, message, holding, self.rules)
            notices = [*self._due_notices(tx, case_id)]
        self._changed(notices)
        return None

    def outbox(self, limit: int = 100) -> list[OutgoingMail]:
        """What to send now: of every case its oldest message without a receipt, so that a case's messages arrive in order.
        A receipt makes the next one due, which `on_change` tells.
        """
        now = self.now_ms()
        out = []
        for waiting in self.store.outbox(limit):
            message = mail.read_from_desk(waiting.body)
            dated = msgspec.structs.replace(message, ago_ms=max(0, now - waiting.happened_ms))
            out.append(OutgoingMail(waiting.id, waiting.case_id, mail.write(dated)))
        return out

    def receipted(self, mail_id: bytes, reason: str = "") -> None:
        """The gateway has made a message durable, or says why it never will: then the item shows that reason."""
        with self.store.writing(self.now_ms()) as tx:
            sent = tx.waiting(mail_id)
            if sent is None:
                return  # receipted before
            tx.receipt(mail_id, reason)
            item = tx.item(sent.case_id, sent.group)
            if item is None:
                pass
            elif reason:
                _not_taken(tx, item, sent.kind, reason)
            elif sent.kind == "approved" and item.state is State.APPROVED and not item.on_behalf_of:
                issuing.begin_issuing(tx, item)  # the decision stands; only now is a document made of it
                item.version, item.last = item.version + 1, ""
                tx.save(item)
                tx.act(item, "gateway", "taken_up")
        self._changed(())

    def tick(self) -> None:
        """What time brings: leases end, waiting items are shown to more people. Once a second is often enough."""
        now = self.now_ms()
        due = [item for item in self.store.open_items() if reviewing.is_due(item, now)]
        if now - self._forgot_ms > 3_600_000:
            self._forgot_ms = now
            with self.store.writing(now) as tx:
                tx.forget_before(now - REMEMBER_MS)
        if not due:
            return
        notices: list[Notice] = []
        with self.store.writing(now) as tx:
            for seen in due:
                item = tx.item(seen.case_id, seen.grp)
                if item is not None and item.state in OPEN:
                    reviewing.pass_time(tx, item)
                    notices += self._due_notices(tx, item.case_id)
        self._changed(notices)

    def _due_notices(self, tx: Transaction, case_id: str) -> list[Notice]:
        """Mark the item as told on its rung; the notice goes out after the transaction."""
        item = tx.newest(case_id)
        if item is None or item.state not in OPEN or item.told >= item.rung:
            return []
        item.told = item.rung
        tx.save(item)
        until = item.review_until_ms if item.state is State.CLAIMED else item.pick_up_until_ms
        stage = "review" if item.state is State.CLAIMED else "pick_up"
        is_own = item.state is State.CLAIMED and not item.rung
        to = (item.reviewer,) if is_own else self.rota.on_duty(tx.now_ms, item.rung)
        tx.act(item, "clock", "notified", {"rung": item.rung, "stage": stage})
        return [Notice(case_id, stage, item.rung, until - tx.now_ms, to)]

    # with the issuer ---------------------------------------------------------------------------------------------

    def orders(self, limit: int = 16) -> list[Order]:
        """Documents to be made now, the longest waiting first."""
        return [issuing.order_of(item) for item in self.store.issuing_items(self.now_ms(), limit)]

    def issued(self, order: Order, document: Document) -> bool:
        """The document exists and is durable; False when it is no longer wanted: the case was withdrawn meanwhile."""
        with self.store.writing(self.now_ms()) as tx:
            item = tx.item(order.case_id, order.group)
            if item is None or item.state is not State.ISSUING:
                return item is not None and item.state is State.ISSUED
            issuing.complete(tx, item, document)
        self._changed(())
        return True

    def not_issued(self, order: Order, kind: str, retry_after_s: float | None = None) -> None:
        """The document could not be made: it is tried again."""
        with self.store.writing(self.now_ms()) as tx:
            item = tx.item(order.case_id, order.group)
            if item is None or item.state is not State.ISSUING:
                return
            issuing.postpone(tx, item, kind, retry_after_s)
        self._changed(())

    # with reviewers ----------------------------------------------------------------------------------------------

    def queue(self, reviewer: str = "") -> list[Item]:
        """Open items in the order to take them: one's own, then what waits (most escalated, then soonest due), then others'."""

        def place(item: Item) -> tuple[int, int, int]:
            is_mine = bool(reviewer) and item.reviewer == reviewer
            group = 0 if is_mine else 1 if item.state is State.WAITING else 2
            return group, -item.rung, item.pick_up_until_ms or item.queued_ms

        return sorted(self.store.open_items(), key=place)

    def item(self, case_id: str) -> Item:
        """The newest question of a case; Refusal(UNKNOWN_CASE)."""
        found = self.store.item(case_id)
        if found is None:
            raise Refusal(Reason.UNKNOWN_CASE)
        return found

    def history(self, case_id: str) -> list[Action]:
        return self.store.actions(case_id=case_id)

    def record(self, item: Item) -> Holding | None:
        """The record asked for, as it is in the index now."""
        dispatch = request_of(item)
        if dispatch is None or self._records is None or dispatch.on_behalf_of:
            return None
        return self._records.holding(dispatch)

    def claim(self, case_id: str, reviewer: str, version: int) -> Item:
        return self._act(case_id, reviewer, version, "claim", reviewing.claim)

    def renew(self, case_id: str, reviewer: str, version: int) -> Item:
        """Keep a claimed item for another `LEASE_MS`; the version stays."""
        now = self.now_ms()
        with self.store.writing(now) as tx:
            item = tx.newest(case_id)
            if item is None:
                raise Refusal(Reason.UNKNOWN_CASE)
            if item.version != version or item.state is not State.CLAIMED or item.reviewer != reviewer:
                raise Refusal(Reason.TAKEN)
            item.lease_until_ms = now + LEASE_MS
            tx.save(item)
        return item

    def release(self, case_id: str, reviewer: str, version: int) -> Item:
        return self._act(case_id, reviewer, version, "release", reviewing.release)

    def approve(self, case_id: str, reviewer: str, version: int, archival_code: str = "") -> Item:
        """`archival_code` names the record when the index did not."""
        return self._act(case_id, reviewer, version, "approve", reviewing.approving(archival_code))

    def refuse(self, case_id: str, reviewer: str, version: int, reason: str) -> Item:
        """`reason` is a word of `REFUSAL_REASONS`."""
        return self._act(case_id, reviewer, version, "refuse", reviewing.refusing(reason))

    def want_evidence(self, case_id: str, reviewer: str, version: int, items: tuple[str, ...]) -> Item:
        """`items` are words of `EVIDENCE_KINDS`."""
        return self._act(case_id, reviewer, version, "want_evidence", reviewing.wanting(items))

    def retrieving(self, case_id: str, reviewer: str, version: int, *, pauses: bool = False) -> Item:
        """The original is being fetched; `pauses` if the archive's policy stops the clock for it."""
        return self._act(case_id, reviewer, version, "retrieving", reviewing.retrieving(pauses=pauses))

    def retrieved(self, case_id: str, reviewer: str, version: int) -> Item:
        return self._act(case_id, reviewer, version, "retrieved", reviewing.retrieved)

    def refer(self, case_id: str, reviewer: str, version: int, archive: str) -> Item:
        """Another archive holds it."""
        return self._act(case_id, reviewer, version, "refer", reviewing.referring(archive, self.archive))

    def hand_over(self, case_id: str, reviewer: str, version: int, to: str) -> Item:
        """To a colleague: by whoever has it, or by a lead."""
        if not self.store.role(to):
            raise Refusal(Reason.OUT_OF_RANGE, "/to")
        is_lead = self.store.role(reviewer) in {"lead", "admin"}
        return self._act(case_id, reviewer, version, "hand_over", reviewing.handing_over(to, is_lead=is_lead))

    def _act(self, case_id: str, reviewer: str, version: int, action: str, work: reviewing.Work) -> Item:
        """One action of a person on the item as they saw it."""
        with self.store.writing(self.now_ms()) as tx:
            item = tx.newest(case_id)
            if item is None:
                raise Refusal(Reason.UNKNOWN_CASE)
            done = f"{reviewer}:{action}"
            if version == item.version - 1 and item.last == done:
                return item  # the same request again: its answer was lost
            if version != item.version:
                raise Refusal(Reason.TAKEN)
            detail = work(tx, item, reviewer)
            item.version, item.last = item.version + 1, done
            tx.save(item)
            tx.act(item, reviewer, action, detail)
        self._changed(())
        return item


def request_of(item: Item) -> mail.Dispatch | None:
    """The request as it came."""
    if item.dispatch is None:
        return None
    message = mail.read_to_desk(item.dispatch)
    return message if isinstance(message, mail.Dispatch) else None


def judgement_of(item: Item) -> Judgement | None:
    """What the release rule said when the item came."""
    written = msgspec.json.decode(item.release)
    return Judgement(tuple(written["failed"])) if "failed" in written else None


def _not_taken(tx: Transaction, item: Item, kind: str, reason: str) -> None:
    """The gateway did not accept what this desk said: the case has gone on without it, or stays where it was."""
    if kind not in _DECIDING or (kind == "evidence_wanted" and item.state in DECIDED):
        return  # news, or followed by a decision whose own receipt will tell
    if kind == "approved" and _is_asked_to_issue(item):
        action = "not_taken"  # a deputy was first, and this archive issues all the same
    elif item.state in DECIDED and (
        reason in _NOT_UNDERSTOOD or (kind == "referred" and reason in _BACK_AFTER_REFERRAL)
    ):
        reviewing.reopen(tx, item)
        item.decided_ms, item.decided_by = 0, ""
        item.reason = reason
        action = "reopened"
    elif item.state is State.CLOSED:
        return  # it was told why before
    else:
        item.state, item.reviewer, item.lease_until_ms = State.CLOSED, "", 0
        item.reason = reason
        action = "not_taken"
    item.version, item.last = item.version + 1, ""
    tx.save(item)
    tx.act(item, "gateway", action, {"message": kind, "reason": reason})


def _is_asked_to_issue(item: Item) -> bool:
    return item.decided_by == incoming.BY_DEPUTY
