"""Whoever alters an evidence log is found out: each way of tampering, with and without the log's own key."""

import json
import sqlite3
import subprocess
import sys

import pytest

from federation.suites.registry import suite
from federation.tlog.__main__ import main
from federation.tlog.auditor import audit
from federation.tlog.checkpoint import ANY, Checkpoint, Quorum, open_checkpoint
from federation.tlog.event import leaf_of
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.log import EvidenceLog
from federation.tlog.note import Note, SecondSigner, SignatureLine, Signer, signed_note
from federation.tlog.reader import LogReader
from federation.tlog.store import SqliteTiles
from federation.tlog.tiles import extend
from tests.fakes.tlog import LOG, NOW_MS, WITNESSES, decided, tree_of

SIZE = 600


@pytest.fixture
def path(tmp_path):
    """A log of 600 events with checkpoints at 100, 300 and 600, two entries erased, closed."""
    path = tmp_path / "evidence.sqlite"
    with EvidenceLog(path, LOG) as log:
        for size in (100, 298, SIZE):
            log.append([decided(number) for number in range(log.size, size)])
            if size == 298:
                log.erase("case-0", "retention", NOW_MS, ["decision-5"])
                log.erase("case-20", "retention", NOW_MS, ["decision-200"])
            log.checkpoint(NOW_MS + size, gap_ms=0)
    return path


@pytest.fixture
def seen(path):
    """The last checkpoint, remembered elsewhere."""
    with LogReader(path) as reader:
        return reader.latest()


def tamper(path, *statements):
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(*([statement] if isinstance(statement, str) else statement))
    connection.close()


def flip(path, table, column, where, byte=7):
    connection = sqlite3.connect(path, isolation_level=None)
    (held,) = connection.execute(f"select {column} from {table} where {where}").fetchone()
    changed = bytearray(held)
    changed[byte] ^= 1
    connection.execute(f"update {table} set {column} = ? where {where}", (bytes(changed),))
    connection.close()


def found(path, *seen, keys=LOG.key, quorum=ANY):
    with LogReader(path) as reader:
        result = audit(reader, keys, seen=seen, quorum=quorum)
    return {(one.flaw, one.place) for one in result.findings}, result


def flaws(path, *seen):
    return {flaw for flaw, _place in found(path, *seen)[0]}


def test_an_untouched_log_is_in_order(path, seen):
    nothing, result = found(path, seen)
    assert nothing == set()
    assert result.ok
    assert (result.size, result.erased, result.checkpoints, result.compared) == (SIZE, 2, 3, 1)
    assert result.root == Checkpoint.parse(seen.text).root


def test_the_newest_checkpoint_of_a_log_of_two_suites_bears_both_signatures(path, seen):
    second = SecondSigner(LOG.name, suite("sm-1").generate("SM2"))

    def audited():
        with LogReader(path) as reader:
            return audit(reader, LOG.key, seen=[seen], second=[second.key])

    missing = audited()
    assert [(one.flaw, one.place) for one in missing.findings] == [(Flaw.SECOND_SIGNATURE_MISSING, SIZE)]
    with EvidenceLog(path, LOG, second) as log:
        log.checkpoint(NOW_MS + SIZE + 1)  # it has not grown: its newest checkpoint gets the line
        assert open_checkpoint(log.latest(), LOG.key, second=[second.key]).size == SIZE
    assert (audited().ok, audited().signed_twice) == (True, 1)
    with EvidenceLog(path, LOG, second) as log:
        log.append([decided(SIZE)])
        log.checkpoint(NOW_MS + SIZE + 2, gap_ms=0)
    assert (audited().ok, audited().signed_twice, audited().checkpoints) == (True, 2, 4)
    assert found(path, seen)[1].ok  # without the second key it is audited as before
    assert main(["audit", str(path), "--key", str(LOG.key), "--second-key", str(second.key)]) == 0
    stranger = SecondSigner(LOG.name, suite("sm-1").generate("SM2"))
    assert main(["audit", str(path), "--key", str(LOG.key), "--second-key", str(stranger.key)]) == 1
    connection = sqlite3.connect(path, isolation_level=None)
    (text,) = connection.execute("select note from checkpoints where size = ?", (SIZE,)).fetchone()
    note = Note.parse(text)
    wrong = SignatureLine(LOG.name, second.key.key_id, bytes(64))
    tamper(path, ("update checkpoints set note = ? where size = ?", (str(note.with_lines([wrong])), SIZE)))
    connection.close()
    assert [(one.flaw, one.place) for one in audited().findings] == [(Flaw.BAD_SIGNATURE, SIZE)]


