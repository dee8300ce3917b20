"""`lantai-node doctor`: every check in its order, a line each, and the exit status."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from node_agent import settings as settings_module
from node_agent.doctor import files, network, trust
from node_agent.doctor.findings import Check, Finding, Installation, Result, wrong
from node_agent.index.folder import DataFolder
from node_agent.settings import SettingsError

CHECKS: dict[str, tuple[str, Check]] = {
    "settings": ("设置", trust.tables),
    "modes": ("权限", files.modes),
    "disk": ("磁盘", files.disk),
    "databases": ("数据库", files.stores),
    "restored": ("恢复", files.restored),
    "index": ("索引", files.index),
    "hours": ("服务时间", trust.hours),
    "certificate": ("TLS 证书", trust.certificate),
    "desk_certificate": ("审核台证书", trust.desk_certificate),
    "keys": ("密钥", trust.keys),
    "trust_list": ("信任名录", trust.trust_list),
    "revocation_lists": ("吊销列表", trust.revocation_lists),
    "fonts": ("字体", trust.fonts),
    "ports": ("端口", network.ports),
    "gateways": ("网关", network.gateways),
    "clock": ("时钟", network.clock),
}
"""Name -> (in Chinese, check), in the order in which they are made."""

_WORDS = {
    Result.OK: "正常 ok",
    Result.WARNING: "注意 warning",
    Result.WRONG: "有误 wrong",
    Result.NOT_CHECKED: "未查 not checked",
}


def configure_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")
    parser.add_argument(
        "--json", action="store_true", help="输出一个 JSON 对象 · print one JSON object instead"
    )


def run_doctor(args: argparse.Namespace) -> int:
    """Exit 1 when something is wrong; a warning alone is 0."""
    folder = Path(args.data)
    running = DataFolder(folder).is_served()
    found = list(examined(folder, running=running, now=datetime.now(UTC)))
    if args.json:
        print(json.dumps(_account(running, found), ensure_ascii=False))
    else:
        print("节点在运行 · the agent runs" if running else "节点未运行 · the agent does not run")
        for name, one in found:
            print(f"{_WORDS[one.result]:<18}{CHECKS[name][0]} {name}: {one.found}")
            if one.to_do:
                print(f"{'':<18}→ {one.to_do}")
    return int(any(one.result is Result.WRONG for _name, one in found))


def examined(folder: Path, *, running: bool, now: datetime) -> Iterator[tuple[str, Finding]]:
    """What every check finds. Without settings nothing else can be looked at."""
    try:
        settings = settings_module.load(folder)
    except SettingsError as error:
        yield "settings", wrong(str(error))
        for name in list(CHECKS)[1:]:
            yield (
                name,
                Finding(Result.NOT_CHECKED, "没有设置无从查起 · can not be looked at without settings"),
            )
        return
    at = Installation(folder, settings, running, now)
    for name, (_title, check) in CHECKS.items():
        try:
            yield from ((name, one) for one in check(at))
        except Exception as error:  # its text may quote what a file holds
            yield name, wrong(f"检查未能完成 · the check could not be made: {type(error).__name__}")


def _account(running: bool, found: list[tuple[str, Finding]]) -> dict[str, object]:
    return {
        "running": running,
        "wrong": sum(one.result is Result.WRONG for _name, one in found),
        "warnings": sum(one.result is Result.WARNING for _name, one in found),
        "checks": [
            {"check": name, "result": one.result.value, "found": one.found, "to_do": one.to_do}
            for name, one in found
        ],
    }
