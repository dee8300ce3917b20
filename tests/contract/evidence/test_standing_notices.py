"""What archives say of their documents' standing: whatever it is, it ends nothing and keeps nothing else back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from federation.tlog.event import Event, EventKind
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.note import Signer
from federation.tlog.reader import LogReader
from gateway.evidence import standing
from gateway.evidence.log import GatewayLog
from gateway.evidence.standing import Notice, StandingNotices
from tests.fakes.evidence_sides import Counts

ARCHIVE = "330483"


class Shelf:
    """An archive that gives of `data` what comes after the number it is asked for, `most` at a time, and what it was asked;
    what is no list of numbered notices it gives as it is.
    """

    def __init__(self, data: bytes, most: int = 10_000) -> None:
        self.data, self.most, self.asked = data, most, list[int]()

    async def fetch(self, _archive: str, name: str, _most: int, _body: bytes = b"") -> bytes:
        kind, _, after = name.rpartition("/")
        assert kind == "status/changes"
        self.asked.append(int(after))
        try:
            written = json.loads(self.data)
            new = [one for one in written if one["seq"] > int(after)]
        except (ValueError, TypeError, KeyError, RecursionError):
            return self.data
        return json.dumps(new[: self.most]).encode() if written else self.data


class Log:
    """A log that raises `flaws` one after the other, then takes what comes; of cases in `untold` nothing was issued."""

    def __init__(self, *flaws: Flaw) -> None:
        self.flaws, self.noted, self.counted = list(flaws), list[str](), list[Flaw]()
        self.untold: set[str] = set()

    def has(self, request: str, _kind: EventKind, _archive: str) -> bool:
        return request not in self.untold

    def knows(self, event: Any) -> bool:
        return event.fields["number"] in self.noted

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
    assert shelf.asked == [0, 3, 2], "the last one is asked for again"


async def test_what_was_said_otherwise_before_stays_and_keeps_no_other_back():
    log = Log(Flaw.EVENT_CONFLICT)
    asking, shelf = notices(msgspec.json.encode([revoked(1), revoked(2)]), log)
    await asking.ask(ARCHIVE)
    await asking.ask(ARCHIVE)
    assert log.noted == ["n2"]
    assert shelf.asked == [0, 2, 1]


async def test_what_the_log_can_not_take_now_is_asked_for_again():
    log = Log(Flaw.LOG_UNAVAILABLE)
    asking, shelf = notices(msgspec.json.encode([revoked(1), revoked(2)]), log)
    await asking.ask(ARCHIVE)
    assert log.noted == []
    await asking.ask(ARCHIVE)
    assert log.noted == ["n1", "n2"]
    assert shelf.asked[:2] == [0, 0]


@pytest.mark.parametrize("again", [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4]])
async def test_an_archive_that_was_restored_from_a_backup_is_read_from_the_start(again: list[int]):
    """It gives its numbers anew: what it says since then stands where something else stood."""
    log, told = Log(), list[str]()
    shelf = Shelf(msgspec.json.encode([revoked(seq) for seq in (1, 2, 3)]))
    asking = StandingNotices([ARCHIVE], shelf, lambda _archive: True, log, told.extend)
    await asking.ask(ARCHIVE)
    since = [revoked(seq, number=f"m{seq}", at_ms=9) for seq in again if seq > 1]
    shelf.data = msgspec.json.encode([revoked(1)] * (1 in again) + since)
    for _ in range(2):
        await asking.ask(ARCHIVE)
    assert log.noted == ["n1", "n2", "n3", *[one["number"] for one in since]]
    told.clear()
    await asking.ask(ARCHIVE)
    assert told == [], "what is known changes no list"


async def test_what_came_before_its_document_was_logged_is_logged_when_all_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(standing, "AGAIN_FROM_THE_START_S", 0.0)
    log = Log()
    log.untold.add("late")
    asking, shelf = notices(msgspec.json.encode([revoked(1, case_id="late"), revoked(2)]), log)
    await asking.ask(ARCHIVE)
    assert log.noted == ["n2"]
    log.untold.clear()
    await asking.ask(ARCHIVE)
    assert log.noted == ["n2", "n1"]
    assert shelf.asked == [0, 2] * 2


async def test_a_long_list_is_read_page_by_page_and_one_that_leads_nowhere_ends():
    log = Log()
    shelf = Shelf(msgspec.json.encode([revoked(seq) for seq in range(1, 6)]), most=2)
    asking = StandingNotices([ARCHIVE], shelf, lambda _archive: True, log)
    await asking.ask(ARCHIVE)
    assert log.noted == ["n1", "n2", "n3", "n4", "n5"]
    assert shelf.asked == [0, 2, 4, 5]

    class Nowhere(Shelf):
        async def fetch(self, archive: str, name: str, most: int, body: bytes = b"") -> bytes:
            await super().fetch(archive, name, most, body)
            return self.data

    nowhere = Nowhere(msgspec.json.encode([revoked(7), revoked(7)]))
    await StandingNotices([ARCHIVE], nowhere, lambda _archive: True, log).ask(ARCHIVE)
    assert nowhere.asked == [0, 7]


async def test_in_a_real_log_what_is_read_again_stands_once_and_is_counted_once(tmp_path: Path):
    counts = Counts()
    log = GatewayLog(tmp_path / "evidence.sqlite", Signer.generate("gw.example/log"), lambda: 5, counts)
    try:
        issued = {"digest": "0" * 64, "archive": ARCHIVE, "document": "certified_copy", "number": "n1"}
        await log.note(Event(EventKind.DOCUMENT_ISSUED, "issued:n1", 1, "c1", issued))
        for again in (revoked(1), revoked(1), revoked(1, at_ms=9)):
            asking, _shelf = notices(msgspec.json.encode([again]), log)
            await asking.ask(ARCHIVE)
        asking, _shelf = notices(msgspec.json.encode([revoked(1, reason="key_lost")]), log)
        await asking.ask(ARCHIVE)
        with LogReader(log.path) as reader:
            assert [entry.kind for entry in reader.of_request("c1")] == ["document_issued", "revoked"]
        assert counts.kinds == {"document_issued": 1, "revoked": 1}
        assert counts.failures == {"event_conflict": 1}, "it said something else before"
    finally:
        log.close()
