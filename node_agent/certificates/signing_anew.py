"""Signing anew what was signed once: QR texts and credentials of before the archive had keys of a second suite.

The same facts, number, digest, status index and holder's key, with both signatures and the date of today
(docs/decisions/0009-signed-anew-with-todays-date.md). What was handed out before stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from federation.credential import qr, sd_jwt
from federation.credential.certificate import TYPE, Certificate, Credential, issue, read
from federation.suites.base import PublicKey
from federation.trust import TrustList, Use
from federation.verify.report import VerificationReason, VerifyError
from federation.verify.status import StatusReference
from node_agent.certificates.credentials import FLATTENED, PAPER
from node_agent.certificates.keys import ArchiveKeys
from node_agent.certificates.registry import Deliverable, Registry
from node_agent.certificates.store import CertificateStore, DocumentState

QR, CREDENTIAL = "qr", "credential"
"""Kinds of what is signed anew; also the word of the evidence log."""

QR_MEDIA_TYPE = "text/plain"


class Outcome(StrEnum):
    """What became of one certificate."""

    SIGNED = "signed"  # now, or it would be
    SIGNED_BEFORE = "signed_before"  # by an earlier run
    TWICE = "twice"  # it had both signatures from the beginning
    NOT_STANDING = "not_standing"  # revoked, replaced or taken back
    EXPIRED = "expired"
    UNFINISHED = "unfinished"  # a number without a document: it is still being made


class NoSecondKeyError(Exception):
    """The archive has no key of a second suite to sign credentials with."""


@dataclass(frozen=True, slots=True)
class _Once:
    """What was signed once: the certificate, its status on paper, and each phone's key with the status of its credential."""

    certificate: Certificate
    paper: StatusReference
    phones: tuple[tuple[dict[str, str], StatusReference], ...] = ()


class SigningAnew:
    """Signs anew, one certificate after the other. Blocking; beside a running agent. NoSecondKeyError at once."""

    def __init__(
        self,
        archive: str,
        store: CertificateStore,
        registry: Registry,
        keys: ArchiveKeys,
        trust: TrustList | None,
        now: Callable[[], datetime],
    ) -> None:
        """`trust` knows the keys the archive signed with before, and whether today's are believed: VerifyError when not."""
        second = keys.second_of(Use.CREDENTIAL)
        if second is None:
            raise NoSecondKeyError
        self._archive, self._store, self._registry, self._trust, self._now = (
            archive,
            store,
            registry,
            trust,
            now,
        )
        self._key, self._second = keys.credential, second
        if trust is not None:
            for key_id in (self._key.id, second[1]):
                trust.key(archive, key_id, Use.CREDENTIAL, now())

    def numbers(self) -> list[str]:
        """All certificates of the archive that have a QR text or credential."""
        return self._registry.numbers("credential")

    def sign(self, number: str, *, is_trial: bool = False) -> Outcome:
        """Sign one certificate anew, unless there is no need; durable on return, whole or not at all. A trial keeps nothing.

        VerifyError: what was kept is not what this archive signed; Refusal: it can not be read or written.
        """
        entry = self._store.entry(number)
        if not entry.issued:
            return Outcome.UNFINISHED
        if entry.state != DocumentState.VALID:
            return Outcome.NOT_STANDING
        if self._registry.anew(number):
            return Outcome.SIGNED_BEFORE
        kept = self._registry.of_number(number, "credential")
        assert kept is not None, "numbers() names what is kept"
        once = self._signed_once(kept)
        if once is None:
            return Outcome.TWICE
        at = self._now()
        expires = once.certificate.expires_at
        if expires is not None and at >= expires:
            return Outcome.EXPIRED
        made = self._made(once, at)
        if not is_trial:
            self._registry.keep_anew(number, made, int(at.timestamp() * 1000))
        return Outcome.SIGNED

    # ---------------------------------------------------------------------------------------------------------------

    def _made(self, once: _Once, at: datetime) -> dict[str, tuple[str, bytes]]:
        certificate = replace(once.certificate, issued_at=at.replace(microsecond=0))
        text = qr.build(
            certificate, key=self._key.key, key_id=self._key.id, status=once.paper, second=self._second
        )
        made = {QR: (QR_MEDIA_TYPE, text.encode())}
        if once.phones:
            credentials = [
                issue(
                    certificate,
                    key=self._key.key,
                    key_id=self._key.id,
                    holder=holder,
                    status=status,
                    second=self._second,
                ).flattened()
                for holder, status in once.phones
            ]
            made[CREDENTIAL] = (FLATTENED, "\n".join(credentials).encode())
        return made

    def _signed_once(self, kept: Deliverable) -> _Once | None:
        """What a deliverable says; None when it bears two signatures. VerifyError unless this archive signed it."""
        text = self._registry.read(kept).decode("ascii", errors="replace")
        if kept.media_type == QR_MEDIA_TYPE:
            return self._qr_signed_once(kept.number, text)
        tokens = [sd_jwt.parse(line) for line in text.split("\n")]
        if all(token.second is not None for token in tokens):
            return None
        credentials = [self._credential(kept.number, token) for token in tokens]
        phones = []
        for one in credentials:
            if one.holder is None or one.status is None:
                raise VerifyError(VerificationReason.MISSING_CLAIM, "cnf, status")
            phones.append((dict(one.holder), one.status))
        uri = phones[0][1].uri
        paper = StatusReference(uri, self._registry.status_index(kept.number, PAPER))
        return _Once(credentials[0].certificate, paper, tuple(phones))

    def _qr_signed_once(self, number: str, text: str) -> _Once | None:
        code = qr.parse(text)
        if code.message.second is not None:
            return None
        code.message.verify(self._signer(code.message.key_id))
        credential = self._ours(number, qr.read(code))
        assert credential.status is not None, "no QR text can be read without"
        return _Once(credential.certificate, credential.status)

    def _credential(self, number: str, token: sd_jwt.SdJwt) -> Credential:
        signed = token.jws()
        signed.require_type(TYPE)
        signed.verify(self._signer(signed.key_id))
        payload = signed.claims(most=sd_jwt.MOST_CHARACTERS)
        return self._ours(number, read(payload, token.disclosures))

    def _ours(self, number: str, credential: Credential) -> Credential:
        told = credential.certificate
        if (told.issuer, told.number) != (self._archive, number):
            raise VerifyError(VerificationReason.WRONG_ISSUER)
        return credential

    def _signer(self, key_id: str) -> PublicKey:
        """A key this archive signs or has signed credentials with, also one that is out of use by now."""
        if key_id == self._key.id:
            return self._key.key.public
        party = None if self._trust is None else self._trust.parties.get(self._archive)
        key = None if party is None else party.keys.get(key_id)
        if key is None or key.use is not Use.CREDENTIAL:
            raise VerifyError(VerificationReason.UNKNOWN_KEY)
        return key.public


def newest(registry: Registry, number: str) -> list[Deliverable]:
    """What machines read of a document, as it was signed last: QR text, credentials, or both."""
    anew = list(registry.anew(number).values())
    first = registry.of_number(number, "credential")
    return anew or ([] if first is None else [first])


def is_time_missing(store: CertificateStore, number: str) -> bool:
    """Whether the PDF of a number bears no time stamp: signed once, it is "cannot tell" from the day on."""
    entry = store.entry(number)
    return not (entry.stamped or entry.upgraded)
