"""The bench of recall on a small archive: the real import and look-up find nearly everybody."""

import pytest

from loadtest.bench import Scale
from loadtest.benches.recall import run
from loadtest.slips import SINGLE_ERRORS


@pytest.mark.slow
def test_single_errors_are_found_and_absent_people_are_not():
    figures = {figure.name: figure for figure in run(Scale(records=12_000, quick=True))}
    assert figures["recall@10"].value >= 0.995
    assert figures["false alarms"].value <= 0.03
    for kind in SINGLE_ERRORS:
        assert figures[f"recall@10 {kind}"].value >= 0.97, kind
