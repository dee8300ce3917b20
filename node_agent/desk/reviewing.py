"""What a person, the release rule and time do to one item: functions over a transaction and the item in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from federation import mail
from federation.reasons import Reason, Refusal
from federation.service_hours import local_date
from node_agent.desk.items import OPEN, Item, State
from node_agent.desk.transaction import Transaction

LEASE_MS = 120_000
"""How long a claimed item stays with a reviewer whose page is silent: a closed laptop frees the case."""
SECOND_AT, LEAD_AT = 0.5, 0.8
"""Shares of a stage after which the second reviewer and the duty lead are told, without waiting for the gateway."""
LONGEST_CODE = 100
MOST_PAGES = 200

Work = Callable[[Transaction, Item, str], dict[str, Any]]
"""Changes the item for a reviewer and says what to write down."""


def _needs_free(tx: Transaction, item: Item, reviewer: str) -> None:
    """Refuse when another has it, or nobody can have it any more."""
    if item.state not in OPEN:
        raise Refusal(Reason.ILLEGAL_TRANSITION)
    is_held = item.state is State.CLAIMED and item.lease_until_ms > tx.now_ms
    if is_held and item.reviewer != reviewer:
        raise Refusal(Reason.TAKEN)


def _needs_claim(tx: Transaction, item: Item, reviewer: str) -> None:
    """Make the item the reviewer's; the gateway is told when it was nobody's."""
    _needs_free(tx, item, reviewer)
    if item.state not in {State.WAITING, State.CLAIMED}:
        raise Refusal(Reason.ILLEGAL_TRANSITION)
    if item.state is State.WAITING or item.reviewer != reviewer:
        tx.post(item, mail.Claimed(group=item.grp))
        budget = _review_ms(item)
        item.review_until_ms = tx.now_ms + budget
        item.rung, item.told = 0, 0
    item.state, item.reviewer, item.lease_until_ms = State.CLAIMED, reviewer, tx.now_ms + LEASE_MS


def _review_ms(item: Item) -> int:
    message = mail.read_to_desk(item.dispatch) if item.dispatch else None
    return max(0, min(message.review_ms, 86_400_000)) if isinstance(message, mail.Dispatch) else 0


def claim(tx: Transaction, item: Item, reviewer: str) -> dict[str, Any]:
    _needs_claim(tx, item, reviewer)
    return {}


def release(tx: Transaction, item: Item, reviewer: str) -> dict[str, Any]:
    """Back to the queue."""
    if item.state is not State.CLAIMED:
        raise Refusal(Reason.ILLEGAL_TRANSITION)
    _needs_free(tx, item, reviewer)
    _give_back(tx, item)
    return {}


def _give_back(tx: Transaction, item: Item) -> None:
    """Picking up begins anew, with as much time as it had."""
    budget = max(0, item.pick_up_until_ms - item.queued_ms)
    reopen(tx, item)
    item.pick_up_until_ms = tx.now_ms + budget
    tx.post(item, mail.Released(group=item.grp))


def reopen(tx: Transaction, item: Item) -> None:
    """Wait for a reviewer, who is told anew."""
    item.state, item.reviewer, item.lease_until_ms, item.reason = State.WAITING, "", 0, ""
    item.queued_ms, item.rung, item.told, item.told_to = tx.now_ms, 0, -1, ""


def shut(tx: Transaction, item: Item, reason: str) -> None:
    """Close without a decision of this desk."""
    item.state, item.reviewer, item.lease_until_ms, item.reason = State.CLOSED, "", 0, reason
    item.version += 1
    item.last = ""
    item.decided_ms = item.decided_ms or tx.now_ms


def _decide(tx: Transaction, item: Item, state: State, by: str) -> None:
    item.state, item.reviewer, item.lease_until_ms, item.reason = state, "", 0, ""
    item.decided_by, item.decided_ms = by, tx.now_ms


def decide_approved(tx: Transaction, item: Item, by: str, *, rule: str = "") -> None:
    """Give the decision its number. Once the gateway has taken it, the holder issues."""
    item.number = item.number or tx.next_number(local_date(tx.now_ms).year)
    _decide(tx, item, State.APPROVED, by)
    item.rule = rule
    tx.post(
        item,
        mail.Approved(group=item.grp, number=item.number, archival_code=item.archival_code, rule=rule),
    )


def approving(archival_code: str, pages: tuple[dict[str, Any], ...] = ()) -> Work:
    if len(archival_code) > LONGEST_CODE:
        raise Refusal(Reason.TOO_LONG, "/archival_code")
    if len(pages) > MOST_PAGES:
        raise Refusal(Reason.TOO_LONG, "/pages")

    def approve(tx: Transaction, item: Item, reviewer: str) -> dict[str, Any]:
        _needs_free(tx, item, reviewer)
        item.archival_code = archival_code or item.archival_code
        item.pages = msgspec.json.encode(pages)
        decide_approved(tx, item, reviewer)
        return {"number": item.number, **({"pages": len(pages)} if pages else {})}

    return approve


def refusing(reason: str) -> Work:
    if reason not in mail.REFUSAL_REASONS:
        raise Refusal(Reason.OUT_OF_RANGE, "/reason")

    def refuse(tx: Transaction, item: Item, reviewer: str) -> dict[str, Any]:
        _needs_free(tx, item, reviewer)
        _decide(tx, item, State.REFUSED, reviewer)
        item.reason = reason
        tx.post(item, mail.Refused(group=item.grp, reason=reason))
        return {"reason": reason}

    return refuse


def wanting(items: tuple[str, ...]) -> Work:
    if (
        not items
        or len(items) > len(mail.EVIDENCE_KINDS)
        or any(one not in mail.EVIDENCE_KINDS for one in items)
    ):
        raise Refusal(Reason.OUT_OF_RANGE, "/items")

    def want(tx: Transaction, item: Item, reviewer: str) -> dict[str, Any]:
        _needs_free(tx, item, reviewer)
        if item.state not in {State.WAITING, State.CLAIMED}:
            raise Refusal(Reason.ILLEGAL_TRANSITION)
        item.state, item.reviewer, item.lease_until_ms = State.AWAITING_EVIDENCE, "", 0
        tx.post(item, mail.EvidenceWanted(group=item.grp, items=tuple(dict.fromkeys(items))))
        return {"items": list(items)}

    return want


def _needs_holder(item: Item) -> None:
    """A deputy decides about the request; the record itself is the holder's."""
    if item.on_behalf_of:
        raise Refusal(Reason.NOT_PERMITTED)


