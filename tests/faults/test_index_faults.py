"""An import that is killed, starved or disturbed leaves the old index or the new one, and says what happened."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from federation.dates import DateSpan
from federation.query import Query
from federation.wire.translate import query_to_wire
from federation.wire.v1 import holdings_pb2 as pb
from loadtest.people import write_csv
from node_agent.disclosure import Disclosure
from node_agent.index import (
    ImportRefusedError,
    Lookup,
    NoIndexError,
    Part,
    UnusableIndexError,
    open_for_import,
)
from node_agent.index.folder import DataFolder
from node_agent.index.opened import OpenIndex
from node_agent.record import Person, Record
from node_agent.service import ArchiveService


def node(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "node_agent", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def imported(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def codes(folder):
    lookup = Lookup(folder)
    try:
        return {record.archival_code for record in lookup.fetch(lookup.prefix("J", 100_000)).values()}
    finally:
        lookup.close()


@pytest.mark.slow
def test_an_import_killed_at_any_time_leaves_the_old_or_the_new_index_and_never_a_mixture(tmp_path):
    """Whole processes, killed by the clock: also in the middle of a write."""
    folder = tmp_path / "archive"
    old, new = tmp_path / "people.csv", tmp_path / "new" / "people.csv"
    new.parent.mkdir()
    write_csv(old, 3_000, seed=1)
    write_csv(new, 4_000, seed=2)
    imported(node("import", old, "--data", folder, "--json"))
    before = codes(folder)
    began = time.monotonic()
    imported(node("import", new, "--data", tmp_path / "other", "--json"))
    whole_s = time.monotonic() - began
    after = codes(tmp_path / "other")
    assert before != after
    dice = random.Random(4)
    outcomes = set()
    for number in range(8):
        process = subprocess.Popen(
            [sys.executable, "-m", "node_agent", "import", str(new), "--data", str(folder), "--allow-removal"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(dice.uniform(0.25, 1.1) * whole_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        held = codes(folder)
        assert held in (before, after), f"kill {number}"
        outcomes.add(held == after)
        if held == after:
            imported(node("import", old, "--data", folder, "--json", "--allow-removal"))
            assert codes(folder) == before
    imported(node("import", new, "--data", folder, "--json", "--allow-removal"))
    assert codes(folder) == after
    assert len(list(folder.glob("index.*.sqlite"))) == 1  # nothing half-built is left lying


def records(count, name="王芳"):
    return [one(f"J{number:05d}", name) for number in range(count)]


def put(folder, rows):
    with open_for_import(folder) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), rows)])


def remove(folder):
    with open_for_import(folder) as importer:
        importer.remove("a.csv")


def put_and_die(folder, rows, at):
    """The import in a process of its own that kills itself at its `at`-th call of any function; how many it made."""
    return die(lambda: put(folder, rows), at)


def die(change, at):
    """The same of any change."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        calls = 0

        def count(_frame, _event, _argument):
            nonlocal calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        try:
            change()
        finally:
            sys.setprofile(None)
            os.write(writable, str(calls).encode())
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as told:
        calls = told.read()
    os.waitpid(child, 0)
    return int(calls or 0)


def told(folder):
    lookup = Lookup(folder)
    try:
        found = lookup.fetch(lookup.prefix("J", 100_000))
        names = Counter(record.persons[0].name for record in found.values())
        assert lookup.holdings().records == len(found)
        return names, len(lookup.search(Query(name="钱伟明"), limit=5_000).found)
    finally:
        lookup.close()


