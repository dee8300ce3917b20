"""Erasing by an operator: what `lantai-gateway evidence erase` and `lantai-node evidence erase` have in common.

A log has one writer, so its process is stopped meanwhile; a dry run only reads, and goes beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from federation.tlog.event import EventKind
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.log import EvidenceLog
from federation.tlog.note import SecondSigner, Signer
from federation.tlog.reader import Entry, LogReader

SUMMARY = (
    "清除一个请求各事件的内容与盐，日志仍可核验；先停止写日志的进程"
    " · erase contents and salts of a request's events; the log stays verifiable. Stop the process that writes it first"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of the command, but for where the log is."""
    parser.add_argument(
        "request",
        nargs="?",
        default="",
        metavar="CASE",
        help="案件编号；省略则指不属于任何案件的事件 · the case; left out: events that belong to none",
    )
    parser.add_argument(
        "--event",
        dest="ids",
        action="append",
        default=[],
        metavar="ID",
        help="只清除这些事件，可多次；省略案件时必给 · only these events; may repeat; needed without a case",
    )
    parser.add_argument(
        "--reason",
        required=True,
        metavar="WORD",
        help="原因，一个小写英文词，如 retention；将入账 · why, one lower-case word such as retention; it is logged",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="只列出将清除的事件，不改动 · only tell which events would be erased; change nothing",
    )
    parser.add_argument("--json", action="store_true", help="输出 JSON · print JSON")


def run(path: Path, signer: Signer, second: SecondSigner | None, options: argparse.Namespace) -> int:
    """Erase, and sign the log as it is then; 0 once nothing of what was named is left, 2 when nothing was named.

    EvidenceError, with nothing erased: a named event or the whole case is not in the log (`unknown_entry`), the reason is no
    word (`malformed_event`), another process writes the log (`log_in_use`).
    """
    if not options.request and not options.ids:
        print("erase: 须给出 CASE 或 --event · give CASE or --event", file=sys.stderr)
        return 2
    with LogReader(path) as reader:  # a writer would make the file where there is none
        left = _left(reader, options.request, options.ids)
    if not options.dry_run and left:
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        log = EvidenceLog(path, signer, second)
        try:
            log.erase(options.request, options.reason, now_ms, [entry.id for entry in left])
            log.checkpoint(now_ms, gap_ms=0)
        finally:
            log.close()
    _tell(left, options)
    return 0


def _left(reader: LogReader, request: str, ids: Sequence[str]) -> list[Entry]:
    """The entries named whose contents are still there."""
    if ids:
        named = []
        for one in ids:
            entry = reader.entry(one, request)
            if entry is None:
                raise EvidenceError(Flaw.UNKNOWN_ENTRY, one)
            named.append(entry)
    else:
        named = reader.of_request(request)
        if not named:
            raise EvidenceError(Flaw.UNKNOWN_ENTRY, request)
    return [one for one in named if not one.is_erased and one.kind != EventKind.ERASED.value]


def _tell(entries: Sequence[Entry], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps({"dry_run": options.dry_run, "erased": [one.id for one in entries]}))
        return
    for one in entries:
        when = datetime.fromtimestamp(one.at_ms / 1000, UTC).isoformat(timespec="seconds")
        print(f"{one.id}  {one.kind}  {when}")
    if options.dry_run:
        print(f"试运行，未改动；将清除 {len(entries)} 条 · dry run: {len(entries)} would be erased")
    elif entries:
        print(
            f"已清除 {len(entries)} 条的内容与盐；编号、种类、时间保留，以前的备份里仍有内容"
            f" · erased contents and salts of {len(entries)}; id, kind and time stay. Earlier backups still hold the contents"
        )
    else:
        print("此前均已清除 · all had been erased before")
