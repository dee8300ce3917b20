"""A short mapping file, for what headings can not say: category, fixed positions, headings nobody could understand.

category = "recruitment"
encoding = "gbk"
copy = false
[[column]]            # one for each column of a fixed-width file; positions count bytes from 1
heading = "档号"
start = 1
length = 30
[headings]            # heading of the file = field
"编码" = "archival_code"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from federation.categories import CATEGORIES
from node_agent.catalogue.headings import FIELDS


class MappingError(Exception):
    """The mapping can not be used; the message says what to change."""


@dataclass(frozen=True, slots=True)
class FixedColumn:
    heading: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """What a mapping file says; empty by default."""

    category: str = ""
    encoding: str = ""
    copy: bool | None = None
    columns: tuple[FixedColumn, ...] = ()
    headings: dict[str, str] = field(default_factory=dict)


def load(path: Path) -> Mapping:
    """Read a mapping; MappingError names the key at fault."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise MappingError(f"无法读取映射文件 · can not read the mapping: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"映射文件不是合法的 TOML · the mapping is not valid TOML: {error}") from error
    if unknown := table.keys() - _KINDS:
        raise MappingError(
            f"映射文件中有不认识的键 · unknown key in the mapping: {', '.join(sorted(unknown))}"
        )
    for key, kind in _KINDS.items():
        if not isinstance(table.get(key, kind()), kind):
            raise MappingError(f"{key} 的写法不对 · {key} must be {_WRITTEN[kind]}")
    category, encoding = table.get("category", ""), table.get("encoding", "")
    if category and category not in CATEGORIES:
        raise MappingError(f"没有这个类别 · no such category: {category}")
    if encoding and not _is_encoding(encoding):
        raise MappingError(f"没有这种编码 · no such encoding: {encoding}")
    headings = table.get("headings", {})
    if unknown := {field for field in headings.values() if not isinstance(field, str) or field not in FIELDS}:
        raise MappingError(
            f"[headings] 中没有这个字段 · no such field in [headings]: {', '.join(sorted(map(str, unknown)))};"
            f" 可用 · one of {' '.join(sorted(FIELDS))}"
        )
    try:
        columns = tuple(
            FixedColumn(str(row["heading"]), _whole(row["start"]), _whole(row["length"]))
            for row in table.get("column", [])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MappingError(
            "[[column]] 需要 heading、start、length，后两者为整数，不加引号 ·"
            " [[column]] needs heading, start and length, the last two as whole numbers without quotes"
        ) from error
    if any(column.start < 1 or column.length < 1 for column in columns):
        raise MappingError("start 与 length 从 1 起 · start and length count from 1")
    return Mapping(category, encoding, table.get("copy"), columns, headings)


_KINDS: dict[str, type] = {"category": str, "encoding": str, "copy": bool, "column": list, "headings": dict}
_WRITTEN: dict[type, str] = {str: "a text", bool: "true or false", list: "[[column]] tables", dict: "a table"}


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _is_encoding(name: str) -> bool:
    try:
        b"text".decode(name, "ignore")  # of nothing, Python would not look the name up
    except (LookupError, ValueError):
        return False
    return True
