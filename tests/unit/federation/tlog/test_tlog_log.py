"""The log: durable, idempotent, provable, erasable; and its group commit."""

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from federation.tlog.auditor import audit
from federation.tlog.checkpoint import Checkpoint, Quorum, open_checkpoint
from federation.tlog.event import Event, EventKind, leaf_of
from federation.tlog.event_proof import check_event, prove_event
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.log import EvidenceLog
from federation.tlog.merkle import leaf_hash, tree_root, verify_consistency
from federation.tlog.note import Note, Signer
from federation.tlog.reader import LogReader, Stamp
from federation.tlog.writing import GroupCommit
from tests.fakes.tlog import LOG, NOW_MS, WITNESSES, check_entry, decided, tiles_of


@pytest.fixture
def log(tmp_path):
    with EvidenceLog(tmp_path / "evidence.sqlite", LOG) as opened:
        yield opened


def flaw_of(call, *arguments, **options):
    with pytest.raises(EvidenceError) as caught:
        call(*arguments, **options)
    return caught.value.flaw


def test_events_are_there_for_another_process_once_append_returned(log):
    places = log.append([decided(number) for number in range(700)])
    assert places == list(range(700))
    with LogReader(log.path) as reader:
        assert reader.size == 700
        entries = list(reader.entries(page=64))
        assert [entry.read() for entry in entries] == [decided(number) for number in range(700)]
        leaves = [leaf_of(entry.salt, entry.event) for entry in entries]
        assert reader.root() == tree_root(leaves)
        assert reader.root(300) == tree_root(leaves[:300])
        assert len({entry.salt for entry in entries}) == 700
        assert [entry.index for entry in reader.of_request("case-3")] == list(range(30, 40))
        assert reader.requests() == sorted(f"case-{number}" for number in range(70))
        assert reader.entry("decision-5", "case-0").index == 5
        assert reader.entry("nothing") is None
        assert reader.of_request("") == []


def test_the_same_event_twice_is_one_leaf(log):
    assert log.append([decided(1), decided(2), decided(1)]) == [0, 1, 0]
    assert log.append([decided(2), decided(3)]) == [1, 2]
    assert log.size == 3
    assert flaw_of(log.append, [decided(4), decided(3, outcome="refused")]) is Flaw.EVENT_CONFLICT
    assert log.size == 3
    results = log.append_each([decided(4), decided(3, outcome="refused"), decided(5)])
    assert [result if isinstance(result, int) else result.flaw for result in results] == [
        3,
        Flaw.EVENT_CONFLICT,
        4,
    ]


def test_entries_are_proven_under_a_signed_checkpoint(log):
    log.append([decided(number) for number in range(260)])
    note = log.checkpoint(NOW_MS)
    assert open_checkpoint(note, LOG.key) == Checkpoint(LOG.name, 260, log.root())
    for index in (0, 1, 255, 256, 259):
        entry = log.entry_at(index)
        assert check_entry(entry, log.prove(index), LOG.key).size == 260
        assert (
            flaw_of(check_entry, log.entry_at(index - 1 if index else 1), log.prove(index), LOG.key)
            is Flaw.NOT_INCLUDED
        )
    log.append([decided(260)])
    assert flaw_of(log.prove, 260) is Flaw.NO_CHECKPOINT
    assert flaw_of(log.prove, 261) is Flaw.UNKNOWN_ENTRY