def test_an_edited_row_is_named(path):
    tamper(
        path,
        "update entries set event = cast(replace(cast(event as text), 'approved', 'refused_') as blob) where idx = 42",
    )
    assert found(path)[0] >= {(Flaw.ENTRY_ALTERED, 42)}
    assert flaws(path) == {Flaw.ENTRY_ALTERED, Flaw.CHECKPOINT_ALTERED}


@pytest.mark.parametrize(
    "column", ["request = 'case-other'", "kind = 'closed'", "at = at + 1", "id = 'another'"]
)
def test_edited_columns_are_named_though_no_hash_changes(path, column):
    tamper(path, f"update entries set {column} where idx = 42")
    assert found(path)[0] == {(Flaw.ENTRY_ALTERED, 42)}


def test_another_salt_is_named(path):
    flip(path, "entries", "salt", "idx = 42")
    assert (Flaw.ENTRY_ALTERED, 42) in found(path)[0]


def test_a_row_exchanged_for_a_well_formed_one_is_named(path):
    tamper(
        path,
        ("update entries set event = ?, id = 'decision-9999' where idx = 42", (decided(9_999).canonical(),)),
    )
    assert (Flaw.ENTRY_ALTERED, 42) in found(path)[0]


@pytest.mark.parametrize(("place", "index"), [("0", 0), ("1", 256), ("2", 512)])
def test_a_flipped_byte_of_a_leaf_tile_is_named(path, seen, place, index):
    flip(path, "tiles", "data", f"place = {place}")
    assert (Flaw.TILE_ALTERED, index) in found(path)[0]
    assert Flaw.ENTRY_ALTERED not in flaws(path)  # the entries still give the signed roots
    with LogReader(path) as reader, pytest.raises(EvidenceError) as caught:
        reader.prove(index)
    assert caught.value.flaw is Flaw.LOG_DAMAGED


def test_a_flipped_byte_of_an_upper_tile_is_named(path, seen):
    flip(path, "tiles", "data", f"place = {1 << 48}")
    assert (Flaw.TILE_ALTERED, 0) in found(path)[0]
    assert Flaw.HISTORY_REWRITTEN in flaws(path, seen)  # what a distant auditor sees


def test_missing_and_surplus_tiles_are_named(path):
    tamper(path, "delete from tiles where place = 1")
    assert (Flaw.TILE_ALTERED, 1) in found(path)[0]
    tamper(path, f"insert into tiles(place, data) values({(5 << 48)}, zeroblob(32))")
    assert "level 5: 32 bytes of 0" in {one.detail for one in found(path)[1].findings}


def test_deleting_the_last_ten_events_is_named(path, seen):
    tamper(path, f"delete from entries where idx >= {SIZE - 10}")
    assert found(path)[0] == {(Flaw.ENTRY_MISSING, index) for index in range(SIZE - 10, SIZE)}


def cut(path, size):
    """Take the end off cleanly: entries, tiles and checkpoints, as an insider with SQLite at hand would."""
    connection = sqlite3.connect(path, isolation_level=None)
    rows = connection.execute(
        "select salt, event, commitment from entries where idx < ? order by idx", (size,)
    ).fetchall()
    rewrite(connection, rows, size)
    connection.close()


