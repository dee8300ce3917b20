"""Merging: one ranking over all archives, copies of one record recognised and kept.

Every candidate is scored again from its level vector with one table of weights, so that archives compare. The result
does not depend on the order in which answers came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from federation.candidate import Candidate
from federation.scoring import Decision, decide, score
from gateway.search.roster import Roster

MOST_RANKED = 500
"""Candidates one search ranks; the rest would never be paged to."""


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """A candidate in the common ranking. `copies` are the other archives that hold the same record."""

    archive: str
    candidate: Candidate
    score: float
    decision: Decision
    copies: tuple[str, ...] = ()


def rank(
    found: Iterable[tuple[str, tuple[Candidate, ...]]], roster: Roster, records: Mapping[str, int]
) -> tuple[Ranked, ...]:
    """Merge the candidates of all archives; `records` is each archive's number of records, which moves its threshold."""
    everything = [
        (archive, candidate, score(candidate.levels, candidate.name_bits))
        for archive, candidates in found
        for candidate in candidates
    ]
    authority = roster.authority
    # best first: the order of preference within a group of copies, and of the ranking
    everything.sort(key=lambda one: (-one[2], one[1].is_copy, -authority.get(one[0], 0), one[0], one[1].ref))
    groups = _groups(everything)
    ranked = []
    for group in groups:
        archive, candidate, value = min(
            group, key=lambda one: (one[1].is_copy, -authority.get(one[0], 0), -one[2], one[0], one[1].ref)
        )
        best = max(one[2] for one in group)
        others = tuple(sorted({one[0] for one in group} - {archive}))
        decision = decide(best, records.get(archive, 0), candidate.levels)
        ranked.append(Ranked(archive, candidate, max(value, best), decision, others))
    ranked.sort(key=lambda one: (-one.score, -authority.get(one.archive, 0), one.archive, one.candidate.ref))
    return tuple(ranked[:MOST_RANKED])


_Scored = tuple[str, Candidate, float]


def _groups(everything: list[_Scored]) -> list[list[_Scored]]:
    """Candidates that share a fingerprint across archives; within one archive two records stay two, and the copies that another
    archive holds of them are theirs, one each. Who shares one with each of two groups makes them one.
    """
    groups: list[list[_Scored]] = []
    by_mark: dict[bytes, list[list[_Scored]]] = {}

    def note(one: _Scored, group: list[_Scored]) -> None:
        for mark in one[1].fingerprints:
            marked = by_mark.setdefault(mark, [])
            if not any(held is group for held in marked):
                marked.append(group)

    for one in everything:
        group = [one]
        groups.append(group)
        for mark in one[1].fingerprints:
            here = {archive for archive, _candidate, _value in group}
            for held in by_mark.get(mark, ()):
                if held and held is not group and all(member[0] not in here for member in held):
                    held.extend(group)
                    for member in group:
                        note(member, held)
                    group.clear()
                    group = held
                    break  # of the records of one archive, one
        note(one, group)
    return [group for group in groups if group]
