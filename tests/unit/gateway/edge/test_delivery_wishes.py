"""How the document is wanted: read strictly, kept as public keys only, refused by name and place."""

import json

import pytest

from federation.mail import EVIDENCE_KINDS, Wishes
from federation.reasons import Reason, Refusal
from federation.suites.encoding import b64u
from federation.suites.registry import suite
from gateway.cases.letters import wishes_of
from gateway.edge.case_requests import as_kept, read_case, read_evidence
from tests.fakes.edge import QUESTION

INTL = suite("intl-1")
PHONE, WINDOW = INTL.jwk(INTL.generate("ES256").public), INTL.jwk(INTL.generate(INTL.sealing).public)
SECRET = {**PHONE, "d": b64u(bytes(32))}


def kept(delivery):
    body = {name: value for name, value in QUESTION.items() if name != "deadline_ms"} | {"delivery": delivery}
    return as_kept(read_case(json.dumps(body).encode(), "platform")[0], "ab" * 32)


def test_wishes_reach_the_archive_as_they_were_said():
    given = {"language": "en", "holder_keys": [{**PHONE, "kid": "1", "use": "sig", "key_ops": ["verify"]}], "public_key": WINDOW}  # fmt: skip
    assert wishes_of(kept(given)) == Wishes(
        holder_keys=(PHONE,), delivery_key=WINDOW, english=True, request_digest="ab" * 32
    )
    for nothing in (None, {}, {"language": "zh", "holder_keys": [], "public_key": None}):
        assert wishes_of(kept(nothing)) == Wishes(request_digest="ab" * 32)


@pytest.mark.parametrize(
    ("delivery", "reason", "pointer"),
    [
        ({"language": "fr"}, Reason.OUT_OF_RANGE, "/delivery/language"),
        ({"colour": "red"}, Reason.UNKNOWN_FIELD, "/delivery/colour"),
        ({"holder_keys": [SECRET]}, Reason.PRIVATE_KEY_GIVEN, "/delivery/holder_keys/0"),
        ({"public_key": {**WINDOW, "d": b64u(bytes(32))}}, Reason.PRIVATE_KEY_GIVEN, "/delivery/public_key"),
        ({"public_key": {"kty": "oct", "k": "c2VjcmV0"}}, Reason.PRIVATE_KEY_GIVEN, "/delivery/public_key"),
        ({"public_key": PHONE}, Reason.INVALID_KEY, "/delivery/public_key"),
        ({"holder_keys": [PHONE, WINDOW]}, Reason.INVALID_KEY, "/delivery/holder_keys/1"),
        ({"holder_keys": [PHONE, PHONE]}, Reason.INVALID_KEY, "/delivery/holder_keys/1"),
        ({"holder_keys": [{**PHONE, "x": PHONE["y"], "y": PHONE["x"]}]}, Reason.INVALID_KEY, "/delivery/holder_keys/0"),
        ({"holder_keys": [{**PHONE, "x": 5}]}, Reason.INVALID_KEY, "/delivery/holder_keys/0"),
        ({"holder_keys": [{**PHONE, "use": "enc"}]}, Reason.INVALID_KEY, "/delivery/holder_keys/0"),
        ({"holder_keys": [{**PHONE, "x5c": ["…"]}]}, Reason.UNKNOWN_FIELD, "/delivery/holder_keys/0"),
        ({"public_key": {**WINDOW, "x": "A" * 129}}, Reason.TOO_LONG, "/delivery/public_key"),
        ({"public_key": {**WINDOW, "x": "A" * 42}}, Reason.INVALID_KEY, "/delivery/public_key"),
        ({"public_key": {**WINDOW, "x": b64u(bytes(32))}}, Reason.INVALID_KEY, "/delivery/public_key"),
        ({"holder_keys": [PHONE] * 17}, Reason.TOO_LONG, "/delivery/holder_keys"),
        ({"holder_keys": PHONE}, Reason.WRONG_TYPE, "/delivery/holder_keys"),
        ({"public_key": "key"}, Reason.WRONG_TYPE, "/delivery/public_key"),
    ],
)  # fmt: skip
def test_what_is_no_public_key_is_refused_by_name_and_place(delivery, reason, pointer):
    with pytest.raises(Refusal) as refused:
        kept(delivery)
    assert (refused.value.reason, refused.value.pointer) == (reason, pointer)
    bounded = {Reason.OUT_OF_RANGE, Reason.TOO_LONG, Reason.UNKNOWN_FIELD, Reason.WRONG_TYPE}
    assert bool(refused.value.allowed) == (reason in bounded)


def test_evidence_of_no_kind_is_told_the_kinds():
    with pytest.raises(Refusal) as refused:
        read_evidence(b'{"evidence": [{"kind": "photo"}]}')
    assert (refused.value.reason, refused.value.pointer) == (Reason.OUT_OF_RANGE, "/evidence/0/kind")
    assert refused.value.allowed == ", ".join(EVIDENCE_KINDS)


def test_a_case_keeps_what_it_asks_without_marks_nobody_sees():
    """The desk compares it with the record and a note prints it: no font has a glyph for such a mark."""
    subject = {"name": "\u202a錢\u200b偉明\u202c ", "birth": "1963", "other_name": "\u2066 \u2069"}
    body = {
        **{name: value for name, value in QUESTION.items() if name != "deadline_ms"},
        "subject": subject,
        "event": {"from": "1985", "place": "屠甸\ufeff", "certificate_no": "\u200e"},
    }
    asked, question = read_case(json.dumps(body).encode(), "platform")
    stored = as_kept(asked, "ab" * 32)
    assert stored["subject"] == {"name": "錢偉明", "birth": "1963"}
    assert stored["event"] == {"from": "1985", "place": "屠甸"}
    assert (question.query.name, question.query.place) == ("錢偉明", "屠甸")
