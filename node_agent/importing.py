"""`lantai-node import`: catalogue files into the archive's index, with an account of every row."""

from __future__ import annotations

import argparse
import csv
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Self

from federation.categories import CATEGORIES
from node_agent.catalogue.files import CatalogueFile, FileReport, name_of
from node_agent.catalogue.findings import SEVERITY, TEXTS, Finding, RowFinding, Severity
from node_agent.catalogue.mapping import Mapping, MappingError, load
from node_agent.catalogue.tables import NotACatalogueError
from node_agent.index import ImportRefusedError, SourceCounts, open_for_import
from node_agent.record import one_by_one

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
        "--dry-run", action="store_true", help="只检查，不写索引 · judge the files, write nothing"
    )
    parser.add_argument(
        "--json", action="store_true", help="最后一行输出 JSON · the last line is a JSON object"
    )


def run_import(args: argparse.Namespace) -> int:
    """Import each file, all or nothing of it. Exit 1 when a file could not be imported; the others still are."""
    os.umask(0o077)  # the index holds people's names and numbers
    gc.disable()  # rows make no cycles, and looking for some takes an eighth of the time
    folder = Path(args.data)
    try:
        mapping = load(Path(args.mapping)) if args.mapping else Mapping()
    except MappingError as error:
        return _fail(str(error))
    division = _division_of(folder)
    totals = dict.fromkeys(COUNTS, 0)
    files: list[dict[str, Any]] = []
    given: set[str] = set()
    failed = False
    for name in args.files:
        path = Path(name)
        shown = name_of(path)
        try:
            if shown in given:
                raise ImportRefusedError(_SAME_NAME)  # noqa: TRY301
            given.add(shown)
            done = _import_one(path, folder, mapping, args, division)
        except (NotACatalogueError, ImportRefusedError, OSError) as error:
            failed = True
            said = str(error) if not isinstance(error, OSError) else f"{_NO_FOLDER}: {error.strerror}"
            print(f"{shown}: {said}", file=sys.stderr)
            files.append({"file": shown, "error": said})
            continue
        files.append(done)
        for key in COUNTS:
            totals[key] += done[key]
    if args.json:
        print(json.dumps({**totals, "files": files}, ensure_ascii=False))
    return 1 if failed else 0


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
    path: Path, folder: Path, mapping: Mapping, args: argparse.Namespace, division: str
) -> dict[str, Any]:
    if not args.dry_run:
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # before the report: of two imports at once, the second must not touch what the first is writing
        importer = None if args.dry_run else stack.enter_context(open_for_import(folder))
        reports = stack.enter_context(_Reports(folder, name_of(path), write=not args.dry_run))
        file = CatalogueFile(
            path, mapping=mapping, category=args.category or "", division=division, report=reports.take
        )
        progress = stack.enter_context(_progress(name_of(path))) if _shows_progress(args) else _no_progress
        if importer is None:
            from node_agent.catalogue.quality import Quality

            counts = SourceCounts()
            quality = Quality()
            for part in file.parts(progress):
                for record in one_by_one(part.records):
                    quality.take(record)
                    counts.imported += 1
        else:
            quality = None
            counts = importer.put(file.name, file.digest(), file.parts(progress))
        reports.keep()
    done = _summary(file.report, counts, reports)
    if not args.json:
        _print(file.report, done, reports)
        if quality is not None:
            quality.print()
    return done


def _summary(report: FileReport, counts: SourceCounts, reports: _Reports) -> dict[str, Any]:
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
        "report": str(reports.path) if reports.rows else None,
    }


def _print(report: FileReport, done: dict[str, Any], reports: _Reports) -> None:
    print(
        f"{report.file}（{report.category}）: 读 {done['read']} 行，新增 {done['imported']}，更新 {done['updated']}，未变 {done['unchanged']}，"
        f"拒收 {done['rejected']}，隔离 {done['quarantined']}，非数据行 {done['skipped']}，带警告 {done['warned']}\n"
        f"  read {done['read']}, imported {done['imported']}, updated {done['updated']}, unchanged {done['unchanged']}, "
        f"rejected {done['rejected']}, quarantined {done['quarantined']}, skipped {done['skipped']}, warned {done['warned']}"
        + (f", removed {done['removed']}" if done["removed"] else "")
    )
    for reason, number in done["reasons"].items():
        finding = Finding(reason)
        print(f"    {number:6d}  {SEVERITY[finding].value:<11}  {TEXTS[finding].zh} · {TEXTS[finding].en}")
    if reports.rows:
        print(f"  逐行报告 · row by row: {reports.path}")


class _Reports:
    """The CSV of all findings, row by row: written beside, put in place only when the import is done."""

    def __init__(self, folder: Path, name: str, *, write: bool) -> None:
        self.path = folder / "reports" / f"{name}.findings.csv"
        self.rows = 0
        self._write = write
        self._handle: IO[str] | None = None
        self._part = self.path.with_name(self.path.name + ".part")

    def __enter__(self) -> Self:
        if self._write:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = self._part.open("w", encoding="utf-8-sig", newline="")
            self._csv = csv.writer(self._handle)
            self._csv.writerow(
                [
                    "文件 file",
                    "表 sheet",
                    "行 row",
                    "处理 outcome",
                    "字段 field",
                    "原因 reason",
                    "说明",
                    "meaning",
                    "详情 detail",
                ]
            )
        self._file = self.path.name.removesuffix(".findings.csv")
        return self

    def take(self, found: RowFinding) -> None:
        if SEVERITY[found.finding] is Severity.SKIPPED:
            return
        self.rows += 1
        if self._handle is not None:
            text = TEXTS[found.finding]
            self._csv.writerow(
                [
                    self._file,
                    found.table,
                    found.row,
                    SEVERITY[found.finding].value,
                    found.field,
                    found.finding.value,
                    text.zh,
                    text.en,
                    found.detail,
                ]
            )

    def keep(self) -> None:
        """The import is done: this report replaces the last one."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
            self._part.replace(self.path)

    def __exit__(self, *_error: object) -> None:
        if self._handle is not None:
            self._handle.close()
            self._part.unlink(missing_ok=True)


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
