"""What a document states: the certified copy, the certificate of recorded facts and the no-record note, before layout.

A statement is complete and final: what it holds is printed as it stands, and nothing that is not in it is printed.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, cast

import msgspec

from federation.categories import CATEGORIES, PURPOSES
from federation.masking import mask_id
from federation.outcome import CANNOT_HIDE
from federation.reasons import Reason, Refusal

LONGEST_TEXT = 300
"""Characters of one printed value: longer ones are a mistake of the caller or an attack on the layout."""

MOST_ROWS = 40
"""Parties, facts or name forms of one document: what still fits a certificate people can read."""

MOST_ARCHIVES = 1_000
"""Archives of a note's scope, whose table flows over as many pages as it needs: the delta has 349 (17 pages, 370 KB)."""

_LANGUAGE_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class Party(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person the record names. `role` is what the record calls them; the number is printed masked, never whole."""

    role: str
    name: str
    id_number: str = ""

    @property
    def shown_number(self) -> str:
        return mask_id(self.id_number) if self.id_number else ""


class CitedRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The record a document rests on, as its archive describes it. "" = the record does not say."""

    archival_code: str
    category: str
    title: str = ""
    parties: tuple[Party, ...] = ()
    date: str = ""
    responsible: str = ""
    certificate_no: str = ""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded fact: what it is called, in both languages, and what the record says, in the record's characters."""

    zh: str
    en: str
    value: str


class SearchedArchive(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One archive of a search: `outcome` is `empty`, or `not_asked` with the `reason` why it can hide nothing.

    `holdings` names the fonds or categories searched; `index_date` (YYYY-MM-DD) is the state of the index that answered.
    """

    name: str
    outcome: str
    holdings: tuple[str, ...] = ()
    index_date: str = ""
    reason: str = ""


class CertifiedCopy(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="certified_copy"):
    """Scanned pages of a record, compared with the original on `compared_on` (YYYY-MM-DD)."""

    record: CitedRecord
    compared_on: str


class RecordedFacts(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="recorded_facts"):
    """What a record says, in words."""

    record: CitedRecord
    facts: tuple[Fact, ...]


class NoRecordNote(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="no_record"):
    """That a complete search found no record, and exactly what was searched. Exists only over `complete` (invariant 2)."""

    verdict: str
    category: str
    subject: Party
    name_forms: tuple[str, ...]
    years: tuple[int, int] | None
    archives: tuple[SearchedArchive, ...]
    searched_on: str


Statement = CertifiedCopy | RecordedFacts | NoRecordNote


def kind_of(statement: Statement) -> str:
    """The kind's stable name: certified_copy, recorded_facts or no_record."""
    return str(statement.__struct_config__.tag)


def shown(statement: Statement) -> dict[str, Any]:
    """A statement as printed, for machines: identity numbers masked."""
    return cast("dict[str, Any]", _masked(msgspec.to_builtins(statement)))


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: mask_id(one) if key == "id_number" and one else _masked(one) for key, one in value.items()
        }
    return [_masked(one) for one in value] if isinstance(value, (list, tuple)) else value


def check(statement: Statement, purpose: str) -> None:
    """Refusal when a statement may not be made or would not fit; the pointer names the field, never its value."""
    if purpose not in PURPOSES:
        raise Refusal(Reason.UNKNOWN_PURPOSE, "/purpose")
    _check_texts(msgspec.to_builtins(statement), "")
    match statement:
        case NoRecordNote():
            _check_search(statement)
        case CertifiedCopy():
            _check_record(statement.record)
            _check_date(statement.compared_on, "/compared_on")
        case RecordedFacts():
            _check_record(statement.record)
            if not statement.facts:
                raise Refusal(Reason.MISSING_FIELD, "/facts")


def _check_record(record: CitedRecord) -> None:
    if record.category not in CATEGORIES:
        raise Refusal(Reason.UNKNOWN_CATEGORY, "/record/category")
    if not record.archival_code.strip():
        raise Refusal(Reason.MISSING_FIELD, "/record/archival_code")


def _check_search(note: NoRecordNote) -> None:
    if note.category and note.category not in CATEGORIES:
        raise Refusal(Reason.UNKNOWN_CATEGORY, "/category")
    _check_date(note.searched_on, "/searched_on")
    answered = [one for one in note.archives if one.outcome == "empty"]
    if note.verdict != "complete" or not answered:
        raise Refusal(Reason.SEARCH_NOT_COMPLETE, "/verdict")
    for place, one in enumerate(note.archives):
        pointer = f"/archives/{place}"
        if one.outcome == "empty":
            _check_date(one.index_date, f"{pointer}/index_date")
        elif one.outcome != "not_asked" or one.reason not in CANNOT_HIDE:
            raise Refusal(Reason.SEARCH_NOT_COMPLETE, f"{pointer}/outcome")
    if not note.name_forms:
        raise Refusal(Reason.MISSING_FIELD, "/name_forms")


def _check_date(text: str, pointer: str) -> None:
    if not _LANGUAGE_DATE.fullmatch(text):
        raise Refusal(Reason.IMPOSSIBLE_DATE, pointer)


def _check_texts(value: object, pointer: str) -> None:
    if isinstance(value, dict):
        for key, one in value.items():
            _check_texts(one, f"{pointer}/{key}")
    elif isinstance(value, (list, tuple)):
        if len(value) > (MOST_ARCHIVES if pointer == "/archives" else MOST_ROWS):
            raise Refusal(Reason.TOO_LONG, pointer)
        for place, one in enumerate(value):
            _check_texts(one, f"{pointer}/{place}")
    elif isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise Refusal(Reason.TOO_LONG, pointer)
        # control and format characters, such as those that turn the direction of writing, have no place in a record
        if any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in value):
            raise Refusal(Reason.MALFORMED_TEXT, pointer)
