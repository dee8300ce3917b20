"""A sample of the records that pass: spread over all of them, and bounded."""

from itertools import pairwise

import pytest

from node_agent.index import Sample
from node_agent.record import Person, Record, Records


def record(number):
    return Record("marriage", f"J{number}", "", "", (Person("王芳"),), row=number)


@pytest.mark.parametrize(
    ("count", "kept"), [(0, 0), (1, 1), (199, 199), (200, 100), (398, 199), (399, 100), (100_000, 196)]
)
@pytest.mark.parametrize("together", [1, 7, 1_000])
def test_a_sample_is_spread_evenly_whatever_passes_together(count, kept, together):
    sample = Sample(100)
    for start in range(0, count, together):
        some = [record(number) for number in range(start, min(start + together, count))]
        sample.take(Records.of(some) if together > 1 else some[0])
    rows = [one.row for one in sample.records]
    assert len(rows) == kept
    steps = {after - before for before, after in pairwise(rows)}
    assert len(steps) <= 1
    assert not rows or (rows[0] == 0 and count - rows[-1] <= max(steps, default=1))
