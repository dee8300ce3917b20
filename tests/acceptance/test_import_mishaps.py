"""What goes wrong in an archive's own hands when it imports: told in one line, and nothing is lost by it."""

import json
import os
import subprocess
import sys

import pytest

from node_agent.index import Lookup
from node_agent.index.folder import DataFolder

HEADER = "档号,男方姓名,女方姓名,登记日期,登记地点\n"


def node(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "node_agent", "import", *map(os.fspath, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def catalogue(path, volume=1):
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        HEADER
        + "".join(
            f"J001-002-{volume:04}-{item:03},张三,李四,1985-05-{item:02},崇福镇\n" for item in range(1, 20)
        ),
        "utf-8",
    )
    return path


def told(done, *words):
    """The one line it says on a failure."""
    assert done.returncode == 1, done.stdout
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def codes(folder):
    lookup = Lookup(folder)
    try:
        return {record.archival_code for record in lookup.fetch(lookup.prefix("J", 1_000)).values()}
    finally:
        lookup.close()


def test_a_second_file_of_one_name_does_not_replace_the_first(tmp_path):
    files = [
        catalogue(tmp_path / year / "结婚.csv", volume)
        for volume, year in enumerate(("1985", "1986"), start=1)
    ]
    done = node(*files, "--data", tmp_path / "archive", "--json")
    told(done, "结婚.csv", "rename it")
    assert json.loads(done.stdout.splitlines()[-1])["imported"] == 19
    assert {code[9:13] for code in codes(tmp_path / "archive")} == {"0001"}


def test_what_an_import_writes_is_its_owners_alone(tmp_path):
    assert node(catalogue(tmp_path / "结婚.csv"), "--data", tmp_path / "archive", "--json").returncode == 0
    written = [path for path in (tmp_path / "archive").rglob("*") if path.is_file()]
    assert any(path.name.startswith("index.") for path in written)
    assert {oct(path.stat().st_mode & 0o077) for path in (*written, tmp_path / "archive")} == {"0o0"}


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_file_whose_name_is_in_gbk_is_imported_under_its_name(tmp_path, more):
    path = tmp_path / os.fsdecode("330483-结婚登记.csv".encode("gbk"))
    done = node(catalogue(path), "--data", tmp_path / "archive", "--json", *more)
    assert done.returncode == 0, done.stderr
    (file,) = json.loads(done.stdout.splitlines()[-1])["files"]
    assert (file["file"], file["category"], file["imported"]) == ("330483-结婚登记.csv", "marriage", 19)


def test_a_second_import_at_once_leaves_the_report_of_the_first_alone(tmp_path):
    part = tmp_path / "archive" / "reports" / "结婚.csv.findings.csv.part"
    part.parent.mkdir(parents=True)
    part.write_text("being written", "utf-8")
    with DataFolder(tmp_path / "archive").import_lock():
        told(
            node(catalogue(tmp_path / "结婚.csv"), "--data", tmp_path / "archive"),
            "another import is running",
        )
    assert part.read_text("utf-8") == "being written"


def test_a_name_of_two_lines_is_told_in_one(tmp_path):
    path = tmp_path / "结婚\n.csv"
    path.write_text("no catalogue", "utf-8")
    told(node(path, "--data", tmp_path / "archive"), "结婚_.csv: ")


@pytest.mark.parametrize("place", ["a file", "/dev/null", "/proc/nowhere"])
def test_a_data_folder_that_can_not_be_is_named(tmp_path, place):
    folder = place
    if place == "a file":
        folder = tmp_path / "file"
        folder.write_text("x")
    told(node(catalogue(tmp_path / "结婚.csv"), "--data", folder), "data folder")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('encoding = "klingon"', ["no such encoding", "klingon"]),
        ('encoding = "rot13"', ["no such encoding"]),
        ("encoding = 5", ["encoding must be a text"]),
        ('category = ["marriage"]', ["category must be a text"]),
        ('copy = "yes"', ["copy must be true or false"]),
        ("headings = [1]", ["headings must be a table"]),
        ('[headings]\n"档号" = "archive_code"', ["no such field", "archive_code", "archival_code"]),
        ('[headings]\n"档号" = 5', ["no such field"]),
        ('[heading]\n"档号" = "archival_code"', ["unknown key", "heading"]),
        ("column = 5", ["[[column]]"]),
    ],
)
def test_a_mapping_that_can_not_be_used_is_named(tmp_path, text, words):
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(text, "utf-8")
    told(node(catalogue(tmp_path / "结婚.csv"), "--data", tmp_path / "archive", "--mapping", mapping), *words)
    assert not (tmp_path / "archive").exists()
