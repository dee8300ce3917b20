"""What archives say of their documents' standing: whatever it is, it ends nothing and keeps nothing else back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from federation.tlog.event import EventKind
from federation.tlog.flaws import EvidenceError, Flaw
from gateway.evidence.standing import Notice, StandingNotices

ARCHIVE = "330483"


class Shelf:
    """An archive that answers `data`, and what it was asked."""

    def __init__(self, data: bytes) -> None:
        self.data, self.asked = data, list[str]()

    async def fetch(self, _archive: str, name: str, _most: int, _body: bytes = b"") -> bytes:
        self.asked.append(name)
        return self.data


class Log:
    """A log that raises `flaws` one after the other, then takes what comes."""

    def __init__(self, *flaws: Flaw) -> None:
        self.flaws, self.noted, self.counted = list(flaws), list[str](), list[Flaw]()

    def has(self, _request: str, _kind: EventKind, _archive: str) -> bool:
        return True

    async def note(self, event: Any) -> None:
        if self.flaws:
            raise EvidenceError(self.flaws.pop(0))
        self.noted.append(event.fields["number"])

    def missed(self, why: Flaw) -> None:
        self.counted.append(why)


def notices(data: bytes, log: Any) -> tuple[StandingNotices, Shelf]:
    shelf = Shelf(data)
    return StandingNotices([ARCHIVE], shelf, lambda _archive: True, log), shelf


def revoked(seq: int, **changes: Any) -> dict[str, Any]:
    whole = msgspec.to_builtins(Notice(seq, 5, "c1", f"n{seq}", "revoked", digest="0" * 64))
    return {**whole, **changes}


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\xff", b'[{"seq": 1, "case_id": "\xff"}]', b"[" * 100_000, b'[{"seq": 1e999}]', b"[null]"],
    ids=["nothing", "an object", "no UTF-8", "no UTF-8 inside", "too deep", "no number", "null"],
)  # fmt: skip
async def test_nonsense_ends_nothing_and_is_counted(data: bytes):
    log = Log()
    asking, shelf = notices(data, log)
    await asking.ask(ARCHIVE)
    assert log.counted == [Flaw.MALFORMED_EVENT]
    shelf.data = msgspec.json.encode([revoked(1)])
    await asking.ask(ARCHIVE)
    assert log.noted == ["n1"]


@pytest.mark.parametrize(
    "odd", [{"at_ms": 10**40}, {"at_ms": -1}, {"state": 7}, {"reason": "错"}, {"digest": "x"}, {"number": ""}]
)
async def test_a_notice_nobody_can_log_keeps_no_other_back(odd: dict[str, Any]):
    log = Log()
    asking, shelf = notices(json.dumps([revoked(1), revoked(2, **odd), revoked(3)]).encode(), log)
    await asking.ask(ARCHIVE)
    assert log.noted == ["n1", "n3"]
    assert log.counted == [Flaw.MALFORMED_EVENT]
    await asking.ask(ARCHIVE)
    assert shelf.asked == ["status/changes/0", "status/changes/3"]


async def test_what_was_said_otherwise_before_stays_and_keeps_no_other_back():
    log = Log(Flaw.EVENT_CONFLICT)
    asking, shelf = notices(msgspec.json.encode([revoked(1), revoked(2)]), log)
    await asking.ask(ARCHIVE)
    await asking.ask(ARCHIVE)
    assert log.noted[0] == "n2"
    assert shelf.asked[1] == "status/changes/2"


async def test_what_the_log_can_not_take_now_is_asked_for_again():
    log = Log(Flaw.LOG_UNAVAILABLE)
    asking, shelf = notices(msgspec.json.encode([revoked(1), revoked(2)]), log)
    await asking.ask(ARCHIVE)
    assert log.noted == []
    await asking.ask(ARCHIVE)
    assert log.noted == ["n1", "n2"]
    assert shelf.asked == ["status/changes/0", "status/changes/0"]
