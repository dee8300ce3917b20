"""`lantai-gateway archive …`: who is on the roster. Every change is a new edition of it, with the next epoch."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from federation.rpc.transport import TransportRefusedError
from gateway.lists import actions
from gateway.lists.files import ListError, difference, is_plain
from gateway.lists.rows import Rows, change
from gateway.search.roster import Member, Roster
from gateway.settings import GatewaySettings, SettingsError

SUMMARY = "成员名录中的档案馆 · archives on the roster"
_MAY_GO = ("authority", "stale_after_s", "deputy")
"""What a row may do without."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `archive` and their flags."""
    actions.configure(
        parser,
        helps={
            "list": "列出名录中的档案馆 · list the archives on the roster",
            "add": "加入一馆 · add an archive",
            "change": "修改一馆，未给出的保持不变 · change an archive; what is not given stays",
            "remove": "移出一馆 · remove an archive",
        },
        name=("code", "CODE", "六位区划代码 · its six-digit division code"),
        add_keys=_add_keys,
        may_go=_MAY_GO,
    )


def _add_keys(parser: argparse.ArgumentParser, is_new: bool) -> None:
    parser.add_argument("--name", required=is_new, metavar="NAME", help="馆名 · its name")
    where = parser.add_mutually_exclusive_group(required=is_new)
    where.add_argument(
        "--address", metavar="HOST:PORT", help="网关拨号的地址 · where the gateway dials its agent"
    )
    where.add_argument("--dials-in", action="store_true", help="由该馆拨入网关 · its agent dials the gateway")
    parser.add_argument(
        "--authority",
        type=int,
        metavar="N",
        help="同一记录有多份时，数大者为准 · among copies of one record the higher wins",
    )
    parser.add_argument(
        "--stale-after-s",
        type=int,
        metavar="SECONDS",
        help="索引多久未更新即告知 · an index older than this is told as stale",
    )
    parser.add_argument(
        "--deputy", metavar="CODE", help="逾时代审的馆 · who reviews in its name when it is late"
    )


def run(settings: GatewaySettings, base: Path, args: argparse.Namespace) -> int:
    """Exit status 0 done, 2 wrong use. RosterError, ListError or PolicyError, with the roster as it was, say why not."""
    from gateway.app import rules, usable_credentials

    path = (base / settings.roster).resolve()
    if args.action == "list":
        _list(Roster.load(path), as_json=args.json)
        return 0
    values = {} if args.action == "remove" else _values(args)
    if args.action == "change" and not values:
        print("lantai-gateway archive change: 请给出要修改的项 · say what to change", file=sys.stderr)
        return 2

    def edit(rows: Rows) -> Rows:
        edited = actions.edited(rows, args.action, args.code, values)
        if edited is not rows:
            epoch = rows.table.get("epoch", 1)
            if isinstance(epoch, int):  # else the reader says so
                edited = edited.with_top("epoch", epoch + 1 if rows.text else 1)
            rules(Roster.parse(edited.text.encode(), path))
        return edited

    def tell(before: Rows, after: Rows) -> None:
        _tell(before, after, args.code)
        try:
            usable_credentials(settings, base, Roster.parse(after.text.encode(), path))
        except (SettingsError, TransportRefusedError) as error:
            print(
                f"lantai-gateway archive: 提醒：设置还不够，网关不会启动 · note: the gateway would not start with these settings: {error}",
                file=sys.stderr,
            )

    change(("archive", "code", path), edit, tell, is_trial=args.dry_run)
    return 0


def _values(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say of a row, None for what is to go."""
    given = {key: getattr(args, key) for key in ("name", "address", "authority", "stale_after_s", "deputy")}
    values = {key: value for key, value in given.items() if value is not None}
    if args.dials_in:
        values["dials_in"] = True
    if args.action == "change":
        if args.address is not None:
            values["dials_in"] = None
        elif args.dials_in:
            values["address"] = None
        values |= actions.taken_out(args.without, values)
    for key, value in values.items():
        if isinstance(value, str) and not (value and is_plain(value)):
            raise ListError(f"--{key}: 不得为空或含控制字符 · must not be empty or hold control characters")
    return values


def _tell(before: Rows, after: Rows, code: str) -> None:
    old, new = (rows.named(code) if rows.has(code) else None for rows in (before, after))
    for line in difference(code, old, new):
        print(line)
    if new is None and (count := before.comments_of(code)):
        print(f"    # 其 {count} 行注释一并移去 · {count} comment lines of it go as well")
    print(f"epoch {before.table.get('epoch', '–')} → {after.table['epoch']}")


def _list(roster: Roster, *, as_json: bool) -> None:
    if as_json:
        print(
            json.dumps(
                {"epoch": roster.epoch, "archives": [_row(one) for one in roster.members]}, ensure_ascii=False
            )
        )
        return
    for one in roster.members:
        more = [f"{key}={value}" for key, value in _row(one).items() if key in _MAY_GO]
        print("  ".join([one.code, one.name, one.address or "dials_in", *more]))
    print(
        f"名录第 {roster.epoch} 版，{len(roster.members)} 家 · edition {roster.epoch} of the roster, {len(roster.members)} archives"
    )


def _row(member: Member) -> dict[str, Any]:
    """A member as its row says it: nothing for what is not set."""
    said = {key: value for key, value in asdict(member).items() if value not in {"", None}}
    if not member.address:
        said["dials_in"] = True
    if not member.authority:
        del said["authority"]
    return said