def retrieving(*, pauses: bool) -> Work:
    def retrieve(tx: Transaction, item: Item, reviewer: str) -> dict[str, Any]:
        _needs_holder(item)
        _needs_claim(tx, item, reviewer)
        item.state, item.lease_until_ms = State.RETRIEVING, 0
        tx.post(item, mail.Retrieving(group=item.grp, pauses=pauses))
        return {"pauses": pauses}

    return retrieve


def retrieved(tx: Transaction, item: Item, reviewer: str) -> dict[str, Any]:
    """The original is at hand; whoever says so goes on with it."""
    if item.state is not State.RETRIEVING:
        raise Refusal(Reason.ILLEGAL_TRANSITION)
    item.state, item.reviewer, item.lease_until_ms = State.CLAIMED, reviewer, tx.now_ms + LEASE_MS
    item.review_until_ms, item.rung, item.told = tx.now_ms + _review_ms(item), 0, 0
    tx.post(item, mail.Retrieved(group=item.grp))
    return {}


def referring(archive: str, own: str) -> Work:
    if len(archive) != 6 or not archive.isdigit() or not archive.isascii():
        raise Refusal(Reason.OUT_OF_RANGE, "/archive")

    def refer(tx: Transaction, item: Item, reviewer: str) -> dict[str, Any]:
        _needs_holder(item)
        _needs_free(tx, item, reviewer)
        message = mail.read_to_desk(item.dispatch) if item.dispatch else None
        passed = message.passed if isinstance(message, mail.Dispatch) else ()
        if archive == own or archive in passed:
            raise Refusal(Reason.REFERRED_IN_A_CIRCLE, "/archive")
        _decide(tx, item, State.REFERRED, reviewer)
        item.reason = archive
        tx.post(item, mail.Referred(group=item.grp, archive=archive))
        return {"archive": archive}

    return refer


def handing_over(to: str, *, is_lead: bool) -> Work:
    def hand_over(tx: Transaction, item: Item, reviewer: str) -> dict[str, Any]:
        if item.state not in {State.WAITING, State.CLAIMED}:
            raise Refusal(Reason.ILLEGAL_TRANSITION)
        if not is_lead:
            _needs_free(tx, item, reviewer)
        tx.post(item, mail.Claimed(group=item.grp))
        if item.state is State.WAITING:
            item.review_until_ms, item.rung, item.told = tx.now_ms + _review_ms(item), 0, 0
        item.state, item.reviewer, item.lease_until_ms = State.CLAIMED, to, tx.now_ms + LEASE_MS
        item.told = -1  # the colleague is told
        return {"to": to}

    return hand_over


# time ------------------------------------------------------------------------------------------------------------


def _rung(item: Item, now_ms: int) -> int:
    """How many people should know by now."""
    if item.state is State.WAITING:
        began, until = item.queued_ms, item.pick_up_until_ms
    elif item.state is State.CLAIMED and item.review_until_ms:
        message_budget = _review_ms(item)
        began, until = item.review_until_ms - message_budget, item.review_until_ms
    else:
        return item.rung
    if until <= began:
        return item.rung
    share = (now_ms - began) / (until - began)
    reached = 2 if share >= LEAD_AT else 1 if share >= SECOND_AT else 0
    return max(item.rung, reached)


def is_due(item: Item, now_ms: int) -> bool:
    """Whether time has something to do with the item now."""
    if item.state is State.CLAIMED and item.lease_until_ms <= now_ms:
        return True
    return _rung(item, now_ms) > item.rung or item.told < item.rung


def pass_time(tx: Transaction, item: Item) -> None:
    """End a lease that ran out; show the item to more people."""
    if item.state is State.CLAIMED and item.lease_until_ms <= tx.now_ms:
        had = item.reviewer
        _give_back(tx, item)
        item.version += 1
        item.last = ""
        tx.save(item)
        tx.act(item, "clock", "lease_ended", {"reviewer": had})
        return
    item.rung = _rung(item, tx.now_ms)
    tx.save(item)
