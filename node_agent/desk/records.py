"""The record a request points at, found again in the archive's own index and compared afresh with what was asked.

Nothing the request says about the match is believed: levels and the number of hits are computed here, from the record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from federation.archival_code import comparison_form
from federation.dates import DateSpan
from federation.explanation import explain
from federation.levels import Levels
from federation.mail import Dispatch
from federation.query import Query
from federation.reasons import Refusal
from federation.scoring import Decision, decide
from node_agent.index import Found, Lookup, NoIndexError
from node_agent.record import CatalogueRow, Record

FIND_WITHIN_S = 0.25
_STATE_WITHIN_S = 2.0
_CANDIDATES = 50
_SAME_CODE = 50


@dataclass(frozen=True, slots=True)
class Holding:
    """A record of this archive as the desk needs it, unmasked. `hits` counts records that may be the one asked for;
    `dates_meet`: each date that was asked can be the day the record has; `is_issuable` False: no document could be made of it.
    """

    archival_code: str
    category: str
    digitised: bool
    hits: int
    levels: Levels
    dates_meet: bool = False
    is_issuable: bool = True
    title: str = ""
    names: tuple[str, ...] = ()
    id_numbers: tuple[str, ...] = ()
    year: int = 0
    place: str = ""
    catalogue_row: CatalogueRow | None = None

    def shown(self, language: str) -> dict[str, Any]:
        """For the reviewer's eyes, inside the archive."""
        return {
            "archival_code": self.archival_code,
            "title": self.title,
            "names": list(self.names),
            "id_numbers": list(self.id_numbers),
            "year": self.year or None,
            "place": self.place,
            "digitised": self.digitised,
            "hits": self.hits,
            "catalogue_row": _row_body(self.catalogue_row) if self.catalogue_row else None,
            "explanation": explain(self.levels, language, self.category),
        }


def _row_body(row: CatalogueRow) -> dict[str, Any]:
    """As the archive wrote it: what was understood of it may be wrong."""
    return {
        "file": row.file,
        "table": row.table,
        "cells": [{"heading": heading, "text": text} for heading, text in row.cells],
    }


class Records(Protocol):
    """The archive's holdings, as the desk asks them."""

    def holding(self, dispatch: Dispatch) -> Holding | None:
        """The record `dispatch.ref` names; None when it is not found, or not in time. Never raises."""


class IndexRecords:
    """`Records` over the index. `reference` makes the reference of a found record, as it left the archive."""

    def __init__(self, lookup: Lookup, reference: Callable[[Found], str]) -> None:
        self._lookup, self._reference = lookup, reference

    def holding(self, dispatch: Dispatch) -> Holding | None:
        if not dispatch.ref:
            return None
        try:
            query = query_of(dispatch)
            deadline = monotonic() + FIND_WITHIN_S
            with self._lookup.reading():
                answer = self._lookup.search(query, limit=_CANDIDATES, deadline=deadline)
                found = next((one for one in answer.found if self._reference(one) == dispatch.ref), None)
                row = self._lookup.catalogue_row(found.rid) if found else None
        except (Refusal, NoIndexError):
            return None
        except Exception:  # a broken index must not keep a case from its reviewer
            return None
        if found is None:
            return None
        likely = [
            one for one in answer.found if decide(one.score, answer.records, one.levels) is not Decision.NONE
        ]
        # a search that was cut short can not tell that there is no other
        is_short = answer.soft_timeout or answer.truncated or answer.capped
        hits = max(2, len(likely)) if is_short else len(likely)
        told = found.told
        return Holding(
            archival_code=found.raw_code,
            category=found.category,
            digitised=found.digitised,
            hits=hits,
            levels=found.levels,
            dates_meet=_meet(query.event, told.event)
            and _meet(query.birth, told.persons[found.person].birth if told.persons else None),
            title=told.title,
            names=tuple(one.name for one in told.persons),
            id_numbers=tuple(one.id_number for one in told.persons if one.id_number),
            year=told.first // 10000,
            place=told.place_text or found.place,
            catalogue_row=row,
        )

    def find(self, dispatch: Dispatch | None, code: str) -> Record | None:
        """The record a document is to state: the one with this code, which a reviewer may have given in any writing, else the one
        the request names. None when there is none, or more than one of the code and none of them is named.
        """
        form = comparison_form(code)
        try:
            with self._lookup.reading():
                named = self._named(dispatch) if dispatch is not None and dispatch.ref else None
                if named is not None and (not form or form == named.code):
                    return self._lookup.fetch([named.rid])[named.rid]
                if not form:
                    return None
                rids = self._lookup.prefix(form, limit=_SAME_CODE)
                alike = [one for one in self._lookup.fetch(rids).values() if one.archival_code == form]
        except NoIndexError:
            return None
        if len(alike) > 1:
            alike = [one for one in alike if one.raw_code == code]
        return alike[0] if len(alike) == 1 else None

    def _named(self, dispatch: Dispatch) -> Found | None:
        deadline = monotonic() + _STATE_WITHIN_S
        try:
            query = query_of(dispatch)
        except Refusal:  # a date of it that nobody can read
            return None
        answer = self._lookup.search(query, limit=_CANDIDATES, deadline=deadline)
        return next((one for one in answer.found if self._reference(one) == dispatch.ref), None)


def _meet(asked: DateSpan | None, held: DateSpan | None) -> bool:
    """Whether two spans have a day in common; nothing speaks against a date that is not known."""
    return asked is None or held is None or (asked.first <= held.last and held.first <= asked.last)


def query_of(dispatch: Dispatch) -> Query:
    """The question a dispatched case asks of this archive; Refusal when a date of it can not be read."""
    subject, event = dispatch.subject, dispatch.event

    def span(written: str, pointer: str) -> DateSpan | None:
        return DateSpan.written(written, pointer) if written else None

    first = span(event.get("from", ""), "/event/from") or span(event.get("to", ""), "/event/to")
    last = span(event.get("to", ""), "/event/to") or first
    return Query(
        category=dispatch.category,
        name=subject.name,
        id_number=subject.id_number,
        birth=span(subject.birth, "/subject/birth"),
        other_name=subject.other_name,
        other_id_number=subject.other_id_number,
        event=DateSpan(first.first, max(first.last, last.last)) if first and last else None,
        place=event.get("place", ""),
        certificate_no=event.get("certificate_no", ""),
    )
