"""Everything an archive needs to issue, as one running part of the agent: keys, fonts, seal, status list, evidence log.

Settings table `[documents]`: `gateway` is the public address of the federation's gateway, where status lists and the
verification page stand; `fonts` a folder of fonts; `time_authority`, `time_certificate`, `time_crls` the authority whose
time stamps go into documents; `trust_list` the federation's pinned list, by which this archive serves as witness, `trust_list_key` whose signature it must bear;
`stamp_authority`, `stamp_certificate` the authority that stamps the evidence log; `anchor_file` a chain its roots are posted to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from federation import signed_anew
from federation.bulk.answering import Object
from federation.reasons import Reason, Refusal
from federation.rpc.validity import LOOK_EVERY_S
from federation.tlog.anchor import FileAnchor
from federation.tlog.checkpoint import Quorum
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.keeping import authority_at
from federation.tlog.note import VerifierKey
from federation.tlog.stamping import TimeAuthority as LogAuthority
from federation.tlog.trusted import logs_of_others, logs_signed_twice
from federation.trust import TrustList, Use, federation_key
from federation.verify.report import VerifyError
from node_agent import telemetry
from node_agent.certificates import keys as key_files
from node_agent.certificates.fonts import FontsMissingError
from node_agent.certificates.keys import KeysMissingError
from node_agent.certificates.registry import Deliverable, Registry, SignedAnew
from node_agent.certificates.revocation_lists import ListFiles, ListsWatch
from node_agent.certificates.scans import ScanReader
from node_agent.certificates.sealing import Sealer, SealError, SealKey
from node_agent.certificates.standing import Standing
from node_agent.certificates.store import CertificateStore, DocumentState
from node_agent.certificates.time_stamps import TimeAuthority
from node_agent.certificates.typesetting import Typesetter
from node_agent.desk.records import IndexRecords
from node_agent.desk.setup import now_ms
from node_agent.disclosure import Disclosure
from node_agent.evidence.archive_log import ArchiveLog, ArchiveWitness
from node_agent.index import Lookup
from node_agent.issuance import ISSUED_IN_VAIN, DocumentIssuer, Workshop
from node_agent.objects import Shelf, in_memory
from node_agent.recalling import recall
from node_agent.settings import NodeSettings, SettingsError

KEYS = frozenset({
    "gateway", "fonts", "time_authority", "time_certificate", "time_crls", "trust_list", "trust_list_key",
    "stamp_authority", "stamp_certificate", "anchor_file",
})  # fmt: skip
SEAL_PURPOSE = "查档证明专用章"
_LOOK_EVERY_S = 2.0
_TIMES_EVERY_S = 60.0
_SWEEP_EVERY_S = 3_600.0
_MOST_CHANGES, _LONGEST_SEQ = 10_000, 18


def now() -> datetime:
    return datetime.now(UTC)


class Documents:
    """One archive's documents. SettingsError when something they need is missing; it says what to do."""

    def __init__(self, folder: Path, settings: NodeSettings, lookup: Lookup, disclosure: Disclosure) -> None:
        table = settings.documents
        address = gateway_address(table)
        log_authority = log_authority_of(folder, table)
        trust = trust_list(folder, settings)
        try:
            keys = key_files.load(folder)
            check_second_suite(trust, settings.archive, keys)
            typesetter = Typesetter(fonts_folder(table))
            drawing = typesetter.seal(settings.name, SEAL_PURPOSE)
        except (KeysMissingError, SealError, FontsMissingError) as error:
            raise SettingsError(f"[documents] {error}") from error
        seal = seal_of(keys)
        self.store = CertificateStore(folder, settings.archive)
        self.registry = Registry(folder)
        self._scans = ScanReader()
        self.standing = Standing(
            self.store,
            self.registry,
            keys.status,
            f"{address}/v1/status-lists/{settings.archive}",
            now,
            second=keys.second_of(Use.STATUS),
        )
        self.log = ArchiveLog(
            folder,
            settings.archive,
            keys.log,
            now_ms,
            _witnesses(trust),
            second=keys.second_log,
            authority=log_authority,
            anchor=FileAnchor(folder / str(table["anchor_file"])) if table.get("anchor_file") else None,
        )
        self._recall()
        self.witness = (
            ArchiveWitness(
                folder,
                keys.witness,
                logs_of_others(trust, settings.archive),
                logs_signed_twice(trust),
            )
            if trust is not None
            else None
        )
        sealer = self._sealer = Sealer(
            seal,
            drawing,
            archive=settings.name,
            authority=time_authority_of(folder, table),
            second=keys.second_of(Use.SEAL),
        )
        self._seal_told = ""
        self.lists = [ListsWatch(*one, telemetry.ListsObserver()) for one in sealer.chains()]
        workshop = Workshop(
            archive=settings.archive,
            name=settings.name,
            store=self.store,
            registry=self.registry,
            typesetter=typesetter,
            sealer=sealer,
            scans=self._scans,
            keys=keys,
            log=self.log,
            status_uri=self.standing.uri,
            verify_at=f"{address}/verify",
        )
        self.issuer = DocumentIssuer(folder, workshop, IndexRecords(lookup, disclosure.reference).find)

    def _recall(self) -> None:
        """Have each file of the folder remember what another does, and say so."""
        found = recall(self.store, self.registry, self.log)
        for action, records in (
            ("documents.ended_again", found.ended),
            ("documents.ended_unknown", found.unknown),
            ("documents.numbers_skipped", found.numbers),
            ("documents.listed_again", found.listed),
            ("documents.unlisted", found.unlisted),
        ):
            if records:
                telemetry.log.warning(
                    "one file knows what another forgot: was a backup restored?",
                    action=action,
                    records=records,
                )

    def shelve(self, shelf: Shelf) -> None:
        """Put on the shelf what gateways may fetch."""
        shelf.put("document", lambda name, _body: self._open("document", name))
        shelf.put("credential", lambda name, _body: self._open("credential", name))
        shelf.put("status", self._status)
        shelf.put(signed_anew.OBJECT, self._signed_anew)
        shelf.put("log", self.log.open)
        if self.witness is not None:
            shelf.put("witness", self.witness.open)

    def loops(self) -> dict[str, Awaitable[None]]:
        """Name -> what to run until the process stops."""
        return {
            "evidence checkpoints": self.log.run(),
            "evidence stamps": self.log.stamps.run(),
            "document standing": self._watch(),
            "documents signed anew": self._watch_signed_anew(),
            "document times": self._add_times(),
            "revocation lists": self._watch_lists(),
            "sweep documents": self._sweep(),
        }

    def close(self) -> None:
        self._scans.close()
        self.log.close()
        if self.witness is not None:
            self.witness.close()
        self.registry.close()
        self.store.close()

    # objects -----------------------------------------------------------------------------------------------------

    def _open(self, kind: str, reference: str) -> Object:
        one = self.registry.find(kind, reference)
        path = self.registry.path(one)

        def read(offset: int, length: int) -> bytes:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
            if kind == "document" and offset + len(data) == one.size:
                self._has_left(one)
            return data

        return Object(one.size, bytes.fromhex(one.reference), one.media_type, read)

    def _has_left(self, one: Deliverable) -> None:
        case_id = self.store.entry(one.number).case_id
        with contextlib.suppress(EvidenceError):
            self.log.delivered(case_id, one.number, one.reference)

    def _status(self, name: str, _body: bytes) -> Object:
        kind, _, after = name.partition("/")
        if kind == "changes" and after.isascii() and after.isdecimal() and len(after) <= _LONGEST_SEQ:
            return in_memory(self._changes(int(after)), "application/json")
        if name == "list":
            return in_memory(self.standing.token(), "text/plain")
        if name == "list.cwt":
            return in_memory(self.standing.cwt(), "application/octet-stream")
        raise Refusal(Reason.NOT_FOUND)

    def _changes(self, after: int) -> bytes:
        """What changed after a sequence number, for the gateways' evidence logs: numbers and digests, no record."""
        notices = []
        for seq, at_ms, number, state, reason, successor in self.store.changes(after)[:_MOST_CHANGES]:
            entry = self.store.entry(number)
            notices.append({
                "seq": seq, "at_ms": at_ms, "case_id": entry.case_id, "number": number,
                "state": state, "reason": reason, "successor": successor, "digest": entry.sha256,
            })  # fmt: skip
        return json.dumps(notices).encode()

    def _signed_anew(self, name: str, _body: bytes) -> Object:
        """What gateways give from now on instead of what they were told first: a page of notices, of certificates that stand."""
        if not (name.isascii() and name.isdecimal() and len(name) <= _LONGEST_SEQ):
            raise Refusal(Reason.NOT_FOUND)
        after = upto = int(name)
        notices = []
        if rows := self.registry.signed_anew(after):
            upto = rows[-1].seq
            for one in self.registry.of_gateways(after, upto):
                kept, entry = one.kept, self.store.entry(one.kept.number)
                if entry.state == DocumentState.VALID:
                    notices.append(
                        signed_anew.Notice(entry.case_id, kept.number, kept.kind, kept.reference, one.at_ms)
                    )
        return in_memory(signed_anew.write(upto, notices), "application/json")

    # time --------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Log what was revoked or replaced, by whatever process; what can not be logged now is tried again."""
        seen = 0
        while True:
            with contextlib.suppress(Refusal, EvidenceError):
                for change in await asyncio.to_thread(self.store.changes, seen):
                    await asyncio.to_thread(self._log_change, *change)
                    seen = change[0]
            await asyncio.sleep(_LOOK_EVERY_S)

    def _log_change(
        self, _seq: int, _at_ms: int, number: str, state: str, reason: str, successor: str
    ) -> None:
        with _left_out():
            entry = self.store.entry(number)
            if reason == ISSUED_IN_VAIN:
                self.log.in_vain(number, entry.case_id, reason, entry.sha256)
            else:
                self.log.standing(number, entry.case_id, state, reason, successor, entry.sha256)

    async def _watch_signed_anew(self) -> None:
        """Log what was signed anew, by whatever process."""
        seen = 0
        while True:
            with contextlib.suppress(Refusal, EvidenceError):
                while signed := await asyncio.to_thread(self.registry.signed_anew, seen):
                    await asyncio.to_thread(self._log_signed_anew, signed)
                    seen = signed[-1].seq
            await asyncio.sleep(_LOOK_EVERY_S)

    def _log_signed_anew(self, signed: list[SignedAnew]) -> None:
        events = []
        for one in signed:
            with _left_out():
                kept, case_id = one.kept, self.store.entry(one.kept.number).case_id
                events.append(
                    self.log.signed_anew(case_id, kept.number, kept.kind, kept.reference, one.at_ms)
                )
        self.log.add(events)

    async def _sweep(self) -> None:
        """Remove what a process that was killed left behind: at start, and each hour."""
        while True:
            try:
                removed = await asyncio.to_thread(self.store.sweep)
                removed += await asyncio.to_thread(self.registry.sweep)
            except Refusal as refusal:  # the disk is in trouble; tried again
                telemetry.log.error("not swept", action="documents.swept", kind=refusal.reason.value)
            else:
                if removed:
                    telemetry.log.info("left-over files removed", action="documents.swept", records=removed)
            await asyncio.sleep(_SWEEP_EVERY_S)

    async def _watch_lists(self) -> None:
        """Tell of revocation lists before they run out, and of a seal that can not be used: at start, and as often as
        certificates are looked at.
        """
        while True:
            for one in self.lists:
                await asyncio.to_thread(one.look, now())
            await self._look_at_seal()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look_at_seal(self) -> None:
        """Tell when nothing can be sealed, before anybody waits for a document: once, until it can or it is something else."""
        try:
            await asyncio.to_thread(self._sealer.check, now())
        except SealError as error:
            if error.kind != self._seal_told and "revocation_list" not in error.kind:  # those are told above
                telemetry.log.warning(
                    "nothing can be sealed", action="agent.seal", kind=error.kind, reason=str(error)
                )
            self._seal_told = error.kind
        else:
            self._seal_told = ""

    async def _add_times(self) -> None:
        """Give documents whose time is pending a time stamp, once the authority answers again."""
        while True:
            await asyncio.sleep(_TIMES_EVERY_S)
            try:
                done = await asyncio.to_thread(self.issuer.add_times)
            except Exception as error:  # one broken file must not end the agent
                telemetry.log.error("no time stamps", action="documents.times", kind=type(error).__name__)
                continue
            if done:
                telemetry.log.info("documents stamped", action="documents.stamped", records=done)


