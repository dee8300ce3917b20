"""Every catalogue of the eight archives imports as the archives' own description of the files says it must.

Data rows per file are those of the description; the rest (titles, headers, blanks, totals) was counted by hand.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CATALOGUES = ROOT / "examples/jiaxing/catalogues"

# file: (category, data rows, deleted DBF records, rejected, quarantined)
EXPECTED = {
    "330400-知青下乡名册.dbf": ("zhiqing", 3610, 40, 19, 0),
    "330400-婚姻登记副本(县区移交).xlsx": ("marriage", 4217, 0, 29, 1),
    "330400-劳动模范先进人物.csv": ("model_worker", 1606, 0, 12, 3),
    "330402-婚姻登记1950-2020.xlsx": ("marriage", 6514, 0, 24, 0),
    "330402-学籍目录.csv": ("student", 4210, 0, 18, 4),
    "330411-二轮土地承包.txt": ("land_contract", 2608, 0, 9, 2),
    "330411-精简下放人员.csv": ("downsizing", 1706, 0, 11, 2),
    "330421-婚姻登记.xls": ("marriage", 3808, 0, 13, 0),
    "330421-独生子女证.csv": ("one_child", 1662, 0, 11, 0),
    "330424-招工录用.txt": ("recruitment", 2706, 0, 12, 7),
    "330481-婚姻档案目录.csv": ("marriage", 5212, 0, 21, 5),
    "330481-出生医学证明.xlsx": ("birth_cert", 2607, 0, 10, 0),
    "330482-离婚登记.tsv": ("divorce", 1604, 0, 9, 1),
    "330482-退伍军人.DBF": ("demobilized", 2306, 29, 11, 0),
    "330483-结婚登记.csv": ("marriage", 5012, 0, 20, 2),
    "330483-中学学籍.xlsx": ("student", 2607, 0, 12, 0),
    "330483-独生子女(系统导出).xls": ("one_child", 1705, 0, 8, 0),
}


def run_import(folder, *files, mapping=None, dry=False):
    command = [
        sys.executable,
        "-m",
        "node_agent",
        "import",
        *map(str, files),
        "--data",
        str(folder),
        "--json",
    ]
    command += ["--mapping", str(mapping)] if mapping else []
    command += ["--dry-run"] if dry else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return json.loads(done.stdout.splitlines()[-1]), done


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_a_catalogue_imports_with_a_full_account_and_again_without_change(tmp_path, name):
    category, rows, deleted, rejected, quarantined = EXPECTED[name]
    mapping = ROOT / "examples/jiaxing/330424-recruitment.toml" if "招工" in name else None
    report, _ = run_import(tmp_path, CATALOGUES / name, mapping=mapping)
    (file,) = report["files"]
    assert file["category"] == category
    taken = file["imported"]
    for part in [report, file]:
        assert part["read"] == sum(
            part[key] for key in ("imported", "updated", "unchanged", "rejected", "quarantined", "skipped")
        )
    for table in file["tables"]:
        assert table["read"] == table["taken"] + table["rejected"] + table["quarantined"] + table["skipped"]
    assert taken + file["rejected"] + file["quarantined"] + file["deleted_records"] == rows
    assert (file["deleted_records"], file["rejected"], file["quarantined"]) == (
        deleted,
        rejected,
        quarantined,
    )
    assert file["warned"] <= taken
    again, _ = run_import(tmp_path, CATALOGUES / name, mapping=mapping)
    assert (again["imported"], again["updated"], again["unchanged"]) == (0, 0, taken)


@pytest.mark.slow
def test_households_are_one_record_each(tmp_path):
    report, _ = run_import(tmp_path, CATALOGUES / "330424-工程移民安置.xlsx")
    (file,) = report["files"]
    assert file["imported"] + file["rejected"] == 900  # households
    assert file["imported"] + file["rejected"] + file["reasons"]["member"] == 3225  # person rows
    assert file["quarantined"] == 0


@pytest.mark.slow
def test_a_dry_run_writes_no_index(tmp_path):
    report, _ = run_import(tmp_path / "new", CATALOGUES / "330482-离婚登记.tsv", dry=True)
    assert report["imported"] == 1594
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20),
        ("empty.csv", b""),
        ("prose.txt", "这是一段说明文字，不是目录。\n第二行也是文字。\n".encode()),
        ("broken.xlsx", b"PK\x03\x04 not a workbook"),
        ("numbers.csv", b"1,2,3\n4,5,6\n7,8,9\n"),
    ],
)
def test_what_is_no_catalogue_is_said_in_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    report, done = run_import(tmp_path / "data", path)
    assert done.returncode == 1
    assert report["read"] == 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data" / "CURRENT").exists()
