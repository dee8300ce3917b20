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
from federation.levels import DateLevel, IdLevel, Levels, NameLevel, PlaceLevel, TextLevel
from federation.names import (
    alike,
    fold,
    fuzzy_syllables,
    strip,
    surname_alternatives,
    surname_length,
    syllables,
)
from federation.places import find, relation
from federation.query import Query

SURNAME_UNEQUAL = 16
"""Added to `Levels.name_unequal` when a character of the surname is among the unequal ones."""
_MOST_UNEQUAL = 15


@lru_cache(65_536)  # names of candidates repeat, names of an import do not
def _forms(name: str) -> tuple[str, str, tuple[str, ...]]:
    """A name stripped, folded, and its fuzzy syllables."""
    folded = fold(name)
    return strip(name), folded, fuzzy_syllables(folded)


_NO_NAME = (NameLevel.NOT_COMPARED, 0)
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
        self._stripped, self._folded, self._fuzzy = _forms(asked)
        self._sounds = syllables(self._folded)
        self._alternatives = surname_alternatives(self._folded)
        self._surname = surname_length(self._folded)
        self._sorted, self._sorted_fuzzy = sorted(self._folded), sorted(self._fuzzy)
        self._memo: dict[str, tuple[NameLevel, int]] = {}

    def compare(self, held: str, aliases: tuple[str, ...] = ()) -> tuple[NameLevel, int]:
        """(level, unequal): the best level over the name and its aliases, and how many characters are unequal."""
        found = self._memo.get(held)
        if found is None:
            found = self._memo[held] = self._compare(held)
        for alias in aliases:
            by_alias = self.compare(alias)
            same = _BETTER_NAME[by_alias[0]] >= _BETTER_NAME[NameLevel.SURNAME_ALIAS]
            if same and _BETTER_NAME[found[0]] < _BETTER_NAME[NameLevel.ALIAS]:
                found = (NameLevel.ALIAS, 0)
        return found

    def _compare(self, held: str) -> tuple[NameLevel, int]:
        if not self._folded or not held:
            return _NO_NAME
        stripped, folded, fuzzy = _forms(held)
        if stripped == self._stripped:
            return NameLevel.EXACT, 0
        if folded == self._folded:
            return NameLevel.VARIANT, 0
        if folded in self._alternatives:
            return NameLevel.SURNAME_ALIAS, 0
        if len(folded) == len(self._folded):
            return self._same_length(folded, fuzzy)
        if len(folded) == len(self._folded) + 1:
            return self._one_longer(folded, fuzzy)
        if len(folded) + 1 == len(self._folded):
            return self._one_shorter(folded, fuzzy)
        return NameLevel.DIFFERENT, min(_MOST_UNEQUAL, len(self._folded))

    def _same_length(self, folded: str, fuzzy: tuple[str, ...]) -> tuple[NameLevel, int]:
        unequal = sum(map(ne, self._folded, folded))
        other_sound = -1  # the one place that sounds otherwise, -2 when there are more
        surname = SURNAME_UNEQUAL
        if unequal == len(folded) and sum(map(ne, self._fuzzy, fuzzy)) > 1:  # most: the other party
            other_sound = -2
        else:
            if self._folded[: self._surname] == folded[: self._surname]:
                surname = 0
            for place, (char, other) in enumerate(zip(self._folded, folded, strict=True)):
                if char != other and fuzzy[place] != self._fuzzy[place]:
                    other_sound = place if other_sound == -1 else -2
        unequal = min(_MOST_UNEQUAL, unequal) + surname
        if other_sound == -1:
            return self._same_sound(folded), unequal
        if other_sound >= 0:
            shaped = alike(self._folded[other_sound], folded[other_sound])
            return (NameLevel.SHAPE if shaped else NameLevel.ONE_CHARACTER), unequal
        # nearly all that come here have nothing in common, and the first character tells
        if folded[0] in self._folded and sorted(folded) == self._sorted:
            return NameLevel.SWAPPED, 0
        if fuzzy[0] in self._fuzzy and sorted(fuzzy) == self._sorted_fuzzy:
            return NameLevel.SWAPPED, 1
        return NameLevel.DIFFERENT, unequal

    def _same_sound(self, folded: str) -> NameLevel:
        sounds = syllables(folded)
        same = all(
            char == other or one == two
            for char, other, one, two in zip(self._folded, folded, self._sounds, sounds, strict=True)
        )
        return NameLevel.HOMOPHONE if same else NameLevel.ACCENT

    def _one_longer(self, folded: str, fuzzy: tuple[str, ...]) -> tuple[NameLevel, int]:
        for place in range(len(folded)):
            if fuzzy[:place] + fuzzy[place + 1 :] == self._fuzzy:
                rest = folded[:place] + folded[place + 1 :]
                unequal = min(_MOST_UNEQUAL, sum(a != b for a, b in zip(rest, self._folded, strict=True)))
                return NameLevel.MISSING_CHARACTER, unequal + (SURNAME_UNEQUAL if place < 1 else 0)
        return NameLevel.DIFFERENT, min(_MOST_UNEQUAL, len(folded))

    def _one_shorter(self, folded: str, fuzzy: tuple[str, ...]) -> tuple[NameLevel, int]:
        for place in range(len(self._folded)):
            if self._fuzzy[:place] + self._fuzzy[place + 1 :] == fuzzy:
                rest = self._folded[:place] + self._folded[place + 1 :]
                unequal = min(_MOST_UNEQUAL, sum(a != b for a, b in zip(rest, folded, strict=True)))
                return NameLevel.ADDED_CHARACTER, unequal + (SURNAME_UNEQUAL if place < 1 else 0)
        return NameLevel.DIFFERENT, min(_MOST_UNEQUAL, len(self._folded))