@pytest.mark.slow
@pytest.mark.parametrize("changed", [40, 900], ids=["transaction", "new file"])
def test_an_import_killed_at_any_call_leaves_the_old_or_the_new_index(tmp_path, changed):
    """Twenty points over the whole import, and twenty more about its end, where files and pointers change hands."""
    rows = records(1_200)
    new = records(changed, "钱伟明") + rows[changed:]
    put(tmp_path / "index", rows)
    whole = put_and_die(tmp_path / "index", new, -1)
    old_state, new_state = (Counter({"王芳": 1200}), 0), told(tmp_path / "index")
    assert new_state == (Counter({"王芳": 1200 - changed, "钱伟明": changed}), changed)
    put(tmp_path / "index", rows)
    assert told(tmp_path / "index") == old_state
    dice = random.Random(7)
    points = [dice.randrange(1, whole) for _ in range(20)] + [whole + on for on in range(-80, 80, 8)]
    states = []
    for point in sorted(points):
        put_and_die(tmp_path / "index", new, point)
        state = told(tmp_path / "index")
        assert state in (old_state, new_state), point
        states.append(state == new_state)
        if state == new_state:
            put(tmp_path / "index", rows)
            assert told(tmp_path / "index") == old_state
    assert set(states) == {False, True}
    put(tmp_path / "index", new)
    assert told(tmp_path / "index") == new_state
    assert len(list((tmp_path / "index").glob("index.*.sqlite"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [40, 900], ids=["transaction", "new file"])
def test_a_removal_killed_at_any_call_leaves_the_whole_file_or_nothing_of_it(tmp_path, count):
    """At twenty points over the whole of it, and twenty more about its end."""
    folder, rows = tmp_path / "index", records(count, "钱伟明")
    with open_for_import(folder) as importer:
        importer.put("b.csv", bytes(16), [Part("", ("x",), [one(f"JB{at:05d}") for at in range(1_200)])])
    put(folder, rows)
    old_state = told(folder)
    assert old_state == (Counter({"王芳": 1_200, "钱伟明": count}), count)
    whole = die(lambda: remove(folder), -1)
    new_state = told(folder)
    assert new_state == (Counter({"王芳": 1_200}), 0)
    put(folder, rows)
    dice = random.Random(8)
    points = [dice.randrange(1, whole) for _ in range(20)] + [whole + on for on in range(-80, 80, 8)]
    states = []
    for point in sorted(points):
        die(lambda: remove(folder), point)
        state = told(folder)
        assert state in (old_state, new_state), point
        states.append(state == new_state)
        if state == new_state:
            put(folder, rows)
            assert told(folder) == old_state
    assert set(states) == {False, True}
    remove(folder)
    assert told(folder) == new_state
    assert len(list(folder.glob("index.*.sqlite"))) == 1


@pytest.mark.slow
def test_searches_go_on_while_a_new_index_takes_over(tmp_path):
    rows, new = records(3_000), records(3_000, "钱伟明")
    put(tmp_path, rows)
    lookup = Lookup(tmp_path)
    seen = Counter()
    over = threading.Event()

    def ask():
        while not over.is_set():
            one, other = (lookup.search(Query(name=name), limit=50) for name in ("王芳", "钱伟明"))
            if one.epoch == other.epoch:  # else the index changed between the two questions
                seen[len(one.found) > 0, len(other.found) > 0] += 1

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for state in (new, rows, new):
            put(tmp_path, state)
    finally:
        over.set()
        asking.join()
    assert seen
    assert set(seen) <= {(True, False), (False, True)}  # one index or the other, never neither nor both
    time_of_switch = len(lookup.search(Query(name="钱伟明"), limit=50).found)
    lookup.close()
    assert time_of_switch == 50


def one(code="J1", name="王芳"):
    return Record("student", code, "", f"{name}学籍", (Person(name),))


def test_two_imports_at_once_the_second_is_told(tmp_path):
    with open_for_import(tmp_path) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), [one()])])
        with pytest.raises(ImportRefusedError, match="another import"), open_for_import(tmp_path):
            pass


def test_an_import_that_fails_in_the_middle_changes_nothing(tmp_path):
    def breaking():
        yield one("J2")
        raise OSError(5, "input/output error")

    with open_for_import(tmp_path) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), [one()])])
    with pytest.raises(ImportRefusedError, match="old index stands"), open_for_import(tmp_path) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), breaking())])
    assert codes(tmp_path) == {"J1"}


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_old_index_answers(tmp_path):
    folder = tmp_path / "archive"
    small, large = tmp_path / "people.csv", tmp_path / "large" / "people.csv"
    large.parent.mkdir()
    write_csv(small, 500, seed=1)
    write_csv(large, 20_000, seed=1)
    imported(node("import", small, "--data", folder, "--json"))
    before = codes(folder)

    def little_room():  # a write beyond this fails like a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))

    done = node("import", large, "--data", folder, preexec_fn=little_room)
    assert done.returncode == 1
    assert "原索引未变" in done.stderr
    assert "Traceback" not in done.stderr
    assert codes(folder) == before


