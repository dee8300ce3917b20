"""The formats against what their standards print, and against readers that are not ours."""

import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.credential import base45, cbor, cose, jws, sd_jwt
from federation.credential.certificate import sd_hash
from federation.credential.status_list import StatusList
from federation.suites.encoding import b64u, unb64u
from federation.suites.registry import suite
from federation.verify.report import VerifyError

VECTORS = json.loads(Path("tests/vectors/credentials.json").read_text())
WYCHEPROOF = Path("../shared/vectors/wycheproof")
INTL = suite("intl-1")


def reason(call: Any) -> str:
    with pytest.raises(VerifyError) as caught:
        call()
    return caught.value.reason.value


# --- SD-JWT ---


@pytest.mark.parametrize("example", VECTORS["sd_jwt"]["examples"], ids=lambda one: one["name"])
def test_sd_jwt_examples_of_rfc_9901_verify(example: dict[str, Any]) -> None:
    issuer = INTL.public_key(VECTORS["sd_jwt"]["issuer"], "ES256")
    shown = sd_jwt.parse(example["text"])
    token = shown.jws()
    token.verify(issuer)
    claims = sd_jwt.reveal(token.claims(most=sd_jwt.MOST_CHARACTERS), shown.disclosures)
    holder = claims.pop("cnf", {}).get("jwk")
    assert claims == example["claims"]
    if not example["text"].startswith("{"):
        assert shown.compact() == example["text"]
    if "nonce" in example:
        binding = jws.parse(shown.key_binding, most=8_192)
        binding.require_type("kb+jwt")
        binding.verify(INTL.public_key(holder, "ES256"))
        said = binding.claims(most=8_192)
        assert (said["aud"], said["nonce"], said["sd_hash"]) == (
            example["aud"],
            example["nonce"],
            sd_hash(shown),
        )


def test_jws_of_rfc_8037_verifies_under_its_old_name_for_the_algorithm() -> None:
    token = jws.parse(VECTORS["rfc8037_jws"], most=4_096)
    token.verify(INTL.public_key(VECTORS["thumbprint"]["jwk"], "Ed25519"))
    assert token.payload == b"Example of Ed25519 signing"


def wycheproof(kind: str) -> list[dict[str, Any]]:
    path = WYCHEPROOF / f"json_web_{kind}_test.json"
    if not path.exists():
        pytest.skip("the published vectors are not beside this checkout: ../shared/vectors/wycheproof")
    return json.loads(path.read_text())["testGroups"]


def accepts(token: Any, jwk: dict[str, Any], alg: str) -> bool:
    try:
        jws.parse(token, most=1 << 16).verify(INTL.public_key(jwk, alg))
    except VerifyError:
        return False
    return True


@pytest.mark.parametrize("kind", ["signature", "crypto"])
def test_wycheproof_tokens_of_our_algorithm(kind: str) -> None:
    """Every ES256 token is judged as Wycheproof judges it, and no other token passes with a key of ours."""
    ours = judged = 0
    stranger = INTL.jwk(INTL.generate("ES256").public)
    for group in wycheproof(kind):
        jwk = group.get("public", group.get("private"))
        is_ours = (jwk.get("kty"), jwk.get("crv")) == ("EC", "P-256") and not group["comment"].startswith(
            "jwe"
        )
        for test in group["tests"]:
            token = test["jws"] if "jws" in test else test.get("jwe", "")
            if not isinstance(token, str):
                token = json.dumps(token)
            accepted = accepts(token, jwk if is_ours else stranger, "ES256")
            if is_ours:
                assert accepted == (test["result"] == "valid"), (
                    group["comment"],
                    test["tcId"],
                    test["comment"],
                )
                ours += 1
            else:
                assert not accepted
                assert not accepts(token, jwk, "ES256")
            judged += 1
    assert judged > 50
    assert ours or kind != "signature"


