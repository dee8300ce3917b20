"""A caller's question: the query that travels, and what stays here: scope, deadline, page, who asks.

Rules against fishing are checked here, before anyone is asked: no wildcards, and the minimum query of every category.
"""

from __future__ import annotations

import msgspec

from federation.identity_number import canonical, repairs
from federation.keys import fold_certificate
from federation.names import fold
from federation.placeholders import PLACEHOLDERS
from federation.query import Query
from federation.reasons import Reason, Refusal

DEADLINE_S, LONGEST_DEADLINE_S, SHORTEST_DEADLINE_S = 2.0, 10.0, 0.1
PAGE_SIZE, LARGEST_PAGE = 20, 100
_WILDCARDS = frozenset("*?%_＊？％＿〓□")
_YEAR_TOLERANCE = 5


class Scope(msgspec.Struct, frozen=True, gc=False):
    """Which archives a question is about: regions as first digits of division codes, or archives by code; both empty
    = every archive on the roster.
    """

    regions: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()


class Question(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One question of one caller. `caller` is the client's id, never a person's."""

    query: Query
    scope: Scope = Scope()
    deadline_s: float = DEADLINE_S
    page_size: int = PAGE_SIZE
    quick: bool = False
    """May end before the deadline once most expected records are answered for; the answer then says partial."""
    caller: str = ""


def check(question: Question) -> None:
    """Raise the Refusal that forbids this question, if any."""
    query = question.query
    for field in ("name", "other_name", "id_number", "other_id_number", "certificate_no"):
        if _WILDCARDS.intersection(getattr(query, field)):
            raise Refusal(Reason.WILDCARD, _POINTERS[field])
    check_minimum(query)


_POINTERS = {
    "name": "/subject/name",
    "other_name": "/subject/other_name",
    "id_number": "/subject/id_number",
    "other_id_number": "/subject/other_id_number",
    "certificate_no": "/event/certificate_no",
}


def check_minimum(query: Query) -> None:
    """The minimum query: name, and ID number or birth date, and one of other party, year within 5, place, certificate.

    ID or birth date identifies the asker even where the records carry neither; a name or a year alone is for the
    archive's own window. What is looked up under nothing counts as not given: dots for a name, 无 for a place or one character
    (市, which nearly every place has), an ID number that is nobody's however it was mistyped. Refusal(MINIMUM_QUERY) otherwise.
    """
    if not _says(query.name):
        raise Refusal(Reason.MINIMUM_QUERY, "/subject/name")
    if not _is_somebodys(query.id_number) and query.birth is None:
        raise Refusal(Reason.MINIMUM_QUERY, "/subject")
    event = query.event
    narrow = event is not None and event.last_year - event.first_year <= 2 * _YEAR_TOLERANCE
    other = _says(query.other_name) or _is_somebodys(query.other_id_number)
    place = _says(query.place) and len(fold(query.place)) > 1
    if not (other or narrow or place or fold_certificate(query.certificate_no)):
        raise Refusal(Reason.MINIMUM_QUERY, "/event")


def _says(text: str) -> bool:
    return bool(fold(text)) and text.strip() not in PLACEHOLDERS


def _is_somebodys(number: str) -> bool:
    return bool(number) and (canonical(number) is not None or bool(repairs(number)))
