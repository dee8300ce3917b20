"""What a gateway's message does to the desk's items. Messages may come twice, late, and in another order than they were sent."""

from __future__ import annotations

from typing import Any

import msgspec

from federation import mail
from federation.service_hours import day_start, local_date
from node_agent.desk.issuing import begin_issuing
from node_agent.desk.items import DECIDED, OPEN, WITHDRAWN, Item, State
from node_agent.desk.records import Holding
from node_agent.desk.reviewing import decide_approved, reopen, shut
from node_agent.desk.rules import ReleaseRule
from node_agent.desk.transaction import Transaction

NOT_DISPATCHED = "not_dispatched"
"""Reason of an item of which only later messages have come so far."""

MOST_PROOFS = 100
BY_DEPUTY = "deputy"
BY_SEARCH = "search"
NO_RECORD_RULE = "no-record-over-complete/1"
BY_RULE = "rule"
_LONGEST_MS = 30 * 86_400_000
"""A message's remaining time is cut to this: a gateway's mistake must not break the arithmetic of times."""

_NUDGED = {"warn": 1, "escalate": 2}


def arrive(
    tx: Transaction, case_id: str, message: mail.ToDesk, holding: Holding | None, rules: ReleaseRule
) -> None:
    """Take a message that has not been seen before."""
    newest = tx.newest(case_id)
    if newest is not None and message.group < newest.grp:
        return  # it speaks of an older question, which a newer one replaced
    match message:
        case mail.Dispatch():
            _dispatched(tx, case_id, message, holding, rules)
        case mail.Note():
            _note(tx, case_id, message)
        case mail.Withdrawn():
            _ended(tx, case_id, message, {"reason": message.reason})
        case mail.Taken():
            _ended(tx, case_id, message, {"by": message.by})
        case mail.Issue():
            _issue(tx, case_id, message)
        case mail.Nudge():
            _nudged(tx, newest, message)
        case mail.Evidence():
            _evidence(tx, case_id, message)


def _dispatched(
    tx: Transaction, case_id: str, message: mail.Dispatch, holding: Holding | None, rules: ReleaseRule
) -> None:
    for older in tx.open_of_case(case_id, message.group - 1):
        shut(tx, older, "superseded")
        tx.save(older)
        tx.act(older, "gateway", "superseded")
    item = tx.item(case_id, message.group)
    if item is None:
        item = Item(case_id, message.group, State.WAITING, version=0)
        _fill(tx, item, message, holding)
        tx.post(item, mail.Received(group=item.grp))
        _judge(tx, item, message, holding, rules)
    elif item.dispatch is None:  # something about it came first: what that said stands
        _fill(tx, item, message, holding)
        tx.post(item, mail.Received(group=item.grp))
        if item.reason == NOT_DISPATCHED:
            reopen(tx, item)
            _judge(tx, item, message, holding, rules)
        _asked_again(tx, item, message)
    else:
        _fill(tx, item, message, holding)
        _asked_again(tx, item, message)
    item.heard = max(item.heard, message.seq)
    item.version += 1
    item.last = ""
    tx.save(item)
    if item.decided_by == BY_RULE and item.decided_ms == tx.now_ms:
        tx.act(item, BY_RULE, "approve", msgspec.json.decode(item.release))
    else:
        tx.act(item, "gateway", "received")


def _note(tx: Transaction, case_id: str, message: mail.Note) -> None:
    """Nobody has the record and everybody was asked: the note follows by rule, no person has anything to judge."""
    if tx.item(case_id, message.group) is not None:
        return
    item = Item(case_id, message.group, State.WAITING, version=1, dispatch=mail.write(message))
    item.received_ms = item.queued_ms = item.decided_ms = tx.now_ms
    item.decided_by, item.rule = BY_SEARCH, NO_RECORD_RULE
    item.number = tx.next_number(local_date(tx.now_ms).year)
    begin_issuing(tx, item)
    tx.save(item)
    tx.act(item, BY_SEARCH, "note", {"archives": len(message.archives)})


def _asked_again(tx: Transaction, item: Item, message: mail.Dispatch) -> None:
    """The other desk gave it back, unless that is older news than that it took it."""
    if item.state is State.CLOSED and item.reason == "taken" and message.seq >= item.heard:
        reopen(tx, item)


def _fill(tx: Transaction, item: Item, message: mail.Dispatch, holding: Holding | None) -> None:
    now = tx.now_ms
    item.dispatch = mail.write(message)
    item.on_behalf_of = message.on_behalf_of
    item.received_ms = item.received_ms or now
    item.queued_ms = item.queued_ms or now
    item.pick_up_until_ms = now + _bounded(message.pick_up_ms)
    item.target_until_ms = now + _bounded(message.target_ms)
    known = msgspec.json.decode(item.proofs, type=list[mail.Proof])
    item.proofs = msgspec.json.encode([*message.proofs, *(one for one in known if one not in message.proofs)])
    if holding is not None and not item.archival_code:
        item.archival_code = holding.archival_code


