"""What the commands over a list of rows have alike: the actions list, add, change and remove, their flags, and what becomes of
the row they name.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping
from typing import Any

from gateway.lists.files import ListError
from gateway.lists.rows import Rows


def configure(
    parser: argparse.ArgumentParser,
    *,
    helps: Mapping[str, str],
    name: tuple[str, str, str],
    add_keys: Callable[[argparse.ArgumentParser, bool], None],
    may_go: Collection[str],
) -> None:
    """The actions of a command, each with its help. `name` is the flag that names a row: its key, how it is shown, its help;
    `add_keys(parser, is_new)` adds those of its other keys, `may_go` says which a row may do without.
    """
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, text in helps.items():
        one = actions.add_parser(action, help=text, description=text)
        one.add_argument(
            "--config", default="gateway.toml", metavar="FILE", help="设置文件 · settings file (gateway.toml)"
        )
        if action == "list":
            one.add_argument("--json", action="store_true", help="输出一个 JSON 对象 · print one JSON object")
            continue
        key, metavar, meaning = name
        one.add_argument(key, metavar=metavar, help=meaning)
        one.add_argument(
            "--dry-run", action="store_true", help="只显示将有的变化 · only tell what would change"
        )
        if action == "remove":
            continue
        add_keys(one, action == "add")
        if action == "change":
            one.add_argument(
                "--without",
                action="append",
                default=[],
                choices=may_go,
                metavar="KEY",
                help=f"去掉该项，可多次 · take this out, may repeat: {', '.join(may_go)}",
            )


def taken_out(keys: Collection[str], values: Mapping[str, Any]) -> dict[str, None]:
    """The keys named by --without, None each; ListError where one of them is given a value as well."""
    for key in keys:
        if values.get(key) is not None:
            raise ListError(f"--without {key}: 已另给新值 · given a value as well")
    return dict.fromkeys(keys)


def edited(rows: Rows, action: str, name: str, values: Mapping[str, Any]) -> Rows:
    """The list after an action on one row; the very same one where nothing of it would be different. ListError as `Rows` has it."""
    if action == "add":
        return rows.added({rows.key: name, **values})
    row = rows.named(name)
    if action == "remove":
        return rows.removed(name)
    other = {key: value for key, value in values.items() if row.get(key) != value}
    return rows.changed(name, other) if other else rows
