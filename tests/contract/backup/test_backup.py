"""What a backup promises: all of one moment, whole or not there, nothing overwritten, and what is wrong told by name."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from node_agent.backup import making, moment
from node_agent.backup.making import back_up
from node_agent.backup.manifest import read
from node_agent.backup.moment import one_moment
from node_agent.backup.refusals import BackupRefusedError, Why
from node_agent.index import Lookup
from node_agent.index.folder import DataFolder
from tests.fakes.node_commands import node, told
from tests.fakes.waiting import until


def silent(_what, _size):
    return lambda _part: None


def backed_up(folder, target):
    return back_up(folder, target, silent)


def refused(folder, target):
    """Why there is no backup, and that nothing is left of it."""
    before = sorted(target.parent.iterdir()) if target.parent.is_dir() else []
    with pytest.raises(BackupRefusedError) as found:
        backed_up(folder, target)
    assert (sorted(target.parent.iterdir()) if target.parent.is_dir() else []) == before
    return found.value.why


def store(path, rows=10):
    """A SQLite file as the stores are kept, with numbers in it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("pragma journal_mode=wal")
    connection.execute("create table if not exists t(n integer primary key, filling blob)")
    connection.execute("begin")
    connection.executemany("insert into t values(?, zeroblob(2000))", [(n,) for n in range(rows)])
    connection.execute("commit")
    return connection


def highest(path):
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        return connection.execute("select max(n) from t").fetchone()[0]