@pytest.mark.parametrize("damage", ["zeros", "cut", "gone"])
def test_a_damaged_index_is_refused_by_name(tmp_path, damage):
    with open_for_import(tmp_path) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), [one()])])
    path = DataFolder(tmp_path).current()
    if damage == "zeros":
        path.write_bytes(bytes(path.stat().st_size))
    elif damage == "cut":
        os.truncate(path, 100)
    else:
        (tmp_path / "CURRENT").unlink()
    with pytest.raises(NoIndexError if damage == "gone" else UnusableIndexError):
        Lookup(tmp_path).holdings()


def test_an_index_that_is_restored_is_found_again_by_who_saw_it_damaged(tmp_path):
    put(tmp_path, records(3))
    lookup = Lookup(tmp_path)
    assert lookup.holdings().records == 3
    pointer = tmp_path / "CURRENT"
    good = pointer.read_text("ascii")
    (tmp_path / "index.7.sqlite").write_bytes(bytes(4096))
    for named in ("index.7.sqlite", good):
        time.sleep(0.03)  # as long as a reader takes a state for the newest without looking
        pointer.write_text(named, "ascii")
        if named != good:
            for _ in range(2):
                with pytest.raises(UnusableIndexError):
                    lookup.holdings()
    assert len(lookup.search(Query(name="王芳")).found) == 3
    lookup.close()


def test_a_state_that_could_not_be_read_whole_is_read_again(tmp_path, monkeypatch):
    put(tmp_path, records(3))
    lookup = Lookup(tmp_path)
    assert lookup.holdings().records == 3
    put(tmp_path, records(5))
    time.sleep(0.03)
    with monkeypatch.context() as disk:
        disk.setattr(OpenIndex, "_count_holdings", failing)
        with pytest.raises(sqlite3.OperationalError):
            lookup.holdings()
    assert lookup.holdings().records == 5
    lookup.close()


def test_the_file_of_a_replaced_index_is_let_go_of_though_no_slow_search_comes(tmp_path):
    put(tmp_path, records(1_200))
    lookup = Lookup(tmp_path)
    service = ArchiveService("330483", "", lookup, Disclosure(bytes(32), None))
    service._worker.submit(lookup.search, Query(name="王芳")).result()
    before = DataFolder(tmp_path).current()
    put(tmp_path, records(1_200, "钱伟明"))
    time.sleep(0.03)  # as long as a reader takes a state for the newest without looking
    service.manifest()
    service.let_go_of_older_files()
    service._worker.submit(int).result()  # what came before it is done
    service.close()
    assert before != DataFolder(tmp_path).current()
    assert {one.path for one in lookup._open} == {DataFolder(tmp_path).current()}
    lookup.close()


def failing(*_asked):
    raise sqlite3.OperationalError("disk I/O error")


def damaged_pointer(folder):
    (folder / "CURRENT").write_bytes(b"\xff\xfe")


def damaged_state(folder):
    with contextlib.closing(sqlite3.connect(DataFolder(folder).current())) as connection, connection:
        connection.execute("delete from meta where name = 'dictionary'")


def without_key(folder):
    (folder / "index.key").unlink()


def another_key(folder):
    (folder / "index.key").write_bytes(bytes(range(32)))


def another_key_and_no_check(folder):
    without_check(folder)
    another_key(folder)


def key_cut_short(folder):
    os.truncate(folder / "index.key", 0)


def without_check(folder):
    """As an index was made before it kept the check value of its key."""
    with contextlib.closing(sqlite3.connect(DataFolder(folder).current())) as connection, connection:
        connection.execute("delete from meta where name='key_check'")


