import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from federation.suites.registry import suite
from federation.tlog.note import Signer
from federation.trust import MOST_BYTES, TrustList, Use
from federation.verify.report import VerifyError

JWK = suite("intl-1").jwk(suite("intl-1").generate("ES256").public)
START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2028, 1, 1, tzinfo=UTC)
THEFT = datetime(2027, 1, 1, tzinfo=UTC)
DURING = datetime(2026, 6, 1, tzinfo=UTC)


def key(**other: Any) -> dict[str, Any]:
    return {
        "id": "cred-1",
        "use": "credential",
        "suite": "intl-1",
        "alg": "ES256",
        "jwk": JWK,
        "not_before": "2026-01-01T08:00:00+08:00",
        "not_after": "2028-01-01T00:00:00Z",
        **other,
    }


def asking(second: Any) -> dict[str, Any]:
    """A list whose one archive has this as its second suite."""
    archive = {"code": "330483", "name": "桐乡市档案馆", "keys": [key()], "second_suite": second}
    return tree(archives=[archive])


def tree(*keys: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "federation": "lantai",
        "epoch": 3,
        "issued_at": "2026-01-01T00:00:00Z",
        "archives": [{"code": "330483", "name": "桐乡市档案馆", "keys": list(keys or (key(),))}],
        **other,
    }


def load(tree: dict[str, Any]) -> TrustList:
    return TrustList.load(json.dumps(tree).encode())


def reason(call: Any) -> str:
    with pytest.raises(VerifyError) as caught:
        call()
    return caught.value.reason.value


def test_a_key_is_found_for_its_use_and_time_only() -> None:
    trust = load(tree())
    found = trust.key("330483", "cred-1", Use.CREDENTIAL, DURING)
    assert (found.suite, found.alg, found.not_before) == ("intl-1", "ES256", START)
    assert trust.name("330483") == "桐乡市档案馆"
    for named, arguments in {
        "wrong_issuer": ("330400", "cred-1", Use.CREDENTIAL, DURING),
        "unknown_key": ("330483", "cred-2", Use.CREDENTIAL, DURING),
        "wrong_usage": ("330483", "cred-1", Use.STATUS, DURING),
        "key_not_yet_valid": ("330483", "cred-1", Use.CREDENTIAL, START - timedelta(seconds=1)),
        "key_expired": ("330483", "cred-1", Use.CREDENTIAL, END),
    }.items():
        assert reason(lambda arguments=arguments: trust.key(*arguments)) == named


def test_a_compromised_key_verifies_only_what_a_trusted_time_proves_older() -> None:
    trust = load(tree(key(compromised_at="2027-01-01T00:00:00Z")))

    def ask(proven_at: datetime | None) -> Any:
        return trust.key("330483", "cred-1", Use.CREDENTIAL, DURING, proven_at=proven_at)

    assert ask(THEFT - timedelta(seconds=1)).id == "cred-1"
    assert reason(lambda: ask(THEFT)) == "key_compromised"
    assert (
        reason(lambda: ask(None)) == "key_compromised"
    )  # the signer's own word for its time is worth nothing


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        (tree(colour="red"), "$.colour"),
        (tree(key(colour="red")), "keys[0].colour"),
        (tree(key(), key()), "keys[1].id"),
        (tree(key(use="everything")), "keys[0].use"),
        (tree(key(suite="sm-1")), "keys[0].alg"),
        (tree(key(suite="none", alg="none")), "keys[0].alg"),
        (tree(key(vkey="x+1+y")), "jwk, certificate or vkey"),
        (tree(key(jwk=None)), "jwk, certificate or vkey"),
        (tree(key(jwk={"kty": "EC", "d": "secret"})), "keys[0].jwk"),
        (tree(key(jwk=None, certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")), "keys[0]: key"),
        (tree(key(jwk=None, vkey="log+00000000+AQ==", alg="Ed25519")), "keys[0]: key"),
        (tree(key(jwk=JWK | {"use": "enc"})), "keys[0]: key"),
        (tree(key(alg="Ed25519")), "keys[0]: key"),
        (tree(key(not_before="2026-01-01T00:00:00")), "keys[0].not_before"),
        (tree(key(not_after="2025-01-01T00:00:00Z")), "keys[0].not_after"),
        (tree(version=2), "$.version"),
        (tree(epoch=True), "$.epoch"),
        (tree(gateways=[{"name": "330483", "keys": []}]), "330483 twice"),
        (tree(key(jwk=None, vkey=str(Signer.generate("log").key))), "keys[0]: key"),
        (asking("sm-1"), "$.archives[0].second_suite"),
        (asking({"suite": "sm-1"}), "second_suite.from"),
        (asking({"suite": "sm-1", "from": "2026-12-01"}), "second_suite.from"),
        (asking({"suite": "sm-9", "from": "2026-12-01T00:00:00Z"}), "second_suite.suite"),
        (asking({"suite": "sm-1", "from": "2026-12-01T00:00:00Z", "until": "never"}), "second_suite.until"),
    ],
)  # fmt: skip
def test_a_list_with_anything_odd_is_refused_by_place(broken: dict[str, Any], place: str) -> None:
    with pytest.raises(VerifyError) as caught:
        load(broken)
    assert caught.value.reason == "trust_list_invalid"
    assert place in caught.value.detail


def test_repeated_fields_and_bulk_are_refused() -> None:
    for data in (b'{"version":1,"version":1}', b"[" * 100_000, b" " * (MOST_BYTES + 1), b"\xff", b"[]"):
        assert reason(lambda data=data: TrustList.load(data)) == "trust_list_invalid"
