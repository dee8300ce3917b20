"""One backup, from the checks that can refuse it to the rename that makes it one: written beside its place, read back, then renamed,
so that a killed one leaves nothing that looks whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from federation.process.durable import sync
from federation.process.version import VERSION
from node_agent import settings as settings_module
from node_agent.backup import manifest as manifest_module
from node_agent.backup.copying import (
    Advance,
    checked,
    copy_file,
    copy_store,
    digest_of,
    files_below,
    is_altered,
    naming_trouble,
    open_copy,
    size_of,
    writing,
)
from node_agent.backup.manifest import Copied, Manifest
from node_agent.backup.moment import Moment, one_moment
from node_agent.backup.refusals import BackupRefusedError, Why
from node_agent.certificates import registry
from node_agent.certificates import store as certificates
from node_agent.index.folder import POINTER
from node_agent.settings import SettingsError

PACKED = ".tar"
_FILES_OF_DOCUMENTS = ("trust_list", "time_certificate", "stamp_certificate", "anchor_file")
_SPARE_BYTES = 64 << 20
"""What must be left on the disk: the folder's own entries, and room for whatever else writes there meanwhile."""

_BEGUN = ".lantai-backup-"

Begin = Callable[[str, int], Advance]
"""Told what is done now, in both languages, and of how many bytes; gives what is to be told of each part of them."""


def back_up(folder: Path, target: Path, begin: Begin) -> Manifest:
    """Copy the data folder to `target`, a folder or, named `.tar`, one file; durable on return. BackupRefusedError, and nothing is left."""
    if not (folder / settings_module.FILE).is_file() and not (folder / POINTER).is_file():
        raise BackupRefusedError(Why.NO_DATA_FOLDER, folder)
    _check_target(folder, target)
    is_packed = target.suffix == PACKED
    with _begun(target) as fresh:
        content = fresh / target.stem
        made = _copied(folder, content, begin, copies=2 if is_packed else 1)
        whole = _packed(content, made, begin) if is_packed else content
        with naming_trouble(target):
            if os.path.lexists(target):  # it came meanwhile
                raise BackupRefusedError(Why.TARGET_EXISTS, target)
            whole.rename(target)
            sync(target.parent)
    return made


