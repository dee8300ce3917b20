"""`lantai-node import`: catalogue files into the archive's index, with an account of every row."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federation.categories import CATEGORIES
from federation.process.output import silence
from node_agent.catalogue.files import CatalogueFile, FileReport, name_of, unmapped_told
from node_agent.catalogue.findings import SEVERITY, TEXTS, Finding
from node_agent.catalogue.findings_file import FindingsFile
from node_agent.catalogue.mapping import Mapping, MappingError, load
from node_agent.catalogue.tables import NotACatalogueError
from node_agent.duplicates import Duplicates
from node_agent.index import (
    ImportRefusedError,
    Part,
    SourceCounts,
    Writing,
    open_for_import,
    open_for_preview,
)
from node_agent.index.folder import POINTER
from node_agent.record import Record, Records, one_by_one

if TYPE_CHECKING:
    from node_agent.catalogue.quality import Quality

SETTINGS_FILE = "archive.toml"  # node_agent.settings.FILE: loading all of that takes as long as 5,000 rows
COUNTS = ("read", "imported", "updated", "unchanged", "rejected", "quarantined", "skipped", "warned")


def configure_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="目录文件：XLSX XLS CSV TSV DBF HTML，定长文本须 --mapping · catalogues; fixed-width text needs --mapping",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")
    parser.add_argument(
        "--category", choices=list(CATEGORIES), metavar="KEY", help=f"类别 · one of {', '.join(CATEGORIES)}"
    )
    parser.add_argument(
        "--mapping", metavar="FILE.toml", help="字段映射 · what the headings mean, where they do not say"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="只检查，不写索引，告知导入会改动什么 · judge the files and tell what an import would do; write nothing",
    )
    parser.add_argument(
        "--new",
        action="store_true",
        help="数据目录是新的，虽与旁边某馆的目录名相近 · the folder is a new one, although one beside it has nearly its name",
    )
    parser.add_argument(
        "--reports",
        metavar="DIR",
        help="逐行报告的目录，默认数据目录下 reports；试运行时不给则不写 ·"
        " where the row-by-row findings go; by default DATA/reports, and of a dry run nowhere",
    )
    parser.add_argument(
        "--allow-removal",
        action="store_true",
        help="允许移除本文件的大部分记录 · let a file take away more than a fifth of its records",
    )
    parser.add_argument(
        "--allow-duplicate",
        action="store_true",
        help="允许内容相同或大多相同的文件以另一名称再次导入 · let the same content, or most of it, in under another name",
    )
    parser.add_argument(
        "--json", action="store_true", help="最后一行输出 JSON · the last line is a JSON object"
    )


def run_import(args: argparse.Namespace) -> int:
    """Import each file, all or nothing of it. Exit 1 when a file could not be imported, or in a dry run would not be; the
    others still are.
    """
    os.umask(0o077)  # the index holds people's names and numbers
    gc.disable()  # rows make no cycles, and looking for some takes an eighth of the time
    folder = Path(args.data)
    try:
        mapping = load(Path(args.mapping)) if args.mapping else Mapping()
    except MappingError as error:
        return _fail(str(error))
    known = _is_archive(folder)
    if not known and not args.new and (meant := _meant(folder)):
        return _fail(_mistyped(folder, meant))
    division = _division_of(folder)
    totals = dict.fromkeys(COUNTS, 0)
    files: list[dict[str, Any]] = []
    names: set[str] = set()
    duplicates = Duplicates(keeps=args.dry_run and len(args.files) > 1)
    failed = False
    for name in args.files:
        path = Path(name)
        shown = name_of(path)
        try:
            if shown in names:
                raise ImportRefusedError(_SAME_NAME)  # noqa: TRY301
            names.add(shown)
            done = _import_one(path, folder, mapping, args, division, duplicates)
        except (NotACatalogueError, ImportRefusedError, OSError) as error:
            failed = True
            said = str(error) if not isinstance(error, OSError) else f"{_NO_FOLDER}: {error.strerror}"
            print(f"{shown}: {said}", file=sys.stderr)
            files.append({"file": shown, "error": said})
            continue
        if "error" in done:  # a dry run has told what it would have done all the same
            failed = True
            print(f"{shown}: {done['error']}", file=sys.stderr)
        files.append(done)
        for key in COUNTS:
            totals[key] += done[key]
    begun = not known and _is_archive(folder)
    with _unheard():
        if args.json:
            print(json.dumps({**totals, "new_archive": begun, "files": files}, ensure_ascii=False))
        elif begun:
            print(_begun(folder))
    return 1 if failed else 0


@contextmanager
def _unheard() -> Iterator[None]:
    """Whoever reads the output may leave before its end, as `head` does: that neither fails the import nor ends it."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        silence()