def _judge(
    tx: Transaction, item: Item, message: mail.Dispatch, holding: Holding | None, rules: ReleaseRule
) -> None:
    """The release rule, inside the transaction that makes the case durable, so that the day's limit can not be passed."""
    released = tx.released_since(day_start(tx.now_ms)) if rules.enabled else 0
    judgement = rules.judge(message, holding, released)
    item.release = msgspec.json.encode(judgement.written())
    if judgement.released:
        decide_approved(tx, item, BY_RULE, rule=judgement.rule)


def _ended(
    tx: Transaction, case_id: str, message: mail.Withdrawn | mail.Taken, detail: dict[str, Any]
) -> None:
    """Close what is open; what is decided stays, but for a document nobody has fetched or need make any more. What has not
    come yet is remembered as ended.
    """
    reason = WITHDRAWN if isinstance(message, mail.Withdrawn) else "taken"
    item = tx.item(case_id, message.group) or Item(
        case_id, message.group, State.CLOSED, version=0, reason=NOT_DISPATCHED, queued_ms=tx.now_ms
    )
    if reason == "taken" and message.seq < item.heard:
        return  # it was asked for again since
    item.heard = max(item.heard, message.seq)
    if item.state is State.CLOSED and item.reason in {NOT_DISPATCHED, "taken"}:
        item.reason = reason  # what is withdrawn does not come back when the other desk lets go
    elif item.state in OPEN or (item.state in {State.ISSUING, State.ISSUED} and reason == WITHDRAWN):
        shut(tx, item, reason)  # what is not made yet need not be made; what is made is taken back
    tx.save(item)
    tx.act(item, "gateway", reason, detail)
    for older in tx.open_of_case(case_id, message.group - 1):
        shut(tx, older, reason)
        tx.save(older)
        tx.act(older, "gateway", reason, detail)


def _issue(tx: Transaction, case_id: str, message: mail.Issue) -> None:
    """A deputy approved in this archive's name: issue, whatever this desk thought of it, and once."""
    item = tx.item(case_id, message.group) or Item(case_id, message.group, State.CLOSED, version=0)
    for older in tx.open_of_case(case_id, message.group - 1):
        shut(tx, older, "superseded")
        tx.save(older)
        tx.act(older, "gateway", "superseded")
    if item.state is State.CLOSED and item.reason == WITHDRAWN:
        return  # the gateway ends a case after it orders, never before
    if item.state not in {State.ISSUING, State.ISSUED}:
        item.number = item.number or tx.next_number(local_date(tx.now_ms).year)
        item.decided_by, item.decided_ms = BY_DEPUTY, item.decided_ms or tx.now_ms
        begin_issuing(tx, item)
    item.version += 1
    item.last = ""
    tx.save(item)
    tx.act(item, "gateway", "issue", {"by": message.by})


def _nudged(tx: Transaction, item: Item | None, message: mail.Nudge) -> None:
    """The gateway's clock reminds: at least as many people as its level says are told, again."""
    if item is None or item.grp != message.group or item.state not in OPEN:
        return
    rung = _NUDGED.get(message.level, 1)
    if rung > item.rung:
        item.rung = rung
        until = tx.now_ms + max(-_LONGEST_MS, min(message.left_ms, _LONGEST_MS))
        if message.stage == "review" and item.state is State.CLAIMED:
            item.review_until_ms = until
        elif message.stage == "pick_up":
            item.pick_up_until_ms = until
        tx.save(item)
    tx.act(item, "gateway", "nudged", {"level": message.level[:16], "stage": message.stage[:16]})


def _evidence(tx: Transaction, case_id: str, message: mail.Evidence) -> None:
    """What the applicant handed in; whoever is free may go on with it."""
    item = tx.item(case_id, message.group) or Item(
        case_id, message.group, State.CLOSED, version=0, reason=NOT_DISPATCHED, queued_ms=tx.now_ms
    )
    known = msgspec.json.decode(item.proofs, type=list[mail.Proof])
    fresh = [proof for proof in message.proofs if proof not in known]
    item.proofs = msgspec.json.encode([*known, *fresh][:MOST_PROOFS])
    if item.state is State.AWAITING_EVIDENCE:
        reopen(tx, item)
    if item.state not in DECIDED:
        item.version += 1
        item.last = ""
    tx.save(item)
    tx.act(item, "gateway", "evidence", {"kinds": [proof.kind for proof in message.proofs]})


def _bounded(left_ms: int) -> int:
    return max(0, min(left_ms, _LONGEST_MS))
