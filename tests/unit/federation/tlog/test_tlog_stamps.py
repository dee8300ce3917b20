"""Time stamps by a real authority (openssl ts over HTTP) and anchors on a chain; failing softly, stopping hard."""

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from federation.tlog.__main__ import main
from federation.tlog.anchor import ANCHORED, FileAnchor, anchor_latest
from federation.tlog.auditor import audit
from federation.tlog.checkpoint import Checkpoint
from federation.tlog.event import EventKind
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.log import EvidenceLog
from federation.tlog.reader import Stamp
from federation.tlog.stamping import (
    STAMPED,
    Stamper,
    StampPolicy,
    TimeAuthority,
    Timeliness,
    check_stamps,
    over_http,
    verify_stamp,
)
from tests.fakes.time_authority import certificate, time_authority
from tests.fakes.tlog import LOG, NOW_MS, decided

MINUTE = 60_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A time-stamp authority on loopback, and how to break it."""
    with time_authority(tmp_path_factory.mktemp("tsa")) as served:
        yield TimeAuthority("tsa-1", over_http(served.url), (served.root,)), served.faults


@pytest.fixture
def log(tmp_path):
    with EvidenceLog(tmp_path / "evidence.sqlite", LOG) as opened:
        yield opened


@pytest.fixture
def stamper(log, authority, request):
    authority[1].broken = None
    return Stamper(log, authority[0])


def flaw_of(call, *arguments, **options):
    with pytest.raises(EvidenceError) as caught:
        call(*arguments, **options)
    return caught.value.flaw


def grow(log, number, now_ms):
    event = decided(number)
    log.append([type(event)(event.kind, event.id, now_ms, event.request, event.fields)])
    return log.checkpoint(now_ms, gap_ms=0)


def test_a_checkpoint_is_stamped_once_a_minute_and_only_when_there_is_something_new(log, stamper, authority):
    assert stamper.tick(NOW_MS) is None
    note = grow(log, 1, NOW_MS)
    stamp = stamper.tick(NOW_MS)
    assert (stamp.size, stamp.name, stamp.kind) == (1, "tsa-1", STAMPED)
    assert verify_stamp(stamp.receipt, note.text.encode(), authority[0].roots).year >= 2026
    assert log.entry("stamped:tsa-1:1").kind == EventKind.CHECKPOINT_STAMPED
    log.checkpoint(NOW_MS + 2 * MINUTE)  # holds the stamp's own event
    assert stamper.tick(NOW_MS + 3 * MINUTE) is None  # which needs no stamp of its own
    grow(log, 2, NOW_MS + 3 * MINUTE)
    assert stamper.tick(NOW_MS + MINUTE // 2) is None  # too soon after the last
    assert stamper.tick(NOW_MS + 3 * MINUTE).size == 3
    assert check_stamps(log, authority[0].roots) == []
    assert audit(log, LOG.key).ok


def test_a_stamp_over_anything_else_does_not_verify(log, stamper, authority):
    note = grow(log, 1, NOW_MS)
    stamp = stamper.tick(NOW_MS)
    roots = authority[0].roots
    assert flaw_of(verify_stamp, stamp.receipt, b"other", roots) is Flaw.STAMP_INVALID
    assert flaw_of(verify_stamp, stamp.receipt, note.text.encode(), roots, nonce=5) is Flaw.STAMP_INVALID
    key = ec.generate_private_key(ec.SECP256R1())
    stranger = certificate("TSA root", key, None, key)
    assert flaw_of(verify_stamp, stamp.receipt, note.text.encode(), [stranger]) is Flaw.STAMP_INVALID
    for bad in (b"", b"\x30\x00", stamp.receipt[:-1], stamp.receipt[:50], b"\xff" * 100):
        assert flaw_of(verify_stamp, bad, note.text.encode(), roots) is Flaw.STAMP_INVALID
    assert flaw_of(verify_stamp, b"\x30" * 70_000, note.text.encode(), roots) is Flaw.TOO_LARGE
    pem = log.path.with_name("root.pem")
    pem.write_bytes(roots[0].public_bytes(serialization.Encoding.PEM))
    audited = ["audit", str(log.path), "--key", str(LOG.key), "--tsa-root", str(pem)]
    assert main(audited) == 0
    log._connection.execute("update stamps set size = 99")
    assert main(audited) == 1
    pem.write_bytes(b"nothing")
    assert main(audited) == 2
    assert check_stamps(log, roots) == [
        (Stamp(99, NOW_MS, "tsa-1", STAMPED, stamp.receipt), Flaw.NO_CHECKPOINT)
    ]


def test_the_authority_down_is_soft_then_late_then_overdue_then_well_again(log, stamper, authority):
    hour = 60 * MINUTE
    grow(log, 1, NOW_MS)
    stamper.tick(NOW_MS)
    assert stamper.timeliness(NOW_MS + 1_000 * hour) is Timeliness.CURRENT  # an idle log is not late
    for broken in ((500, b""), (200, b"garbage"), (200, b"x" * 70_000)):
        authority[1].broken = broken
        grow(log, 2, NOW_MS + hour)
        assert flaw_of(stamper.tick, NOW_MS + hour) in {
            Flaw.STAMP_UNAVAILABLE,
            Flaw.STAMP_INVALID,
            Flaw.TOO_LARGE,
        }
    grow(log, 3, NOW_MS + 4 * hour)  # exchanges go on
    assert stamper.timeliness(NOW_MS + hour + 4 * MINUTE) is Timeliness.CURRENT
    assert stamper.timeliness(NOW_MS + hour + 5 * MINUTE) is Timeliness.LATE
    stamper.require(NOW_MS + 5 * hour - 1)
    assert stamper.age_ms(NOW_MS + 5 * hour) == 4 * hour
    assert stamper.timeliness(NOW_MS + 5 * hour) is Timeliness.OVERDUE
    assert flaw_of(stamper.require, NOW_MS + 5 * hour) is Flaw.STAMP_OVERDUE
    authority[1].broken = None
    assert stamper.tick(NOW_MS + 5 * hour)
    stamper.require(NOW_MS + 5 * hour)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("part", ["headers", "body"])
def test_an_authority_that_trickles_its_answer_is_given_up_as_a_whole(log, tmp_path, part):
    grow(log, 1, NOW_MS)
    with time_authority(tmp_path) as served:
        stamper = Stamper(log, TimeAuthority("tsa-3", over_http(served.url, within_s=0.5), (served.root,)))
        served.faults.trickles = part
        assert flaw_of(stamper.tick, NOW_MS) is Flaw.STAMP_UNAVAILABLE
        assert log.stamps() == []
        served.faults.trickles = ""
        while not log.stamps():  # openssl may take longer on a busy machine
            stamper = Stamper(log, TimeAuthority("tsa-3", over_http(served.url), (served.root,)))
            assert stamper.tick(NOW_MS)


def test_an_authority_that_redirects_is_told_by_name_and_not_followed(log, stamper, authority):
    authority[1].broken = (302, b"")
    grow(log, 1, NOW_MS)
    assert flaw_of(stamper.tick, NOW_MS) is Flaw.STAMP_REDIRECTED
    assert log.stamps() == []


def test_no_authority_listening_is_unavailable(log):
    authority = TimeAuthority("tsa-2", over_http("http://127.0.0.1:9/", within_s=1), ())
    grow(log, 1, NOW_MS)
    stamper = Stamper(log, authority, StampPolicy(overdue_after_ms=1))
    assert flaw_of(stamper.tick, NOW_MS) is Flaw.STAMP_UNAVAILABLE
    assert log.stamps() == []
    with pytest.raises(ValueError, match="http"):
        over_http("file:///etc/passwd")


def test_a_checkpoint_is_anchored_and_found_on_the_chain(log, tmp_path):
    anchor = FileAnchor(tmp_path / "chain.jsonl", "example-chain")
    assert anchor_latest(log, anchor, NOW_MS) is None
    first = grow(log, 1, NOW_MS)
    stamp = anchor_latest(log, anchor, NOW_MS)
    anchor.check(Checkpoint.parse(first.text), stamp.receipt)
    assert log.stamps(ANCHORED) == [stamp]
    log.checkpoint(NOW_MS + MINUTE)
    assert anchor_latest(log, anchor, NOW_MS) is None  # only the anchoring itself is new
    second = grow(log, 2, NOW_MS + 2 * MINUTE)
    later = anchor_latest(log, anchor, NOW_MS)
    anchor.check(Checkpoint.parse(second.text), later.receipt)
    assert flaw_of(anchor.check, Checkpoint.parse(second.text), stamp.receipt) is Flaw.STAMP_INVALID
    assert anchor.post(Checkpoint.parse(first.text)) == stamp.receipt  # posting again is the same line
    assert len((tmp_path / "chain.jsonl").read_bytes().splitlines()) == 2


def test_a_chain_that_was_altered_proves_nothing(log, tmp_path):
    path = tmp_path / "chain.jsonl"
    anchor = FileAnchor(path)
    receipts = []
    for number in range(3):
        checkpoint = Checkpoint.parse(grow(log, number, NOW_MS + number).text)
        receipts.append((checkpoint, anchor.post(checkpoint)))
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for spoiled in (
        whole.replace(b'"size":1', b'"size":7'),
        b"".join(lines[1:]),
        lines[0] + lines[2],
        whole[:-1],
        b"nonsense\n" + whole,
    ):
        path.write_bytes(spoiled)
        assert flaw_of(anchor.check, *receipts[2]) is Flaw.STAMP_INVALID
    path.write_bytes(b"".join(lines[:2]))
    assert flaw_of(anchor.check, *receipts[2]) is Flaw.STAMP_INVALID  # cut: the receipt is no longer on it
    path.unlink()
    assert flaw_of(anchor.check, *receipts[2]) is Flaw.STAMP_UNAVAILABLE
    assert json.loads(receipts[2][1])["height"] == 2


def test_a_failing_chain_leaves_the_log_as_it_was(log):
    class Down:
        name = "down"

        def post(self, _checkpoint):
            raise ConnectionError

        def check(self, _checkpoint, _receipt):
            raise AssertionError

    grow(log, 1, NOW_MS)
    with pytest.raises(ConnectionError):
        anchor_latest(log, Down(), NOW_MS)
    assert log.stamps() == []
    assert log.size == 1
