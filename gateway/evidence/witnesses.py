"""The witness courier: brings every log's newest checkpoint to witness archives and their cosignatures back to the log.

A witness that has seen another history than a log tells now is the sign of a restored backup or of a rewritten log: that
is what witnesses are for, and it is an alarm.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from federation.reasons import Reason, Refusal
from federation.tlog.checkpoint import Checkpoint, Quorum, read_decimal
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.note import LARGEST_NOTE, SignatureLine, VerifierKey
from federation.tlog.witness import (
    CONFLICT,
    LARGEST_REQUEST,
    OK,
    UNPROCESSABLE,
    WitnessAnswer,
    WitnessRequest,
)
from federation.trust import TrustList, Use
from gateway.evidence.log import GatewayLog

ROUND_S = 30.0
MOST_WITNESSES = 5
"""Asked for one log: the same ones every time while they are connected, so that two histories meet at one of them."""

OWN = "gateway"
_TRIES = 3
_AT_ONCE = 8


class Objects(Protocol):
    """Fetches small objects from archives. Refusal."""

    async def fetch(self, archive: str, name: str, most: int, body: bytes = b"") -> bytes: ...


class WitnessObserver(Protocol):
    """Counts; `log` is an archive's code, or `gateway` for this process's own."""

    def cosigned(self, log: str) -> None: ...
    def witness_failed(self, log: str, why: str) -> None: ...
    def fork(self, log: str, why: str) -> None: ...


class WatchedLog(Protocol):
    """A log that is brought to witnesses."""

    name: str

    async def request(self, known: int) -> WitnessRequest | None:
        """What a witness of `known` leaves is asked; None while there is nothing. EvidenceError, when it has fewer."""
        ...

    async def cosign(self, size: int, lines: list[SignatureLine]) -> None: ...


class OwnLog:
    """The log of this process."""

    name = OWN

    def __init__(self, log: GatewayLog, witnesses: Quorum) -> None:
        self._log, self._witnesses = log, witnesses

    async def request(self, known: int) -> WitnessRequest | None:
        return await asyncio.to_thread(self._log.witness_request, known)

    async def cosign(self, size: int, lines: list[SignatureLine]) -> None:
        await asyncio.to_thread(self._log.add_cosignatures, size, lines, self._witnesses)


class ArchiveLog:
    """The log of an archive, by the bulk stream."""

    def __init__(self, archive: str, objects: Objects) -> None:
        self.name, self._objects = archive, objects

    async def request(self, known: int) -> WitnessRequest | None:
        try:
            body = await self._objects.fetch(self.name, f"log/witness-request/{known}", LARGEST_REQUEST)
        except Refusal as refusal:
            if refusal.reason is Reason.NOT_FOUND:
                return None
            if refusal.reason is Reason.OUT_OF_RANGE and known:
                raise EvidenceError(Flaw.NOT_CONSISTENT, f"nothing follows {known}") from None
            raise
        return WitnessRequest.parse(body)

    async def cosign(self, size: int, lines: list[SignatureLine]) -> None:
        body = msgspec.json.encode({"size": size, "lines": [str(line) for line in lines]})
        await self._objects.fetch(self.name, "log/cosign", LARGEST_NOTE, body)


class Courier:
    """Carries for all logs of one trust list. `run` until cancelled."""

    def __init__(
        self,
        trust: TrustList,
        archives: Collection[str],
        objects: Objects,
        connected: Callable[[str], bool],
        own: GatewayLog,
        observer: WitnessObserver,
    ) -> None:
        self._objects, self._connected, self._observer = objects, connected, observer
        """`archives` are those with a log; of them the ones with a witness key are asked to witness."""
        keys = [(key.issuer, VerifierKey.parse(key.vkey)) for key in trust.keys(Use.WITNESS) if key.vkey]
        self._witnesses = sorted({issuer for issuer, _key in keys} & set(archives))
        self._archives = {code: ArchiveLog(code, objects) for code in archives}
        self._own = OwnLog(own, Quorum(0, tuple(key for _issuer, key in keys)))
        self._seen: dict[tuple[str, str], Checkpoint] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Make the rounds, until cancelled."""
        while True:
            await asyncio.sleep(ROUND_S)
            await self.round()

    async def round(self) -> None:
        """Bring what is new of every log that can be reached to its witnesses."""
        logs: list[WatchedLog] = [self._own]
        logs += [log for code, log in self._archives.items() if self._connected(code)]
        await asyncio.gather(*[self._carry(log) for log in logs])

    async def _carry(self, log: WatchedLog) -> None:
        async with self._room:
            for witness in self.witnesses_of(log.name):
                try:
                    await self._bring(log, witness)
                except EvidenceError as error:
                    if error.flaw in {Flaw.HISTORY_SHORTENED, Flaw.HISTORY_REWRITTEN}:
                        self._observer.fork(log.name, error.flaw.value)
                    else:
                        self._observer.witness_failed(log.name, error.flaw.value)
                except Refusal as refusal:
                    self._observer.witness_failed(log.name, refusal.reason.value)
                except Exception:  # what an archive answers must not end the gateway
                    self._observer.witness_failed(log.name, Reason.BAD_FRAME.value)

    def witnesses_of(self, log: str) -> list[str]:
        """The connected witnesses that are asked for a log, never the log's own archive."""
        others = [code for code in self._witnesses if code != log and self._connected(code)]
        return sorted(others, key=lambda code: hashlib.sha256(f"{log} {code}".encode()).digest())[
            :MOST_WITNESSES
        ]

    async def _bring(self, log: WatchedLog, witness: str) -> None:
        """One log to one witness. EvidenceError(HISTORY_…) when the witness has seen another history."""
        seen = self._seen.get((log.name, witness))
        known = seen.size if seen else 0
        for _ in range(_TRIES):  # another gateway may be bringing the same log
            try:
                request = await log.request(known)
            except EvidenceError as error:
                if not known:
                    raise
                await self._judge(log, known, error)
                return
            if request is None:
                if known:
                    raise EvidenceError(Flaw.HISTORY_SHORTENED, f"nothing is left of {known}")
                return
            now = Checkpoint.parse(request.note.text)
            if now == seen:
                return  # nothing happened since
            answer = await self._ask(witness, request)
            if answer.status == OK:
                await log.cosign(now.size, answer.lines())
                self._seen[log.name, witness] = now
                self._observer.cosigned(log.name)
                return
            if answer.status == UNPROCESSABLE:
                raise EvidenceError(Flaw.HISTORY_REWRITTEN, f"{witness} knows {known}")
            if answer.status != CONFLICT:
                raise EvidenceError(Flaw.UNKNOWN_SIGNER, f"status {answer.status}")
            says = read_decimal(answer.body.removesuffix("\n"), Flaw.MALFORMED_PROOF)
            if says == known:  # of as many leaves it has seen another root
                raise EvidenceError(Flaw.HISTORY_REWRITTEN, f"{witness} knows {says}")
            known, seen = says, None

    async def _judge(self, log: WatchedLog, known: int, error: EvidenceError) -> None:
        """The log can not show how it grew from what a witness has seen: say what that is."""
        if error.flaw is Flaw.LOG_UNAVAILABLE:
            raise error
        now = await log.request(0)
        size = 0 if now is None else Checkpoint.parse(now.note.text).size
        flaw = Flaw.HISTORY_SHORTENED if size < known else Flaw.HISTORY_REWRITTEN
        raise EvidenceError(flaw, f"{known} was seen, {size} is there") from error

    async def _ask(self, witness: str, request: WitnessRequest) -> WitnessAnswer:
        body = str(request).encode()
        data = await self._objects.fetch(witness, "witness/add-checkpoint", LARGEST_NOTE, body)
        status, _, text = data.decode("utf-8").partition("\n")
        return WitnessAnswer(int(status), text)
