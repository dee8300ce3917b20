"""What is on the page is what was given: every character, no markup, the QR code, the files inside, the seal's place."""

from __future__ import annotations

import re
import subprocess
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from shutil import which

import pikepdf
import pypdfium2
import pytest
import typst
import zxingcpp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from federation.documents import SEAL_FIELD
from federation.reasons import Reason, Refusal
from federation.verify.report import Verdict
from node_agent.certificates import fonts
from node_agent.certificates.attachments import Attachment, attach
from node_agent.certificates.scans import CopiedPage
from node_agent.certificates.statements import SearchedArchive
from tests.fakes.documents import (
    QR_TEXT,
    Bureau,
    facts,
    failures,
    no_record,
    statement_of,
)

LEVEL_3 = [
    *range(0x4E00, 0xA000),
    *range(0x3400, 0x4DC0),
    *range(0x20000, 0x2A6E0),
    *range(0x2A700, 0x2B739),
    *range(0x2B740, 0x2B81E),
    *range(0x2B820, 0x2CEA2),
    *range(0x2CEB0, 0x2EBE1),
]
"""CJK ideographs of GB 18030-2022 implementation level 3: the unified block and extensions A to F."""

EMPTY = "\U00029fd7"

BEYOND = [*range(0x30000, 0x3134B), *range(0x31350, 0x323B0)]
"""Extensions G and H: a name may hold them, fonts have some."""


def read_back(pdf: bytes) -> str:
    document = pypdfium2.PdfDocument(pdf)
    return "".join(page.get_textpage().get_text_range() for page in document).replace("\r\n", "")


def sheet(values: list[str]) -> dict:
    rows = [("x", value) for value in values]
    return {
        "lang": "zh", "title": "档案证明", "archive": "桐乡市档案馆", "date": "二〇二六年", "closing": "特此证明。",
        "table": None, "heading": "", "lead": "字", "rows": rows,
    }  # fmt: skip


def set_values(
    bureau: Bureau, values: list[str], *, pages: Sequence[CopiedPage] = (), files: Sequence[Attachment] = ()
) -> bytes:
    return bureau.typesetter.document(
        [sheet(values)], pages, files, number="330483-2026-000001", compared="", captions=["字"] * len(pages),
        notes=[""] * len(pages), qr_text=QR_TEXT, qr_caption=["字"], at=bureau.now,
    ).pdf  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "錢偉明*#$@[_`\\",
        "#sys.inputs **bold** $x^2$ @ref <label> // not a comment /* nor this */",
        '"} #panic("x") {"',
        "𠮷𡘙𪚥",
        "㐀䶵鿿",
        "⼀一金\uf90a",
        "葛\U000e0100城",
        "⿰王英",
        "買買提·吐爾遜",
        "O'Brien & Søn <b>",
    ],
)
def test_names_survive_as_they_are_written(bureau: Bureau, name: str) -> None:
    pdf = bureau.pdf(bureau.decision(f"name:{name}", statement=facts(name)))
    assert name in read_back(pdf)
    assert statement_of(pdf)["content"]["statement"]["record"]["parties"][0]["name"] == name
    assert bureau.check(pdf).verdict is Verdict.VALID


def test_every_ideograph_of_gb_18030_level_3_is_set_and_read_back(bureau: Bureau, tmp_path: Path) -> None:
    """Eight documents of up to 12,000 characters; `document` refuses when one is lost, pdftotext is asked as well."""
    if not set(LEVEL_3) <= bureau.typesetter.fonts.covered:
        pytest.skip("fonts-hanazono is not installed; without it characters are refused by name")
    for start in range(0, len(LEVEL_3), 12_000):
        text = "".join(map(chr, LEVEL_3[start : start + 12_000]))
        values = [text[place : place + 300] for place in range(0, len(text), 300)]
        if EMPTY in text:  # its glyph in the one font that has it is empty: refused by name, never left out
            with pytest.raises(Refusal) as refused:
                set_values(bureau, values)
            assert refused.value.reason is Reason.TEXT_NOT_KEPT
            assert refused.value.pointer.endswith(f"U+{ord(EMPTY):04X}")
            values = [value.replace(EMPTY, "") for value in values]
        pdf = set_values(bureau, values)
        if which("pdftotext") and start in {0, 36_000}:
            (tmp_path / "it.pdf").write_bytes(pdf)
            out = subprocess.run(["pdftotext", "-raw", tmp_path / "it.pdf", "-"], capture_output=True)
            read = "".join(out.stdout.decode().split())
            assert all(value in read for value in values)


