"""The status lists at hand, each believed only as far as its issuer's key and its age allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from federation.credential.status_list import StatusList, StatusToken, parse
from federation.trust import TrustedKey, TrustList, Use
from federation.verify.judging import check_one_signature_is_enough, check_second_signature
from federation.verify.report import VerificationReason, VerifyError, rfc3339
from federation.verify.status import Standing, State, StatusReference

OLDEST = timedelta(hours=24)
"""A list older than this says nothing any more, whatever expiry its issuer wrote into it."""


@dataclass(frozen=True, slots=True)
class _Held:
    issuer: str
    token: StatusToken
    entries: StatusList
    is_signed_twice: bool


class StatusLists:
    """A StatusSource over signed tokens; of two lists of one address the newer counts."""

    def __init__(
        self, trust: TrustList, tokens: Iterable[str | bytes] = (), *, oldest: timedelta = OLDEST
    ) -> None:
        self._trust, self._oldest = trust, oldest
        self._held: dict[str, _Held] = {}
        for token in tokens:
            self.add(token)

    def add(self, token: str | bytes) -> None:
        """Check a token and keep it.

        Raises VerifyError: `wrong_issuer` or `unknown_key` if no archive has the key for status lists, `altered`,
        `malformed`, `too_large`, a reason of the key or of the second signature where the trust list asks for one, or
        `wrong_status_list` when another archive owns the address.
        """
        read = parse(token)
        key = self._key(read)
        issuer = key.issuer
        # as of its own time: what a list of before the second suite is worth by now is asked in `standing`
        is_signed_twice = check_second_signature(
            self._trust, key, read.second, read.signed, read.issued_at, read.issued_at
        )
        entries = read.entries()
        known = self._held.get(read.uri)
        if known is not None and known.issuer != issuer:
            raise VerifyError(VerificationReason.WRONG_STATUS_LIST)
        if known is None or known.token.issued_at < read.issued_at:
            self._held[read.uri] = _Held(issuer, read, entries, is_signed_twice)

    def standing(self, issuer: str, reference: StatusReference, at: datetime) -> Standing:
        """See StatusSource. A revocation is final: an old list that says revoked or replaced still counts.

        Also raises `issue_time_unproven` (open) for a list of before the second suite, once that is asked for.
        """
        held = self._held.get(reference.uri)
        if held is None:
            raise VerifyError(VerificationReason.STATUS_UNKNOWN, open=True)
        if held.issuer != issuer:
            raise VerifyError(VerificationReason.WRONG_STATUS_LIST)
        asked = self._trust.parties[issuer].second_suite
        if asked is not None and not held.is_signed_twice:
            check_one_signature_is_enough(asked, held.token.issued_at, at)
        try:
            state = held.token.state(held.entries[reference.index])
        except IndexError as error:
            raise VerifyError(VerificationReason.WRONG_STATUS_LIST, "index") from error
        token = held.token
        if state in {State.VALID, State.SUSPENDED} and at >= min(
            token.expires_at, token.issued_at + self._oldest
        ):
            raise VerifyError(VerificationReason.STATUS_TOO_OLD, rfc3339(token.issued_at), open=True)
        return Standing(state, token.issued_at, token.successors.get(reference.index))

    def signer(self, token: str | bytes) -> str:
        """The archive whose first signature a list bears. Raises VerifyError as `add`, but for the second signature."""
        return self._key(parse(token)).issuer

    def _key(self, read: StatusToken) -> TrustedKey:
        """The status key that signed; a list does not name its issuer, its key id does."""
        problem = VerifyError(VerificationReason.UNKNOWN_KEY)
        for key in self._trust.keys(Use.STATUS):
            if key.id != read.key_id:
                continue
            try:
                key.check(read.issued_at)
                read.message.verify(key.public)
            except VerifyError as error:
                problem = error
            else:
                return key
        raise problem
