"""From a decision to a document: checked, numbered, logged, set, sealed, made durable, and only then handed on.

The same decision always gives the same number and the same bytes. Whatever can refuse is asked before a number is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import msgspec

from federation import short_code
from federation.documents import CHINA, PROOF_FILE, STATEMENT_FILE, content_digest
from federation.reasons import Reason, Refusal
from node_agent import telemetry
from node_agent.certificates import attachments, statements, wording
from node_agent.certificates.attachments import Attachment
from node_agent.certificates.scans import CopiedPage, Scan, ScanReader
from node_agent.certificates.sealing import Sealer, SealError, can_take_time
from node_agent.certificates.sealing import now as utc_now
from node_agent.certificates.statements import CertifiedCopy, Statement
from node_agent.certificates.store import CertificateStore, DocumentState, Entry
from node_agent.certificates.time_stamps import NoTimeStampError
from node_agent.certificates.typesetting import Typesetter

LONGEST_PENDING_S = 4 * 3600
"""How old the oldest document without a trusted time may be before no more are issued."""


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was decided: `id` names the decision for ever (case and question), `replaces` a document this one corrects.

    `scans` are the pages of a copy with what is hidden on them; `records` are records that are no pages. `expires_on`
    (YYYY-MM-DD) bounds reuse, "" = not said.
    """

    id: str
    statement: Statement
    purpose: str
    scans: tuple[Scan, ...] = ()
    records: tuple[Attachment, ...] = ()
    english: bool = False
    expires_on: str = ""
    replaces: str = ""

    def fingerprint(self) -> bytes:
        """SHA-256 of all that decides what the document says."""
        return hashlib.sha256(msgspec.msgpack.encode(self, order="deterministic")).digest()


class Issued(msgspec.Struct, frozen=True):
    """A document that is durable here. `stamped`: a trusted time is inside; else it is pending and comes later."""

    number: str
    kind: str
    sha256: str
    size: int
    stamped: bool
    issued_ms: int


class Credential(msgspec.Struct, frozen=True):
    """What machines get of a document: the text of its QR code, files to carry inside, and where its status stands."""

    qr_text: str
    files: tuple[Attachment, ...] = ()
    status_uri: str = ""
    status_index: int = 0


class Credentials(Protocol):
    """Makes credentials. Asked again for the same number after a crash: the status reference must be the same then, and all it
    gives must state the content it is given now, which may have been corrected.
    """

    def make(self, content: dict[str, Any], digest: bytes) -> Credential: ...


class EvidenceLog(Protocol):
    """The archive's evidence log. `commit` is durable on return and gives the proof for inside the document.

    Asked again with the same number and digest it gives a proof of the same entry; None = no proof can be had now.
    """

    def commit(self, number: str, digest: bytes) -> bytes | None: ...


