"""Automatic release: every condition stops it alone, it is off until switched on, and it never releases a wrong person's record."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace as with_levels

from federation import mail
from federation.categories import CATEGORIES
from federation.dates import DateSpan
from federation.identity_number import canonical, check_digit
from federation.levels import DateLevel, IdLevel, NameLevel, PlaceLevel, TextLevel
from federation.query import Query
from federation.reasons import Reason, Refusal
from node_agent.desk.desk import judgement_of
from node_agent.desk.items import State
from node_agent.desk.records import IndexRecords
from node_agent.desk.rules import CONDITIONS, HIGHEST_SENSITIVITY, NAME, VERSION, ReleaseRule, RuleError
from node_agent.disclosure import Disclosure
from node_agent.index import Lookup, Part, open_for_import
from node_agent.record import Person, Record, Role
from tests.fakes.desks import HOLDING, Clock, FakeRecords, desk_at, dispatch, give, kinds, take

ON = ReleaseRule(enabled=True, sensitivity=2)


def levels(**changes):
    return replace(HOLDING, levels=with_levels(HOLDING.levels, **changes))


FAILING = {
    "switched_on": (ReleaseRule(enabled=False, sensitivity=2), dispatch(), HOLDING, 0),
    "own_holding": (ON, dispatch(on_behalf_of="330400"), HOLDING, 0),
    "relation_self": (ON, dispatch(relation="AGENT"), HOLDING, 0),
    "record_found": (ON, dispatch(category="one_child"), HOLDING, 0),
    "id_exact": (ON, dispatch(), levels(id_number=IdLevel.NOT_COMPARED), 0),
    "name_exact": (ON, dispatch(), levels(name=NameLevel.VARIANT), 0),
    "nothing_contradicts": (ON, dispatch(), levels(birth=DateLevel.FAR), 0),
    "single_hit": (ON, dispatch(), replace(HOLDING, hits=2), 0),
    "digitised": (ON, dispatch(), replace(HOLDING, digitised=False), 0),
    "issuable": (ON, dispatch(), replace(HOLDING, is_issuable=False), 0),
    "sensitivity_low": (replace(ON, sensitivity=1), dispatch(), HOLDING, 0),
    "below_daily_cap": (replace(ON, daily_cap=3), dispatch(), HOLDING, 3),
}


def test_every_condition_is_listed_here():
    assert list(FAILING) == list(CONDITIONS)


def test_all_conditions_together_release():
    assert ON.judge(dispatch(), HOLDING, 0).failed == ()


@pytest.mark.parametrize("condition", FAILING)
def test_each_condition_stops_it_alone(condition):
    rule, request, holding, released = FAILING[condition]
    judged = rule.judge(request, holding, released)
    assert judged.failed == (condition,)
    for language in ("zh", "en"):
        assert CONDITIONS[condition].in_language(language) in judged.explained(language)


@pytest.mark.parametrize(
    "changes",
    [
        {"other_name": NameLevel.DIFFERENT}, {"other_id_number": IdLevel.DIFFERENT}, {"event": DateLevel.FAR},
        {"certificate_no": TextLevel.DIFFERENT}, {"place": PlaceLevel.DIFFERENT}, {"event": DateLevel.OFF_1},
        {"birth": DateLevel.OFF_1}, {"birth": DateLevel.DAY_MONTH_SWAPPED},
    ],
)  # fmt: skip
def test_any_contradiction_stops_it(changes):
    assert ON.judge(dispatch(), levels(**changes), 0).failed == ("nothing_contradicts",)


@pytest.mark.parametrize("level", [one for one in IdLevel if one is not IdLevel.EQUAL])
def test_no_other_level_of_the_number_is_exact(level):
    assert "id_exact" in ON.judge(dispatch(), levels(id_number=level), 0).failed


@pytest.mark.parametrize("level", [one for one in NameLevel if one is not NameLevel.EXACT])
def test_no_other_level_of_the_name_is_exact(level):
    assert "name_exact" in ON.judge(dispatch(), levels(name=level), 0).failed


@pytest.mark.parametrize(
    "category", [key for key, one in CATEGORIES.items() if one.sensitivity > HIGHEST_SENSITIVITY]
)
def test_no_setting_releases_what_is_sensitive(category):
    rule = ReleaseRule(enabled=True, sensitivity=9, categories=frozenset({category}))
    assert (
        "sensitivity_low"
        in rule.judge(dispatch(category=category), replace(HOLDING, category=category), 0).failed
    )


def test_it_is_off_until_the_archive_switches_it_on(tmp_path):
    assert not ReleaseRule().enabled
    assert not ReleaseRule.from_dict({}).enabled
    desk = desk_at(tmp_path, Clock())
    give(desk, dispatch())
    assert desk.item("c1").state is State.WAITING
    assert judgement_of(desk.item("c1")).failed[0] == "switched_on"
    desk.store.close()


def test_a_release_is_decided_where_the_request_is_made_durable_and_says_by_which_rule(tmp_path):
    desk = desk_at(tmp_path, Clock(), rules=ON)
    give(desk, dispatch())
    item = desk.item("c1")
    assert (item.state, item.decided_by, item.rule) == (State.APPROVED, "rule", f"{NAME}/{VERSION}")
    assert msgspec.json.decode(item.release) == {"rule": f"{NAME}/{VERSION}", "released": True, "failed": []}
    messages = take(desk)
    assert kinds(messages) == ["received", "approved"]
    assert messages[1].rule == f"{NAME}/{VERSION}"
    assert next((one.actor, one.action) for one in desk.history("c1")) == ("rule", "approve")
    desk.store.close()


@pytest.mark.parametrize(
    "error", [Refusal(Reason.MISSING_GLYPH, "/record/title U+32000"), OSError("no index")]
)
def test_what_no_document_can_be_made_of_is_for_a_person_and_not_released(tmp_path, error):
    """Nobody could take the release back, and the case would wait for its document for ever."""
    asked = []

    def can_issue(*given):
        asked.append(given)
        raise error

    desk = desk_at(tmp_path, Clock(), rules=ON, can_issue=can_issue)
    give(desk, dispatch())
    assert desk.item("c1").state is State.WAITING
    assert desk.item("c1").archival_code == HOLDING.archival_code
    assert judgement_of(desk.item("c1")).failed == ("issuable",)
    assert asked == [(dispatch(), HOLDING.archival_code, ())]
    give(desk, dispatch(relation="AGENT"), "c2")  # which no rule releases
    assert len(asked) == 1
    desk.store.close()


def test_the_daily_cap_holds_to_the_last_one_and_ends_at_midnight(tmp_path):
    clock = Clock()
    desk = desk_at(tmp_path, clock, rules=replace(ON, daily_cap=2))
    for case in ("a", "b", "c"):
        give(desk, dispatch(), case)
    assert [desk.item(case).state for case in ("a", "b", "c")] == [
        State.APPROVED,
        State.APPROVED,
        State.WAITING,
    ]
    assert judgement_of(desk.item("c")).failed == ("below_daily_cap",)
    clock.go(15 * 3600)
    give(desk, dispatch(), "d")
    assert desk.item("d").state is State.APPROVED
    desk.store.close()


def test_what_the_index_can_not_say_in_time_is_for_a_person(tmp_path):
    desk = desk_at(tmp_path, Clock(), rules=ON, records=FakeRecords(None))
    give(desk, dispatch())
    assert desk.item("c1").state is State.WAITING
    desk.store.close()


@pytest.mark.parametrize(
    "written",
    [
        {"on": True}, {"enabled": "yes"}, {"enabled": 1}, {"sensitivity": 3}, {"sensitivity": 0}, {"sensitivity": True},
        {"daily_cap": -1}, {"daily_cap": 1.5}, {"categories": "marriage"}, {"categories": ["wedding"]},
    ],
)  # fmt: skip
def test_a_rule_written_wrongly_is_refused_in_both_languages(written):
    with pytest.raises(RuleError, match=" · "):
        ReleaseRule.from_dict(written)


# against a real index --------------------------------------------------------------------------------------------

NAMES = ("欧阳试", "欧陽试", "歐陽试", "欧阳士", "司徒样", "司徒羊")
_BODIES = ("33048319700101001", "33048319700101002", "33048319700101010")
NUMBERS = (*(body + check_digit(body) for body in _BODIES), "330483700101001", "")
people = st.tuples(st.sampled_from(NAMES), st.sampled_from(NUMBERS))


@st.composite
def registers(draw):
    """Records of few people whose names and numbers are easily taken for each other's."""
    made = []
    for place in range(draw(st.integers(1, 6))):
        persons = draw(st.lists(people, min_size=1, max_size=2))
        made.append(
            Record(
                category="marriage",
                archival_code=f"T001-{place}",
                raw_code=f"T001-{place}",
                title="",
                persons=tuple(
                    Person(name, Role.SUBJECT, id_number=canonical(number) or "") for name, number in persons
                ),
                event=DateSpan.of_year(draw(st.sampled_from((1990, 1999)))),
                place="330483",
                digitised=True,
                cells=(str(place),),
            )
        )
    return made