def test_wycheproof_keys_that_are_not_ours_are_refused() -> None:
    for group in wycheproof("key"):
        for jwk in group["private"].get("keys", [group["private"]]) if "private" in group else []:
            if (jwk.get("kty"), jwk.get("crv")) != ("EC", "P-256"):
                assert reason(lambda jwk=jwk: INTL.public_key(jwk, "ES256")) == "wrong_suite"


def test_joserfc_reads_what_we_sign_and_we_read_what_it_signs() -> None:
    from joserfc import jws as theirs
    from joserfc.jwk import ECKey

    key = INTL.generate("ES256")
    registry = theirs.JWSRegistry(algorithms=["ES256"])
    token = jws.sign({"typ": "x+jwt", "kid": "1"}, b"{}", key)
    read = theirs.deserialize_compact(token, ECKey.import_key(INTL.jwk(key.public)), registry=registry)
    assert read.payload == b"{}"
    made = theirs.serialize_compact(
        {"alg": "ES256"}, b"{}", ECKey.import_key(INTL.dump(key)), registry=registry
    )
    jws.parse(made, most=4_096).verify(key.public)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c.d",
        "..",
        "e30.e30.",
        b64u(b'{"alg":"none"}') + ".e30.",
        b64u(b'{"alg":"HS256"}') + ".e30.AAAA",
        b64u(b'{"alg":"ES256","alg":"none"}') + ".e30.AAAA",
        b64u(b'{"alg":"ES256","crit":["exp"]}') + ".e30.AAAA",
        b64u(b'{"alg":"ES256","b64":false}') + ".e30.AAAA",
        b64u(b'["ES256"]') + ".e30.AAAA",
        b64u(b"[" * 2_000) + ".e30.AAAA",
        b64u(b'{"alg":"ES256","x":NaN}') + ".e30.AAAA",
        "x" * 5_000,
    ],
)
def test_tokens_of_another_mind_are_refused_by_name(token: str) -> None:
    def read() -> None:
        jws.parse(token, most=4_096).verify(INTL.generate("ES256").public)

    assert reason(read) in {"malformed", "too_large", "too_deep", "wrong_algorithm", "altered"}


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ('{"alg":"ES256","kid":"1"}', None),
        ('{"alg":"ES256","crit":["exp"],"exp":1}', "malformed"),
        ('{"alg":"ES256","b64":false}', "malformed"),
        ('{"alg":"ES256","kid":"1","kid":"2"}', "malformed"),
        ('{"alg":"ES256","x":Infinity}', "malformed"),
        ('{"alg":"EdDSA"}', "wrong_algorithm"),
        ('{"kid":"1"}', "wrong_algorithm"),
        ('{"alg":["ES256"]}', "wrong_algorithm"),
        ('{"alg":{}}', "wrong_algorithm"),
    ],
)
def test_a_header_is_refused_for_itself_even_under_a_good_signature(header: str, named: str | None) -> None:
    key = INTL.generate("ES256")
    signing_input = f"{b64u(header.encode())}.{b64u(b'{}')}"
    token = f"{signing_input}.{b64u(INTL.sign(key, signing_input.encode()))}"
    if named is None:
        jws.parse(token, most=4_096).verify(key.public)
    else:
        assert reason(lambda: jws.parse(token, most=4_096).verify(key.public)) == named


def test_a_key_inside_a_header_is_never_used() -> None:
    """The attacker signs with a key of its own and carries it in `jwk`: only the key asked for counts."""
    attacker, archive = INTL.generate("ES256"), INTL.generate("ES256")
    token = jws.sign(
        {"kid": "1", "jwk": INTL.jwk(attacker.public), "jku": "https://evil.example"}, b"{}", attacker
    )
    assert reason(lambda: jws.parse(token, most=4_096).verify(archive.public)) == "altered"


# --- COSE and CBOR ---


