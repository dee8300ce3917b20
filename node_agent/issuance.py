"""Issuing what the desk decided: the order becomes a statement over the archive's own record, the statement a document.

Fits `node_agent.desk.issuing.Issuer`. The record is read from the archive's index, never taken from the request; scans leave
only with the pages a reviewer chose. What is delivered is kept under its digest, sealed to the applicant's key if one came.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from federation.dates import DateSpan
from federation.documents import CHINA
from federation.mail import Dispatch, Note, Paper, Wishes
from federation.outcome import CANNOT_HIDE
from federation.reasons import Reason, Refusal
from federation.sealing import Binding, Part, pack, recipient_key, recipient_name, seal
from federation.tlog.flaws import EvidenceError
from federation.trust import Use
from federation.verify.report import VerifyError
from node_agent.certificates import attachments
from node_agent.certificates.attachments import Attachment
from node_agent.certificates.credentials import PAPER, ArchiveCredentials
from node_agent.certificates.fonts import FontSet
from node_agent.certificates.issuing import CannotIssueError, Decision, Issuing, add_times
from node_agent.certificates.keys import SUITE, ArchiveKeys
from node_agent.certificates.registry import PDF, SEALED, Registry
from node_agent.certificates.scans import Rectangle, Scan, ScanReader
from node_agent.certificates.sealing import Sealer
from node_agent.certificates.statements import (
    CertifiedCopy,
    CitedRecord,
    Fact,
    NoRecordNote,
    Party,
    RecordedFacts,
    SearchedArchive,
    Statement,
    shown,
)
from node_agent.certificates.statements import check as check_statement
from node_agent.certificates.store import CertificateStore
from node_agent.certificates.typesetting import Typesetter
from node_agent.desk.issuing import Document, IssueDeferredError, Order
from node_agent.evidence.archive_log import ArchiveLog
from node_agent.record import Person, Record, Role

SCANS = "scans"
ISSUED_IN_VAIN, CASE_WITHDRAWN = "issued_in_vain", "case_withdrawn"
"""Why a document is taken back by the agent itself: the case ended before the gateway heard of it, or after."""

RECORDINGS = frozenset({".mp3", ".wav", ".m4a", ".mp4", ".webm", ".gltf", ".glb"})
"""Records that are no pages travel inside the document, with their digests."""

FindRecord = Callable[[Dispatch | None, str], Record | None]
"""(request, archival code) -> the record, None when the index has it no more."""

_ROLES: dict[Role, str] = {
    Role.SUBJECT: "当事人",
    Role.PARTY: "当事人",
    Role.PARENT: "父母",
    Role.CHILD: "子女",
    Role.MEMBER: "家庭成员",
}
"""What a document calls people; the English page has its word for each (`certificates/wording.py`)."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What documents are made with; shared by all orders."""

    archive: str
    name: str
    store: CertificateStore
    registry: Registry
    typesetter: Typesetter
    sealer: Sealer
    scans: ScanReader
    keys: ArchiveKeys
    log: ArchiveLog
    status_uri: str
    verify_at: str


