"""Case messages as events: the gateway and the archive write the same event of one message, each into its own log.

The digest is of what the message says (`federation.mail.digest`), or of the file it tells of, so that reconciling the two
logs by request compares what both sides really had.
"""

from __future__ import annotations

from federation import mail
from federation.tlog.event import Event, EventKind


def event_of(
    archive: str, mail_id: bytes, case_id: str, message: mail.ToDesk | mail.FromDesk, at_ms: int
) -> Event | None:
    """The event of a message between the gateway and `archive`; None when it only tells what the clock or a queue did."""
    told = _told(archive, message)
    if told is None:
        return None
    kind, fields = told
    return Event(kind, f"mail:{mail_id.hex()}", at_ms, case_id, fields)


def delivered(archive: str, case_id: str, number: str, reference: str, at_ms: int) -> Event:
    """The last byte of a document left towards whoever asked for it. Once, however often it is fetched."""
    fields = {"digest": reference, "archive": archive, "number": number}
    return Event(EventKind.DELIVERED, f"delivered:{reference}", at_ms, case_id, fields)


def signed_anew(archive: str, number: str, case_id: str, form: str, digest: str, at_ms: int) -> Event:
    """A QR text or credential (`form`) was signed anew at `at_ms`; `digest` is the SHA-256 (hex) of what was made. The archive logs
    each, the gateway those it gives from then on.
    """
    fields = {"digest": digest, "archive": archive, "number": number, "document": form}
    return Event(EventKind.SIGNED_ANEW, f"signed_anew:{digest}", at_ms, case_id, fields)


def standing(
    archive: str, number: str, case_id: str, state: str, reason: str, successor: str, digest: str, at_ms: int
) -> Event:
    """A document no longer stands: replaced by a successor, or revoked (for `reason`, a word)."""
    kind = EventKind.REPLACED if state == "replaced" and successor else EventKind.REVOKED
    fields = {"digest": digest, "archive": archive, "number": number, "reason": reason or "unspecified"}
    if kind is EventKind.REPLACED:
        fields["successor"] = successor
    return Event(kind, f"{kind.value}:{number}", at_ms, case_id, fields)


def _told(archive: str, message: mail.ToDesk | mail.FromDesk) -> tuple[EventKind, dict[str, str]] | None:
    fields = {"digest": mail.digest(message).hex(), "archive": archive}
    match message:
        case mail.Dispatch():
            return EventKind.DISPATCHED, _with(
                fields, on_behalf_of=message.on_behalf_of, purpose=message.purpose
            )
        case mail.Note() | mail.Issue():
            return EventKind.DISPATCHED, fields
        case mail.Evidence():
            return EventKind.EVIDENCE_GIVEN, fields
        case mail.EvidenceWanted():
            return EventKind.EVIDENCE_ASKED, fields
        case mail.Approved():
            return EventKind.DECIDED, _with(fields, outcome="approved", rule=message.rule)
        case mail.Refused():
            return EventKind.DECIDED, _with(fields, outcome="refused", reason=message.reason)
        case mail.Referred():
            return EventKind.DECIDED, _with(fields, outcome="referred")
        case mail.Issued() if message.document:
            issued = {**fields, "digest": message.document, "number": message.number}
            return EventKind.DOCUMENT_ISSUED, _with(issued, document=message.form)
    return None


def _with(fields: dict[str, str], **more: str) -> dict[str, str]:
    return {**fields, **{name: value for name, value in more.items() if value}}
