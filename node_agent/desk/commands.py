"""`lantai-node desk` and `lantai-node user`: the desk by command line, beside the running agent over the same file.

An action needs the version of the item as its user saw it; without `--version` the command looks first and acts on that.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from federation.mail import EVIDENCE_KINDS, REFUSAL_REASONS
from federation.reasons import TEXTS, Reason, Refusal
from node_agent.desk import messenger, users
from node_agent.desk.desk import Desk
from node_agent.desk.issuing import CanIssue
from node_agent.desk.items import Item
from node_agent.desk.setup import now_ms, open_desk
from node_agent.desk.showing import action_body, case_body, item_body
from node_agent.desk.store import Store, StoreVersionError
from node_agent.disclosure import Disclosure
from node_agent.index import Lookup, UnusableIndexError
from node_agent.index.folder import DataFolder
from node_agent.settings import NodeSettings, SettingsError, load

_SHOWN_ENDED = 50

ACTIONS: dict[str, str] = {
    "claim": "受理 · take a case",
    "renew": "延长持有 · keep a case you hold",
    "release": "放回队列 · give it back",
    "approve": "同意 · approve",
    "refuse": "不予提供 · refuse, with a reason",
    "ask": "要求补正材料 · ask the applicant for evidence",
    "retrieving": "开始调取原件 · the original is being fetched",
    "retrieved": "原件已调取 · the original is at hand",
    "refer": "转至其他馆 · refer to another archive",
    "hand-over": "移交同事 · hand over to a colleague",
}


# desk ------------------------------------------------------------------------------------------------------------

_CASE = "案件编号 · id of the case"


def configure_desk(parser: argparse.ArgumentParser) -> None:
    """Sub-commands of `lantai-node desk`."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")
        one.add_argument("--json", action="store_true", help="输出 JSON · print JSON")
        one.add_argument("--lang", choices=("zh", "en"), default="zh", help="文字语言 · language of texts")
        return one

    command("secret", "外呼签名密钥 · the secret that signs calls to the archive's messenger")
    listing = command("list", "列出待办 · what is open, in the order to take it")
    listing.add_argument("--ended", action="store_true", help="已办结的 · what was decided or closed")
    listing.add_argument("--as", dest="user", default="", metavar="USER", help="本人的在前 · one's own first")
    for name, text in (
        ("show", "显示案件与记录 · a case beside its record"),
        ("history", "办理过程 · what was done"),
    ):
        command(name, text).add_argument("case", metavar="CASE", help=_CASE)
    for name, text in ACTIONS.items():
        one = command(name, text)
        one.add_argument("case", metavar="CASE", help=_CASE)
        one.add_argument("--as", dest="user", required=True, metavar="USER", help="办理人 · who does it")
        one.add_argument(
            "--version", type=int, metavar="N", help="所见版本，不符则不办 · act only on this version"
        )
        match name:
            case "approve":
                one.add_argument(
                    "--archival-code", default="", metavar="CODE", help="档号（目录未找到时）· the record"
                )
                one.add_argument(
                    "--page",
                    action="append",
                    default=[],
                    metavar="FILE[:N]",
                    help="复制的扫描页，可多次 · a scanned page to copy; what is hidden on it is set through the API",
                )
            case "refuse":
                one.add_argument(
                    "--reason",
                    required=True,
                    choices=tuple(REFUSAL_REASONS),
                    help="拒绝原因 · why it is refused",
                )
            case "ask":
                one.add_argument(
                    "--for",
                    dest="items",
                    required=True,
                    nargs="+",
                    choices=tuple(EVIDENCE_KINDS),
                    help="请申请人补交的材料 · evidence the applicant is asked for",
                )
            case "retrieving":
                one.add_argument("--pauses", action="store_true", help="按规定停表 · the clock stops for it")
            case "refer":
                one.add_argument("--to", required=True, metavar="ARCHIVE", help="馆代码 · GB/T 2260 code")
            case "hand-over":
                one.add_argument("--to", required=True, metavar="USER", help="接手的人 · who takes it over")


Checking = Callable[[Path, NodeSettings, Lookup, Disclosure], AbstractContextManager[CanIssue | None]]
"""Gives what the desk asks before an approval, for as long as the command runs."""


