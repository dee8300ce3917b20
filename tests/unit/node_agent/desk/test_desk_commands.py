"""`lantai-node desk` and `lantai-node user` as people type them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import uvloop

from node_agent.__main__ import main
from tests.fakes.desks import HOLDER, Clock, desk_at, dispatch, give


@pytest.fixture
def data(tmp_path):
    """A data folder with settings and one waiting case, and nothing imported."""
    assert (
        main(
            [
                "init",
                "--data",
                str(tmp_path),
                "--archive",
                HOLDER,
                "--name",
                "桐乡市档案馆",
                "--listen",
                "127.0.0.1:7001",
            ]
        )
        == 0
    )
    desk = desk_at(tmp_path, Clock(), people=False)
    give(desk, dispatch(), "c1")
    desk.store.close()
    return tmp_path


@pytest.fixture
def run(data, capsys):
    """Run one command over the folder: (exit status, printed, said on stderr)."""
    capsys.readouterr()

    def command(*words):
        status = main([*words, "--data", str(data)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return command


def test_users_are_added_listed_renewed_and_removed(run):
    status, printed, _said = run("user", "add", "沈甲", "--role", "lead", "--json")
    first = json.loads(printed)
    assert (status, first["role"]) == (0, "lead")
    assert first["token"].startswith("lantai-desk-")
    status, _printed, said = run("user", "add", "沈甲")
    assert status == 1
    assert "已有用户 沈甲" in said
    assert "user token gives another" in said
    status, printed, _said = run("user", "token", "沈甲", "--json")
    assert json.loads(printed)["token"] != first["token"]
    status, printed, _said = run("user", "list")
    assert "沈甲" in printed
    assert "lantai-desk-" not in printed
    assert run("user", "remove", "沈甲")[0] == 0
    assert run("user", "remove", "沈甲")[0] == 1
    assert run("user", "list")[1] == ""


@pytest.mark.parametrize(
    "name", ["rule", "gateway", "clock", "issuer", "deputy", "沈 甲", "", "x" * 41, "a/b"]
)
def test_names_that_others_act_under_or_nobody_can_type_are_refused(run, name):
    status, _printed, said = run("user", "add", name)
    assert status == 1
    assert "不含空格" in said
    assert "no space" in said


@pytest.mark.parametrize("words", [("desk", "list"), ("user", "list"), ("run",)], ids=" ".join)
@pytest.mark.parametrize("name", ["index.key", "desk.sqlite"])
def test_a_file_of_another_user_is_named_before_anything_is_begun(run, data, monkeypatch, words, name):
    def access(path, mode, **_how):
        return Path(path).name != name

    monkeypatch.setattr(os, "access", access)  # root may read everything
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    monkeypatch.setattr(uvloop, "run", lambda served: served.close())  # of one that is not refused
    status, _printed, said = run(*words)
    assert status == 1
    assert f"{data / name}: Permission denied" in said
    assert "and this runs as 54321: run it as" in said


def test_a_case_from_the_list_to_the_decision(run):
    run("user", "add", "沈甲")
    run("user", "add", "陆乙")
    status, printed, _said = run("desk", "list")
    assert "待受理" in printed
    assert "欧阳试验" in printed
    status, printed, _said = run("desk", "show", "c1", "--lang", "en")
    assert "state: waiting" in printed
    status, printed, _said = run("desk", "claim", "c1", "--as", "沈甲", "--json")
    assert json.loads(printed)["reviewer"] == "沈甲"
    status, _printed, said = run("desk", "approve", "c1", "--as", "陆乙")
    assert (status, "taken" in said, " · " in said) == (1, True, True)
    status, _printed, said = run("desk", "approve", "c1", "--as", "沈甲", "--version", "1")
    assert status == 1
    status, printed, _said = run("desk", "approve", "c1", "--as", "沈甲", "--archival-code", "手填-001")
    assert (status, "已同意" in printed) == (0, True)
    assert "没有案件" in run("desk", "list")[1]
    assert "number=" in run("desk", "list", "--ended")[1]
    history = run("desk", "history", "c1", "--json")[1].splitlines()
    assert [json.loads(line)["action"] for line in history][-2:] == ["claim", "approve"]


def test_who_is_no_user_does_nothing(run):
    status, _printed, said = run("desk", "claim", "c1", "--as", "路人")
    assert status == 1
    assert "lantai-node user add" in said
    assert run("desk", "show", "c9")[0] == 1


def test_the_messengers_secret_is_shown(run):
    status, printed, _said = run("desk", "secret")
    assert (status, printed.startswith("whsec_")) == (0, True)
    assert run("desk", "secret")[1] == printed


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ('[hours]\nweekly = { mon = ["9-5"] }', "[hours]"), ("[hours]\nweakly = 1", "[hours]"),
        ('[rota]\nshifts = ["all day"]', "[rota]"), ("[release]\nenabled = 1", "[release]"),
    ],
)  # fmt: skip
def test_tables_written_wrongly_are_named(run, data, table, named):
    with (data / "archive.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n{table}\n")
    status, _printed, said = run("desk", "list")
    assert status == 1
    assert named in said


@pytest.mark.parametrize("words", [("run",), ("desk", "list"), ("keys", "show")], ids=" ".join)
def test_a_folder_that_is_no_archives_is_named(tmp_path, capsys, words):
    assert main([*words, "--data", str(tmp_path / "nope")]) == 1
    assert (
        f"there is no {tmp_path / 'nope' / 'archive.toml'}; run lantai-node init" in capsys.readouterr().err
    )