def key_check(folder):
    with contextlib.closing(sqlite3.connect(DataFolder(folder).current())) as connection:
        return connection.execute("select value from meta where name='key_check'").fetchone()


def asked(service):
    """The answer to a quick question about everybody called 王芳."""
    told = []
    query = query_to_wire(Query(name="王芳", event=DateSpan(19800101, 19901231)))
    service.begin(pb.QueryItem(cid=7, query=query), time.monotonic() + 10, told.append)
    [answer] = told
    return answer


@pytest.mark.parametrize("changed", [2, 900], ids=["transaction", "new file"])
def test_the_questions_of_a_turn_read_one_state_and_the_next_turn_the_newest(tmp_path, changed):
    few = records(300)  # no more than are compared at once
    rest = [one(f"JR{number:05d}", "李明") for number in range(900)]
    put(tmp_path, few + rest)
    service = ArchiveService("330483", "", Lookup(tmp_path), Disclosure(bytes(32), None))
    before = asked(service).index_epoch
    with service.turn():
        epochs = [asked(service).index_epoch]
        put(tmp_path, few + records(changed, "钱伟明") + rest[changed:])
        time.sleep(0.03)  # as long as a reader takes a state for the newest without looking
        epochs.append(asked(service).index_epoch)
    assert epochs == [before] * 2
    time.sleep(0.03)
    assert asked(service).index_epoch == before + 1
    service.close()


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (damaged_pointer, "pointer_damaged"),
        (damaged_state, "file_damaged"),
        (without_key, "key_missing"),
        (another_key, "key_other"),
    ],
)
def test_an_index_that_can_not_be_opened_fails_each_question_by_itself(tmp_path, damage, kind):
    put(tmp_path, records(3))
    damage(tmp_path)
    service = ArchiveService("330483", "", Lookup(tmp_path), Disclosure(bytes(32), None))
    with service.turn(), capture_logs() as logged:
        assert [asked(service).status for _ in range(2)] == [pb.STATUS_FAILED] * 2
    assert [(line["action"], line["kind"]) for line in logged] == [("search.failed", kind)] * 2
    assert all(MOVE_AND_IMPORT in line["reason"] for line in logged)
    service.close()


@pytest.mark.parametrize("emptied", [remove, lambda folder: put(folder, [])], ids=["removed", "no rows"])
def test_an_index_without_a_record_is_announced_as_none(tmp_path, emptied):
    """Whoever holds no record of a category is not asked for it, as if it had none on its shelves."""
    put(tmp_path, records(3))
    service = ArchiveService("330483", "", Lookup(tmp_path), Disclosure(bytes(32), None))
    before = service.manifest()
    assert (before.index_epoch, before.records, len(before.categories)) == (1, 3, 1)
    assert asked(service).status == pb.STATUS_OK
    emptied(tmp_path)
    time.sleep(0.03)  # as long as a reader takes a state for the newest without looking
    manifest, answer = service.manifest(), asked(service)
    assert (manifest.index_epoch, manifest.records, len(manifest.categories)) == (0, 0, 0)
    assert (answer.status, answer.reason) == (pb.STATUS_UNSUPPORTED, "no_index")
    found = node("search", "--data", tmp_path, "--name", "王芳")
    assert found.returncode == 1
    assert "the index holds no record" in found.stderr
    put(tmp_path, records(3))
    time.sleep(0.03)
    assert service.manifest().index_epoch == 3
    assert asked(service).status == pb.STATUS_OK
    service.close()


def test_an_index_of_another_version_is_refused_with_what_to_do(tmp_path):
    with open_for_import(tmp_path) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), [one()])])
    connection = sqlite3.connect(DataFolder(tmp_path).current())
    connection.execute("update meta set value=value+1 where name='fold'")
    connection.commit()
    connection.close()
    with pytest.raises(UnusableIndexError, match="import all catalogues again"):
        Lookup(tmp_path).holdings()
    with pytest.raises(ImportRefusedError), open_for_import(tmp_path) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), [one()])])