def compare_dates(asked: DateSpan | None, held: DateSpan | None) -> DateLevel:
    """Level of two spans, by their nearest days.

    A wide question says less: agreement inside a span of more than three or eight years has levels of its own.
    """
    if asked is None or held is None:
        return DateLevel.NOT_COMPARED
    first, last = held.first, held.last
    if asked.first <= last and first <= asked.last:
        if asked.first == asked.last and first == last:
            return DateLevel.DAY
        years = max(asked.last // 10000 - asked.first // 10000, last // 10000 - first // 10000) + 1
        if years > 3:
            return DateLevel.WITHIN if years <= 8 else DateLevel.WITHIN_WIDE
        if asked.last - asked.first <= 30 and last - first <= 30:
            return DateLevel.MONTH
        return DateLevel.YEAR
    if asked.first == asked.last and first == last and _swapped(asked.first, first):
        return DateLevel.DAY_MONTH_SWAPPED
    off = max(first // 10000 - asked.last // 10000, asked.first // 10000 - last // 10000)
    return _OFF[off] if off < len(_OFF) else DateLevel.FAR


_OFF = (
    DateLevel.YEAR,
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
        self._birth = query.birth
        self._event = query.event
        self._place = find(query.place) if query.place else ""
        self._place_words = fold(query.place) if query.place and not query.place.isdigit() else ""
        self._certificate = fold_certificate(query.certificate_no) if query.certificate_no else ""
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
        """`levels` as a plain tuple in the order of its fields: few differ among many records, so what follows from
        one can be remembered.
        """
        subject, name_level, unequal = self._subject(persons)
        id_level, birth_level = IdLevel.NOT_COMPARED, DateLevel.NOT_COMPARED
        if persons:
            person = persons[subject]
            if self._id:
                id_level = compare_ids(self._id, person.id_number)
            if self._birth is not None:
                birth_level = compare_dates(self._birth, person.birth)
        other_level, other_id = self._other_party(persons, subject)
        certificate = TextLevel.NOT_COMPARED
        if self._certificate and certificate_no:
            same = fold_certificate(certificate_no) == self._certificate
            certificate = TextLevel.EQUAL if same else TextLevel.DIFFERENT
        same_category = TextLevel.NOT_COMPARED
        if self._category:
            same_category = TextLevel.EQUAL if category == self._category else TextLevel.DIFFERENT
        return (
            name_level,
            id_level,
            birth_level,
            DateLevel.NOT_COMPARED if self._event is None else compare_dates(self._event, event),
            self._place_level(place, place_text),
            other_level,
            certificate,
            same_category,
            other_id,
            unequal,
        ), subject

    def _subject(self, persons: Sequence[PersonLike]) -> tuple[int, NameLevel, int]:
        best, best_rank = (0, NameLevel.NOT_COMPARED, 0), -1
        for index, person in enumerate(persons):
            level, unequal = self._name.compare(person.name, person.aliases)
            rank = _BETTER_NAME[level] * 32 - unequal
            if self._id and person.id_number and person.id_number[:17] == self._id[:17]:
                rank += 10_000
            if rank > best_rank:
                best, best_rank = (index, level, unequal), rank
        return best

    def _other_party(self, persons: Sequence[PersonLike], subject: int) -> tuple[NameLevel, IdLevel]:
        best, best_rank, best_id = NameLevel.NOT_COMPARED, 0, IdLevel.NOT_COMPARED
        if self._other is None and not self._other_id:
            return best, best_id
        for index, person in enumerate(persons):
            if index == subject:
                continue
            if self._other is not None:
                level, _unequal = self._other.compare(person.name, person.aliases)
                if _BETTER_NAME[level] > best_rank:
                    best, best_rank = level, _BETTER_NAME[level]
            if self._other_id and person.id_number:
                by_id = compare_ids(self._other_id, person.id_number)
                best_id = by_id if best_id is IdLevel.NOT_COMPARED else min(best_id, by_id)
        return best, best_id

    def _place_level(self, place: str, place_text: str) -> PlaceLevel:
        if not self._place and not self._place_words:
            return PlaceLevel.NOT_COMPARED
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
