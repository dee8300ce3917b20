"""Archives that do not answer hold up what others say of their documents neither in the log nor in the status lists."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from federation.tlog.event import EventKind
from gateway.evidence import apart, standing
from gateway.evidence.standing import Notice, StandingNotices
from gateway.evidence.statuses import StatusKeeper
from tests.fakes.issuing import Archive, trust_of
from tests.fakes.waiting import soon

WELL = "330499"  # the last one asked
HANGING = tuple(f"3304{number:02}" for number in range(2 * apart._AT_ONCE))


class Shelves:
    """One archive that answers, and many that never do."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers = answers
        self.asked: Counter[str] = Counter()

    async def fetch(self, archive: str, name: str, most: int, body: bytes = b"") -> bytes:
        self.asked[archive] += 1
        if archive == WELL:
            return self.answers[name]
        await asyncio.Event().wait()
        raise AssertionError


class Log:
    """What the gateway's log was told."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def has(self, _request: str, _kind: EventKind, _archive: str) -> bool:
        return True

    def knows(self, _event: Any) -> bool:
        return False

    async def note(self, event: Any) -> None:
        self.noted.append(event.fields["archive"])


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]):
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "ANSWER_WITHIN_S", 0.05)
    monkeypatch.setattr(standing, "EVERY_S", 0.01)


def notices(shelves: Shelves, log: Any, changed: Callable[..., None] = lambda _archives: None):
    return StandingNotices([*HANGING, WELL], shelves, lambda _archive: True, log, changed)


async def test_a_revocation_is_logged_while_others_hang():
    told: list[str] = []
    shelves = Shelves(
        {
            "status/changes/0": msgspec.json.encode([Notice(1, 5, "c1", "n1", "revoked", digest="0" * 64)]),
            "status/changes/1": b"[]",
        }
    )
    log = Log()
    async with running(notices(shelves, log, told.extend).run()):
        await soon(lambda: log.noted)
        await soon(lambda: shelves.asked[HANGING[0]] > 1)  # given up, and asked again
    assert log.noted == told == [WELL]


async def test_a_list_is_fetched_while_others_hang_and_again_when_it_changed_meanwhile():
    well = Archive(WELL)
    shelves = Shelves(
        {"status/list": well.status_token(at=datetime.now(UTC).replace(microsecond=0)).encode()}
    )
    plain = shelves.fetch
    keeper = StatusKeeper(trust_of(well.entry(), *[Archive(code).entry() for code in HANGING]), shelves)

    async def fetch(archive: str, name: str, most: int, body: bytes = b"") -> bytes:
        found = await plain(archive, name, most, body)
        if shelves.asked[WELL] == 1:
            keeper.refresh([WELL])  # it revoked something just after it had made its list
        return found

    shelves.fetch = fetch
    async with running(keeper.run()):
        await soon(lambda: keeper.token(WELL) is not None)
        await soon(lambda: shelves.asked[WELL] == 2)
        keeper.refresh([WELL])
        await soon(lambda: shelves.asked[WELL] == 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: StatusKeeper(trust_of(), Shelves({})),
        lambda: StandingNotices([], Shelves({}), lambda _archive: True, Log()),
    ],
)
async def test_with_no_archive_the_work_goes_on_until_it_is_cancelled(make):
    async with running(make().run()):
        await asyncio.sleep(0.01)
