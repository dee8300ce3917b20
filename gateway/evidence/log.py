"""The evidence log of one gateway process: events in, checkpoints signed, and what anyone may read of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from federation.process.durable import write_secret
from federation.reasons import Reason, Refusal
from federation.suites import SM
from federation.suites.registry import suite
from federation.tlog.anchor import Anchor
from federation.tlog.checkpoint import Checkpoint, Quorum
from federation.tlog.event import Event, EventKind
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.keeping import StampKeeper, StampObserver
from federation.tlog.log import EvidenceLog
from federation.tlog.note import Note, SecondSigner, SignatureLine, Signer, VerifierKey
from federation.tlog.reader import LogReader
from federation.tlog.reconcile import Account, account_of
from federation.tlog.stamping import TimeAuthority
from federation.tlog.witness import WitnessRequest
from federation.tlog.writing import GroupCommit
from federation.verify.report import VerifyError

CHECKPOINT_EVERY_S = 1.0
SECOND_ENDING = ".sm-1.pem"
_DAY_MS = 86_400_000
_THIN_EVERY_S, _THIN_AFTER_MS = 3_600.0, _DAY_MS


class LogObserver(StampObserver, Protocol):
    """Counts what happens to the log; constant words only."""

    def logged(self, kind: str) -> None: ...
    def log_failed(self, why: str) -> None: ...
    def log_size(self, entries: int) -> None: ...


def signer_at(path: Path, origin: str) -> Signer:
    """The log's private key; made on first use under the name `origin`. EvidenceError when the file holds none."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(path, Signer.generate(origin).secret().encode())
    return Signer.parse(path.read_text("utf-8").strip())


def second_signer_at(path: Path, name: str) -> SecondSigner | None:
    """The key of a second suite beside the log's own key at `path`, None where there is no such file; `name` is the log key's.

    Made by `python -m federation.tlog key NAME FILE --second`. EvidenceError when the file holds none, or this machine lacks
    the suite.
    """
    beside = path.with_name(path.name + SECOND_ENDING)
    if not beside.exists():
        return None
    try:
        return SecondSigner(name, suite(SM).load(beside.read_bytes(), "SM2"))
    except VerifyError as error:
        flaw = Flaw.UNSUPPORTED_SUITE if error.open else Flaw.MALFORMED_KEY
        raise EvidenceError(flaw, beside.name) from error