class CannotIssueError(Exception):
    """Nothing can be issued now: `kind` is that of SealError, font or time_authority; the text says what to do."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Issuing:
    """Issues the documents of one archive. Blocking; any thread may call."""

    def __init__(
        self,
        *,
        archive: str,
        name: str,
        name_en: str = "",
        store: CertificateStore,
        typesetter: Typesetter,
        sealer: Sealer,
        scans: ScanReader,
        credentials: Credentials,
        log: EvidenceLog | None = None,
        short_code_of: Callable[[str], str] = lambda _number: "",
        verify_at: str = "",
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`short_code_of` gives the code printed on the document of a number, always the same one; "" = none. `verify_at`
        is the address of the page that finds a document by it.
        """
        self._archive, self._name, self._name_en, self._verify_at = archive, name, name_en, verify_at
        self._short_code_of = short_code_of
        self._store, self._typesetter, self._sealer, self._scans = store, typesetter, sealer, scans
        self._credentials, self._log, self._now = credentials, log, now

    def issue(self, decision: Decision) -> Issued:
        """The document of a decision, durable. Refusal: what is wrong with it. CannotIssueError: what is missing here."""
        statements.check(decision.statement, decision.purpose)
        known = self._store.of_decision(decision.id)
        asked = decision.fingerprint()
        if known is not None and known.issued:
            if known.asked != asked:
                raise Refusal(Reason.DECISION_CHANGED)
            return _issued(known)
        pages = self._checked(decision)
        at = self._now()
        kind = statements.kind_of(decision.statement)
        entry = self._store.reserve(decision.id, kind, asked, at.astimezone(CHINA).year, _ms(at))
        if not entry.issued:
            pdf, stamped = self._made(decision, pages, entry, at)
            entry = self._store.keep(
                entry.number, pdf, _ms(at), stamped=stamped, replaces=decision.replaces, asked=asked
            )
        return _issued(entry)

    def read(self, number: str, *, stamped: bool = False) -> bytes:
        """The bytes of a document (see CertificateStore.read)."""
        return self._store.read(number, stamped=stamped)

    def revoke(self, number: str, reason: str) -> None:
        """Take a document back. Refusal(UNKNOWN_DOCUMENT)."""
        self._store.revoke(number, reason, _ms(self._now()))

    def add_times(self) -> int:
        """See the function of this name."""
        return add_times(self._store, self._sealer)

    # ---------------------------------------------------------------------------------------------------------------

    def _checked(self, decision: Decision) -> list[CopiedPage]:
        """Everything that can refuse, before a number is given; and the pages, copied and redacted."""
        try:
            self._sealer.check(self._now())
        except SealError as error:
            raise CannotIssueError(error.kind, str(error)) from error
        self._check_time()  # after what may be the cause of it
        attachments.check(decision.records, frozenset({STATEMENT_FILE, PROOF_FILE}))
        if decision.replaces and not self._store.entry(decision.replaces).issued:
            raise Refusal(Reason.UNKNOWN_DOCUMENT, "/replaces")
        is_copy = isinstance(decision.statement, CertifiedCopy)
        if is_copy and not decision.scans and not decision.records:
            raise Refusal(Reason.NO_PAGES)
        if decision.scans and not is_copy:
            raise Refusal(Reason.UNKNOWN_FIELD, "/scans")
        today = self._now().astimezone(CHINA).date().isoformat()
        self._typesetter.check(self._sheets(decision, "0", today, 1))
        return self._scans.pages(decision.scans)

    def _check_time(self) -> None:
        """CannotIssueError when a document has waited too long for its time. One that is revoked or replaced, or that no
        time can be put into, says nothing of the authority.
        """
        before = _ms(self._now()) - LONGEST_PENDING_S * 1000
        pending = self._store.pending() if self._sealer.has_authority else ()
        if any(one.issued_ms < before and self._is_waiting(one) for one in pending):
            raise CannotIssueError(
                "time_authority",
                "4 小时以上没有得到可用的时间戳，暂停出证；请检查 time_authority 设置与网络 · no usable time stamp could be had "
                "for more than 4 hours, so nothing is issued; check the setting time_authority and the network",
            )

    def _is_waiting(self, entry: Entry) -> bool:
        """Whether a pending document could get a time if there were one."""
        if entry.state != DocumentState.VALID:
            return False
        try:
            return can_take_time(self._store.read(entry.number))
        except Refusal:
            return False

    def _sheets(self, decision: Decision, number: str, issued_on: str, pages: int) -> list[dict[str, Any]]:
        head = wording.Letterhead(
            archive=self._name,
            archive_en=self._name_en,
            number=number,
            issued_on=issued_on,
            purpose=decision.purpose,
            expires_on=decision.expires_on,
        )
        files = [(one.name, one.sha256) for one in decision.records]
        return wording.sheets(decision.statement, head, pages, files, english=decision.english)

    def _made(
        self, decision: Decision, pages: list[CopiedPage], entry: Entry, at: datetime
    ) -> tuple[bytes, bool]:
        reserved = datetime.fromtimestamp(entry.reserved_ms / 1000, CHINA)
        issued_on = reserved.date().isoformat()
        code = self._short_code_of(entry.number)
        content = self._content(decision, pages, entry.number, issued_on)
        if code:
            content["short_code"] = code
        digest = content_digest(content)
        proof = self._log.commit(entry.number, digest) if self._log else None
        credential = self._credentials.make(content, digest)
        inside = [*decision.records, *credential.files]
        if proof is not None:
            inside.append(attachments.attach(PROOF_FILE, proof, relationship="data"))
        inside.append(_statement_file(content, credential, inside[len(decision.records) :]))
        made = self._typesetter.document(
            self._sheets(decision, entry.number, issued_on, len(pages)),
            pages,
            inside,
            number=entry.number,
            compared=wording.COMPARED[0],
            captions=wording.captions(decision.statement, len(pages)),
            notes=[wording.REDACTED if page.redacted else "" for page in pages],
            qr_text=credential.qr_text,
            qr_caption=wording.how_to_verify(self._verify_at),
            short_code=short_code.grouped(code),
            address=f"{self._verify_at}/{code}" if code and self._verify_at else "",
            at=at,
        )
        title = wording.TITLES[entry.kind]
        try:
            sealed = self._sealer.seal(made.pdf, made.seal, f"{title[0]} {title[1]}", at)
        except SealError as error:
            raise CannotIssueError(error.kind, str(error)) from error
        return sealed.pdf, sealed.stamped

    def _content(
        self, decision: Decision, pages: list[CopiedPage], number: str, issued_on: str
    ) -> dict[str, Any]:
        """What the document states, for machines; identity numbers as masked as on the page."""
        content: dict[str, Any] = {
            "number": number,
            "archive": self._archive,
            "archive_name": self._name,
            "issued_on": issued_on,
            "purpose": decision.purpose,
            "statement": statements.shown(decision.statement),
            "pages": [
                {"sha256": one.sha256, "width": one.width, "height": one.height, "redacted": one.redacted}
                for one in pages
            ],
            "records": [_described(one) for one in decision.records],
        }
        if decision.expires_on:
            content["expires_on"] = decision.expires_on
        if decision.replaces:
            content["replaces"] = decision.replaces
        return content


