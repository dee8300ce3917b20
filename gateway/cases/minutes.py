"""The minutes of a case: a pure function of its journal, by the written rules of start, stop and pause.

Start: the case was accepted. Stop: the answer was delivered; a case that ended without one (withdrawn) stops there. Only
waiting for evidence, and fetching an original where the holder says so, pause the clock. Whatever else happens, nights
and holidays included, the wall clock goes on; time inside the holder's service hours is counted beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gateway.cases.case import Entry
from gateway.cases.states import ENDED, Kind, State


@dataclass(frozen=True, slots=True)
class Minutes:
    """Times in seconds. `counted_s` is what the target is held against: wall clock without pauses. `stages` adds up to
    it. `service_s` is the part of it inside the holder's service hours, None when they are not known.
    """

    started_ms: int
    stopped_ms: int | None
    wall_s: float
    paused_s: float
    counted_s: float
    target_s: int
    stages: dict[str, float] = field(default_factory=dict)
    service_s: float | None = None
    holder: str = ""
    outcome: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the answer came within the target; an open case meets it as long as its time lasts."""
        return self.counted_s <= self.target_s


def minutes(
    journal: Iterable[Entry],
    now_ms: int,
    service_ms: Callable[[str, int, int], int] | None = None,
) -> Minutes | None:
    """The minutes of the case whose whole journal this is; None without an accepted entry.

    `service_ms(archive, from, to)` gives the milliseconds of the archive's service hours in a span. An open case is
    measured until `now_ms`. The same journal always gives the same minutes of a stopped case.
    """
    entries = list(journal)
    if not entries or entries[0].kind is not Kind.ACCEPTED:
        return None
    start = entries[0].at_ms
    target, holder, outcome = int(entries[0].data.get("target_s", 0)), "", ""
    stop: int | None = None
    paused_ms = 0
    stages: dict[str, int] = {}
    running: list[tuple[int, int]] = []  # spans in which the clock ran
    is_paused = False
    before = entries[0]
    for entry in entries:
        length = max(0, entry.at_ms - before.at_ms)  # a clock set back takes nothing away
        if stop is None:
            if is_paused:
                paused_ms += length
            else:
                stages[before.stage] = stages.get(before.stage, 0) + length
                running.append((before.at_ms, before.at_ms + length))
        target = int(entry.data.get("target_s", target))
        if "target_s" in entry.data and entry.data.get("archive"):
            holder = str(entry.data["archive"])
        is_paused = _pauses(entry, is_paused)
        if entry.state in ENDED and not outcome:
            outcome = entry.state.value
        if entry.kind is Kind.DELIVERED or (entry.state is State.WITHDRAWN and stop is None):
            stop = entry.at_ms if stop is None else stop
        before = entry
    if stop is None:
        length = max(0, now_ms - before.at_ms)
        if is_paused:
            paused_ms += length
        else:
            stages[before.stage] = stages.get(before.stage, 0) + length
            running.append((before.at_ms, before.at_ms + length))
    counted = sum(stages.values())
    service: float | None = None
    if service_ms is not None and holder:
        service = sum(service_ms(holder, first, last) for first, last in running) / 1000
    return Minutes(
        started_ms=start,
        stopped_ms=stop,
        wall_s=(counted + paused_ms) / 1000,
        paused_s=paused_ms / 1000,
        counted_s=counted / 1000,
        target_s=target,
        stages={stage: length / 1000 for stage, length in stages.items() if length},
        service_s=service,
        holder=holder,
        outcome=outcome,
    )


def _pauses(entry: Entry, is_paused: bool) -> bool:
    """Whether the clock stands still after this entry; entries that only tell something leave it as it was."""
    if entry.state is State.AWAITING_EVIDENCE:
        return True
    if entry.state is State.RETRIEVING_ORIGINAL:
        return bool(entry.data.get("pauses")) if entry.kind is Kind.RETRIEVING else is_paused
    return False
