"""Reading what callers say about cases: strict bodies, the Idempotency-Key, Prefer, Last-Event-ID."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from federation.mail import EVIDENCE_KINDS
from federation.names.invisible import visible
from federation.places import exists
from federation.reasons import Reason, Refusal
from gateway.cases.cases import Once
from gateway.edge.delivery_wishes import DeliveryBody, check_delivery
from gateway.edge.requests import Applicant, Event, Key, Region, ScopeBody, Subject, decode, question_of
from gateway.search.question import Question, check

LONGEST_WAIT_S = 60.0
_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,5})\"?")
_CASE_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class CaseBody(Struct, forbid_unknown_fields=True, frozen=True):
    """The body of POST /v1/cases. `window` is the division of the asking window, which decides the target."""

    purpose: Key
    category: Key
    applicant: Applicant
    subject: Subject
    event: Event | None = None
    scope: ScopeBody | None = None
    window: Region | None = None
    delivery: DeliveryBody | None = None


class SelectionBody(Struct, forbid_unknown_fields=True, frozen=True):
    """`ref` of a candidate, null = none of those in `version` of the case."""

    ref: Annotated[str, Meta(max_length=200)] | None
    version: Annotated[int, Meta(ge=1, le=2**31)] | None = None


class ProofBody(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    kind: Key
    digest: Annotated[str, Meta(max_length=64)] = ""
    note: Annotated[str, Meta(max_length=200)] = ""


class EvidenceBody(Struct, forbid_unknown_fields=True, frozen=True):
    evidence: Annotated[tuple[ProofBody, ...], Meta(min_length=1, max_length=20)]


_CASE = msgspec.json.Decoder(CaseBody)
_SELECTION = msgspec.json.Decoder(SelectionBody)
_EVIDENCE = msgspec.json.Decoder(EvidenceBody)


def read_case(body: bytes, client: str) -> tuple[CaseBody, Question]:
    """The request and the question it asks; Refusal names reason and field."""
    case: CaseBody = decode(_CASE, body)
    if case.window and not exists(case.window):
        raise Refusal(Reason.UNKNOWN_REGION, "/window")
    question = question_of(case, client)
    check(question)
    return case, question


def as_kept(case: CaseBody, digest: str) -> dict[str, Any]:
    """The request as a case keeps it and its desk is told; `digest` is the SHA-256 of its body. Refusal for a bad key."""
    built: dict[str, Any] = msgspec.to_builtins(case)
    built.pop("window", None)
    built.pop("delivery", None)
    if delivery := check_delivery(case.delivery):
        built["delivery"] = delivery
    built["digest"] = digest
    for part in ("subject", "event"):
        said = {key: visible(value or "").strip() for key, value in (built.get(part) or {}).items()}
        built[part] = {key: value for key, value in said.items() if value}  # as the question asks it
    return built


def read_selection(body: bytes) -> tuple[str, int]:
    """The chosen reference, "" = none fits, and the version of the case that was seen, 0 = not said."""
    selection: SelectionBody = decode(_SELECTION, body)
    return selection.ref or "", selection.version or 0


def read_evidence(body: bytes) -> list[dict[str, str]]:
    given: EvidenceBody = decode(_EVIDENCE, body)
    for place, proof in enumerate(given.evidence):
        if proof.kind not in EVIDENCE_KINDS:
            raise Refusal(Reason.OUT_OF_RANGE, f"/evidence/{place}/kind", allowed=", ".join(EVIDENCE_KINDS))
        if proof.digest and not _DIGEST.fullmatch(proof.digest):
            raise Refusal(Reason.WRONG_TYPE, f"/evidence/{place}/digest", allowed=_DIGEST.pattern)
    built: list[dict[str, str]] = msgspec.to_builtins(given.evidence)
    return built


def idempotency_key(request: web.BaseRequest, body: bytes) -> tuple[str, str]:
    """The caller's key and the SHA-256 of the body; Refusal when the key is missing or no printable ASCII."""
    key = request.headers.get("Idempotency-Key", "").strip().strip('"')
    if not _KEY.fullmatch(key):
        raise Refusal(Reason.IDEMPOTENCY_KEY_MISSING)
    return key, hashlib.sha256(body).hexdigest()


def once(request: web.BaseRequest, route: str, body: bytes) -> Once:
    """The same for what is said about a case, where the key may be missing: the case's state guards it too."""
    if "Idempotency-Key" not in request.headers:
        return Once()
    key, digest = idempotency_key(request, body)
    return Once(f"{route}:{key}", digest)


def is_case_id(text: str) -> bool:
    """Whether a case can be named so."""
    return bool(_CASE_ID.fullmatch(text))


def known_version(request: web.BaseRequest, current: str) -> bool:
    """Whether If-None-Match names the current version (RFC 9110: a list, compared weakly, or `*`)."""
    given = [one.strip().removeprefix("W/") for one in request.headers.get("If-None-Match", "").split(",")]
    return "*" in given or current.removeprefix("W/") in given


def wanted_wait(request: web.BaseRequest) -> float | None:
    """Seconds of `Prefer: wait=…` (RFC 7240), at most a minute; None when not asked for."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(LONGEST_WAIT_S, float(found.group(1))) if found else None


def last_event(request: web.BaseRequest) -> int:
    """The journal line the caller has seen last: Last-Event-ID, or `after` for clients that can set no header."""
    text = request.headers.get("Last-Event-ID", "") or request.query.get("after", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refusal(Reason.OUT_OF_RANGE, "/after", allowed="0-999999999")
    return int(text)
