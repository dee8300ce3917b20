"""What lies in the data folder: who may read it, room, databases, index, and whether a backup was put back. Nothing is changed."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from federation.tlog.flaws import TEXTS as FLAWS
from federation.tlog.flaws import EvidenceError
from federation.tlog.store import check_version as check_log
from node_agent.backup import manifest
from node_agent.backup.moment import stores_of
from node_agent.certificates import keys as key_files
from node_agent.desk import store as desk
from node_agent.doctor.findings import Finding, Installation, ok, warning, wrong
from node_agent.evidence import archive_log
from node_agent.index import Lookup, NoIndexError, UnusableIndexError
from node_agent.index.folder import DataFolder

OLD_INDEX_S = 365 * 86_400
"""An archive takes in some catalogue each year; what a gateway calls stale is set there (`stale_after_s`)."""

LEAST_FREE = 100 << 20
"""Bytes: below, a day's documents, logs and databases may not fit."""

_COMFORTABLE = 1 << 30
_PRIVATE = ("index.key", "federation.key", "messenger.key")
_PUBLIC_KEYS = frozenset({"seal.pem"})


def modes(at: Installation) -> Iterator[Finding]:
    """Keys, databases and documents are their owner's alone, and one user's."""
    folder = at.folder
    keys = sorted(path for path in (folder / key_files.FOLDER).glob("*") if path.suffix in {".key", ".pem"})
    secrets = [folder / name for name in _PRIVATE] + [one for one in keys if one.name not in _PUBLIC_KEYS]
    kept = [*stores_of(folder), *folder.glob("index.*.sqlite")]
    kept += [folder / name for name in ("documents", "deliverables", key_files.FOLDER)]
    loose = [_name(path, folder) for path in [*secrets, *kept] if _is_open_to_others(path)]
    set_elsewhere = [folder / one for one in (at.settings.key, at.settings.desk_key) if one]
    loose_elsewhere = [
        str(path) for path in set_elsewhere if path not in secrets and _is_open_to_others(path)
    ]
    strangers = [_name(path, folder) for path in [*secrets, *kept] if _is_anothers(path, folder)]
    if loose:
        yield wrong(
            f"他人可读 · others may read: {_some(loose)}",
            "收回他人的权限（chmod go=），并考虑更换已外露的密钥 · take it from others (chmod go=), and think of new keys for those that were open",
        )
    if loose_elsewhere:
        yield warning(
            f"他人可读的 TLS 私钥 · TLS keys that others may read: {_some(loose_elsewhere)}",
            "收回他人的权限 · take it from others (chmod go=)",
        )
    if _is_open_to_others(folder):
        yield warning(
            "他人可列出数据目录 · others may look into the data folder",
            f"chmod 700 {folder}",
        )
    if strangers:
        yield wrong(
            f"属于另一用户，节点可能读写不了 · another user's than the folder, the agent may not read or write: {_some(strangers)}",
            "以节点的用户运行各命令，并改正属主（chown） · run commands as the agent's user, and mend the owner (chown)",
        )
    if not (loose or loose_elsewhere or strangers or _is_open_to_others(folder)):
        yield ok("密钥与数据库仅属主可读 · keys and databases are their owner's alone")


def _is_open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def _is_anothers(path: Path, folder: Path) -> bool:
    try:
        return path.stat().st_uid != folder.stat().st_uid
    except OSError:
        return False


def _name(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" … ({len(names)})" if len(names) > 5 else "")


def disk(at: Installation) -> Iterator[Finding]:
    """Room for what the agent writes, and for an import, which may build a new index beside the old one."""
    free = shutil.disk_usage(at.folder).free
    index = 0
    with contextlib.suppress(UnusableIndexError, OSError):
        current = DataFolder(at.folder).current()
        index = current.stat().st_size if current is not None else 0
    told = f"可用 · free: {free >> 20:,} MB"
    if free < LEAST_FREE:
        yield wrong(
            told,
            "立即腾出空间：写不下时不收件、不出证 · make room now: on a full disk nothing is taken in or issued",
        )
    elif free < 2 * index + _COMFORTABLE:
        yield warning(
            f"{told}；索引 · index {index >> 20:,} MB",
            "腾出空间：导入会在旧索引旁另建新索引 · make room: an import may build a new index beside the old one",
        )
    else:
        yield ok(told)


