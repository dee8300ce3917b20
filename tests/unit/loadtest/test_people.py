"""The drawn people: alike every time, as common as real names, and their errors are the errors they are called."""

import csv
from collections import Counter
from itertools import islice
from random import Random

import pytest

from federation.categories import CATEGORIES
from federation.identity_number import IdJudgement, judge
from loadtest.people import HEADINGS, PLACES, check_digit, records, truths, write_csv
from loadtest.slips import NAME_ERRORS, OTHER_ERRORS, SINGLE_ERRORS, misspell, misspelt, slip_number
from node_agent.searching import query_from

COUNT = 12_000
NAME, ID, BIRTH, OTHER, OTHER_ID = (
    HEADINGS.index(one) for one in ("name", "id_number", "birth_date", "other_name", "other_id_number")
)


@pytest.fixture(scope="module")
def rows():
    return list(records(COUNT, 3))


def test_the_same_seed_draws_the_same_people_and_another_seed_others(rows):
    assert list(islice(records(2_000_000, 3), COUNT)) == rows
    assert next(records(1, 4)) != rows[0]
    assert len(rows) == COUNT
    assert len({row[0] for row in rows}) == COUNT


def test_the_people_asked_after_are_rows(rows):
    known = {row[0]: row for row in rows}
    people = truths(COUNT, 3, 250)
    assert len({truth.code for truth in people}) == 250
    for truth in people:
        row = known[truth.code]
        assert (truth.name, truth.other_name, truth.id_number) == (row[NAME], row[OTHER], row[ID])
        assert str(truth.birth_year) == row[BIRTH][:4]
        assert truth.place in PLACES
    assert len(truths(30, 3, 250)) == 30


def test_numbers_are_valid_or_missing_in_the_shares_of_old_lists(rows):
    numbers = [row[place] for row in rows for place in (ID, OTHER_ID) if row[NAME if place == ID else OTHER]]
    assert all(judge(number) is IdJudgement.VALID for number in numbers if number)
    lengths = Counter(map(len, numbers))
    assert 0.25 < lengths[0] / len(numbers) < 0.33
    assert 0.19 < lengths[15] / len(numbers) < 0.27
    assert all(number[17] == check_digit(number[:17]) for number in numbers if len(number) == 18)


def test_names_are_as_common_as_names_are(rows):
    people = [name for row in rows for name in (row[NAME], row[OTHER]) if name]
    surnames = Counter(name[0] for name in people)
    assert [surname for surname, _n in surnames.most_common(3)] == ["王", "李", "张"]
    assert 0.12 < sum(len(name) == 2 for name in people) / len(people) < 0.18
    assert Counter(people).most_common(1)[0][1] / len(people) < 0.001


def test_rows_say_what_catalogues_say(rows, tmp_path):
    assert {row[2] for row in rows} <= set(CATEGORIES)
    write_csv(tmp_path / "people.csv", 50, 3)
    with (tmp_path / "people.csv").open(encoding="utf-8", newline="") as handle:
        read = list(csv.reader(handle))
    assert tuple(read[0]) == HEADINGS
    assert [tuple(row) for row in read[1:]] == rows[:50]


@pytest.mark.parametrize("kind", NAME_ERRORS)
def test_an_error_of_a_name_is_one_error(kind):
    random, seen = Random(kind), 0
    for truth in truths(COUNT, 3, 250):
        wrong = misspell(truth.name, kind, random)
        if wrong is None:
            continue
        seen += 1
        assert wrong != truth.name
        differ = sum(a != b for a, b in zip(wrong, truth.name, strict=False))
        if kind in {"missing", "added"}:
            assert abs(len(wrong) - len(truth.name)) == 1
        elif kind in {"swapped", "given_first"}:
            assert sorted(wrong) == sorted(truth.name)
        elif kind != "traditional":
            assert (len(wrong), differ) == (len(truth.name), 1)
    assert seen


def test_errors_are_alike_every_time_and_ask_only_what_a_query_has():
    people = truths(COUNT, 3, 100)
    for kind in SINGLE_ERRORS:
        asked = [misspelt(Random(f"{kind}{n}"), truth, kind) for n, truth in enumerate(people)]
        assert asked == [misspelt(Random(f"{kind}{n}"), truth, kind) for n, truth in enumerate(people)]
        for one in asked:
            if one is not None:
                query = query_from(one)
                assert query.category
                assert query.name or query.id_number


def test_a_clean_question_is_true():
    for truth in truths(COUNT, 3, 60):
        asked = misspelt(Random(truth.code), truth, "clean")
        assert asked["name"] == truth.name
        assert asked.get("place", truth.place) == truth.place
        assert int(asked["from"]) <= truth.event_year <= int(asked["to"])
        assert asked.get("other_name", truth.other_name) == truth.other_name


@pytest.mark.parametrize("kind", [one for one in OTHER_ERRORS if one.startswith("id_")])
def test_a_slip_of_a_number_is_one_slip(kind):
    random = Random(kind)
    for _ in range(50):
        number = slip_number("330402198806260029", kind, random)
        if number is None:
            continue
        assert (judge(number) is IdJudgement.VALID) == (kind == "id_15")
    assert slip_number("330402880626002", kind, random) is None
