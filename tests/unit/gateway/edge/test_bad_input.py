"""Whatever is sent, the answer is a problem with a named reason, in the caller's language, quoting nothing of the request."""

from __future__ import annotations

import contextlib
import json

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from federation.categories import CATEGORIES, PURPOSES
from federation.http import bodies as json_bodies
from federation.http.bodies import LARGEST_BODY
from federation.http.problems import STATUS
from federation.query import Relation
from federation.reasons import TEXTS, Reason, Refusal
from gateway.edge.requests import SearchBody, read_search
from gateway.edge.server import openapi
from gateway.search.question import LARGEST_PAGE, LONGEST_DEADLINE_S, SHORTEST_DEADLINE_S
from tests.fakes.edge import QUESTION, Gateway

SECRET = "钱偉明3304831963"


def changed(pointer, value):
    body = json.loads(json.dumps(QUESTION))
    *path, last = pointer.strip("/").split("/")
    place = body
    for part in path:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place
    place[last] = value
    return body


CASES = [
    (changed("/category", "no_such"), 422, "unknown_category", "/category"),
    (changed("/purpose", "no_such"), 422, "unknown_purpose", "/purpose"),
    (changed("/applicant/relation", "FRIEND"), 422, "unknown_relation", "/applicant/relation"),
    (changed("/scope/regions", ["9999"]), 422, "unknown_region", "/scope/regions/0"),
    (changed("/scope", {"archives": ["330402", "999999"]}), 422, "unknown_archive", "/scope/archives/1"),
    (changed("/scope", {"regions": ["3301"]}), 422, "nobody_in_scope", "/scope"),
    (changed("/scope", {"regions": ["330421"], "archives": ["330402"]}), 422, "nobody_in_scope", "/scope"),
    (changed("/event/from", "1985-02-30"), 422, "impossible_date", "/event/from"),
    (changed("/event/from", "85"), 422, "impossible_date", "/event/from"),
    (changed("/event/from", "1991"), 422, "impossible_date", "/event/to"),
    (changed("/subject/birth", "1963-13"), 422, "impossible_date", "/subject/birth"),
    (changed("/subject/birth", "0001"), 422, "impossible_date", "/subject/birth"),
    (changed("/subject/id_number", "12345"), 422, "invalid_id_number", "/subject/id_number"),
    (changed("/subject/id_number", "33048319630512001Z"), 422, "invalid_id_number", "/subject/id_number"),
    (changed("/subject/name", ""), 422, "minimum_query", "/subject/name"),
    (changed("/subject/name", "钱\u0000明"), 422, "invalid_name", "/subject/name"),
    (changed("/subject/name", "\u200b\u2066 \u2069"), 422, "minimum_query", "/subject/name"),
    (changed("/subject/name", "\u3164\u2800"), 422, "minimum_query", "/subject/name"),
    (changed("/subject/name", "钱*"), 422, "wildcard", "/subject/name"),
    (changed("/subject/name", 5), 422, "wrong_type", "/subject/name"),
    (changed("/subject/name", None), 422, "wrong_type", "/subject/name"),
    (changed("/subject/name", "钱" * 65), 422, "too_long", "/subject/name"),
    (changed("/subject/other_name", "王" * 65), 422, "too_long", "/subject/other_name"),
    (changed("/subject/nickname", "x"), 422, "unknown_field", "/subject/nickname"),
    (changed("/subject/钱偉明", "x"), 422, "unknown_field", "/subject"),
    (changed("/extra", 1), 422, "unknown_field", "/extra"),
    (changed("/event/place", "999999"), 422, "unknown_region", "/event/place"),
    (changed("/event/place", "3304"), 422, "unknown_region", "/event/place"),
    (changed("/deadline_ms", 99), 422, "out_of_range", "/deadline_ms"),
    (changed("/deadline_ms", 10_001), 422, "out_of_range", "/deadline_ms"),
    (changed("/deadline_ms", "soon"), 422, "wrong_type", "/deadline_ms"),
    (changed("/deadline_ms", 1.5), 422, "wrong_type", "/deadline_ms"),
    (changed("/page_size", 0), 422, "out_of_range", "/page_size"),
    (changed("/mode", "fast"), 422, "out_of_range", "/mode"),
    (changed("/scope/archives", ["330402"] * 401), 422, "too_long", "/scope/archives"),
    ({key: value for key, value in QUESTION.items() if key != "subject"}, 422, "missing_field", "/subject"),
    ({"subject": {"name": "钱伟明"}}, 422, "missing_field", "/purpose"),
    ([QUESTION], 422, "wrong_type", ""),
    ("just a text", 422, "wrong_type", ""),
    (None, 422, "wrong_type", ""),
    ({"cursor": "made up"}, 422, "invalid_cursor", "/cursor"),
    ({"cursor": "x" * 201}, 422, "too_long", "/cursor"),
]


