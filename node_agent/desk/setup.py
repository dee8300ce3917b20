"""The desk as archive.toml describes it: hours, duty rota, release rule, opened over the data folder."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from federation.service_hours import CalendarError, ServiceHours
from node_agent.desk.desk import Desk
from node_agent.desk.issuing import CanIssue
from node_agent.desk.records import IndexRecords
from node_agent.desk.rota import Rota, RotaError
from node_agent.desk.rules import ReleaseRule, RuleError
from node_agent.desk.store import Store
from node_agent.disclosure import Disclosure
from node_agent.index import Lookup
from node_agent.settings import NodeSettings, SettingsError


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def hours_of(settings: NodeSettings) -> ServiceHours | None:
    """The archive's calendar; None = it announces none. SettingsError says what is wrong."""
    if not settings.hours:
        return None
    try:
        return ServiceHours.from_dict(settings.hours)
    except CalendarError as error:
        raise SettingsError(f"[hours] {error}") from error


def rota_of(settings: NodeSettings) -> Rota:
    try:
        return Rota.from_dict(settings.rota)
    except RotaError as error:
        raise SettingsError(f"[rota] {error}") from error


def rule_of(settings: NodeSettings) -> ReleaseRule:
    try:
        return ReleaseRule.from_dict(settings.release)
    except RuleError as error:
        raise SettingsError(f"[release] {error}") from error


def open_desk(
    folder: Path,
    settings: NodeSettings,
    lookup: Lookup,
    disclosure: Disclosure,
    can_issue: CanIssue | None = None,
) -> Desk:
    """The desk of a data folder; SettingsError names what is wrong with its tables."""
    hours, rota, rules = hours_of(settings), rota_of(settings), rule_of(settings)
    return Desk(
        Store(folder, settings.archive),
        settings.archive,
        now_ms=now_ms,
        rules=rules,
        rota=rota,
        hours=hours,
        records=IndexRecords(lookup, disclosure.reference),
        can_issue=can_issue,
        keep_people_ms=settings.desk_forget_after_days * 86_400_000,
    )


def announced(settings: NodeSettings) -> dict[str, str]:
    """What the manifest says of the desk, as JSON: its calendar, if it has one, and its release rule."""
    hours, rule = hours_of(settings), rule_of(settings)
    return {
        "service_hours": "" if hours is None else msgspec.json.encode(hours.to_dict()).decode(),
        "release_rule": msgspec.json.encode(rule.published()).decode(),
    }