@contextlib.contextmanager
def _left_out() -> Iterator[None]:
    """Around one change of a document: what no event may say, and what is of no document, is counted and left out of the log.
    Trying again would not help it, and would keep out all that came after.
    """
    try:
        yield
    except EvidenceError as error:
        if error.flaw is not Flaw.MALFORMED_EVENT:
            raise
        telemetry.left_out(error.flaw.value)
    except Refusal as refusal:
        if refusal.reason is not Reason.UNKNOWN_DOCUMENT:
            raise
        telemetry.left_out(refusal.reason.value)


def gateway_address(table: dict[str, Any]) -> str:
    """The public address of the federation's gateway, of a table `[documents]` that has no other keys than ours. SettingsError."""
    if unknown := sorted(table.keys() - KEYS):
        raise SettingsError(f"[documents] 不认识的键 · unknown keys: {', '.join(unknown)}")
    address = str(table.get("gateway", "")).rstrip("/")
    if urlsplit(address).scheme not in {"http", "https"}:
        raise SettingsError("[documents] gateway 应为 http(s) 地址 · gateway must be an http(s) address")
    return address


def trust_list(folder: Path, settings: NodeSettings) -> TrustList | None:
    """The federation's pinned list; None where none is set. SettingsError when it can not be read."""
    path = str(settings.documents.get("trust_list", ""))
    key = str(settings.documents.get("trust_list_key", ""))
    if not path:
        if key:
            raise SettingsError(
                "[documents] trust_list_key: 未设置 trust_list · there is no trust_list to be signed by it"
            )
        return None
    try:
        signed_by = federation_key((folder / key).read_bytes()) if key else None
    except (OSError, VerifyError) as error:
        raise SettingsError(f"[documents] trust_list_key: {error}") from error
    try:
        return TrustList.load((folder / path).read_bytes(), signed_by=signed_by)
    except (OSError, VerifyError) as error:
        raise SettingsError(f"[documents] trust_list: {error}") from error