def rewrite(connection, rows, size):
    from federation.tlog.merkle import leaf_hash

    leaves = [leaf_of(salt, event) if event else leaf_hash(kept) for salt, event, kept in rows]
    connection.execute("begin")
    connection.execute("delete from entries where idx >= ?", (size,))
    connection.execute("delete from tiles")
    connection.execute("delete from checkpoints where size > ?", (size,))
    extend(SqliteTiles(connection), 0, leaves)
    connection.execute("commit")


def test_deleting_the_last_ten_events_cleanly_is_named_by_whoever_saw_them(path, seen):
    cut(path, SIZE - 10)
    unseen = found(path)[0]
    assert Flaw.ENTRY_MISSING not in {flaw for flaw, _place in unseen}
    assert (Flaw.HISTORY_SHORTENED, SIZE) in found(path, seen)[0]


def test_deleting_from_the_middle_is_named(path):
    tamper(path, "delete from entries where idx = 7")
    assert found(path)[0] == {(Flaw.ENTRY_MISSING, 7)}


def test_a_restored_old_backup_is_named_even_when_it_grew_past_the_true_log(path, seen, tmp_path):
    with EvidenceLog(path, LOG) as log:
        log._connection.execute("vacuum into ?", (str(tmp_path / "backup.sqlite"),))
        log.append([decided(number) for number in range(5_000, 5_010)])
        latest = log.checkpoint(NOW_MS + 9_000_000)
    backup = tmp_path / "backup.sqlite"
    assert (Flaw.HISTORY_SHORTENED, SIZE + 10) in found(backup, latest)[0]
    with EvidenceLog(backup, LOG) as log:
        log.append([decided(number) for number in range(6_000, 6_100)])
        log.checkpoint(NOW_MS + 9_000_000)
    assert found(backup)[0] == set()  # alone it looks right
    assert found(backup, seen)[0] == set()  # a checkpoint from before the backup does not tell
    assert found(backup, latest)[0] == {(Flaw.HISTORY_REWRITTEN, SIZE + 10)}


def test_an_insider_with_the_key_who_rewrites_everything_is_named_by_an_older_checkpoint(path, seen):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(
        "update entries set event = cast(replace(cast(event as text), 'approved', 'refused_') as blob) where idx = 42"
    )
    rows = connection.execute("select salt, event, commitment from entries order by idx").fetchall()
    rewrite(connection, rows, SIZE)
    connection.execute("delete from checkpoints")
    connection.close()
    with EvidenceLog(path, LOG) as log:
        log.checkpoint(NOW_MS)
    assert found(path)[0] == set()
    assert found(path, seen)[0] == {(Flaw.HISTORY_REWRITTEN, SIZE)}


def test_an_erased_entry_without_a_record_of_erasing_is_named(path):
    with LogReader(path) as reader:
        kept = reader.entry_at(9).commitment()
    tamper(path, ("update entries set salt = null, event = null, commitment = ? where idx = 9", (kept,)))
    assert found(path)[0] == {(Flaw.ERASED_UNLOGGED, 9)}


def test_erasing_with_another_commitment_is_named(path):
    tamper(path, "update entries set commitment = zeroblob(32) where idx = 5")
    assert (Flaw.ENTRY_ALTERED, 5) in found(path)[0]


def test_altered_checkpoints_are_named(path):
    with LogReader(path) as reader:
        root = reader.root(300)
    forged = signed_note(Checkpoint(LOG.name, 301, root).text(), LOG)  # a root the log never had at that size
    tamper(path, ("insert into checkpoints values(301, 0, ?)", (str(forged),)))
    assert found(path)[0] == {(Flaw.CHECKPOINT_ALTERED, 301)}
    beyond = signed_note(Checkpoint(LOG.name, 900, root).text(), LOG)
    tamper(path, ("update checkpoints set note = ?, size = 900 where size = 301", (str(beyond),)))
    assert found(path)[0] == {(Flaw.CHECKPOINT_ALTERED, 900)}
    tamper(path, "update checkpoints set note = replace(note, '900', '901') where size = 900")
    assert found(path)[0] == {(Flaw.BAD_SIGNATURE, 901)}
    tamper(path, "update checkpoints set note = 'x' where size = 900")
    assert found(path)[0] == {(Flaw.MALFORMED_NOTE, 0)}


