"""An evidence log and a witness that are killed, starved or disturbed keep every promise they made before."""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import subprocess
import sys
import threading

import pytest

from federation.tlog.auditor import audit
from federation.tlog.checkpoint import Checkpoint
from federation.tlog.log import EvidenceLog
from federation.tlog.note import Note
from federation.tlog.reader import LogReader
from federation.tlog.witness import Witness, WitnessRequest, witnessed
from tests.fakes.tlog import LOG, WITNESSES, tree_of

WRITER = """
import random, signal, sys
from federation.tlog.flaws import EvidenceError
from federation.tlog.log import EvidenceLog
from federation.tlog.event import EventKind
from tests.fakes.tlog import LOG, NOW_MS, decided

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
dice = random.Random(int(sys.argv[2]))
with EvidenceLog(sys.argv[1], LOG) as log:
    number = log.size * 1000
    while True:
        number += 1
        batch = [decided(number * 1000 + one) for one in range(dice.choice((1, 1, 3, 40, 300)))]
        try:
            places = log.append(batch)
            for place, event in zip(places, batch):
                print("logged", place, event.id)
            if not dice.randrange(3):
                note = log.checkpoint(NOW_MS + number, gap_ms=0)
                print("signed", str(note).replace(" ", "~").replace(chr(10), "|"))
            if not dice.randrange(8):
                print("erased", places[0], log.erase(batch[0].request, "retention", NOW_MS, [batch[0].id]))
        except EvidenceError as error:
            print("failed", error.flaw.value)
            sys.stdout.flush()
            break
        sys.stdout.flush()
"""


def start(script, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options,
    )  # fmt: skip


def promises(process, lines, delay_s):
    """What a process said before it was killed, after it said so many lines and a little longer."""
    said = []
    for line in process.stdout:
        said.append(line)
        if len(said) >= lines:
            break
    timer = threading.Timer(delay_s, process.send_signal, (signal.SIGKILL,))
    timer.start()
    said += process.stdout.readlines()
    process.wait(60)
    process.stdout.close()
    timer.cancel()
    if said and not said[-1].endswith("\n"):
        said.pop()  # cut in the middle of a word: not yet said
    return [line.split() for line in said]


def kept(path, said):
    """Every promise is kept: events at their places, checkpoints part of the log, erased events gone."""
    seen = [
        Note.parse(words[1].replace("~", " ").replace("|", "\n")) for words in said if words[0] == "signed"
    ]
    with LogReader(path) as reader:
        for words in said:
            if words[0] == "logged":
                assert reader.entry_at(int(words[1])).id == words[2]
            elif words[0] == "erased":
                assert reader.entry_at(int(words[1])).is_erased
        result = audit(reader, LOG.key, seen=seen)
    assert result.findings == []
    return result


@pytest.mark.slow
def test_kill_9_at_any_point_loses_nothing_that_was_promised(tmp_path):
    path = tmp_path / "evidence.sqlite"
    dice = random.Random(7)
    size = logged = signed = 0
    for number in range(10):
        process = start(WRITER, path, number)
        said = promises(process, dice.randrange(1, 400), dice.uniform(0, 0.05))
        result = kept(path, said)
        assert result.size > size
        size = result.size
        logged += sum(words[0] == "logged" for words in said)
        signed += sum(words[0] == "signed" for words in said)
    assert logged > 500
    assert signed > 10
    with EvidenceLog(path, LOG) as log:  # and it goes on
        assert Checkpoint.parse(log.checkpoint(2**50, gap_ms=0).text).size == size


@pytest.mark.slow
def test_a_full_disk_is_named_and_nothing_half_written(tmp_path):
    path = tmp_path / "evidence.sqlite"
    for number, room in enumerate((300_000, 300_000, 900_000)):

        def little_room(room=room):  # a write beyond this fails like a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

        process = start(WRITER, path, number, preexec_fn=little_room)
        with process:
            said = [line.split() for line in process.stdout]
        assert said[-1] == ["failed", "log_unavailable"], number
        kept(path, said)
    assert process.returncode == 0
    process = start(WRITER, path, 9)
    assert kept(path, promises(process, 50, 0)).size > 50  # there is room again


WITNESS = """
import sys
from federation.tlog.witness import Witness, WitnessRequest, witnessed
from federation.tlog.checkpoint import Checkpoint
from federation.tlog.note import signed_note
from tests.fakes.tlog import LEAVES, LOG, WITNESSES, tree_of

leaves = LEAVES if sys.argv[2] == "honest" else [LEAVES[5], *LEAVES[1:]]
with Witness(sys.argv[1], WITNESSES[0], witnessed([LOG.key])) as witness:
    for size in range(int(sys.argv[3]) + 1, 1200):
        tree = tree_of(leaves[:size])
        note = signed_note(Checkpoint(LOG.name, size, tree.root()).text(), LOG)
        old = size - 1
        answer = witness.add_checkpoint(str(WitnessRequest(old, tree.consistency(old), note)).encode(), size)
        print(sys.argv[2], size, answer.status)
        sys.stdout.flush()
"""


@pytest.mark.slow
def test_a_witness_keeps_its_state_through_kill_9_and_never_cosigns_a_fork(tmp_path):
    path = tmp_path / "witness.sqlite"
    dice = random.Random(11)
    size = 0
    for _number in range(5):
        said = promises(start(WITNESS, path, "honest", size), dice.randrange(1, 40), dice.uniform(0, 0.02))
        cosigned = [int(at) for _who, at, status in said if status == "200"]
        with Witness(path, WITNESSES[0], witnessed([LOG.key])) as witness:
            known = Checkpoint.parse(witness.seen(LOG.name).text)
        assert known.size >= max(cosigned)  # at least what was answered, at most one more
        assert known.size <= max(cosigned) + 1
        assert known.root == tree_of(known.size).root()
        size = known.size
        forked = promises(start(WITNESS, path, "fork", size), 3, 0)
        assert {status for _who, _at, status in forked} <= {"422", "409"}
    assert size > 5


@pytest.mark.slow
def test_a_writer_that_dies_leaves_the_lock_free_and_one_that_lives_keeps_it(tmp_path):
    path = tmp_path / "evidence.sqlite"
    with start(WRITER, path, 1) as process, start(WRITER, path, 2) as other:
        first, second = process.stdout.readline(), other.stdout.readline()
        assert bool(first) != bool(second)  # one of them was turned away
        process.kill()
        other.kill()
    with contextlib.closing(EvidenceLog(path, LOG)) as log:
        assert log.size > 0


def test_a_request_is_bounded_before_it_is_read(tmp_path):
    with Witness(tmp_path / "w.sqlite", WITNESSES[0], witnessed([LOG.key])) as witness:
        assert witness.add_checkpoint(b"old 0\n" * 10_000_000, 1).status == 400
        note = Note.parse(str(Note("log.example/330483\n5\n" + "A" * 43 + "=\n", (LOG.sign("x\n"),))))
        assert witness.add_checkpoint(str(WitnessRequest(0, (), note)).encode(), 1).status == 403
