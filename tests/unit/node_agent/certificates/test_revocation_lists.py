"""Lists that run out are told of before they do: each day, and by a gauge."""

from datetime import UTC, datetime, timedelta

import pytest

from loadtest.authorities.seals import SealAuthority
from node_agent import telemetry
from node_agent.certificates.revocation_lists import ListFiles, ListsWatch, validity

NOW = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)


class Told:
    """What an observer was told."""

    def __init__(self):
        self.ends, self.faults = [], []

    def lists_end(self, kind, at):
        self.ends.append((kind, at))

    def lists_fault(self, kind, fault):
        self.faults.append((kind, fault))


@pytest.fixture
def authority():
    return SealAuthority(starts=NOW - timedelta(days=200))


def watch(authority, lists, told):
    return ListsWatch("seal", authority.issue("桐乡市档案馆").chain, lists, told)


def test_the_issuer_whose_newest_list_ends_first_says_when(authority):
    chain = authority.issue("桐乡市档案馆").chain
    (ca, root) = authority.crls(at=NOW, days=30)
    (older, _root) = authority.crls(at=NOW - timedelta(days=20), days=30)
    term = validity(chain, [older, ca, root])
    assert term.ends == NOW + timedelta(days=30)
    (_ca, sooner) = authority.crls(at=NOW, days=7)
    assert validity(chain, [ca, sooner]).ends == NOW + timedelta(days=7)
    assert validity(chain, []) is None


@pytest.mark.parametrize(
    ("days", "at", "said"),
    [(90, 75, []), (90, 77, ["expires_soon"]), (7, 4, []), (7, 5, ["expires_soon"]), (7, 8, ["stale"])],
)
def test_lists_are_told_of_before_they_run_out(authority, days, at, said):
    told = Told()
    watch(authority, authority.crls(at=NOW, days=days), told).look(NOW + timedelta(days=at))
    assert told.faults == [("seal", one) for one in said]
    assert told.ends == [("seal", NOW + timedelta(days=days))]


def test_it_is_said_once_a_day_and_when_it_changes(authority):
    told = Told()
    watching = watch(authority, authority.crls(at=NOW, days=9), told)
    for hours in (0, 150, 151, 152, 176, 217):
        watching.look(NOW + timedelta(hours=hours))
    assert [fault for _kind, fault in told.faults] == ["expires_soon", "expires_soon", "stale"]


def test_a_missing_or_unreadable_list_is_said_and_a_fresh_one_ends_it(authority, tmp_path):
    told, path = Told(), tmp_path / "ca.crl"
    (ca, root) = authority.crls(at=NOW)
    (tmp_path / "root.crl").write_bytes(root)
    watching = watch(authority, ListFiles(lambda: sorted(tmp_path.glob("*.crl"))), told)
    watching.look(NOW)
    path.write_bytes(b"none")
    watching.look(NOW)
    path.write_bytes(ca)
    watching.look(NOW)
    path.unlink()
    watching.look(NOW)
    assert [fault for _kind, fault in told.faults] == ["missing", "unreadable", "missing"]


def test_the_gauge_says_when(authority):
    watch(authority, authority.crls(at=NOW, days=3), telemetry.ListsObserver()).look(NOW)
    told = telemetry.REVOCATION_LISTS_END_AT.labels(kind="seal")._value.get()
    assert told == (NOW + timedelta(days=3)).timestamp()
