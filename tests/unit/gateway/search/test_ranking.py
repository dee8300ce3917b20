"""One ranking over all archives, pages of it, and who may ask what."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec import structs

from federation.dates import DateSpan
from federation.levels import DateLevel, Levels, NameLevel
from federation.query import Query
from federation.reasons import Reason, Refusal
from gateway.search.merge import rank
from gateway.search.question import Question, check, check_minimum
from gateway.search.roster import Member, Roster
from tests.fakes.holdings import Behaviour, FakeHoldings, candidate
from tests.fakes.virtual import run
from tests.unit.gateway.search.test_completeness import ASKED, CODES, ROSTER, searches

SIZES = dict.fromkeys(CODES, 100_000)


def test_copies_are_one_candidate_held_by_the_original_with_the_copies_named():
    original = candidate(
        "o", fingerprints=(b"e1",), levels=Levels(name=NameLevel.VARIANT, birth=DateLevel.YEAR)
    )
    copy = candidate(
        "c", fingerprints=(b"e1",), is_copy=True, levels=Levels(name=NameLevel.EXACT, birth=DateLevel.YEAR)
    )
    ranked = rank([("330400", (copy,)), ("330402", (original,))], ROSTER, SIZES)
    assert [(one.archive, one.candidate.ref, one.copies) for one in ranked] == [("330402", "o", ("330400",))]


def test_two_records_of_one_archive_stay_two_though_their_fingerprints_agree():
    twins = (candidate("a", fingerprints=(b"e",)), candidate("b", fingerprints=(b"e",)))
    assert len(rank([("330400", twins)], ROSTER, SIZES)) == 2


def test_a_record_that_stands_twice_in_two_archives_is_two_candidates_each_with_its_copy():
    twins = tuple(candidate(ref, fingerprints=(b"e", b"f")) for ref in "ab")
    ranked = rank([("330400", twins), ("330402", twins)], ROSTER, SIZES)
    assert [(one.archive, one.copies) for one in ranked] == [("330400", ("330402",))] * 2


@pytest.mark.parametrize("best", [0, 1, 2])
def test_a_record_that_shares_something_with_each_of_two_makes_the_three_one_whichever_agrees_best(best):
    # one archive knows the day and no number, another the number and no day, the third both
    told = [
        (archive, (candidate("r", fingerprints=marks, name_bits=12.0 if place == best else 10.0),))
        for place, (archive, marks) in enumerate(
            [("330400", (b"day",)), ("330402", (b"number",)), ("330421", (b"day", b"number"))]
        )
    ]
    assert len(rank(told, ROSTER, SIZES)) == 1


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(CODES),
            st.text("abcdef", min_size=1, max_size=2),
            st.sampled_from([(), (b"1",), (b"1", b"2"), (b"3",)]),
        ),
        max_size=20,
    )
)
def test_merging_loses_nobody_and_invents_nobody(found):
    by_archive = {}
    for archive, ref, marks in found:
        by_archive.setdefault(archive, {})[ref] = candidate(ref, fingerprints=marks)
    given_in = [(archive, tuple(held.values())) for archive, held in by_archive.items()]
    ranked = rank(given_in, ROSTER, SIZES)
    shown = {one.archive for one in ranked} | {copy for one in ranked for copy in one.copies}
    assert shown == set(by_archive)
    assert len(ranked) <= sum(len(held) for _archive, held in given_in)
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    assert ranked == rank(given_in[::-1], ROSTER, SIZES)


def test_a_larger_archive_needs_more_evidence_to_be_likely():
    one = (candidate("a", levels=Levels(name=NameLevel.EXACT, birth=DateLevel.YEAR), name_bits=12.0),)
    small = rank([("330400", one)], ROSTER, {"330400": 10_000})[0]
    large = rank([("330400", one)], ROSTER, {"330400": 50_000_000})[0]
    assert small.score == large.score
    assert small.decision == "likely"
    assert large.decision != "likely"


def test_authority_breaks_ties_between_originals():
    roster = Roster(1, tuple(replace(one, authority=int(one.code == "330421")) for one in ROSTER.members))
    both = candidate("x", fingerprints=(b"e",))
    ranked = rank([("330400", (both,)), ("330421", (both,))], roster, SIZES)
    assert (ranked[0].archive, ranked[0].copies) == ("330421", ("330400",))


# pages ---------------------------------------------------------------------------------------------------------


def test_pages_are_one_ranking_cut_and_a_cursor_is_only_its_callers():
    async def work():
        world = {"330402": Behaviour(tuple(candidate(f"r{n:02d}", year=1950 + n) for n in range(25)))}
        both = searches(FakeHoldings(world))
        whole = await both.search(structs.replace(ASKED, page_size=100))
        first = await both.search(structs.replace(ASKED, page_size=10))
        pages, page = list(first.candidates), first
        while page.cursor:
            with pytest.raises(Refusal) as refused:
                both.page(page.cursor, "somebody else")
            assert refused.value.reason is Reason.INVALID_CURSOR
            page = both.page(page.cursor, "platform")
            assert page.completeness == first.completeness
            pages += page.candidates
        assert [one.candidate.ref for one in pages] == [one.candidate.ref for one in whole.candidates]
        assert first.total == 25
        for place in range(len(first.cursor)):
            other = "A" if first.cursor[place] != "A" else "B"
            with pytest.raises(Refusal):
                both.page(first.cursor[:place] + other + first.cursor[place + 1 :], "platform")

    run(work())


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_a_made_up_cursor_is_refused(cursor):
    from gateway.search.pages import Pages

    with pytest.raises(Refusal) as refused:
        Pages(b"k" * 32, lambda: 0.0).resume(cursor, "platform")
    assert refused.value.reason is Reason.INVALID_CURSOR


# questions -----------------------------------------------------------------------------------------------------

FULL = Query(
    category="marriage", name="钱伟明", birth=DateSpan.of_year(1963), event=DateSpan.of_years(1985, 1990)
)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        (structs.replace(FULL, name=" "), "/subject/name"),
        (structs.replace(FULL, birth=None), "/subject"),
        (structs.replace(FULL, event=None), "/event"),
        (structs.replace(FULL, event=DateSpan.of_years(1970, 1990)), "/event"),
        (structs.replace(FULL, event=None, certificate_no="无"), "/event"),
        (structs.replace(FULL, name="·"), "/subject/name"),
        (structs.replace(FULL, name="不详"), "/subject/name"),
        (structs.replace(FULL, event=None, other_name="。"), "/event"),
        (structs.replace(FULL, event=None, other_name="无"), "/event"),
        (structs.replace(FULL, event=None, place="——"), "/event"),
        (structs.replace(FULL, event=None, place="市"), "/event"),  # nearly every place has one
        # no day of birth, and no slip away from one: nobody's
        (structs.replace(FULL, birth=None, id_number="000000000000000"), "/subject"),
        (structs.replace(FULL, birth=None, id_number="000000000000000000"), "/subject"),
        (structs.replace(FULL, event=None, other_id_number="330402999999001"), "/event"),
    ],
)
def test_too_little_is_refused_with_the_field(query, pointer):
    with pytest.raises(Refusal) as refused:
        check_minimum(query)
    assert (refused.value.reason, refused.value.pointer) == (Reason.MINIMUM_QUERY, pointer)


@pytest.mark.parametrize(
    "query",
    [
        FULL,
        structs.replace(FULL, birth=None, id_number="330483196305120013"),
        structs.replace(FULL, birth=None, id_number="330483630512001"),
        structs.replace(FULL, birth=None, id_number="33048319630512001X"),  # a slip away from several
        structs.replace(FULL, event=None, other_name="王芳"),
        structs.replace(FULL, event=None, other_id_number="330483630512001"),
        structs.replace(FULL, event=None, place="屠甸"),
        structs.replace(FULL, event=None, place="330483"),
        structs.replace(FULL, event=None, certificate_no="123"),
    ],
)
def test_enough_is_enough(query):
    check_minimum(query)


@pytest.mark.parametrize("field", ["name", "other_name", "id_number", "other_id_number", "certificate_no"])
@pytest.mark.parametrize("wild", ["*", "?", "%", "？", "＊"])
def test_wildcards_are_refused(field, wild):
    with pytest.raises(Refusal) as refused:
        check(Question(query=structs.replace(FULL, **{field: f"钱{wild}"})))
    assert refused.value.reason is Reason.WILDCARD


def test_one_member_twice_is_no_roster():
    from gateway.search.roster import RosterError

    with pytest.raises(RosterError):
        Roster(1, (Member("330400", "a", "x:1"), Member("330400", "b", "x:2")))