class OrderCheck:
    """Says before an approval whether its document could be made. Fits `node_agent.desk.issuing.CanIssue`."""

    def __init__(self, folder: Path, find: FindRecord, scans: ScanReader, fonts: FontSet | None) -> None:
        """`fonts` None: whether they have every character is not asked."""
        self._folder, self._find, self._scans, self._fonts = folder, find, scans, fonts

    def __call__(self, request: Dispatch | None, code: str, pages: tuple[dict[str, Any], ...]) -> None:
        """Refusal with a pointer to what is at fault: the code, file, page or hidden part (OUT_OF_RANGE, FILE_UNREADABLE), what was
        chosen together (FILE_TOO_LARGE, INVALID_NAME), or what the record says (TOO_LONG, MALFORMED_TEXT, MISSING_GLYPH,
        PRIVATE_USE_CHARACTER).
        """
        record = self._find(request, code)
        if record is None:
            raise Refusal(Reason.OUT_OF_RANGE, "/archival_code")
        if request is not None:
            today = datetime.now(CHINA).date().isoformat()
            statement = _statement(record, today if pages else "")
            check_statement(statement, request.purpose)
            if self._fonts is not None:
                self._fonts.check_all(shown(statement), "")
        self._check_chosen(record, pages)

    def _check_chosen(self, record: Record, pages: tuple[dict[str, Any], ...]) -> None:
        recordings: list[tuple[str, int]] = []
        last: dict[Path, tuple[int, int]] = {}  # the highest page asked of a file, and where it is asked
        for place, one in enumerate(pages):
            path = scan_file(self._folder, record.archival_code, one)
            if not path.is_file():
                raise Refusal(Reason.OUT_OF_RANGE, f"/pages/{place}/file")
            if path.suffix.lower() in RECORDINGS:
                recordings.append((path.name, path.stat().st_size))
                continue
            page = int(one.get("page", 1))
            last[path] = max(last.get(path, (0, 0)), (page, place))
            for number, part in enumerate(one.get("hidden", ())):
                if not _rectangle(part, page).is_part:
                    raise Refusal(Reason.OUT_OF_RANGE, f"/pages/{place}/hidden/{number}")
        try:
            attachments.check_together(recordings)
        except Refusal as refusal:
            raise Refusal(refusal.reason, "/pages") from refusal
        for path, (page, place) in last.items():  # those before it are there when it is
            try:
                self._scans.pages([Scan(path=str(path), pages=(page,))])
            except Refusal as refusal:
                raise Refusal(refusal.reason, f"/pages/{place}") from refusal