class GatewayLog:
    """One process's log. `run` signs checkpoints until cancelled; `close` after it."""

    def __init__(
        self,
        path: Path,
        signer: Signer,
        now_ms: Callable[[], int],
        observer: LogObserver,
        *,
        second: SecondSigner | None = None,
        authority: TimeAuthority | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        """`second` signs checkpoints beside `signer`; `authority` and `anchor` are what `stamps` goes to. EvidenceError: the file is another process's, no log, or can
        not be written.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log = EvidenceLog(path, signer, second)
        self._reader = LogReader(path)  # never waits for the writer
        self._commit = GroupCommit(self._log)
        self.stamps = StampKeeper(self._log, now_ms, observer, authority, anchor)
        self._now_ms, self._observer = now_ms, observer
        self._loop = asyncio.get_running_loop()
        self._settled: deque[tuple[Event, asyncio.Future[None], BaseException | None]] = deque()
        self._settling = threading.Lock()

    @property
    def origin(self) -> str:
        return self._reader.origin

    @property
    def key(self) -> VerifierKey:
        """The public key this log signs with."""
        return self._log.signer_key

    @property
    def path(self) -> Path:
        return self._reader.path

    # writing -----------------------------------------------------------------------------------------------------

    def note(self, event: Event, *, first_stays: bool = False) -> asyncio.Future[None]:
        """Log an event; the future ends when it is durable, or with EvidenceError. The same event again is logged once,
        with the time of its first coming; with `first_stays` so is whatever else comes under its id.
        """
        waiting: asyncio.Future[None] = self._loop.create_future()
        self._commit.submit(event).add_done_callback(
            lambda done: self._written(event, waiting, done, first_stays=first_stays)
        )
        return waiting

    def _written(
        self, event: Event, waiting: asyncio.Future[None], done: Future[int], *, first_stays: bool
    ) -> None:
        """In the writer's thread; all of a batch are told in one turn of the loop."""
        error = done.exception()
        is_conflict = isinstance(error, EvidenceError) and error.flaw is Flaw.EVENT_CONFLICT
        if is_conflict and (first_stays or self.knows(event)):
            error = None
        with self._settling:
            is_first = not self._settled
            self._settled.append((event, waiting, error))
        if is_first:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        with self._settling:
            settled = list(self._settled)
            self._settled.clear()
        for event, waiting, error in settled:
            if error is None:
                self._observer.logged(event.kind.value)
            else:
                why = error.flaw.value if isinstance(error, EvidenceError) else "internal"
                self._observer.log_failed(why)
            if waiting.done():
                continue
            if error is None:
                waiting.set_result(None)
            else:
                waiting.set_exception(error)
                waiting.exception()  # whoever does not wait is told by the counter

    def missed(self, why: Flaw) -> None:
        """Something nobody waits for was not even tried; counted like what failed."""
        self._observer.log_failed(why.value)

    async def run(self) -> None:
        """Sign a checkpoint each second in which something happened, until cancelled; forget old ones but one an hour."""
        thinned_at = -_THIN_EVERY_S
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY_S)
            try:
                note = await asyncio.to_thread(self._log.checkpoint, self._now_ms())
                if note is not None:
                    self._observer.log_size(Checkpoint.parse(note.text).size)
                if self._loop.time() - thinned_at > _THIN_EVERY_S:
                    thinned_at = self._loop.time()
                    await asyncio.to_thread(self._log.thin_checkpoints, self._now_ms() - _THIN_AFTER_MS)
            except EvidenceError as error:
                self._observer.log_failed(error.flaw.value)

    @property
    def is_alive(self) -> bool:
        """Whether the writer's thread still works."""
        return self._commit.is_alive

    def close(self) -> None:
        """Write what waits, sign it, and let another process in."""
        self._commit.close()
        with contextlib.suppress(EvidenceError):
            self._log.checkpoint(self._now_ms(), gap_ms=0)
        self._reader.close()
        self._log.close()

    # reading; all of it blocks on the disk ---------------------------------------------------------------------------

    def newest(self) -> Note:
        """The newest checkpoint with the cosignatures it has. Refusal(NOT_FOUND) while the log is empty."""
        note = self._reader.latest()
        if note is None:
            raise Refusal(Reason.NOT_FOUND)
        return note

    def tile(self, path: str) -> bytes:
        """A tile or bundle by its C2SP address. Refusal(NOT_FOUND) when there is none."""
        try:
            return self._reader.tile(path)
        except EvidenceError as error:
            if error.flaw is Flaw.UNKNOWN_ENTRY:
                raise Refusal(Reason.NOT_FOUND) from None
            raise

    def newest_at_ms(self) -> int:
        """The time of the newest event; 0 while there is none."""
        entry = self._reader.entry_at(self._reader.size - 1)
        return 0 if entry is None else entry.at_ms

    def has(self, request: str, kind: EventKind, archive: str) -> bool:
        """Whether an event of this kind and archive was logged of a request."""
        for entry in self._reader.of_request(request):
            event = entry.read() if entry.kind == kind.value else None
            if event is not None and event.fields.get("archive") == archive:
                return True
        return False

    def knows(self, event: Event) -> bool:
        """Whether it was logged before and says the same but for its time; of an erased one nothing is left to compare."""
        with contextlib.suppress(EvidenceError):
            entry = self._reader.entry(event.id, event.request)
            if entry is not None:
                before = entry.read()
                return before is None or (before.kind, before.fields) == (event.kind, event.fields)
        return False

    def account(self, archive: str, *, since_ms: int = 0, requests: Iterable[str] | None = None) -> Account:
        """What this process logged of exchanges with an archive."""
        with LogReader(self.path) as reader:  # long readings hold up nobody
            return account_of(reader, archive=archive, since_ms=since_ms, requests=requests)

    # witnesses -------------------------------------------------------------------------------------------------------

    def witness_request(self, known: int) -> WitnessRequest | None:
        """What a witness that has seen `known` leaves is asked; None while the log is empty. EvidenceError when the log
        has fewer.
        """
        note = self._log.checkpoint(self._now_ms(), gap_ms=0)
        if note is None:
            return None
        return WitnessRequest(known, self._log.consistency(known, Checkpoint.parse(note.text)), note)

    def add_cosignatures(self, size: int, lines: Iterable[SignatureLine], witnesses: Quorum) -> None:
        """Keep what known witnesses signed. EvidenceError."""
        self._log.add_cosignatures(size, lines, witnesses)
