"""Who may ask: only a token this gateway signed for itself, of the right kind, in its time, and never an algorithm's trick."""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from federation.http.limits import RateLimit
from federation.reasons import Reason, Refusal
from gateway.__main__ import main
from gateway.edge import tokens as tokens_module
from gateway.edge.tokens import ALGORITHM, Clients, SigningKey, Tokens, _Key, is_usable
from tests.fakes.edge import AUDIENCE, CONTRACT, ISSUER, QUESTION, Gateway, public_jwk

ROOT = Path(__file__).resolve().parents[4]
VECTORS = Path(os.environ.get("LANTAI_SHARED", ROOT.parent / "shared")) / "vectors" / "wycheproof"


@pytest.fixture(scope="module")
def key():
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


def claims(**changes):
    now = int(time.time())
    plain = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "p", "client_id": "p", "scope": "search", "iat": now, "exp": now + 60,
        "jti": str(uuid.uuid4()),
    }  # fmt: skip
    return {name: value for name, value in {**plain, **changes}.items() if value is not None}


def signed(key, payload, *, algorithm="ES256", private=None, **header):
    headers = {"typ": "at+jwt", "kid": key.kid, **header}
    return jwt.encode(payload, private if private is not None else key.private, algorithm, headers=headers)


def refusal(key, token):
    with pytest.raises(Refusal) as refused:
        Tokens(key, ISSUER, AUDIENCE).verify(token)
    return refused.value.reason


def test_its_own_token_is_good(key):
    tokens = Tokens(key, ISSUER, AUDIENCE)
    caller = tokens.verify(tokens.mint("platform", "search archives"))
    assert (caller.client, caller.scopes) == ("platform", {"search", "archives"})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": int(time.time()) - 100}, Reason.TOKEN_EXPIRED),
        ({"iat": int(time.time()) + 900, "exp": int(time.time()) + 1000}, Reason.TOKEN_INVALID),
        ({"nbf": int(time.time()) + 900}, Reason.TOKEN_INVALID),
        ({"iss": "https://elsewhere"}, Reason.TOKEN_INVALID),
        ({"aud": "another"}, Reason.TOKEN_INVALID),
        ({"client_id": None}, Reason.TOKEN_INVALID),
        ({"scope": None}, Reason.TOKEN_INVALID),
        ({"jti": None}, Reason.TOKEN_INVALID),
        ({"exp": None}, Reason.TOKEN_INVALID),
        ({"exp": "tomorrow"}, Reason.TOKEN_INVALID),
        ({"exp": "99999999999"}, Reason.TOKEN_INVALID),
        ({"exp": float("nan")}, Reason.TOKEN_INVALID),
        ({"exp": float("inf")}, Reason.TOKEN_INVALID),
        ({"exp": 10**400}, Reason.TOKEN_INVALID),
        ({"exp": True}, Reason.TOKEN_INVALID),
        ({"iat": float("nan")}, Reason.TOKEN_INVALID),
        ({"nbf": float("nan")}, Reason.TOKEN_INVALID),
        ({"nbf": [1]}, Reason.TOKEN_INVALID),
        ({"sub": 5}, Reason.TOKEN_INVALID),
        ({"scope": ["search"]}, Reason.TOKEN_INVALID),
        ({"client_id": {"a": 1}}, Reason.TOKEN_INVALID),
        ({"aud": {AUDIENCE: 1}}, Reason.TOKEN_INVALID),
    ],
)
def test_wrong_claims_are_refused(key, changes, reason):
    assert refusal(key, signed(key, claims(**changes))) is reason


def test_wrong_headers_keys_and_algorithms_are_refused(key):
    other = ec.generate_private_key(ec.SECP256R1())
    rsa_key = rsa.generate_private_key(65537, 2048)
    public_pem = key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    bad = [
        signed(key, claims(), typ="JWT"),
        signed(key, claims(), kid="unknown"),
        signed(key, claims(), private=other),
        signed(key, claims(), private=rsa_key, algorithm="RS256"),
        signed(key, claims(), private=other, jwk=public_jwk(other)),  # a key inside the token is nobody's
        jwt.encode(claims(), None, "none", headers={"typ": "at+jwt", "kid": key.kid}),
        _hmac_with(public_pem, key.kid),
        "", ".", "..", "a.b.c", "x" * 5000, signed(key, claims())[:-4], signed(key, claims()) + "A", "钱.伟.明",
    ]  # fmt: skip
    for token in bad:
        assert refusal(key, token) is Reason.TOKEN_INVALID, token[:40]


