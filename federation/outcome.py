"""What became of asking one archive: exactly one outcome for every archive on the roster, in every answer."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    HIT = "hit"  # answered in full, with candidates
    EMPTY = "empty"  # answered in full, nothing found
    REFUSED_POLICY = "refused_policy"
    TIMEOUT = "timeout"  # no complete answer inside the deadline
    UNREACHABLE = "unreachable"  # no session
    OVERLOADED = "overloaded"
    CIRCUIT_OPEN = "circuit_open"  # not tried: it failed again and again just now
    STALE = "stale"  # answered from an index older than the archive's published limit
    BAD_ANSWER = "bad_answer"  # broke the protocol, or answered for another archive
    UNSUPPORTED = "unsupported"  # does not know this kind of question
    NOT_ASKED = "not_asked"  # always with a NotAsked reason


class NotAsked(StrEnum):
    """Why an archive was left out."""

    OUT_OF_SCOPE = "out_of_scope"  # the caller limited the regions
    CATEGORY_NOT_HELD = "category_not_held"  # its manifest holds no such category
    YEARS_NOT_HELD = "years_not_held"  # its manifest holds no record of those years, and none undated
    MEMBERSHIP_FILTER = "membership_filter"  # a filter as new as its index rules the person out
    DEFERRED = "deferred"  # above the cap of one fan-out
    STOPPED_EARLY = "stopped_early"  # asked, but the stop rule of a quick search ended the waiting


ANSWERED = frozenset({Outcome.HIT, Outcome.EMPTY})
"""Outcomes that say all there is to say about an archive."""

CANNOT_HIDE = frozenset(
    {NotAsked.OUT_OF_SCOPE, NotAsked.CATEGORY_NOT_HELD, NotAsked.YEARS_NOT_HELD, NotAsked.MEMBERSHIP_FILTER}
)
"""Reasons for not asking that can not hide a record of the declared scope, given evidence at least as new as the
archive's index. Only beside these may an answer be called complete."""
