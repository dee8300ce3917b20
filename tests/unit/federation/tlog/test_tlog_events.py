"""Events: the closed list, the one byte form, the commitment that says nothing once its salt is gone."""

import json
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from federation.identity_number import check_digit
from federation.tlog.event import LARGEST_EVENT, SHAPES, Event, EventKind, commitment, leaf_of
from federation.tlog.flaws import EvidenceError, Flaw
from tests.fakes.tlog import NOW_MS, decided

GOLDEN = json.loads((Path(__file__).parents[3] / "vectors" / "tlog.json").read_text())
WORDS = st.from_regex(r"[a-z][a-z0-9_]{0,47}", fullmatch=True)
TOKENS = st.from_regex(r"[A-Za-z0-9][A-Za-z._:/=-]{0,40}", fullmatch=True)
NUMBERS = st.integers(0, 2**53 - 1)
VALUES = {
    "digest": st.binary(min_size=32, max_size=32).map(bytes.hex),
    "archive": st.from_regex(r"[0-9]{6}", fullmatch=True),
    "on_behalf_of": st.from_regex(r"[0-9]{6}", fullmatch=True),
    **dict.fromkeys(("rule", "number", "successor", "audience", "name"), TOKENS),
    **dict.fromkeys(("entry", "size"), NUMBERS),
}


@st.composite
def events(draw):
    kind = draw(st.sampled_from(EventKind))
    shape = SHAPES[kind]
    names = sorted(shape.required) + sorted(
        draw(st.sets(st.sampled_from(sorted(shape.optional)))) if shape.optional else ()
    )
    fields = {name: draw(VALUES.get(name, WORDS)) for name in names}
    request = draw(TOKENS) if shape.about_request else draw(st.just("") | TOKENS)
    return Event(kind, draw(TOKENS), draw(NUMBERS), request, fields)


@given(events())
def test_the_byte_form_is_jcs_and_reads_back(event):
    body = event.canonical()
    assert body == rfc8785.dumps(json.loads(body))
    assert Event.parse(body) == event
    assert len(body) <= LARGEST_EVENT


def test_golden_event():
    event = decided(1)
    assert Event.parse(GOLDEN["event"].encode()).canonical() == GOLDEN["event"].encode()
    salt, body = bytes.fromhex(GOLDEN["salt"]), GOLDEN["event"].encode()
    assert commitment(salt, body).hex() == GOLDEN["commitment"]
    assert leaf_of(salt, body).hex() == GOLDEN["leaf"]
    assert leaf_of(salt, event.canonical()).hex() != GOLDEN["leaf"]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "王芳"},  # not a field of the kind
        {"note": "free text"},
        {"outcome": "王芳"},
        {"outcome": "two words"},
        {"outcome": "x" * 49},
        {"digest": "AB" * 32},
        {"digest": "ab" * 31},
        {"archive": "33048"},
        {"archive": "٣٣٠٤٨٣"},
        {"archive": 330483},
        {"rule": "has space"},
        {"rule": "line\n"},
        {"rule": True},
        {"rule": None},
    ],
)
def test_only_listed_fields_with_listed_forms(fields):
    with pytest.raises(EvidenceError) as caught:
        decided(1, **fields)
    assert caught.value.flaw is Flaw.MALFORMED_EVENT
    assert "王芳" not in str(caught.value)


def test_an_identity_number_is_no_identifier():
    number = "33048319630412001"
    number += check_digit(number)
    for field in ("rule",):
        for value in (number, f"rule:{number}", f"{number}/1"):
            with pytest.raises(EvidenceError) as caught:
                decided(1, **{field: value})
            assert number not in str(caught.value)
    with pytest.raises(EvidenceError):
        decided(1, request=number)
    assert decided(1, request="a" + number)  # inside a longer word it is a digest, not a number


def test_what_an_event_needs():
    with pytest.raises(EvidenceError, match="lacks digest"):
        Event(EventKind.DECIDED, "d-1", NOW_MS, "case-1", {"archive": "330483", "outcome": "approved"})
    with pytest.raises(EvidenceError, match="request"):
        decided(1, request="")
    with pytest.raises(EvidenceError, match="at"):
        Event(EventKind.ERASED, "e-1", -1, "", {"entry": 1, "reason": "retention"})
    with pytest.raises(EvidenceError, match="entry"):
        Event(EventKind.ERASED, "e-1", 1, "", {"entry": True, "reason": "retention"})
    with pytest.raises(EvidenceError, match="id"):
        Event(EventKind.ERASED, "", 1, "", {"entry": 1, "reason": "retention"})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.replace(b":", b": ", 1),
        lambda body: body.replace(b'"v":1', b'"v":2'),
        lambda body: body.replace(b'"v":1', b'"v":1.0'),
        lambda body: body.replace(b'"v":1', b'"v":true'),
        lambda body: body.replace(b'"v":1', b'"v":1,"v":1'),
        lambda body: body.replace(b'"kind":"decided"', b'"kind":"unknown"'),
        lambda body: body.replace(b"approved", b"\\u0061pproved"),
        lambda body: body.replace(b'"at":', b'"at":0'),
        lambda body: body[:-1],
        lambda body: b"[" * 3_000,
        lambda body: b"[]",
        lambda body: b"{}",
        lambda body: b"\xff",
        lambda body: b"",
    ],
)
def test_only_the_one_byte_form_is_read(spoil):
    with pytest.raises(EvidenceError) as caught:
        Event.parse(spoil(decided(1).canonical()))
    assert caught.value.flaw is Flaw.MALFORMED_EVENT


def test_a_large_event_is_not_read():
    with pytest.raises(EvidenceError) as caught:
        Event.parse(b" " * (LARGEST_EVENT + 1))
    assert caught.value.flaw is Flaw.TOO_LARGE


def test_every_kind_has_a_shape():
    assert set(SHAPES) == set(EventKind)
    for shape in SHAPES.values():
        assert not shape.shared or "digest" in shape.required  # reconciled by it