def cut_short(folder):
    path = DataFolder(folder).current()
    os.truncate(path, path.stat().st_size // 2)


def emptied(folder):
    os.truncate(DataFolder(folder).current(), 0)


def of_another_version(folder):
    with contextlib.closing(sqlite3.connect(DataFolder(folder).current())) as connection, connection:
        connection.execute("update meta set value=value+1 where name='schema'")


def pointing_at(name):
    return lambda folder: (folder / "CURRENT").write_text(name, "ascii")


MOVE_AND_IMPORT = "move CURRENT and index.*.sqlite* out of the data folder and import all catalogues again"


def kept_of(folder):
    """The index files and the key; what SQLite keeps beside them comes and goes."""
    return {path.name: path.read_bytes() for path in folder.glob("index.*") if "-" not in path.name}


@pytest.mark.parametrize(
    ("damage", "zh", "en"),
    [
        (cut_short, "索引文件已损坏", "the index file is damaged"),
        (emptied, "索引文件已损坏", "the index file is damaged"),
        (damaged_state, "索引文件已损坏", "the index file is damaged"),
        (of_another_version, "索引由其他版本建立", "built by another version"),
        (damaged_pointer, "CURRENT 已损坏", "CURRENT is damaged"),
        (pointing_at(""), "CURRENT 已损坏", "CURRENT is damaged"),
        (pointing_at("../index.1.sqlite\n"), "CURRENT 已损坏", "CURRENT is damaged"),
        (pointing_at("index.9.sqlite\n"), "CURRENT 所指的索引文件不存在", "CURRENT names is missing"),
        (without_key, "缺少 index.key", "index.key is missing"),
        (another_key, "index.key 已损坏或不是", "not the one the index was built with"),
        (another_key_and_no_check, "index.key 已损坏或不是", "not the one the index was built with"),
        (key_cut_short, "index.key 已损坏或不是", "not the one the index was built with"),
    ],
)
def test_an_index_that_can_not_be_used_is_named_and_left_as_it_is(tmp_path, damage, zh, en):
    folder, people = tmp_path / "archive", tmp_path / "people.csv"
    put(folder, records(300))
    write_csv(people, 20, seed=1)
    damage(folder)
    before = kept_of(folder)
    for done in (
        node("search", "--data", folder, "--name", "王芳"),
        node("import", people, "--data", folder),
    ):
        assert done.returncode == 1
        assert not done.stdout
        [line] = done.stderr.splitlines()
        assert zh in line
        assert en in line
        assert MOVE_AND_IMPORT in line
    assert kept_of(folder) == before


def initialised(folder):
    return node("init", "--data", folder, "--archive", "330483", "--name", "桐乡", "--listen", "127.0.0.1:0", "--plaintext-on-loopback")  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "kind", "reason"),
    [
        (cut_short, "file_damaged", "索引文件已损坏"),
        (of_another_version, "other_version", "索引由其他版本建立"),
        (pointing_at("index.9.sqlite\n"), "file_missing", "CURRENT 所指的索引文件不存在"),
        (another_key, "key_other", "index.key 已损坏或不是"),
    ],
)
def test_an_agent_that_can_not_use_its_index_ends_and_says_why(tmp_path, damage, kind, reason):
    put(tmp_path, records(300))
    initialised(tmp_path)
    damage(tmp_path)
    done = node("run", "--data", tmp_path)
    assert done.returncode == 1
    ended = json.loads(done.stderr.splitlines()[-1])
    assert (ended["action"], ended["task"]) == ("agent.task_ended", "watch the index")
    assert ended["kind"] == kind
    assert reason in ended["reason"]
    assert MOVE_AND_IMPORT in ended["reason"]


def test_no_command_makes_a_key_beside_an_index_that_has_lost_its_own(tmp_path):
    put(tmp_path, records(3))
    without_key(tmp_path)
    assert "缺少 index.key" in initialised(tmp_path).stderr
    assert not (tmp_path / "archive.toml").exists()
    another_key(tmp_path)
    assert initialised(tmp_path).returncode == 0
    without_key(tmp_path)
    for command in ("run", "search --name 王芳", "desk list"):
        done = node(*command.split(), "--data", tmp_path)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert "缺少 index.key" in line
    assert not (tmp_path / "index.key").exists()