def state(folder):
    """What stands in every file of a folder; SQLite's notes about readers aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


@pytest.fixture
def folder(tmp_path):
    """A data folder with settings, a key, and two stores."""
    made = tmp_path / "archive"
    made.mkdir(mode=0o700)
    (made / "archive.toml").write_text('archive = "330483"\nname = "桐乡市档案馆"\nca = "/etc/hosts"\n')
    (made / "index.key").write_bytes(b"k" * 32)
    for name in ("desk.sqlite", "certificates.sqlite"):
        store(made / name).close()
    return made


def test_what_is_copied_is_told_file_by_file_and_for_its_owner_alone(folder, tmp_path):
    (folder / "scans" / "X032").mkdir(parents=True)
    (folder / "scans" / "X032" / "1.png").write_bytes(b"page" * 1000)
    (folder / "scans" / "X032" / "1.new").write_bytes(b"also a page")
    (folder / "reports").mkdir()
    (folder / "import.lock").touch()
    (folder / "agent.lock").touch()
    (folder / "desk.sqlite.lock").touch()
    (folder / "CURRENT.new").write_text("index.9.sqlite")
    (folder / "index.key.77.new").write_bytes(b"k")
    before, target = state(folder), tmp_path / "copy"
    mask = os.umask(0o022)
    try:
        made = backed_up(folder, target)
    finally:
        os.umask(mask)
    assert state(folder) == before
    assert read(target) == made
    assert {one.path for one in made.files} == {
        "archive.toml", "index.key", "desk.sqlite", "certificates.sqlite", "scans/X032/1.png", "scans/X032/1.new",
    }  # fmt: skip
    assert set(state(target)) == {one.path for one in made.files} | {"backup.json"}
    for one in made.files:
        content = (target / one.path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (one.size, one.sha256)
    modes = {path.stat().st_mode & 0o777 for path in target.rglob("*") if path.is_file()}
    folders = {path.stat().st_mode & 0o777 for path in [target, *target.rglob("*")] if path.is_dir()}
    assert (modes, folders) == ({0o600}, {0o700})
    assert (made.archive, made.outside, made.flaws) == ("330483", ("ca: /etc/hosts",), ())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_all_stores_are_of_one_moment(folder, tmp_path, monkeypatch):
    """A number is written to one and then to the other, by whoever may; read by turns, one would be ahead by many."""
    whole = moment._transaction

    def slowly(path, stack, begin):
        found = whole(path, stack, begin)
        time.sleep(0.05 if begin == "begin" else 0.0)
        return found

    monkeypatch.setattr(moment, "_transaction", slowly)
    first, second = store(folder / "a.sqlite", 5000), store(folder / "b.sqlite", 5000)
    written, stop = [], threading.Event()

    def write():
        for number in range(10_000, 10_000_000):
            for connection in (first, second):
                connection.execute("insert into t values(?, null)", (number,))
            written.append(number)
            if stop.is_set():
                return

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for turn in range(5):
            began = len(written)
            backed_up(folder, tmp_path / f"copy{turn}")
            until(lambda began=began: len(written) > began)
            a, b = (highest(tmp_path / f"copy{turn}" / name) for name in ("a.sqlite", "b.sqlite"))
            assert 0 <= a - b <= 1
    finally:
        stop.set()
        writing.join()
        first.close()
        second.close()


def test_a_store_is_written_on_while_it_is_read_as_of_the_moment(folder):
    with one_moment(folder) as taken:
        with contextlib.closing(sqlite3.connect(folder / "desk.sqlite", timeout=0)) as writing:
            writing.execute("insert into t values(77, null)")
            writing.commit()
        assert taken.stores["desk.sqlite"].execute("select max(n) from t").fetchone() == (9,)


def test_somebody_who_never_lets_go_is_waited_for_no_longer_than_said(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(moment, "WAIT_S", 0.0)
    with contextlib.closing(sqlite3.connect(folder / "desk.sqlite", isolation_level=None)) as held:
        held.execute("begin immediate")
        assert refused(folder, tmp_path / "copy") is Why.STORE_BUSY
    backed_up(folder, tmp_path / "copy")


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("archive/copy", Why.TARGET_INSIDE),
        ("archive/scans/copy", Why.TARGET_INSIDE),
        ("link/copy", Why.TARGET_INSIDE),
        ("there", Why.TARGET_EXISTS),
        ("dangling", Why.TARGET_EXISTS),
        ("unmounted/copy", Why.NO_TARGET_FOLDER),
    ],
)
def test_a_place_where_no_backup_may_lie_is_refused_by_name(folder, tmp_path, place, why):
    (folder / "scans").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert refused(folder, tmp_path / place) is why


def test_a_folder_that_is_no_archives_is_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty", tmp_path / "copy") is Why.NO_DATA_FOLDER
    assert refused(tmp_path / "nothing", tmp_path / "copy") is Why.NO_DATA_FOLDER


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_too_little_space_is_told_before_anything_is_copied(folder, tmp_path, monkeypatch, name):
    (folder / "scans").write_bytes(b"x" * (3 << 20))
    free = making._SPARE_BYTES + (4 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _where: SimpleNamespace(free=free))
    if name == "copy":
        backed_up(folder, tmp_path / name)
    else:  # which takes the room twice
        assert refused(folder, tmp_path / name) is Why.NO_SPACE


def test_a_damaged_store_makes_no_backup(folder, tmp_path):
    path = folder / "certificates.sqlite"
    content = bytearray(path.read_bytes())
    content[4096 + 8 : 4096 + 4000] = b"\xee" * 3992  # the first page of the table
    path.write_bytes(content)
    assert refused(folder, tmp_path / "copy") is Why.STORE_DAMAGED
    path.write_bytes(b"no database" * 1000)
    assert refused(folder, tmp_path / "copy") is Why.STORE_DAMAGED


def test_what_changes_all_the_time_makes_no_backup(folder, tmp_path, monkeypatch):
    growing = folder / "chain.jsonl"
    growing.write_bytes(b"1\n")
    whole = making.copy_file.__globals__["_piece"]

    def and_grow(file, source):
        if source == growing:
            with growing.open("ab") as more:
                more.write(b"2\n")
        return whole(file, source)

    monkeypatch.setitem(making.copy_file.__globals__, "_piece", and_grow)
    assert refused(folder, tmp_path / "copy") is Why.CHANGING


def test_a_copy_that_is_not_what_was_read_is_no_backup(folder, tmp_path, monkeypatch):
    whole = making.checked

    def spoilt(copy, name, expected):
        if name == "index.key":
            copy.write_bytes(b"x" * 32)
        return whole(copy, name, expected)

    monkeypatch.setattr(making, "checked", spoilt)
    assert refused(folder, tmp_path / "copy") is Why.COPY_DIFFERS


def test_links_to_elsewhere_are_told_and_those_to_files_are_followed(folder, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "1.png").write_bytes(b"page")
    (folder / "scans").symlink_to(tmp_path / "store", target_is_directory=True)
    (folder / "federation.key").symlink_to(folder / "index.key")
    (folder / "gone").symlink_to(tmp_path / "gone")
    made = backed_up(folder, tmp_path / "copy")
    assert made.left_out == ("gone", "scans")
    assert (tmp_path / "copy" / "federation.key").read_bytes() == b"k" * 32
    assert not (tmp_path / "copy" / "federation.key").is_symlink()


def test_documents_that_are_altered_or_missing_are_told_and_the_rest_is_saved(folder, tmp_path):
    digest, gone = "ab" * 32, "cd" * 32
    (folder / "certificates.sqlite").unlink()
    with contextlib.closing(sqlite3.connect(folder / "certificates.sqlite")) as rows:
        rows.execute("create table documents(sha256 text, upgraded text)")
        rows.execute("insert into documents values(?, ?)", (digest, gone))
        rows.commit()
    (folder / "documents" / "ab").mkdir(parents=True)
    (folder / "documents" / "ab" / f"{digest}.pdf").write_bytes(b"no longer what it was")
    (folder / "documents" / "ab" / f"{digest}.9-9.part").write_bytes(b"half")
    made = backed_up(folder, tmp_path / "copy")
    assert made.flaws == (
        f"documents/ab/{digest}.pdf: 已被改动 · altered",
        f"documents/cd/{gone}.pdf: 缺失 · missing",
    )
    assert len(list((tmp_path / "copy" / "documents").rglob("*.*"))) == 1


def test_documents_on_another_disk_are_told_as_left_out_and_not_one_by_one_as_missing(folder, tmp_path):
    with contextlib.closing(sqlite3.connect(folder / "certificates.sqlite")) as rows:
        rows.execute("create table documents(sha256 text, upgraded text)")
        rows.execute("insert into documents values(?, '')", ("ab" * 32,))
        rows.commit()
    (tmp_path / "store").mkdir()
    (folder / "documents").symlink_to(tmp_path / "store", target_is_directory=True)
    made = backed_up(folder, tmp_path / "copy")
    assert (made.left_out, made.flaws) == (("documents",), ())


def test_a_file_that_goes_while_it_is_looked_at_is_left_out(folder, tmp_path, monkeypatch):
    whole = making.files_below
    monkeypatch.setattr(making, "files_below", lambda *given: [*whole(*given), Path("reports/gone.csv")])
    made = backed_up(folder, tmp_path / "copy")
    assert "reports/gone.csv" not in {one.path for one in made.files}
    assert not (tmp_path / "copy" / "reports" / "gone.csv").exists()


def test_as_one_file_it_holds_the_same(folder, tmp_path):
    made = backed_up(folder, tmp_path / "copy.tar")
    assert (tmp_path / "copy.tar").stat().st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / "copy.tar") as tar:
        tar.extractall(tmp_path / "out", filter="fully_trusted")
    copied = tmp_path / "out" / "copy"
    assert read(copied) == made
    assert set(state(copied)) == {one.path for one in made.files} | {"backup.json"}
    assert copied.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "copy.tar", "out"]


def test_two_backups_are_not_written_to_one_place(folder, tmp_path):
    with making._begun(tmp_path / "copy"):
        assert refused(folder, tmp_path / "copy") is Why.BEING_WRITTEN
        backed_up(folder, tmp_path / "other")
    backed_up(folder, tmp_path / "copy")


# as processes --------------------------------------------------------------------------------------------------------


def test_a_killed_backup_leaves_none_and_the_next_one_clears_it_away(folder, tmp_path):
    store(folder / "evidence.sqlite", 40_000).close()
    begun = tmp_path / ".lantai-backup-copy"
    for turn in range(3):
        running = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "node_agent",
                "backup",
                "--data",
                str(folder),
                "--to",
                str(tmp_path / "copy"),
            ]
        )
        until(lambda running=running: running.poll() is not None or list(begun.rglob("*.sqlite")))
        time.sleep(0.02 * turn)  # in the middle of it, wherever that is
        assert running.poll() is None
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert begun.exists()
        assert not (tmp_path / "copy").exists()
    done = node("backup", "--data", folder, "--to", tmp_path / "copy", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"] == len(read(tmp_path / "copy").files)
    assert not begun.exists()


def test_a_refusal_is_one_line_and_a_word_for_programs(folder, tmp_path):
    told(node("backup", "--data", folder, "--to", folder / "copy"), "数据目录之内", "inside the data folder")
    done = node("backup", "--data", folder, "--to", folder / "copy", "--json")
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (1, "target_inside")


def catalogue(path, name, count=400):
    path.write_text(
        "档号,男方姓名,女方姓名,结婚登记日期,登记地点\n"
        + "".join(
            f"J001-002-0001-{item:04},{name},李四,1985-05-{1 + item % 28:02},崇福镇\n"
            for item in range(count)
        ),
        "utf-8",
    )


_IMPORTING = """
import sys
from pathlib import Path
from node_agent.__main__ import main
csv, folder = Path(sys.argv[1]), sys.argv[2]
text = csv.read_text()
for turn in range(20000):
    csv.write_text(text.replace('张三', '王' + chr(0x4e00 + turn)))
    assert main(['import', str(csv), '--data', folder, '--allow-removal']) == 0
"""


def test_a_backup_beside_imports_has_one_index_whole(tmp_path):
    """Each import makes a new file of the index and removes the old one."""
    folder, csv = tmp_path / "archive", tmp_path / "结婚.csv"
    catalogue(csv, "张三")
    assert node("import", csv, "--data", folder, "--new").returncode == 0
    importing = subprocess.Popen(
        [
            sys.executable, "-c",
            _IMPORTING,
            str(csv), str(folder),
        ],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    indexes = set()
    try:
        for turn in range(6):
            seen = DataFolder(folder).pointer_stamp()
            until(lambda seen=seen: DataFolder(folder).pointer_stamp() != seen)
            made = backed_up(folder, tmp_path / f"copy{turn}")
            indexes.add(made.index)
            lookup = Lookup(tmp_path / f"copy{turn}")
            assert lookup.holdings().records == 400
            lookup.close()
    finally:
        importing.terminate()
        importing.wait()
    assert len(indexes) > 3
