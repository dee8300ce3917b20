"""The published document itself: nothing in it is cut off or said twice, and its lists are the code's lists."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from jsonschema import Draft202012Validator

from federation.categories import CATEGORIES, PURPOSES
from federation.explanation import level_word
from federation.http.limits import RateLimit
from federation.http.problems import STATUS
from federation.levels import Levels, NameLevel
from federation.mail import EVIDENCE_KINDS, REFUSAL_REASONS
from federation.query import Relation
from federation.reasons import TEXTS, Reason
from federation.verify.report import VerificationReason
from gateway.bodies import Bodies
from gateway.cases.states import Kind, Stage, State
from gateway.edge.case_rendering import _OTHER_REASONS
from gateway.edge.cases import CaseRoutes
from gateway.edge.evidence_log import LogRoutes
from gateway.edge.server import openapi
from gateway.edge.verification import VerificationRoutes
from gateway.pages.verify import VerifyPage
from tests.fakes.contract import _absolute
from tests.fakes.edge import CONTRACT, ISSUER, Gateway

DOCUMENT = openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
RESPONSES = DOCUMENT["components"]["responses"]
OPERATIONS = [
    (path, method, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]

NEVER_HERE = {
    Reason.TAKEN, Reason.REFERRED_IN_A_CIRCLE, Reason.SEARCH_NOT_COMPLETE, Reason.PRIVATE_USE_CHARACTER, Reason.MISSING_GLYPH,
    Reason.TEXT_NOT_KEPT, Reason.FILE_UNREADABLE, Reason.FILE_TOO_LARGE, Reason.NO_PAGES, Reason.DECISION_CHANGED,
    Reason.NOT_A_MEMBER, Reason.WRONG_ARCHIVE, Reason.BAD_FRAME, Reason.PROTOCOL_VERSION, Reason.SUPERSEDED,
    Reason.CATEGORY_NOT_HELD, Reason.POLICY, Reason.NO_INDEX, Reason.TOO_MANY_RECORDS,
}  # fmt: skip
"""Reasons of a desk or of an archive: they stand in outcomes and logs, and no answer of the gateway is refused for them."""


WITHOUT_DATA = {
    Kind.NONE_FITS, Kind.CLAIMED, Kind.RELEASED, Kind.RETRIEVED, Kind.ISSUED, Kind.WITHDRAWN,
}  # fmt: skip


def parts(part, path=""):
    """(path, value) of everything in the document."""
    yield path, part
    inside = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for name, value in inside:
        yield from parts(value, f"{path}/{name}")


def test_no_name_a_generator_makes_is_anothers():
    """An enumeration or object inside a schema is called after both: ProblemError is `error` of Problem."""
    made = [
        name + "".join(word.capitalize() for word in field.split("_"))
        for name, schema in SCHEMAS.items()
        for field, part in schema.get("properties", {}).items()
        if "enum" in part or "properties" in part
    ]
    assert set(made) & SCHEMAS.keys() == set()


def test_every_route_is_described_and_no_other():
    edge, limit, places = Gateway().edge, RateLimit(1, lambda: 0.0), Bodies()
    nothing = SimpleNamespace(delivered=None)
    edge._cases = CaseRoutes(nothing, None, limit, None, None, None)
    verification = VerificationRoutes(None, None, limit, places, audience="", trust_list=b"")
    page = VerifyPage(None, None, limit, places)
    edge._beside = [*verification.routes(), *page.routes(), *LogRoutes(nothing, limit).routes()]
    served = {
        (route.resource.canonical, route.method.lower())
        for route in edge.app().router.routes()
        if route.method != "*"
    }
    assert served == {(path, method) for path, method, _operation in OPERATIONS}


@pytest.mark.parametrize(
    ("path", "operation"),
    [(path, one) for path, _m, one in OPERATIONS],
    ids=[m + p for p, m, _o in OPERATIONS],
)
def test_every_status_that_may_come_is_described(path, operation):
    statuses = set(operation["responses"])
    security = operation.get("security", DOCUMENT["security"])
    if security:
        assert statuses >= {"401", "403", "500"}
    if path.startswith(("/v1/cases", "/v1/searches")):
        assert statuses >= {"429", "503"}
    kinds = operation.get("requestBody", {}).get("content", {})
    if "application/json" in kinds or path == "/oauth2/token":
        assert statuses >= {"400", "413", "415", "422", "429", "500", "504"}
    for status, response in operation["responses"].items():
        name = response.get("$ref", "").rpartition("/")[2]
        assert bool(name) == (int(status) >= 400) or operation["tags"] in (["operations"], ["documents"])
        if name and name != "Page":
            reasons = re.findall(r"^- `(\w+)`:", RESPONSES[name]["description"], re.MULTILINE)
            assert {STATUS[Reason(one)] for one in reasons} == {int(status)}


def test_every_reason_is_told_with_its_words():
    told = {}
    for response in RESPONSES.values():
        told |= dict(re.findall(r"^- `(\w+)`: (.*)$", response["description"], re.MULTILINE))
    once_for_all = {Reason.METHOD_NOT_ALLOWED}
    assert all(f"`{one}`" in DOCUMENT["info"]["description"] for one in once_for_all)
    assert told == {
        one.value: f"{TEXTS[one].zh} · {TEXTS[one].en}"
        for one in Reason
        if one not in NEVER_HERE | once_for_all
    }


def words(named):
    return re.findall(r"^- `(\w+)`: (.*)$", named["description"], re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Category", CATEGORIES),
        ("Purpose", PURPOSES),
        ("EvidenceKind", EVIDENCE_KINDS),
        ("CaseState", State),
        ("CaseEventKind", Kind),
        ("Stage", Stage),
    ],
)
def test_the_lists_are_the_codes_lists(name, values):
    assert SCHEMAS[name]["enum"] == [str(one) for one in values]
    assert "description" not in SCHEMAS[name] or [word for word, _text in words(SCHEMAS[name])] == list(
        values
    )


def test_what_the_words_of_closed_lists_mean_is_told():
    texts = {key: f"{one.name.zh} · {one.name.en}" for key, one in CATEGORIES.items()}
    assert dict(words(SCHEMAS["Category"])) == texts
    assert dict(words(SCHEMAS["Purpose"])) == {key: f"{one.zh} · {one.en}" for key, one in PURPOSES.items()}
    reasons = {**REFUSAL_REASONS, **_OTHER_REASONS}
    assert dict(words(SCHEMAS["Case"]["properties"]["reason"])) == {
        key: f"{zh} · {en}" for key, (zh, en) in reasons.items()
    }
    assert SCHEMAS["Applicant"]["properties"]["relation"]["enum"] == list(Relation)
    told = SCHEMAS["VerificationReport"]["properties"]["reasons"]["description"].partition(":\n")[2]
    assert told.split() == list(VerificationReason)
    told = SCHEMAS["CaseEvent"]["properties"]["data"]["description"]
    assert {one for one in Kind if one in re.findall(r"\w+", told)} == set(Kind) - WITHOUT_DATA
    levels = {level_word(Levels(name=one)) for one in NameLevel}
    assert levels <= set(SCHEMAS["Level"]["enum"])


def test_examples_are_as_their_schemas_say():
    found = 0
    for _path, part in parts(DOCUMENT):
        if isinstance(part, dict) and "schema" in part:
            schema = _absolute(part["schema"])
            examples = [one["value"] for one in part.get("examples", {}).values()]
            for example in [*examples, *([part["example"]] if "example" in part else [])]:
                found += 1
                Draft202012Validator(schema, registry=CONTRACT._registry).validate(example)
        if isinstance(part, dict) and "example" in part and ("type" in part or "enum" in part):
            found += 1
            Draft202012Validator(_absolute(part), registry=CONTRACT._registry).validate(part["example"])
    assert found > 5


async def test_the_served_document_names_the_issuer_and_the_page_every_status():
    async with Gateway() as gateway:
        _status, _headers, served = await gateway.ask(method="GET", path="/openapi.json", token=None)
        assert f"{ISSUER}/oauth2/token" in served["paths"]["/oauth2/token"]["post"]["description"]
        assert "{issuer}" not in str(served)
        _status, _headers, page = await gateway.ask(method="GET", path="/docs", token=None)
        assert "rate_limited" in page
        assert "Idempotency-Key" in page