class DocumentIssuer:
    """Issues the documents of one archive's desk. `can_issue` says before an approval whether there is something to issue."""

    def __init__(self, folder: Path, workshop: Workshop, find: FindRecord) -> None:
        self._folder, self._shop, self._find = folder, workshop, find
        self.can_issue = OrderCheck(folder, find, workshop.scans, workshop.typesetter.fonts)

    def issue(self, order: Order) -> Document:
        """The document of an order; the same order gives the same one. IssueDeferredError names what is missing."""
        shop = self._shop
        if order.request is None:  # only a deputy's word came yet: how the document is wanted is not known
            raise IssueDeferredError("request_not_here", 1.0)
        wishes = order.request.wishes
        name = _name_of(order)
        at = datetime.fromtimestamp(order.decided_ms / 1000, UTC)
        credentials = ArchiveCredentials(shop.keys, shop.registry, shop.status_uri, wishes.holder_keys, at)
        issuing = Issuing(
            archive=shop.archive,
            name=shop.name,
            store=shop.store,
            typesetter=shop.typesetter,
            sealer=shop.sealer,
            scans=shop.scans,
            credentials=credentials,
            log=_OrderLog(shop.log, order.case_id),
            short_code_of=shop.registry.short_code,
            verify_at=shop.verify_at,
        )
        try:
            known = shop.store.of_decision(name)
            if known is not None and known.issued:
                number, form = known.number, known.kind
            else:
                shop.log.stamps.require()
                issued = issuing.issue(self._decision(name, order, wishes, at))
                number, form = issued.number, issued.kind
            credential = shop.registry.of_number(number, "credential")
            document = self._deliverable(order, number, wishes)
        except CannotIssueError as error:
            raise IssueDeferredError(error.kind, text=str(error)) from error
        except Refusal as refusal:
            raise IssueDeferredError(refusal.reason.value) from refusal
        except EvidenceError as error:
            raise IssueDeferredError(error.flaw.value) from error
        except IndexError as error:
            raise IssueDeferredError("status_list_full") from error
        sealed = bool(wishes.delivery_key)
        reference = "" if credential is None or sealed else credential.reference
        return Document(number, document, form, reference, self._paper(number))

    def _paper(self, number: str) -> Paper | None:
        """How the document is found by its short code; None when none was printed."""
        shop = self._shop
        code = shop.registry.known_short_code(number)
        if not code:
            return None
        reserved = datetime.fromtimestamp(shop.store.entry(number).reserved_ms / 1000, CHINA)
        index = shop.registry.status_index(number, PAPER)
        return Paper(code, reserved.date().isoformat(), shop.status_uri, index)

    def take_back(self, order: Order, *, announced: bool) -> str:
        """See `node_agent.desk.issuing.Issuer`."""
        entry = self._shop.store.of_decision(_name_of(order))
        if entry is None or not entry.issued:
            return ""
        reason = CASE_WITHDRAWN if announced else ISSUED_IN_VAIN
        self._shop.store.revoke(entry.number, reason, int(datetime.now(UTC).timestamp() * 1000))
        return entry.number

    def add_times(self) -> int:
        """Give documents without a trusted time one; returns how many got it."""
        return add_times(self._shop.store, self._shop.sealer)

    # what is stated ----------------------------------------------------------------------------------------------

    def _decision(self, name: str, order: Order, wishes: Wishes, at: datetime) -> Decision:
        assert order.request is not None
        purpose = order.request.purpose
        statement: Statement
        scans: tuple[Scan, ...] = ()
        recordings: tuple[Attachment, ...] = ()
        if isinstance(order.request, Note):
            statement = _no_record(order.request)
        else:
            record = self._find(order.request, order.archival_code)
            if record is None:
                raise IssueDeferredError("record_not_found")
            scans, recordings = self._chosen(record.archival_code, order.pages)
            compared_on = at.astimezone(CHINA).date().isoformat()
            statement = _statement(record, compared_on if scans or recordings else "")
        return Decision(
            id=name,
            statement=statement,
            purpose=purpose,
            scans=scans,
            records=recordings,
            english=wishes.english,
        )

    def _chosen(
        self, code: str, chosen: tuple[dict[str, Any], ...]
    ) -> tuple[tuple[Scan, ...], tuple[Attachment, ...]]:
        """What a reviewer chose of the record's folder: pages to copy, and recordings or models to carry whole.

        Each is {"file": name, "page": n, "hidden": [[left, top, right, bottom], …]}; sound, video and models have no pages.
        """
        scans, recordings = [], []
        for one in chosen:
            path = scan_file(self._folder, code, one)
            if path.suffix.lower() in RECORDINGS:
                recordings.append(_recording(path))
                continue
            page = int(one.get("page", 1))
            hidden = tuple(_rectangle(part, page) for part in one.get("hidden", ()))
            scans.append(Scan(path=str(path), pages=(page,), hidden=hidden))
        return tuple(scans), tuple(recordings)

    # what is delivered -------------------------------------------------------------------------------------------

    def _deliverable(self, order: Order, number: str, wishes: Wishes) -> str:
        """Keep what is handed out, plain or sealed; its digest."""
        shop = self._shop
        if not wishes.delivery_key:
            kept = shop.registry.keep(number, "document", PDF, lambda: shop.store.read(number))
            return kept.reference

        def sealed() -> bytes:
            recipient = recipient_key(wishes.delivery_key, SUITE)
            binding = Binding(
                shop.archive, order.case_id, bytes.fromhex(wishes.request_digest), recipient_name(recipient)
            )
            parts = [Part("document.pdf", PDF, shop.store.read(number))]
            credential = shop.registry.of_number(number, "credential")
            if credential is not None:
                content = shop.registry.path(credential).read_bytes()
                parts.append(Part("credential", credential.media_type, content))
            signing = shop.keys.delivery
            at = datetime.fromtimestamp(order.decided_ms / 1000, UTC)
            second = shop.keys.second_of(Use.DELIVERY)
            package = pack(parts, binding, key=signing.key, key_id=signing.id, at=at, second=second)
            return seal(package, binding, recipient)

        try:
            return shop.registry.keep(number, "document", SEALED, sealed).reference
        except (VerifyError, ValueError) as error:
            raise IssueDeferredError("delivery_key") from error


def _name_of(order: Order) -> str:
    """The decision a document is made of, by which it is found again."""
    return f"{order.case_id}:{order.group}"


class _OrderLog:
    """The evidence log as `Issuing` needs it, for one order."""

    def __init__(self, log: ArchiveLog, case_id: str) -> None:
        self._log, self._case_id = log, case_id

    def commit(self, number: str, digest: bytes) -> bytes | None:
        return self._log.commit_document(self._case_id, number, "document", digest)


def _recording(path: Path) -> Attachment:
    """A file carried as it is. Refusal(FILE_UNREADABLE, FILE_TOO_LARGE)."""
    try:
        if path.stat().st_size > attachments.MOST_BYTES:
            raise Refusal(Reason.FILE_TOO_LARGE, "/pages")
        return attachments.attach(path.name, path.read_bytes(), relationship="source")
    except OSError as error:
        raise Refusal(Reason.FILE_UNREADABLE, "/pages") from error


