"""The desk: what gateways ask, what reviewers do, what leaves. Each action is one transaction and is durable on return.

Every method may be called from any thread. Refusals: TAKEN when the item has changed since it was looked at,
ILLEGAL_TRANSITION when its state does not allow the action, STORE_UNAVAILABLE when nothing could be written.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from federation import mail
from federation.mail import UnreadableMailError
from federation.reasons import Reason, Refusal
from federation.service_hours import ServiceHours
from node_agent.desk import incoming, issuing, reviewing
from node_agent.desk.issuing import CanIssue, Document, Order
from node_agent.desk.items import DECIDED, OPEN, Action, Item, Notice, State
from node_agent.desk.records import Holding, Records
from node_agent.desk.reviewing import LEASE_MS
from node_agent.desk.rota import Rota
from node_agent.desk.rules import Judgement, ReleaseRule
from node_agent.desk.store import Store
from node_agent.desk.transaction import Transaction
from node_agent.desk.users import LEADS

CALL_WITHIN_MS = 900_000
"""A notice is tried for as long as a cross-city case may take; then the next rung has long been told."""

REMEMBER_MS = 90 * 86_400_000
"""How long identifiers of messages are kept: longer than any gateway sends one again."""
KEEP_PEOPLE_MS = 180 * 86_400_000

AGAIN_AFTER_MS = 60_000
"""What nobody can read (damaged, or written by a later version) is put aside for this long: it is counted once a minute and
holds up no other.
"""

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
        can_issue: CanIssue | None = None,
        keep_people_ms: int = KEEP_PEOPLE_MS,
    ) -> None:
        """`can_issue` is asked before an approval, None = the archive makes no documents. `keep_people_ms`: how long after its
        end an item keeps its request and proofs.
        """
        self._can_issue = can_issue
        self._keep_people_ms = keep_people_ms
        self.store, self.archive = store, archive
        self.rules, self.rota, self.hours = rules or ReleaseRule(), rota or Rota(), hours
        self.now_ms = now_ms
        self._records = records
        self._listeners: list[Callable[[], None]] = []
        self._data_version = store.data_version()
        self._lock = threading.Lock()
        self._forgot_ms = 0
        self._aside: dict[tuple[str, int] | bytes, int] = {}
        self.on_unreadable: Callable[[], None] = lambda: None
        """Called for each request or message that is put aside, in the thread that met it."""
        self.changes = 0
        """Grows with every change this process made or noticed."""
        store.on_unreadable = self._met_unreadable

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
        self._changed()
        return True

    def _changed(self) -> None:
        with self._lock:
            self.changes += 1
        for listener in list(self._listeners):
            listener()

    def _put_aside(self, what: tuple[str, int] | bytes, now: int) -> None:
        self._aside = {one: until for one, until in self._aside.items() if until > now}
        self._aside[what] = now + AGAIN_AFTER_MS
        self.on_unreadable()

    def _met_unreadable(self, row: tuple[str, int]) -> None:
        """A row the store left out: counted once a minute, as what is put aside here."""
        now = self.now_ms()
        if not self._is_aside(row, now):
            self._put_aside(row, now)

    def _is_aside(self, what: tuple[str, int] | bytes, now: int) -> bool:
        return self._aside.get(what, 0) > now

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
            # the write lock is not held meanwhile
            holding = self._asked_of(message, self._records.holding(message))
        with self.store.writing(self.now_ms()) as tx:
            if not tx.take(mail_id):
                return None
            incoming.arrive(tx, case_id, message, holding, self.rules)
            self._notify(tx, tx.newest(case_id))
        self._changed()
        return None

    def _asked_of(self, message: mail.Dispatch, holding: Holding | None) -> Holding | None:
        """The record, and whether a document could be made of it, which is asked where the rule would release it."""
        if holding is None or self._can_issue is None or not self.rules.judge(message, holding, 0).released:
            return holding
        try:
            self._can_issue(message, holding.archival_code, ())
        except Exception:  # as with the record itself: what can not be told is for a person
            return replace(holding, is_issuable=False)
        return holding

    def outbox(self, limit: int = 100) -> list[OutgoingMail]:
        """What to send now: of every case its oldest message without a receipt, so that a case's messages arrive in order.
        A receipt makes the next one due, which `on_change` tells. Of a case whose message nobody can read none leaves.
        """
        now = self.now_ms()
        out: list[OutgoingMail] = []
        for waiting in self.store.outbox(limit + len(self._aside)):
            if self._is_aside(waiting.id, now):
                continue
            try:
                message = mail.read_from_desk(waiting.body)
            except UnreadableMailError:
                self._put_aside(waiting.id, now)
                continue
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
        self._changed()

    def tick(self) -> None:
        """What time brings: leases end, waiting items are shown to more people. Once a second is often enough."""
        now = self.now_ms()
        due = [one for one in self.store.open_items() if self._is_due(one, now)]
        if now - self._forgot_ms > 3_600_000:
            self._forgot_ms = now
            with self.store.writing(now) as tx:
                tx.forget_before(now - REMEMBER_MS)
                tx.forget_people(now - self._keep_people_ms)
        if not due:
            return
        with self.store.writing(now) as tx:
            for seen in due:
                item = tx.item(seen.case_id, seen.grp)
                if item is None or item.state not in OPEN:
                    continue
                # if it changed since, the next tick puts it aside
                with contextlib.suppress(UnreadableMailError):
                    reviewing.pass_time(tx, item)
                    self._notify(tx, item)
        self._changed()

    def _is_due(self, item: Item, now: int) -> bool:
        if self._is_aside((item.case_id, item.grp), now):
            return False
        try:
            return reviewing.is_due(item, now) or self._has_relief(item, now)
        except UnreadableMailError:
            self._put_aside((item.case_id, item.grp), now)
            return False

    def _has_relief(self, item: Item, now: int) -> bool:
        """Whether others are on duty now than those who were told of a waiting item, or anybody after nobody."""
        if item.state is not State.WAITING or item.told < 0:
            return False
        on_duty = self.rota.on_duty(now, item.rung)
        return bool(on_duty) and not set(on_duty) & set(item.told_to.split())

    def _notify(self, tx: Transaction, item: Item | None) -> None:
        """Tell whoever is to know of the item on its rung, once; the calls themselves wait in the file."""
        if item is None or item.state not in OPEN:
            return
        if item.told >= item.rung and not self._has_relief(item, tx.now_ms):
            return
        until = item.review_until_ms if item.state is State.CLAIMED else item.pick_up_until_ms
        stage = "review" if item.state is State.CLAIMED else "pick_up"
        is_own = item.state is State.CLAIMED and not item.rung
        to = (item.reviewer,) if is_own else self.rota.on_duty(tx.now_ms, item.rung)
        item.told, item.told_to = item.rung, " ".join(to)
        tx.save(item)
        tx.act(item, "clock", "notified", {"rung": item.rung, "stage": stage, "to": list(to)})
        tx.notify(item, stage, until, self.rota.addresses(to))

    # calling people ----------------------------------------------------------------------------------------------

    def calls(self, limit: int = 16) -> list[Notice]:
        """People to be called now. What is late for its purpose is dropped here."""
        now = self.now_ms()
        due = self.store.notices(now, limit)
        stale = [one for one in due if not self._is_worth_calling(one, now)]
        if stale:
            with self.store.writing(now) as tx:
                for one in stale:
                    tx.called(one.seq)
        return [one for one in due if one not in stale]

    def _is_worth_calling(self, notice: Notice, now: int) -> bool:
        try:
            item = self.store.item(notice.case_id)
        except ValueError:  # in a state of a later version: nobody here can act on it
            return False
        is_open = item is not None and item.grp == notice.group and item.state in OPEN
        return is_open and now - notice.at_ms < CALL_WITHIN_MS

    def called(self, notice: Notice) -> None:
        with self.store.writing(self.now_ms()) as tx:
            tx.called(notice.seq)

    def call_again(self, notice: Notice, after_s: float) -> None:
        now = self.now_ms()
        with self.store.writing(now) as tx:
            tx.call_again(notice.seq, now + int(after_s * 1000))

    # with the issuer ---------------------------------------------------------------------------------------------

    def orders(self, limit: int = 16) -> list[Order]:
        """Documents to be made now, the longest waiting first. What nobody can read is postponed like what can not be made."""
        orders = []
        for item in self.store.issuing_items(self.now_ms(), limit):
            try:
                orders.append(issuing.order_of(item))
            except issuing.UnreadableOrderError:
                self.on_unreadable()
                self.not_issued(issuing.bare_order_of(item), "unreadable")
        return orders

    def issued(self, order: Order, document: Document) -> bool:
        """The document exists and is durable; False when it is no longer wanted: the case was withdrawn meanwhile."""
        with self.store.writing(self.now_ms()) as tx:
            item = tx.item(order.case_id, order.group)
            if item is None or item.state is not State.ISSUING:
                return item is not None and item.state is State.ISSUED
            issuing.complete(tx, item, document)
        self._changed()
        return True

    def in_vain(self, limit: int = 16) -> list[tuple[Order, bool]]:
        """Orders whose case ended without their document, which may have been made meanwhile: to be taken back. With each,
        whether the gateway was told of it. They do not say what was to be stated.
        """
        items = self.store.in_vain_items(limit)
        return [(issuing.bare_order_of(item), bool(item.document)) for item in items]

    def taken_back(self, order: Order, number: str) -> None:
        """The document of an order does not stand any more; "" = there was none."""
        with self.store.writing(self.now_ms()) as tx:
            item = tx.item(order.case_id, order.group)
            if item is None or item.state is not State.CLOSED:
                return
            item.issue_due_ms = 0
            tx.save(item)
            if number:
                tx.act(item, "issuer", "taken_back", {"number": number})
        self._changed()

    def not_issued(self, order: Order, kind: str, retry_after_s: float | None = None) -> None:
        """The document could not be made: it is tried again."""
        with self.store.writing(self.now_ms()) as tx:
            item = tx.item(order.case_id, order.group)
            if item is None or item.state is not State.ISSUING:
                return
            issuing.postpone(tx, item, kind, retry_after_s)
        self._changed()

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

    def approve(
        self,
        case_id: str,
        reviewer: str,
        version: int,
        archival_code: str = "",
        pages: tuple[dict[str, Any], ...] = (),
    ) -> Item:
        """`archival_code` names the record when the index did not, or another one. `pages` are the scans to copy, each
        {"file", "page", "hidden": [[left, top, right, bottom], …]} in shares of the page; without any a certificate of the
        facts is issued. Where the archive makes documents, the holder's approval is refused when record or page is not there:
        the gateway can not be told to take an approval back. That may take seconds.
        """
        work = reviewing.approving(archival_code, pages)
        item = self.item(case_id)
        is_new = item.version == version and item.state in OPEN  # else it is refused, or was done before
        if self._can_issue is not None and is_new and not item.on_behalf_of:
            self._can_issue(request_of(item), archival_code or item.archival_code, pages)
        return self._act(case_id, reviewer, version, "approve", work)

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
        is_lead = self.store.role(reviewer) in LEADS
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
        self._changed()
        return item


def request_of(item: Item) -> mail.Dispatch | None:
    """The request as it came; None when there is none, or nobody can read it."""
    if item.dispatch is None:
        return None
    try:
        message = mail.read_to_desk(item.dispatch)
    except UnreadableMailError:  # one such item must not hide the others
        return None
    return message if isinstance(message, mail.Dispatch) else None


def judgement_of(item: Item) -> Judgement | None:
    """What the release rule said when the item came."""
    written = msgspec.json.decode(item.release)
    return Judgement(tuple(written["failed"]), written["rule"]) if "failed" in written else None


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