def test_a_proof_can_carry_its_event(log):
    log.append([decided(number) for number in range(20)])
    log.checkpoint(NOW_MS)
    proof = prove_event(log, 7)
    event, verified = check_event(str(proof).encode(), LOG.key)
    assert event == decided(7)
    assert verified.index == 7
    for extra in (
        b"", proof.extra[:40], bytes(32) + proof.extra[32:], proof.extra[:32] + decided(8).canonical(), bytes(32),
    ):  # fmt: skip
        assert flaw_of(check_event, replace(proof, extra=extra), LOG.key) in {
            Flaw.MALFORMED_PROOF, Flaw.MALFORMED_EVENT, Flaw.NOT_INCLUDED,
        }  # fmt: skip
    log.erase("case-0", "retention", NOW_MS)
    assert flaw_of(prove_event, log, 7) is Flaw.UNKNOWN_ENTRY
    assert flaw_of(prove_event, log, 700) is Flaw.UNKNOWN_ENTRY
    assert check_event(proof, LOG.key)[0] == decided(7)  # whoever has it keeps it


def test_checkpoints_come_when_the_log_grew_and_at_most_each_second(log):
    assert log.checkpoint(NOW_MS) is None
    log.append([decided(1)])
    first = log.checkpoint(NOW_MS)
    assert log.checkpoint(NOW_MS + 60_000) == first  # nothing new
    log.append([decided(2)])
    assert log.checkpoint(NOW_MS + 999) == first
    second = log.checkpoint(NOW_MS + 1_000)
    assert Checkpoint.parse(second.text).size == 2
    log.append([decided(3)])
    assert (
        Checkpoint.parse(log.checkpoint(NOW_MS - 3_600_000).text).size == 3
    )  # a clock set back stops nothing
    assert [Checkpoint.parse(note.text).size for note in log.checkpoints()] == [1, 2, 3]
    assert [Checkpoint.parse(note.text).size for note in log.checkpoints(after=2)] == [3]


def test_later_checkpoints_are_consistent_with_earlier_ones(log):
    seen = []
    for size in (1, 7, 256, 300, 513):
        log.append([decided(number) for number in range(log.size, size)])
        seen.append(Checkpoint.parse(log.checkpoint(NOW_MS, gap_ms=0).text))
    for old in seen:
        verify_consistency(old.size, 513, old.root, seen[-1].root, log.consistency(old.size, seen[-1]))
    assert log.consistency(0, seen[-1]) == ()


def test_a_tree_that_does_not_follow_the_last_checkpoint_is_not_signed(log):
    log.append([decided(number) for number in range(10)])
    log.checkpoint(NOW_MS)
    log.append([decided(10)])
    data = bytearray(log._tiles.tile(0, 0))
    data[3] ^= 1
    log._tiles.put_tile(0, 0, bytes(data))
    assert flaw_of(log.checkpoint, NOW_MS + 5_000) is Flaw.LOG_DAMAGED
    assert flaw_of(log.prove, 0) is Flaw.LOG_DAMAGED


def test_an_erased_event_is_gone_from_the_file_and_the_log_still_proves_it(log):
    log.append([decided(number) for number in range(20)])
    before = log.checkpoint(NOW_MS)
    entry = log.entry("decision-7", "case-0")
    held = on_disk(log)
    assert entry.salt in held
    assert b'"id":"decision-7"' in held
    assert log.erase("case-0", "retention", NOW_MS + 1, ["decision-7", "nothing"]) == 1
    assert log.erase("case-0", "retention", NOW_MS + 2, ["decision-7"]) == 0
    held = on_disk(log)
    assert entry.salt not in held
    assert b'"id":"decision-7"' not in held
    erased = log.entry("decision-7", "case-0")
    assert erased.is_erased
    assert erased.read() is None
    assert erased.commitment() == entry.commitment()
    after = log.checkpoint(NOW_MS + 5_000)
    check_entry(erased, log.prove(7), LOG.key)
    old, new = Checkpoint.parse(before.text), Checkpoint.parse(after.text)
    verify_consistency(old.size, new.size, old.root, new.root, log.consistency(old.size, new))
    (said,) = [one.read() for one in log.of_request("case-0") if one.kind == EventKind.ERASED]
    assert said.fields == {"entry": 7, "reason": "retention"}
    assert log.append([decided(7)]) == [7]  # still known: no second leaf


