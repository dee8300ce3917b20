"""What the desk keeps, as values: items and where they stand, what was done, messages without a receipt, calls of people."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

WITHDRAWN = "withdrawn"
"""Reason of an item whose applicant no longer asks."""


class State(StrEnum):
    """Where an item stands at this desk."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    AWAITING_EVIDENCE = "awaiting_evidence"
    RETRIEVING = "retrieving"
    APPROVED = (
        "approved"  # the gateway has not taken the decision yet; a deputy's stays so, for the holder issues
    )
    ISSUING = "issuing"  # the gateway has taken it: the document is being made
    ISSUED = "issued"
    REFUSED = "refused"
    REFERRED = "referred"
    CLOSED = (
        "closed"  # withdrawn, taken by another desk, superseded, or not accepted by the gateway: see `reason`
    )


OPEN = frozenset({State.WAITING, State.CLAIMED, State.AWAITING_EVIDENCE, State.RETRIEVING})
DECIDED = frozenset({State.APPROVED, State.ISSUING, State.ISSUED, State.REFUSED, State.REFERRED})


class Item(msgspec.Struct):
    """One question of one case. Times are milliseconds of UTC, 0 = not yet.

    `version` grows whenever somebody else's view of the item would be wrong; renewing a lease and being reminded leave
    it. `dispatch` is the request as it came; None when something about it came before it did.
    """

    case_id: str
    grp: int
    state: State
    version: int = 1
    mails: int = 0
    heard: int = 0
    """The latest word of the gateway on whether this desk has the item: `seq` of its message."""
    dispatch: bytes | None = None
    on_behalf_of: str = ""
    received_ms: int = 0
    queued_ms: int = 0
    pick_up_until_ms: int = 0
    review_until_ms: int = 0
    target_until_ms: int = 0
    reviewer: str = ""
    lease_until_ms: int = 0
    rung: int = 0
    told: int = -1
    told_to: str = ""
    """Who was told last, names joined by spaces, which none can hold (`users.is_name`): when others come on duty, they are told
    too.
    """
    proofs: bytes = b"[]"
    archival_code: str = ""
    release: bytes = b"{}"
    number: str = ""
    reason: str = ""
    decided_by: str = ""
    decided_ms: int = 0
    rule: str = ""
    """The release rule that decided, with its version; "" = a person."""
    document: str = ""
    form: str = ""
    credential: str = ""
    pages: bytes = b"[]"
    """Pages of the record's scans a reviewer chose for a certified copy, with what is hidden on each; none = no copy."""
    issue_due_ms: int = 0
    issue_tries: int = 0
    last: str = ""
    """Who did what last, so that the same request sent twice is answered alike."""


class Action(msgspec.Struct, frozen=True):
    """One line of what was done: `actor` is a user's name, gateway, clock or rule. Stays at the archive."""

    seq: int
    at_ms: int
    case_id: str
    group: int
    actor: str
    action: str
    state: str
    version: int
    detail: dict[str, Any]


class Waiting(msgspec.Struct, frozen=True):
    """A message that has no receipt yet."""

    id: bytes
    case_id: str
    group: int
    kind: str
    body: bytes
    happened_ms: int


class Notice(msgspec.Struct, frozen=True):
    """Somebody should look, and is to be called at `address`. `rung`: 0 first reviewer, 1 second, 2 duty lead."""

    seq: int
    at_ms: int
    case_id: str
    group: int
    stage: str
    rung: int
    until_ms: int
    address: str
    tries: int
