"""Reconciliation: both sides of an exchange logged the same messages, or the report says what is missing on which side.

A side states its account: for each request, the kinds and digests of the events that stand in both sides' logs. Accounts
are plain JSON, so that a gateway and an archive compare without reading each other's logs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from federation.tlog.event import SHAPES
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.reader import LogReader

LARGEST_ACCOUNT = 64 * 1024 * 1024
_SHARED = tuple(kind.value for kind, shape in SHAPES.items() if shape.shared)
ERASED = ""
"""The digest of an event whose contents were erased: it still says that the event was logged."""


class Line(msgspec.Struct, frozen=True, order=True):
    """One logged event of an account: `digest` is "" when its contents were erased, `index` its place in that log."""

    kind: str
    digest: str
    at_ms: int
    index: int


class Account(msgspec.Struct, frozen=True):
    """What one side logged: request -> its shared events."""

    origin: str
    requests: dict[str, list[Line]]

    def write(self) -> bytes:
        """The account as JSON, to be sent to the other side."""
        return msgspec.json.encode(self)

    @classmethod
    def read(cls, data: bytes) -> Account:
        """Read another side's account; EvidenceError if it is none."""
        if len(data) > LARGEST_ACCOUNT:
            raise EvidenceError(Flaw.TOO_LARGE, f"an account of {len(data)}")
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise EvidenceError(Flaw.MALFORMED_EVENT, "no account") from None


def account_of(
    readers: LogReader | Iterable[LogReader],
    *,
    archive: str = "",
    requests: Iterable[str] | None = None,
    since_ms: int = 0,
) -> Account:
    """The account of one side from its log, or from the logs of all its processes.

    `archive` keeps to events about one archive (a gateway's log speaks of many), `requests` to these requests, `since_ms`
    to requests with a shared event at or after that time: a certificate that one side sees verified years later must not
    make its whole exchange look new there alone.
    """
    found: dict[str, list[Line]] = {}
    origins = []
    for reader in [readers] if isinstance(readers, LogReader) else readers:
        with reader.moment():
            origins.append(reader.origin)
            for request in reader.requests(since_ms, _SHARED) if requests is None else requests:
                for entry in reader.of_request(request):
                    if entry.kind not in _SHARED:  # also one that only a later version knows
                        continue
                    event = entry.read()
                    if event is None:
                        line = Line(entry.kind, ERASED, entry.at_ms, entry.index)
                    elif archive and event.fields.get("archive") != archive:
                        continue
                    else:
                        line = Line(entry.kind, str(event.fields["digest"]), entry.at_ms, entry.index)
                    found.setdefault(request, []).append(line)
    return Account("+".join(origins), found)


@dataclass(frozen=True, slots=True)
class Difference:
    """One event on which two accounts disagree; what a side did not log is None there."""

    request: str
    kind: str
    ours: Line | None
    theirs: Line | None

    @property
    def missing(self) -> str:
        """The side that lacks the event, "ours" or "theirs"; "" where both logged it with different digests."""
        return "ours" if self.ours is None else "theirs" if self.theirs is None else ""


@dataclass(slots=True)
class Reconciliation:
    """What comparing two accounts gave; `agreed` and `erased` count events, `open` those too new to be judged."""

    requests: int = 0
    agreed: int = 0
    erased: int = 0
    open: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.differences

    def counts(self) -> dict[str, int]:
        """Events by result, seen from our side."""
        found = Counter(one.missing for one in self.differences)
        return {
            "agreed": self.agreed + self.erased,
            "missing_here": found["ours"],
            "missing_there": found["theirs"],
            "differs": found[""],
            "open": self.open,
        }


def reconcile(ours: Account, theirs: Account, *, settled_before_ms: int = 2**62) -> Reconciliation:
    """Compare two accounts request by request.

    An event younger than `settled_before_ms` that only one side has is still under way and only counted as open.
    """
    result = Reconciliation()
    for request in sorted(ours.requests.keys() | theirs.requests.keys()):
        result.requests += 1
        left, right = _by_kind(ours.requests, request), _by_kind(theirs.requests, request)
        for kind in sorted(left.keys() | right.keys()):
            _compare(request, kind, left.get(kind, []), right.get(kind, []), settled_before_ms, result)
    return result


def _by_kind(account: Mapping[str, list[Line]], request: str) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in account.get(request, ()):
        found.setdefault(line.kind, []).append(line)
    return found


def _without(lines: list[Line], paired: Counter[str]) -> list[Line]:
    """The lines left when so many of each digest have found their pair."""
    rest, left = [], Counter(paired)
    for line in lines:
        if left[line.digest]:
            left[line.digest] -= 1
        else:
            rest.append(line)
    return rest


def _compare(
    request: str, kind: str, ours: list[Line], theirs: list[Line], settled_ms: int, result: Reconciliation
) -> None:
    paired = Counter(one.digest for one in ours) & Counter(one.digest for one in theirs)
    result.agreed += paired.total() - paired[ERASED]
    result.erased += paired[ERASED]
    ours, theirs = _without(ours, paired), _without(theirs, paired)
    for one, other in (
        (ours, theirs),
        (theirs, ours),
    ):  # erased on one side: it was logged there, that is all left
        for line in [line for line in one if line.digest == ERASED]:
            if other:
                one.remove(line)
                other.pop(0)
                result.erased += 1
    while ours and theirs:
        result.differences.append(Difference(request, kind, ours.pop(0), theirs.pop(0)))
    for line in ours:
        _missing(Difference(request, kind, line, None), line, settled_ms, result)
    for line in theirs:
        _missing(Difference(request, kind, None, line), line, settled_ms, result)


def _missing(difference: Difference, line: Line, settled_ms: int, result: Reconciliation) -> None:
    if line.at_ms < settled_ms:
        result.differences.append(difference)
    else:
        result.open += 1
