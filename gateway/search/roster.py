"""The roster: every member archive, as the operator wrote it. Completeness is counted against it, whoever is alive."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from federation.process.addresses import check_address

_CODE = re.compile(r"[0-9]{6}")
_KEYS = {"code", "name", "address", "dials_in", "authority", "stale_after_s", "deputy"}


class RosterError(Exception):
    """The roster can not be used; the message says where and what."""


@dataclass(frozen=True, slots=True)
class Member:
    """One archive on the roster.

    `address` is where the gateway dials it, "" when it dials in. `authority` breaks ties between copies of one record
    (higher wins). `stale_after_s` is the archive's published limit on the age of its index, None = no limit. `deputy` is
    the archive of the same city to which its review is delegated when its own desk is late, "" = none.
    """

    code: str
    name: str
    address: str = ""
    authority: int = 0
    stale_after_s: int | None = None
    deputy: str = ""


@dataclass(frozen=True, slots=True)
class Roster:
    """All members at one epoch, in code order."""

    epoch: int
    members: tuple[Member, ...]
    by_code: dict[str, Member] = field(init=False, repr=False, compare=False)
    authority: dict[str, int] = field(init=False, repr=False, compare=False)
    limits_age: bool = field(init=False, repr=False, compare=False)
    """Whether any member publishes a limit on the age of its index."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_code", {member.code: member for member in self.members})
        object.__setattr__(self, "authority", {member.code: member.authority for member in self.members})
        limits = any(member.stale_after_s is not None for member in self.members)
        object.__setattr__(self, "limits_age", limits)
        if len(self.by_code) != len(self.members):
            twice = [code for code, times in Counter(one.code for one in self.members).items() if times > 1]
            raise RosterError(
                f"名录中有重复的代码 · an archive stands on the roster twice: {', '.join(twice)}"
            )
        for member in self.members:
            if member.deputy and (member.deputy not in self.by_code or member.deputy == member.code):
                raise RosterError(
                    f"{member.code}: deputy 应为名录中的另一馆 · deputy must be another archive on the roster"
                )

    @classmethod
    def load(cls, path: Path | str) -> Roster:
        """Read a roster file: `epoch = 1` and `[[archive]]` tables; RosterError says what is wrong where."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise RosterError(f"无法读取名录 · can not read the roster {path}: {error.strerror}") from error
        return cls.parse(content, path)

    @classmethod
    def parse(cls, content: bytes, path: Path | str) -> Roster:
        """What a roster file says; `path` is what errors call it."""
        try:
            table = tomllib.loads(content.decode())
        except ValueError as error:
            raise RosterError(
                f"名录不是合法的 TOML · the roster {path} is not valid TOML: {error}"
            ) from error
        try:
            return cls._of(table)
        except RosterError as error:
            raise RosterError(f"{path}: {error}") from error

    @classmethod
    def _of(cls, table: dict[str, Any]) -> Roster:
        unknown = table.keys() - {"epoch", "archive"}
        if unknown:
            raise RosterError(f"名录中有不认识的键 · unknown key in the roster: {', '.join(sorted(unknown))}")
        rows = table.get("archive", [])
        if not isinstance(rows, list) or not rows:
            raise RosterError("名录为空：请写 [[archive]] · the roster is empty: write [[archive]] tables")
        members = [_member(row, number) for number, row in enumerate(rows, start=1)]
        return cls(_whole(table, "epoch", 1), tuple(sorted(members, key=lambda member: member.code)))


def _whole(table: dict[str, Any], key: str, default: int, where: str = "") -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise RosterError(f"{where}{key} 应为整数 · {key} must be a whole number")
    return value


def _member(row: dict[str, Any], number: int) -> Member:
    where = f"[[archive]] {number}"
    unknown = row.keys() - _KEYS
    if unknown:
        raise RosterError(f"{where}: 不认识的键 · unknown key {', '.join(sorted(unknown))}")
    code, name, address = row.get("code", ""), row.get("name", ""), row.get("address", "")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise RosterError(f"{where}: code 应为六位区划代码 · code must be six digits")
    if not isinstance(name, str) or not name:
        raise RosterError(f"{where}: 缺少 name · name is missing")
    if bool(address) == bool(row.get("dials_in", False)):
        raise RosterError(
            f"{where}: address 与 dials_in = true 须二选一 · give either address or dials_in = true"
        )
    if address:
        try:
            check_address(str(address))
        except ValueError as error:
            raise RosterError(f"{where}: address: {error}") from error
    stale = row.get("stale_after_s")
    if stale is not None and (not isinstance(stale, int) or stale <= 0):
        raise RosterError(
            f"{where}: stale_after_s 应为正整数 · stale_after_s must be a positive number of seconds"
        )
    return Member(
        code, name, address, _whole(row, "authority", 0, f"{where}: "), stale, str(row.get("deputy", ""))
    )
