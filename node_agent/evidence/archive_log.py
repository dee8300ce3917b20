"""The archive's evidence log as a running part of the agent: events in, checkpoints, proofs, and what others may fetch."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from federation import mail
from federation.bulk.answering import Object
from federation.mail import UnreadableMailError
from federation.reasons import Reason, Refusal
from federation.tlog.anchor import Anchor
from federation.tlog.checkpoint import Checkpoint, Quorum
from federation.tlog.event import Event, EventKind
from federation.tlog.event_proof import prove_event
from federation.tlog.exchange import delivered, event_of, signed_anew, standing
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.keeping import StampKeeper
from federation.tlog.log import EvidenceLog
from federation.tlog.note import Note, SecondSigner, SignatureLine, Signer, VerifierKey
from federation.tlog.reader import Entry
from federation.tlog.reconcile import account_of
from federation.tlog.stamping import TimeAuthority
from federation.tlog.witness import SecondKeys, Witness, WitnessRequest
from federation.tlog.writing import GroupCommit
from node_agent import telemetry
from node_agent.objects import in_memory

FILE, WITNESS_FILE = "evidence.sqlite", "witness.sqlite"
CHECKPOINT_EVERY_S = 1.0


class ArchiveLog:
    """One archive's log. `run` signs checkpoints until cancelled; `close` after it."""

    def __init__(
        self,
        folder: Path,
        archive: str,
        signer: Signer,
        now_ms: Callable[[], int],
        witnesses: Quorum | None = None,
        *,
        second: SecondSigner | None = None,
        authority: TimeAuthority | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        """`witnesses` are those whose cosignatures are kept; `second` signs checkpoints beside `signer`; `authority` and
        `anchor` are what `stamps` goes to.
        """
        self.archive, self._now_ms, self._witnesses = archive, now_ms, witnesses
        self._log = EvidenceLog(folder / FILE, signer, second)
        self._commit = GroupCommit(self._log)
        self.stamps = StampKeeper(self._log, now_ms, telemetry.StampObserver(), authority, anchor)

    # writing -----------------------------------------------------------------------------------------------------

    async def message(self, mail_id: bytes, case_id: str, body: bytes, *, is_arriving: bool) -> None:
        """Log a case message, durable on return; EvidenceError when it can not be. One that only tells is not logged."""
        with contextlib.suppress(UnreadableMailError):
            read = mail.read_to_desk if is_arriving else mail.read_from_desk
            event = event_of(self.archive, mail_id, case_id, read(body), self._now_ms())
            if event is not None:
                await self._append(event)

    async def _append(self, event: Event) -> None:
        known = await asyncio.to_thread(self._log.entry, event.id, event.request)
        if known is None:  # the same message again keeps the time of its first coming
            await self._commit.append(event)

    def delivered(self, case_id: str, number: str, reference: str) -> None:
        """The last byte of a document has left; not waited for."""
        if self._log.entry(f"delivered:{reference}", case_id) is None:
            self._commit.submit(delivered(self.archive, case_id, number, reference, self._now_ms()))

    def commit_document(self, case_id: str, number: str, form: str, digest: bytes) -> bytes:
        """Commit to a document's content before it is signed; the proof to put inside. EvidenceError."""
        name = f"committed:{number}:{digest.hex()[:32]}"
        entry = self._log.entry(name, case_id)
        if entry is None:
            fields = {"digest": digest.hex(), "archive": self.archive, "number": number, "document": form}
            self._log.append([Event(EventKind.DOCUMENT_COMMITTED, name, self._now_ms(), case_id, fields)])
            entry = self._log.entry(name, case_id)
            assert entry is not None
        self._log.checkpoint(self._now_ms(), gap_ms=0)
        return str(prove_event(self._log, entry.index)).encode()

    def standing(
        self, number: str, case_id: str, state: str, reason: str, successor: str, digest: str
    ) -> None:
        """A document was revoked or replaced: logged once."""
        event = standing(self.archive, number, case_id, state, reason, successor, digest, self._now_ms())
        if self._log.entry(event.id, case_id) is None:
            self._log.append([event])

    def in_vain(self, number: str, case_id: str, reason: str, digest: str) -> None:
        """A document nobody was told of does not stand: the case ended without it. Logged once, and here alone, since only this
        side has it.
        """
        fields = {"outcome": "revoked", "reason": reason, "archive": self.archive, "digest": digest}
        event = Event(EventKind.CLOSED, f"closed:{number}", self._now_ms(), case_id, fields)
        if self._log.entry(event.id, case_id) is None:
            self._log.append([event])

    def signed_anew(self, case_id: str, number: str, form: str, digest: str, at_ms: int) -> Event:
        """The event of something that was signed anew at `at_ms`, for `add`."""
        return signed_anew(self.archive, number, case_id, form, digest, at_ms)

    def add(self, events: Iterable[Event]) -> None:
        """Log events, durable on return; one that is in the log keeps its place. EvidenceError."""
        self._log.append(events)

    async def run(self) -> None:
        """Sign a checkpoint each second in which something happened, until cancelled."""
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY_S)
            with contextlib.suppress(EvidenceError):
                await asyncio.to_thread(self._log.checkpoint, self._now_ms())

    def close(self) -> None:
        self._commit.close()
        self._log.close()

    def entries(self, kinds: Collection[EventKind]) -> Iterator[Entry]:
        """What was logged of these kinds, the oldest first."""
        return self._log.entries(kinds=kinds)

    def committed_numbers(self) -> Iterator[str]:
        """The numbers that documents were committed to under, also of events that were erased. They are in the ids: to read 200,000
        events takes 3 s.
        """
        for entry in self.entries((EventKind.DOCUMENT_COMMITTED,)):
            yield from entry.id.split(":")[1:2]

    # what others may fetch ---------------------------------------------------------------------------------------

    def open(self, name: str, body: bytes) -> Object:
        """Objects of `log/`: checkpoint, tile/…, entry proofs never (they hold contents); the relay of witnesses; the
        account another side is reconciled with.
        """
        kind, _, rest = name.partition("/")
        try:
            match kind:
                case "checkpoint":
                    return _text(str(self._newest()))
                case "tile":
                    return in_memory(self._log.tile(f"tile/{rest}"), "application/octet-stream")
                case "witness-request":
                    return _text(self._witness_request(int(rest)))
                case "cosign":
                    return _text(self._cosign(body))
                case "account":
                    account = account_of(self._log, archive=self.archive, since_ms=int(rest or "0"))
                    return in_memory(account.write(), "application/json")
        except EvidenceError as error:
            # a disk that is full or locked is no word on what the log holds
            is_away = error.flaw is Flaw.LOG_UNAVAILABLE
            raise Refusal(Reason.STORE_UNAVAILABLE if is_away else Reason.OUT_OF_RANGE) from None
        except ValueError:
            raise Refusal(Reason.OUT_OF_RANGE) from None
        raise Refusal(Reason.NOT_FOUND)

    def _newest(self) -> Note:
        note = self._log.checkpoint(self._now_ms(), gap_ms=0) or self._log.latest()
        if note is None:
            raise Refusal(Reason.NOT_FOUND)
        return note

    def _witness_request(self, known: int) -> str:
        """What a witness that has seen `known` leaves is asked."""
        note = self._newest()
        proof = self._log.consistency(known, Checkpoint.parse(note.text))
        return str(WitnessRequest(known, proof, note))

    def _cosign(self, body: bytes) -> str:
        """Keep what witnesses signed: {"size": …, "lines": [...]}; lines of nobody known are dropped."""
        tree = json.loads(body)
        lines = [SignatureLine.parse(str(line)) for line in tree["lines"]]
        if self._witnesses is None:
            raise Refusal(Reason.NOT_PERMITTED)
        return str(self._log.add_cosignatures(int(tree["size"]), lines, self._witnesses))


class ArchiveWitness:
    """The archive as witness of the other logs."""

    def __init__(
        self,
        folder: Path,
        signer: Signer,
        logs: Callable[[datetime], dict[str, list[VerifierKey]]],
        second: dict[str, SecondKeys] | None = None,
    ) -> None:
        """`logs` are the logs it watches at a time, by origin, and `second` those of them that sign twice: both of
        federation.tlog.trusted.
        """
        self._logs = logs
        self._witness = Witness(folder / WITNESS_FILE, signer, {}, second)

    def open(self, name: str, body: bytes) -> Object:
        """Objects of `witness/`: `add-checkpoint` answers with the status in the first line, then the body."""
        if name != "add-checkpoint":
            raise Refusal(Reason.NOT_FOUND)
        now = datetime.now(UTC)
        self._witness.watch(self._logs(now))
        answer = self._witness.add_checkpoint(body, int(now.timestamp()))
        return _text(f"{answer.status}\n{answer.body}")

    def close(self) -> None:
        self._witness.close()


def _text(text: str) -> Object:
    return in_memory(text.encode(), "text/plain")