def _is_archive(folder: Path) -> bool:
    """Whether a folder is the data folder of an archive: prepared by `lantai-node init`, or imported into before."""
    return (folder / SETTINGS_FILE).exists() or (folder / POINTER).exists()


def _meant(folder: Path) -> str:
    """The folder of an archive beside this one, of nearly the same name; "" when there is none."""
    folder = folder.absolute()
    try:
        others = [path.name for path in folder.parent.iterdir() if (path / SETTINGS_FILE).exists()]
    except OSError:
        return ""
    return next(iter(get_close_matches(folder.name, others, n=1)), "")


def _mistyped(folder: Path, meant: str) -> str:
    return (
        f"{folder} 不是档案馆的数据目录，其旁有“{meant}”；是否写错？未作任何改动。确需新建请先运行 lantai-node init，或加 --new ·"
        f" {folder} is no archive's data folder, but beside it stands {meant}: is it that one? Nothing was changed."
        " To begin a new archive run lantai-node init first, or give --new"
    )


def _begun(folder: Path) -> str:
    return (
        f"注意：{folder} 原先没有档案馆，已在此新建索引和密钥；用其他目录运行的节点查不到这些记录。尚须 lantai-node init 后才能运行 ·\n"
        f"  note: there was no archive in {folder}; an index with a key of its own was begun here, and an agent that runs over"
        " another folder does not see it. It needs lantai-node init before it can run"
    )


_SAME_NAME = (
    "同名文件已在本次导入；文件以名称区分，同名者会替换前者的记录，请改名 ·"
    " a file of this name was just imported; files are known by their names, and this one would replace its records: rename it"
)
_NO_FOLDER = "数据目录无法读写 · the data folder can not be read or written"


def _fail(message: str) -> int:
    print(f"lantai-node import: {message}", file=sys.stderr)
    return 1


def _division_of(folder: Path) -> str:
    if not (folder / SETTINGS_FILE).exists():
        return ""
    from node_agent.settings import SettingsError
    from node_agent.settings import load as load_settings

    try:
        return load_settings(folder).archive
    except SettingsError:
        return ""


def _import_one(
    path: Path,
    folder: Path,
    mapping: Mapping,
    args: argparse.Namespace,
    division: str,
    duplicates: Duplicates,
) -> dict[str, Any]:
    name = name_of(path)
    refused: list[str] = []

    def refuse(message: str) -> None:
        """An import ends here; a dry run goes on and tells it at the end."""
        if not args.dry_run:
            raise ImportRefusedError(message)
        refused.append(message)

    def agree(counts: SourceCounts) -> None:
        if not (args.allow_duplicate or refused) and (why := duplicates.of_records(index, name, passing)):
            refuse(why)
        if not args.allow_removal and counts.removed > max(_FEW, counts.before * _FAIR_SHARE):
            refuse(_removal(counts, file.report.total("quarantined")))

    reports_folder = Path(args.reports) if args.reports else None if args.dry_run else folder / "reports"
    opened: Callable[[Path], AbstractContextManager[Writing]] = (
        open_for_preview if args.dry_run else open_for_import
    )
    if not args.dry_run:
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # before the report: of two imports at once, the second must not touch what the first is writing
        index = stack.enter_context(opened(folder))
        findings = stack.enter_context(FindingsFile(reports_folder, name))
        file = CatalogueFile(
            path, mapping=mapping, category=args.category or "", division=division, report=findings.take
        )
        digest = file.digest()
        if not args.allow_duplicate and (why := duplicates.of_bytes(index, name, digest)):
            refuse(why)
        passing = duplicates.passing(index, name)
        progress = stack.enter_context(_progress(name)) if _shows_progress(args) else _no_progress
        quality = _new_quality() if args.dry_run else None
        parts = file.parts(progress) if quality is None else _judged(file.parts(progress), quality)
        counts = index.put(name, digest, passing.parts(parts), agree)
        findings.keep()
    duplicates.add(name, digest, passing)
    done = _summary(file.report, counts, findings)
    done["unmapped"] = list(file.unmapped)
    if refused:
        done["error"] = " ".join(refused)
    if not args.json:
        with _unheard():
            _print(file.report, done, dry=args.dry_run)
            if quality is not None:
                quality.print()
    return done


