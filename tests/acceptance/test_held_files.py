"""Which files an index was made of, and a whole one taken out: by the commands, and beside an agent that serves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.fleet import Archive, Fleet
from node_agent.catalogue.files import CatalogueFile
from node_agent.catalogue.mapping import Mapping
from node_agent.index import Lookup
from tests.fakes.node_commands import node, told
from tests.fakes.waiting import until

CODE = "330483"
QUESTION = {
    "purpose": "marriage_proof",
    "category": "marriage",
    "applicant": {"relation": "SELF"},
    "subject": {"name": "张三", "birth": "1960", "other_name": "李四"},
    "event": {"from": "1985", "to": "1985"},
}


def catalogue(path, volume, count=30, name="张三", category="结婚"):
    path.write_text(
        f"档号,男方姓名,女方姓名,{category}登记日期,登记地点\n"
        + "".join(
            f"J001-002-{volume:04}-{item:04},{name},李四,1985-05-{1 + item % 28:02},崇福镇\n"
            for item in range(count)
        ),
        "utf-8",
    )
    return path


def state(folder):
    """Every file of a data folder, and what stands in it; SQLite's notes about readers aside."""
    return {
        path.name: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def held(folder):
    done = node("files", "--data", folder, "--json")
    assert done.returncode == 0, done.stderr
    told_of = json.loads(done.stdout)
    assert told_of["records"] == sum(one["records"] for one in told_of["files"])
    return {one["file"]: one for one in told_of["files"]}


@pytest.fixture
def archive(tmp_path):
    """A data folder with three files: two of marriages, one of divorces."""
    folder = tmp_path / "archive"
    files = [
        catalogue(tmp_path / "结婚1.csv", 1),
        catalogue(tmp_path / "结婚2.csv", 2, 40, ""),
        catalogue(tmp_path / "离婚.csv", 3, 20, category="离婚"),
    ]
    assert node("import", *files, "--data", folder).returncode == 0
    return folder


def test_the_files_of_an_index_are_told_one_a_line(archive, tmp_path):
    done = node("files", "--data", archive)
    assert (done.returncode, done.stderr) == (0, "")
    *files, total = done.stdout.splitlines()
    assert [line.split("  ")[:3] for line in files] == [
        ["离婚.csv", "记录 records 20 (divorce 20)", "表 tables 1"],
        ["结婚1.csv", "记录 records 30 (marriage 30)", "表 tables 1"],
        ["结婚2.csv", "记录 records 40 (marriage 40)", "表 tables 1"],
    ]
    assert total == "合计 in all: 文件 files 3，记录 records 90"
    digest = CatalogueFile(tmp_path / "结婚1.csv", mapping=Mapping()).digest().hex()
    assert files[1].endswith(digest)
    assert held(archive)["结婚1.csv"] == {
        "file": "结婚1.csv",
        "records": 30,
        "categories": {"marriage": 30},
        "digest": digest,
        "tables": [{"table": "", "records": 30}],
    }


@pytest.mark.parametrize("command", [["files"], ["remove", "结婚.csv"], ["remove", "a", "--dry-run"]])
def test_a_folder_without_an_index_is_named_and_left_alone(tmp_path, command):
    told(node(*command, "--data", tmp_path / "archive"), "尚未导入目录", "nothing imported yet")
    assert not (tmp_path / "archive").exists()


def test_an_unknown_file_is_told_with_those_there_are_and_nothing_is_changed(archive):
    before = state(archive)
    for more in ([], ["--dry-run"], ["--allow-removal"]):
        done = node("remove", "结婚1.csv", "结婚3.csv", "--data", archive, *more)
        told(done, "结婚3.csv: ", "索引中没有此文件", "no such file", "离婚.csv, 结婚1.csv, 结婚2.csv")
        assert state(archive) == before


def test_a_file_is_taken_out_only_when_that_is_said_to_be_meant(archive):
    before = state(archive)
    told(
        node("remove", "结婚1.csv", "--data", archive),
        "结婚1.csv: ",
        "30 条",
        "all its 30",
        "--allow-removal",
    )
    dry = node("remove", "结婚1.csv", "--data", archive, "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "试运行，未改动。将移除 30 条记录" in dry.stdout
    assert state(archive) == before


def test_a_file_is_taken_out_with_its_findings_and_its_name_is_free_again(archive, tmp_path):
    assert (archive / "reports" / "结婚2.csv.findings.csv").read_text("utf-8-sig").count(
        "party_missing"
    ) == 40
    done = node("remove", tmp_path / "结婚2.csv", "--data", archive, "--allow-removal", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = archive / "reports" / "结婚2.csv.findings.csv"
    assert json.loads(done.stdout) == {
        "removed": 40,
        "records": 50,
        "categories_gone": [],
        "files": [
            {"file": "结婚2.csv", "removed": 40, "categories": {"marriage": 40}, "report": str(report)}
        ],
    }
    assert not report.exists()
    assert (archive / "reports" / "结婚1.csv.findings.csv").exists()
    assert list(held(archive)) == ["离婚.csv", "结婚1.csv"]
    again = node("import", tmp_path / "结婚2.csv", "--data", archive, "--json")
    assert json.loads(again.stdout)["imported"] == 40


def test_a_category_that_goes_with_its_file_is_told(archive):
    assert "note" not in node("remove", "结婚1.csv", "--data", archive, "--allow-removal").stdout
    for more in ("--dry-run", "--allow-removal"):
        done = node("remove", "离婚.csv", "--data", archive, more)
        assert "no record left of: divorce" in done.stdout
    assert "索引中再无记录" in node("remove", "结婚2.csv", "--data", archive, "--allow-removal").stdout
    assert held(archive) == {}
    told(node("remove", "结婚2.csv", "--data", archive), "the index holds no file")


def test_a_reader_that_leaves_does_not_keep_the_files_behind_in(archive):
    readable, writable = os.pipe()
    os.close(readable)
    with os.fdopen(writable, "wb") as left:
        done = subprocess.run(
            [sys.executable, "-m", "node_agent", "remove", "结婚1.csv", "结婚2.csv", "--data", os.fspath(archive),
             "--allow-removal"],
            stdout=left, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert list(held(archive)) == ["离婚.csv"]


# beside an agent that serves -------------------------------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path):
    """One archive and a gateway."""
    running = Fleet(
        tmp_path, [Archive(CODE, "桐乡市档案馆")], gateway_settings={"requests_per_minute": 100_000}
    )
    running.prepare()
    files = [catalogue(tmp_path / f"结婚{volume}.csv", volume, 700) for volume in (1, 2)]
    assert node("import", *files, "--data", running.data(CODE)).returncode == 0
    with running:
        yield running


def answered(fleet):
    """(verdict, outcome, reason, archival volumes found) of one search."""
    status, answer = fleet.request("/v1/searches", QUESTION)
    assert status == 200, answer
    (outcome,) = answer["completeness"]["outcomes"]
    return (
        answer["completeness"]["verdict"],
        outcome["outcome"],
        outcome.get("reason"),
        len(answer["candidates"]),
    )


def epoch(folder):
    lookup = Lookup(folder)
    try:
        return lookup.holdings().epoch
    finally:
        lookup.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_files_are_taken_out_beside_an_agent_that_goes_on_answering(fleet):
    folder: Path = fleet.data(CODE)

    def known():
        return fleet.request(f"/v1/archives/{CODE}")[1].get("records")

    def take_out(name):
        """Asks all the while; what was answered."""
        process = subprocess.Popen(
            [sys.executable, "-m", "node_agent", "remove", name, "--data", str(folder), "--allow-removal"],
            stdout=subprocess.DEVNULL,
        )
        answers = set()
        while process.poll() is None:
            answers.add(answered(fleet)[:3])
        assert process.returncode == 0
        return answers

    assert answered(fleet)[:2] == ("complete", "hit")
    before = epoch(folder)
    assert take_out("结婚1.csv") == {("complete", "hit", None)}
    until(lambda: known() == 700)
    assert answered(fleet)[:2] == ("complete", "hit")
    assert epoch(folder) == before + 1

    take_out("结婚2.csv")
    assert epoch(folder) == before + 2
    until(lambda: known() == 0)
    # an archive without an index may hold what is asked for: it is no "none found"
    assert answered(fleet) == ("partial", "unsupported", "no_index", 0)
    assert node("import", folder.parent / "结婚1.csv", "--data", folder).returncode == 0
    assert epoch(folder) == before + 3
    until(lambda: answered(fleet)[:2] == ("complete", "hit"))
