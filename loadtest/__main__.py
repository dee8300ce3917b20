"""`python -m loadtest PLAN` (make load PLAN=smoke): run a plan, write its report, pass or fail by its targets.

Without --url a fleet of its own comes up: the eight Jiaxing archives with their catalogues.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import aiohttp

from loadtest import report
from loadtest.days import report as day_report
from loadtest.days import scenario
from loadtest.driver import Result, http_sender, judged, run
from loadtest.fleet import Fleet, FleetError
from loadtest.plan import Fault, Plan, PlanError, load
from loadtest.questions import Questions

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> int:
    """Exit status 0 when every target is met, 1 when one is missed, 2 when the plan could not be run."""
    args = _parser().parse_args()
    try:
        if scenario.is_day(args.plan):
            return 0 if day_report.run(scenario.load(args.plan), args.out) else 1
        plan = load(args.plan)
        result = _against(plan, args) if args.url else _own_fleet(plan)
    except (PlanError, FleetError, ValueError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 2
    rows = judged(result.measured(), plan.targets)
    path = report.write(plan, result, rows, args.out)
    for name, wanted, got, held in rows:
        print(
            f"  {'达到 met   ' if held else '未达 missed'}  {name:<20} {got:10.4g}  (目标 target {wanted:g})"
        )
    print(f"{len(result.points)} 个请求 requests; 报告 report: {path}")
    return 0 if all(held for *_rest, held in rows) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest",
        description="运行压测计划并写报告，按指标判定通过与否；不给 --url 时自备嘉兴八馆 · run a load plan, write its report, pass or"
        " fail by its targets; without --url the eight archives of Jiaxing come up for it",
    )
    parser.add_argument(
        "plan", help="计划名（loadtest/plans）或路径 · name of a plan in loadtest/plans, or a path"
    )
    parser.add_argument(
        "--url", help="现有网关，默认只许本机 · an existing gateway; loopback only, unless --allow-remote"
    )
    parser.add_argument("--token", default="", help="--url 的访问令牌 · access token for --url")
    parser.add_argument(
        "--data",
        type=Path,
        help="与 --url 同用：各馆数据的文件夹，从中取问题 · with --url: folder of the archives' data, to draw questions from",
    )
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="确认该网关归您所有，可以压测 · the gateway at --url is yours and may be loaded",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="报告的文件夹 · folder of the report")
    return parser


def _against(plan: Plan, args: argparse.Namespace) -> Result:
    host = urllib.parse.urlsplit(args.url).hostname or ""
    if host not in {"127.0.0.1", "::1", "localhost"} and not args.allow_remote:
        raise PlanError("only loopback is loaded without --allow-remote")
    if plan.faults:
        raise PlanError("a plan with faults needs a fleet of its own: leave --url out")
    if args.data is None:
        raise PlanError("--url needs --data: a folder with the archives' indexes to draw questions from")
    codes = sorted(path.name for path in args.data.iterdir() if (path / "CURRENT").exists())
    questions = Questions(args.data, codes, plan.deadline_ms)
    return asyncio.run(_drive(plan, questions, args.url, args.token, None))


def _own_fleet(plan: Plan) -> Result:
    from examples.jiaxing.demo import archives, import_all

    with tempfile.TemporaryDirectory(prefix="lantai-load-") as folder:
        fleet = Fleet(Path(folder), archives(), gateway_settings={"requests_per_minute": 600_000})
        codes = [archive.code for archive in fleet.archives]
        if unknown := {fault.archive for fault in plan.faults} - set(codes):
            raise PlanError(f"no such archive in the fleet: {', '.join(sorted(unknown))}")
        print("准备八馆 · preparing eight archives")
        fleet.prepare()
        import_all(fleet)
        questions = Questions(Path(folder), codes, plan.deadline_ms)
        with fleet:
            return asyncio.run(_drive(plan, questions, fleet.gateway_url, fleet.mint_token(), fleet))


async def _drive(plan: Plan, questions: Questions, url: str, token: str, fleet: Fleet | None) -> Result:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        breaking = [
            asyncio.create_task(_break(fleet, fault), name="fault")
            for fault in plan.faults
            if fleet is not None
        ]
        try:
            return await run(plan, questions, http_sender(session, url, token), _say(plan))
        finally:
            for task in breaking:
                task.cancel()
            await asyncio.gather(*breaking, return_exceptions=True)


def _say(plan: Plan) -> Callable[[int, int], None]:
    def say(second: int, answered: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{second:4d}/{plan.duration_s:.0f} s  {answered} 已答 answered", end="", file=sys.stderr)

    return say


async def _break(fleet: Fleet, fault: Fault) -> None:
    await asyncio.sleep(fault.at_s)
    if fault.kind == "stop":
        fleet.send(fault.archive, signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.for_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                fleet.send(fault.archive, signal.SIGCONT)
        return
    await asyncio.to_thread(fleet.stop_one, fault.archive, signal.SIGKILL)
    await asyncio.sleep(fault.for_s)
    fleet.start_agent(fault.archive)


if __name__ == "__main__":
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # clears away its processes and folders, as Ctrl-C does
    sys.exit(main())
