"""When the status list is signed anew: when something changed, when it grows old, and when the clock was set right."""

from datetime import UTC, datetime, timedelta

import pytest

from federation.credential.status_list import parse
from federation.suites.registry import suite
from node_agent.certificates.keys import NamedKey
from node_agent.certificates.registry import Registry
from node_agent.certificates.standing import Standing
from node_agent.certificates.store import CertificateStore

AT = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)


class Clock:
    now = AT


@pytest.fixture
def listed(tmp_path):
    clock = Clock()
    store, registry = CertificateStore(tmp_path, "330483"), Registry(tmp_path)
    key = NamedKey(suite("intl-1").generate("ES256"), "status-1")
    yield clock, Standing(store, registry, key, "https://lantai.example/330483", lambda: clock.now)
    registry.close()
    store.close()


def signed_at(standing: Standing) -> datetime:
    return parse(standing.token().decode()).issued_at


def test_a_list_is_signed_anew_after_half_an_hour(listed):
    clock, standing = listed
    for minutes, signed in ((0, 0), (29, 0), (30, 30), (59, 30), (60, 60)):
        clock.now = AT + timedelta(minutes=minutes)
        assert signed_at(standing) == AT + timedelta(minutes=signed)


def test_a_list_that_a_clock_set_back_left_in_the_future_is_signed_anew(listed):
    clock, standing = listed
    clock.now = AT + timedelta(days=2)
    standing.token()
    clock.now = AT  # nobody takes a list of the day after tomorrow
    assert signed_at(standing) == AT
