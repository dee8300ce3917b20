"""`lantai-gateway`: run the gateway, check its settings, print its contract, mint a token for a try-out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import federation.process.quiet_grpc  # noqa: F401 - before gRPC is loaded
from federation.process.os_errors import said
from federation.process.output import told
from federation.process.version import VERSION
from federation.reasons import Refusal, why
from federation.rpc.transport import TransportRefusedError
from federation.rpc.validity import TEXTS as FAULTS
from federation.rpc.validity import Fault, fault_now
from federation.tlog import erasing
from federation.tlog.flaws import TEXTS, EvidenceError
from gateway import settings as settings_module
from gateway.cases.database import keep_names_private
from gateway.cases.policy import PolicyError
from gateway.cases.store import StoreError
from gateway.edge.tokens import CLIENT_ID, SCOPES
from gateway.lists import archives, platforms, trust
from gateway.lists.files import ListError
from gateway.search.roster import Roster, RosterError
from gateway.settings import SettingsError

_ALL_SCOPES = " ".join(SCOPES)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lantai-gateway", description="蘭臺网关 · the Lantai gateway")
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {VERSION}", help="版本 · print the version"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("run", "启动网关 · run the gateway"),
        ("check", "检查设置与名录 · check settings and roster"),
        ("token", "签发试用令牌 · mint an access token for a try-out"),
    ):
        one = commands.add_parser(name, help=text, description=text)
        one.add_argument(
            "--config", default="gateway.toml", metavar="FILE", help="设置文件 · settings file (gateway.toml)"
        )
        if name == "token":
            one.add_argument("--client", default="try-out", metavar="ID", help="客户端代号 · client id")
            one.add_argument(
                "--scope",
                default=_ALL_SCOPES,
                help=f"许可范围，空格分隔 · what it permits, parted by spaces (default {_ALL_SCOPES})",
            )
            one.add_argument(
                "--minutes", type=int, default=60, help="有效分钟数 · lifetime in minutes, at most 720"
            )
    database = commands.add_parser(
        "db", help="案件库 · the case store", description="案件库 · the case store"
    )
    actions = database.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "升级案件库的表 · bring the store's tables to this version"
    upgrade = actions.add_parser("upgrade", help=text, description=text)
    upgrade.add_argument("--config", default="gateway.toml", metavar="FILE", help="设置文件 · settings file")
    hooks = commands.add_parser(
        "hooks",
        help="对平台的回调 · calls to platforms",
        description="对平台的回调与未送达的消息 · calls to platforms, and messages that were given up",
    )
    doings = hooks.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("list", "列出未能送达的消息 · list the dead letters"),
        (
            "replay",
            "重新发送，并恢复对该平台的回调 · send dead letters again; a stopped platform is called again",
        ),
        ("key", "打印核验签名的公钥 · print the public key platforms verify v1a signatures with"),
    ):
        one = doings.add_parser(name, help=text, description=text)
        one.add_argument("--config", default="gateway.toml", metavar="FILE", help="设置文件 · settings file")
        if name != "key":
            one.add_argument(
                "--to", default="", metavar="ID", help="只限该平台或档案馆 · of this client or archive"
            )
        if name == "list":
            one.add_argument("--json", action="store_true", help="每行一个对象 · one object a line")
        if name == "replay":
            one.add_argument("ids", nargs="*", metavar="MESSAGE", help="只限这些消息 · only these messages")
            one.add_argument("--all", action="store_true", help="全部 · all of them")
    evidence = commands.add_parser(
        "evidence",
        help="存证日志 · the evidence log",
        description="存证日志；audit 与 reconcile 可与网关同时运行 · the evidence log; audit and reconcile run beside the gateway",
    )
    doings = evidence.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        (
            "audit",
            "重算整本日志并与上次所见对照 · compute the whole log again and compare it with what was seen last",
        ),
        ("reconcile", "与各馆最近交来的账目对账 · hold the log against the accounts archives stated last"),
    ):
        one = doings.add_parser(name, help=text, description=text)
        one.add_argument("--config", default="gateway.toml", metavar="FILE", help="设置文件 · settings file")
        one.add_argument("--json", action="store_true", help="输出 JSON · print JSON")
        if name == "audit":
            one.add_argument(
                "--memory", type=Path, metavar="FILE",
                help="所见检查点存放处，宜在别的机器 · where the checkpoint seen is kept; better on another machine",
            )  # fmt: skip
        else:
            one.add_argument("--archive", default="", metavar="CODE", help="只对某馆 · one archive only")
            one.add_argument(
                "--log", type=Path, action="append", default=[], metavar="FILE",
                help="其他副本的日志，可多次 · the log of another replica; may repeat",
            )  # fmt: skip
            one.add_argument(
                "--account",
                type=Path,
                metavar="FILE",
                help="该馆交来的账目文件 · an account in a file; needs --archive",
            )
    erase = doings.add_parser("erase", help=erasing.SUMMARY, description=erasing.SUMMARY)
    erase.add_argument("--config", default="gateway.toml", metavar="FILE", help="设置文件 · settings file")
    erasing.configure(erase)
    platforms.configure(
        commands.add_parser("platform", help=platforms.SUMMARY, description=platforms.SUMMARY)
    )
    archives.configure(commands.add_parser("archive", help=archives.SUMMARY, description=archives.SUMMARY))
    trust.configure(commands.add_parser("trust", help=trust.SUMMARY, description=trust.SUMMARY))
    text = "打印接口契约 · print the OpenAPI contract"
    commands.add_parser("openapi", help=text, description=text)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; exit status 0 done, 1 not done, 2 wrong use."""
    return told(lambda: _command(argv))


