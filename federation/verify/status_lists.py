"""The status lists at hand, each believed only as far as its issuer's key and its age allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from federation.credential.status_list import StatusList, StatusToken, parse
from federation.trust import TrustedKey, TrustList, Use
from federation.verify.judging import CLOCK_SKEW, check_one_signature_is_enough, check_second_signature
from federation.verify.report import VerificationReason, VerifyError, rfc3339
from federation.verify.status import Standing, State, StatusReference

OLDEST = timedelta(hours=24)
"""A list older than this says nothing any more, whatever expiry its issuer wrote into it."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ForgottenError(VerifyError):
    """Of two lists the later one calls certificates valid that the earlier one called revoked or replaced, which is for ever: its
    archive was restored from a backup, and says what is not so.
    """

    def __init__(self, entries: int) -> None:
        super().__init__(VerificationReason.WRONG_STATUS_LIST, f"{entries} revoked before")


@dataclass(frozen=True, slots=True)
class _Held:
    token: StatusToken
    entries: StatusList
    is_signed_twice: bool

    def forgets(self, earlier: _Held) -> int:
        """How many ended certificates it says nothing of any more. By a list with fewer signatures none is judged."""
        if self.is_signed_twice and not earlier.is_signed_twice:
            return 0
        return self.entries.forgets(earlier.entries)


class StatusLists:
    """A StatusSource over signed tokens; of two lists of one issuer and address the newer counts, of two of the same second
    the one that came last: a revocation may be told in the second of the list before it. A list that forgot a revocation takes
    the place of none.

    Lists of different issuers have nothing to do with each other, whatever address they name.
    """

    def __init__(
        self,
        trust: TrustList,
        tokens: Iterable[str | bytes] = (),
        *,
        oldest: timedelta = OLDEST,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        """`clock` (UTC) says which lists are dated in the future."""
        self._trust, self._oldest, self._clock = trust, oldest, clock
        self._held: dict[tuple[str, str], _Held] = {}
        for token in tokens:
            self.add(token)

    def add(self, token: str | bytes, *, issuer: str = "") -> bool:
        """Check a token and keep it; False when it is older than the one at hand, which stays. `issuer` is the archive it must
        be of, "" = any.

        Raises ForgottenError when it or the one at hand, whichever is newer, forgot a revocation: then the older one is kept.
        Raises VerifyError: `wrong_issuer` or `unknown_key` if no archive has the key for status lists, `altered`,
        `malformed`, `too_large`, a reason of the key or of the second signature where the trust list asks for one,
        `wrong_status_list` if it is another archive's, or `not_yet_valid` if it is dated later than CLOCK_SKEW from now:
        it would put off every honest list until then.
        """
        read = parse(token)
        key = self._key(read, issuer)
        self._check_date(read)
        # as of its own time: what a list of before the second suite is worth by now is asked in `standing`
        is_signed_twice = check_second_signature(
            self._trust, key, read.second, read.signed, read.issued_at, read.issued_at
        )
        came, known = _Held(read, read.entries(), is_signed_twice), self._held.get((key.issuer, read.uri))
        if known is None:
            self._held[key.issuer, read.uri] = came
            return True
        is_newer = read.issued_at >= known.token.issued_at
        earlier, later = (known, came) if is_newer else (came, known)
        forgotten = later.forgets(earlier)
        self._held[key.issuer, read.uri] = earlier if forgotten else later
        if forgotten:
            raise ForgottenError(forgotten)
        return is_newer

    def standing(self, issuer: str, reference: StatusReference, at: datetime) -> Standing:
        """See StatusSource. A revocation is final: an old list that says revoked or replaced still counts.

        Also raises `issue_time_unproven` (open) for a list of before the second suite, once that is asked for.
        """
        held = self._held.get((issuer, reference.uri))
        if held is None:
            raise VerifyError(VerificationReason.STATUS_UNKNOWN, open=True)
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

    def check_signer(self, token: str | bytes, issuer: str) -> datetime:
        """When a list was signed. Raises VerifyError as `add` does unless its first signature is of `issuer` and its date has
        come; the second is not asked for, and nothing is kept.
        """
        read = parse(token)
        self._key(read, issuer)
        self._check_date(read)
        return read.issued_at

    def _check_date(self, read: StatusToken) -> None:
        if read.issued_at > self._clock() + CLOCK_SKEW:
            raise VerifyError(VerificationReason.NOT_YET_VALID, rfc3339(read.issued_at))

    def _key(self, read: StatusToken, issuer: str) -> TrustedKey:
        """The status key that signed; a list does not name its issuer, its key id does."""
        problem = VerifyError(VerificationReason.UNKNOWN_KEY)
        signers: list[TrustedKey] = []
        for key in self._trust.keys(Use.STATUS):
            if key.id != read.key_id:
                continue
            try:
                key.check(read.issued_at)
                read.message.verify(key.public)
            except VerifyError as error:
                problem = error
            else:
                signers.append(key)
        if not signers:
            raise problem
        for key in signers:
            if issuer in {"", key.issuer}:
                return key
        raise VerifyError(VerificationReason.WRONG_STATUS_LIST)
