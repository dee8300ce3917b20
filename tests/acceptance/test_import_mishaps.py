"""What goes wrong in an archive's own hands when it imports: told in one line, and nothing is lost by it."""

import csv
import json
import os
import subprocess
import sys

import pytest

from node_agent.index import Lookup
from node_agent.index.folder import DataFolder
from tests.fakes.node_commands import node as command
from tests.fakes.node_commands import told

HEADER = "档号,男方姓名,女方姓名,登记日期,登记地点\n"


def node(*arguments):
    return command("import", *arguments)


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
        ('[[column]]\nheading = "档号"\nstart = "1"\nlength = 30', ["without quotes"]),
        ('[[column]]\nheading = "档号"\nstart = 1\nlength = true', ["without quotes"]),
    ],
)
def test_a_mapping_that_can_not_be_used_is_named(tmp_path, text, words):
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(text, "utf-8")
    told(node(catalogue(tmp_path / "结婚.csv"), "--data", tmp_path / "archive", "--mapping", mapping), *words)
    assert not (tmp_path / "archive").exists()


def lines_of(path, codes, name="张三"):
    """A catalogue of these items."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        HEADER
        + "".join(
            f"J001-002-0001-{code:04},{name},李四,1985-05-{1 + code % 28:02},崇福镇\n" for code in codes
        ),
        "utf-8",
    )
    return path


def counted(done):
    """The account of the one file of an import, as a machine reads it."""
    (file,) = json.loads(done.stdout.splitlines()[-1])["files"]
    return file


def state(folder):
    """Every file of a data folder, and what stands in it; SQLite's notes about readers aside."""
    return {
        path.name: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def test_a_file_that_would_take_most_of_its_records_away_is_refused(tmp_path):
    folder, path = tmp_path / "archive", tmp_path / "结婚.csv"
    assert node(lines_of(path, range(100)), "--data", folder).returncode == 0
    before = state(folder)
    lines_of(path, range(1))
    told(node(path, "--data", folder), "结婚.csv", "移除其中 99 条", "99 of the 100", "--allow-removal")
    assert state(folder) == before
    preview = node(path, "--data", folder, "--dry-run", "--json")
    told(preview, "99 of the 100", "--allow-removal")
    assert (counted(preview)["removed"], counted(preview)["unchanged"]) == (99, 1)
    assert state(folder) == before
    meant = node(path, "--data", folder, "--allow-removal")
    assert (meant.returncode, meant.stderr) == (0, "")
    assert "移除 99" in meant.stdout
    assert codes(folder) == {"J001-002-0001-0000"}


def test_rows_that_can_not_be_read_any_more_are_told_with_the_refusal(tmp_path):
    folder, path = tmp_path / "archive", tmp_path / "结婚.csv"
    assert node(lines_of(path, range(100)), "--data", folder).returncode == 0
    whole = path.read_text("utf-8")
    path.write_text(whole.replace("张三", "锟斤拷"), "utf-8")
    told(node(path, "--data", folder), "100 of the 100", "100 rows of it are quarantined")
    assert len(codes(folder)) == 100


@pytest.mark.parametrize(
    ("held", "kept"), [(100, 80), (21, 1), (19, 0)], ids=["a fifth", "twenty", "all of a few"]
)
def test_corrections_take_records_away_unasked(tmp_path, held, kept):
    folder, path = tmp_path / "archive", tmp_path / "结婚.csv"
    assert node(lines_of(path, range(held)), "--data", folder).returncode == 0
    done = node(lines_of(path, range(kept)), "--data", folder, "--json")
    assert done.returncode == 0, done.stderr
    assert counted(done)["removed"] == held - kept
    assert len(codes(folder)) == kept


def test_records_that_keep_their_code_are_no_removal(tmp_path):
    folder, path = tmp_path / "archive", tmp_path / "结婚.csv"
    assert node(lines_of(path, range(100)), "--data", folder).returncode == 0
    done = node(lines_of(path, range(100), "王五"), "--data", folder, "--json")
    assert (done.returncode, counted(done)["updated"], counted(done)["removed"]) == (0, 100, 0)


def test_the_same_content_under_another_name_is_refused(tmp_path):
    folder, path, copy = tmp_path / "archive", tmp_path / "结婚.csv", tmp_path / "结婚(1).csv"
    copy.write_bytes(lines_of(path, range(30)).read_bytes())
    told(node(path, copy, "--data", tmp_path / "both", "--json"), "结婚(1).csv", "that of 结婚.csv")
    assert node(path, "--data", folder).returncode == 0
    before = state(folder)
    for more in ([], ["--dry-run"]):
        told(node(copy, "--data", folder, *more), "结婚(1).csv", "与“结婚.csv”完全相同", "--allow-duplicate")
        assert state(folder) == before
    assert node(copy, "--data", folder, "--allow-duplicate").returncode == 0
    again = node(copy, path, "--data", folder, "--json")  # each is known by its name now
    assert again.returncode == 0
    assert json.loads(again.stdout.splitlines()[-1])["unchanged"] == 60


def people(codes, volume=1, name="张三"):
    """Rows of marriages of different people, each under a code of its own."""
    return [
        (
            f"J001-002-{volume:04}-{code:04}", f"{name}{CHARACTERS[code % 20]}{CHARACTERS[code // 20]}",
            f"李四{CHARACTERS[code % 20]}", f"1985-05-{1 + code % 28:02}", "崇福镇", f"33042519600101{code:03}X",
        )
        for code in codes
    ]  # fmt: skip


CHARACTERS = "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉"
PEOPLE = HEADER.strip() + ",男方身份证号\n"


def written(path, rows, header=PEOPLE, delimiter=",", encoding="utf-8"):
    text = header + "".join(delimiter.join(row) + "\n" for row in rows)
    path.write_bytes(text.replace(",", delimiter).encode(encoding))
    return path


def turned(rows):
    """The same in other columns, with running numbers and another notation of dates."""
    return [
        (str(number), date.replace("-0", ".").replace("-", "."), wife, husband, code, place, number_id)
        for number, (code, husband, wife, date, place, number_id) in enumerate(rows, start=1)
    ]


TURNED = "序号,登记日期,女方姓名,男方姓名,档号,登记地点,男方身份证号\n"
SAVED_ANEW = {
    "a row more": lambda path, rows: written(path, [*rows, *people([200])]),
    "a tenth less": lambda path, rows: written(path, rows[10:]),
    "twice as many but one": lambda path, rows: written(path, [*rows, *people(range(100, 199))]),
    "another encoding": lambda path, rows: written(path, rows, encoding="gb18030"),
    "other columns and dates": lambda path, rows: written(path, turned(rows), TURNED, "\t"),
    "ID numbers spoilt": lambda path, rows: written(path, [(*row[:5], "3.30425E+17") for row in rows]),
    "called a copy": lambda path, rows: written(path.with_name("结婚 - 副本.csv"), [*rows, *people([200])]),
}


@pytest.mark.parametrize("how", SAVED_ANEW)
def test_a_catalogue_saved_anew_under_another_name_is_refused(tmp_path, how):
    folder, rows = tmp_path / "archive", people(range(100))
    path = written(tmp_path / "结婚.csv", rows)
    assert node(path, "--data", folder).returncode == 0
    before = state(folder)
    again = SAVED_ANEW[how](tmp_path / "结婚2020.csv", rows)
    for more in ([], ["--dry-run"]):
        done = node(again, "--data", folder, *more)
        told(done, again.name, "条已在“结婚.csv”中", "there already under 结婚.csv", "--allow-duplicate")
        assert state(folder) == before
    assert node(again, "--data", folder, "--allow-duplicate").returncode == 0
    both = node(again, path, "--data", folder, "--json")  # each has its records under its own name now
    assert both.returncode == 0, both.stderr


OTHERS = {
    "other people under the same codes": lambda rows: people(range(100), name="钱六"),
    "other days": lambda rows: [(*row[:3], row[3].replace("1985", "1986"), *row[4:]) for row in rows],
    "the next volume": lambda rows: people(range(100), 2),
    "the half of it": lambda rows: [*rows[:50], *people(range(100, 150))],
}


@pytest.mark.parametrize("which", OTHERS)
def test_other_records_in_the_same_series_are_no_duplicates(tmp_path, which):
    folder, rows = tmp_path / "archive", people(range(100))
    assert node(written(tmp_path / "结婚.csv", rows), "--data", folder).returncode == 0
    other = written(tmp_path / "结婚2020.csv", OTHERS[which](rows))
    for more in (["--dry-run"], []):
        done = node(other, "--data", folder, *more)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_same_people_under_the_same_codes_of_another_category_are_no_duplicates(tmp_path):
    folder, rows = tmp_path / "archive", people(range(100))
    assert node(written(tmp_path / "结婚.csv", rows), "--data", folder).returncode == 0
    done = node(written(tmp_path / "离婚.csv", rows[:99]), "--data", folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_catalogue_put_together_of_others_is_refused(tmp_path):
    folder, rows = tmp_path / "archive", people(range(100))
    parts = [written(tmp_path / "结婚1.csv", rows[:40]), written(tmp_path / "结婚2.csv", rows[40:])]
    assert node(*parts, "--data", folder).returncode == 0
    whole = node(written(tmp_path / "结婚.csv", rows), "--data", folder)
    told(whole, "其中 100 条已在“结婚2.csv”等 2 个文件中", "under 结婚2.csv and 1 more")


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_catalogue_saved_anew_beside_the_first_is_refused_in_one_run(tmp_path, more):
    rows = people(range(100))
    files = [written(tmp_path / "结婚.csv", rows), written(tmp_path / "结婚2020.csv", rows[1:])]
    told(node(*files, "--data", tmp_path / "archive", *more), "结婚2020.csv", "there already under 结婚.csv")


def test_a_catalogue_saved_anew_is_noticed_by_a_sample_where_many_records_share_a_code(tmp_path):
    """A list of volumes: a code has hundreds of records, and what is read for one sampled record is bounded."""
    folder = tmp_path / "archive"
    rows = [
        (f"J001-002-{code // 400:04}", f"张三{CHARACTERS[code % 20]}{CHARACTERS[code // 20 % 20]}", *row[2:])
        for code, row in zip(range(4_000), people(range(400)) * 10, strict=True)
    ]
    assert node(written(tmp_path / "结婚.csv", rows), "--data", folder).returncode == 0
    told(node(written(tmp_path / "结婚2020.csv", rows[1:]), "--data", folder), "there already under 结婚.csv")
    other = [(row[0], row[1].replace("张", "钱"), *row[2:]) for row in rows]
    assert node(written(tmp_path / "结婚2021.csv", other), "--data", folder).returncode == 0


def test_a_file_is_known_by_its_newest_bytes(tmp_path):
    """Also when they say the same as before."""
    folder, path, copy = tmp_path / "archive", tmp_path / "结婚.csv", tmp_path / "结婚(1).csv"
    assert node(lines_of(path, range(30)), "--data", folder).returncode == 0
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")
    assert counted(node(path, "--data", folder, "--json"))["unchanged"] == 30
    copy.write_bytes(path.read_bytes())
    told(node(copy, "--data", folder), "that of 结婚.csv")
    assert len(codes(folder)) == 30


def test_a_dry_run_tells_what_the_import_would_do(tmp_path):
    folder, path = tmp_path / "archive", tmp_path / "结婚.csv"
    assert node(lines_of(path, range(100)), "--data", folder).returncode == 0
    lines_of(path, range(5, 103), "张三")
    text = path.read_text("utf-8").replace("0050,张三", "0050,王五").replace("0051,张三", "0051,")
    path.write_text(text, "utf-8")
    before = state(folder)
    preview = counted(node(path, "--data", folder, "--dry-run", "--json"))
    assert (preview["imported"], preview["updated"], preview["unchanged"], preview["removed"]) == (
        3,
        2,
        93,
        5,
    )
    assert state(folder) == before
    assert counted(node(path, "--data", folder, "--json")) == {**preview, "report": preview["report"]} | {
        "report": str(folder / "reports" / "结婚.csv.findings.csv")
    }
    assert counted(node(path, "--data", folder, "--dry-run", "--json"))["unchanged"] == 98


def test_a_dry_run_names_no_file_that_it_does_not_write(tmp_path):
    folder, path = tmp_path / "archive", lines_of(tmp_path / "结婚.csv", range(30), "")
    done = node(path, "--data", folder, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "试运行" in done.stdout
    assert "findings.csv" not in done.stdout
    done = node(path, "--data", folder, "--dry-run", "--reports", tmp_path / "found")
    written = tmp_path / "found" / "结婚.csv.findings.csv"
    assert str(written) in done.stdout
    assert written.read_text("utf-8-sig").count("party_missing") == 30
    assert not folder.exists()


def prepared(folder):
    """The folder of an archive as `lantai-node init` makes it."""
    done = subprocess.run(
        [sys.executable, "-m", "node_agent", "init", "--data", os.fspath(folder), "--archive", "330483",
         "--name", "桐乡市档案馆", "--listen", "127.0.0.1:1", "--plaintext-on-loopback"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_mistyped_folder_beside_an_archive_is_refused(tmp_path, more):
    prepared(tmp_path / "330483-data")
    path, mistyped = catalogue(tmp_path / "结婚.csv"), tmp_path / "330438-data"
    told(node(path, "--data", mistyped, *more), "是否写错", "is it that one", "330483-data", "--new")
    assert not mistyped.exists()
    assert node(path, "--data", mistyped, "--new", *more).returncode == 0


def test_a_folder_that_becomes_an_archive_is_told(tmp_path):
    prepared(tmp_path / "桐乡")
    path, new = catalogue(tmp_path / "结婚.csv"), tmp_path / "elsewhere"
    done = node(path, "--data", new)
    assert done.returncode == 0, done.stderr
    assert "原先没有档案馆" in done.stdout
    assert "lantai-node init" in done.stdout
    for folder, begun in ((tmp_path / "other", True), (new, False), (tmp_path / "桐乡", False)):
        assert json.loads(node(path, "--data", folder, "--json").stdout)["new_archive"] is begun
    assert "原先没有档案馆" not in node(path, "--data", tmp_path / "桐乡").stdout


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["told at the end", "told at once"])
@pytest.mark.parametrize("more", [[], ["--json"], ["--dry-run"]])
def test_a_reader_that_leaves_does_not_fail_the_import(tmp_path, more, unbuffered):
    """As `head` does; the files behind it are imported all the same."""
    files = [catalogue(tmp_path / f"{volume}-结婚.csv", volume) for volume in (1, 2, 3)]
    readable, writable = os.pipe()
    os.close(readable)
    with os.fdopen(writable, "wb") as left:
        done = subprocess.run(
            [sys.executable, "-m", "node_agent", "import", *map(os.fspath, files), "--data",
             os.fspath(tmp_path / "archive"), *more],
            stdout=left, stderr=subprocess.PIPE, text=True, timeout=120,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    if more != ["--dry-run"]:
        assert len(codes(tmp_path / "archive")) == 57


def found(tmp_path, path, *more):
    """(row, outcome, field, reason, detail) of every finding about a file, and what the import printed."""
    done = node(path, "--data", tmp_path / "archive", *more)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "archive" / "reports" / f"{path.name}.findings.csv").open(
        encoding="utf-8-sig"
    ) as handle:
        return {
            (int(row[2]), row[3], row[4], row[5], row[8]) for row in list(csv.reader(handle))[1:]
        }, done.stdout


def test_findings_say_where_they_are_and_what_stood_there(tmp_path):
    path = catalogue(tmp_path / "结婚.csv")
    lines = path.read_text("utf-8").splitlines()
    lines[2] = lines[2].replace("1985-05-02", "1985-13-40")
    lines[3] = lines[3].replace("张三", "锟斤拷")
    lines[4] = lines[4].replace("李四", "李\x02四").replace("崇福镇", "崇福\x02镇")
    lines[5] += ",多"
    lines[6] = "合计,19,,,"
    lines[7] = "注：以下为副本,,,,"
    lines[8] = lines[8].replace("1985-05-08", "=HYPERLINK(1985)" + "年" * 40)
    path.write_text("\n".join(lines), "utf-8")
    rows, _printed = found(tmp_path, path)
    assert rows == {
        (3, "warned", "event", "impossible_date", "“1985-13-40”"),
        (4, "quarantined", "husband", "garbled", ""),
        (5, "warned", "wife 登记地点", "control_characters", ""),
        (6, "quarantined", "", "wrong_columns", "应为 5 列，实为 6 列 · 5 cells expected, 6 found"),
        (7, "skipped", "", "total", ""),
        (8, "skipped", "", "note", ""),
        (9, "warned", "event", "impossible_date", "“=HYPERLINK(1985)" + "年" * 24 + "…”"),
    }


def test_a_cut_field_of_fixed_width_is_named(tmp_path):
    mapping, path = tmp_path / "mapping.toml", tmp_path / "招工.txt"
    columns = (("档号", 1, 12), ("姓名", 13, 8), ("单位全称", 21, 12), ("班组", 33, 8), ("招工日期", 41, 8))
    mapping.write_text(
        'category = "recruitment"\n'
        + "".join(
            f'[[column]]\nheading = "{heading}"\nstart = {start}\nlength = {length}\n'
            for heading, start, length in columns
        ),
        "utf-8",
    )
    row = b"".join(
        text.encode("gb18030").ljust(length)
        for text, (_heading, _start, length) in zip(
            ("J001-001-001", "张三", "", "A1", "19850501"), columns, strict=True
        )
    )
    path.write_bytes(row[:20] + "A海盐县第一棉".encode("gb18030")[:12] + row[32:] + b"\n")
    rows, _printed = found(tmp_path, path, "--mapping", mapping)
    assert rows == {(1, "warned", "单位全称", "text_cut", "")}


def test_a_heading_of_the_mapping_that_is_in_no_file_is_told(tmp_path):
    mapping, path = tmp_path / "mapping.toml", catalogue(tmp_path / "结婚.csv")
    mapping.write_text('[headings]\n"登记地点" = "place"\n"经办单位" = "remark"\n', "utf-8")
    done = node(path, "--data", tmp_path / "archive", "--mapping", mapping)
    assert "不在文件里 · headings of the mapping that are not in the file: 经办单位\n" in done.stdout
    path.write_text("编码,登记日期,配偶\nJ1-1,1985-05-01,李四\n", "utf-8")
    mapping.write_text('[headings]\n"编号" = "archival_code"\n"登记日期" = "event_date"\n', "utf-8")
    told(
        node(path, "--data", tmp_path / "archive", "--mapping", mapping),
        "a necessary column is missing",
        "编号",
    )


def test_the_quality_of_a_dry_run_is_told_in_both_languages(tmp_path):
    done = node(catalogue(tmp_path / "结婚.csv"), "--data", tmp_path / "archive", "--dry-run")
    table = [line for line in done.stdout.splitlines() if line.startswith("│")]
    assert len(table) > 5
    assert all(" · " in line and any("\u4e00" <= char <= "\u9fff" for char in line) for line in table)
