"""A question about one person's record, as every archive must understand it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from federation.dates import DateSpan


class Relation(StrEnum):
    """How the applicant stands to the person the record is about (entitlement classes)."""

    SELF = "SELF"
    AGENT = "AGENT"
    GUARDIAN = "GUARDIAN"
    KIN_DECEASED = "KIN_DECEASED"
    HEIR = "HEIR"
    JUDICIAL = "JUDICIAL"
    LAWYER = "LAWYER"
    ORIGIN_UNIT = "ORIGIN_UNIT"
    OTHER = "OTHER"


class Query(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One question. Empty string or None = not stated. Names keep their original characters.

    `category` is a key of federation/categories.py, or "" at an archive's own window (all categories).
    `place` is a GB/T 2260 code of six digits or the asker's words.
    """

    category: str = ""
    purpose: str = ""
    relation: Relation | None = None
    name: str = ""
    id_number: str = ""
    birth: DateSpan | None = None
    other_name: str = ""
    other_id_number: str = ""
    event: DateSpan | None = None
    place: str = ""
    certificate_no: str = ""
    archival_code: str = ""
    title: str = ""
