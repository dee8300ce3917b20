"""Choosing among candidates: by itself only when there is nothing to choose, otherwise a person does."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.cases.case import Found

CLEAR_LEAD = 6.0
"""Bits by which one likely candidate must lead all others: at 6 the next one is 64 times less probable."""

MOST_KEPT = 20


def clear_choice(candidates: Sequence[Found]) -> Found | None:
    """The one candidate nobody needs to choose, or None. A case may go to a wrong record by nobody's carelessness, so
    only `likely` counts, and a second likely one close behind it always asks a person.
    """
    ranked = sorted(candidates, key=lambda one: (-one.score, one.archive, one.ref))
    if not ranked or ranked[0].decision != "likely":
        return None
    if len(ranked) > 1 and ranked[0].score - ranked[1].score < CLEAR_LEAD:
        return None
    return ranked[0]


def merge(known: Sequence[Found], fresh: Sequence[Found]) -> list[Found]:
    """All candidates of all rounds, a later word about the same reference replacing the earlier; best first. A case keeps
    the first MOST_KEPT.
    """
    by_ref = {one.ref: one for one in [*known, *fresh]}
    return sorted(by_ref.values(), key=lambda one: (-one.score, one.archive, one.ref))
