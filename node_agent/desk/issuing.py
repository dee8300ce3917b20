"""From "approved" to "issued": the one place where a decision the gateway has taken becomes a document.

A decision is durable and numbered first; the document is made afterwards, in a thread of its own, as often as it takes,
and only when it exists is the gateway told. Whoever makes documents fills `Issuer`; nothing else of the desk changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from federation import mail
from node_agent.desk.items import Item, State
from node_agent.desk.transaction import Transaction

FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 1_000, 60_000


class Order(msgspec.Struct, frozen=True):
    """What is to be issued. `number` is the decision's own number, given once and for ever; `decided_by` is a user of the
    desk, `rule` or `deputy`; `on_order_of` is the deputy archive that decided. `request` is None when only the order to
    issue came, and the search itself for a no-record note. `pages` are the scans a reviewer chose. Times are UTC ms.
    """

    case_id: str
    group: int
    number: str
    archival_code: str
    request: mail.Dispatch | mail.Note | None
    decided_by: str
    rule: str
    decided_ms: int
    tries: int = 0
    pages: tuple[dict[str, Any], ...] = ()


class Document(msgspec.Struct, frozen=True):
    """What was issued: the document's number, its kind, and the names under which it and its machine-verifiable form are
    kept, "" = there are none. `paper` is how it is found again by its short code.
    """

    number: str
    reference: str = ""
    form: str = ""
    credential: str = ""
    paper: mail.Paper | None = None


CanIssue = Callable[[mail.Dispatch | None, str, tuple[dict[str, Any], ...]], None]
"""Whether a document could be made of a request, an archival code and chosen pages: Refusal whose pointer names what is not
there. It may take seconds, for it reads scans.
"""


class IssueDeferredError(Exception):
    """The document can not be made now. `kind` is a constant word (font, key, time_authority …), shown to the archive's
    people; never a content. `retry_after_s` None = growing pauses. `text` says what to do, to the operator; "" = the word does.
    """

    def __init__(self, kind: str, retry_after_s: float | None = None, text: str = "") -> None:
        super().__init__(kind)
        self.kind, self.retry_after_s, self.text = kind, retry_after_s, text


class Issuer(Protocol):
    """Makes documents. Called in a worker thread, one order at a time, and again for the same order after a crash or a
    failure: the same order must give the same document. When it returns, the document is durable. IssueDeferredError
    says what is missing; any other exception counts as `failed`; both are tried again.
    """

    def issue(self, order: Order) -> Document: ...

    def take_back(self, order: Order, *, announced: bool) -> str:
        """Revoke the document of an order (without request and pages), whose case ended without it; its number, "" when there is none. Once, however
        often it is asked for; `announced` says whether the gateway was told of it. Refusal when it can not be done now.
        """
        ...


class ApprovalNotice:
    """The issuer of an archive that makes no documents: the decision itself, under its own number."""

    def issue(self, order: Order) -> Document:
        return Document(order.number)

    def take_back(self, order: Order, *, announced: bool) -> str:  # noqa: ARG002
        return ""


# transitions of an item ------------------------------------------------------------------------------------------


def begin_issuing(tx: Transaction, item: Item) -> None:
    """The decision stands: make its document."""
    item.state, item.reviewer, item.lease_until_ms, item.reason = State.ISSUING, "", 0, ""
    item.issue_due_ms, item.issue_tries = tx.now_ms, 0


class UnreadableOrderError(Exception):
    """What is to be stated was damaged, or written by a later version."""


def order_of(item: Item) -> Order:
    """The order an item stands for; UnreadableOrderError."""
    try:
        request = mail.read_to_desk(item.dispatch) if item.dispatch else None
        pages = msgspec.json.decode(item.pages, type=tuple[dict[str, Any], ...])
    except (mail.UnreadableMailError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UnreadableOrderError from error
    return msgspec.structs.replace(
        bare_order_of(item),
        request=request if isinstance(request, mail.Dispatch | mail.Note) else None,
        pages=pages,
    )


def bare_order_of(item: Item) -> Order:
    """The order without what is to be stated: enough to find its document again."""
    return Order(
        case_id=item.case_id,
        group=item.grp,
        number=item.number,
        archival_code=item.archival_code,
        request=None,
        decided_by=item.decided_by,
        rule=item.rule,
        decided_ms=item.decided_ms,
        tries=item.issue_tries,
    )


def complete(tx: Transaction, item: Item, document: Document) -> None:
    """The document exists: tell the gateway, once."""
    item.state, item.document, item.reason = State.ISSUED, document.reference, ""
    item.form, item.credential = document.form, document.credential
    item.version, item.last = item.version + 1, ""
    tx.post(
        item,
        mail.Issued(
            group=item.grp,
            number=document.number,
            archival_code=item.archival_code,
            document=document.reference,
            form=document.form,
            credential=document.credential,
            paper=document.paper,
        ),
    )
    tx.save(item)
    tx.act(item, "issuer", "issued", {"number": document.number})


def postpone(tx: Transaction, item: Item, kind: str, retry_after_s: float | None) -> None:
    """Not made: try again after a pause that doubles up to a minute."""
    item.issue_tries += 1
    pause = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** min(item.issue_tries - 1, 10))
    item.issue_due_ms = tx.now_ms + (pause if retry_after_s is None else int(retry_after_s * 1000))
    is_new = item.reason != kind
    item.reason = kind
    if is_new:  # a line for each kind of trouble, not for each try
        item.version, item.last = item.version + 1, ""
        tx.act(item, "issuer", "not_issued", {"reason": kind})
    tx.save(item)