def _hmac_with(secret, kid):
    """A token 'signed' with the public key as an HMAC secret: the classical confusion."""
    import hashlib
    import hmac

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    body = part({"alg": "HS256", "typ": "at+jwt", "kid": kid}) + b"." + part(claims())
    mac = hmac.new(secret, body, hashlib.sha256).digest()
    return (body + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def test_every_single_character_of_a_token_counts(key):
    token = signed(key, claims())
    tokens = Tokens(key, ISSUER, AUDIENCE)
    tokens.verify(token)
    for place in range(0, len(token) - 1, 7):
        altered = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(Refusal):
            tokens.verify(altered)


def test_a_remembered_token_still_expires(key):
    now = [time.time()]
    tokens = Tokens(key, ISSUER, AUDIENCE, clock=lambda: now[0])
    token = tokens.mint("p", lifetime_s=60)
    tokens.verify(token)
    now[0] += 120
    with pytest.raises(Refusal) as refused:
        tokens.verify(token)
    assert refused.value.reason is Reason.TOKEN_EXPIRED


@pytest.mark.skipif(not VECTORS.exists(), reason="published vectors (wycheproof) are not here")
def test_published_signature_vectors_for_our_algorithm():
    groups = json.loads((VECTORS / "json_web_signature_test.json").read_text())["testGroups"]
    tried = 0
    for group in groups:
        public = group.get("public", {})
        if public.get("kty") != "EC" or public.get("crv") != "P-256":
            continue
        if not is_usable(public):  # a key for another use: refused before any token is looked at
            assert all(test["result"] == "invalid" for test in group["tests"])
            continue
        verifying = jwt.PyJWK({name: public[name] for name in ("kty", "crv", "x", "y")}, "ES256").key
        for test in group["tests"]:
            if test["result"] == "acceptable":
                continue
            tried += 1
            try:
                jwt.PyJWS().decode(test["jws"], verifying, algorithms=["ES256"])
                good = True
            except jwt.PyJWTError:
                good = False
            except (TypeError, ValueError):
                good = False
            if test["result"] == "invalid":
                assert not good, test["tcId"]
    assert tried


# over HTTP -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("token", "reason"), [(None, "token_missing"), ("nonsense", "token_invalid")])
async def test_without_a_good_token_nothing_is_asked(token, reason):
    async with Gateway() as gateway:
        status, headers, problem = await gateway.ask(QUESTION, token=token)
        assert (status, problem["reason"]) == (401, reason)
        assert headers["WWW-Authenticate"].startswith("Bearer")
        assert gateway.holdings.asked == []


async def test_a_token_without_the_scope_is_not_enough():
    async with Gateway() as gateway:
        status, _headers, problem = await gateway.ask(QUESTION, token=gateway.tokens.mint("p", "other"))
        assert (status, problem["reason"]) == (403, "not_permitted")


def assertion(gateway, private=None, **changes):
    now = int(time.time())
    payload = {
        "iss": "platform", "sub": "platform", "aud": f"{ISSUER}/oauth2/token", "iat": now, "exp": now + 30,
        "jti": str(uuid.uuid4()), **changes,
    }  # fmt: skip
    return jwt.encode(payload, private or gateway.platform, "ES256")


async def exchange(gateway, signed_assertion, **changes):
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": signed_assertion,
        **changes,
    }
    async with gateway.client.post("/oauth2/token", data=form) as answer:
        CONTRACT.hold("POST", "/oauth2/token", answer.status, answer.headers, await answer.read())
        return answer.status, await answer.json(content_type=None)


async def test_a_platform_gets_a_token_for_its_key_once_an_assertion():
    async with Gateway() as gateway:
        proof = assertion(gateway)
        status, body = await exchange(gateway, proof)
        assert status == 200
        assert (await gateway.ask(QUESTION, token=body["access_token"]))[0] == 200
        status, problem = await exchange(gateway, proof)
        assert (status, problem["reason"]) == (401, "assertion_invalid")  # a replay


async def test_an_assertion_used_again_takes_nothing_of_the_platforms_rate():
    async with Gateway(per_minute=12) as gateway:  # a burst of two
        proof = assertion(gateway)
        assert (await exchange(gateway, proof))[0] == 200
        for _ in range(5):
            assert (await exchange(gateway, proof))[0] == 401
        assert (await exchange(gateway, assertion(gateway)))[0] == 200


async def test_a_platform_over_its_rate_is_refused_before_its_assertion_is_remembered():
    async with Gateway(per_minute=6) as gateway:  # a burst of one
        assert (await exchange(gateway, assertion(gateway)))[0] == 200
        proof = assertion(gateway)
        for _ in range(2):
            status, problem = await exchange(gateway, proof)
            assert (status, problem["reason"]) == (429, "rate_limited")
        gateway.edge._limit = RateLimit(6_000, time.monotonic)
        assert (await exchange(gateway, proof))[0] == 200, "nothing had used it"


