"""The account of a search: one outcome for every archive on the roster, and whether anything could have been missed.

`complete` is said only when every archive in scope answered in full from an index fresh enough, or was not asked for a
reason that can not hide a record. A failure is never shown as "not found".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from functools import lru_cache

import msgspec

from federation.outcome import ANSWERED, CANNOT_HIDE, NotAsked, Outcome
from federation.reasons import TEXTS, Reason, Text
from gateway.search.ports import Reply
from gateway.search.roster import Roster
from gateway.search.selection import Selection


class Verdict(StrEnum):
    COMPLETE = "complete"
    PARTIAL = "partial"


class ArchiveOutcome(msgspec.Struct, frozen=True, gc=False):
    """What became of asking one archive."""

    archive: str
    outcome: Outcome
    reason: str = ""
    retry_after_s: float | None = None
    truncated: bool = False
    index_epoch: int = 0


class Gap(msgspec.Struct, frozen=True, gc=False):
    """An archive that may hold a record and did not say all; `suggestion` is for the person who asked."""

    archive: str
    outcome: Outcome
    reason: str
    suggestion: Text
    retry_after_s: float | None


class Completeness(msgspec.Struct, frozen=True, gc=False):
    """The whole account. `asked` counts archives a question was meant for, `answered` those that answered in full."""

    verdict: Verdict
    roster_epoch: int
    roster: int
    asked: int
    answered: int
    outcomes: tuple[ArchiveOutcome, ...]
    gaps: tuple[Gap, ...]
    exact_count: bool


_LATER = Text("请稍后再查，或直接联系该馆", "Ask again later, or contact the archive")
_SUGGESTIONS: dict[Outcome, Text] = {
    Outcome.REFUSED_POLICY: Text(
        "该馆规定不在此查询，请到馆办理", "The archive does not answer here; ask at its window"
    ),
    Outcome.TIMEOUT: Text(
        "该馆未在时限内答复，请稍后再查", "The archive did not answer in time; ask again later"
    ),
    Outcome.UNREACHABLE: Text(
        "该馆暂时无法连接，请稍后再查", "The archive can not be reached now; ask again later"
    ),
    Outcome.OVERLOADED: Text("该馆繁忙，请稍后再查", "The archive is busy; ask again later"),
    Outcome.CIRCUIT_OPEN: Text(
        "该馆刚才多次未答复，暂未询问", "The archive just failed repeatedly and was not asked"
    ),
    Outcome.STALE: Text("该馆索引已旧，结果可能不全", "The archive's index is old; records may be missing"),
    Outcome.BAD_ANSWER: Text(
        "该馆答复有误，已通知运维", "The archive answered wrongly; its operator must look"
    ),
    Outcome.UNSUPPORTED: Text(
        "该馆尚不能回答此类查询", "The archive can not answer this kind of question yet"
    ),
    Outcome.NOT_ASKED: Text("本次未询问该馆", "The archive was not asked this time"),
}
_BY_REASON = {
    NotAsked.STOPPED_EARLY.value: Text(
        "快速查询提前结束，未等该馆答复；如需完整结果，请用完整查询（thorough）",
        "The quick search ended before this archive had answered; for a complete answer ask thoroughly",
    ),
    Reason.TOO_MANY_RECORDS.value: TEXTS[Reason.TOO_MANY_RECORDS],
}


def settle(
    roster: Roster,
    selection: Selection,
    replies: Mapping[str, Reply],
    circuit_open: Mapping[str, float],
    index_ages: Mapping[str, int],
    stopped_early: Collection[str] = (),
) -> Completeness:
    """Account for every archive. `replies` holds the asked ones' (none = never heard of: timeout), `circuit_open` the
    ones an open circuit kept from asking with seconds until the next try, `index_ages` seconds since their last import,
    `stopped_early` the ones whose answer the search did not wait for: that is no failure of theirs.
    """
    outcomes = []
    for member in roster.members:
        code = member.code
        reply = replies.get(code)
        if reply is not None:
            outcome = reply.outcome
            if outcome is Outcome.HIT or outcome is Outcome.EMPTY:
                limit = member.stale_after_s
                if limit is not None and index_ages.get(code, 0) > limit:
                    outcome = Outcome.STALE
            outcomes.append(
                _told(code, outcome, reply.reason, reply.retry_after_s, reply.truncated, reply.index_epoch)
            )
        elif (not_asked := selection.not_asked.get(code)) is not None:
            outcomes.append(_told(code, Outcome.NOT_ASKED, not_asked.value, None, False, 0))
        elif code in circuit_open:
            outcomes.append(ArchiveOutcome(code, Outcome.CIRCUIT_OPEN, "", circuit_open[code]))
        elif code in stopped_early:
            outcomes.append(_told(code, Outcome.NOT_ASKED, NotAsked.STOPPED_EARLY.value, None, False, 0))
        else:
            outcomes.append(_told(code, Outcome.TIMEOUT, "", None, False, 0))
    return account(roster, tuple(outcomes))


_told = lru_cache(8_192)(ArchiveOutcome)
"""Outcomes repeat from search to search and are immutable: looking one up costs a tenth of making it."""


def account(roster: Roster, outcomes: tuple[ArchiveOutcome, ...]) -> Completeness:
    """The account of these outcomes; ValueError when they are not exactly the roster's, each once."""
    if len(outcomes) != len(roster.members):
        raise ValueError("every archive on the roster has exactly one outcome")
    gaps: list[Gap] = []
    answered = asked = 0
    exact = True
    for one, member in zip(outcomes, roster.members, strict=True):
        if one.archive != member.code:
            raise ValueError("every archive on the roster has exactly one outcome")
        if one.outcome is not Outcome.NOT_ASKED:
            asked += 1
        if one.outcome in ANSWERED:
            answered += 1
        elif may_hide(one):
            suggestion = _BY_REASON.get(one.reason) or _SUGGESTIONS.get(one.outcome, _LATER)
            gaps.append(Gap(one.archive, one.outcome, one.reason, suggestion, one.retry_after_s))
        exact = exact and not one.truncated
    verdict = Verdict.PARTIAL if gaps else Verdict.COMPLETE
    return Completeness(
        verdict, roster.epoch, len(outcomes), asked, answered, outcomes, tuple(gaps), exact and not gaps
    )


