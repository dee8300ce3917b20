"""`lantai-gateway archive`: the roster changed by command, as the gateway's own reader allows, or left as it was."""

import errno
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.__main__ import main
from gateway.lists import files
from gateway.search.roster import Roster

ROSTER = """\
# ask before you change it
epoch = 3

# 市馆
[[archive]]
code = "330400"
name = "嘉兴市档案馆"  # since 2024
address = "127.0.0.1:9443"

[[archive]]
code = "330483"
name = "桐乡市档案馆"
dials_in = true
deputy = "330400"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "gateway.toml").write_text('plaintext_on_loopback = true\nlink_listen = "127.0.0.1:0"\n')
    (tmp_path / "roster.toml").write_text(ROSTER, "utf-8")
    return tmp_path


def archive(folder, action, *arguments):
    return main(["archive", action, *arguments, "--config", str(folder / "gateway.toml")])


def text(folder):
    return (folder / "roster.toml").read_text("utf-8")


HAIYAN = ("330424", "--name", "海盐县档案馆", "--address", "127.0.0.1:9444")


def test_an_archive_is_added_and_the_epoch_raised(folder, capsys):
    assert (
        archive(folder, "add", *HAIYAN, "--authority", "2", "--stale-after-s", "600", "--deputy", "330483")
        == 0
    )
    roster = Roster.load(folder / "roster.toml")
    added = roster.by_code["330424"]
    assert (roster.epoch, added.name, added.address) == (4, "海盐县档案馆", "127.0.0.1:9444")
    assert (added.authority, added.stale_after_s, added.deputy) == (2, 600, "330483")
    assert text(folder).startswith(ROSTER.replace("epoch = 3", "epoch = 4"))
    told = capsys.readouterr().out
    assert '+ 330424\n    code = "330424"\n    name = "海盐县档案馆"\n' in told
    assert "epoch 3 → 4\n" in told
    assert "running gateways read it at their next start" in told


def test_a_dry_run_tells_the_same_and_changes_nothing(folder, capsys):
    assert archive(folder, "add", *HAIYAN, "--dry-run") == 0
    told = capsys.readouterr().out
    assert "+ 330424\n" in told
    assert "epoch 3 → 4\n" in told
    assert "dry run, nothing was changed" in told
    assert text(folder) == ROSTER


def test_an_archive_is_changed_where_it_says_so_and_nowhere_else(folder, capsys):
    assert archive(folder, "change", "330483", "--address", "127.0.0.1:9445", "--without", "deputy") == 0
    assert text(folder) == ROSTER.replace("epoch = 3", "epoch = 4").replace(
        'dials_in = true\ndeputy = "330400"\n', 'address = "127.0.0.1:9445"\n'
    )
    assert 'deputy: "330400" → –' in capsys.readouterr().out
    assert archive(folder, "change", "330400", "--dials-in", "--name", "嘉兴") == 0
    assert 'name = "嘉兴"  # since 2024\n' in text(folder)
    assert Roster.load(folder / "roster.toml").by_code["330400"].address == ""


def test_what_would_be_the_same_is_no_new_edition(folder, capsys):
    assert archive(folder, "change", "330400", "--name", "嘉兴市档案馆") == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert text(folder) == ROSTER
    assert archive(folder, "change", "330400") == 2


def test_an_archive_is_removed_with_its_comment(folder, capsys):
    assert archive(folder, "remove", "330483") == 0
    assert archive(folder, "add", *HAIYAN) == 0
    assert archive(folder, "remove", "330400") == 0
    assert "1 comment lines of it go as well" in capsys.readouterr().out
    assert text(folder).startswith('# ask before you change it\nepoch = 6\n\n[[archive]]\ncode = "330424"\n')


def test_the_first_archive_begins_a_roster(folder):
    (folder / "roster.toml").unlink()
    assert archive(folder, "add", *HAIYAN) == 0
    assert Roster.load(folder / "roster.toml").epoch == 1
    assert stat.S_IMODE((folder / "roster.toml").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("action", "arguments", "said"),
    [
        ("add", ("330400", *HAIYAN[1:]), "stands on the roster twice: 330400"),
        ("add", ("33042", *HAIYAN[1:]), "code must be six digits"),
        ("add", ("33042４", *HAIYAN[1:]), "code must be six digits"),  # as typed with wide digits
        ("add", (*HAIYAN[:3], "--address", "127.0.0.1"), "an address is host:port"),
        ("add", (*HAIYAN, "--deputy", "330499"), "deputy must be another archive"),
        ("add", (*HAIYAN, "--deputy", "330424"), "deputy must be another archive"),
        ("add", (*HAIYAN, "--stale-after-s", "0"), "must be a positive number"),
        ("add", ("330424", "--name", "", *HAIYAN[3:]), "--name: 不得为空"),
        ("add", ("330424", "--name", "海\x1b[2J", *HAIYAN[3:]), "control characters"),
        ("add", ("330424", "--name", "海\u202e", *HAIYAN[3:]), "control characters"),
        (
            "change",
            ("330400", "--authority", "3", "--without", "authority"),
            "--without authority: 已另给新值 · given a value",
        ),
        ("change", ("330499", "--name", "x"), "there is no [[archive]] with code = 330499"),
        ("remove", ("330499",), "there is no [[archive]] with code = 330499"),
        ("remove", ("330400",), "330483: deputy"),
    ],
)
def test_what_the_gateway_would_not_read_is_not_written(folder, capsys, action, arguments, said):
    assert archive(folder, action, *arguments) == 1
    told = capsys.readouterr()
    assert told.err.startswith("lantai-gateway archive: ")
    assert said in told.err
    assert told.out == ""
    assert text(folder) == ROSTER
    assert sorted(one.name for one in folder.iterdir()) == ["gateway.toml", "roster.toml"]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (ROSTER + "extra = 1\n", "[[archive]] 2: 不认识的键 · unknown key extra"),
        ("owner = 1\n" + ROSTER, "unknown key in the roster: owner"),
        (ROSTER.replace("epoch = 3", 'epoch = "x"'), "epoch must be a whole number"),
        (ROSTER + "[[", "not valid TOML"),
        (ROSTER + '[[archive]]\ncode = "330483"\nname = "x"\ndials_in = true\n', "twice: 330483"),
    ],
)
def test_a_roster_the_gateway_would_not_read_is_not_built_upon(folder, capsys, there, said):
    (folder / "roster.toml").write_text(there, "utf-8")
    assert archive(folder, "add", *HAIYAN) == 1
    assert said in capsys.readouterr().err
    assert text(folder) == there


def test_the_last_archive_stays(folder, capsys):
    assert archive(folder, "remove", "330483") == 0
    before = text(folder)
    assert archive(folder, "remove", "330400") == 1
    assert "the roster is empty" in capsys.readouterr().err
    assert text(folder) == before


def test_settings_that_do_not_go_with_it_are_told_of(folder, capsys):
    (folder / "gateway.toml").write_text("plaintext_on_loopback = true\n")
    assert archive(folder, "add", "330424", "--name", "海盐县档案馆", "--dials-in") == 0
    assert "the gateway would not start with these settings: link_listen" in capsys.readouterr().err


def test_the_list_is_told_for_people_and_for_programs(folder, capsys):
    assert archive(folder, "list") == 0
    assert capsys.readouterr().out == (
        "330400  嘉兴市档案馆  127.0.0.1:9443\n330483  桐乡市档案馆  dials_in  deputy=330400\n"
        "名录第 3 版，2 家 · edition 3 of the roster, 2 archives\n"
    )
    assert archive(folder, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "epoch": 3,
        "archives": [
            {"code": "330400", "name": "嘉兴市档案馆", "address": "127.0.0.1:9443"},
            {"code": "330483", "name": "桐乡市档案馆", "deputy": "330400", "dials_in": True},
        ],
    }


def test_the_file_keeps_its_mode_and_a_link_to_it_stays_a_link(folder):
    real = folder / "real"
    real.mkdir()
    (folder / "roster.toml").rename(real / "roster.toml")
    (folder / "roster.toml").symlink_to(real / "roster.toml")
    (real / "roster.toml").chmod(0o640)
    assert archive(folder, "add", *HAIYAN) == 0
    assert (folder / "roster.toml").is_symlink()
    assert stat.S_IMODE((real / "roster.toml").stat().st_mode) == 0o640
    assert Roster.load(real / "roster.toml").epoch == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_of_the_gateways_user_stays_theirs(folder):
    (folder / "roster.toml").chmod(0o640)
    os.chown(folder / "roster.toml", 4711, 4712)
    assert archive(folder, "add", *HAIYAN) == 0
    of = (folder / "roster.toml").stat()
    assert (of.st_uid, of.st_gid, of.st_mode & 0o777) == (4711, 4712, 0o640)


def test_whose_the_file_is_is_said_where_only_they_could_keep_it(folder, capsys, monkeypatch):
    """In a folder open to a group anybody of it may put a file in another one's place, but not make it theirs."""

    def refuse(path, *_given):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    monkeypatch.setattr(os, "chown", refuse)
    assert archive(folder, "add", *HAIYAN) == 1
    assert f"{folder / 'roster.toml'}: Operation not permitted；文件属于 " in capsys.readouterr().err
    assert text(folder) == ROSTER
    assert sorted(one.name for one in folder.iterdir()) == ["gateway.toml", "roster.toml"]


def test_a_full_disk_leaves_the_roster_and_nothing_else(folder, capsys, monkeypatch):
    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert archive(folder, "add", *HAIYAN) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert text(folder) == ROSTER
    assert sorted(one.name for one in folder.iterdir()) == ["gateway.toml", "roster.toml"]


def test_commands_at_the_same_time_lose_nothing(folder):
    codes = [f"3304{number}" for number in range(50, 62)]
    with ThreadPoolExecutor(4) as pool:
        done = pool.map(lambda code: archive(folder, "add", code, *HAIYAN[1:]), codes)
        assert list(done) == [0] * len(codes)
    roster = Roster.load(folder / "roster.toml")
    assert roster.epoch == 3 + len(codes)
    assert roster.by_code.keys() >= set(codes)


def test_a_command_does_not_wait_for_ever_for_another(folder, capsys, monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE_S", 0.0)
    with files.alone(folder / "roster.toml"):
        assert archive(folder, "add", *HAIYAN) == 1
    assert "another command is changing a list" in capsys.readouterr().err
    assert text(folder) == ROSTER
