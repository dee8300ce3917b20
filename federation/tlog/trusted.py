"""The keys of evidence logs as the trust list names them: the first suite's, and those of second signatures."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from federation.suites import INTL
from federation.tlog.note import Note, VerifierKey
from federation.tlog.witness import SecondKeys, witnessed
from federation.trust import TrustedKey, TrustList, Use
from federation.verify.report import VerificationReason, VerifyError


def log_keys(trust: TrustList, issuer: str | None = None) -> list[VerifierKey]:
    """The keys logs sign with, of one party or of all."""
    return [
        VerifierKey.parse(key.vkey) for key in trust.keys(Use.LOG, issuer) if key.vkey and key.suite == INTL
    ]


def keys_of_log(trust: TrustList, issuer: str, origin: str) -> list[VerifierKey]:
    """The party's keys of the log with this origin: one that was begun anew has another origin, and keys of its own."""
    return [key for key in log_keys(trust, issuer) if key.name == origin]


def logs_of_others(trust: TrustList, party: str) -> Callable[[datetime], dict[str, list[VerifierKey]]]:
    """What a party witnesses: at a time, the logs of all others by origin, with the keys that may sign then."""
    keys = [
        (key, VerifierKey.parse(key.vkey))
        for key in trust.keys(Use.LOG)
        if key.issuer != party and key.suite == INTL and key.vkey
    ]
    return lambda at: witnessed(note_key for key, note_key in keys if _is_believed(key, at))


def _is_believed(key: TrustedKey, at: datetime) -> bool:
    try:
        key.check(at)
    except VerifyError:
        return False
    return True


def check_signers(
    trust: TrustList,
    issuer: str,
    note: Note,
    checked: Collection[VerifierKey],
    at: datetime,
    *,
    proven_at: datetime | None = None,
) -> None:
    """VerifyError unless one of the party's log keys that signed the note may be believed of what it signed at `at` (see
    TrustedKey.check). `checked` are the keys whose lines in the note the caller has found to hold: anybody can write a line that
    names another one.
    """
    problem = VerifyError(VerificationReason.UNKNOWN_KEY)
    for key in trust.keys(Use.LOG, issuer):
        if not key.vkey:
            continue
        signer = VerifierKey.parse(key.vkey)
        if signer in checked and any(signer.is_of(line) for line in note.signatures):
            try:
                key.check(at, proven_at=proven_at)
            except VerifyError as error:
                problem = error
            else:
                return
    raise problem


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
