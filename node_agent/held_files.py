"""`lantai-node files` and `lantai-node remove`: which files an index was made of, and a whole one taken out of it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from federation.process.os_errors import said
from federation.process.output import silence
from node_agent.catalogue.files import name_of
from node_agent.catalogue.findings_file import discard
from node_agent.index import HeldFile, ImportRefusedError, open_for_import, open_for_preview
from node_agent.index.folder import POINTER

_NAMED = 20  # names told with one that is unknown; more are for `files`


def configure_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")
    parser.add_argument(
        "--json", action="store_true", help="输出一个 JSON 对象 · print one JSON object instead"
    )


def run_files(args: argparse.Namespace) -> int:
    """Tell each file of the index in one line. Exit 1 when there is no index or it can not be used."""
    folder = Path(args.data)
    try:
        files = _held(folder)
    except _ERRORS as error:
        return _fail("files", _why(error))
    if args.json:
        print(
            json.dumps(
                {
                    "records": sum(file.records for file in files),
                    "files": [
                        {
                            "file": file.name,
                            "records": file.records,
                            "categories": file.categories,
                            "digest": file.digest.hex(),
                            "tables": [
                                {"table": table.name, "records": sum(table.records.values())}
                                for table in file.tables
                            ],
                        }
                        for file in files
                    ],
                },
                ensure_ascii=False,
            )
        )
        return 0
    for file in files:
        print(
            f"{file.name}  记录 records {file.records}{_by_category(file)}  表 tables {_tables(file)}"
            f"  BLAKE2b-128 {file.digest.hex()}"
        )
    print(f"合计 in all: 文件 files {len(files)}，记录 records {sum(file.records for file in files)}")
    return 0


def configure_remove(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="文件名，如 lantai-node files 所列 · names of files, as lantai-node files tells them",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="只告知将移除什么，不改动 · tell what would be taken out; write nothing",
    )
    parser.add_argument(
        "--allow-removal",
        action="store_true",
        help="确认移除；不给则不作改动 · it is meant: without it nothing is changed",
    )
    parser.add_argument(
        "--json", action="store_true", help="最后一行输出 JSON · the last line is a JSON object"
    )


def run_remove(args: argparse.Namespace) -> int:
    """Take each file out, all or nothing of it. Exit 1 when that was not done: a name is unknown, or it was not said that
    this is meant; nothing was changed then, of any file.
    """
    os.umask(0o077)  # the index holds people's names and numbers
    folder = Path(args.data)
    names = list(dict.fromkeys(name_of(Path(name)) for name in args.files))
    done: list[dict[str, Any]] = []
    try:
        held = {file.name: file for file in _held(folder)}
        refused = {name: _unknown(name, list(held)) for name in names if name not in held}
        if not (refused or args.allow_removal or args.dry_run):
            refused = {name: _unsaid(held[name].records) for name in names}
        if not refused:
            with (open_for_preview if args.dry_run else open_for_import)(folder) as index:
                for name in names:
                    removed = index.remove(name).removed
                    report = None if args.dry_run else discard(folder / "reports", name)
                    done.append(_account(held[name], removed, report))
    except _ERRORS as error:
        return _fail("remove", _why(error))
    for name, why in refused.items():
        print(f"{name}: {why}", file=sys.stderr)
    left = [file for name, file in held.items() if not done or name not in names]
    try:
        _tell(args, done, refused, left, _categories(held.values()) - _categories(left))
        sys.stdout.flush()
    except BrokenPipeError:  # who reads the output may leave before its end: what was done is done
        silence()
    return 1 if refused else 0


def _tell(
    args: argparse.Namespace,
    done: list[dict[str, Any]],
    refused: dict[str, str],
    left: list[HeldFile],
    gone: set[str],
) -> None:
    """What was done and what is left; `gone` are the categories of which no record is."""
    records = sum(file.records for file in left)
    if args.json:
        told = {
            "removed": sum(one["removed"] for one in done),
            "records": records,
            "categories_gone": sorted(gone),
            "files": [*done, *({"file": name, "error": why} for name, why in refused.items())],
        }
        print(json.dumps(told, ensure_ascii=False))
        return
    for one in done:
        _print(one, dry=args.dry_run)
    if done and not records:
        print(_EMPTY)
    elif gone:
        print(_CATEGORIES_GONE.format(gone=", ".join(sorted(gone))))


_EMPTY = (
    "  注意：索引中再无记录。节点对查询答复“尚未导入目录”，联邦查询因此不完整，直至再次导入 ·\n"
    "  note: the index has no record left. The agent answers that nothing was imported, and searches of the federation are"
    " partial for it, until something is"
)
_CATEGORIES_GONE = (
    "  注意：索引中再无此类记录：{gone}。联邦查询不再就此询问本馆，并视本馆无此类档案 ·\n"
    "  note: the index has no record left of: {gone}. Searches of the federation for these leave this archive out, as one that holds"
    " none"
)


def _held(folder: Path) -> list[HeldFile]:
    """The files of the index; ImportRefusedError when there is none."""
    if not (folder / POINTER).exists():
        raise ImportRefusedError(_NOTHING)
    with open_for_preview(folder) as index:
        return index.files()


_NOTHING = "尚未导入目录，请先运行 lantai-node import · nothing imported yet; run lantai-node import first"
_ERRORS = (ImportRefusedError, OSError)


def _why(error: ImportRefusedError | OSError) -> str:
    if isinstance(error, OSError):
        return f"数据目录无法读写 · the data folder can not be read or written: {said(error)}"
    return str(error)


def _fail(command: str, message: str) -> int:
    print(f"lantai-node {command}: {message}", file=sys.stderr)
    return 1


def _unknown(name: str, names: Sequence[str]) -> str:
    """That a name is none of the index, and which there are, the nearest first where they are many."""
    if not names:
        return "索引中没有文件；未作任何改动 · the index holds no file; nothing was changed"
    told = list(names) if len(names) <= _NAMED else [*get_close_matches(name, names, n=_NAMED, cutoff=0), "…"]
    return (
        f"索引中没有此文件，未作任何改动；有 {len(names)} 个 · the index holds no such file, nothing was changed;"
        f" it holds {len(names)}: {', '.join(told)}"
    )


def _unsaid(records: int) -> str:
    return (
        f"将移除其全部 {records} 条记录；未作任何改动，确需移除请加 --allow-removal ·"
        f" all its {records} records would be taken out; nothing was changed. If this is meant, give --allow-removal"
    )


def _account(file: HeldFile, removed: int, report: Path | None) -> dict[str, Any]:
    return {
        "file": file.name,
        "removed": removed,
        "categories": file.categories,
        "report": str(report) if report is not None else None,
    }


def _print(done: dict[str, Any], *, dry: bool) -> None:
    zh, en = (
        ("试运行，未改动。将移除", "dry run, nothing was changed. Would remove")
        if dry
        else ("移除", "removed")
    )
    print(f"{done['file']}: {zh} {done['removed']} 条记录\n  {en} {done['removed']} records")
    if done["report"]:
        print(f"  逐行报告一并删除 · its row by row findings went with it: {done['report']}")


def _categories(files: Iterable[HeldFile]) -> set[str]:
    return {category for file in files for category in file.categories}


def _by_category(file: HeldFile) -> str:
    counted = ", ".join(f"{category} {count}" for category, count in sorted(file.categories.items()))
    return f" ({counted})" if counted else ""


def _tables(file: HeldFile) -> str:
    """How many, and of several what each holds."""
    if len(file.tables) == 1:
        return "1"
    each = ", ".join(f"{table.name} {sum(table.records.values())}" for table in file.tables)
    return f"{len(file.tables)} ({each})"
