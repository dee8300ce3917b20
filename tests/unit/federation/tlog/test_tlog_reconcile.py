"""Two sides' logs are held against each other; what one side withheld is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.tlog.__main__ import main
from federation.tlog.event import Event, EventKind
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.log import EvidenceLog
from federation.tlog.note import Signer
from federation.tlog.reconcile import Account, Line, account_of, reconcile
from tests.fakes.tlog import LOG, NOW_MS

GATEWAY = Signer.generate("log.example/gateway")


def life(request, archive="330483"):
    """The shared events of one exchange."""
    number = f"{archive}-{request}"

    def event(kind, digest, **fields):
        fields = {"digest": digest * 64, "archive": archive} | fields
        return Event(kind, f"{request}:{archive}:{kind}", NOW_MS, request, fields)

    return [
        event(EventKind.DISPATCHED, "1"),
        event(EventKind.ANSWERED, "2", outcome="hit"),
        event(EventKind.DECIDED, "3", outcome="approved"),
        event(EventKind.DOCUMENT_ISSUED, "4", number=number, document="certified_copy"),
        event(EventKind.DELIVERED, "5", number=number),
    ]


def local(request):
    return Event(
        EventKind.REQUESTED, f"{request}:asked", NOW_MS, request, {"digest": "9" * 64, "purpose": "school"}
    )


@pytest.fixture
def sides(tmp_path):
    with (
        EvidenceLog(tmp_path / "gateway.sqlite", GATEWAY) as gateway,
        EvidenceLog(tmp_path / "node.sqlite", LOG) as node,
    ):
        yield gateway, node


def test_equal_logs_agree_whatever_else_each_side_holds(sides):
    gateway, node = sides
    for request in ("case-1", "case-2"):
        gateway.append([local(request), *life(request)])
        node.append(reversed(life(request)))
    gateway.append(life("case-3", archive="330424"))  # another archive's business
    result = reconcile(account_of(gateway, archive="330483"), account_of(node))
    assert result.ok
    assert (result.requests, result.agreed, result.open) == (2, 10, 0)


def test_what_a_later_version_logged_of_a_request_is_no_part_of_an_account(sides):
    gateway, node = sides
    gateway.append([local("case-1"), *life("case-1")])
    node.append(life("case-1"))
    gateway._connection.execute("update entries set kind = 'asked_by_heart' where kind = 'requested'")
    ours = account_of(gateway, requests=["case-1"])
    assert [line.kind for line in ours.requests["case-1"]] == [one.kind for one in life("case-1")]
    assert reconcile(ours, account_of(node)).ok


@pytest.mark.parametrize("kind", range(5))
def test_a_withheld_event_is_named_on_the_side_it_is_missing(sides, kind):
    gateway, node = sides
    events = life("case-1")
    gateway.append(events)
    node.append(events[:kind] + events[kind + 1 :])
    (one,) = reconcile(account_of(gateway), account_of(node)).differences
    assert (one.request, one.kind, one.missing) == ("case-1", events[kind].kind, "theirs")
    (one,) = reconcile(account_of(node), account_of(gateway)).differences
    assert one.missing == "ours"


def test_a_request_only_one_side_knows_is_named_whole(sides):
    gateway, node = sides
    gateway.append(life("case-1"))
    assert len(reconcile(account_of(gateway), account_of(node)).differences) == 5
    young = reconcile(account_of(gateway), account_of(node), settled_before_ms=NOW_MS)
    assert young.ok
    assert young.open == 5


def test_different_digests_are_named_as_such(sides):
    gateway, node = sides
    gateway.append(life("case-1"))
    changed = life("case-1")
    changed[2] = Event(EventKind.DECIDED, "d", NOW_MS, "case-1", {**changed[2].fields, "digest": "a" * 64})
    node.append(changed)
    (one,) = reconcile(account_of(gateway), account_of(node)).differences
    assert (one.kind, one.missing) == ("decided", "")
    assert (one.ours.digest, one.theirs.digest) == ("3" * 64, "a" * 64)


def test_an_event_erased_on_one_side_is_still_known_to_have_been_logged(sides):
    gateway, node = sides
    gateway.append(life("case-1"))
    node.append(life("case-1"))
    node.erase("case-1", "retention", NOW_MS, ["case-1:330483:decided"])
    result = reconcile(account_of(gateway), account_of(node))
    assert result.ok
    assert (result.agreed, result.erased) == (4, 1)
    gateway.erase("case-1", "retention", NOW_MS, ["case-1:330483:decided"])
    result = reconcile(account_of(gateway), account_of(node))
    assert (result.ok, result.agreed, result.erased) == (True, 4, 1)


def test_the_logs_of_several_gateway_processes_make_one_account(sides, tmp_path):
    gateway, node = sides
    events = life("case-1")
    node.append(events)
    gateway.append(events[:2])
    with EvidenceLog(tmp_path / "second.sqlite", Signer.generate("log.example/gateway-2")) as second:
        second.append(events[2:])
        assert reconcile(account_of([gateway, second]), account_of(node)).ok
        assert not reconcile(account_of(second), account_of(node)).ok


def test_accounts_travel_as_json_and_are_read_strictly(sides):
    gateway, _node = sides
    gateway.append(life("case-1"))
    account = account_of(gateway)
    assert Account.read(account.write()) == account
    for bad in (b"", b"[]", b"{}", b'{"origin":1,"requests":{}}', b"\xff", b"[" * 100_000):
        with pytest.raises(EvidenceError) as caught:
            Account.read(bad)
        assert caught.value.flaw is Flaw.MALFORMED_EVENT


def test_requests_can_be_named_or_bounded_by_time(sides):
    gateway, _node = sides
    gateway.append([*life("case-1"), *life("case-2")])
    assert list(account_of(gateway, requests=["case-2", "case-9"]).requests) == ["case-2"]
    assert account_of(gateway, since_ms=NOW_MS + 1).requests == {}


LINES = st.lists(
    st.builds(
        Line,
        st.sampled_from(["decided", "delivered"]),
        st.sampled_from(["", "a", "b"]),
        st.just(5),
        st.just(0),
    ),
    max_size=6,
)


@given(LINES, LINES)
def test_every_line_is_accounted_for_once_and_the_same_from_both_sides(ours, theirs):
    left, right = Account("a", {"case": ours}), Account("b", {"case": theirs})
    there, back = reconcile(left, right), reconcile(right, left)
    assert (there.agreed, there.erased) == (back.agreed, back.erased)
    mirror = {"ours": "theirs", "theirs": "ours", "": ""}
    assert sorted(mirror[one.missing] for one in there.differences) == sorted(
        one.missing for one in back.differences
    )
    paired = 2 * (there.agreed + there.erased)
    told = sum((one.ours is not None) + (one.theirs is not None) for one in there.differences)
    assert paired + told == len(ours) + len(theirs)
    assert reconcile(left, left).ok


def test_the_command_compares_logs_and_accounts(sides, tmp_path, capsys):
    gateway, node = sides
    gateway.append(life("case-1"))
    node.append(life("case-1")[:-1])
    assert main(["account", str(node.path)]) == 0
    (tmp_path / "theirs.json").write_text(capsys.readouterr().out)
    arguments = ["reconcile", str(gateway.path), str(tmp_path / "theirs.json")]
    assert main([*arguments, "--settled-minutes", "100000000"]) == 0
    assert "open 1" in capsys.readouterr().out
    assert main(arguments) == 1
    assert "case-1 delivered: 对方缺失" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["differences"][0]["kind"] == "delivered"
