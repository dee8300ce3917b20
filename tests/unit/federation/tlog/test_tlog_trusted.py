"""Which keys of which logs a witness believes, and when."""

from datetime import UTC, datetime, timedelta

from federation.tlog.note import Signer
from federation.tlog.trusted import logs_of_others
from tests.fakes.issuing import trust_of

AT = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)


def party(code: str, *keys: tuple[Signer, dict]) -> dict:
    entries = [
        {
            "id": f"log-{place}",
            "use": "log",
            "suite": "intl-1",
            "alg": "Ed25519",
            "vkey": str(signer.key),
            "not_before": "2026-01-01T00:00:00Z",
            "not_after": "2028-01-01T00:00:00Z",
            **change,
        }
        for place, (signer, change) in enumerate(keys)
    ]
    return {"code": code, "name": code, "keys": entries}


def test_a_witness_watches_the_logs_of_others_by_the_keys_that_may_sign_now():
    own, first, next_, stolen = (
        Signer.generate(f"lantai.lantai/{name}/log") for name in ("330400", "330483", "330483", "330421")
    )
    trust = trust_of(
        party("330400", (own, {})),
        party(
            "330483",
            (first, {"not_after": "2026-12-01T00:00:00Z"}),
            (next_, {"not_before": "2026-11-26T00:00:00Z"}),
        ),
        party("330421", (stolen, {"compromised_at": "2027-01-01T00:00:00Z"})),
    )
    logs = logs_of_others(trust, "330400")
    assert logs(AT) == {first.name: [first.key]}
    assert logs(AT + timedelta(days=2)) == {first.name: [first.key, next_.key]}
    assert logs(AT + timedelta(days=30)) == {first.name: [next_.key]}
