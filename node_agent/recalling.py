"""What the evidence log remembers of this archive's documents and their store forgot, as when one file of the data folder was
restored from a backup, or all from copies that are not of one moment.

A certificate number that was given is given to no other document, and what was revoked or replaced stays so. Run at every
start, before anything is issued or said of the documents; the log itself is only read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from federation.reasons import Reason, Refusal
from federation.tlog.event import Event, EventKind
from federation.tlog.flaws import EvidenceError
from node_agent.certificates.store import CertificateStore, DocumentState
from node_agent.evidence.archive_log import ArchiveLog

_NUMBER = re.compile(r"[0-9]{6}-([0-9]{4})-([0-9]{1,12})")
_ENDS = {EventKind.REVOKED: DocumentState.REVOKED, EventKind.REPLACED: DocumentState.REPLACED}


@dataclass
class Recalled:
    """How many documents were revoked or replaced again, how many ended ones the store has no row of, and how many numbers
    the store would have given a second time.
    """

    ended: int = 0
    unknown: int = 0
    numbers: int = 0


def recall(store: CertificateStore, log: ArchiveLog) -> Recalled:
    """Make the store remember. Refusal, EvidenceError when file or log can not be read; an event nobody can read is passed over."""
    found = Recalled()
    highest: dict[int, int] = {}
    for entry in log.entries((EventKind.DOCUMENT_COMMITTED, EventKind.CLOSED, *_ENDS)):
        try:
            event = entry.read()
        except EvidenceError:
            continue
        if event is None:
            continue
        if event.kind is EventKind.DOCUMENT_COMMITTED:
            if parts := _NUMBER.fullmatch(str(event.fields["number"])):
                year, last = int(parts[1]), int(parts[2])
                highest[year] = max(highest.get(year, 0), last)
        else:
            _end_again(store, event, found)
    for year, last in highest.items():
        found.numbers += store.give_none_up_to(year, last)
    return found


def _end_again(store: CertificateStore, event: Event, found: Recalled) -> None:
    number = _number_of(event)
    if not number:
        return
    try:
        row = store.entry(number)
    except Refusal as refusal:
        if refusal.reason is not Reason.UNKNOWN_DOCUMENT:
            raise
        found.unknown += 1
        return
    if row.sha256 != event.fields["digest"]:  # it has no document yet, or another one than then
        found.unknown += 1
    elif row.state == DocumentState.VALID:
        said = {name: str(event.fields.get(name, "")) for name in ("reason", "successor")}
        store.end(number, _ENDS.get(event.kind, DocumentState.REVOKED), at_ms=event.at_ms, **said)
        found.ended += 1


def _number_of(event: Event) -> str:
    """The certificate number of an event by which a document ended; "" of another one's end."""
    if event.kind is EventKind.CLOSED:
        return event.id.removeprefix("closed:") if event.fields["outcome"] == "revoked" else ""
    return str(event.fields["number"])
