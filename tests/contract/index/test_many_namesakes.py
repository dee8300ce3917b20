"""However many records bear a name, the one asked for is found; and what was not compared is never told as compared."""

from __future__ import annotations

import time

import pytest

from federation.dates import DateSpan
from federation.query import Query
from node_agent.index import LongSearchError, Lookup, Part, open_for_import, search
from node_agent.record import Person, Record, Role

NAMESAKES = 1_500
BORN = DateSpan(19630505, 19630505)
ASKED = Query(category="marriage", name="王伟", birth=BORN, place="330483")
SOUGHT = NAMESAKES * 2 // 3


def record(number):
    """One of many of that name; only of the one that is sought the day of birth is right, and only its place not known."""
    is_sought = number == SOUGHT
    birth = BORN if is_sought else DateSpan(19700101 + number % 28, 19700101 + number % 28)
    return Record(
        "marriage", f"J1-{number:06d}", "", "结婚登记", (Person.born("王伟", Role.PARTY, "", birth, ()),),
        DateSpan.of_year(1980 + number % 20), "" if is_sought else "330483",
    )  # fmt: skip


@pytest.fixture(scope="module")
def lookup(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    others = [Record("marriage", f"J2-{number:06d}", "", "结婚登记", (Person(f"周{chr(0x4E00 + number)}"),)) for number in range(3_000)]  # fmt: skip
    with open_for_import(folder) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), [*map(record, range(NAMESAKES)), *others])])
    opened = Lookup(folder)
    yield opened
    opened.close()


def test_the_one_whose_birth_is_right_is_found_among_all_of_that_name(lookup):
    answer = lookup.search(ASKED, weak=False)
    assert answer.found[0].code == f"J1-{SOUGHT:06d}"
    assert not answer.capped


def test_an_answer_over_a_part_of_the_records_says_so(lookup, monkeypatch):
    monkeypatch.setattr(search, "MOST_COMPARED", 400)
    answer = lookup.search(ASKED, weak=False)
    assert SOUGHT not in {int(one.code[3:]) for one in answer.found}
    assert answer.capped
    monkeypatch.undo()
    monkeypatch.setattr(search, "_MOST_PER_KEY", 400)
    assert lookup.search(ASKED, weak=False).capped


def test_there_are_more_than_are_told_exactly_when_it_is_said(lookup):
    named = Query(category="marriage", name="王伟", event=DateSpan(19850101, 19851231))
    every = len(lookup.search(named, weak=False, limit=10_000).found)
    assert every > 60
    for limit in (every - 1, every, every + 1):
        answer = lookup.search(named, weak=False, limit=limit)
        assert (len(answer.found), answer.truncated) == (min(limit, every), limit < every)


def test_who_has_no_time_for_it_is_told_before_anything_is_compared(lookup):
    with pytest.raises(LongSearchError):
        lookup.search(ASKED, weak=False, at_once=NAMESAKES - 1)
    assert lookup.search(ASKED, weak=False, at_once=10 * NAMESAKES).found


def test_a_deadline_leaves_the_nearest(lookup, monkeypatch):
    near = Query(category="marriage", name="王伟", birth=BORN, event=DateSpan(19810101, 19811231))
    seen = []
    compare = search.Search._compare

    def slowly(self, comparer, row):
        seen.append(row)
        if len(seen) == 150:
            self._index.deadline = time.monotonic()
        compare(self, comparer, row)

    monkeypatch.setattr(search.Search, "_compare", slowly)
    answer = lookup.search(near, weak=False, deadline=time.monotonic() + 60)
    assert answer.soft_timeout
    assert any(one.told.first // 10000 == 1981 for one in answer.found)
