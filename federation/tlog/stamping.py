"""RFC 3161 time stamps on checkpoints: digest and trusted time, by an authority outside the federation.

Failing is soft: exchanges go on while the authority is down, the age of the oldest unstamped entry is told, and only after
the policy's limit a document may no longer be issued.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography.x509 import Certificate
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from federation.http.posting import RedirectedError, post
from federation.tlog.checkpoint import Checkpoint
from federation.tlog.event import EventKind
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.log import EvidenceLog
from federation.tlog.reader import LogReader, Stamp

STAMPED = "rfc3161"
"""The `kind` of stamps that are answers of a time-stamp authority (TimeStampResp, DER)."""
LARGEST_ANSWER = 64 * 1024

Exchange = Callable[[bytes], bytes]
"""Carries a TimeStampReq to the authority and brings its TimeStampResp; raises OSError when there is no answer,
RedirectedError when it leads elsewhere."""


def over_http(url: str, within_s: float = 10.0) -> Exchange:
    """The HTTP transport of RFC 3161 (3.4) to one configured address; an exchange ends within `within_s`, however it is
    answered.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError("a time-stamp authority has an http or https address")

    def exchange(request: bytes) -> bytes:
        headers = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
        return post(url, request, headers, within_s=within_s, most=LARGEST_ANSWER)

    return exchange


@dataclass(frozen=True, slots=True)
class TimeAuthority:
    """A time-stamp authority: how to reach it, and which roots its certificate must lead to. `name` goes into events."""

    name: str
    exchange: Exchange
    roots: tuple[Certificate, ...]

    def stamp(self, data: bytes) -> bytes:
        """A verified TimeStampResp over `data`. Raises EvidenceError: `stamp_unavailable`, `stamp_redirected` or
        `stamp_invalid`.
        """
        request = (
            TimestampRequestBuilder()
            .data(data)
            .hash_algorithm(HashAlgorithm.SHA256)
            .nonce(nonce=True)
            .build()
        )
        try:
            answer = self.exchange(request.as_bytes())
        except RedirectedError as error:
            raise EvidenceError(Flaw.STAMP_REDIRECTED, self.name) from error
        except OSError as error:
            raise EvidenceError(Flaw.STAMP_UNAVAILABLE, self.name) from error
        verify_stamp(answer, data, self.roots, nonce=request.nonce)
        return answer


def verify_stamp(
    answer: bytes, data: bytes, roots: Sequence[Certificate], *, nonce: int | None = None
) -> datetime:
    """The trusted time of a TimeStampResp over `data`; EvidenceError `stamp_invalid` if it does not verify."""
    if len(answer) > LARGEST_ANSWER:
        raise EvidenceError(Flaw.TOO_LARGE, f"a stamp of {len(answer)}")
    try:
        response = decode_timestamp_response(answer)
        VerifierBuilder(roots=list(roots), nonce=nonce).build().verify_message(response, data)
    except (VerificationError, ValueError, TypeError, OverflowError) as error:
        raise EvidenceError(Flaw.STAMP_INVALID, type(error).__name__) from error
    return response.tst_info.gen_time


class Timeliness(StrEnum):
    """How the stamps of a log stand."""

    CURRENT = "current"
    LATE = "late"  # alarm; exchanges go on
    OVERDUE = "overdue"  # nothing may be issued


@dataclass(frozen=True, slots=True)
class StampPolicy:
    """When to stamp, when to alarm, when to stop; milliseconds.

    A stamp a minute is 1.6 MB a day. Four hours is the bound on how long a day's work may rest on one clock alone.
    """

    every_ms: int = 60_000
    late_after_ms: int = 300_000
    overdue_after_ms: int = 4 * 3_600_000


class Stamper:
    """Stamps the checkpoints of one log by one authority."""

    def __init__(self, log: EvidenceLog, authority: TimeAuthority, policy: StampPolicy | None = None) -> None:
        self._log, self._authority, self._policy = log, authority, policy or StampPolicy()

    def tick(self, now_ms: int) -> Stamp | None:
        """Stamp the newest checkpoint if entries wait for it and the last stamp is old enough; None if nothing was due.

        Raises EvidenceError when the authority fails: note it, go on, look at `timeliness`.
        """
        last = self._log.last_stamp(STAMPED)
        note = self._log.latest()
        if note is None or self._log.oldest_uncovered_ms(last.size if last else 0) is None:
            return None
        checkpoint = Checkpoint.parse(note.text)
        if last is not None and (
            checkpoint.size <= last.size or 0 <= now_ms - last.at_ms < self._policy.every_ms
        ):
            return None
        answer = self._authority.stamp(note.text.encode())
        stamp = Stamp(checkpoint.size, now_ms, self._authority.name, STAMPED, answer)
        self._log.add_stamp(stamp, stamp.event(EventKind.CHECKPOINT_STAMPED, "stamped"))
        return stamp

    def age_ms(self, now_ms: int) -> int:
        """How long the oldest entry without a stamp has waited; 0 when all are stamped."""
        last = self._log.last_stamp(STAMPED)
        oldest = self._log.oldest_uncovered_ms(last.size if last else 0)
        return 0 if oldest is None else max(0, now_ms - oldest)

    def timeliness(self, now_ms: int) -> Timeliness:
        """Whether stamps keep up."""
        age = self.age_ms(now_ms)
        if age >= self._policy.overdue_after_ms:
            return Timeliness.OVERDUE
        return Timeliness.LATE if age >= self._policy.late_after_ms else Timeliness.CURRENT

    def require(self, now_ms: int) -> None:
        """Raise EvidenceError `stamp_overdue` when nothing may be issued any more."""
        if self.timeliness(now_ms) is Timeliness.OVERDUE:
            raise EvidenceError(Flaw.STAMP_OVERDUE, f"{self.age_ms(now_ms) // 1_000} s")


def check_stamps(reader: LogReader, roots: Sequence[Certificate]) -> list[tuple[Stamp, Flaw]]:
    """The stamps of a log that do not verify, each with why; for an audit."""
    texts = {Checkpoint.parse(note.text).size: note.text for note in reader.checkpoints()}
    bad: list[tuple[Stamp, Flaw]] = []
    for stamp in reader.stamps(STAMPED):
        text = texts.get(stamp.size)
        if text is None:
            bad.append((stamp, Flaw.NO_CHECKPOINT))
            continue
        try:
            verify_stamp(stamp.receipt, text.encode(), roots)
        except EvidenceError as error:
            bad.append((stamp, error.flaw))
    return bad
