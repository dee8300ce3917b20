"""One search in progress: probes → key scans → fetch → compare → score, best first."""

from __future__ import annotations

import heapq
from functools import lru_cache
from operator import itemgetter

import msgspec

from federation.archival_code import comparison_form
from federation.comparison import Comparer, Vector
from federation.dates import DateSpan
from federation.keys import KeyKind
from federation.levels import IdLevel, Levels, NameLevel, TextLevel
from federation.query import Query
from federation.scoring import (
    NAME_BITS_CEILING,
    POSSIBLE_BELOW_LIKELY,
    Decision,
    decide,
    likely_from,
    score_vector,
)
from node_agent.index.opened import FETCH, OpenIndex, Row
from node_agent.index.packing import CATEGORY_KEY, CATEGORY_NUMBER, place_in, rid_of, year_in
from node_agent.index.payload import Told
from node_agent.index.schema import FLAG_COPY, FLAG_DIGITISED
from node_agent.index.titles import contains

MOST_COMPARED = 20_000
"""Records compared at most for one question, 0.1 s: above it the nearest by year and place, and the answer says that it is not
whole. Measured at 1M: three years more and less 100 in the median, 3,000 in the hundredth question; without years 8,000 at most.
"""

_MOST_PER_KEY = 20_000
_SHORT = 400  # records whose order is not worth the sorting

_CERTAIN = frozenset({KeyKind.ID, KeyKind.CERTIFICATE})
_SAME_NAME = frozenset({KeyKind.NAME, KeyKind.SOUND})
_SAME_NAME_YEARS = 8.0  # years a record of the same name or sound may stand farther off than another

_UNKNOWN_BITS = 12.0
_MOST_MISJUDGED = NAME_BITS_CEILING - _UNKNOWN_BITS + 0.1
"""How much a name's real frequency can raise a first score; both are rounded."""


class LongSearchError(Exception):
    """More is to be compared than who asks has time for; nothing was."""


class Found(msgspec.Struct, frozen=True, gc=False):
    """A record that may be the one asked for, with the evidence."""

    rid: int
    digest: int
    category: str
    code: str
    place: str
    told: Told
    flags: int
    levels: Levels
    person: int
    name_bits: float
    score: float

    @property
    def raw_code(self) -> str:
        """The archival code as the archive wrote it."""
        return self.told.raw_code or self.code

    @property
    def is_copy(self) -> bool:
        return bool(self.flags & FLAG_COPY)

    @property
    def digitised(self) -> bool:
        return bool(self.flags & FLAG_DIGITISED)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Candidates best first. `truncated`: there are more than were asked for. What was not compared could be the record
    asked for: `soft_timeout`, the deadline ended the search, and `capped`, more stands under its keys than is compared.
    """

    found: tuple[Found, ...]
    epoch: int
    records: int
    truncated: bool = False
    soft_timeout: bool = False
    capped: bool = False


class OutOfTimeError(Exception):
    """The deadline has come, or the search was cancelled."""


@lru_cache(16_384)
def _first_score(vector: Vector) -> float:
    """The score before the real frequency of the name is known. Few vectors make up nearly all that is compared."""
    return score_vector(vector, _UNKNOWN_BITS)


def _agrees(vector: Vector) -> bool:
    """Whether a name, a number or the other party's name speaks for the record, and not years and places alone."""
    name, id_number, _birth, _event, _place, other_name, certificate_no = vector[:7]
    return bool(
        (name and name != NameLevel.DIFFERENT)
        or id_number in {IdLevel.EQUAL, IdLevel.TYPO}
        or certificate_no == TextLevel.EQUAL
        or (other_name and other_name <= NameLevel.ALIAS)
    )