def test_no_wrong_person_is_ever_released(tmp_path_factory):
    """Whatever is asked about whichever record: who is released has that very name and number, and no other record has."""
    released = []

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(registers())
    def check(register):
        folder = tmp_path_factory.mktemp("archive")
        with open_for_import(folder) as importer:
            importer.put("a.csv", bytes(16), [Part("", ("x",), register)])
        lookup = Lookup(folder)
        disclosure = Disclosure(b"k" * 32, None)
        records = IndexRecords(lookup, disclosure.reference)
        years = DateSpan(19900101, 19991231)
        known = {
            disclosure.reference(one): one.raw_code
            for name in NAMES
            for one in lookup.search(Query(category="marriage", name=name, event=years)).found
        }
        for ref, code in known.items():
            for name in NAMES:
                for number in NUMBERS:
                    subject = mail.Subject(name=name, id_number=number)
                    request = dispatch(ref=ref, subject=subject, event={"from": "1985", "to": "2000"})
                    if ON.judge(request, records.holding(request), 0).released:
                        released.append(code)
                        assert number
                        assert theirs(register, name, number) == {code}
        lookup.close()

    check()
    assert released  # a rule that releases nobody would hold it too


@pytest.mark.parametrize(
    ("birth", "event", "released"),
    [
        ("", {}, True),
        ("1970-01-01", {"from": "1990-05-01", "to": "1990-05-01", "place": "330483"}, True),
        ("1970-01", {"from": "1988", "to": "1992", "place": "330000"}, True),
        ("1970", {"from": "1990", "to": "1990", "place": "嘉兴市"}, True),
        ("1970-06-01", {}, False),  # a day of the same year is another day
        ("1970-02", {}, False),
        ("1971", {}, False),
        ("", {"from": "1990-05-02", "to": "1990-05-02"}, False),
        ("", {"from": "1990-06", "to": "1990-12"}, False),
        ("", {"from": "1991", "to": "1991"}, False),
        ("", {"from": "1990", "to": "1990", "place": "330481"}, False),
        ("", {"from": "1990", "to": "1990", "place": "310000"}, False),
    ],
)
def test_a_stated_date_or_place_that_can_not_be_the_records_stops_it(tmp_path, birth, event, released):
    number = NUMBERS[0]
    person = Person.born("欧阳试", Role.PARTY, number, DateSpan(19700101, 19700101), ())
    record = Record(
        "marriage", "T001-1", "T001-1", "", (person,), DateSpan(19900501, 19900501), "330483", digitised=True
    )
    with open_for_import(tmp_path) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), [record])])
    lookup = Lookup(tmp_path)
    disclosure = Disclosure(b"k" * 32, None)
    (found,) = lookup.search(Query(category="marriage", name="欧阳试")).found
    request = dispatch(
        ref=disclosure.reference(found),
        subject=mail.Subject(name="欧阳试", id_number=number, birth=birth),
        event=event,
    )
    judged = ON.judge(request, IndexRecords(lookup, disclosure.reference).holding(request), 0)
    lookup.close()
    assert judged.failed == (() if released else ("nothing_contradicts",))


def test_a_case_shows_the_version_of_the_rule_that_was_asked(tmp_path):
    desk = desk_at(tmp_path, Clock())
    give(desk, dispatch())
    item = desk.item("c1")
    item.release = item.release.replace(f"{NAME}/{VERSION}".encode(), f"{NAME}/1".encode())
    assert judgement_of(item).rule == f"{NAME}/1"
    desk.store.close()


def theirs(register, name, number):
    """Codes of the records in which a person has exactly this name and number."""
    return {
        record.raw_code
        for record in register
        for person in record.persons
        if person.name == name and person.id_number == canonical(number)
    }