def check_second_suite(trust: TrustList | None, archive: str, keys: key_files.ArchiveKeys) -> None:
    """What is issued without the second signature the list asks for, every verifier refuses: rather issue nothing."""
    party = None if trust is None else trust.parties.get(archive)
    if party is None or party.second_suite is None:
        return
    asked = party.second_suite.suite
    if keys.second_suite != asked:
        raise SettingsError(
            f"[documents] 信任名录要求 {asked} 第二签名，本馆没有其密钥，"
            f"请运行 lantai-node keys create --second-suite {asked}"
            f" · the trust list asks for second signatures of {asked} and their keys are missing;"
            f" run lantai-node keys create --second-suite {asked}"
        )
    unlisted = [one.id for one in keys.second.values() if one.id not in party.keys]
    if unlisted:
        raise SettingsError(
            f"[documents] 信任名录尚无本馆第二签名密钥 {unlisted[0]}，请提交 lantai-node keys show 的内容"
            f" · the trust list lacks the key of second signatures {unlisted[0]}; hand in what lantai-node keys show prints"
        )


def seal_of(keys: key_files.ArchiveKeys) -> SealKey:
    """SettingsError when its certificate has not been issued."""
    if keys.seal is None:
        raise SettingsError(
            "[documents] 缺少印章证书 keys/seal.pem：请将 keys/seal.csr 交签发机构"
            " · the seal's certificate keys/seal.pem is missing: have keys/seal.csr certified"
        )
    return keys.seal