def on_disk(log):
    return log.path.read_bytes() + log.path.with_name(log.path.name + "-wal").read_bytes()


def test_a_reader_puts_overwriting_off_and_does_not_prevent_it(log):
    log.append([decided(7)])
    salt = log.entry_at(0).salt
    with LogReader(log.path) as reader:
        with reader.moment():
            assert reader.size == 1
            assert log.erase("case-0", "retention", NOW_MS) == 1
            assert salt in on_disk(log)
            assert reader.entry_at(0).salt == salt  # its moment is from before
        log.checkpoint(NOW_MS)
        assert salt not in on_disk(log)
        assert reader.entry_at(0).is_erased


def test_what_a_killed_eraser_left_is_overwritten_at_the_next_start(log):
    log.append([decided(7)])
    salt = log.entry_at(0).salt
    log._overwrite = lambda: None  # killed after COMMIT
    log.erase("case-0", "retention", NOW_MS)
    held = LogReader(log.path)
    held.size  # noqa: B018 - the last connection to close would empty the write-ahead log
    assert salt in on_disk(log)
    log.close()
    with EvidenceLog(log.path, LOG) as again:
        assert salt not in on_disk(again)
    held.close()


def test_events_of_no_request_are_erased_by_name_only(log):
    event = Event(EventKind.VERIFIED, "v-1", NOW_MS, "", {"digest": "00" * 32, "outcome": "valid"})
    log.append([event])
    assert flaw_of(log.erase, "", "retention", NOW_MS) is Flaw.UNKNOWN_ENTRY
    assert log.erase("", "retention", NOW_MS, ["v-1"]) == 1


def test_tiles_and_bundles_are_served_by_address(log):
    log.append([decided(number) for number in range(600)])
    assert log.erase("case-1", "retention", NOW_MS) == 10
    assert log.erase("case-1", "retention", NOW_MS) == 0
    paths = [str(path) for path in tiles_of(log.size)]
    assert paths == ["tile/0/002.p/98", "tile/1/000.p/2"]
    for path in ("tile/0/000", "tile/0/001", *paths, "tile/0/002.p/5", "tile/0/000.p/9"):
        assert len(log.tile(path)) % 32 == 0
    bundle = log.tile("tile/entries/000")
    records = [bundle[at + 2 : at + 34] for at in range(0, len(bundle), 34)]
    assert b"".join(map(leaf_hash, records)) == log.tile("tile/0/000")
    assert b"decision" not in bundle
    assert len(log.tile("tile/entries/002.p/98")) == 98 * 34
    for path in ("tile/0/003", "tile/0/002", "tile/2/000.p/1", "tile/entries/002", "tile/0/x", ""):
        assert flaw_of(log.tile, path) is Flaw.UNKNOWN_ENTRY


def test_cosignatures_are_kept_when_they_verify(log):
    quorum = Quorum(2, tuple(one.key for one in WITNESSES))
    log.append([decided(1)])
    note = log.checkpoint(NOW_MS)
    first = WITNESSES[0].sign(note.text, 5)
    stranger = Signer.generate("witness.example/9", WITNESSES[0].key.kind).sign(note.text, 5)
    assert len(log.add_cosignatures(1, [first, stranger], quorum).signatures) == 2
    assert flaw_of(log.add_cosignatures, 1, [WITNESSES[1].sign("other\n", 5)], quorum) is Flaw.BAD_SIGNATURE
    assert log.latest(quorum) is None
    assert flaw_of(log.prove, 0, quorum) is Flaw.NO_CHECKPOINT
    log.add_cosignatures(1, [WITNESSES[1].sign(note.text, 6)], quorum)
    log.append([decided(2)])
    log.checkpoint(NOW_MS + 5_000)
    assert log.latest().text != log.latest(quorum).text
    proof = log.prove(0, quorum)
    assert len(check_and_cosigned(log, proof, quorum)) == 2
    assert flaw_of(log.add_cosignatures, 99, [], quorum) is Flaw.NO_CHECKPOINT


