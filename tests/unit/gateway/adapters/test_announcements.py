"""What archives announce of their desks: what nobody can read is as if it were not said, and counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from federation.wire.v1 import holdings_pb2 as pb
from gateway.adapters.nodes import NodeSessions


@pytest.mark.parametrize(
    "written",
    [
        "{", "[]", '{"a":' + "[" * 2_000, '{"closures": [["0001-01-01T00:00", "2026-01-01T00:00"]]}',
        '{"public_holidays": [[]]}', '{"public_holidays": [1e999]}',
    ],
    ids=["torn", "a list", "too deep", "year 0", "a list of lists", "no number"],
)  # fmt: skip
def test_announcements_nobody_can_read_end_no_session(written: str):
    told: list[tuple[str, str]] = []
    observer = SimpleNamespace(session_event=lambda archive, event: told.append((archive, event)))
    sessions = cast("Any", SimpleNamespace(_observer=observer))
    line = cast("Any", SimpleNamespace(member=SimpleNamespace(code="330483")))
    hours, _release = NodeSessions._announced(sessions, line, pb.Manifest(service_hours=written))
    assert hours is None
    assert told == [("330483", "bad_announcement")]
