"""`make demo`: the eight archives of Jiaxing and a gateway on this machine, and one whole exchange, step by step.

Search, case, review, certificate, verification. `--once` stops there; otherwise everything stays up until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from examples.jiaxing import exchange
from loadtest.fleet import Archive, Fleet, FleetError

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / ".demo"
PORT = 18080
_LOOK_EVERY_S = 1.0  # whether everything still runs

# 周羣軍 in the county's register, 周群军 in the city's copy, asked for as her own papers have it
QUESTION: dict[str, Any] = {
    "purpose": "marriage_proof",
    "category": "marriage",
    "applicant": {"relation": "SELF"},
    "subject": {"name": "周群军", "birth": "1967", "other_name": "石志步"},
    "event": {"from": "1988", "to": "1992", "place": "330483"},
    "scope": {"regions": ["3304"]},
}


def archives() -> list[Archive]:
    """The eight archives; two dial out to the gateway, as archives behind a firewall do."""
    rows = tomllib.loads((HERE / "archives.toml").read_text("utf-8"))["archive"]
    return [
        Archive(
            row["code"], row["name"], row.get("dials_in", False), row.get("deputy", ""), row.get("desk", "")
        )
        for row in rows
    ]


def catalogues(code: str) -> list[Path]:
    return [path for path in sorted((HERE / "catalogues").glob(f"{code}-*")) if "字段说明" not in path.name]


def import_all(fleet: Fleet) -> int:
    """Import every archive's catalogues; the number of records imported or unchanged."""
    total = 0
    for archive in fleet.archives:
        print(f"   {archive.code} {archive.name}")
        for path in catalogues(archive.code):
            mapping = ["--mapping", str(HERE / "330424-recruitment.toml")] if "招工录用" in path.name else []
            report = json.loads(
                fleet.node(
                    "import", str(path), "--data", str(fleet.data(archive.code)), "--json", *mapping
                ).splitlines()[-1]
            )
            taken = report["imported"] + report["updated"] + report["unchanged"]
            total += taken
            print(
                f"      {path.name}: 读 read {report['read']}, 入库 in {taken}, 拒收 rejected {report['rejected']},"
                f" 隔离 quarantined {report['quarantined']}, 非数据 skipped {report['skipped']}, 警告 warned {report['warned']}"
            )
    return total


def show(answer: dict[str, Any]) -> None:
    """Print an answer for people."""
    account = answer["completeness"]
    print(f"   结论 verdict: {account['verdict']} — {account['summary']}")
    print(
        f"   名录 roster {account['roster']}, 询问 asked {account['asked']}, 答复 answered {account['answered']}"
    )
    for one in account["outcomes"]:
        print(f"      {one['archive']}  {one['outcome']}{'  ' + one['reason'] if 'reason' in one else ''}")
    for one in answer["candidates"][:3]:
        print(
            f"   候选 candidate: {one['name']} {one['year']} {one['archive']} 分 {one['score']} {one['level']} {one['decision']}"
            f" 副本 copies {one['copies']}\n      {one['explanation']}"
        )


def search(fleet: Fleet) -> bool:
    """Whether the search found what it must, found it under a variant, and knew its copy."""
    print("3. 查询（姓名写法与登记册不同）· search, under a variant of the registered name")
    print("   " + json.dumps(QUESTION, ensure_ascii=False))
    began = time.perf_counter()
    status, answer = fleet.request("/v1/searches", QUESTION)
    print(f"   HTTP {status}, {1000 * (time.perf_counter() - began):.0f} ms")
    if status != 200:
        print(f"   {answer}")
        return False
    show(answer)
    best = answer["candidates"][0] if answer["candidates"] else {}
    return bool(
        answer["completeness"]["verdict"] == "complete"
        and best.get("archive") == "330483"
        and best.get("level") == "variant"
        and best.get("decision") == "likely"
        and "330400" in best.get("copies", [])
    )


def whole_exchange(fleet: Fleet, folder: Path) -> bool:
    """From the case to a certificate that verifies."""
    case_id = exchange.open_case(fleet, QUESTION)
    exchange.review(fleet, case_id)
    path = exchange.fetch_certificate(fleet, case_id, folder)
    return exchange.verify(fleet, path, "330483", folder) and exchange.reconcile(fleet, "330483")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.jiaxing.demo",
        description="在本机运行嘉兴八馆与网关，逐步演示一次完整的查档出证 · the eight archives of Jiaxing and a gateway on this machine, and one"
        " whole exchange step by step",
    )
    parser.add_argument("--once", action="store_true", help="一次交换后停止 · stop after one exchange")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="数据位置 · where the data goes (default .demo)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=PORT,
        help=f"网关端口 · port of the gateway (default {PORT}, or a free one)",
    )
    return parser


def main() -> int:
    args = _parser().parse_args()
    try:
        with alone(args.folder):
            return _run(args)
    except FleetError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The folder to itself, for as long as this lasts; FleetError when another demo has it. Nothing else is touched before."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FleetError(
                f"另一演示正在使用 {folder}，请先停止它或换 --folder · another demo is running in it: stop that one, or give another --folder"
            ) from None
        yield


def tell_ended(fleet: Fleet, told: set[str]) -> None:
    """Say of each process that has ended by itself which one it is; not again of those `told`."""
    names = {one.code: f" {one.name}" for one in fleet.archives}
    for name, status in fleet.ended().items():
        if name not in told:
            told.add(name)
            print(
                f"{name}{names.get(name, '')} 已退出 · has ended: {status}, 日志 log: {fleet.folder / name}.log",
                file=sys.stderr,
                flush=True,
            )


def _run(args: argparse.Namespace) -> int:
    fleet = Fleet(args.folder, archives(), port=args.port, documents=True)
    told: set[str] = set()
    try:
        print("1. 设置：证书、印章、八馆与网关 · certificates, seals, eight archives, a gateway")
        fleet.prepare()
        print("2. 导入目录 · import the catalogues")
        print(f"   共 {import_all(fleet)} 条 · records in all")
        fleet.start()
        done = search(fleet) and whole_exchange(fleet, args.folder)
        token = args.folder / "token"
        token.touch(0o600)
        token.write_text(fleet.mint_token())
        print("完成 · done" if done else "未得到应有的结果 · not what it must be")
        if args.once:
            return 0 if done else 1
        print(f"网关 gateway: {fleet.gateway_url}/docs    令牌 token: {token} (60 分钟 minutes)")
        print(f"核验页 page for checking a certificate: {fleet.gateway_url}/verify")
        print(
            "节点进程 node processes: "
            + ", ".join(f"{one.code}={fleet.agent_pid(one.code)}" for one in fleet.archives)
        )
        print("Ctrl-C 停止 · Ctrl-C stops everything")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        while True:
            time.sleep(_LOOK_EVERY_S)
            tell_ended(fleet, told)
    except FleetError:
        tell_ended(fleet, told)
        raise
    except KeyboardInterrupt:
        print()
        return 0
    finally:
        fleet.stop()


if __name__ == "__main__":
    sys.exit(main())