def check_and_cosigned(log, proof, quorum):
    return proof.verify(leaf_hash(log.entry_at(proof.index).commitment()), LOG.key, quorum).cosigned


def test_a_second_writer_is_turned_away_and_readers_are_not(log):
    assert flaw_of(EvidenceLog, log.path, LOG) is Flaw.LOG_IN_USE
    with LogReader(log.path) as reader:
        assert reader.size == 0
    log.close()
    with EvidenceLog(log.path, LOG) as again:
        assert again.append([decided(1)]) == [0]


def test_a_log_goes_on_under_a_new_key_with_its_old_origin(log):
    log.append([decided(1)])
    log.checkpoint(NOW_MS)
    log.close()
    successor = Signer.generate("log.example/330483-key-2")
    with EvidenceLog(log.path, successor) as again:
        again.append([decided(2)])
        note = again.checkpoint(NOW_MS + 5_000)
        assert Checkpoint.parse(note.text).origin == LOG.name == again.origin
        assert open_checkpoint(note, [LOG.key, successor.key]).size == 2


def test_only_a_log_key_opens_a_log_and_only_a_log_file_is_opened(tmp_path):
    assert flaw_of(EvidenceLog, tmp_path / "a.sqlite", WITNESSES[0]) is Flaw.MALFORMED_KEY
    assert flaw_of(LogReader, tmp_path / "absent.sqlite") is Flaw.LOG_FOREIGN
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("create table t(x)")
    connection.close()
    for opener in (LogReader, lambda path: EvidenceLog(path, LOG)):
        assert flaw_of(opener, other) is Flaw.LOG_FOREIGN
        (tmp_path / "noise.sqlite").write_bytes(b"noise" * 1_000)
        assert flaw_of(opener, tmp_path / "noise.sqlite") is Flaw.LOG_DAMAGED


def test_stamps_are_kept_with_their_event(log):
    log.append([decided(1)])
    log.checkpoint(NOW_MS)
    event = Event(
        EventKind.CHECKPOINT_STAMPED, "stamped:1", NOW_MS, "", {"digest": "00" * 32, "size": 1, "name": "tsa"}
    )
    log.add_stamp(Stamp(1, NOW_MS, "tsa", "rfc3161", b"token"), event)
    assert log.stamps() == [Stamp(1, NOW_MS, "tsa", "rfc3161", b"token")] == log.stamps("rfc3161")
    assert log.stamps("chain") == []
    assert log.last_stamp("rfc3161").receipt == b"token"
    assert log.entry("stamped:1").kind == "checkpoint_stamped"
    assert log.oldest_uncovered_ms(1) is None  # the log's own stamps need no stamp
    assert log.oldest_uncovered_ms(0) == NOW_MS + 1


def test_old_checkpoints_are_thinned_out_and_the_log_stays_in_order(log):
    for number in range(12):  # one in ten minutes
        log.append([decided(number)])
        log.checkpoint(NOW_MS // 3_600_000 * 3_600_000 + number * 600_000)
    note = log.checkpoints()[1]
    event = Event(
        EventKind.CHECKPOINT_STAMPED, "stamped:2", NOW_MS, "", {"digest": "00" * 32, "size": 2, "name": "tsa"}
    )
    log.add_stamp(Stamp(2, NOW_MS, "tsa", "rfc3161", b"token"), event)
    assert log.thin_checkpoints(NOW_MS // 3_600_000 * 3_600_000 + 9 * 600_000) == 7
    assert [Checkpoint.parse(one.text).size for one in log.checkpoints()] == [2, 6, 10, 11, 12]
    assert audit(log, LOG.key, seen=[note]).ok
    assert log.thin_checkpoints(2**50) == 2
    assert Checkpoint.parse(log.latest().text).size == 12


def test_a_reader_sees_one_moment(log):
    log.append([decided(1)])
    with LogReader(log.path) as reader, reader.moment():
        assert reader.size == 1
        log.append([decided(2)])
        assert reader.size == 1


def test_readers_prove_while_the_writer_appends(log):
    log.append([decided(0)])
    log.checkpoint(NOW_MS, gap_ms=0)
    done = threading.Event()

    def read(_number):
        with LogReader(log.path) as reader:
            rounds = 0
            while not done.is_set() or rounds < 5:
                size = Checkpoint.parse(reader.latest().text).size
                check_entry(reader.entry_at(size - 1), reader.prove(size - 1), LOG.key)
                rounds += 1
            return rounds

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read, number) for number in range(2)]
        for number in range(1, 60):
            log.append([decided(number * 10 + one) for one in range(10)])
            log.checkpoint(NOW_MS + number, gap_ms=0)
        done.set()
        assert all(reader.result(60) >= 5 for reader in readers)