def test_no_index_is_built_under_a_key_that_was_cut_short(tmp_path):
    (tmp_path / "index.key").write_bytes(b"")  # digests under it would be anybody's
    with pytest.raises(ImportRefusedError, match="key is damaged"):
        put(tmp_path, records(3))
    assert DataFolder(tmp_path).current() is None


def test_a_key_that_is_restored_is_found_again_by_who_saw_it_missing(tmp_path):
    put(tmp_path, records(3))
    key = (tmp_path / "index.key").read_bytes()
    another_key(tmp_path)
    lookup = Lookup(tmp_path)
    for _ in range(2):
        with pytest.raises(UnusableIndexError, match="not the one"):
            lookup.search(Query(name="王芳"))
    (tmp_path / "index.key").write_bytes(key)
    assert len(lookup.search(Query(name="王芳")).found) == 3
    lookup.close()


@pytest.mark.parametrize("changed", [2, 900], ids=["transaction", "new file"])
def test_an_index_of_before_the_key_check_is_used_and_has_one_after_the_next_change(tmp_path, changed):
    put(tmp_path, records(1_200))
    kept = key_check(tmp_path)
    without_check(tmp_path)
    lookup = Lookup(tmp_path)
    assert len(lookup.search(Query(name="王芳"), limit=5).found) == 5
    lookup.close()
    put(tmp_path, records(changed, "钱伟明") + records(1_200)[changed:])
    assert key_check(tmp_path) == kept
    assert len(kept[0]) == 16


def test_an_index_of_before_the_key_check_without_a_record_is_used(tmp_path):
    put(tmp_path, records(3))
    put(tmp_path, [])
    without_check(tmp_path)
    another_key(tmp_path)
    put(tmp_path, records(3))
    lookup = Lookup(tmp_path)
    assert len(lookup.search(Query(name="王芳")).found) == 3
    lookup.close()


def test_who_has_an_index_open_names_what_happens_to_it(tmp_path):
    put(tmp_path, records(3))
    lookup = Lookup(tmp_path)
    lookup.holdings()
    damaged_state(tmp_path)
    time.sleep(0.03)  # as long as a reader takes a state for the newest without looking
    with pytest.raises(UnusableIndexError, match="damaged"):
        lookup.holdings()
    lookup.close()


def test_what_is_advised_where_an_index_can_not_be_used_works(tmp_path):
    folder, aside, people = tmp_path / "archive", tmp_path / "aside", tmp_path / "people.csv"
    write_csv(people, 20, seed=1)
    imported(node("import", people, "--data", folder, "--json"))
    key = (folder / "index.key").read_bytes()
    cut_short(folder)
    aside.mkdir()
    for path in [folder / "CURRENT", *folder.glob("index.*.sqlite*")]:
        path.rename(aside / path.name)
    assert imported(node("import", people, "--data", folder, "--json"))["imported"] == 20
    assert node("search", "--data", folder, "--name", "王芳").returncode == 0
    assert (folder / "index.key").read_bytes() == key


def test_an_import_that_takes_over_while_its_file_is_opened_is_no_trouble(tmp_path, monkeypatch):
    put(tmp_path, records(3))
    lookup = Lookup(tmp_path)
    opened = []

    def opening(path, *state):
        if not opened:
            put(tmp_path, records(900))
        opened.append(path.name)
        return OpenIndex(path, *state)

    monkeypatch.setattr("node_agent.index.lookup.OpenIndex", opening)
    assert lookup.holdings().records == 900
    assert opened == ["index.1.sqlite", "index.2.sqlite"]
    lookup.close()


