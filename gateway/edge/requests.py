"""Reading a search request: typed, bounded, strict; whatever is wrong is a Refusal that names the field."""

from __future__ import annotations

import re
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from federation.categories import CATEGORIES, PURPOSES
from federation.dates import DateSpan
from federation.http import bodies as json_bodies
from federation.identity_number import IdJudgement, judge
from federation.names.invisible import visible
from federation.places import exists, find
from federation.query import Query, Relation
from federation.reasons import Reason, Refusal
from gateway.search.question import (
    DEADLINE_S,
    LARGEST_PAGE,
    LONGEST_DEADLINE_S,
    PAGE_SIZE,
    SHORTEST_DEADLINE_S,
    Question,
    Scope,
)

_MOST_BRACKETS = 40

Name = Annotated[str, Meta(max_length=64)]
Number = Annotated[str, Meta(max_length=32)]
Words = Annotated[str, Meta(max_length=64)]
DateText = Annotated[str, Meta(max_length=10)]
Region = Annotated[str, Meta(max_length=6)]
Key = Annotated[str, Meta(max_length=40)]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")


class Applicant(Struct, forbid_unknown_fields=True, frozen=True):
    relation: Key


class Subject(Struct, forbid_unknown_fields=True, frozen=True):
    name: Name
    id_number: Number | None = None
    birth: DateText | None = None
    other_name: Name | None = None
    other_id_number: Number | None = None


class Event(Struct, forbid_unknown_fields=True, frozen=True, rename={"first": "from", "last": "to"}):
    first: DateText | None = None
    last: DateText | None = None
    place: Words | None = None
    certificate_no: Words | None = None


class ScopeBody(Struct, forbid_unknown_fields=True, frozen=True):
    regions: Annotated[tuple[Region, ...], Meta(max_length=50)] = ()
    archives: Annotated[tuple[Region, ...], Meta(max_length=400)] = ()


class SearchBody(Struct, forbid_unknown_fields=True, frozen=True):
    """The body of POST /v1/searches."""

    purpose: Key
    category: Key
    applicant: Applicant
    subject: Subject
    event: Event | None = None
    scope: ScopeBody | None = None
    deadline_ms: int | None = None
    page_size: int | None = None
    mode: Key | None = None


class CursorBody(Struct, forbid_unknown_fields=True, frozen=True):
    """The body that asks for a later page."""

    cursor: Annotated[str, Meta(max_length=200)]


_SEARCH = msgspec.json.Decoder(SearchBody)
_CURSOR = msgspec.json.Decoder(CursorBody)


def read_search(body: bytes, caller: str) -> Question | str:
    """A question, or the cursor of a later page; Refusal names reason and field."""
    if b'"cursor"' in body and b'"subject"' not in body:
        page: CursorBody = decode(_CURSOR, body)
        return page.cursor
    return _question(decode(_SEARCH, body), caller)


def decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """A body of the decoder's type; Refusal names reason and field."""
    return json_bodies.decode(decoder, body, most_brackets=_MOST_BRACKETS)


class Asked(Protocol):
    """What every question states, whether it is searched at once or becomes a case."""

    @property
    def purpose(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def applicant(self) -> Applicant: ...
    @property
    def subject(self) -> Subject: ...
    @property
    def event(self) -> Event | None: ...
    @property
    def scope(self) -> ScopeBody | None: ...


def question_of(body: Asked, caller: str) -> Question:
    """The question a body asks, with the usual deadline; Refusal names the field that is wrong."""
    if body.category not in CATEGORIES:
        raise Refusal(Reason.UNKNOWN_CATEGORY, "/category", allowed=", ".join(CATEGORIES))
    if body.purpose not in PURPOSES:
        raise Refusal(Reason.UNKNOWN_PURPOSE, "/purpose", allowed=", ".join(PURPOSES))
    if body.applicant.relation not in Relation.__members__:
        raise Refusal(Reason.UNKNOWN_RELATION, "/applicant/relation", allowed=", ".join(Relation))
    subject, event = body.subject, body.event or Event()
    query = Query(
        category=body.category,
        purpose=body.purpose,
        relation=Relation(body.applicant.relation),
        name=_text(subject.name, "/subject/name"),
        id_number=_id_number(subject.id_number, "/subject/id_number"),
        birth=DateSpan.written(subject.birth, "/subject/birth") if subject.birth else None,
        other_name=_text(subject.other_name, "/subject/other_name"),
        other_id_number=_id_number(subject.other_id_number, "/subject/other_id_number"),
        event=_event_span(event),
        place=_place(event.place),
        certificate_no=_text(event.certificate_no, "/event/certificate_no"),
    )
    scope = body.scope or ScopeBody()
    for place, region in enumerate(scope.regions):
        if not exists(region):
            raise Refusal(Reason.UNKNOWN_REGION, f"/scope/regions/{place}")
    return Question(query=query, scope=Scope(scope.regions, scope.archives), caller=caller)


def _question(body: SearchBody, caller: str) -> Question:
    question = question_of(body, caller)
    if body.mode not in {None, "thorough", "quick"}:
        raise Refusal(Reason.OUT_OF_RANGE, "/mode", allowed="thorough, quick")
    return replace(
        question,
        deadline_s=_number(
            body.deadline_ms,
            DEADLINE_S * 1000,
            SHORTEST_DEADLINE_S * 1000,
            LONGEST_DEADLINE_S * 1000,
            "/deadline_ms",
        )
        / 1000,
        page_size=int(_number(body.page_size, PAGE_SIZE, 1, LARGEST_PAGE, "/page_size")),
        quick=body.mode == "quick",
    )


def _number(value: int | None, default: float, low: float, high: float, pointer: str) -> float:
    if value is None:
        return default
    if not low <= value <= high:
        raise Refusal(Reason.OUT_OF_RANGE, pointer, allowed=f"{low:g}-{high:g}")
    return float(value)


def _text(value: str | None, pointer: str) -> str:
    if not value:
        return ""
    if _CONTROL.search(value):
        raise Refusal(Reason.INVALID_NAME, pointer)
    return visible(value).strip()


def _place(value: str | None) -> str:
    """Words, or the code of a division. Words that name none we know are not compared; a code must exist."""
    text = _text(value, "/event/place")
    if text.isdigit() and not find(text):
        raise Refusal(Reason.UNKNOWN_REGION, "/event/place")
    return text


def _id_number(value: str | None, pointer: str) -> str:
    """A number of the right form; a wrong check digit passes, because a mistyped number is searched with repairs."""
    text = _text(value, pointer)
    if text and judge(text) in {IdJudgement.WRONG_LENGTH, IdJudgement.BAD_CHARACTERS}:
        raise Refusal(Reason.INVALID_ID_NUMBER, pointer)
    return text


def _event_span(event: Event) -> DateSpan | None:
    first = DateSpan.written(event.first, "/event/from") if event.first else None
    last = DateSpan.written(event.last, "/event/to") if event.last else None
    if first is None or last is None:
        return first or last
    if first.first > last.last:
        raise Refusal(Reason.IMPOSSIBLE_DATE, "/event/to", allowed=">= /event/from")
    return DateSpan(first.first, last.last)
