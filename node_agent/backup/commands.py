"""`lantai-node backup`: what the command is given and what it tells."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from node_agent.backup.copying import Advance
from node_agent.backup.making import Begin, back_up
from node_agent.backup.manifest import Manifest
from node_agent.backup.refusals import BackupRefusedError


def configure_backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")
    parser.add_argument(
        "--to",
        required=True,
        metavar="TARGET",
        help="备份的名字：一个尚不存在的文件夹，或以 .tar 结尾的文件 · a folder that is not there yet, or a file named .tar",
    )
    parser.add_argument(
        "--json", action="store_true", help="输出一个 JSON 对象 · print one JSON object instead"
    )


def run_backup(args: argparse.Namespace) -> int:
    """Exit 1 with the reason when none was made; nothing is left of it then."""
    os.umask(0o077)  # people's names and numbers, and every key of the archive
    target = Path(os.path.abspath(args.to))  # noqa: PTH100 - where it leads is not asked, it may not be there
    try:
        with _progress() as begin:
            made = back_up(Path(args.data), target, begin)
    except BackupRefusedError as error:
        if args.json:
            print(json.dumps({"backup": None, "reason": error.why, "error": str(error)}, ensure_ascii=False))
        print(f"lantai-node backup: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(_account(target, made), ensure_ascii=False))
    else:
        _print(target, made)
    return 0


def _account(target: Path, made: Manifest) -> dict[str, object]:
    return {
        "backup": str(target),
        "at": made.at,
        "archive": made.archive,
        "files": len(made.files),
        "bytes": made.size,
        "left_out": made.left_out,
        "outside": made.outside,
        "flaws": made.flaws,
    }


def _print(target: Path, made: Manifest) -> None:
    print(f"已备份并核对 · backed up and verified: {target}")
    print(f"  数据库截至 · databases as of {made.at}；文件 files {len(made.files)}，字节 bytes {made.size:,}")
    for told, lines in (
        ("未收入（指向别处的链接） · not in it, a link to elsewhere", made.left_out),
        ("未收入（设置所指，在数据目录之外） · not in it, a setting's file outside the folder", made.outside),
        ("原文件有缺损，备份亦然 · flawed already, and so in the backup", made.flaws),
    ):
        for line in lines:
            print(f"  {told}: {line}")
    print("内含私钥与个人信息，请妥善保管 · it holds the private keys and people's records: keep it as such")


@contextlib.contextmanager
def _progress() -> Iterator[Begin]:
    """A bar for each part where somebody watches."""
    if not sys.stderr.isatty():
        yield lambda _what, _size: lambda _part: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:

        def begin(what: str, size: int) -> Advance:
            task = bar.add_task(what, total=size)
            return lambda part: bar.advance(task, part)

        yield begin