def test_holdings_are_told_while_an_import_takes_over(tmp_path, monkeypatch):
    put(tmp_path, records(3))
    lookup = Lookup(tmp_path)
    lookup.holdings()
    monkeypatch.setattr("node_agent.index.lookup._LOOK_AGAIN_S", 60)  # as if it had looked just now
    put(tmp_path, records(900))
    assert lookup.holdings().records == 3
    monkeypatch.undo()
    time.sleep(0.03)
    assert lookup.holdings().records == 900
    DataFolder(tmp_path).current().unlink()
    with pytest.raises(UnusableIndexError, match="missing"):
        lookup.holdings()
    lookup.close()


CATALOGUES = Path(__file__).resolve().parents[2] / "examples/jiaxing/catalogues"


def zipped(**entries):
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return whole.getvalue()


def with_password():
    """The container of MS-CFB with the one directory entry that says what is in it."""
    entry = "EncryptedPackage".encode("utf-16le").ljust(64, b"\0") + bytes(64)
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + entry * 4


def bomb():
    """Seventy megabytes of one cell."""
    row = b"<row><c><v>1</v></c></row>"
    return zipped(xl__worksheets__sheet1_xml=b"<worksheet><sheetData>" + row * 2_700_000)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", b"", "空文件"),
        ("blank.csv", b"\n\n\n", "空文件"),
        ("photo.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(200), "二进制"),
        ("paper.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n", "不是目录"),
        ("things.zip", b"PK\x03\x04" + bytes(200), "工作簿"),
        ("letter.docx", zipped(word__document_xml="<w:document/>"), "工作簿"),
        ("noise.csv", random.Random(1).randbytes(4000), "二进制"),
        ("letter.txt", "尊敬的档案馆：\n您好，我想查一份档案。\n谢谢！\n".encode(), "找不到分隔的列"),
        ("table.csv", b"a,b,c\n1,2,3\n4,5,6\n", "表头"),
        ("page.html", b"<html><body><p>nothing here</p></body></html>", ""),
        ("cut.xlsx", (CATALOGUES / "330481-出生医学证明.xlsx").read_bytes()[:100_000], "不完整"),
        ("cut.xls", (CATALOGUES / "330421-婚姻登记.xls").read_bytes()[:3_000], "不完整"),
        ("locked.xlsx", with_password(), "密码"),
        ("bomb.xlsx", bomb, "过大"),
        ("broken.dbf", b"\x03\x5f\x07\x1a" + bytes(range(60)) * 3, "DBF"),
        ("namesless.csv", "档号,登记日期\nJ1-1,1985\n".encode(), "姓名"),
        ("codeless.csv", "姓名,登记日期,登记机关\n王芳,1985,桐乡县\n".encode(), "档号"),
        ("mystery.csv", "档号,姓名,出生\nJ1-1,王芳,1985\n".encode(), "--category"),
    ],
)
def test_a_file_that_is_no_catalogue_says_so_in_one_line(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content() if callable(content) else content)
    done = node("import", path, "--data", tmp_path / "archive")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith(name)
    assert said in done.stderr
    assert not (tmp_path / "archive" / "CURRENT").exists()
    assert not list((tmp_path / "archive").glob("reports/*"))


def test_a_file_that_is_no_catalogue_does_not_keep_the_others_out(tmp_path):
    good, bad = tmp_path / "people.csv", tmp_path / "photo.png"
    write_csv(good, 20, seed=1)
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    done = node("import", bad, good, "--data", tmp_path / "archive", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["imported"] == 20
    assert "error" in report["files"][0]


@pytest.mark.parametrize(
    ("suffix", "source"), [(".xls", "330481-出生医学证明.xlsx"), (".xlsx", "330421-婚姻登记.xls")]
)
def test_a_workbook_under_the_other_name_is_read_all_the_same(tmp_path, suffix, source):
    path = (tmp_path / source).with_suffix(suffix)
    path.write_bytes((CATALOGUES / source).read_bytes())
    assert (
        imported(node("import", path, "--data", tmp_path / "archive", "--dry-run", "--json"))["imported"]
        > 2_000
    )


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    for path in (tmp_path / "nowhere.csv", tmp_path):
        done = node("import", path, "--data", tmp_path / "archive")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert path.name in done.stderr