def stores(at: Installation) -> Iterator[Finding]:
    """Each database can be opened and is of this version; they are not read through, as a backup does."""
    names = []
    for path in stores_of(at.folder):
        try:
            with contextlib.closing(_opened(path)) as reading:
                if reading.execute("select count(*) from sqlite_schema").fetchone()[0]:
                    _check_version(path.name, reading)
        except (sqlite3.Error, EvidenceError, desk.StoreVersionError) as error:
            yield wrong(f"{path.name}: {_told(error)}", _RESTORE)
        else:
            names.append(path.name)
    if names:
        yield ok(f"可打开 · can be opened: {', '.join(names)}")
    else:
        yield ok("尚无数据库，首次启动时建立 · none yet; they are made at the first start")


_RESTORE = "停止节点，从备份恢复，见“备份与恢复” · stop the agent and restore from a backup, see Backup and restore in docs/operations.md"


def _opened(path: Path) -> sqlite3.Connection:
    """Read-only, and without files beside it where nobody has it open."""
    is_used = path.with_name(f"{path.name}-wal").exists()
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{'' if is_used else '&immutable=1'}", uri=True, timeout=1.0
    )


def _check_version(name: str, reading: sqlite3.Connection) -> None:
    if name == desk.FILE:
        desk.check_version(reading.execute("pragma user_version").fetchone()[0])
    elif name == archive_log.FILE:
        check_log(reading)


def _told(error: Exception) -> str:
    if isinstance(error, EvidenceError):
        return f"{FLAWS[error.flaw].zh} · {FLAWS[error.flaw].en}"
    if isinstance(error, sqlite3.Error):
        return f"打不开或已损坏 · can not be opened, or is damaged: {getattr(error, 'sqlite_errorname', 'SQLITE_ERROR')}"
    return str(error)


def index(at: Installation) -> Iterator[Finding]:
    """It can be used, as a search would, and how old it is."""
    lookup = Lookup(at.folder)
    try:
        held = lookup.holdings()
    except NoIndexError:
        yield warning(
            "尚未导入目录，联邦查询因此不完整 · nothing imported yet: searches of the federation are partial",
            "lantai-node import",
        )
    except UnusableIndexError as error:
        yield wrong(str(error))
    except (sqlite3.Error, OSError) as error:
        yield wrong(
            f"读不到索引 · the index can not be read: {type(error).__name__}",
            "以节点的用户运行 · run this as the agent's user",
        )
    else:
        told = f"记录 records {held.records:,}，版本号 epoch {held.epoch}，上次导入 last import {held.age_s // 86_400} 天前 · days ago"
        if held.age_s > OLD_INDEX_S:
            yield warning(
                told,
                "导入新的目录；目录截至日期会写入查无证明 · import what is new: no-record notes state this date",
            )
        else:
            yield ok(told)
    finally:
        lookup.close()


def restored(at: Installation) -> Iterator[Finding]:
    """A folder that was put back from a backup gives out numbers that were given, until somebody has seen to it."""
    if (at.folder / manifest.NAME).exists():
        made = manifest.read(at.folder)
        since = "?" if made is None else made.at
        yield warning(
            f"此目录恢复自备份，截至 · this folder was put back from a backup of {since}",
            f"按“备份与恢复”处理此后的编号、撤销与存证日志，然后删除 {manifest.NAME}"
            f" · see to numbers, revocations and the evidence log of after it (Backup and restore in docs/operations.md), then remove {manifest.NAME}",
        )
    else:
        yield ok("不是恢复的备份 · not put back from a backup")