def test_a_checkpoint_of_a_stranger_is_not_taken_for_one_seen(path):
    stranger = Signer.generate(LOG.name)
    note = signed_note(Checkpoint(LOG.name, 100, tree_of(100).root()).text(), stranger)
    nothing, result = found(path, note)
    assert nothing == {(Flaw.UNKNOWN_SIGNER, 100)}
    assert result.compared == 0


def test_cosigned_checkpoints_are_counted(path):
    quorum = Quorum(2, tuple(one.key for one in WITNESSES))
    with EvidenceLog(path, LOG) as log:
        log.add_cosignatures(300, [one.sign(log.checkpoints()[1].text, 9) for one in WITNESSES], quorum)
    assert found(path, quorum=quorum)[1].cosigned == 1


def test_a_file_damaged_on_disk_is_named(path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * 20_000)
    assert flaws(path) & {Flaw.LOG_DAMAGED, Flaw.ENTRY_ALTERED, Flaw.TILE_ALTERED, Flaw.ENTRY_MISSING}


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "federation.tlog", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_audits_remembers_and_finds(path, tmp_path, capsys):
    memory = tmp_path / "memory"
    assert run("audit", path, "--key", LOG.key, "--memory", memory).returncode == 0
    assert "对照 compared 0" in run("audit", path, "--key", LOG.key).stdout
    assert main(["audit", str(path), "--key", str(LOG.key), "--memory", str(memory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compared"] == 1
    cut(path, SIZE - 10)
    assert main(["audit", str(path), "--key", str(LOG.key), "--memory", str(memory)]) == 1
    assert "恢复了旧备份" in capsys.readouterr().out
    assert Checkpoint.parse(memory.read_text().partition("\n\n")[0] + "\n").size == SIZE  # not overwritten


def test_the_command_writes_proofs_and_keys_and_says_what_it_can_not_do(path, tmp_path, capsys):
    assert main(["proof", str(path), "case-4", "decision-42"]) == 0
    proof = capsys.readouterr().out
    (tmp_path / "a.tlog-proof").write_text(proof)
    assert main(["audit", str(path), "--key", str(LOG.key), "--seen", str(tmp_path / "a.tlog-proof")]) == 0
    capsys.readouterr()
    assert main(["proof", str(path), "case-4", "decision-42", "--open"]) == 0
    (tmp_path / "b.tlog-proof").write_text(capsys.readouterr().out)
    assert main(["verify", str(tmp_path / "b.tlog-proof"), "--key", str(LOG.key)]) == 0
    assert decided(42).canonical().decode() in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "a.tlog-proof"), "--key", str(LOG.key)]) == 1  # tells no event
    assert main(["verify", str(tmp_path / "b.tlog-proof"), "--key", str(Signer.generate(LOG.name).key)]) == 1
    capsys.readouterr()
    assert main(["proof", str(path), "", "nothing"]) == 2
    assert "日志中没有这个事件" in capsys.readouterr().err
    assert main(["audit", str(tmp_path / "absent"), "--key", str(LOG.key)]) == 2
    assert main(["audit", str(path), "--key", "nonsense"]) == 2
    assert main(["audit", str(path), "--key", str(LOG.key), "--seen", str(tmp_path / "absent")]) == 2
    capsys.readouterr()
    assert main(["key", "witness.example/9", str(tmp_path / "w.key"), "--witness"]) == 0
    assert Signer.parse((tmp_path / "w.key").read_text().strip()).key == parsed(capsys.readouterr().out)
    assert (tmp_path / "w.key").stat().st_mode & 0o777 == 0o600
    assert main(["key", "witness.example/9", str(tmp_path / "w.key")]) == 2  # never over another key


def parsed(text):
    from federation.tlog.note import VerifierKey

    return VerifierKey.parse(text.strip())
