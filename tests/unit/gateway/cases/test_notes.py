"""The note that no record is held: when it is ordered, what it states, who may say that it is there, when the clock stops."""

from __future__ import annotations

import pytest

from federation.mail import Note, Searched, Subject, Wishes
from federation.reasons import Reason
from gateway.cases.case import MAIL, Event
from gateway.cases.letters import to_desk
from gateway.cases.policy import Policy
from gateway.cases.states import Kind, State
from tests.fakes.cases import HOLDER, WINDOW, found, located
from tests.unit.gateway.cases.test_case_rules import Life, mails

THIRD = "330421"
DAY = "2023-11-14"
POLICY = Policy(names={HOLDER: "桐乡市档案馆", WINDOW: "南湖区档案馆"})


def answered(outcomes, searched, candidates=(), *, ruled_out=(), noting=WINDOW):
    event = located(outcomes, candidates)
    event.data.update(searched=searched, ruled_out=list(ruled_out), noting=noting)
    return event


def nobody(life):
    return life.say(answered({HOLDER: "empty", WINDOW: "empty"}, {HOLDER: DAY, WINDOW: DAY}))


def order(life, effects):
    (task,) = [task for task in effects.tasks if task.kind == MAIL]
    return to_desk(life.case, task.payload, life.now, life.policy)


def test_the_note_states_every_archive_its_index_and_what_was_looked_for():
    life = Life(POLICY)
    life.case.request |= {"event": {"from": "1985-03", "to": "1990"}, "digest": "ab"}
    life.say(answered({HOLDER: "empty", WINDOW: "timeout"}, {HOLDER: "2023-11-01", THIRD: "category_not_held"}, ruled_out=[THIRD]))  # fmt: skip
    assert life.case.state is State.LOCATING
    effects = life.say(answered({WINDOW: "empty"}, {WINDOW: DAY}))
    assert mails(effects) == [(WINDOW, "note")]
    assert order(life, effects) == Note(
        1,
        seq=life.case.version,
        category="marriage",
        purpose="marriage_proof",
        subject=Subject(name="錢偉明"),
        name_forms=("錢偉明", "钱伟明"),
        archives=(
            Searched(WINDOW, "南湖区档案馆", "empty", holdings=("marriage",), index_date=DAY),
            Searched(THIRD, THIRD, "not_asked", reason="category_not_held"),
            Searched(HOLDER, "桐乡市档案馆", "empty", holdings=("marriage",), index_date="2023-11-01"),
        ),
        searched_on="2023-11-15",  # the day in China
        years=(1985, 1990),
        wishes=Wishes(request_digest="ab"),
    )


@pytest.mark.parametrize(
    "event",
    [
        answered({HOLDER: "empty"}, {HOLDER: DAY}, noting=""),  # nobody can
        answered({HOLDER: "empty"}, {HOLDER: ""}),  # the index's day is not known
        located({HOLDER: "empty"}),
    ],
)
def test_without_an_issuer_or_the_whole_account_there_is_no_note(event):
    life = Life(POLICY)
    effects = life.say(event)
    assert (life.case.state, mails(effects)) == (State.NO_RECORD, [])
    assert life.case.is_answer(life.now)
    assert life.refused(Kind.ISSUED, WINDOW, number="1") is Reason.WRONG_ARCHIVE


def test_no_note_over_candidates_the_caller_turned_down():
    life = Life(POLICY)
    life.say(answered({HOLDER: "hit", WINDOW: "empty"}, {WINDOW: DAY}, [found(decision="possible")]))
    effects = life.say(Event(Kind.NONE_FITS, "caller"))
    assert (life.case.state, mails(effects)) == (State.NO_RECORD, [])


def test_only_the_archive_that_was_asked_gives_the_note_once_and_for_this_question():
    life = Life(POLICY)
    nobody(life)
    assert life.case.awaits_note
    assert life.refused(Kind.ISSUED, HOLDER, number="1", group=1) is Reason.WRONG_ARCHIVE
    assert life.refused(Kind.ISSUED, WINDOW, number="1", group=0) is Reason.ILLEGAL_TRANSITION
    life.say(Kind.ISSUED, WINDOW, number="330402-2026-000001", form="no_record", document="ab", group=1)
    assert (life.case.state, life.case.awaits_note) == (State.NO_RECORD, False)
    assert life.case.decision["number"] == "330402-2026-000001"
    assert life.refused(Kind.ISSUED, WINDOW, number="2", group=1) is Reason.ILLEGAL_TRANSITION


def test_seeing_the_state_is_the_answer_only_once_the_notes_time_is_over():
    life = Life(POLICY)
    nobody(life)
    assert not life.case.is_answer(life.now)
    assert not life.case.is_answer(life.case.stage_deadline_ms - 1)
    assert life.case.is_answer(life.case.stage_deadline_ms)
    life.say(Kind.ISSUED, WINDOW, number="1", document="ab", group=1)
    life.now += 5_000
    life.say(Event(Kind.DELIVERED, "gateway", {"by": "caller"}))
    assert life.case.stopped_ms == life.now
    assert life.case.spent_ms["deliver"] == 5_000