@pytest.mark.parametrize(
    ("body", "status", "reason", "pointer"), CASES, ids=[f"{n}-{case[2]}" for n, case in enumerate(CASES)]
)
async def test_a_wrong_body_is_named(body, status, reason, pointer):
    async with Gateway() as gateway:
        got, headers, problem = await gateway.ask(raw=json.dumps(body).encode())
        assert (got, problem["reason"]) == (status, reason)
        assert problem["type"] == f"urn:lantai:problem:{reason}"
        assert headers["Content-Language"] == "zh-CN"
        assert headers["X-Trace-Id"] == problem["trace_id"]
        if pointer:
            assert [one["pointer"] for one in problem["errors"]] == [pointer]
        assert "钱" not in json.dumps(problem, ensure_ascii=False)
        assert gateway.holdings.asked == []
        assert (await gateway.ask(QUESTION))[0] == 200  # the process goes on


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        (
            changed("/extra", 1),
            "purpose, category, applicant, subject, event, scope, deadline_ms, page_size, mode",
        ),
        (changed("/event/until", 1), "from, to, place, certificate_no"),
        ({"cursor": "x", "page": 2}, "cursor"),
        (changed("/deadline_ms", 99), "100-10000"),
        (changed("/page_size", 0), "1-100"),
        (changed("/mode", "fast"), "thorough, quick"),
        (changed("/subject/name", "钱" * 65), "<= 64"),
        (changed("/scope", {"archives": ["330402"] * 401}), "<= 400"),
        (changed("/category", "no_such"), ", ".join(CATEGORIES)),
        (changed("/purpose", "no_such"), ", ".join(PURPOSES)),
        (changed("/applicant/relation", "FRIEND"), ", ".join(Relation)),
        (changed("/event/from", "1985-02-30"), "YYYY, YYYY-MM, YYYY-MM-DD"),
        (changed("/event/from", "1991"), ">= /event/from"),
        (changed("/subject/name", None), "string"),
        (changed("/deadline_ms", 1.5), "integer, null"),
        (changed("/scope", []), "object, null"),
        (changed("/subject/name", "x" * LARGEST_BODY), f"<= {LARGEST_BODY}"),
    ],
)
async def test_what_would_be_accepted_is_said(body, allowed):
    async with Gateway() as gateway:
        _status, _headers, problem = await gateway.ask(body)
        assert problem["errors"][0]["allowed"] == allowed
        assert problem["detail"].endswith(f"：{allowed}")
        assert "钱" not in json.dumps(problem, ensure_ascii=False)


async def test_words_for_a_place_are_a_question_whether_we_know_it_or_not():
    async with Gateway() as gateway:
        for place in ("330483", "桐乡县屠甸乡", "屠甸粮站"):
            assert (await gateway.ask(changed("/event/place", place)))[0] == 200


TWICE = [
    (b'"category": "divorce", ', b'"purpose"', "/category"),
    (b'"c\\u0061tegory": "divorce", ', b'"purpose"', "/category"),
    (b'"name": "\xe9\x92\xb1", ', b'"birth"', "/subject/name"),
    (b'"name"\n :"\xe9\x92\xb1" ,', b'"birth"', "/subject/name"),
]


@pytest.mark.parametrize(("more", "before", "pointer"), TWICE)
async def test_a_field_that_stands_twice_is_refused_and_not_chosen_from(more, before, pointer):
    raw = json.dumps(QUESTION).encode()
    async with Gateway() as gateway:
        status, _headers, problem = await gateway.ask(raw=raw.replace(before, more + before, 1))
        assert (status, problem["reason"]) == (422, "repeated_field")
        assert [one["pointer"] for one in problem["errors"]] == [pointer]
        assert gateway.holdings.asked == []


def test_a_name_that_stands_twice_deep_inside_is_found_and_a_strangers_is_not_said_back():
    decoder = msgspec.json.Decoder(dict)
    for raw, pointer in (
        (b'{"keys": [{"x": 1}, {"x": 1, "y": [0, {"kid": 1, "kid": 2}]}]}', "/keys/1/y/1/kid"),
        (b'{"keys": [{"\xe9\x92\xb1": 1, "\xe9\x92\xb1": 2}]}', "/keys/0"),
        (b'{"\xe9\x92\xb1": {"x": 1, "x": 2}}', ""),
    ):
        with pytest.raises(Refusal) as refused:
            json_bodies.decode(decoder, raw, most_brackets=40)
        assert (refused.value.reason, refused.value.pointer) == (Reason.REPEATED_FIELD, pointer)
    assert json_bodies.decode(decoder, b'{"a": {"x": 1}, "b": {"x": 1}}', most_brackets=40)