# from the index to a statement -----------------------------------------------------------------------------------


def scan_folder(folder: Path, code: str) -> Path:
    """Where the scans of a record lie: a folder named by its archival code, separators that no path may have replaced."""
    return folder / SCANS / code.replace("/", "_").replace("\\", "_").lstrip(".")


def scan_file(folder: Path, code: str, chosen: dict[str, Any]) -> Path:
    """The file of one choice of a reviewer: never one outside the record's folder."""
    return scan_folder(folder, code) / Path(str(chosen["file"])).name


def _statement(record: Record, compared_on: str) -> CertifiedCopy | RecordedFacts:
    """What is stated of a record: a copy that was compared on a day, "" = nothing of it is copied, and its facts are told."""
    if compared_on:
        return CertifiedCopy(record=cite(record), compared_on=compared_on)
    return RecordedFacts(record=cite(record), facts=facts_of(record))


def cite(record: Record) -> CitedRecord:
    """The record as a document cites it; characters as the archive wrote them."""
    return CitedRecord(
        archival_code=record.raw_code,
        category=record.category,
        title=record.title,
        parties=tuple(_party(person) for person in record.persons),
        date=written(record.event) if record.event else "",
        certificate_no=record.certificate_no,
    )


def _party(person: Person) -> Party:
    return Party(role=_ROLES[person.role], name=person.name, id_number=person.id_number)


def written(span: DateSpan) -> str:
    """As precisely as the record says, and no more: a day, a month, a year, or `1939/1941` for years it may lie in."""
    first, last = f"{span.first:08d}", f"{span.last:08d}"
    if first == last:
        return f"{first[:4]}-{first[4:6]}-{first[6:]}"
    if first[:6] == last[:6]:
        return f"{first[:4]}-{first[4:6]}"
    return first[:4] if first[:4] == last[:4] else f"{first[:4]}/{last[:4]}"


def facts_of(record: Record) -> tuple[Fact, ...]:
    """What a certificate of recorded facts says beside the citation; never empty."""
    facts = []
    for person in record.persons:
        if person.birth is not None:
            facts.append(_birth(person.name, person.birth))
        facts += [
            Fact(zh=f"{person.name}曾用名", en=f"Former name of {person.name}", value=one)
            for one in person.aliases
        ]
    if record.place_text:
        facts.append(Fact(zh="登记地点", en="Place", value=record.place_text))
    if not facts:
        names = "、".join(person.name for person in record.persons if person.name)
        facts.append(Fact(zh="载有", en="It names", value=names or record.title or record.raw_code))
    return tuple(facts)


def _birth(name: str, birth: DateSpan) -> Fact:
    """A span of several years comes of an age, or of a date that was not known better: it is told as worked out."""
    if birth.first_year == birth.last_year:
        return Fact(zh=f"{name}出生", en=f"Birth of {name}", value=written(birth))
    return Fact(
        zh=f"{name}出生年（按所载推算）", en=f"Year of birth of {name} (worked out)", value=written(birth)
    )


def _no_record(note: Note) -> NoRecordNote:
    """The note over a complete search; `statements.check` refuses any other."""
    archives = tuple(
        SearchedArchive(
            name=f"{one.name}（{one.archive}）",
            outcome=one.outcome,
            holdings=one.holdings,
            index_date=one.index_date,
            reason=one.reason,
        )
        for one in note.archives
    )
    is_complete = all(one.outcome == "empty" or one.reason in CANNOT_HIDE for one in note.archives)
    return NoRecordNote(
        verdict="complete" if is_complete else "partial",
        category=note.category,
        subject=Party(role="查询对象", name=note.subject.name, id_number=note.subject.id_number),
        name_forms=note.name_forms,
        years=(note.years[0], note.years[-1]) if note.years else None,
        archives=archives,
        searched_on=note.searched_on,
    )


def _rectangle(sides: tuple[float, ...], page: int) -> Rectangle:
    left, top, right, bottom = (float(one) for one in sides)
    return Rectangle(left, top, right, bottom, page)