def _command(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    if args.command == "openapi":
        from gateway.edge.server import openapi

        print(json.dumps(openapi(), ensure_ascii=False, indent=2))
        return 0
    try:
        if args.command == "trust" and args.action != "entry":
            return trust.run(args)
        path = Path(args.config)
        settings = settings_module.load(path)
        base = path.resolve().parent
        if args.command == "check":
            return _check(settings, base)
        if args.command == "token":
            return _token(settings, base, args)
        if args.command == "db":
            return _upgrade(settings, base)
        if args.command == "hooks":
            return _hooks(settings, base, args)
        if args.command == "evidence":
            return _evidence(settings, base, args)
        if args.command == "archive":
            return archives.run(settings, base, args)
        if args.command == "trust":
            return trust.print_entry(settings, base)
        if args.command == "platform":
            return platforms.run(settings, base, args)
        return _run(settings, base)
    except (SettingsError, RosterError, TransportRefusedError, StoreError, PolicyError, ListError) as error:
        print(f"lantai-gateway {args.command}: {error}", file=sys.stderr)
    except EvidenceError as error:
        text = TEXTS[error.flaw]
        print(
            f"lantai-gateway {args.command}: 存证日志 · the evidence log: {text.zh} · {text.en} ({error})",
            file=sys.stderr,
        )
    except Refusal as refusal:
        print(f"lantai-gateway {args.command}: {why(refusal)}", file=sys.stderr)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"lantai-gateway {args.command}: {said(error)}", file=sys.stderr)
    except (ValueError, KeyError, TypeError) as error:
        print(f"lantai-gateway {args.command}: {type(error).__name__}: {error}", file=sys.stderr)
    return 1


def _check(settings: settings_module.GatewaySettings, base: Path) -> int:
    from gateway.app import pinned, platforms, rules, tokens, usable_credentials

    roster = Roster.load(base / settings.roster)
    platforms(settings, base)
    rules(roster)
    settings.store_url(base)
    for name in settings_module.unknown_variables():
        print(
            f"lantai-gateway check: 环境变量 {name} 不是设置项，不起作用 · the variable {name} is no setting and does nothing",
            file=sys.stderr,
        )
    credentials = usable_credentials(settings, base, roster)
    if (fault := fault_now(credentials)) is not None:
        told = f"certificate: {FAULTS[fault]}: {credentials.certificate}"
        if fault is not Fault.EXPIRES_SOON:
            raise TransportRefusedError(told)
        print(f"lantai-gateway check: {told}", file=sys.stderr)
    pinned(settings, base)
    settings.http_tls(base)
    settings.log_authority(base)
    tokens(settings, base)
    print(
        f"设置可用，名录第 {roster.epoch} 版，{len(roster.members)} 家 · settings are fine, {len(roster.members)} archives on the roster"
    )
    return 0


