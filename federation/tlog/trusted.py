"""The keys of evidence logs as the trust list names them: the first suite's, and those of second signatures."""

from __future__ import annotations

from federation.suites import INTL
from federation.tlog.note import VerifierKey
from federation.tlog.witness import SecondKeys
from federation.trust import TrustList, Use


def log_keys(trust: TrustList, issuer: str | None = None) -> list[VerifierKey]:
    """The keys logs sign with, of one party or of all."""
    return [
        VerifierKey.parse(key.vkey) for key in trust.keys(Use.LOG, issuer) if key.vkey and key.suite == INTL
    ]


def second_log_keys(trust: TrustList, issuer: str) -> list[VerifierKey] | None:
    """The keys of which one must sign beside the log's own; None where the list asks the party for no second suite."""
    asked = trust.parties[issuer].second_suite
    if asked is None:
        return None
    keys = [key for key in trust.keys(Use.LOG, issuer) if key.suite == asked.suite]
    return [VerifierKey.parse(key.vkey) for key in keys if key.vkey]


def logs_signed_twice(trust: TrustList) -> dict[str, SecondKeys]:
    """The logs, by origin, whose checkpoints must bear a second signature: what a witness asks of them."""
    found: dict[str, SecondKeys] = {}
    for party in trust.parties.values():
        keys = second_log_keys(trust, party.id)
        if party.second_suite is not None and keys is not None:
            since = party.second_suite.since.timestamp()
            found |= {key.name: (keys, since) for key in log_keys(trust, party.id)}
    return found