def test_characters_beyond_are_set_or_refused_by_name(bureau: Bureau) -> None:
    covered = bureau.typesetter.fonts.covered
    there = [code for code in BEYOND if code in covered]
    absent = [code for code in BEYOND if code not in covered]
    set_values(bureau, ["".join(map(chr, there[place : place + 300])) for place in range(0, len(there), 300)])
    for code in absent[:: max(1, len(absent) // 40)]:
        with pytest.raises(Refusal) as refused:
            bureau.issuing.issue(bureau.decision("beyond:1", statement=facts(f"王{chr(code)}")))
        assert refused.value.reason is Reason.MISSING_GLYPH
        assert f"U+{code:04X}" in refused.value.pointer
    assert bureau.store.of_decision("beyond:1") is None, "a refused document takes no number"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("王\ue000", Reason.PRIVATE_USE_CHARACTER),
        ("王\U000f0000", Reason.PRIVATE_USE_CHARACTER),
        ("王\U0010fffd", Reason.PRIVATE_USE_CHARACTER),
        ("王\U00013000", Reason.MISSING_GLYPH),
        ("王\u202e芳", Reason.MALFORMED_TEXT),
        ("王\x00芳", Reason.MALFORMED_TEXT),
        ("王\ud800", Reason.MALFORMED_TEXT),
        ("王" * 301, Reason.TOO_LONG),
    ],
)
def test_what_can_not_be_shown_alike_to_everyone_is_refused(
    bureau: Bureau, name: str, reason: Reason
) -> None:
    with pytest.raises(Refusal) as refused:
        bureau.issuing.issue(bureau.decision("refused:1", statement=facts(name)))
    assert refused.value.reason is reason
    assert name not in str(refused.value)
    assert bureau.store.of_decision("refused:1") is None


