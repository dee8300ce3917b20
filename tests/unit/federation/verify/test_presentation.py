"""A credential from issue to its second counter, and everything that must not pass on the way."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from federation.credential import jws
from federation.credential.certificate import Reuse, present, sd_hash
from federation.credential.sd_jwt import Disclosure, SdJwt, parse
from federation.suites.base import PrivateKey
from federation.suites.encoding import b64u
from federation.suites.registry import suite
from federation.verify.challenge import Challenge, MemoryNonces
from federation.verify.presentation import CHECKS, check_presentation
from federation.verify.report import Report, Result, Verdict
from federation.verify.status import State
from tests.fakes.issuing import NOW, Archive, statuses, trust_of

INTL = suite("intl-1")
ARCHIVE, STRANGER = Archive(), Archive("330499", "外馆")
HOLDER, THIEF = INTL.generate("ES256"), INTL.generate("ES256")
TRUST = trust_of(ARCHIVE.entry())
STATUS = statuses(
    TRUST,
    ARCHIVE.status_token(
        {9: State.REVOKED, 10: State.REPLACED, 11: State.SUSPENDED}, successors={10: "330483-2026-000200"}
    ),
)
AGENCY = "https://civil-affairs.example"


def shown(
    credential: SdJwt | None = None,
    *,
    show: tuple[str, ...] = ("marital_status",),
    holder: PrivateKey = HOLDER,
    nonce: str = "n-1",
    audience: str = AGENCY,
    at: Any = NOW,
) -> str:
    made = present(
        credential or ARCHIVE.credential(HOLDER),
        show=show,
        holder_key=holder,
        audience=audience,
        nonce=nonce,
        at=at,
    )
    return made.compact()


def check(text: str, **other: Any) -> Report:
    asked = {
        "challenge": Challenge(AGENCY, "n-1", "divorce"),
        "trust": TRUST,
        "status": STATUS,
        "at": NOW,
    } | other
    return check_presentation(text, asked.pop("trust"), asked.pop("status"), asked.pop("at"), **asked)


def test_showing_married_names_nobody() -> None:
    text = shown()
    report = check(text)
    assert report.verdict is Verdict.VALID
    assert report.facts["facts"] == {"marital_status": "married"}
    assert (report.number, report.valid_as_of) == (None, NOW)
    everything = "".join(one.text for one in parse(text).disclosures) + json.dumps(
        parse(text).jws().claims(most=1 << 20), ensure_ascii=False
    )
    for secret in ("王芳", "錢偉明", "1234", "330483-2026-000123", "梧桐"):
        assert secret not in everything


def test_check_numbers_are_those_of_the_explanation() -> None:
    import federation.verify.presentation as module

    report = check(shown())
    assert [check.number for check in report.checks] == list(range(1, len(CHECKS) + 1))
    for check_ in report.checks:
        assert f"{check_.number}. {check_.name.replace('_', ' ')}:" in module.__doc__


def test_a_bare_credential_is_judged_as_a_document_but_not_at_a_counter() -> None:
    text = ARCHIVE.credential(HOLDER).compact()
    report = check(text, challenge=None)
    assert report.verdict is Verdict.VALID
    assert report.facts["holder"] == "not proved"
    assert report.number == "330483-2026-000123"
    assert check(text).reasons == ("no_holder_proof",)


def test_who_presents_is_proved_by_an_answered_challenge_alone() -> None:
    nonces = MemoryNonces()
    nonce = nonces.give(NOW)
    text = shown(nonce=nonce, show=("number",))
    asked = Challenge(AGENCY, nonce)
    assert check(text, challenge=asked, nonces=nonces).facts["holder"] == "proved"
    # whoever was shown it once can show it to others: to those who do not ask, who presents it is not proved
    again = check(text, challenge=None)
    assert (again.verdict, again.facts["holder"]) == (Verdict.VALID, "not proved")
    for other in (
        check(text, challenge=asked, nonces=nonces),
        check(text, challenge=Challenge("https://other.example", nonce)),
        check(shown(holder=THIEF)),
    ):
        assert (other.verdict, other.facts["holder"]) == (Verdict.INVALID, "not proved")


def test_half_a_character_is_no_text() -> None:
    """A surrogate alone can be written as a JSON escape, and by nobody who then tells of it."""
    token = jws.sign(
        {"typ": "dc+sd-jwt", "kid": "k"}, b'{"iss":"\\ud800","iat":1}', ARCHIVE.keys["credential-1"]
    )
    report = check(f"{token}~")
    assert report.reasons == ("malformed",)
    json.dumps(report.as_json(), ensure_ascii=False).encode()


def test_a_presentation_is_good_for_one_use() -> None:
    nonces = MemoryNonces()
    nonce = nonces.give(NOW)
    text = shown(nonce=nonce)
    challenge = Challenge(AGENCY, nonce)
    assert check(text, challenge=challenge, nonces=nonces).verdict is Verdict.VALID
    assert check(text, challenge=challenge, nonces=nonces).reasons == ("replayed",)
    late = nonces.give(NOW - timedelta(minutes=6))
    assert check(shown(nonce=late), challenge=Challenge(AGENCY, late), nonces=nonces).reasons == ("replayed",)


def test_of_a_hundred_at_once_one_is_accepted() -> None:
    nonces = MemoryNonces()
    nonce = nonces.give(NOW)
    text, challenge = shown(nonce=nonce), Challenge(AGENCY, nonce)
    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(lambda _: check(text, challenge=challenge, nonces=nonces), range(100)))
    assert sum(report.verdict is Verdict.VALID for report in reports) == 1


def test_a_presentation_that_fails_does_not_use_up_the_nonce() -> None:
    nonces = MemoryNonces()
    nonce = nonces.give(NOW)
    challenge = Challenge(AGENCY, nonce)
    assert check(
        shown(ARCHIVE.credential(HOLDER, index=9), nonce=nonce), challenge=challenge, nonces=nonces
    ).reasons == ("revoked",)
    assert check(shown(nonce=nonce), challenge=challenge, nonces=nonces).verdict is Verdict.VALID


def test_memory_of_nonces_is_bounded() -> None:
    nonces = MemoryNonces(most=10)
    first, *_, last = [nonces.give(NOW) for _ in range(11)]
    assert not nonces.take(first, NOW)
    assert nonces.take(last, NOW)


def without_binding(text: str) -> str:
    return text.rpartition("~")[0] + "~"


def swapped_disclosure(text: str) -> str:
    token, _, binding = text.split("~")
    return f"{token}~{Disclosure.make('marital_status', 'single').text}~{binding}"


def with_binding(text: str, key: PrivateKey = HOLDER, typ: str = "kb+jwt", **changes: Any) -> str:
    bare = parse(without_binding(text))
    body = {"iat": int(NOW.timestamp()), "aud": AGENCY, "nonce": "n-1", "sd_hash": sd_hash(bare)} | changes
    body = {name: value for name, value in body.items() if value is not None}
    return bare.compact() + jws.sign({"typ": typ}, jws.compact_json(body), key)


def reissued(
    key: PrivateKey = ARCHIVE.keys["credential-1"],
    key_id: str = "credential-1",
    typ: str = "dc+sd-jwt",
    **changes: Any,
) -> str:
    claims = ARCHIVE.credential(HOLDER).jws().claims(most=1 << 20) | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    token = jws.sign({"typ": typ, "kid": key_id}, jws.compact_json(claims), key)
    return with_binding(f"{token}~")


WRONG: dict[str, tuple[Any, str]] = {
    "another verifier's": (lambda: shown(audience="https://bank.example"), "wrong_audience"),
    "another nonce": (lambda: shown(nonce="n-2"), "replayed"),
    "no binding": (lambda: without_binding(shown()), "no_holder_proof"),
    "bound by a thief": (lambda: shown(holder=THIEF), "wrong_holder"),
    "binding of other disclosures": (lambda: with_binding(shown(), sd_hash=b64u(bytes(32))), "altered"),
    "binding of another type": (lambda: with_binding(shown(), typ="JWT"), "wrong_type"),
    "binding without hash": (lambda: with_binding(shown(), sd_hash=None), "altered"),
    "binding without time": (lambda: with_binding(shown(), iat=None), "missing_claim"),
    "binding of no number of time": (lambda: with_binding(shown(), iat="now"), "malformed"),
    "binding with an endless time": (lambda: with_binding(shown(), iat=1e300), "malformed"),
    "stale binding": (lambda: shown(at=NOW - timedelta(minutes=6)), "stale_proof"),
    "binding of tomorrow": (lambda: shown(at=NOW + timedelta(days=1)), "stale_proof"),
    "swapped disclosure": (lambda: swapped_disclosure(shown()), "altered"),
    "expired": (lambda: shown(ARCHIVE.credential(HOLDER, expires_at=NOW)), "expired"),
    "not yet valid": (lambda: shown(ARCHIVE.credential(HOLDER, issued_at=NOW + timedelta(hours=1))), "not_yet_valid"),
    "revoked": (lambda: shown(ARCHIVE.credential(HOLDER, index=9)), "revoked"),
    "replaced": (lambda: shown(ARCHIVE.credential(HOLDER, index=10)), "replaced"),
    "suspended": (lambda: shown(ARCHIVE.credential(HOLDER, index=11)), "suspended"),
    "index past the list": (lambda: shown(ARCHIVE.credential(HOLDER, index=10**9)), "wrong_status_list"),
    "another's purpose": (lambda: shown(ARCHIVE.credential(HOLDER, reuse=Reuse(("school",)))), "wrong_purpose"),
    "another's audience": (lambda: shown(ARCHIVE.credential(HOLDER, reuse=Reuse((), ("x",)))), "wrong_audience"),
    "unknown archive": (lambda: shown(STRANGER.credential(HOLDER)), "wrong_issuer"),
    "a key for status lists": (lambda: reissued(ARCHIVE.keys["status-1"], "status-1"), "wrong_usage"),
    "an unknown key": (lambda: reissued(key_id="credential-9"), "unknown_key"),
    "a stranger's key under the archive's id": (lambda: reissued(STRANGER.keys["credential-1"]), "altered"),
    "an Ed25519 key under an ES256 id": (lambda: reissued(INTL.generate("Ed25519")), "wrong_algorithm"),
    "another type of token": (lambda: reissued(typ="statuslist+jwt"), "wrong_type"),
    "no status": (lambda: reissued(status=None), "missing_claim"),
    "odd status": (lambda: reissued(status={"status_list": {"idx": -1, "uri": "x"}}), "malformed"),
    "no holder key": (lambda: reissued(cnf=None), "no_holder_proof"),
    "odd holder key": (lambda: reissued(cnf={"jwk": {"kty": "oct", "k": "AA"}}), "wrong_suite"),
    "no issue time": (lambda: reissued(iat=None), "missing_claim"),
    "no issuer": (lambda: reissued(iss=None), "missing_claim"),
    "unknown hash": (lambda: reissued(_sd_alg="md5"), "wrong_algorithm"),
    "repeated digest": (lambda: reissued(_sd=["AA", "AA"]), "malformed"),
    "signed long before the key": (lambda: reissued(iat=0), "key_not_yet_valid"),
    "a disclosure twice": (lambda: with_binding(shown().replace("~", "~" + shown().split("~")[1] + "~", 1)), "altered"),
    "nothing": (lambda: "~", "malformed"),
    "tildes": (lambda: "~" * 5_000, "malformed"),
    "too many disclosures": (lambda: shown().replace("~", "~" + "~".join(["WyJhIiwiYiIsMV0"] * 300) + "~", 1), "too_large"),
    "too long": (lambda: shown() + "A" * 300_000, "too_large"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_presentation_has_its_own_answer(name: str) -> None:
    make, reason = WRONG[name]
    report = check(make())
    assert report.verdict is Verdict.INVALID
    assert reason in report.reasons, report.as_json()
    assert report.exit_code == 1


def test_a_disclosure_shown_twice_is_refused() -> None:
    text = shown().replace("~", "~" + shown().split("~")[1] + "~", 1)
    credential = ARCHIVE.credential(HOLDER)
    doubled = SdJwt(credential.token, credential.disclosures[:1] * 2)
    assert check(doubled.compact(), challenge=None).reasons == ("malformed",)
    assert check(text).verdict is Verdict.INVALID


def test_a_fixed_claim_can_not_be_disclosed_over() -> None:
    credential = ARCHIVE.credential(HOLDER)
    claims = credential.jws().claims(most=1 << 20)
    forged = Disclosure.make("exp", 9_999_999_999)
    claims.pop("exp")
    claims["_sd"].append(forged.digest())
    token = jws.sign(
        {"typ": "dc+sd-jwt", "kid": "credential-1"}, jws.compact_json(claims), ARCHIVE.keys["credential-1"]
    )
    assert check(with_binding(f"{token}~{forged.text}~")).reasons == ("malformed",)


def test_a_replaced_certificate_points_to_its_successor() -> None:
    report = check(shown(ARCHIVE.credential(HOLDER, index=10)))
    assert report.successor == "330483-2026-000200"
    assert "330483-2026-000200" in next(one.text.en for one in report.checks if one.name == "standing")


def test_a_list_that_is_too_old_means_unknown_never_valid() -> None:
    report = check(shown(at=NOW + timedelta(hours=25)), at=NOW + timedelta(hours=25))
    assert (report.verdict, report.exit_code, report.reasons) == (Verdict.UNKNOWN, 2, ("status_too_old",))
    assert report.valid_as_of is None
    assert check(shown(), status=statuses(trust_of(ARCHIVE.entry()))).reasons == ("status_unknown",)
    late = NOW + timedelta(hours=25)
    assert check(shown(ARCHIVE.credential(HOLDER, index=9), at=late), at=late).reasons == (
        "revoked",
    )  # final


def test_failure_outweighs_not_knowing() -> None:
    report = check(shown(audience="https://bank.example"), status=statuses(trust_of(ARCHIVE.entry())))
    assert report.verdict is Verdict.INVALID


def test_a_batch_has_nothing_in_common_to_compare() -> None:
    keys = [INTL.generate("ES256") for _ in range(10)]
    batch = [ARCHIVE.credential(key, index=100 + number) for number, key in enumerate(keys)]
    seen: set[str] = set()
    for credential, key in zip(batch, keys, strict=True):
        text = present(
            credential, show=["marital_status"], holder_key=key, audience=AGENCY, nonce="n-1", at=NOW
        ).compact()
        assert check(text).verdict is Verdict.VALID
        claims = credential.jws().claims(most=1 << 20)
        unique = {
            *claims["_sd"],
            claims["cnf"]["jwk"]["x"],
            str(claims["status"]),
            *(one.text for one in credential.disclosures),
        }
        assert not unique & seen
        seen |= unique


def test_a_compromised_key_signs_nothing_that_is_believed() -> None:
    theft = trust_of(ARCHIVE.entry(credential_1={"compromised_at": "2026-11-25T08:00:00Z"}))
    assert check(shown(), trust=theft).reasons == ("key_compromised",)


def test_every_result_names_what_it_is() -> None:
    report = check(shown(ARCHIVE.credential(HOLDER, index=9)))
    tree = report.as_json()
    assert tree["verdict"] == "invalid"
    assert {check_["result"] for check_ in tree["checks"]} <= {result.value for result in Result}
    assert all(check_["text"]["zh"] and check_["text"]["en"] for check_ in tree["checks"])


# --- a second signature of the national suite ---

DUAL = Archive("330400", "嘉兴市档案馆", second_suite="sm-1")
DUAL_TRUST = trust_of(DUAL.entry())
DUAL_STATUS = statuses(DUAL_TRUST, DUAL.status_token())


def dual(text: str, **other: Any) -> Report:
    return check(text, trust=DUAL_TRUST, status=DUAL_STATUS, **other)


def test_where_the_roster_asks_for_it_a_credential_carries_both_signatures() -> None:
    credential = DUAL.credential(HOLDER)
    made = present(
        credential, show=["marital_status"], holder_key=HOLDER, audience=AGENCY, nonce="n-1", at=NOW
    )
    report = dual(made.flattened())
    assert report.verdict is Verdict.VALID
    assert next(one.result for one in report.checks if one.name == "second_signature") is Result.PASSED
    assert parse(made.flattened()).compact() == made.compact()
    # a verifier that only knows the first suite reads the same token
    assert (
        check(
            made.compact(),
            trust=trust_of({**DUAL.entry(), "second_suite": None} | {"keys": DUAL.entry()["keys"]}),
            status=DUAL_STATUS,
        ).verdict
        is Verdict.VALID
    )


def test_the_sender_can_not_drop_or_downgrade_the_second_signature() -> None:
    credential = DUAL.credential(HOLDER)
    made = present(
        credential, show=["marital_status"], holder_key=HOLDER, audience=AGENCY, nonce="n-1", at=NOW
    )
    assert dual(made.compact()).reasons == ("second_signature_missing",)
    tree = json.loads(made.flattened())
    tree["header"]["second_signature"]["kid"] = "credential-1"  # the first key twice
    assert dual(json.dumps(tree)).reasons == ("wrong_suite",)
    tree["header"]["second_signature"] = {"kid": "credential-sm", "signature": b64u(bytes(64))}
    assert dual(json.dumps(tree)).reasons == ("altered",)
    tree["header"]["second_signature"] = {"kid": "status-sm", "signature": b64u(bytes(64))}
    assert dual(json.dumps(tree)).reasons == ("wrong_usage",)
    # an SM2 key presented as the first signature's
    forged = jws.sign(
        {"typ": "dc+sd-jwt", "kid": "credential-1"}, credential.jws().payload, DUAL.keys["credential-sm"]
    )
    assert dual(with_binding(f"{forged}~")).reasons == ("wrong_algorithm",)


# --- readers that are not ours ---


def test_the_reference_library_reads_our_presentation() -> None:
    pytest.importorskip("sd_jwt")
    from jwcrypto.jwk import JWK
    from sd_jwt.verifier import SDJWTVerifier

    key = JWK.from_json(json.dumps(INTL.jwk(ARCHIVE.keys["credential-1"].public)))
    read = SDJWTVerifier(shown(), lambda _issuer, _header: key, AGENCY, "n-1").get_verified_payload()
    assert read["marital_status"] == "married"
    assert "name" not in read


def test_we_read_what_the_reference_library_issues() -> None:
    pytest.importorskip("sd_jwt")
    from jwcrypto.jwk import JWK
    from sd_jwt.common import SDObj
    from sd_jwt.holder import SDJWTHolder
    from sd_jwt.issuer import SDJWTIssuer

    archive = JWK.from_pem(INTL.dump(ARCHIVE.keys["credential-1"]))
    holder = JWK.from_pem(INTL.dump(HOLDER))
    claims = {
        "iss": "330483", "iat": int(NOW.timestamp()) - 60, "exp": int(NOW.timestamp()) + 60, "vct": "marriage",
        "status": {"status_list": {"idx": 7, "uri": ARCHIVE.status_uri}},
        SDObj("marital_status"): "married", SDObj("children"): [SDObj("甲"), "乙"],
    }  # fmt: skip
    issued = SDJWTIssuer(
        claims, archive, JWK.from_json(holder.export_public()), add_decoy_claims=True,
        extra_header_parameters={"typ": "dc+sd-jwt", "kid": "credential-1"},
    )  # fmt: skip
    wallet = SDJWTHolder(issued.sd_jwt_issuance)
    wallet.create_presentation({"children": [True]}, nonce="n-1", aud=AGENCY, holder_key=holder)
    report = check(wallet.sd_jwt_presentation, at=NOW, challenge=None)
    assert report.verdict is Verdict.VALID
    assert report.facts["facts"] == {"children": ["甲", "乙"]}


def test_openvc_agrees_on_right_and_wrong() -> None:
    pytest.importorskip("openvc")
    from datetime import UTC, datetime

    from openvc.proof.errors import ProofError
    from openvc.proof.sd_jwt import SdJwtVcProofSuite

    today = datetime.now(UTC)
    credential = ARCHIVE.credential(
        HOLDER, issued_at=today - timedelta(hours=1), expires_at=today + timedelta(hours=1)
    )
    text = shown(credential, at=today)
    key = INTL.jwk(ARCHIVE.keys["credential-1"].public)

    def ask(text: str, audience: str = AGENCY, nonce: str = "n-1") -> Any:
        return SdJwtVcProofSuite().verify(
            text, public_key_jwk=key, audience=audience, nonce=nonce, require_key_binding=True, expected_vct="marriage", now=today,
        )  # fmt: skip

    assert ask(text).key_bound
    for wrong in (lambda: ask(text, audience="x"), lambda: ask(text, nonce="x"), lambda: ask(without_binding(text)), lambda: ask(swapped_disclosure(text))):  # fmt: skip
        with pytest.raises(ProofError):
            wrong()
