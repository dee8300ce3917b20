"""Who may use a data folder, and what others left in it."""

import errno
import fcntl
import os

import pytest

from node_agent.index.folder import BusyError, DataFolder

NOBODY = 65_534


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder in which a user who is not root works; root may do everything, and becomes somebody else."""
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o777)
    for name, text in (("CURRENT", "index.2.sqlite\n"), ("index.2.sqlite", ""), ("desk.sqlite", "")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o666)  # whatever mask the process has by now
    data = DataFolder(tmp_path.relative_to(tmp_path))  # nobody may come through the folders above it
    data.check_access()  # Python loads what it needs, which is root's too
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    yield data
    os.seteuid(was)


def left_by_another(folder, name, mode):
    was = os.geteuid()
    if was == NOBODY:
        os.seteuid(0)
    path = folder.path / name
    path.unlink(missing_ok=True)
    path.touch()
    path.chmod(mode)
    os.seteuid(was)


@pytest.mark.parametrize(
    "name", ["desk.sqlite", "index.2.sqlite", "index.2.sqlite-wal", "CURRENT", "index.key"]
)
def test_a_file_in_use_that_this_user_can_not_use_is_named(folder, name):
    folder.check_access()
    left_by_another(folder, name, 0)
    with pytest.raises(PermissionError) as refused:
        folder.check_access()
    assert refused.value.filename == name


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("desk.sqlite.2026-11-01", 0),
        ("desk.sqlite.bak", 0),
        ("index.1.sqlite", 0),
        ("index.3.sqlite.12.keys.spill", 0),
        ("index.2.sqlite", 0o444),
    ],
)
def test_what_nobody_uses_and_an_index_that_is_only_read_keep_no_agent_from_starting(folder, name, mode):
    left_by_another(folder, name, mode)
    folder.check_access()


@pytest.mark.parametrize("name", ["desk.sqlite-wal", "index.2.sqlite-shm"])
def test_nor_does_a_file_that_goes_while_they_are_looked_at(folder, name):
    (folder.path / name).symlink_to("gone")  # as listed, and not there any more
    folder.check_access()


def test_a_lock_that_another_user_made_is_held_all_the_same(folder):
    left_by_another(folder, "agent.lock", 0o444)
    with folder.agent_lock():
        assert folder.is_served()
    assert not folder.is_served()


def test_a_file_system_without_locks_is_named_and_no_other_agent(folder, monkeypatch):
    with folder.agent_lock(), pytest.raises(BusyError), folder.agent_lock():
        pass

    def flock(_file, _how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match=r"No locks available: 'agent\.lock'"), folder.agent_lock():
        pass
