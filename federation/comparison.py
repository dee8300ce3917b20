"""Comparing a record with a question, field by field, into a level vector.

Everything the question alone decides is prepared once; what a distinct name of a record decides is remembered, because
the hundred candidates of one question carry few distinct names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import ne
from typing import Protocol

from federation.dates import DateSpan
from federation.identity_number import canonical, slip_distance, tidy
from federation.keys import fold_certificate
from federation.levels import SURNAME_UNEQUAL, DateLevel, IdLevel, Levels, NameLevel, PlaceLevel, TextLevel
from federation.names import (
    alike,
    fold,
    fold_text,
    sound_code,
    strip,
    surname_alternatives,
    surname_length,
    syllables,
)
from federation.places import find, relation
from federation.query import Query

_MOST_UNEQUAL = 15


@lru_cache(65_536)  # names of candidates repeat, names of an import do not
def _forms(name: str) -> tuple[str, str]:
    """A name folded, and its fuzzy syllables as one character each."""
    folded = fold_text(name)
    return folded, sound_code(folded)


_NO_NAME = (NameLevel.NOT_COMPARED, 0)
_EXACT, _VARIANT, _SURNAME_ALIAS = (NameLevel.EXACT, 0), (NameLevel.VARIANT, 0), (NameLevel.SURNAME_ALIAS, 0)
# looking a member of an enumeration up costs more than comparing two characters
_SWAPPED, _DIFFERENT = NameLevel.SWAPPED, NameLevel.DIFFERENT
_SHAPE, _ONE_CHARACTER = NameLevel.SHAPE, NameLevel.ONE_CHARACTER
_NO_ID, _NO_DATE, _NO_PLACE = IdLevel.NOT_COMPARED, DateLevel.NOT_COMPARED, PlaceLevel.NOT_COMPARED
_NO_TEXT, _EQUAL = TextLevel.NOT_COMPARED, TextLevel.EQUAL
STRONGEST_FIRST = (
    NameLevel.EXACT,
    NameLevel.VARIANT,
    NameLevel.SURNAME_ALIAS,
    NameLevel.ALIAS,
    NameLevel.HOMOPHONE,
    NameLevel.ACCENT,
    NameLevel.SHAPE,
    NameLevel.SWAPPED,
    NameLevel.ADDED_CHARACTER,
    NameLevel.MISSING_CHARACTER,
    NameLevel.ONE_CHARACTER,
    NameLevel.DIFFERENT,
    NameLevel.NOT_COMPARED,
)
"""Name levels as scoring weighs them: which person of a record is the one asked for."""

_BETTER_NAME = {level: len(STRONGEST_FIRST) - place for place, level in enumerate(STRONGEST_FIRST, start=1)}
_NO_AGREEMENT = frozenset({NameLevel.DIFFERENT, NameLevel.NOT_COMPARED})
_NO_NAME_AGREES = max(_BETTER_NAME[level] for level in _NO_AGREEMENT) * 32
_SAME_NUMBER = frozenset({IdLevel.EQUAL, IdLevel.TYPO})
_ABOUT_THEN = frozenset(
    {
        DateLevel.DAY,
        DateLevel.MONTH,
        DateLevel.YEAR,
        DateLevel.DAY_MONTH_SWAPPED,
        DateLevel.WITHIN,
        DateLevel.WITHIN_WIDE,
        DateLevel.OFF_1,
    }
)


Vector = tuple[
    NameLevel, IdLevel, DateLevel, DateLevel, PlaceLevel, NameLevel, TextLevel, TextLevel, IdLevel, int
]
"""The fields of `Levels` in their order."""


class PersonLike(Protocol):
    """A person of a record: characters as written, a valid 18-digit number or ""."""

    @property
    def name(self) -> str: ...
    @property
    def id_number(self) -> str: ...
    @property
    def birth(self) -> DateSpan | None: ...
    @property
    def aliases(self) -> tuple[str, ...]: ...


class NameComparer:
    """Compares one asked name with many held ones."""

    def __init__(self, asked: str) -> None:
        self._stripped = strip(asked)
        self._folded, self._code = _forms(asked)
        self._first, self._last = self._code[:1], self._code[-1:]
        self._sounds = syllables(self._folded)
        self._alternatives = surname_alternatives(self._folded)
        self._surname_part = self._folded[: surname_length(self._folded)]
        self._sorted, self._sorted_code = sorted(self._folded), sorted(self._code)
        self._memo: dict[str, tuple[NameLevel, int]] = {"": _NO_NAME}

    def compare(self, held: str, aliases: tuple[str, ...] = ()) -> tuple[NameLevel, int]:
        """(level, unequal): the best level over the name and its aliases, and how many characters are unequal."""
        found = self._memo.get(held)
        if found is None:
            found = self._memo[held] = self._compare(held)
        if not aliases:
            return found
        for alias in aliases:
            by_alias = self.compare(alias)
            same = _BETTER_NAME[by_alias[0]] >= _BETTER_NAME[NameLevel.SURNAME_ALIAS]
            if same and _BETTER_NAME[found[0]] < _BETTER_NAME[NameLevel.ALIAS]:
                found = (NameLevel.ALIAS, 0)
        return found

    def _compare(self, held: str) -> tuple[NameLevel, int]:
        asked = self._folded
        if not asked:
            return _NO_NAME
        folded, code = _forms(held)
        if folded == asked:
            return _EXACT if strip(held) == self._stripped else _VARIANT
        if folded in self._alternatives:
            return _SURNAME_ALIAS
        longer = len(folded) - len(asked)
        if not longer:
            return self._same_length(folded, code)
        if longer == 1:
            return self._one_longer(folded, code)
        if longer == -1:
            return self._one_shorter(folded, code)
        return _DIFFERENT, min(_MOST_UNEQUAL, len(asked))

    def _shares_no_end(self, code: str) -> bool:
        """Whether both first and last syllables differ, as they do of nearly all names that have nothing in common."""
        return bool(code) and code[0] != self._first and code[-1] != self._last

    def _same_length(self, folded: str, code: str) -> tuple[NameLevel, int]:
        asked, sounds = self._folded, self._code
        unequal = min(sum(map(ne, asked, folded)), _MOST_UNEQUAL)
        if not folded.startswith(self._surname_part):
            unequal += SURNAME_UNEQUAL
        first, last, begins = code[0], code[-1], folded[0]
        ends_alike = first == self._first or last == self._last
        if not ends_alike and first not in sounds and begins not in asked and len(code) > 1:
            return _DIFFERENT, unequal
        if sounds == code:
            return self._same_sound(folded), unequal
        # one character may sound otherwise in the company of another surname: that is no difference
        if ends_alike or asked[0] == begins or asked[-1] == folded[-1]:
            others = [
                place
                for place, (one, other) in enumerate(zip(sounds, code, strict=True))
                if one != other and asked[place] != folded[place]
            ]
            if not others:
                return self._same_sound(folded), unequal
            if len(others) == 1:
                place = others[0]
                return (_SHAPE if alike(asked[place], folded[place]) else _ONE_CHARACTER), unequal
        elif len(asked) == 1:
            return (_SHAPE if alike(asked, folded) else _ONE_CHARACTER), unequal
        # nearly all that come here have nothing in common, and the first character tells
        if begins in asked and sorted(folded) == self._sorted:
            return _SWAPPED, 0
        if first in sounds and sorted(code) == self._sorted_code:
            return _SWAPPED, 1
        return _DIFFERENT, unequal

    def _same_sound(self, folded: str) -> NameLevel:
        sounds = syllables(folded)
        same = all(
            char == other or one == two
            for char, other, one, two in zip(self._folded, folded, self._sounds, sounds, strict=True)
        )
        return NameLevel.HOMOPHONE if same else NameLevel.ACCENT

    def _one_longer(self, folded: str, code: str) -> tuple[NameLevel, int]:
        asked, sounds = self._folded, self._code
        places = () if self._shares_no_end(code) else range(len(folded))
        for place in places:
            if code[:place] + code[place + 1 :] == sounds:
                unequal = min(_MOST_UNEQUAL, sum(map(ne, folded[:place] + folded[place + 1 :], asked)))
                return NameLevel.MISSING_CHARACTER, unequal + (SURNAME_UNEQUAL if place < 1 else 0)
        return _DIFFERENT, min(_MOST_UNEQUAL, len(folded))

    def _one_shorter(self, folded: str, code: str) -> tuple[NameLevel, int]:
        asked, sounds = self._folded, self._code
        places = () if self._shares_no_end(code) else range(len(asked))
        for place in places:
            if sounds[:place] + sounds[place + 1 :] == code:
                unequal = min(_MOST_UNEQUAL, sum(map(ne, asked[:place] + asked[place + 1 :], folded)))
                return NameLevel.ADDED_CHARACTER, unequal + (SURNAME_UNEQUAL if place < 1 else 0)
        return _DIFFERENT, min(_MOST_UNEQUAL, len(asked))


class DateComparer:
    """Compares one asked span with many held ones, given as their first and last day, by their nearest days.

    A wide question says less: agreement inside a span of more than three or eight years has levels of its own.
    """

    __slots__ = ("_first", "_first_year", "_is_day", "_last", "_last_year", "_years")

    def __init__(self, asked: DateSpan) -> None:
        self._first, self._last = asked.first, asked.last
        self._first_year, self._last_year = asked.first_year, asked.last_year
        self._is_day = asked.is_day
        self._years = asked.last_year - asked.first_year + 1

    def compare(self, first: int, last: int) -> DateLevel:
        """The level of the span from `first` to `last`."""
        if self._first <= last and first <= self._last:
            if self._is_day and first == last:
                return DateLevel.DAY
            years = self._years
            if first != last:
                years = max(years, last // 10000 - first // 10000 + 1)
            if years > 3:
                return _WITHIN if years <= 8 else _WITHIN_WIDE
            if self._last - self._first <= 30 and last - first <= 30:
                return DateLevel.MONTH
            return _YEAR
        if self._is_day and first == last and _swapped(self._first, first):
            return DateLevel.DAY_MONTH_SWAPPED
        off = first // 10000 - self._last_year
        if off < 0:
            off = max(off, self._first_year - last // 10000)
        return _OFF[off] if off < len(_OFF) else _FAR


_YEAR, _WITHIN, _WITHIN_WIDE, _FAR = (
    DateLevel.YEAR,
    DateLevel.WITHIN,
    DateLevel.WITHIN_WIDE,
    DateLevel.FAR,
)
_OFF = (
    _YEAR,
    DateLevel.OFF_1,
    DateLevel.OFF_2,
    DateLevel.OFF_3,
    *[DateLevel.OFF_4_TO_5] * 2,
    *[DateLevel.OFF_6_TO_9] * 4,
)


def _swapped(one: int, other: int) -> bool:
    return one // 10000 == other // 10000 and one % 10000 == other % 100 * 100 + other // 100 % 100


class Comparer:
    """Compares records with one question. Not thread-safe: it remembers names."""

    def __init__(self, query: Query) -> None:
        self._category = query.category
        self._name = NameComparer(query.name)
        self._other = NameComparer(query.other_name) if query.other_name else None
        self._id = _comparable_id(query.id_number)
        self._other_id = _comparable_id(query.other_id_number)
        self._birth = DateComparer(query.birth) if query.birth is not None else None
        self._event = DateComparer(query.event) if query.event is not None else None
        self._place = find(query.place) if query.place else ""
        words = fold(query.place) if query.place and not query.place.isdigit() else ""
        self._place_words = words if len(words) > 1 else ""  # 市: nearly every place has one
        self._certificate = fold_certificate(query.certificate_no)
        self._places: dict[tuple[str, str], PlaceLevel] = {}

    def levels(
        self,
        *,
        category: str,
        persons: Sequence[PersonLike],
        event: DateSpan | None,
        place: str,
        place_text: str,
        certificate_no: str,
    ) -> tuple[Levels, int]:
        """Levels with the best-matching person as the subject and the best other one as the other party; the second
        value is the subject's index in `persons` (0 when there are none).
        """
        vector, subject = self.vector(
            category=category,
            persons=persons,
            event=event,
            place=place,
            place_text=place_text,
            certificate_no=certificate_no,
        )
        return Levels(*vector), subject

    def vector(
        self,
        *,
        category: str,
        persons: Sequence[PersonLike],
        event: DateSpan | None,
        place: str,
        place_text: str,
        certificate_no: str,
    ) -> tuple[Vector, int]:
        """`levels` as a plain tuple in the order of its fields, which most candidates never need as an object."""
        subject, name_level, unequal = self._subject(persons)
        id_level, birth_level = _NO_ID, _NO_DATE
        if persons:
            person = persons[subject]
            if self._id:
                id_level = compare_ids(self._id, person.id_number)
            if self._birth is not None and (birth := person.birth) is not None:
                birth_level = self._birth.compare(birth.first, birth.last)
        other_level, other_id = _NO_NAME[0], _NO_ID
        if self._other is not None or self._other_id:
            other_level, other_id = self._other_party(persons, subject)
        certificate = _NO_TEXT
        if self._certificate and (held := fold_certificate(certificate_no)):
            certificate = TextLevel.EQUAL if held == self._certificate else TextLevel.DIFFERENT
        same_category = _NO_TEXT
        if self._category:
            same_category = _EQUAL if category == self._category else TextLevel.DIFFERENT
        event_level = _NO_DATE
        if self._event is not None and event is not None:
            event_level = self._event.compare(event.first, event.last)
        place_level = _NO_PLACE
        if self._place or self._place_words:
            place_level = self._place_level(place, place_text)
        return (
            name_level,
            id_level,
            birth_level,
            event_level,
            place_level,
            other_level,
            certificate,
            same_category,
            other_id,
            unequal,
        ), subject

    def _subject(self, persons: Sequence[PersonLike]) -> tuple[int, NameLevel, int]:
        compare = self._name.compare
        best, best_level, best_unequal, best_rank = 0, _NO_NAME[0], 0, -1
        for index, person in enumerate(persons):
            level, unequal = compare(person.name, person.aliases)
            rank = _BETTER_NAME[level] * 32 - unequal
            if self._id and person.id_number and person.id_number[:17] == self._id[:17]:
                rank += 10_000
            if rank > best_rank:
                best, best_level, best_unequal, best_rank = index, level, unequal, rank
        if best_rank <= _NO_NAME_AGREES and len(persons) > 1:
            person = max(persons, key=self._rank_without_name)
            return persons.index(person), *compare(person.name, person.aliases)
        return best, best_level, best_unequal

    def _rank_without_name(self, person: PersonLike) -> tuple[bool, int, bool, bool, int]:
        """How much a person may be the one asked for where no name of the record agrees with theirs: a number with a slip tells, and
        whoever is most like the other party asked for is somebody else.
        """
        by_id = compare_ids(self._id, person.id_number)
        other_level = (
            self._other.compare(person.name, person.aliases)[0] if self._other is not None else _NO_NAME[0]
        )
        likeness = 0 if other_level in _NO_AGREEMENT else _BETTER_NAME[other_level]
        if compare_ids(self._other_id, person.id_number) in _SAME_NUMBER:
            likeness += len(STRONGEST_FIRST)
        is_born_then = (
            self._birth is not None
            and (birth := person.birth) is not None
            and self._birth.compare(birth.first, birth.last) in _ABOUT_THEN
        )
        level, unequal = self._name.compare(person.name, person.aliases)
        return (
            by_id in _SAME_NUMBER,
            -likeness,
            by_id != IdLevel.DIFFERENT,
            is_born_then,
            _BETTER_NAME[level] * 32 - unequal,
        )

    def _other_party(self, persons: Sequence[PersonLike], subject: int) -> tuple[NameLevel, IdLevel]:
        best, best_rank, best_id = _NO_NAME[0], 0, _NO_ID
        for index, person in enumerate(persons):
            if index == subject:
                continue
            if self._other is not None:
                level, _unequal = self._other.compare(person.name, person.aliases)
                if _BETTER_NAME[level] > best_rank:
                    best, best_rank = level, _BETTER_NAME[level]
            if self._other_id and person.id_number:
                by_id = compare_ids(self._other_id, person.id_number)
                best_id = by_id if best_id is _NO_ID else min(best_id, by_id)
        return best, best_id

    def _place_level(self, place: str, place_text: str) -> PlaceLevel:
        found = self._places.get((place, place_text))
        if found is None:
            found = self._places[place, place_text] = self._compare_places(place, place_text)
        return found

    def _compare_places(self, place: str, place_text: str) -> PlaceLevel:
        if self._place_words and place_text and self._place_words in fold(place_text):
            return PlaceLevel.SAME
        return relation(self._place, place)


def _comparable_id(written: str) -> str:
    """18 digits to compare with; a mistyped number is compared as typed."""
    if not written:
        return ""
    whole = canonical(written)
    if whole is not None:
        return whole
    typed = tidy(written)
    return typed if len(typed) == 18 else ""


def compare_ids(asked: str, held: str) -> IdLevel:
    """Level of two 18-digit numbers; "" on either side can not be compared."""
    if not asked or not held:
        return IdLevel.NOT_COMPARED
    apart = slip_distance(asked, held)
    if apart == 0:
        return IdLevel.EQUAL
    return IdLevel.TYPO if apart <= 2 else IdLevel.DIFFERENT