RAW = [
    (b"{not json", 400, "malformed_json"),
    (b"", 400, "malformed_json"),
    (b'{"a":', 400, "malformed_json"),
    (b'{"purpose": 5, "category": ', 400, "malformed_json"),
    (b'{"a": "\xff"}', 400, "malformed_text"),
    (json.dumps(QUESTION).encode() + b" trailing", 400, "malformed_json"),
    (b'{"purpose": "\xff\xfe"}', 400, "malformed_text"),
    (b"[" * 5000, 400, "too_deep"),
    (b'{"a":' * 3000 + b"1" + b"}" * 3000, 400, "too_deep"),
    (json.dumps(changed("/subject/name", "钱" * 350_000)).encode(), 413, "too_large"),  # a name of a megabyte
    (b" " * (LARGEST_BODY + 1), 413, "too_large"),
    (json.dumps(QUESTION).encode("utf-16"), 400, "malformed_text"),
]


@pytest.mark.parametrize(
    ("raw", "status", "reason"), RAW, ids=[f"{n}-{case[2]}" for n, case in enumerate(RAW)]
)
async def test_bytes_that_are_no_request_are_named(raw, status, reason):
    async with Gateway() as gateway:
        got, _headers, problem = await gateway.ask(raw=raw)
        assert (got, problem["reason"]) == (status, reason)
        assert (await gateway.ask(QUESTION))[0] == 200


@settings(max_examples=300, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*SearchBody.__struct_fields__, "name", "from", "x"]), inner, max_size=6), max_leaves=20))  # fmt: skip
def test_any_json_is_a_question_or_a_named_refusal(value):
    with contextlib.suppress(Refusal):
        read_search(json.dumps(value).encode(), "platform")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_named_refusal(raw):
    with pytest.raises(Refusal):
        read_search(raw, "platform")


def test_every_reason_has_a_status_and_both_languages():
    for reason in Reason:
        assert 400 <= STATUS[reason] < 600
        assert TEXTS[reason].zh != TEXTS[reason].en
        assert any("\u4e00" <= char <= "\u9fff" for char in TEXTS[reason].zh)


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "zh-CN"),
        ("en", "en"),
        ("en-GB,zh;q=0.5", "en"),
        ("zh-TW,en;q=0.9", "zh-CN"),
        ("fr", "zh-CN"),
        ("en;q=x", "zh-CN"),
    ],
)
async def test_a_problem_is_told_in_the_callers_language(accept, language):
    async with Gateway() as gateway:
        headers = {"Accept-Language": accept} if accept else {}
        _status, got, problem = await gateway.ask(changed("/category", "x"), headers=headers)
        assert got["Content-Language"] == language
        text = TEXTS[Reason.UNKNOWN_CATEGORY]
        allowed = ", ".join(CATEGORIES)
        assert problem["detail"] == (
            f"{text.en}; accepted: {allowed}" if language == "en" else f"{text.zh}；可接受：{allowed}"
        )


def test_the_contracts_limits_are_the_codes_limits():
    schemas = openapi()["components"]["schemas"]
    schema = schemas["SearchRequest"]["properties"]
    assert schema["deadline_ms"]["minimum"] == SHORTEST_DEADLINE_S * 1000
    assert schema["deadline_ms"]["maximum"] == LONGEST_DEADLINE_S * 1000
    assert schema["page_size"]["maximum"] == LARGEST_PAGE
    longest = {}
    for part, named in (("subject", "Subject"), ("event", "RecordedEvent"), ("scope", "Scope")):
        for name, field in schemas[named]["properties"].items():
            if "maxLength" in field:
                longest[f"{part}/{name}"] = field["maxLength"]
    for pointer, size in longest.items():
        body = changed(f"/{pointer}", "1" * (size + 1))
        with pytest.raises(Refusal) as refused:
            read_search(json.dumps(body).encode(), "platform")
        assert (refused.value.reason, refused.value.pointer) == (Reason.TOO_LONG, f"/{pointer}")
        with pytest.raises(Refusal) as fits:
            read_search(
                json.dumps(changed("/category", "x") | {part: body[part] for part in ()}).encode(), "platform"
            )
        assert fits.value.reason is Reason.UNKNOWN_CATEGORY
    assert set(schema) == {field.encode_name for field in msgspec.structs.fields(SearchBody)}
