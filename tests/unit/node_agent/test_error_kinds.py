"""Every kind of error a question may hold, on vectors: the record is found first, and a clerk reads why."""

import json
from pathlib import Path

import pytest

from federation.dates import DateSpan
from federation.explanation import explain, level_word
from federation.scoring import Decision, decide
from node_agent.index import Lookup, Part, open_for_import
from node_agent.record import Person, Record, Role
from node_agent.searching import query_from

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors/searches.json").read_text("utf-8"))
DECOYS = ("钱卫民", "王建军", "李国强", "陈秀英", "沈建国", "吴小妹", "徐国建", "张明", "刘国庆", "黄卫国")


def record(number, name, aliases=(), **fields):
    held = VECTORS["record"]
    parties = (
        Person.born(
            name, Role.PARTY, fields.get("id", held["id_number"]), DateSpan.written(held["birth"]), tuple(aliases)
        ),
        Person.born(held["other_name"], Role.PARTY, held["other_id_number"], DateSpan.written(held["other_birth"]), ()),
    )  # fmt: skip
    return Record(
        "marriage", f"J1-{number}", "", "结婚登记申请书", parties, DateSpan.written(held["event"]), held["place"],
        certificate_no=fields.get("certificate", held["certificate_no"]),
    )  # fmt: skip


def decoy(number, name):
    day = DateSpan.written("1987-05-06")
    return Record("marriage", f"J9-{number}", "", "", (Person(name), Person("杨秀梅")), day, "330483")


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """One archive for every spelling a record of the vectors has."""
    made = {}

    def of(held):
        key = (held["name"], *held["aliases"])
        if key not in made:
            folder = tmp_path_factory.mktemp("archive")
            rows = [
                record(1, held["name"], held["aliases"]),
                *(decoy(n, name) for n, name in enumerate(DECOYS)),
            ]
            with open_for_import(folder) as importer:
                importer.put("a.csv", bytes(16), [Part("", ("x",), rows)])
            made[key] = Lookup(folder)
        return made[key]

    yield of
    for lookup in made.values():
        lookup.close()


@pytest.mark.parametrize("case", VECTORS["questions"], ids=lambda case: case["kind"])
def test_a_question_with_this_error_finds_the_record_and_says_why(archives, case):
    answer = archives(case["held"]).search(query_from(case["asked"]), limit=10)
    best = answer.found[0]
    assert best.code == "J1-1"
    assert level_word(best.levels) == case["level"]
    assert explain(best.levels, category="marriage") == case["explanation"]
    assert [decide(best.score, size, best.levels).value for size in (1_000, 1_000_000, 50_000_000)] == case[
        "decisions"
    ]


def test_a_stranger_is_not_taken_for_the_record(archives):
    asked = {"category": "marriage", "name": "孔令辉", "from": "1986", "to": "1988", "birth": "1963"}
    answer = archives({"name": "钱建国", "aliases": []}).search(query_from(asked), limit=10)
    assert all(decide(one.score, 1_000_000, one.levels) is Decision.NONE for one in answer.found)
