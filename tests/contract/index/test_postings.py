"""Postings in a real SQLite table, against a list in memory."""

import sqlite3

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.index import postings
from node_agent.index.packing import UNDATED, UNDATED_RANGE, WHOLE_RANGE, category_in, pack, year_range

years = st.one_of(st.just(UNDATED), st.integers(1980, 1990))
held = st.lists(
    st.tuples(st.integers(1, 4), years, st.integers(1, 2), st.integers(0, 3)), min_size=1, max_size=40
)
ranges = st.one_of(
    st.tuples(st.integers(1978, 1992), st.integers(0, 4)).map(
        lambda one: year_range(one[0], one[0] + one[1])
    ),
    st.sampled_from([UNDATED_RANGE, WHOLE_RANGE]),
)


@settings(deadline=None, max_examples=150)
@given(
    rows=held, copies=st.sampled_from([1, 30, 300]), asked=st.lists(st.tuples(st.integers(1, 5), ranges), max_size=6),
    category=st.integers(0, 2), limit=st.sampled_from([3, 10_000]), bounded=st.booleans(),
)  # fmt: skip
def test_one_statement_reads_what_each_key_holds(rows, copies, asked, category, limit, bounded):
    """Keys with one value, a few and several chunks; ranges that begin and end inside, between and beyond chunks."""
    values = [
        (key, pack(year, kind, place, number * 1_000 + copy))
        for number, (key, year, kind, place) in enumerate(rows)
        for copy in range(copies)
    ]
    connection = sqlite3.connect(":memory:")
    connection.executescript(postings.TABLE)
    keys, packed = zip(*sorted(values), strict=True)
    postings.write(connection, np.array(keys), np.array(packed))
    found = postings.scan(connection, [(key, *span) for key, span in asked], category, limit, bounded=bounded)
    connection.close()
    assert found == [
        sorted(
            value
            for held_key, value in values
            if held_key == key and low <= value <= high and category in (0, category_in(value))
        )[:limit]
        for key, (low, high) in asked
    ]


@pytest.mark.parametrize("bounded", [False, True])
def test_nothing_asked_is_nothing_found(bounded):
    connection = sqlite3.connect(":memory:")
    assert postings.scan(connection, [], 0, 10, bounded=bounded) == []