def _check_target(folder: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise BackupRefusedError(Why.TARGET_EXISTS, target)
    if not target.parent.is_dir():
        raise BackupRefusedError(Why.NO_TARGET_FOLDER, target.parent)
    if target.parent.resolve().is_relative_to(folder.resolve()):
        raise BackupRefusedError(Why.TARGET_INSIDE, target)


@contextlib.contextmanager
def _begun(target: Path) -> Iterator[Path]:
    """A folder beside the target, locked while it is written and removed at the end; those that killed backups left there go too."""
    with naming_trouble(target):
        for left in target.parent.glob(f"{_BEGUN}*"):
            if (lock := _locked(left)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)
    fresh = target.with_name(f"{_BEGUN}{target.name}")
    try:
        with naming_trouble(target):
            fresh.mkdir(mode=0o700)
    except BackupRefusedError as error:
        if fresh.exists():
            raise BackupRefusedError(Why.BEING_WRITTEN, target) from error
        raise
    lock = _locked(fresh)
    if lock is None:  # somebody is just clearing it away
        raise BackupRefusedError(Why.BEING_WRITTEN, target)
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        os.close(lock)


def _locked(begun: Path) -> int | None:
    """A descriptor that holds the folder; None when another process has it, or it is gone."""
    try:
        handle = os.open(begun, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _copied(folder: Path, content: Path, begin: Begin, *, copies: int) -> Manifest:
    """Everything copied into the folder `content` and read back, with what the backup says of itself."""
    with naming_trouble(content):
        content.mkdir(mode=0o700)
    files_size = sum(size_of(folder / path) for path in files_below(folder, []))
    digests: dict[str, str] = {}
    left_out: list[str] = []
    with one_moment(folder) as moment:
        total = files_size + sum(map(_size, moment.stores.values()))
        _check_space(content, total * copies)
        advance = begin("复制 · copying", total)
        for name, reading in moment.stores.items():
            copy_store(reading, content / name, advance)
            reading.close()  # while it reads, the file it reads keeps what it replaces
            digests[name] = ""
    if moment.index:
        digests[POINTER] = _write(content / POINTER, f"{moment.index}\n".encode())
    for path in files_below(folder, left_out):
        with naming_trouble(content):
            for above in reversed(path.parents):
                (content / above).mkdir(mode=0o700, exist_ok=True)
        digest = copy_file(folder / path, content / path, advance)
        if digest is not None:  # else it went meanwhile, and no row names it
            digests[str(path)] = digest
    made = _told(
        folder, content, moment, _read_back(content, digests, begin("核对 · verifying", total)), left_out
    )
    _write(content / manifest_module.NAME, made.write())
    with naming_trouble(content):
        for below in [content, *(path for path in content.rglob("*") if path.is_dir())]:
            sync(below)
    return made


def _size(reading: sqlite3.Connection) -> int:
    ((pages,), (page,)) = (
        reading.execute(f"pragma {name}").fetchone() for name in ("page_count", "page_size")
    )
    return int(pages * page)


def _check_space(where: Path, needed: int) -> None:
    with naming_trouble(where):
        free = shutil.disk_usage(where).free
    if needed + _SPARE_BYTES > free:
        wanted, left = (f"{size / (1 << 20):,.0f} MB" for size in (needed + _SPARE_BYTES, free))
        raise BackupRefusedError(
            Why.NO_SPACE, where.parent.parent, f"需要 {wanted}，可用 {left} · {wanted} needed, {left} free"
        )


def _write(path: Path, content: bytes) -> str:
    """A small file of the backup's own; its SHA-256."""
    with writing(path) as write:
        write(content)
    return hashlib.sha256(content).hexdigest()


def _read_back(content: Path, digests: Mapping[str, str], advance: Advance) -> list[Copied]:
    """Every file as it is on the disk. BackupRefusedError when one is not what was read."""
    files = []
    for name, digest in sorted(digests.items()):
        files.append(checked(content / name, name, digest))
        advance(files[-1].size)
    return files


def _told(
    folder: Path, content: Path, moment: Moment, files: Sequence[Copied], left_out: Sequence[str]
) -> Manifest:
    altered = {f"{one.path}: 已被改动 · altered" for one in files if is_altered(one.path, one.sha256)}
    lacking = {
        name
        for name in _named_by_rows(content) - {one.path for one in files}
        if not any(
            Path(name).is_relative_to(one) for one in left_out
        )  # of those it is told that they are elsewhere
    }
    archive, outside = _settings(folder)
    return Manifest(
        at=moment.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        archive=archive,
        software=VERSION,
        index=moment.index,
        files=tuple(files),
        left_out=tuple(left_out),
        outside=outside,
        flaws=tuple(sorted(altered | {f"{name}: 缺失 · missing" for name in lacking})),
    )


def _named_by_rows(content: Path) -> set[str]:
    """The files that rows of the copied stores name."""
    found: set[str] = set()
    for module in (certificates, registry):
        path = content / module.FILE
        if path.exists():
            with (
                contextlib.closing(open_copy(path)) as reading,
                contextlib.suppress(sqlite3.OperationalError),
            ):
                # a file that was just begun has no tables yet
                found |= {f"{module.FOLDER}/{name[:2]}/{name}" for name in module.named(reading)}
    return found


def _settings(folder: Path) -> tuple[str, tuple[str, ...]]:
    """The archive's code, and the settings whose files lie outside the data folder; nothing where settings can not be read."""
    try:
        settings = settings_module.load(folder)
    except SettingsError:
        return "", ()
    named = [
        (one, getattr(settings, one)) for one in ("ca", "certificate", "key", "desk_certificate", "desk_key")
    ]
    table = settings.documents
    named += [(f"documents.{one}", table.get(one, "")) for one in _FILES_OF_DOCUMENTS]
    named += [("documents.time_crls", one) for one in table.get("time_crls", ())]
    home = folder.resolve()
    outside = [
        f"{setting}: {path}"
        for setting, path in named
        if path and not (folder / str(path)).resolve().is_relative_to(home)
    ]
    return settings.archive, tuple(outside)


def _packed(content: Path, made: Manifest, begin: Begin) -> Path:
    """The same as one file beside it, read back; not compressed, since what is large in it is already."""
    path = content.with_suffix(PACKED)
    advance = begin("打包 · packing", 2 * made.size)
    with naming_trouble(path):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                for one in [content, *sorted(content.rglob("*"))]:
                    tar.add(one, str(Path(content.name) / one.relative_to(content)), recursive=False)
                    advance(one.stat().st_size if one.is_file() else 0)
            file.flush()
            os.fsync(file.fileno())
        with tarfile.open(path) as tar:
            for told in made.files:
                reading = tar.extractfile(f"{content.name}/{told.path}")
                if reading is None or digest_of(reading)[0] != told.sha256:
                    raise BackupRefusedError(Why.COPY_DIFFERS, told.path)
                advance(told.size)
    return path
