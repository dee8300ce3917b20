"""What a check finds, and what all checks look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from federation.rpc.validity import Fault, Validity
from node_agent.settings import NodeSettings


class Result(StrEnum):
    """How it stands with one thing."""

    OK = "ok"
    WARNING = "warning"  # it works today
    WRONG = "wrong"  # something does not work, or is open to others
    NOT_CHECKED = "not_checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` and what `to_do` about it, zh · en; no word of a record, a key or a person."""

    result: Result
    found: str
    to_do: str = ""


@dataclass(frozen=True, slots=True)
class Installation:
    """What is looked at. `running` says whether an agent serves the folder."""

    folder: Path
    settings: NodeSettings
    running: bool
    now: datetime


Check = Callable[[Installation], Iterator[Finding]]
"""One look; what it raises is told as a fault of the check itself."""


def ok(found: str) -> Finding:
    return Finding(Result.OK, found)


def warning(found: str, to_do: str) -> Finding:
    return Finding(Result.WARNING, found, to_do)


def wrong(found: str, to_do: str = "") -> Finding:
    return Finding(Result.WRONG, found, to_do)


def dates(what: str, term: Validity, now: datetime, to_do: str) -> Finding:
    """Of something that is valid for a time: `what` it is, and when that ends."""
    match term.fault(now):
        case None:
            return ok(f"{what}: 有效至 · valid until {day(term.ends)}")
        case Fault.EXPIRES_SOON:
            return warning(f"{what}: 即将到期 · ends soon, {day(term.ends)}", to_do)
        case Fault.NOT_YET_VALID:
            return wrong(f"{what}: 尚未生效 · not valid before {day(term.begins)}", to_do)
        case _:
            return wrong(f"{what}: 已过期 · ended {day(term.ends)}", to_do)


def day(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