def fonts_folder(table: dict[str, Any]) -> Path | None:
    """The folder of fonts that is set; None = those of the system, or of `make setup`."""
    return Path(table["fonts"]) if table.get("fonts") else None


def _witnesses(trust: TrustList | None) -> Quorum | None:
    if trust is None:
        return None
    return Quorum(0, tuple(VerifierKey.parse(key.vkey) for key in trust.keys(Use.WITNESS) if key.vkey))


def log_authority_of(folder: Path, table: dict[str, Any]) -> LogAuthority | None:
    if not table.get("stamp_authority"):
        return None
    try:
        return authority_at(
            str(table["stamp_authority"]), (folder / str(table["stamp_certificate"])).read_bytes()
        )
    except (KeyError, OSError, ValueError) as error:
        raise SettingsError(f"[documents] stamp_authority: {error}") from error


def time_authority_of(folder: Path, table: dict[str, Any]) -> TimeAuthority | None:
    if not table.get("time_authority"):
        return None
    try:
        chain = x509.load_pem_x509_certificates((folder / str(table["time_certificate"])).read_bytes())
        paths = [folder / str(path) for path in table.get("time_crls", ())]
        crls = ListFiles(lambda: paths, "time_revocation_list")
        crls()
        return TimeAuthority(str(table["time_authority"]), chain, crls)
    except (KeyError, OSError, ValueError, SealError) as error:
        raise SettingsError(f"[documents] time_authority: {error}") from error