class Search:
    """One search in progress."""

    def __init__(self, index: OpenIndex, query: Query, limit: int, *, weak: bool) -> None:
        self._index, self._query, self._limit = index, query, limit
        self._weak = weak
        self._floor = -1e9 if weak else likely_from(index.records) - POSSIBLE_BELOW_LIKELY - _MOST_MISJUDGED
        self._category = CATEGORY_NUMBER.get(query.category, 0)
        self._code = comparison_form(query.archival_code)
        self._values: dict[int, int] = {}
        self._by_slack: dict[int | None, list[tuple[int, int]]] = {}
        self._scored: list[tuple[float, int, str | None, int, Vector, Row]] = []
        self._capped = False
        self._certain = self._same_name = (
            0  # of _values, in the order found: by number or code, by the name itself
        )
        event = query.event
        self._first_year = event.first_year if event else 0
        self._last_year = event.last_year if event else 0

    def run(self, at_once: int = 0) -> None:
        """Find and compare. LongSearchError when that are more than `at_once` records, 0 = however many."""
        self._collect()
        if at_once and len(self._values) > at_once:
            raise LongSearchError
        rids = self._nearest()
        comparer = Comparer(self._query)
        for start in range(0, len(rids), FETCH):
            self._check_time()
            for row in self._index.rows(rids[start : start + FETCH]):
                self._compare(comparer, row)

    def _check_time(self) -> None:
        if self._index.is_over():
            raise OutOfTimeError

    def _collect(self) -> None:
        index, query = self._index, self._query
        # all of them, for which are best the rest of the question tells
        named = index.by_code(self._code, MOST_COMPARED, "") if self._code else []
        titled = index.by_title(query.title, MOST_COMPARED, 0) if query.title else []
        self._capped = max(len(named), len(titled)) >= MOST_COMPARED
        self._values.update(dict.fromkeys(named + titled, 0))
        self._certain = self._same_name = len(self._values)
        asked: list[tuple[int, int, int]] = []
        kinds: list[KeyKind] = []
        for probe in index.keyer.probes(query):
            slack = probe.year_slack
            unbounded = slack is None or not self._first_year
            if probe.kind is KeyKind.OTHER_NAME and unbounded:
                continue  # a spouse's name without years would bring everybody of that name
            for low, high in self._ranges(None if unbounded else slack):
                asked.append((probe.key, low, high))
                kinds.append(probe.kind)
        certain = sum(kind in _CERTAIN for kind in kinds)  # they come first
        found = index.scan(asked[:certain] if not self._first_year else asked, self._category, _MOST_PER_KEY)
        if not self._first_year:
            found += index.scan_one_by_one(asked[certain:], self._category, _MOST_PER_KEY)
        for kind, values in zip(kinds, found, strict=True):
            self._capped = self._capped or len(values) >= _MOST_PER_KEY
            for value in values:
                self._values.setdefault(rid_of(value), value)
            if kind in _CERTAIN:
                self._certain = self._same_name = len(self._values)
            elif kind in _SAME_NAME:
                self._same_name = len(self._values)
        self._check_time()

    def _ranges(self, slack: int | None) -> list[tuple[int, int]]:
        """Ranges of packed values of the years asked and `slack` around them; None = of all years."""
        found = self._by_slack.get(slack)
        if found is None:
            first, last = (0, 0) if slack is None else (self._first_year - slack, self._last_year + slack)
            found = self._by_slack[slack] = self._index.ranges(first, last, self._category)
        return found

    def _nearest(self) -> list[int]:
        """Ids to compare, at most MOST_COMPARED. Of many, those found by a number or code first, then the nearest by year,
        place and name (the name asked for may stand some years off, an inexact one only near): a deadline may end it.
        """
        if len(self._values) <= _SHORT:
            return list(self._values)
        self._capped = self._capped or len(self._values) > MOST_COMPARED
        middle = (self._first_year + self._last_year) / 2
        places = {idx for idx, code in self._index.places.items() if code and code == self._query.place}

        def distance(item: tuple[int, tuple[int, int]]) -> float:
            number, (_rid, value) = item
            year = year_in(value)
            apart = abs(year - middle) if year and middle else 6.0
            apart += 0 if place_in(value) in places else 4.0
            return apart - (_SAME_NAME_YEARS if number < same_name else 0)

        found = list(self._values.items())
        certain, rest = found[: self._certain][:MOST_COMPARED], found[self._certain :]
        same_name = self._same_name - self._certain
        nearest = heapq.nsmallest(MOST_COMPARED - len(certain), enumerate(rest), key=distance)
        return [rid for rid, _value in certain] + [rid for _number, (rid, _value) in nearest]

    def _compare(self, comparer: Comparer, row: Row) -> None:
        rid, category, place, _flags, _digest, code, payload = row
        seen = self._index.codec.glimpse(payload)
        vector, person = comparer.vector(
            category=CATEGORY_KEY[category],
            persons=seen.persons,
            event=DateSpan(seen.first, seen.last) if seen.first and self._first_year else None,
            place=self._index.places[place],
            place_text=seen.place_text,
            certificate_no=seen.certificate_no,
        )
        value = _first_score(vector)
        if value < self._floor or not (_agrees(vector) or self._has_words(code, seen.title)):
            return  # too weak to be told, or a digest collision, or a household member's namesake
        name = seen.persons[person].name if seen.persons else None
        self._scored.append((value, -rid, name, person, vector, row))

    def _has_words(self, code: str, title: str) -> bool:
        if self._code and code.startswith(self._code):
            return True
        return bool(self._query.title) and contains(title, self._query.title)

    def answer(self, *, soft_timeout: bool) -> Answer:
        """Rank by the real frequency of the names, as far as one can still make the list."""
        index = self._index
        index.deadline = index.cancelled = None
        ranked: list[tuple[float, str, int, float, int, Levels, Row]] = []
        best: list[float] = []  # a heap of the `limit` best scores
        truncated = False
        self._scored.sort(key=itemgetter(0, 1), reverse=True)
        for first, rid, name, person, vector, row in self._scored:
            if len(best) == self._limit and first + _MOST_MISJUDGED < best[0]:
                truncated = True
                break
            bits = _UNKNOWN_BITS if name is None else index.bits(name)
            levels = Levels(*vector)
            value = score_vector(vector, bits)
            if self._weak or decide(value, index.records, levels) is not Decision.NONE:
                ranked.append((-value, row[5], -rid, bits, person, levels, row))
                (heapq.heappush if len(best) < self._limit else heapq.heappushpop)(best, value)
        ranked.sort(key=itemgetter(0, 1, 2))
        found = [
            self._found(row, levels, person, bits, -value)
            for value, _code, _rid, bits, person, levels, row in ranked[: self._limit]
        ]
        truncated = truncated or len(ranked) > self._limit
        return Answer(tuple(found), index.epoch, index.records, truncated, soft_timeout, self._capped)

    def _found(self, row: Row, levels: Levels, person: int, bits: float, value: float) -> Found:
        rid, category, place, flags, digest, code, payload = row
        index = self._index
        told = index.codec.told(payload)
        return Found(
            rid, digest, CATEGORY_KEY[category], code, index.places[place], told, flags, levels, person, bits, value
        )  # fmt: skip
