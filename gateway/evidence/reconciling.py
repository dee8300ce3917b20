"""Reconciliation with the archives: once a day, and when asked, both sides' accounts are held against each other.

An account is only words. What it tells must stand in a log whose newest checkpoint the archive has signed, by both suites
where the trust list asks for two; which entries those are is left to an audit.
The account an archive stated is kept in a file, so that `lantai-gateway evidence reconcile` can do the same by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from federation.reasons import Refusal
from federation.tlog.checkpoint import Checkpoint, open_checkpoint
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.note import LARGEST_NOTE, Note
from federation.tlog.reader import LogReader
from federation.tlog.reconcile import LARGEST_ACCOUNT, Account, Reconciliation, account_of, reconcile
from federation.tlog.trusted import check_signers, keys_of_log, second_log_keys
from federation.trust import TrustList
from federation.verify.report import VerifyError
from gateway.evidence.witnesses import Objects

FOLDER = "accounts"
EVERY_S = 86_400.0
SETTLE_MS = 300_000
"""Younger events may still be under way."""

_WINDOW_MS = 3 * 86_400_000
_CLOCKS_MS = 3_600_000
"""How far the clocks of two sides may be apart before an old request seems to be a new one."""

_FIRST_AFTER_S, _AGAIN_S = 60.0, 30.0


class Stated(msgspec.Struct, frozen=True):
    """An archive's account as it was fetched: of requests with an event at or after `since_ms`, stated at `taken_ms`."""

    archive: str
    since_ms: int
    taken_ms: int
    account: Account

    @classmethod
    def read(cls, path: Path) -> Stated:
        """A file of this gateway. EvidenceError."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise EvidenceError(Flaw.MALFORMED_EVENT, f"no account: {path.name}") from None

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f"{self.archive}.json.new"
        fresh.write_bytes(msgspec.json.encode(self))
        fresh.replace(path_of(folder, self.archive))


def path_of(folder: Path, archive: str) -> Path:
    return folder / f"{archive}.json"


def check_signed(note: Note, archive: str, account: Account, trust: TrustList, now_s: float) -> None:
    """EvidenceError unless the archive signed a log at least as long as its account says, as the trust list asks, by a key that
    is believed now.
    """
    claimed = Checkpoint.parse(note.text)
    keys = keys_of_log(trust, archive, claimed.origin)
    asked = trust.parties[archive].second_suite if archive in trust.parties else None
    is_asked = asked is not None and now_s >= asked.since.timestamp()
    second = second_log_keys(trust, archive) if is_asked else None
    checkpoint = open_checkpoint(note, keys, claimed.origin, second)
    try:
        check_signers(trust, archive, note, keys, datetime.fromtimestamp(now_s, UTC))
    except VerifyError as error:
        raise EvidenceError(Flaw.UNKNOWN_SIGNER, error.reason.value) from error
    told = max((line.index for lines in account.requests.values() for line in lines), default=-1)
    if told >= checkpoint.size:
        raise EvidenceError(Flaw.NOT_INCLUDED, f"entry {told} of {checkpoint.size}")


class ReconcilingObserver(Protocol):
    """Is told the result of each archive."""

    def reconciled(self, archive: str, result: Reconciliation) -> None: ...
    def not_reconciled(self, archive: str, why: str) -> None: ...


def compare(readers: Iterable[LogReader], theirs: Stated) -> Reconciliation:
    """Hold what this side's logs say of an archive against its account, request by request."""
    logs = list(readers)
    ours = account_of(logs, archive=theirs.archive, since_ms=theirs.since_ms + _CLOCKS_MS)
    stated = {
        request: lines
        for request, lines in theirs.account.requests.items()
        if request in ours.requests or any(line.at_ms >= theirs.since_ms + _CLOCKS_MS for line in lines)
    }
    requests = sorted(ours.requests.keys() | stated.keys())
    return reconcile(
        account_of(logs, archive=theirs.archive, requests=requests),
        Account(theirs.account.origin, stated),
        settled_before_ms=theirs.taken_ms - SETTLE_MS,
    )


class Reconciler:
    """Reconciles with every archive. `run` until cancelled; `ask` makes it begin now."""

    def __init__(
        self,
        log: Path,
        archives: Iterable[str],
        objects: Objects,
        connected: Callable[[str], bool],
        now_ms: Callable[[], int],
        observer: ReconcilingObserver,
        *,
        trust: TrustList | None = None,
        is_alone: bool = True,
    ) -> None:
        """`log` is the log's file; accounts are kept beside it. `trust` says by which keys the archives sign theirs. Where replicas share cases (not `is_alone`), what is missing here may be in
        another's log and is only counted as open.
        """
        self._is_alone, self._trust = is_alone, trust
        self._log, self._objects, self._connected = log, objects, connected
        self._now_ms, self._observer = now_ms, observer
        self._due = dict.fromkeys(archives, 0.0)
        self._told: dict[str, str] = {}
        self._wake = asyncio.Event()

    def ask(self) -> None:
        """Reconcile with everybody now."""
        self._due = dict.fromkeys(self._due, 0.0)
        self._wake.set()

    async def run(self) -> None:
        """Reconcile once a day with each archive, until cancelled; one that is away when it is back."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_AFTER_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            self._wake.clear()
            pause = _AGAIN_S
            for archive in [
                one for one, due in self._due.items() if due <= loop.time() and self._connected(one)
            ]:
                if await self.reconcile(archive) is not None:
                    self._due[archive] = loop.time() + EVERY_S

    async def reconcile(self, archive: str) -> Reconciliation | None:
        """With one archive now; None when its account does not come, is none, or its log is not signed as it must be."""
        since = max(0, self._now_ms() - _WINDOW_MS)
        try:
            data = await self._objects.fetch(archive, f"log/account/{since}", LARGEST_ACCOUNT)
            taken = self._now_ms()
            account = await asyncio.to_thread(Account.read, data)
            if account.requests and self._trust is not None:
                note = Note.parse(await self._objects.fetch(archive, "log/checkpoint", LARGEST_NOTE))
                check_signed(note, archive, account, self._trust, taken / 1_000)
            result = await asyncio.to_thread(self._compare, archive, since, taken, account)
        except Refusal as refusal:
            self._tell(archive, refusal.reason.value)
        except EvidenceError as error:
            self._tell(archive, error.flaw.value)
        except OSError:
            self._tell(archive, Flaw.LOG_UNAVAILABLE.value)
        else:
            self._told.pop(archive, None)
            return result
        return None

    def _tell(self, archive: str, why: str) -> None:
        """It is tried again every half minute: a reason is told once until it is another, or all went well."""
        if self._told.get(archive) != why:
            self._told[archive] = why
            self._observer.not_reconciled(archive, why)

    def _compare(self, archive: str, since: int, taken: int, account: Account) -> Reconciliation:
        stated = Stated(archive, since, taken, account)
        stated.write(self._log.parent / FOLDER)
        with LogReader(self._log) as reader:
            result = compare([reader], stated)
        if not self._is_alone:
            elsewhere = [one for one in result.differences if one.missing == "ours"]
            result.differences = [one for one in result.differences if one.missing != "ours"]
            result.open += len(elsewhere)
        self._observer.reconciled(archive, result)
        return result


__all__ = ["Reconciler", "Stated", "compare", "path_of"]