_FEW = 20
"""Records a file may always lose: as many as somebody looks through by hand."""

_FAIR_SHARE = 0.2
"""Of its records a file may lose: corrections take away some in a hundred, and in a catalogue cut short, or read in a wrong
encoding, most are missing.
"""


def _removal(counts: SourceCounts, quarantined: int) -> str:
    zh = f"，本次有 {quarantined} 行被隔离" if quarantined else ""
    en = f" ({quarantined} rows of it are quarantined)" if quarantined else ""
    return (
        f"该文件已有 {counts.before} 条记录，导入将移除其中 {counts.removed} 条{zh}；未作任何改动。"
        "请核对文件是否完整、编码是否正确，确需移除请加 --allow-removal ·"
        f" the import would take away {counts.removed} of the {counts.before} records this file has{en}; nothing was changed."
        " See whether the file is whole and its encoding right; if this is meant, give --allow-removal"
    )


def _new_quality() -> Quality:
    from node_agent.catalogue.quality import Quality

    return Quality()


def _judged(parts: Iterator[Part], quality: Quality) -> Iterator[Part]:
    """The same parts, each record counted as it passes."""

    def seen(records: Iterable[Record | Records]) -> Iterator[Record]:
        for record in one_by_one(records):
            quality.take(record)
            yield record

    for part in parts:
        yield Part(part.name, part.headings, seen(part.records))


def _summary(report: FileReport, counts: SourceCounts, findings: FindingsFile) -> dict[str, Any]:
    return {
        "file": report.file,
        "category": report.category,
        "read": report.total("read"),
        "imported": counts.imported,
        "updated": counts.updated,
        "unchanged": counts.unchanged,
        "removed": counts.removed,
        "rejected": report.total("rejected"),
        "quarantined": report.total("quarantined"),
        "skipped": report.total("skipped"),
        "warned": report.total("warned"),
        "deleted_records": report.reasons().get(Finding.DELETED.value, 0),
        "reasons": report.reasons(),
        "tables": [
            {
                "table": table.name,
                "read": table.read,
                "taken": table.taken,
                "rejected": table.rejected,
                "quarantined": table.quarantined,
                "skipped": table.skipped,
                "warned": table.warned,
            }
            for table in report.tables
        ],
        "report": str(findings.path) if findings.rows and findings.path is not None else None,
    }


def _print(report: FileReport, done: dict[str, Any], *, dry: bool) -> None:
    first_zh, first_en = ("试运行，未写入。", "dry run, nothing was written. ") if dry else ("", "")
    print(
        f"{report.file}（{report.category}）: {first_zh}读 {done['read']} 行，新增 {done['imported']}，更新 {done['updated']}，"
        f"未变 {done['unchanged']}，移除 {done['removed']}，"
        f"拒收 {done['rejected']}，隔离 {done['quarantined']}，非数据行 {done['skipped']}，带警告 {done['warned']}\n"
        f"  {first_en}read {done['read']}, imported {done['imported']}, updated {done['updated']}, unchanged {done['unchanged']}, "
        f"removed {done['removed']}, "
        f"rejected {done['rejected']}, quarantined {done['quarantined']}, skipped {done['skipped']}, warned {done['warned']}"
    )
    for reason, number in done["reasons"].items():
        finding = Finding(reason)
        print(f"    {number:6d}  {SEVERITY[finding].value:<11}  {TEXTS[finding].zh} · {TEXTS[finding].en}")
    if done["unmapped"]:
        print(f"  {unmapped_told(tuple(done['unmapped']))}")
    if done["report"]:
        print(f"  逐行报告 · row by row: {done['report']}")


def _shows_progress(args: argparse.Namespace) -> bool:
    return not args.json and sys.stderr.isatty()


def _no_progress() -> None:
    """Nobody watches."""


@contextmanager
def _progress(name: str) -> Iterator[Callable[[], None]]:
    """A progress bar; what it gives is to be called every thousand records."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} 条 records"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(name, total=None)
        yield lambda: bar.advance(task, 1000)