def test_signed_cwt_of_rfc_8392_verifies() -> None:
    vector = VECTORS["cwt"]
    x, y = (b64u(bytes.fromhex(vector["key"][f"{name}_hex"])) for name in "xy")
    key = INTL.public_key({"kty": "EC", "crv": "P-256", "x": x, "y": y}, "ES256")
    message = cose.parse(bytes.fromhex(vector["signed"]), most=1_000)
    message.verify(key)
    claims = cbor.loads(message.payload, most=1_000)
    expected = {int(name): value for name, value in vector["claims"].items()} | {7: bytes.fromhex("0b71")}
    assert claims == expected
    assert message.key_id == "AsymmetricECDSA256"
    assert reason(lambda: message.verify(key, b"other context")) == "altered"
    assert reason(lambda: message.verify(INTL.generate("Ed25519").public)) == "wrong_algorithm"


@pytest.mark.parametrize("alg", [[-7], {}, -7.0, True, b"ES256", None])
def test_an_algorithm_of_another_type_is_refused_by_name(alg: Any) -> None:
    key = INTL.generate("ES256")
    protected = cbor.dumps({cose.ALG: alg, cose.KID: b"1"})
    message = cose.Sign1(protected, {cose.ALG: alg}, b"", b"", "1")
    assert reason(lambda: message.verify(key.public)) == "wrong_algorithm"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=30) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(-100_000, 100_000) | st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)  # fmt: skip


@given(PLAIN)
def test_cbor_reads_back_what_cbor2_writes_canonically(value: Any) -> None:
    assert cbor.loads(cbor2.dumps(value, canonical=True), most=100_000) == value


@given(st.binary(max_size=64))
def test_cbor_never_breaks_and_agrees_with_cbor2_where_it_reads(data: bytes) -> None:
    try:
        value = cbor.loads(data, most=64)
    except VerifyError:
        return
    assert cbor2.loads(data) == value
    assert cbor2.dumps(value, canonical=True) == data


@pytest.mark.parametrize(
    ("hexadecimal", "named"),
    [
        ("1800", "not_canonical"),  # 0 in two bytes
        ("a2026161016162", "not_canonical"),  # keys out of order
        ("a201000100", "malformed"),  # a key twice
        ("9f01ff", "malformed"),  # indefinite length
        ("fb3ff0000000000000", "malformed"),  # a float
        ("c11a514b67b0", "wrong_type"),  # a tag
        ("82c11a514b67b000", "malformed"),  # a tag inside
        ("9bffffffffffffffff", "malformed"),  # an array of 2^64 items in nine bytes
        ("5bffffffffffffffff", "malformed"),
        ("bbffffffffffffffff", "malformed"),
        ("61ff", "malformed"),  # no UTF-8
        ("a1f500", "malformed"),  # a key that is neither number nor text
        ("0000", "malformed"),  # two items
        ("", "malformed"),
        ("81" * 40 + "00", "too_deep"),
        ("f7", "malformed"),  # undefined
    ],
)
def test_cbor_that_is_not_the_one_form_is_refused(hexadecimal: str, named: str) -> None:
    assert reason(lambda: cbor.loads(bytes.fromhex(hexadecimal), most=100)) == named


# --- base45, status list ---


def test_base45_examples_of_rfc_9285() -> None:
    for plain, encoded in VECTORS["base45"]["examples"]:
        assert base45.encode(plain.encode()) == encoded
        assert base45.decode(encoded) == plain.encode()
    for text in VECTORS["base45"]["invalid"]:
        assert reason(lambda text=text: base45.decode(text)) == "malformed"


@given(st.binary(max_size=200))
def test_base45_round_trip(data: bytes) -> None:
    assert base45.decode(base45.encode(data)) == data


@pytest.mark.parametrize(
    "vector", VECTORS["status_list"], ids=lambda one: f"{one['bits']} bits, {one['size']}"
)
def test_status_lists_of_the_draft_decode(vector: dict[str, Any]) -> None:
    entries = StatusList.inflate(unb64u(vector["lst"]), vector["bits"])
    assert len(entries) == vector["size"]
    expected = {int(index): value for index, value in vector["entries"].items()}
    assert {index: entries[index] for index in range(len(entries)) if entries[index]} == expected
    again = StatusList(vector["size"], vector["bits"])
    for index, value in expected.items():
        again[index] = value
    assert StatusList.inflate(again.compressed(), vector["bits"])._data == entries._data
