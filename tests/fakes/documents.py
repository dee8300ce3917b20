"""An archive's bureau for documents: real fonts, real seal, real store; credential and log as plain as they can be."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Self

import pytest
from PIL import Image, ImageDraw

from federation.suites.base import PrivateKey, PublicKey
from federation.suites.registry import suite
from federation.trust import Party, Role, SecondSuite, TrustedKey, TrustList, Use
from federation.verify.pdf import check_pdf
from federation.verify.report import Report, VerificationReason, VerifyError
from federation.verify.status import Standing, State, StatusReference
from loadtest.authorities.seals import Leaf, SealAuthority, TimeStampServer
from node_agent.certificates import fonts
from node_agent.certificates.attachments import Attachment, attach
from node_agent.certificates.issuing import Credential, Decision, Issuing
from node_agent.certificates.scans import Rectangle, Scan, ScanReader
from node_agent.certificates.sealing import Sealer, SealKey
from node_agent.certificates.statements import (
    CertifiedCopy,
    CitedRecord,
    Fact,
    NoRecordNote,
    RecordedFacts,
    SearchedArchive,
)
from node_agent.certificates.statements import (
    Party as Named,
)
from node_agent.certificates.store import CertificateStore
from node_agent.certificates.time_stamps import TimeAuthority
from node_agent.certificates.typesetting import Typesetter

ARCHIVE, NAME = "330483", "桐乡市档案馆"
QR_TEXT = "AC1:" + "6BFOXN*TS0BI$ZD4N9:9S6RCVN5+O30K3/XIV0W23NTDEXWK G2EP4J0BGJLFX3R3" * 5
RECORD = CitedRecord(
    archival_code="X032-ZY·JH·1990-0127-018",
    category="marriage",
    title="周羣軍、石志步結婚登記申請書",
    parties=(
        Named(role="男方", name="周羣軍", id_number="330425196703150011"),
        Named(role="女方", name="石志步", id_number="330425196808080026"),
    ),
    date="1990年5月12日",
    responsible="桐乡县石门镇人民政府",
    certificate_no="桐石字第127号",
)
FACTS = (
    Fact(zh="登记日期", en="Date of registration", value="1990年5月12日"),
    Fact(zh="登记机关", en="Registered by", value="桐乡县石门镇人民政府"),
)


def need_fonts() -> None:
    """Skip by name where the fonts are absent; in continuous integration that is a failure."""
    import os

    try:
        fonts.load()
    except fonts.FontsMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def need_second_suite() -> None:
    """Skip by name where this machine lacks the national suite."""
    try:
        suite("sm-1").generate("SM2")
    except VerifyError:
        pytest.skip("no libcrypto 3 with SM2")


def facts(name: str = "周羣軍", **changes: object) -> RecordedFacts:
    parties = (Named(role="男方", name=name), Named(role="女方", name="石志步"))
    return RecordedFacts(
        record=CitedRecord(
            archival_code=RECORD.archival_code, category="marriage", title=RECORD.title, parties=parties
        ),
        facts=FACTS,
    )


def no_record(verdict: str = "complete", **outcomes: str) -> NoRecordNote:
    searched = SearchedArchive(
        name="嘉兴市档案馆", outcome="empty", holdings=("结婚登记",), index_date="2026-11-20"
    )
    left_out = SearchedArchive(name="秀洲区档案馆", outcome="not_asked", reason="category_not_held")
    return NoRecordNote(
        verdict=verdict,
        category="marriage",
        subject=Named(role="本人", name="錢偉明", id_number="330402196303150018"),
        name_forms=("錢偉明", "钱伟明"),
        years=(1983, 1992),
        archives=(searched, left_out),
        searched_on="2026-11-25",
    )


def scan(path: Path, *, hidden: tuple[Rectangle, ...] = ()) -> Scan:
    """A written page with a third person's name at a known place."""
    if not path.exists():
        image = Image.new("RGB", (827, 1169), (247, 242, 228))
        brush = ImageDraw.Draw(image)
        for line in range(100, 1100, 45):
            brush.line((75, line, 750, line), fill=(120, 90, 60))
        image.save(path)
    return Scan(path=str(path), hidden=hidden)


