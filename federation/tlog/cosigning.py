"""Getting a checkpoint cosigned: ask every witness, prove to each what it needs, keep the lines that verify."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from federation.tlog.checkpoint import Checkpoint, Quorum, read_decimal
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.log import EvidenceLog
from federation.tlog.note import Note, VerifierKey
from federation.tlog.witness import CONFLICT, OK, UNPROCESSABLE, WitnessAnswer, WitnessRequest


class WitnessLink(Protocol):
    """Carries one add-checkpoint to a witness, over a session or HTTP; any exception means no answer."""

    def __call__(self, body: bytes, /) -> WitnessAnswer: ...


@dataclass(slots=True)
class Cosigned:
    """What became of asking: the checkpoint with all its lines, who did not answer, and who saw another history."""

    note: Note
    quorum_met: bool
    silent: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """Witness -> why. A witness that knows more or other leaves than the log has is the sign of a rewritten history."""


class Cosigner:
    """Collects cosignatures for one log; remembers only what each witness said it knows."""

    def __init__(self, log: EvidenceLog, quorum: Quorum, links: Mapping[VerifierKey, WitnessLink]) -> None:
        self._log, self._quorum, self._links = log, quorum, dict(links)
        self._known: dict[VerifierKey, int] = {}

    def collect(self, note: Note) -> Cosigned:
        """Ask all witnesses, one after another, for this checkpoint of the log; what they give is kept in the log."""
        checkpoint = Checkpoint.parse(note.text)
        result = Cosigned(note, quorum_met=False)
        for key, link in self._links.items():
            try:
                answer = self._ask(key, link, note, checkpoint)
            except EvidenceError as error:
                result.refused[key.name] = error.flaw.value
                continue
            except Exception:
                result.silent.append(key.name)
                continue
            if answer.status != OK:
                result.refused[key.name] = f"status_{answer.status}"
                continue
            try:
                result.note = self._log.add_cosignatures(checkpoint.size, answer.lines(), self._quorum)
                self._known[key] = checkpoint.size
            except EvidenceError as error:
                result.refused[key.name] = error.flaw.value
        result.quorum_met = len(self._quorum.cosigners(result.note)) >= self._quorum.least
        return result

    def _ask(self, key: VerifierKey, link: WitnessLink, note: Note, checkpoint: Checkpoint) -> WitnessAnswer:
        known = self._known.get(key, 0)
        answer = link(str(WitnessRequest(known, self._log.consistency(known, checkpoint), note)).encode())
        if answer.status == CONFLICT:
            says = read_decimal(answer.body.removesuffix("\n"), Flaw.MALFORMED_PROOF)
            if says > checkpoint.size:
                raise EvidenceError(Flaw.HISTORY_SHORTENED, f"{key.name} has seen {says}")
            self._known[key] = says
            if says != known:
                answer = link(
                    str(WitnessRequest(says, self._log.consistency(says, checkpoint), note)).encode()
                )
        if answer.status in {CONFLICT, UNPROCESSABLE}:  # of the size it knows it has another root
            raise EvidenceError(Flaw.HISTORY_REWRITTEN, f"{key.name} has seen another history")
        return answer
