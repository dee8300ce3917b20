"""An import that is killed, starved or disturbed leaves the old index or the new one, and says what happened."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest

from loadtest.people import write_csv
from node_agent.index import ImportRefusedError, Lookup, NoIndexError, Part, open_for_import
from node_agent.index.folder import DataFolder
from node_agent.index.schema import WrongVersionError
from node_agent.record import Person, Record


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
def test_a_killed_import_leaves_the_old_or_the_new_index_and_never_a_mixture(tmp_path):
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
    for number in range(20):
        process = subprocess.Popen(
            [sys.executable, "-m", "node_agent", "import", str(new), "--data", str(folder)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(dice.uniform(0.25, 1.1) * whole_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        held = codes(folder)
        assert held in (before, after), f"kill {number}"
        outcomes.add(held == after)
        if held == after:
            imported(node("import", old, "--data", folder, "--json"))
            assert codes(folder) == before
    assert False in outcomes
    imported(node("import", new, "--data", folder, "--json"))
    assert codes(folder) == after
    assert len(list(folder.glob("index.*.sqlite"))) == 1  # nothing half-built is left lying


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
    with pytest.raises(NoIndexError if damage == "gone" else WrongVersionError):
        Lookup(tmp_path).holdings()


def test_an_index_of_another_version_is_refused_with_what_to_do(tmp_path):
    import sqlite3

    with open_for_import(tmp_path) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), [one()])])
    connection = sqlite3.connect(DataFolder(tmp_path).current())
    connection.execute("update meta set value=value+1 where name='fold'")
    connection.commit()
    connection.close()
    with pytest.raises(WrongVersionError, match="import the catalogues again"):
        Lookup(tmp_path).holdings()
    with pytest.raises(ImportRefusedError), open_for_import(tmp_path) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), [one()])])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("blank.csv", b"\n\n\n"),
        ("photo.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(200)),
        ("paper.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n"),
        ("things.zip", b"PK\x03\x04" + bytes(200)),
        ("noise.csv", bytes(random.Random(1).randrange(256) for _ in range(4000))),
        ("letter.txt", "尊敬的档案馆：\n您好，我想查一份档案。\n谢谢！\n".encode()),
        ("table.csv", b"a,b,c\n1,2,3\n4,5,6\n"),
        ("page.html", b"<html><body><p>nothing here</p></body></html>"),
    ],
)
def test_a_file_that_is_no_catalogue_says_so_in_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    done = node("import", path, "--data", tmp_path / "archive")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith(name)
    assert not (tmp_path / "archive" / "CURRENT").exists()


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    for path in (tmp_path / "nowhere.csv", tmp_path):
        done = node("import", path, "--data", tmp_path / "archive")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert path.name in done.stderr