async def test_many_coroutines_share_commits_and_each_is_told_its_place(log):
    batches = []
    appended = log.append_each

    def counting(events):
        batches.append(len(events))
        return appended(events)

    log.append_each = counting
    commit = GroupCommit(log)
    places = await asyncio.gather(*(commit.append(decided(number)) for number in range(500)))
    assert sorted(places) == list(range(500))
    assert len(batches) < 250
    assert [log.entry(f"decision-{number}", f"case-{number // 10}").index for number in range(500)] == places
    with pytest.raises(EvidenceError) as caught:
        await commit.append(decided(3, outcome="refused"))
    assert caught.value.flaw is Flaw.EVENT_CONFLICT
    commit.close()
    assert not commit.is_alive
    with pytest.raises(EvidenceError) as caught:
        await commit.append(decided(1_000))
    assert caught.value.flaw is Flaw.LOG_UNAVAILABLE


async def test_a_cancelled_wait_does_not_take_the_event_back(log):
    commit = GroupCommit(log)
    wait = asyncio.ensure_future(commit.append(decided(1)))
    await asyncio.sleep(0)
    wait.cancel()
    assert await commit.append(decided(1)) == 0
    assert await commit.append(decided(2)) == 1
    commit.close()


def test_what_waits_is_bounded_and_told(log, monkeypatch):
    monkeypatch.setattr("federation.tlog.writing.MOST_WAITING", 4)
    let_go = threading.Event()
    appended = log.append_each

    def slow(events):
        let_go.wait(30)
        return appended(events)

    log.append_each = slow
    commit = GroupCommit(log)
    futures = [commit.submit(decided(number)) for number in range(400)]
    refused = [one for one in futures if one.done()]
    assert refused
    assert {one.exception().flaw for one in refused} == {Flaw.OVERLOADED}
    let_go.set()
    commit.close()
    assert log.size == 400 - len(refused) == sum(1 for one in futures if one.exception() is None)


def test_a_log_that_can_not_be_written_says_so_and_goes_on_later(log):
    log.append([decided(number) for number in range(50)])
    (pages,) = log._connection.execute("pragma page_count").fetchone()
    log._connection.execute(f"pragma max_page_count={pages}")
    commit = GroupCommit(log)
    assert flaw_of(log.append, [decided(number) for number in range(50, 300)]) is Flaw.LOG_UNAVAILABLE
    waiting = [commit.submit(decided(number)) for number in range(1_000, 2_000)]
    assert {one.exception(30).flaw for one in waiting if one.exception(30)} == {Flaw.LOG_UNAVAILABLE}
    kept = log.size
    assert kept == 50 + sum(one.exception() is None for one in waiting)
    assert [entry.index for entry in log.entries()] == list(range(kept))
    log._connection.execute("pragma max_page_count=1000000")
    assert commit.submit(decided(5_000)).result(30) == kept
    commit.close()
    assert isinstance(log.checkpoint(NOW_MS), Note)
