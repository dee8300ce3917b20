"""One case as it is stored: everything a step needs, in one value."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.cases.states import ANSWER_IN_THE_CASE, STAGE_OF, WITH_DOCUMENT, Kind, Stage, State


def when(ms: int) -> str:
    """A time as RFC 3339 in UTC, as callers and platforms are told it."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """A masked candidate as the case keeps it. `decision` is likely or possible; `copies` hold the same record. `explanation` is in
    Chinese, as desks are sent it; `explanation_en` is "" in what versions kept that had only the one.
    """

    ref: str
    archive: str
    score: float
    decision: str
    name: str = ""
    other_name: str = ""
    year: int = 0
    level: str = ""
    explanation: str = ""
    explanation_en: str = ""
    digitised: bool = False
    copies: tuple[str, ...] = ()


class Case(msgspec.Struct, omit_defaults=True):
    """Times are milliseconds of UTC since 1970. `ladder` counts the steps of the stage's escalation already taken;
    `group` grows whenever a new question is meant, so that an identifier derived from it never repeats.
    """

    id: str
    client: str
    created_ms: int
    request: dict[str, Any]
    window: str = ""
    has_hook: bool = False
    state: State = State.SUBMITTED
    version: int = 0
    last_ms: int = 0
    """When the last journal line was written: the next one is never earlier, whichever replica writes it."""
    entered_ms: int = 0
    stage: Stage = Stage.LOCATE
    stage_began_ms: int = 0
    stage_deadline_ms: int = 0
    target_s: int = 0
    deadline_ms: int = 0
    wake_at_ms: int = 0
    ladder: int = 0
    is_breached: bool = False
    paused_since_ms: int = 0
    round: int = 0
    group: int = 0
    verdict: str = ""
    outcomes: dict[str, str] = {}
    gaps: list[dict[str, Any]] = []
    candidates: list[Found] = []
    dismissed: list[str] = []
    """Candidates the caller has seen and said are none of them: they do not come back."""
    unshown: bool = False
    """Archives have more candidates than the caller has seen: none of those fitting does not mean that there is no record."""
    candidates_version: int = 0
    """The version in which a candidate was last added: whoever has seen an older one has not seen them all."""
    roster_epoch: int = 0
    """The roster the archives were last asked by."""
    selected: str = ""
    holder: str = ""
    deputy: str = ""
    deciding: str = ""
    """The archive whose reviewer has the case now: the holder or its deputy; "" while nobody has."""
    passed: list[str] = []
    """Holders the case was referred on from."""
    searched: dict[str, str] = {}
    """Of archives without a candidate, while nobody has one: the date of the index that answered, or why not asked."""
    noting: str = ""
    """The archive that was asked for the note that no record is held; "" = nobody."""
    reason: str = ""
    wanted: list[str] = []
    decision: dict[str, Any] = {}
    signed_anew_ms: int = 0
    """When the archive signed the credential that `decision` names; 0 = it is the first one."""
    spent_ms: dict[str, int] = {}
    """Milliseconds of the stages already left, pauses left out."""
    ended_ms: int = 0
    delivered_ms: int = 0
    stopped_ms: int = 0
    forgotten_ms: int = 0
    """When its personal data were taken out."""

    def counted_ms(self, now_ms: int) -> int:
        """Milliseconds on the clock so far: deadlines moved with every pause, so they know its length."""
        until = self.paused_since_ms or now_ms
        return until - (self.deadline_ms - self.target_s * 1000)

    @property
    def is_paused(self) -> bool:
        return self.paused_since_ms > 0

    @property
    def awaits_note(self) -> bool:
        """The note that no record is held was ordered and has not come."""
        return self.state is State.NO_RECORD and bool(self.noting) and not self.decision

    def is_answer(self, now_ms: int) -> bool:
        """Whether seeing the case is having its answer. A note that was ordered has until the end of its stage to be it."""
        if self.state not in ANSWER_IN_THE_CASE:
            return False
        return not self.noting or now_ms >= self.stage_deadline_ms

    @property
    def issuer(self) -> str:
        """The archive that issues the case's document."""
        return self.noting or self.holder

    def is_succeeded(self, archive: str, number: str, credential: str, signed_ms: int) -> bool:
        """Whether a credential that an archive signed anew takes the place of the case's: it is of the same certificate and of the
        archive that issued it, it was signed later, and the gateway may have one at all. A notice that came before changes nothing.
        """
        first = self.decision.get("credential", "")
        return bool(
            self.state in WITH_DOCUMENT
            and archive == self.issuer
            and number == self.decision.get("number")
            and first
            and credential != first
            and signed_ms > self.signed_anew_ms
        )

    def enter(self, state: State, now_ms: int) -> bool:
        """Move to a state; whether that began another stage."""
        self.state = state
        self.entered_ms = now_ms
        stage = STAGE_OF.get(state)
        if stage is None or stage is self.stage:
            return False
        self.stage, self.stage_began_ms, self.ladder = stage, now_ms, 0
        return True


class Event(msgspec.Struct, frozen=True):
    """Something that happens to a case. `actor` is caller, gateway, clock, or an archive's code; never a person."""

    kind: Kind
    actor: str
    data: dict[str, Any] = {}


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a case's journal: what happened, when, and where the case stood after it. No personal data."""

    seq: int
    at_ms: int
    kind: Kind
    actor: str
    state: State
    stage: str = ""
    data: dict[str, Any] = {}


SEARCH, MAIL, HOOK = "search", "mail", "hook"
"""Kinds of tasks: ask archives, send a message to an archive's desk, call a platform back."""


class Task(msgspec.Struct, frozen=True):
    """Work a transition orders. `id` is derived, so that ordering twice is one task. Due at `visible_at_ms`."""

    id: str
    case_id: str
    kind: str
    target: str
    visible_at_ms: int
    payload: dict[str, Any]
    attempts: int = 0
    fence: int = 0
    ordered_ms: int = 0


class Stopped(msgspec.Struct, frozen=True):
    """How a case came out when its clock stopped: met, late or withdrawn; in_city or cross_city; counted time."""

    outcome: str
    scope: str
    counted_ms: int


class StoppedCase(msgspec.Struct, frozen=True):
    """What remains to be counted of a case whose clock stopped; `spent` is milliseconds by stage."""

    outcome: str
    scope: str
    state: str
    stopped_ms: int
    counted_ms: int
    spent: dict[str, int]


class Effects(msgspec.Struct):
    """What one event did: journal lines and tasks, in order. `ends_search` drops the case's waiting search tasks.
    `left` are stages that ended, with their milliseconds without pauses; `stopped` is set when the clock stopped.
    """

    entries: list[Entry] = []
    tasks: list[Task] = []
    ends_search: bool = False
    left: list[tuple[str, int]] = []
    stopped: Stopped | None = None


encode_case = msgspec.json.Encoder().encode
decode_case = msgspec.json.Decoder(Case).decode
encode_data = msgspec.json.Encoder().encode
decode_data = msgspec.json.Decoder(dict[str, Any]).decode

UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What reading a case, a journal line or a task again raises when it is damaged, or of a version that knew more words."""
