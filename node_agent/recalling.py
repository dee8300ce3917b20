"""What one file of the data folder remembers of the archive's documents and another forgot, as when one was restored from a
backup, or all from copies that are not of one moment.

A certificate number that was given is given to no other document; what was revoked or replaced stays so; and each document
is known by the entries of the status list that it names. Run at every start, before anything is issued or said of the
documents; log and documents are only read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from itertools import chain

import msgspec
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader

from federation.credential import sd_jwt
from federation.credential.certificate import status_reference
from federation.documents import STATEMENT_FILE
from federation.reasons import Reason, Refusal
from federation.tlog.event import Event, EventKind
from federation.tlog.flaws import EvidenceError
from federation.verify.pdf_bytes import named_files
from federation.verify.report import VerifyError
from node_agent.certificates.credentials import PAPER
from node_agent.certificates.registry import Registry
from node_agent.certificates.store import CertificateStore, DocumentState
from node_agent.evidence.archive_log import ArchiveLog

_NUMBER = re.compile(r"[0-9]{6}-([0-9]{4})-([0-9]{1,12})")
_CREDENTIAL = re.compile(r"credential-([0-9]{1,3})\.(?:sd-jwt|json)")
_ENDS = {EventKind.REVOKED: DocumentState.REVOKED, EventKind.REPLACED: DocumentState.REPLACED}


@dataclass
class Recalled:
    """How many documents were revoked or replaced again, how many ended ones the store has no row of, how many numbers
    the store would have given a second time; of how many documents the entries in the status list were found again in them,
    and of how many nobody knows these any more, so that they can not be revoked.
    """

    ended: int = 0
    unknown: int = 0
    numbers: int = 0
    listed: int = 0
    unlisted: int = 0


def recall(store: CertificateStore, registry: Registry, log: ArchiveLog) -> Recalled:
    """Make the store remember. Refusal, EvidenceError when file or log can not be read; an event nobody can read is passed over."""
    found = Recalled()
    for entry in log.entries((EventKind.CLOSED, *_ENDS)):
        try:
            event = entry.read()
        except EvidenceError:
            continue
        if event is not None:
            _end_again(store, event, found)
    for year, last in _highest(chain(registry.known_numbers(), log.committed_numbers())).items():
        found.numbers += store.give_none_up_to(year, last)
    listed = registry.listed_numbers()
    for number in store.issued_numbers():
        if number not in listed:
            _list_again(store, registry, number, found)
    return found


def _highest(numbers: Iterable[str]) -> dict[int, int]:
    """The last of each year."""
    highest: dict[int, int] = {}
    for number in numbers:
        if parts := _NUMBER.fullmatch(number):
            year, last = int(parts[1]), int(parts[2])
            highest[year] = max(highest.get(year, 0), last)
    return highest


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


def _list_again(store: CertificateStore, registry: Registry, number: str, found: Recalled) -> None:
    try:
        files = named_files(PdfFileReader(BytesIO(store.read(number))))
        told = msgspec.json.decode(files[STATEMENT_FILE], type=_Stated)
        indexes = {PAPER: told.status.index}
        for name, content in files.items():
            if place := _CREDENTIAL.fullmatch(name):
                payload = sd_jwt.parse(content.decode()).jws().claims(most=sd_jwt.MOST_CHARACTERS)
                reference = status_reference(payload.get("status"))
                if reference is not None:
                    indexes[f"credential-{int(place[1]) - 1}"] = reference.index
        is_listed = registry.list_again(number, indexes, told.content.short_code)
    except Refusal as refusal:
        if refusal.reason is not Reason.STORE_UNAVAILABLE:
            raise
        is_listed = False  # its file is gone, or is not what it was
    except (VerifyError, PdfError, msgspec.MsgspecError, LookupError, ValueError):
        is_listed = False
    found.listed += is_listed
    found.unlisted += not is_listed


class _Status(msgspec.Struct):
    index: int


class _Content(msgspec.Struct):
    short_code: str = ""


class _Stated(msgspec.Struct):
    """Of what a document says for machines, where it stands."""

    content: _Content
    status: _Status
