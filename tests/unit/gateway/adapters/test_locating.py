"""Who is asked for the note that no record is held: the archive of the asking window, else of its city, else the first that answered."""

from __future__ import annotations

import time

import pytest
from msgspec import structs

from federation.dates import DateSpan
from federation.query import Query, Relation
from gateway.adapters.locating import SearchLocator, stored_question
from gateway.search.question import Question
from gateway.search.roster import Member, Roster
from gateway.search.search import Searches
from tests.fakes.cases import new_case
from tests.fakes.holdings import FakeHoldings, manifest
from tests.fakes.virtual import run

CODES = ("310000", "310115", "320500", "330400", "330402")
ASKED = Question(
    query=Query(
        category="marriage", purpose="marriage_proof", relation=Relation.SELF, name="钱伟明",
        birth=DateSpan.of_year(1963), event=DateSpan.of_years(1985, 1988),
    )
)  # fmt: skip


class Nobody:
    def searched(self, seconds, verdict, asked): ...
    def outcome(self, archive, outcome): ...
    def event(self, name): ...


class Archives:
    """Those that issue documents."""

    def __init__(self, *issuing: str) -> None:
        self.issuing = issuing

    def manifest(self, archive):
        return manifest(archive)

    def issues(self, archive):
        return archive in self.issuing


@pytest.mark.parametrize(
    ("window", "issuing", "noting"),
    [
        ("330402", CODES, "330402"),
        ("330402", CODES[:-1], "330400"),
        ("330402", CODES[:-2], "310000"),
        ("310115", ("310115", "330400"), "310115"),
        ("330483", ("310000", "330400"), "330400"),
        ("310105", ("230100", *CODES), "310000"),  # 上海 is one city
        ("", CODES, "310000"),
        ("330402", (), ""),
    ],
)
def test_the_nearest_archive_that_can_is_asked_for_the_note(window, issuing, noting):
    codes = ("230100", *CODES)
    holdings = FakeHoldings({}, {code: manifest(code) for code in codes})

    async def work():
        roster = Roster(1, tuple(Member(code, code, "127.0.0.1:1") for code in codes))
        searches = Searches(roster, holdings, Nobody(), clock=time.monotonic)
        locator = SearchLocator(searches, Archives(*issuing))
        case = new_case(window=window)
        case.request = {**case.request, "question": stored_question(structs.replace(ASKED, caller="p"))}
        located = await locator.locate(case, [])
        assert set(located.outcomes.values()) == {"empty"}
        assert located.noting == noting

    run(work())
