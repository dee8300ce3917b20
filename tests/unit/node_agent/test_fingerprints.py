"""Which records of two archives count as copies of one: those of one event, and no others."""

import itertools

import pytest

from federation.dates import DateSpan
from federation.query import Query
from gateway.search.merge import rank
from gateway.search.roster import Member, Roster
from node_agent.disclosure import Disclosure
from node_agent.index import Lookup, Part, open_for_import
from node_agent.record import Person, Record, Role

HERE, THERE = "330402", "330483"
ROSTER = Roster(1, tuple(Member(code, f"{code}馆", "127.0.0.1:4000") for code in (HERE, THERE)))
DAY, YEAR, ANOTHER_YEAR = DateSpan(19850607, 19850607), DateSpan.of_year(1985), DateSpan.of_year(1991)


@pytest.fixture
def told(tmp_path):
    """What an archive that holds one marriage of 王强 tells of it."""
    folders = itertools.count()

    def of(wife, event, number, category="marriage"):
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        parties = (Person("王强", Role.PARTY), Person(wife, Role.PARTY))
        record = Record(category, "T001-1", "T001-1", "", parties, event, certificate_no=number)
        with open_for_import(folder) as importer:
            importer.put("a.csv", bytes(16), [Part("", ("x",), [record])])
        lookup = Lookup(folder)
        answer = lookup.search(Query(category=category, name="王强", event=DateSpan.of_years(1980, 1995)))
        lookup.close()
        return tuple(map(Disclosure(bytes(32), b"f" * 32).candidate, answer.found))

    return of


def ranked(here, there):
    return len(rank([(HERE, here), (THERE, there)], ROSTER, {}))


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (("李芳", YEAR, "无"), ("周芷若", ANOTHER_YEAR, "无")),
        (("李芳", YEAR, "—"), ("周芷若", ANOTHER_YEAR, "——")),
        (("李芳", YEAR, "结字第5号"), ("周芷若", YEAR, "结字第5号")),  # every office had a fifth of that year
        (("李芳", YEAR, "结字第5号"), ("李芳", ANOTHER_YEAR, "结字第5号")),  # married to each other again
        (("李芳", DAY, "结字第5号"), ("周芷若", DateSpan(19850608, 19850608), "结字第5号")),
        (("李芳", DAY, "无"), ("李方", DAY, "无")),
        (("李芳", None, ""), ("李芳", None, "")),
        (("李芳", None, "结字第5号"), ("周芷若", None, "结字第5号")),
        (("李芳", YEAR, "5"), ("李芳", YEAR, "5")),
        (("李芳", YEAR, "字迹不清"), ("李芳", YEAR, "字迹不清")),
    ],
)
def test_two_events_stay_two(told, here, there):
    assert ranked(told(*here), told(*there)) == 2


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (("李芳", YEAR, "结字第5号"), ("李芳", YEAR, "结字第 ５ 號")),
        (("李芳", YEAR, "(85)结字第5号"), ("李芳", DAY, "〔８５〕结字第5號")),
        (("李芳", None, "(85)结字第5号"), ("李芳", None, "(85)结字第5号")),
        (("李芳", DAY, "无"), ("李芳", DAY, "")),
        (("李芳", DAY, "结字第5号"), ("李方", DAY, "结字第5号")),  # misspelt in one of them
        (("兰馨", DAY, ""), ("蘭馨", DAY, "")),
    ],
)
def test_copies_of_one_event_are_one(told, here, there):
    assert ranked(told(*here), told(*there)) == 1