def may_hide(one: ArchiveOutcome) -> bool:
    """Whether a record could be missed because of this archive's outcome."""
    if one.outcome in ANSWERED:
        return False
    return one.outcome is not Outcome.NOT_ASKED or NotAsked(one.reason) not in CANNOT_HIDE


def summary(completeness: Completeness, candidates: int) -> Text:
    """One sentence for people; "not found" is said only of the archives that answered."""
    if completeness.verdict is Verdict.COMPLETE:
        if candidates:
            return Text("已查遍范围内全部档案馆", "Every archive in scope was searched")
        if not completeness.asked:
            return Text(
                "范围内没有档案馆藏有此类或该时段的档案，未再查询",
                "No archive in scope holds records of this kind and time, so none was asked",
            )
        return Text(
            "已查遍范围内全部档案馆，均未找到", "Every archive in scope was searched; none holds a match"
        )
    silent = len(completeness.gaps)
    if candidates:
        archives = "1 archive" if silent == 1 else f"{silent} archives"
        return Text(
            f"有 {silent} 家档案馆未完整答复，可能还有其他记录",
            f"{archives} did not answer in full; there may be more records",
        )
    if not completeness.answered:
        return Text(
            "没有档案馆完整答复，有无记录尚不能判断",
            "No archive answered in full, so it is not known whether there is a record",
        )
    return Text(
        f"在已答复的档案馆中未找到；另有 {silent} 家未完整答复",
        f"Not found in the archives that answered; {silent} did not answer in full",
    )