def run_desk(args: argparse.Namespace, checking: Checking | None = None) -> int:
    """One look or one action. Exit 1 with the reason when it was refused."""
    if args.action == "secret":
        with _reported("desk") as ended:
            secret = messenger.written(messenger.key_of(_settings(args.data)[0]))
            _print({"secret": secret}, args, secret)
        return ended[0]
    with (
        _reported("desk") as ended,
        _opened(args.data, checking if args.action == "approve" else None) as desk,
    ):
        match args.action:
            case "list":
                _list(desk, args)
            case "show":
                item = desk.item(args.case)
                body = case_body(item, desk.record(item), args.lang, now_ms())
                _print(body, args, _lines(body))
            case "history":
                desk.item(args.case)
                for action in desk.history(args.case):
                    line = action_body(action)
                    _print(line, args, _history_line(line))
            case _:
                item = _act(desk, args)
                body = item_body(item, args.lang, now_ms())
                _print(body, args, _item_line(body))
    return ended[0]


def _page(text: str) -> dict[str, Any]:
    file, _, number = text.partition(":")
    return {"file": file, "page": int(number) if number.isdecimal() else 1}


def _act(desk: Desk, args: argparse.Namespace) -> Item:
    if not desk.store.role(args.user):
        raise _NoUserError(args.user)
    version = args.version if args.version is not None else desk.item(args.case).version
    who = (args.case, args.user, version)
    match args.action:
        case "claim":
            return desk.claim(*who)
        case "renew":
            return desk.renew(*who)
        case "release":
            return desk.release(*who)
        case "approve":
            return desk.approve(*who, args.archival_code, tuple(_page(text) for text in args.page))
        case "refuse":
            return desk.refuse(*who, args.reason)
        case "ask":
            return desk.want_evidence(*who, tuple(args.items))
        case "retrieving":
            return desk.retrieving(*who, pauses=args.pauses)
        case "retrieved":
            return desk.retrieved(*who)
        case "refer":
            return desk.refer(*who, args.to)
        case _:
            return desk.hand_over(*who, args.to)


def _list(desk: Desk, args: argparse.Namespace) -> None:
    items = desk.store.ended_items(_SHOWN_ENDED) if args.ended else desk.queue(args.user)
    for item in items:
        body = item_body(item, args.lang, now_ms())
        _print(body, args, _item_line(body))
    if not items and not args.json:
        print("没有案件 · nothing here")


def _item_line(body: dict[str, Any]) -> str:
    left = body.get("left_s")
    clock = (
        ""
        if left is None
        else f"  {left // 60:+d}:{abs(left) % 60:02d}"
        if left >= 0
        else f"  迟 late {-left // 60} min"
    )
    parts = [body["case"], body["status"], body.get("category_name", ""), body.get("name", "")]
    rest = [f"{key}={body[key]}" for key in ("reviewer", "on_behalf_of", "number", "reason") if body.get(key)]
    return "  ".join(part for part in (*parts, *rest) if part) + clock


def _lines(body: dict[str, Any], indent: int = 0) -> str:
    out = []
    for key, value in body.items():
        if isinstance(value, dict):
            out += [f"{' ' * indent}{key}:", _lines(value, indent + 2)]
        elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
            out.append(f"{' ' * indent}{key}:")
            shown = [{one["heading"]: one["text"]} for one in value] if key == "cells" else value
            out += [_lines(one, indent + 2) for one in shown]
        elif value not in (None, "", []):
            text = "、".join(map(str, value)) if isinstance(value, list) else value
            out.append(f"{' ' * indent}{key}: {text}")
    return "\n".join(line for line in out if line)


def _history_line(line: dict[str, Any]) -> str:
    detail = " ".join(f"{key}={value}" for key, value in line["detail"].items())
    return f"{line['at']}  {line['actor']:<12}  {line['action']:<14}  {line['state']:<18}  {detail}".rstrip()


# user ------------------------------------------------------------------------------------------------------------