def test_a_character_lost_in_setting_is_noticed(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any font typst leaves all text out and says nothing; the reader of the page does."""
    none = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[])
    monkeypatch.setattr(bureau.typesetter, "fonts", replace(bureau.typesetter.fonts, fonts=none))
    with pytest.raises(Refusal) as refused:
        set_values(bureau, ["錢偉明"])
    assert refused.value.reason in {Reason.TEXT_NOT_KEPT, Reason.MISSING_GLYPH}


_PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x2FFFF, exclude_categories=("C", "Z", "M"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(_PRINTABLE, min_size=1, max_size=30))
def test_any_text_is_kept_or_refused(bureau: Bureau, name: str) -> None:
    try:
        pdf = set_values(bureau, [name])
    except Refusal as refused:
        named = refused.reason in {Reason.MISSING_GLYPH, Reason.TEXT_NOT_KEPT}
    else:
        named = name.replace(" ", "") in read_back(pdf).replace(" ", "")
    assert named


def test_another_reader_reads_the_qr_code_from_the_rastered_page(sealed: bytes) -> None:
    picture = pypdfium2.PdfDocument(sealed)[0].render(scale=150 / 72).to_pil()
    codes = zxingcpp.read_barcodes(picture)
    assert [code.text for code in codes] == [QR_TEXT]
    assert codes[0].format == zxingcpp.BarcodeFormat.QRCode


def test_it_is_tagged_pdf_a_4f_of_pdf_2(bureau: Bureau) -> None:
    with pikepdf.open(BytesIO(bureau.pdf(bureau.copy("tagged:1", english=True)))) as pdf:
        assert pdf.pdf_version == "2.0"
        assert pdf.Root.MarkInfo.Marked
        assert "/StructTreeRoot" in pdf.Root
        assert str(pdf.Root.Lang) == "zh-CN"
        with pdf.open_metadata() as metadata:
            assert metadata["pdfaid:part"] == "4"
            assert metadata["pdfaid:conformance"] == "F"
        # a picture without words for those who can not see it is not let through
        figures = [
            one for one in pdf.objects if isinstance(one, pikepdf.Dictionary) and one.get("/S") == "/Figure"
        ]
        assert figures
        assert all("/Alt" in one for one in figures)


def test_files_travel_inside_with_digest_and_relationship(bureau: Bureau) -> None:
    records = tuple(
        attach(name, name.encode() * 99, relationship="source")
        for name in ("录音.mp3", "录像.mp4", "模型.glb", "模型.gltf", "图纸.pdf", "照片.tiff")
    )
    pdf = bureau.pdf(bureau.copy("files:1", records=records))
    assert bureau.check(pdf).verdict is Verdict.VALID
    with pikepdf.open(BytesIO(pdf)) as opened:
        for one in records:
            found = next(spec for spec in opened.Root.AF if str(spec.UF) == one.name)
            assert found.EF.F.read_bytes() == one.content
            assert found.EF.F.Subtype == f"/{one.mime}"
            assert found.AFRelationship == "/Source"
    told = {one["name"]: one["sha256"] for one in statement_of(pdf)["content"]["records"]}
    assert told == {one.name: one.sha256 for one in records}
    assert all(one.sha256[:16] in read_back(pdf) for one in records)


def test_files_other_than_those_the_statement_names(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    from node_agent.certificates import issuing

    kept = issuing._statement_file
    monkeypatch.setattr(
        issuing, "_statement_file", lambda content, made, files: kept(content, made, files[1:])
    )
    pdf = bureau.pdf(bureau.decision("mismatch:1"))
    assert failures(bureau.check(pdf)) == {"files": "attachment_mismatch"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("run.exe", Reason.UNSUPPORTED_MEDIA_TYPE),
        ("../x.pdf", Reason.INVALID_NAME),
        (".pdf", Reason.INVALID_NAME),
    ],
)
def test_files_that_do_not_travel(name: str, reason: Reason) -> None:
    with pytest.raises(Refusal) as refused:
        attach(name, b"")
    assert refused.value.reason is reason


def test_a_long_scope_flows_on_and_the_seal_stands_at_its_end(bureau: Bureau) -> None:
    searched = tuple(
        SearchedArchive(
            name=f"第{number}档案馆", outcome="empty", holdings=("结婚登记",), index_date="2026-11-20"
        )
        for number in range(1, 350)
    )
    note = no_record()
    pdf = bureau.pdf(
        bureau.decision("long:1", statement=type(note)(**{**_fields(note), "archives": searched}))
    )
    document = pypdfium2.PdfDocument(pdf)
    text = read_back(pdf)
    assert all(f"第{number}档案馆" in text for number in range(1, 350))
    with pikepdf.open(BytesIO(pdf)) as opened:
        fields = [[str(one.T) for one in page.get("/Annots", [])] for page in opened.pages]
    assert fields == [[]] * (len(document) - 1) + [[SEAL_FIELD]]
    assert bureau.check(pdf).verdict is Verdict.VALID


def test_a_scope_no_federation_has_is_refused(bureau: Bureau) -> None:
    one = SearchedArchive(name="甲", outcome="empty", index_date="2026-11-20")
    statement = type(no_record())(**{**_fields(no_record()), "archives": (one,) * 1_001})
    with pytest.raises(Refusal) as refused:
        bureau.issuing.issue(bureau.decision("longest:1", statement=statement))
    assert (refused.value.reason, refused.value.pointer) == (Reason.TOO_LONG, "/archives")


def _fields(struct) -> dict:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"verdict": "partial"}, "/verdict"),
        ({"archives": ()}, "/verdict"),
        (
            {"archives": (SearchedArchive(name="甲", outcome="not_asked", reason="category_not_held"),)},
            "/verdict",
        ),
        (
            {
                "archives": (
                    SearchedArchive(name="甲", outcome="empty", index_date="2026-11-20"),
                    SearchedArchive(name="乙", outcome="timeout"),
                )
            },
            "/archives/1/outcome",
        ),
        (
            {
                "archives": (
                    SearchedArchive(name="甲", outcome="empty", index_date="2026-11-20"),
                    SearchedArchive(name="乙", outcome="not_asked", reason="stopped_early"),
                )
            },
            "/archives/1/outcome",
        ),
    ],
)
def test_a_no_record_note_exists_only_over_a_complete_search(
    bureau: Bureau, change: dict, pointer: str
) -> None:
    note = no_record()
    statement = type(note)(**{**_fields(note), **change})
    with pytest.raises(Refusal) as refused:
        bureau.issuing.issue(bureau.decision("partial:1", statement=statement))
    assert (refused.value.reason, refused.value.pointer) == (Reason.SEARCH_NOT_COMPLETE, pointer)


def test_the_note_states_its_whole_scope(bureau: Bureau) -> None:
    text = read_back(bureau.pdf(bureau.decision("scope:1", statement=no_record(), english=True))).replace(
        " ", ""
    )
    for said in (
        "嘉兴市档案馆",
        "秀洲区档案馆",
        "2026-11-20",
        "1983–1992",
        "钱伟明",
        "未藏此类档案",
        "nonefound",
    ):
        assert said in text
    assert "330402********0018" in text
    assert "330402196303150018" not in text


def test_no_identity_number_is_anywhere_in_a_document(bureau: Bureau) -> None:
    pdf = bureau.pdf(bureau.copy("masked:1", english=True))
    assert "330425196703150011" not in read_back(pdf)
    assert b"330425196703150011" not in str(statement_of(pdf)).encode()


def test_each_document_holds_its_own_pages_and_files(bureau: Bureau) -> None:
    """typst is given them under the same paths each time."""
    pages = [_page(colour) for colour in ((200, 30, 30), (30, 200, 30), (30, 30, 200))]
    for first in range(3):
        chosen = [pages[first], pages[(first + 1) % 3]]
        files = [attach(f"{name}.json", f"{first}{name}".encode()) for name in ("a", "b")]
        with pikepdf.open(BytesIO(set_values(bureau, ["字"], pages=chosen, files=files))) as pdf:
            drawn = [one.read_raw_bytes() for one in _streams(pdf) if one.get("/Filter") == "/DCTDecode"]
            assert sorted(drawn) == sorted(page.jpeg for page in chosen)
            inside = {name: spec.get_file().read_bytes() for name, spec in pdf.attachments.items()}
            assert inside == {one.name: one.content for one in files}


def _page(colour: tuple[int, int, int]) -> CopiedPage:
    out = BytesIO()
    Image.new("RGB", (60, 90), colour).save(out, "JPEG")
    return CopiedPage(out.getvalue(), 60, 90, redacted=False)


def _streams(pdf: pikepdf.Pdf) -> list[pikepdf.Stream]:
    return [one for one in pdf.objects if isinstance(one, pikepdf.Stream)]


@pytest.mark.slow
def test_a_process_sets_documents_without_end(bureau: Bureau) -> None:
    """typst keeps every path it was ever given, and can not go on after 65,535."""
    files = [attach(f"{place}.json", b"0") for place in range(400)]
    for _ in range(170):
        set_values(bureau, ["字"], files=files)


def test_no_font_is_used_but_the_named_ones(bureau: Bureau) -> None:
    """typst knows whatever else lies in their folders."""
    with pikepdf.open(BytesIO(set_values(bureau, ["王芳 Wang Fang 1990 𠮷", "\U00020000"]))) as pdf:
        names = {
            str(one.BaseFont)
            for one in pdf.objects
            if isinstance(one, pikepdf.Dictionary) and "/BaseFont" in one
        }
    assert names
    assert all(re.match(r"/[A-Z]{6}\+(NotoSerifCJK|BabelStoneHan|HanaMin)", name) for name in names), names


def test_a_whole_font_set_is_named_when_a_part_is_missing(tmp_path: Path) -> None:
    with pytest.raises(fonts.FontsMissingError) as missing:
        fonts.load(tmp_path)
    assert "make setup" in str(missing.value)
    assert "NotoSerifCJK-Regular.ttc" in str(missing.value)


def test_coverage_agrees_with_unicode_for_plain_text(bureau: Bureau) -> None:
    plain = [chr(code) for code in range(0x21, 0x7F)] + list("，。、；：？！（）《》「」·—…〇")
    assert all(ord(char) in bureau.typesetter.fonts.covered for char in plain)
    assert unicodedata.category("\ue000") == "Co"