def _token(settings: settings_module.GatewaySettings, base: Path, args: argparse.Namespace) -> int:
    from gateway.app import tokens

    if not args.scope.split() or not set(args.scope.split()) <= set(SCOPES):
        print(f"lantai-gateway token: --scope 应为 · --scope must be of: {_ALL_SCOPES}", file=sys.stderr)
        return 2
    if not CLIENT_ID.fullmatch(args.client):
        print(
            "lantai-gateway token: --client 应为 1 至 64 个字母、数字或 . _ - · --client must be 1 to 64 letters, digits or . _ -",
            file=sys.stderr,
        )
        return 2
    if not 1 <= args.minutes <= 720:
        print(
            "lantai-gateway token: --minutes 应在 1 到 720 之间 · --minutes must be 1 to 720", file=sys.stderr
        )
        return 2
    print(tokens(settings, base).mint(args.client, args.scope, args.minutes * 60))
    return 0


def _upgrade(settings: settings_module.GatewaySettings, base: Path) -> int:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    from gateway.cases import migrate

    url = settings.store_url(base)
    keep_names_private(url)
    try:
        before, after = migrate.upgrade(create_engine(url))
    except SQLAlchemyError as error:
        print(
            f"lantai-gateway db upgrade: 无法使用案件库 · the case store can not be used: {type(error).__name__}",
            file=sys.stderr,
        )
        return 1
    print(f"案件库 {before or '空'} → {after} · the case store is at revision {after}")
    return 0


def _hooks(settings: settings_module.GatewaySettings, base: Path, args: argparse.Namespace) -> int:
    """Works on the store beside a running gateway, which looks at it every few seconds."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    from gateway.app import call_key
    from gateway.cases import upkeep
    from gateway.cases.clock import wall_ms

    if args.action == "key":
        print(call_key(settings, base).public)
        return 0
    if args.action == "replay" and not (args.to or args.ids or args.all):
        print(
            "lantai-gateway hooks replay: 请给出消息、--to 或 --all · give messages, --to or --all",
            file=sys.stderr,
        )
        return 2
    url = settings.store_url(base)
    keep_names_private(url)
    try:
        with create_engine(url, hide_parameters=True).begin() as connection:
            if args.action == "replay":
                count = upkeep.replay(connection, wall_ms(), target=args.to, ids=args.ids)
                print(f"重新发送 {count} 条 · {count} messages will be sent again")
                return 0
            found = upkeep.dead_letters(connection, args.to)
    except SQLAlchemyError as error:
        print(
            f"lantai-gateway hooks: 无法使用案件库 · the case store can not be used: {type(error).__name__}",
            file=sys.stderr,
        )
        return 1
    for one in found:
        when = datetime.fromtimestamp(one.ordered_ms / 1000, UTC).isoformat(timespec="seconds")
        text = f"{one.id}  {one.kind}  → {one.target}  {when}  {one.attempts}×"
        print(json.dumps({**asdict(one), "ordered": when}) if args.json else text)
    if not args.json:
        print(f"{len(found)} 条未能送达 · {len(found)} dead letters")
    return 0


def _evidence(settings: settings_module.GatewaySettings, base: Path, args: argparse.Namespace) -> int:
    from gateway.evidence import commands

    log, key = settings.log_files(base)
    if args.action == "erase":
        return commands.erase(log, key, args)
    if args.action == "audit":
        roots = base / settings.stamp_certificate if settings.stamp_certificate else None
        return commands.audit(log, key, memory=args.memory, as_json=args.json, stamp_roots=roots)
    if args.account is not None and not args.archive:
        print(
            "lantai-gateway evidence reconcile: --account 须与 --archive 同用 · --account needs --archive",
            file=sys.stderr,
        )
        return 2
    return commands.reconcile(
        log, archive=args.archive, account=args.account, as_json=args.json, others=args.log
    )


def _run(settings: settings_module.GatewaySettings, base: Path) -> int:
    import uvloop

    from gateway import telemetry
    from gateway.app import run

    telemetry.configure_logs()
    for name in settings_module.unknown_variables():
        telemetry.log.warning(
            "a variable that is no setting", action="gateway.unknown_variable", variable=name
        )
    uvloop.run(run(settings, base))
    return 0


if __name__ == "__main__":
    sys.exit(main())