def configure_user(parser: argparse.ArgumentParser) -> None:
    """Sub-commands of `lantai-node user`."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("add", "新增用户，显示其令牌 · add a user, show the token"),
        ("list", "列出用户 · list users"),
        ("remove", "停用用户 · end a user's access"),
        ("token", "换发令牌 · give a user another token"),
    ):
        one = commands.add_parser(name, help=text, description=text)
        one.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")
        one.add_argument("--json", action="store_true", help="输出 JSON · print JSON")
        if name != "list":
            one.add_argument("name", metavar="NAME", help="用户名 · name of the user")
        if name == "add":
            one.add_argument(
                "--role",
                choices=tuple(users.ROLES),
                default="reviewer",
                help="; ".join(f"{key} = {zh} {en}" for key, (zh, en) in users.ROLES.items()),
            )


def run_user(args: argparse.Namespace) -> int:
    """Manage who may use the desk. A token is shown once and never again."""
    with _reported("user") as ended, _store(args.data) as store:
        match args.action:
            case "add":
                token = _added(store, args)
                _print(
                    {"name": args.name, "role": args.role, "token": token},
                    args,
                    f"令牌（只显示一次）· token, shown once:\n{token}",
                )
            case "token":
                token = users.renew_token(store, args.name, now_ms())
                _print(
                    {"name": args.name, "token": token},
                    args,
                    f"新令牌（旧的已失效）· the new token, the old one has ended:\n{token}",
                )
            case "remove":
                users.remove(store, args.name, now_ms())
                _print({"name": args.name, "removed": True}, args, f"已停用 · removed: {args.name}")
            case _:
                for name, role, since in store.users():
                    body = {"name": name, "role": role, "since_ms": since}
                    _print(body, args, f"{name}  {users.ROLES[role][0]} {role}")
    return ended[0]


# both ------------------------------------------------------------------------------------------------------------


def _added(store: Store, args: argparse.Namespace) -> str:
    """The token of a new user; _NotAddedError says what to do instead."""
    try:
        return users.add(store, args.name, args.role, now_ms())
    except Refusal as refusal:
        told = {
            Reason.TAKEN: f"已有用户 {args.name}；换发令牌用 user token · there is a user {args.name} already; user token gives another token",
            Reason.OUT_OF_RANGE: f"用户名应为 1 至 40 个文字、字母、数字或 _ . - ·，不含空格，也不是 {', '.join(sorted(users.NOT_NAMES))}"
            " · a name has 1 to 40 letters, characters, digits or _ . - ·, no space, and is none of these words",
        }.get(refusal.reason)
        if told is None:
            raise
        raise _NotAddedError(told) from refusal


class _NotAddedError(Exception):
    """Nobody can be added under such a name; the text says why."""


class _NoUserError(Exception):
    """Nobody of this name may use the desk."""


@contextlib.contextmanager
def _reported(command: str) -> Iterator[list[int]]:
    """Refusals become one line in both languages and exit status 1."""
    ended = [0]
    try:
        yield ended
    except Refusal as refusal:
        text = TEXTS[refusal.reason]
        where = f" {refusal.pointer}" if refusal.pointer else ""
        print(f"lantai-node {command}: {refusal.reason}{where}: {text.zh} · {text.en}", file=sys.stderr)
        ended[0] = 1
    except _NoUserError as error:
        print(
            f"lantai-node {command}: 没有这个用户，请先运行 lantai-node user add"
            f" · there is no user {error}; run lantai-node user add first",
            file=sys.stderr,
        )
        ended[0] = 1
    except (SettingsError, StoreVersionError, UnusableIndexError, _NotAddedError) as error:
        print(f"lantai-node {command}: {error}", file=sys.stderr)
        ended[0] = 1


@contextlib.contextmanager
def _opened(data: str, checking: Checking | None) -> Iterator[Desk]:
    folder, settings = _settings(data)
    DataFolder(folder).check_access()
    lookup = Lookup(folder)
    keys = DataFolder(folder)
    disclosure = Disclosure(keys.index_key(), keys.federation_key(), frozenset(settings.closed_categories))
    with contextlib.ExitStack() as stack:
        stack.callback(lookup.close)
        can_issue = None
        if checking is not None:
            can_issue = stack.enter_context(checking(folder, settings, lookup, disclosure))
        desk = open_desk(folder, settings, lookup, disclosure, can_issue)
        stack.callback(desk.store.close)
        yield desk


@contextlib.contextmanager
def _store(data: str) -> Iterator[Store]:
    folder, settings = _settings(data)
    DataFolder(folder).check_access()
    store = Store(folder, settings.archive)
    try:
        yield store
    finally:
        store.close()


def _settings(data: str) -> tuple[Path, NodeSettings]:
    folder = Path(data)
    return folder, load(folder)


def _print(body: dict[str, Any], args: argparse.Namespace, text: str) -> None:
    print(msgspec.json.encode(body).decode() if args.json else text)