def add_times(store: CertificateStore, sealer: Sealer) -> int:
    """Give pending documents their trusted time; returns how many got it. Ends quietly when no authority answers.

    One that is damaged, missing or in any other way unfit is logged by its place among the pending, and the next is taken.
    """
    done = 0
    for place, entry in enumerate(store.pending() if sealer.has_authority else ()):
        try:
            pdf = sealer.add_time(store.read(entry.number))
            store.keep_stamped(entry.number, pdf)
        except NoTimeStampError:
            break
        except Exception as error:
            telemetry.log.error(
                "no time stamp", action="documents.time", records=place, kind=type(error).__name__
            )
            continue
        done += 1
    return done


def _statement_file(content: dict[str, Any], credential: Credential, files: list[Attachment]) -> Attachment:
    written: dict[str, Any] = {
        "version": 1,
        "content": content,
        "files": [_described(one) for one in files],
    }
    if credential.status_uri:
        written["status"] = {"uri": credential.status_uri, "index": credential.status_index}
    return attachments.attach(
        STATEMENT_FILE,
        msgspec.json.encode(written, order="sorted"),
        relationship="data",
        description="机器可读的证明内容 · what the document states, for machines",
    )


def _described(one: Attachment) -> dict[str, Any]:
    return {
        "name": one.name,
        "mime": one.mime,
        "size": len(one.content),
        "sha256": one.sha256,
        "relationship": one.relationship,
    }


def _issued(entry: Entry) -> Issued:
    return Issued(
        entry.number,
        entry.kind,
        entry.sha256,
        entry.size,
        bool(entry.stamped or entry.upgraded),
        entry.issued_ms,
    )


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
