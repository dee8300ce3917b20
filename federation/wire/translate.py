"""Wire messages ⇄ domain values, by named pure functions that validate.

Nothing behind this file sees a protobuf message. What can not be read raises `BadMessageError` for itself alone.
"""

from __future__ import annotations

from math import isfinite

from google.protobuf.message import DecodeError

from federation.candidate import Candidate
from federation.categories import CATEGORIES
from federation.dates import FIRST_YEAR, LAST_YEAR, DateSpan
from federation.levels import Levels
from federation.query import Query, Relation
from federation.wire.v1 import holdings_pb2 as pb

LARGEST_CANDIDATE = 4_096
"""Bytes of one masked candidate: names are masked, so a larger one is not a candidate."""

_LONGEST_TEXT = 128
_MOST_FINGERPRINTS = 8


class BadMessageError(Exception):
    """A message that can not be what it claims to be. The text names the field, never its value."""


def query_to_wire(query: Query) -> bytes:
    """Serialise a query once; the bytes are shared by all sub-requests of a search."""
    message = pb.Query(
        category=query.category,
        purpose=query.purpose,
        relation=query.relation.value if query.relation else "",
        name=query.name,
        id_number=query.id_number,
        other_name=query.other_name,
        other_id_number=query.other_id_number,
        place=query.place,
        certificate_no=query.certificate_no,
        archival_code=query.archival_code,
        title=query.title,
    )
    _put_span(message.birth, query.birth)
    _put_span(message.event, query.event)
    return message.SerializeToString()


def _put_span(target: pb.Span, span: DateSpan | None) -> None:
    if span is not None:
        target.first, target.last = span.first, span.last


def _span(message: pb.Span, *, present: bool, field: str) -> DateSpan | None:
    if not present:
        return None
    first, last = message.first, message.last
    if not FIRST_YEAR <= first // 10000 <= last // 10000 <= LAST_YEAR or first > last:
        raise BadMessageError(field)
    return DateSpan(first, last)


def query_from_wire(data: bytes) -> Query:
    """Read a query; BadMessageError names the field at fault."""
    try:
        message = pb.Query.FromString(data)
    except DecodeError as error:
        raise BadMessageError("query") from error
    return query_from_message(message)


def query_from_message(message: pb.Query) -> Query:
    """A query out of an already parsed message."""
    if message.category and message.category not in CATEGORIES:
        raise BadMessageError("category")
    try:
        relation = Relation(message.relation) if message.relation else None
    except ValueError as error:
        raise BadMessageError("relation") from error
    for field in (
        "name",
        "other_name",
        "id_number",
        "other_id_number",
        "place",
        "certificate_no",
        "archival_code",
        "title",
    ):
        if len(getattr(message, field)) > _LONGEST_TEXT:
            raise BadMessageError(field)
    return Query(
        category=message.category,
        purpose=message.purpose,
        relation=relation,
        name=message.name,
        id_number=message.id_number,
        birth=_span(message.birth, present=message.HasField("birth"), field="birth"),
        other_name=message.other_name,
        other_id_number=message.other_id_number,
        event=_span(message.event, present=message.HasField("event"), field="event"),
        place=message.place,
        certificate_no=message.certificate_no,
        archival_code=message.archival_code,
        title=message.title,
    )


def _shortened(masked: str) -> str:
    """As much of a masked name as is read: a cell that swallowed its neighbours is as long as it likes, and a candidate that is too
    large, or shows no mask, would spoil the archive's whole answer.
    """
    return masked if len(masked) <= _LONGEST_TEXT else masked[: _LONGEST_TEXT - 1] + "*"


def candidate_to_wire(candidate: Candidate) -> bytes:
    """Serialise one masked candidate."""
    levels = candidate.levels
    return pb.Candidate(
        ref=candidate.ref,
        category=candidate.category,
        masked_name=_shortened(candidate.masked_name),
        masked_other_name=_shortened(candidate.masked_other_name),
        year=candidate.year,
        place=candidate.place,
        levels=pb.Levels(
            name=levels.name,
            id_number=levels.id_number,
            birth=levels.birth,
            event=levels.event,
            place=levels.place,
            other_name=levels.other_name,
            certificate_no=levels.certificate_no,
            name_unequal=levels.name_unequal,
            category=levels.category,
            other_id_number=levels.other_id_number,
        ),
        name_bits=candidate.name_bits,
        fingerprints=candidate.fingerprints,
        is_copy=candidate.is_copy,
        digitised=candidate.digitised,
    ).SerializeToString()


def candidate_from_wire(data: bytes) -> Candidate:
    """Read one candidate of another process; BadMessageError when it is malformed, oversize or unmasked."""
    if len(data) > LARGEST_CANDIDATE:
        raise BadMessageError("size")
    try:
        message = pb.Candidate.FromString(data)
    except DecodeError as error:
        raise BadMessageError("candidate") from error
    if not message.ref or len(message.ref) > _LONGEST_TEXT:
        raise BadMessageError("ref")
    if message.category not in CATEGORIES:
        raise BadMessageError("category")
    if not isfinite(message.name_bits):
        raise BadMessageError("name_bits")
    if message.year and not FIRST_YEAR <= message.year <= LAST_YEAR:
        raise BadMessageError("year")
    for field in ("masked_name", "masked_other_name"):
        shown = getattr(message, field)
        if shown and "*" not in shown:
            raise BadMessageError(field)  # a full name may not travel before approval
    levels = message.levels
    return Candidate(
        ref=message.ref,
        category=message.category,
        masked_name=message.masked_name[:_LONGEST_TEXT],
        masked_other_name=message.masked_other_name[:_LONGEST_TEXT],
        year=message.year,
        place=message.place[:6],
        levels=Levels(
            levels.name,
            levels.id_number,
            levels.birth,
            levels.event,
            levels.place,
            levels.other_name,
            levels.certificate_no,
            levels.category,
            levels.other_id_number,
            levels.name_unequal & 0x1F,
        ),
        name_bits=message.name_bits,
        fingerprints=tuple(message.fingerprints[:_MOST_FINGERPRINTS]),
        is_copy=message.is_copy,
        digitised=message.digitised,
    )