async def test_a_platform_that_used_too_many_assertions_locks_out_itself_alone(monkeypatch):
    monkeypatch.setattr(tokens_module, "_MOST_ASSERTIONS", 3)
    now = [1e9]
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("eager", "other")}
    clients = Clients(
        {name: (_Key(ALGORITHM, key.public_key()), "search") for name, key in keys.items()},
        clock=lambda: now[0],
    )
    async with Gateway() as gateway:
        gateway.edge._clients = clients

        def proof(name):
            at = int(now[0])
            return assertion(gateway, keys[name], iss=name, sub=name, iat=at, exp=at + 60)

        for _ in range(3):
            assert (await exchange(gateway, proof("eager")))[0] == 200
        status, problem = await exchange(gateway, proof("eager"))
        assert (status, problem["reason"], problem["error"]) == (503, "overloaded", "temporarily_unavailable")
        assert (await exchange(gateway, proof("other")))[0] == 200
        now[0] += 121  # all of them have been forgotten
        assert (await exchange(gateway, proof("eager")))[0] == 200


async def test_a_wrong_assertion_gets_nothing():
    async with Gateway() as gateway:
        now = int(time.time())
        for proof in (
            assertion(gateway, ec.generate_private_key(ec.SECP256R1())),
            assertion(gateway, sub="nobody", iss="nobody"),
            assertion(gateway, aud="https://elsewhere/oauth2/token"),
            assertion(gateway, exp=now + 3600),
            assertion(gateway, exp=now - 60),
            assertion(gateway, iss="another"),
            "nonsense",
        ):
            status, problem = await exchange(gateway, proof)
            assert (status, problem["reason"], problem["error"]) == (
                401,
                "assertion_invalid",
                "invalid_client",
            )
            assert problem["errors"][0]["allowed"] == f"aud = {ISSUER}/oauth2/token"


@pytest.mark.parametrize(
    ("changes", "reason", "pointer", "error"),
    [
        ({"grant_type": "password"}, "out_of_range", "/grant_type", "unsupported_grant_type"),
        ({"grant_type": ""}, "missing_field", "/grant_type", "invalid_request"),
        ({"client_assertion_type": "x"}, "out_of_range", "/client_assertion_type", "invalid_request"),
        ({"client_assertion": ""}, "missing_field", "/client_assertion", "invalid_request"),
    ],
)
async def test_a_wrong_form_is_named_as_clients_of_oauth_look_for_it(changes, reason, pointer, error):
    async with Gateway() as gateway:
        status, problem = await exchange(gateway, assertion(gateway), **changes)
        assert (status, problem["reason"], problem["error"]) == (422, reason, error)
        assert [one["pointer"] for one in problem["errors"]] == [pointer]


async def test_a_parameter_that_stands_twice_is_refused():
    async with Gateway() as gateway:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        raw = b"grant_type=client_credentials&grant_type=password"
        status, _headers, problem = await gateway.ask(raw=raw, path="/oauth2/token", headers=form)
        assert (status, problem["reason"], problem["error"]) == (422, "repeated_field", "invalid_request")


def test_a_client_list_with_a_private_or_foreign_key_is_refused(tmp_path):
    path = tmp_path / "clients.toml"
    path.write_text('[[client]]\nid = "p"\njwk = {kty = "RSA", n = "x", e = "AQAB"}\n')
    with pytest.raises(ValueError, match="public P-256"):
        Clients.load(path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--client", ""], "--client must be"),
        (["--client", "张三"], "--client must be"),
        (["--client", "a b"], "--client must be"),
        (["--scope", ""], "--scope must be"),
        (["--scope", "serch"], "--scope must be"),
        (["--minutes", "0"], "--minutes must be"),
        (["--minutes", "721"], "--minutes must be"),
    ],
)
def test_a_token_that_would_open_nothing_is_not_minted(tmp_path, capsys, flags, said):
    config = tmp_path / "gateway.toml"
    config.write_text("port = 18080\n", "utf-8")
    assert main(["token", "--config", str(config), *flags]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err


def test_a_minted_token_permits_what_was_asked(tmp_path, capsys):
    config = tmp_path / "gateway.toml"
    config.write_text("port = 18080\n", "utf-8")
    assert main(["token", "--config", str(config), "--client", "clinic-7", "--scope", "search"]) == 0
    said = jwt.decode(capsys.readouterr().out.strip(), options={"verify_signature": False})
    assert (said["client_id"], said["scope"]) == ("clinic-7", "search")