class PlainCredentials:
    """A QR text of the usual size, and a status index kept by number."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def make(self, content: dict, digest: bytes) -> Credential:
        self.made.append(content["number"])
        return Credential(
            QR_TEXT,
            (attach("certificate.sd-jwt", b"eyJhbGciOiJFUzI1NiJ9." + digest.hex().encode() * 30),),
            status_uri="https://archive.example/status/1",
            status_index=int(content["number"].rpartition("-")[2]),
        )


class Lists:
    """Status by index, valid as of a time."""

    def __init__(self, as_of: datetime) -> None:
        self.as_of, self.states = as_of, {}
        self.missing = False

    def standing(self, issuer: str, reference: StatusReference, at: datetime) -> Standing:
        if self.missing:
            raise VerifyError(VerificationReason.STATUS_UNKNOWN, open=True)
        state, successor = self.states.get(reference.index, (State.VALID, None))
        return Standing(state, self.as_of, successor)


class Bureau:
    """Everything one archive needs to issue, and a verifier that trusts it. A context manager."""

    _shared: Typesetter | None = None

    def __init__(self, folder: Path, *, stamped: bool = True, now: datetime | None = None, **changes) -> None:
        self.folder = folder
        self.start = (now or datetime.now(UTC)).replace(microsecond=0)
        self.now = self.start
        self.authority = changes.get("authority") or SealAuthority(starts=self.start)
        self.seal: Leaf = changes.get("seal") or self.authority.issue(f"{NAME} 电子印章")
        self.stamper = self.authority.issue("时间戳", "time")
        self.crls = self.authority.crls(changes.get("revoked"), at=self.start)
        self.second: PrivateKey | None = changes.get("second")
        self.credentials = PlainCredentials()
        self.lists = Lists(self.start)
        self._stack = ExitStack()
        self.server = self._stack.enter_context(TimeStampServer(self.stamper)) if stamped else None
        url = self.server.url if self.server else changes.get("time_url", "")
        self.time = TimeAuthority(url, self.stamper.chain, self.crls) if url else None
        if Bureau._shared is None:
            Bureau._shared = Typesetter()
        self.typesetter = Bureau._shared
        self.store = CertificateStore(folder, ARCHIVE)
        self.scans = ScanReader()
        self.sealer = self._sealer(self.time)
        self.log = changes.get("log")
        self.issuing = self._issuing()

    def _sealer(self, time: TimeAuthority | None) -> Sealer:
        key = SealKey(self.seal.key, self.seal.chain, self.crls)
        return Sealer(
            key,
            self.typesetter.seal(NAME, "查档证明专用章"),
            archive=NAME,
            authority=time,
            second=(self.second, "seal-sm") if self.second else None,
        )

    def _issuing(self) -> Issuing:
        return Issuing(
            archive=ARCHIVE,
            name=NAME,
            name_en="Tongxiang Archives",
            store=self.store,
            typesetter=self.typesetter,
            sealer=self.sealer,
            scans=self.scans,
            credentials=self.credentials,
            log=self.log,
            now=lambda: self.now,
        )

    def with_time(self, time: TimeAuthority | None) -> None:
        self.time = time
        self.sealer = self._sealer(time)
        self.issuing = self._issuing()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()
        self.scans.close()
        self.store.close()

    def decision(self, name: str = "case-1:1", **changes) -> Decision:
        fields = {"statement": facts(), "purpose": "marriage_proof"} | changes
        return Decision(id=name, **fields)

    def copy(self, name: str = "case-1:1", **changes) -> Decision:
        fields = {
            "statement": CertifiedCopy(record=RECORD, compared_on="2026-11-25"),
            "scans": (scan(self.folder / "scan.png"),),
        }
        return self.decision(name, **(fields | changes))

    def pdf(self, decision: Decision | None = None) -> bytes:
        return self.issuing.read(self.issuing.issue(decision or self.decision()).number)

    def trust(self, **changes) -> TrustList:
        """A trust list with this archive's seal and time-stamp authority."""
        parties = {
            ARCHIVE: _party(ARCHIVE, Role.ARCHIVE, self.seal, Use.SEAL, **changes),
            "tsa": _party("tsa", Role.TSA, self.stamper, Use.TSA),
        }
        return TrustList("lantai", 1, self.start, parties)

    def asking(self, since: datetime, key: PublicKey | None = None) -> TrustList:
        """The trust list that asks for a second seal from `since` on, by this key or the bureau's own."""
        trust = self.trust()
        archive, (first,) = trust.parties[ARCHIVE], trust.parties[ARCHIVE].keys.values()
        public = key or self.second.public
        beside = replace(
            first, id="seal-sm", suite="sm-1", alg="SM2", certificate=None, jwk=suite("sm-1").jwk(public)
        )
        asked = replace(
            archive, keys={first.id: first, beside.id: beside}, second_suite=SecondSuite("sm-1", since)
        )
        return replace(trust, parties=trust.parties | {ARCHIVE: asked})

    def check(self, pdf: bytes, trust: TrustList | None = None, at: datetime | None = None) -> Report:
        return check_pdf(pdf, trust or self.trust(), self.lists, at or self.now + timedelta(minutes=1))


def _party(code: str, role: Role, leaf: Leaf, use: Use, **changes) -> Party:
    certificate = leaf.chain[0]
    fields = {
        "issuer": code,
        "role": role,
        "id": f"{code}-{use}",
        "use": use,
        "suite": "intl-1",
        "alg": "ES256",
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
        "certificate": leaf.pem,
    } | changes
    key = TrustedKey(**fields)
    return Party(code, role, NAME, {key.id: key})


def party(code: str, role: Role, leaf: Leaf, use: Use, **changes) -> Party:
    """A party with one key."""
    return _party(code, role, leaf, use, **changes)


def statement_of(pdf: bytes) -> dict:
    """The statement for machines inside a document."""
    from pyhanko.pdf_utils.reader import PdfFileReader

    from federation.verify.pdf_bytes import named_files

    return json.loads(named_files(PdfFileReader(BytesIO(pdf)))["lantai-statement.json"])


def failures(report: Report) -> dict[str, str]:
    """What did not pass, by name."""
    return {
        check.name: str(check.reason)
        for check in report.checks
        if check.result.value in {"failed", "unknown"}
    }


__all__ = ["Attachment", "Bureau", "failures", "need_fonts", "party", "statement_of"]
