"""What a case can be and what can happen to it: states, stages, events, and the one table of allowed transitions."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a case stands."""

    SUBMITTED = "submitted"
    LOCATING = "locating"
    AWAITING_SELECTION = "awaiting_selection"
    DISPATCHED = "dispatched"
    IN_REVIEW = "in_review"
    AWAITING_EVIDENCE = "awaiting_evidence"
    RETRIEVING_ORIGINAL = "retrieving_original"
    ISSUING = "issuing"
    ISSUED = "issued"
    DELIVERED = "delivered"
    REFUSED = "refused"
    NO_RECORD = "no_record"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


ENDED = frozenset({State.DELIVERED, State.REFUSED, State.NO_RECORD, State.WITHDRAWN, State.EXPIRED})
"""No event moves a case out of these; `delivered` may still be noted on them once, because it stops the clock, and `signed_anew`
for as long as the caller may fetch the credential.
"""


WITH_DOCUMENT = frozenset({State.ISSUED, State.DELIVERED, State.NO_RECORD})
"""States in which the caller may have a document, or the case as the document."""

ANSWER_IN_THE_CASE = frozenset({State.REFUSED, State.NO_RECORD, State.EXPIRED})
"""Ends whose whole answer is the case itself: once the caller has seen it, it is delivered. Where a note was ordered over
`no_record`, the note comes first (Case.is_answer).
"""


class Stage(StrEnum):
    """Whose minutes are running."""

    LOCATE = "locate"
    SELECT = "select"
    PICK_UP = "pick_up"
    REVIEW = "review"
    ISSUE = "issue"
    DELIVER = "deliver"


STAGE_OF: dict[State, Stage] = {
    State.SUBMITTED: Stage.LOCATE,
    State.LOCATING: Stage.LOCATE,
    State.AWAITING_SELECTION: Stage.SELECT,
    State.DISPATCHED: Stage.PICK_UP,
    State.IN_REVIEW: Stage.REVIEW,
    State.AWAITING_EVIDENCE: Stage.REVIEW,
    State.RETRIEVING_ORIGINAL: Stage.REVIEW,
    State.ISSUING: Stage.ISSUE,
    State.ISSUED: Stage.DELIVER,
    State.REFUSED: Stage.DELIVER,
    State.NO_RECORD: Stage.DELIVER,
    State.EXPIRED: Stage.DELIVER,
}


class Kind(StrEnum):
    """What can happen to a case. Journal entries carry the same words."""

    ACCEPTED = "accepted"  # the clock starts
    LOCATED = "located"  # archives answered; also late ones, as a new revision
    SELECTED = "selected"  # the caller chose a candidate
    NONE_FITS = "none_fits"  # the caller chose none
    RECEIVED = "received"  # the holder's desk has made the case durable
    CLAIMED = "claimed"  # a reviewer took it
    RELEASED = "released"  # the reviewer's lease ended without a decision
    APPROVED = "approved"
    REFUSED = "refused"
    EVIDENCE_WANTED = "evidence_wanted"
    EVIDENCE_GIVEN = "evidence_given"
    RETRIEVING = "retrieving"  # the original is being fetched from the repository
    RETRIEVED = "retrieved"
    REFERRED = "referred"  # to another holder
    ISSUED = "issued"
    DELIVERED = "delivered"  # the asking window has the answer: the clock stops
    SIGNED_ANEW = "signed_anew"  # its credential has a successor under the same number; moves nothing
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    WARNED = "warned"  # half of a stage is used
    ESCALATED = "escalated"  # the configured share of a stage is used
    DEPUTISED = "deputised"  # a deputy archive was asked to review too
    BREACHED = "breached"  # the target has passed


_OPEN = [state for state in State if state not in ENDED]
_AT_DESK = (State.DISPATCHED, State.IN_REVIEW, State.AWAITING_EVIDENCE, State.RETRIEVING_ORIGINAL)

TRANSITIONS: dict[tuple[State, Kind], frozenset[State]] = {
    (State.SUBMITTED, Kind.ACCEPTED): frozenset({State.LOCATING}),
    (State.LOCATING, Kind.LOCATED): frozenset(
        {State.LOCATING, State.AWAITING_SELECTION, State.DISPATCHED, State.NO_RECORD, State.EXPIRED}
    ),
    (State.AWAITING_SELECTION, Kind.LOCATED): frozenset({State.AWAITING_SELECTION}),
    (State.AWAITING_SELECTION, Kind.SELECTED): frozenset({State.DISPATCHED}),
    (State.AWAITING_SELECTION, Kind.NONE_FITS): frozenset({State.NO_RECORD, State.LOCATING, State.EXPIRED}),
    (State.DISPATCHED, Kind.RECEIVED): frozenset({State.DISPATCHED}),
    (State.IN_REVIEW, Kind.RECEIVED): frozenset(
        {State.IN_REVIEW}
    ),  # the deputy's desk, after the holder claimed
    (State.DISPATCHED, Kind.CLAIMED): frozenset({State.IN_REVIEW}),
    (State.IN_REVIEW, Kind.CLAIMED): frozenset({State.IN_REVIEW}),  # handed over to a colleague
    (State.IN_REVIEW, Kind.RELEASED): frozenset({State.DISPATCHED}),
    (State.IN_REVIEW, Kind.EVIDENCE_WANTED): frozenset({State.AWAITING_EVIDENCE}),
    (State.DISPATCHED, Kind.EVIDENCE_WANTED): frozenset({State.AWAITING_EVIDENCE}),
    (State.AWAITING_EVIDENCE, Kind.EVIDENCE_GIVEN): frozenset({State.IN_REVIEW}),
    (State.IN_REVIEW, Kind.RETRIEVING): frozenset({State.RETRIEVING_ORIGINAL}),
    (State.RETRIEVING_ORIGINAL, Kind.RETRIEVED): frozenset({State.IN_REVIEW}),
    (State.ISSUING, Kind.ISSUED): frozenset({State.ISSUED}),
    (State.ISSUED, Kind.DELIVERED): frozenset({State.DELIVERED}),
    (State.NO_RECORD, Kind.ISSUED): frozenset({State.NO_RECORD}),  # the note over the search
    # every wait ends
    **{(state, Kind.EXPIRED): frozenset({State.EXPIRED}) for state in _OPEN if state is not State.SUBMITTED},
    **{(state, Kind.APPROVED): frozenset({State.ISSUING}) for state in _AT_DESK},
    **{(state, Kind.REFUSED): frozenset({State.REFUSED}) for state in _AT_DESK},
    **{(state, Kind.REFERRED): frozenset({State.DISPATCHED}) for state in _AT_DESK},
    **{(state, Kind.WITHDRAWN): frozenset({State.WITHDRAWN}) for state in _OPEN},
    # the clock speaks without moving the case
    **{
        (state, kind): frozenset({state})
        for state in _OPEN
        for kind in (Kind.WARNED, Kind.ESCALATED, Kind.DEPUTISED, Kind.BREACHED)
    },
    **{(state, Kind.SIGNED_ANEW): frozenset({state}) for state in WITH_DOCUMENT},
    # an end is delivered too, once
    **{
        (state, Kind.DELIVERED): frozenset({state})
        for state in (State.REFUSED, State.NO_RECORD, State.EXPIRED)
    },
}
"""(state, event) -> the states it may lead to; which of several is decided in machine.py. A pair not here is illegal."""
