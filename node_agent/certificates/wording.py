"""The words of a document: from a statement to titled sheets of rows, Chinese first, English when asked.

Texts here are ours; every value from a record passes through untouched, in the record's own characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from federation.categories import CATEGORIES, PURPOSES
from federation.outcome import NotAsked
from node_agent.certificates.statements import (
    CertifiedCopy,
    CitedRecord,
    NoRecordNote,
    Party,
    RecordedFacts,
    SearchedArchive,
    Statement,
)

TITLES: dict[str, tuple[str, str]] = {
    "certified_copy": ("档案复制件证明", "Certified Copy of an Archival Record"),
    "recorded_facts": ("档案证明", "Certificate of Recorded Facts"),
    "no_record": ("查无档案记载证明", "Note that No Record Was Found"),
}
"""Titles by kind, Chinese and English."""

REDACTED = "深色块为依规遮盖的第三人信息 · Dark areas hide third persons"

COMPARED = ("与原件核对无异", "Compared with the original and found identical")

_DIGITS = str.maketrans("0123456789", "〇一二三四五六七八九")
_LEFT_OUT: dict[str, tuple[str, str]] = {
    NotAsked.OUT_OF_SCOPE: ("不在所声明的范围内", "outside the declared scope"),
    NotAsked.CATEGORY_NOT_HELD: ("未藏此类档案", "does not hold this category"),
    NotAsked.YEARS_NOT_HELD: ("未藏该年份档案", "holds no record of these years"),
    NotAsked.MEMBERSHIP_FILTER: ("目录过滤器排除", "excluded by its index filter"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterhead:
    """Who issues, under which number, on which day (YYYY-MM-DD), for which purpose."""

    archive: str
    archive_en: str
    number: str
    issued_on: str
    purpose: str
    expires_on: str = ""


def chinese_date(written: str) -> str:
    """2026-11-25 → 二〇二六年十一月二十五日."""
    year, month, day = written.split("-")
    return f"{year.translate(_DIGITS)}年{_counted(int(month))}月{_counted(int(day))}日"


def _counted(number: int) -> str:
    tens, ones = divmod(number, 10)
    ten = "" if not tens else "十" if tens == 1 else f"{str(tens).translate(_DIGITS)}十"
    return ten + (str(ones).translate(_DIGITS) if ones else "")


def captions(statement: Statement, pages: int) -> list[str]:
    """The line under each copied page."""
    if not isinstance(statement, CertifiedCopy):
        return []
    start = f"档号 {statement.record.archival_code}　{statement.compared_on}"
    return [f"{start}　第 {number}/{pages} 页" for number in range(1, pages + 1)]


def how_to_verify(address: str) -> list[str]:
    """The lines under the QR code; `address` is the page where a document is found by its short code, "" = none is told."""
    by_address = [f"网上核验 {address}（输入核验码，或扫右侧小码）"] if address else []
    return [
        *by_address,
        "扫左侧大码可取得全文凭据，以 lantai-verify 或上述网页核验",
        "电子印章仅在电子签名内有效；打印件以二维码核验为准",
    ]


def sheets(
    statement: Statement,
    head: Letterhead,
    pages: int,
    files: Sequence[tuple[str, str]] = (),
    *,
    english: bool,
) -> list[dict[str, Any]]:
    """The sheets in reading order; `pages` counts the copied pages that follow, `files` are (name, SHA-256) carried inside."""
    chosen = (0, 1) if english else (0,)
    return [_sheet(statement, head, pages, files, language) for language in chosen]


def _sheet(
    statement: Statement, head: Letterhead, pages: int, files: Sequence[tuple[str, str]], language: int
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "lang": ("zh", "en")[language],
        "title": TITLES[str(statement.__struct_config__.tag)][language],
        "archive": (head.archive, head.archive_en or head.archive)[language],
        "date": (chinese_date(head.issued_on), head.issued_on)[language],
        "closing": ("特此证明。", "The Chinese text is the original; this page is its translation.")[
            language
        ],
        "table": None,
        "heading": "",
    }
    match statement:
        case CertifiedCopy():
            made["lead"] = _copy_lead(statement, pages, len(files), language)
            made["rows"] = _record_rows(statement.record, language)
            if pages:
                count = (f"共 {pages} 页", str(pages))[language]
                made["rows"].append((("复制页数", "Pages copied")[language], count))
        case RecordedFacts():
            made["lead"] = (
                "经查阅本馆保管的下列档案，其中记载如下事实：",
                "The record named below, kept by this archive, states the following facts:",
            )[language]
            made["rows"] = _record_rows(statement.record, language)
            made["heading"] = ("档案记载", "As recorded")[language]
            made["facts"] = [((one.zh, one.en)[language], one.value) for one in statement.facts]
        case NoRecordNote():
            made |= _search_sheet(statement, language)
    label = ("随附文件", "File attached")[language]
    made["rows"] += [(label, f"{name}　SHA-256 {digest[:16]}…") for name, digest in files]
    purpose = PURPOSES[head.purpose].in_language(made["lang"])
    made["rows"].append((("出具用途", "Issued for")[language], purpose))
    if head.expires_on:
        label = ("供重复使用至", "May be reused until")[language]
        made["rows"].append((label, head.expires_on))
    return made


def _copy_lead(copy: CertifiedCopy, pages: int, files: int, language: int) -> str:
    if language:
        what = " and ".join(
            part for part in (f"{pages} page(s)" * (pages > 0), f"{files} file(s)" * (files > 0)) if part
        )
        return (
            f"It is certified that the {what} attached were copied from the record named below, which this "
            f"archive keeps, and were compared with the original on {copy.compared_on} and found identical."
        )
    what = "、".join(
        part for part in (f" {pages} 页" * (pages > 0), f"文件 {files} 个" * (files > 0)) if part
    )
    return (
        f"兹证明：后附复制件共{what}，系由本馆保管的下列档案复制，"
        f"经于{chinese_date(copy.compared_on)}核对，{COMPARED[0]}。"
    )


def _record_rows(record: CitedRecord, language: int) -> list[tuple[str, str]]:
    category = CATEGORIES[record.category].name.in_language(("zh", "en")[language])
    rows = [
        (("档号", "Archival code")[language], record.archival_code),
        (("档案类别", "Category")[language], category),
        (("题名", "Title")[language], record.title),
        *[_party_row(one, language) for one in record.parties],
        (("形成日期", "Date")[language], record.date),
        (("责任者", "Responsible body")[language], record.responsible),
        (("证书字号", "Certificate no.")[language], record.certificate_no),
    ]
    return [row for row in rows if row[1]]


_ROLES = {
    "本人": "Person",
    "当事人": "Party",
    "男方": "Husband",
    "女方": "Wife",
    "父亲": "Father",
    "母亲": "Mother",
    "父母": "Parent",
    "子女": "Child",
    "户主": "Head of household",
    "成员": "Member",
    "家庭成员": "Household member",
    "申请人": "Applicant",
}
"""What records call people, where English has a word for it; other roles stay as written."""


def _party_row(party: Party, language: int) -> tuple[str, str]:
    role = _ROLES.get(party.role, party.role) if language else party.role
    number = ("，证件号码 ", ", ID no. ")[language] + party.shown_number if party.shown_number else ""
    return role, party.name + number


def _search_sheet(note: NoRecordNote, language: int) -> dict[str, Any]:
    name = note.subject.name
    lead = (
        f"经在下列范围内查询，截至{chinese_date(note.searched_on)}，查无{name}的相关档案记载。本证明仅就下列档案馆、目录与年份而言，不证明该事实未曾发生。",
        f"A search of the scope stated below, as of {note.searched_on}, found no record of {name}. This note speaks only of the archives, catalogues and years named here; it does not prove that the fact never happened.",
    )[language]
    category = CATEGORIES[note.category].name.in_language(("zh", "en")[language]) if note.category else ""
    years = f"{note.years[0]}–{note.years[1]}" if note.years else ("不限", "any")[language]
    rows = [
        (("查询对象", "Person")[language], _party_row(note.subject, language)[1]),
        (("所查姓名写法", "Forms of name searched")[language], ("、", ", ")[language].join(note.name_forms)),
        (("档案类别", "Category")[language], category or ("全部", "all")[language]),
        (("年份范围", "Years")[language], years),
    ]
    head = (
        ("档案馆", "查询的全宗或类别", "目录截至", "结果"),
        ("Archive", "Fonds or categories", "Index as of", "Result"),
    )
    return {
        "lead": lead,
        "rows": rows,
        "heading": ("查询范围与结果", "What was searched")[language],
        "table": {"head": head[language], "rows": [_archive_row(one, language) for one in note.archives]},
    }


def _archive_row(one: SearchedArchive, language: int) -> tuple[str, str, str, str]:
    if one.outcome == "empty":
        result = ("查无", "none found")[language]
    else:
        result = ("未查：", "not asked: ")[language] + _LEFT_OUT[one.reason][language]
    holdings = ("、", ", ")[language].join(one.holdings)
    return one.name, holdings or "—", one.index_date or "—", result
