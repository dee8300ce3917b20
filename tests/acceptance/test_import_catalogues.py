"""Every catalogue of the eight archives imports as the archives' own description of the files says it must.

Data rows per file are those of the description. The counts of findings were made by hand: each kind was looked up in the
file and judged, row by row where there are few. What the description names "in particular" has a test of its own below.
"""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from federation.names import fold
from federation.query import Query
from node_agent.catalogue.cells import text_of
from node_agent.catalogue.findings import SEVERITY, TEXTS, TOLD_OF, Finding
from node_agent.catalogue.mapping import Mapping, load
from node_agent.catalogue.readers import open_tables
from node_agent.catalogue.tables import RowStream
from node_agent.index import Lookup

ROOT = Path(__file__).resolve().parents[2]
CATALOGUES = ROOT / "examples/jiaxing/catalogues"
MAPPING = ROOT / "examples/jiaxing/330424-recruitment.toml"
COUNTS = ("read", "imported", "updated", "unchanged", "rejected", "quarantined", "skipped", "warned")
HOUSEHOLDS = "330424-工程移民安置.xlsx"

# file: category, data rows (0: of households below), how many rows of each finding
EXPECTED = {
    "330400-劳动模范先进人物.csv": (
        "model_worker", 1606,
        "blank=3 control_characters=3 header=1 namesake=9 no_code=2 no_name=4 other_encoding=3 repeated_row=6 shared_code=6 wrong_columns=3",
    ),
    "330400-婚姻登记副本(县区移交).xlsx": (
        "marriage", 4217,
        "garbled=2 header=3 id_born_after_event=4 id_impossible_birth=5 id_wrong_check_digit=14 id_wrong_length=13 impossible_date=10 namesake=24 no_code=8 no_date=9 no_name=4 note=1 party_missing=9 repeated_row=17 shared_code=12",
    ),
    "330400-知青下乡名册.dbf": (
        "zhiqing", 3610,
        "character_replaced=8 deleted=40 impossible_date=21 namesake=23 no_code=4 no_date=20 no_name=5 other_encoding=3 repeated_row=10 shared_code=8 text_cut=12",
    ),
    "330402-婚姻登记1950-2020.xlsx": (
        "marriage", 6514,
        "blank=24 header=8 id_impossible_birth=1 id_lost_digits=60 id_wrong_check_digit=35 id_wrong_length=17 impossible_date=18 namesake=47 no_code=3 no_date=8 no_name=7 party_missing=12 repeated_row=14 shared_code=12 signature=4 title=4 total=10",
    ),
    "330402-学籍目录.csv": (
        "student", 4210,
        "blank=4 control_characters=3 header=1 id_impossible_birth=2 id_wrong_check_digit=3 id_wrong_length=4 impossible_date=18 namesake=23 no_code=3 no_name=5 other_encoding=4 repeated_row=10 shared_code=8 title=1 total=1 wrong_columns=4",
    ),
    "330411-二轮土地承包.txt": (
        "land_contract", 2608,
        "control_characters=2 head_unnamed=5 header=1 id_impossible_birth=2 id_wrong_check_digit=5 id_wrong_length=11 impossible_date=5 namesake=15 no_code=1 repeated_row=8 shared_code=6 wrong_columns=2",
    ),
    "330411-精简下放人员.csv": (
        "downsizing", 1706,
        "control_characters=2 header=1 impossible_date=4 namesake=9 no_code=2 no_name=3 other_encoding=2 repeated_row=6 shared_code=6 wrong_columns=2 year_by_context=40",
    ),
    "330421-婚姻登记.xls": (
        "marriage", 3808,
        "header=3 id_impossible_birth=2 id_wrong_check_digit=16 id_wrong_length=8 impossible_date=11 namesake=22 no_code=5 no_date=13 no_name=2 party_missing=6 repeated_row=6 shared_code=12 title=3 total=3",
    ),
    "330421-独生子女证.csv": (
        "one_child", 1662,
        "child_unnamed=24 control_characters=2 header=1 id_impossible_birth=2 id_wrong_check_digit=9 id_wrong_length=11 impossible_date=5 namesake=15 no_code=2 no_date=10 no_name=2 other_encoding=2 repeated_row=7 shared_code=6 wrong_columns=2",
    ),
    "330424-工程移民安置.xlsx": (
        "resettlement", 0,
        "header=1 id_impossible_birth=5 id_wrong_check_digit=17 id_wrong_length=9 impossible_date=7 lost_member=14 member=2311 namesake=3 no_code=5 title=1 total=1",
    ),
    "330424-招工录用.txt": (
        "recruitment", 2706,
        "character_replaced=2 impossible_date=15 namesake=21 no_code=3 no_name=3 other_encoding=3 repeated_row=6 shared_code=6 wrong_columns=3",
    ),
    "330481-出生医学证明.xlsx": (
        "birth_cert", 2607,
        "child_unnamed=103 header=1 id_impossible_birth=9 id_lost_digits=87 id_wrong_check_digit=44 id_wrong_length=20 impossible_date=12 no_code=1 no_date=27 no_name=2 repeated_row=7 shared_code=6",
    ),
    "330481-婚姻档案目录.csv": (
        "marriage", 5212,
        "ambiguous_date=1 blank=5 control_characters=3 header=4 id_born_after_event=1 id_impossible_birth=6 id_wrong_check_digit=21 id_wrong_length=12 impossible_date=18 namesake=25 no_code=7 no_date=10 no_name=2 other_encoding=5 party_missing=8 repeated_row=12 shared_code=10 total=1 wrong_columns=5",
    ),
    "330482-离婚登记.tsv": (
        "divorce", 1604,
        "control_characters=2 header=1 id_impossible_birth=2 id_wrong_check_digit=12 id_wrong_length=1 impossible_date=3 namesake=8 no_code=2 no_name=3 other_encoding=2 party_missing=4 repeated_row=4 shared_code=6 wrong_columns=2",
    ),
    "330482-退伍军人.DBF": (
        "demobilized", 2306,
        "character_replaced=7 deleted=29 id_impossible_birth=1 id_wrong_check_digit=7 id_wrong_length=7 impossible_date=8 namesake=10 no_code=3 no_date=18 no_name=2 repeated_row=6 shared_code=6 text_cut=5",
    ),
    "330483-中学学籍.xlsx": (
        "student", 2607,
        "blank=14 header=12 id_wrong_check_digit=7 id_wrong_length=2 namesake=19 no_code=3 no_name=2 repeated_row=7 shared_code=6 title=6 total=6",
    ),
    "330483-独生子女(系统导出).xls": (
        "one_child", 1705,
        "child_unnamed=3 header=1 id_impossible_birth=5 id_wrong_check_digit=16 id_wrong_length=11 impossible_date=2 namesake=12 no_date=26 no_name=3 repeated_row=5 shared_code=4 title=1 total=1",
    ),
    "330483-结婚登记.csv": (
        "marriage", 5012,
        "blank=4 control_characters=1 header=1 id_born_after_event=1 id_impossible_birth=3 id_lost_digits=20 id_wrong_check_digit=30 id_wrong_length=14 impossible_date=17 namesake=32 no_code=5 no_name=3 other_encoding=4 party_missing=8 repeated_row=12 shared_code=10 title=1 wrong_columns=4",
    ),
}  # fmt: skip

pytestmark = pytest.mark.slow


def mapping_of(name):
    return MAPPING if "招工" in name else None


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


class Imported:
    """One catalogue in a data folder of its own: the account, the findings, and what the index holds of it."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.report, self.done = run_import(folder, CATALOGUES / name, mapping=mapping_of(name))
        (self.file,) = self.report["files"]
        with (folder / "reports" / f"{name}.findings.csv").open(encoding="utf-8-sig", newline="") as handle:
            self.head, *self.findings = list(csv.reader(handle))

    def rows(self, finding, sheet=""):
        """Row numbers of a finding."""
        return [int(row[2]) for row in self.findings if row[5] == finding and row[1] == sheet]

    def records(self):
        lookup = Lookup(self.folder)
        found = lookup.fetch(range(1, lookup.holdings().records + 1))
        lookup.close()
        return list(found.values())

    def record(self, code):
        return next(record for record in self.records() if record.archival_code == code)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    done = {}

    def of(name):
        if name not in done:
            done[name] = Imported(tmp_path_factory.mktemp("archive"), name)
        return done[name]

    return of


@pytest.mark.parametrize("name", EXPECTED)
def test_a_catalogue_imports_with_a_full_account(imported, name):
    category, rows, counted = EXPECTED[name]
    it = imported(name)
    file = it.file
    assert it.done.returncode == 0
    assert file["category"] == category
    assert file["reasons"] == {
        key: int(number) for key, number in (word.split("=") for word in counted.split())
    }
    for part in (it.report, file):
        assert all(isinstance(part[key], int) for key in COUNTS)
        assert part["read"] == sum(part[key] for key in COUNTS if key not in ("read", "warned"))
        assert 0 < part["warned"] <= part["imported"]
    for table in file["tables"]:
        assert table["read"] == table["taken"] + table["rejected"] + table["quarantined"] + table["skipped"]
    for key in ("read", "rejected", "quarantined", "skipped", "warned"):
        assert sum(table[key] for table in file["tables"]) == file[key]
    if rows:
        assert file["imported"] + file["rejected"] + file["quarantined"] + file["deleted_records"] == rows
    assert len(it.records()) == file["imported"]


@pytest.mark.parametrize("name", EXPECTED)
def test_every_finding_is_in_the_csv_with_file_row_field_and_reason_in_both_languages(imported, name):
    it = imported(name)
    assert it.head == [
        "文件 file", "表 sheet", "行 row", "处理 outcome", "字段 field", "原因 reason", "说明", "meaning", "详情 detail",
    ]  # fmt: skip
    rows = {outcome: set() for outcome in ("rejected", "quarantined", "skipped", "warned")}
    for file, sheet, row, outcome, _field, reason, zh, en, _detail in it.findings:
        assert (file, zh, en) == (name, TEXTS[Finding(reason)].zh, TEXTS[Finding(reason)].en)
        assert outcome == SEVERITY[Finding(reason)]
        rows[outcome].add((sheet, int(row)))
    for outcome in ("rejected", "quarantined"):
        assert len(rows[outcome]) == it.file[outcome]
    told = sum(it.file["reasons"].get(one.value, 0) for one in TOLD_OF)
    assert len(rows["skipped"]) == told  # headers, blanks and members are counted alone
    taken = rows["warned"] - rows["rejected"] - rows["quarantined"]
    if name != HOUSEHOLDS:  # there a member's row is warned about, and its household counted
        assert len(taken) == it.file["warned"]


@pytest.mark.parametrize("name", EXPECTED)
def test_original_texts_are_kept_beside_what_was_understood(imported, name):
    mapping = load(MAPPING) if mapping_of(name) else Mapping()
    written = set()
    width = 0
    for table in open_tables(CATALOGUES / name, mapping):
        for _row, cells, _problem in RowStream(table.rows):
            width = width or len(cells)
            written.add(tuple(cell if isinstance(cell, str) else text_of(cell) for cell in cells))
    for record in imported(name).records():
        if name == HOUSEHOLDS:
            parts = [record.cells[at : at + 11] for at in range(0, len(record.cells), 11)]
        else:
            parts = [record.cells]
        assert all(tuple(part) in written for part in parts), record.archival_code


@pytest.mark.parametrize("name", EXPECTED)
def test_a_record_is_shown_as_its_file_has_it(imported, name):
    it = imported(name)
    lookup = Lookup(it.folder)
    try:
        for rid, record in lookup.fetch([1, 2, lookup.holdings().records]).items():
            row = lookup.catalogue_row(rid)
            assert row.file == name
            assert [text for _heading, text in row.cells] == [cell for cell in record.cells if cell.strip()]
            named = [heading for heading, text in row.cells if fold(text) == fold(record.persons[0].name)]
            assert named, row
            assert any("姓名" in one or "户主" in one or "母" in one or one == "XM" for one in named), named
            if name == HOUSEHOLDS:
                assert len([one for one in row.cells if one[0] == "家庭成员姓名"]) == len(record.persons)
    finally:
        lookup.close()


@pytest.mark.parametrize("name", EXPECTED)
def test_the_same_file_again_changes_nothing(imported, name):
    it = imported(name)
    again, _done = run_import(it.folder, CATALOGUES / name, mapping=mapping_of(name))
    assert (again["imported"], again["updated"], again["unchanged"]) == (0, 0, it.file["imported"])
    assert {key: again[key] for key in ("read", "rejected", "quarantined", "skipped", "warned")} == {
        key: it.file[key] for key in ("read", "rejected", "quarantined", "skipped", "warned")
    }


def test_a_changed_file_updates_only_what_changed(tmp_path):
    name = "330482-离婚登记.tsv"
    lines = (CATALOGUES / name).read_bytes().decode("utf-8", "surrogateescape").split("\r\n")
    path = tmp_path / name
    path.write_bytes("\r\n".join(lines).encode("utf-8", "surrogateescape"))
    first, _done = run_import(tmp_path / "data", path)
    before = {record.archival_code: record for record in records_in(tmp_path / "data")}
    cells = lines[100].split("\t")
    changed_code, cells[2] = cells[1], "甄改之"
    lines[100] = "\t".join(cells)
    gone = lines.pop(200).split("\t")[1]
    lines.insert(300, "1990\tJ017-ZY·LH·1990·Y-0999-001\t甄新之\t\t钱女士\t\t1990-05-06\t\t\t\t")
    path.write_bytes("\r\n".join(lines).encode("utf-8", "surrogateescape"))
    second, _done = run_import(tmp_path / "data", path)
    assert (second["imported"], second["updated"], second["unchanged"]) == (1, 1, first["imported"] - 2)
    assert second["files"][0]["removed"] == 1
    after = {record.archival_code: record for record in records_in(tmp_path / "data")}
    assert after.keys() - before.keys() == {"J017-ZY·LH·1990·Y-0999-001"}
    assert before.keys() - after.keys() == {gone}
    assert after[changed_code].persons[0].name == "甄改之"
    same = before.keys() & after.keys() - {changed_code}
    assert all(before[code] == after[code] for code in same)


def records_in(folder):
    lookup = Lookup(folder)
    found = lookup.fetch(range(1, lookup.holdings().records + 10))
    lookup.close()
    return list(found.values())


def test_a_dry_run_writes_nothing_and_tells_the_same(tmp_path):
    name = "330482-离婚登记.tsv"
    report, _done = run_import(tmp_path / "new", CATALOGUES / name, dry=True)
    assert report["imported"] == 1593
    assert not (tmp_path / "new").exists()
    shown = subprocess.run(
        [sys.executable, "-m", "node_agent", "import", str(CATALOGUES / name), "--data", str(tmp_path / "new"), "--dry-run"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "数据质量 · data quality" in shown.stdout
    assert "persons with ID" in shown.stdout
    assert not (tmp_path / "new").exists()


# in particular ---------------------------------------------------------------------------------------------------------


def names(record):
    return [person.name for person in record.persons]


def test_rows_typed_in_another_code_page_are_read_in_it_and_reported(imported):
    it = imported("330400-知青下乡名册.dbf")
    assert it.rows("other_encoding") == [730, 1227, 2154]
    assert names(it.record("J003-0014-031")) == ["陸云"]
    assert names(it.record("J003-0024-002")) == ["段國明"]
    assert (
        it.record("J003-0024-002").place_text == "嘉兴县浙江生产建设兵团星胜大队"
    )  # its other cells are not
    assert it.file["deleted_records"] == 40
    assert 3182 in it.rows("text_cut")  # 古丽娜尔·阿: cut at the field width


def test_copies_of_county_rows_stand_in_columns_that_differ_from_sheet_to_sheet(imported):
    it = imported("330400-婚姻登记副本(县区移交).xlsx")
    assert [(table["table"], table["taken"] > 1000) for table in it.file["tables"]] == [
        ("1981-1988", True), ("1989-1995", True), ("1996-2003", True), ("说明", False),
    ]  # fmt: skip
    assert it.rows("garbled", "1981-1988") == [509]
    assert it.rows("garbled", "1989-1995") == [156]
    assert all(record.is_copy for record in it.records())
    one = it.record("J051-ZY·HY·1999·Y-0125")
    assert (names(one), one.place, one.certificate_no) == (
        ["马辉洋", "梁雪静"],
        "330411",
        "秀结字〔1999〕第0655号",
    )


def test_a_two_row_header_is_read_to_the_last_column(imported):
    it = imported("330402-婚姻登记1950-2020.xlsx")
    one = it.record("J021-ZY·HY·1990·Y-0001-004")
    assert (names(one), one.certificate_no) == (["王立强", "卫秀建"], "南结字（1990）第0568号")
    lookup = Lookup(it.folder)
    found = lookup.search(Query(certificate_no="南结字(1990)第0568号")).found
    lookup.close()
    assert one.archival_code in [candidate.code for candidate in found]


def test_numbers_a_spreadsheet_spoilt_are_dropped_and_their_rows_kept(imported):
    for name in ("330402-婚姻登记1950-2020.xlsx", "330481-出生医学证明.xlsx", "330483-结婚登记.csv"):
        it = imported(name)
        spoilt = {(row[1], int(row[2])) for row in it.findings if row[5] == "id_lost_digits"}
        lost = {(row[1], int(row[2])) for row in it.findings if row[3] in {"rejected", "quarantined"}}
        assert len(spoilt - lost) >= 15
        flagged = [record for record in it.records() if "id_lost_digits" in record.flags]
        assert len(flagged) == len(spoilt - lost)
        assert any("E+" in cell for record in flagged for cell in record.cells) == (name.endswith("csv"))


def test_several_people_in_one_cell_are_one_person_each_however_they_are_spaced(imported):
    it = imported("330411-二轮土地承包.txt")
    (one,) = [record for record in it.records() if names(record)[0] == "陈法春"]
    assert names(one) == ["陈法春", "李莲桂", "陈洋", "陈雪", "陈燕娟"]
    assert all(len(name) > 1 for record in it.records() for name in names(record) if name)
    assert len(it.rows("head_unnamed")) == 5


def test_cycles_of_sixty_years_numerals_ages_and_eras_become_spans_and_never_invented_days(imported):
    it = imported("330411-精简下放人员.csv")
    one = it.record("012-003-0001-028")  # 庚子年臘月, 39歲
    assert (one.event.first, one.event.last) == (19610117, 19610214)
    assert (one.persons[0].birth.first, one.persons[0].birth.last) == (19210101, 19231231)
    two = it.record("012-003-0015-007")  # 一九六二年五月十四日, 44歲
    assert (two.event.first, two.event.last) == (19620514, 19620514)
    assert not [record for record in it.records() if record.event is None]
    assert {record.event.first // 10000 for record in it.records()} == {1961, 1962, 1963}


def test_volumes_and_items_as_text_and_as_numbers_are_one_code(imported):
    it = imported("330421-婚姻登记.xls")
    assert names(it.record("J014-HY-0001-004")) == ["尹國維", "尹張氏"]  # 1 and 4 in the file
    assert names(it.record("J014-HY-0019-006")) == ["杨庆明", "鄧花妹"]  # 0019 and 006
    spans = [person.birth for person in it.record("J014-HY-0073-018").persons]
    assert [(span.first, span.last) for span in spans] == [(19770427, 19770427), (19760723, 19760723)]


def test_one_record_a_household(imported):
    it = imported(HOUSEHOLDS)
    reasons = it.file["reasons"]
    assert it.file["imported"] + reasons["no_code"] == 900  # households
    assert 900 + reasons["member"] + reasons["lost_member"] == 3225  # person rows
    one = it.record("J026-ZY·YM·1959·Y-0001-004")
    assert names(one) == ["譚柏才", "樊贵英", "谭伟群", "谭丽玉"]
    lookup = Lookup(it.folder)
    found = lookup.search(Query(name="谭伟群", category="resettlement")).found
    lookup.close()
    assert one.archival_code in [candidate.code for candidate in found]


def test_positions_count_bytes_in_whatever_encoding_a_line_is(imported):
    it = imported("330424-招工录用.txt")
    assert it.rows("other_encoding") == [74, 411, 1622]
    assert names(it.record("J030-ZY·ZG·1956·Y-0001-012")) == ["袁国兴"]
    assert it.rows("wrong_columns") == [147, 2096, 2287]
    assert names(it.record("J030-ZY·ZG·1964·Y-0001-021")) == [
        "陳翠芳"
    ]  # whose bytes are by chance valid UTF-8


def test_the_fields_list_is_no_catalogue(tmp_path):
    report, done = run_import(tmp_path, CATALOGUES / "330424-招工录用-字段说明.txt")
    assert (done.returncode, report["read"]) == (1, 0)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("330400-劳动模范先进人物.csv", [109, 1397, 1530]),
        ("330402-学籍目录.csv", [1781, 1922, 2543, 3291]),
        ("330411-精简下放人员.csv", [226, 371]),
        ("330421-独生子女证.csv", [69, 274]),
        ("330481-婚姻档案目录.csv", [2250, 2676, 3485, 3721, 5012]),
        ("330482-离婚登记.tsv", [403, 504]),
        ("330483-结婚登记.csv", [1477, 1843, 3519, 3768]),
    ],
)
def test_shifted_and_broken_rows_are_reported_not_guessed(imported, name, rows):
    assert imported(name).rows("wrong_columns") == rows


def test_wives_by_their_fathers_name_and_children_of_somebody(imported):
    wives = [name for record in imported("330481-婚姻档案目录.csv").records() for name in names(record)]
    assert sum(name.endswith("氏") for name in wives) > 10
    births = imported("330481-出生医学证明.xlsx")
    assert len(births.rows("child_unnamed", "Sheet1")) == 103
    assert not [name for record in births.records() for name in names(record) if "之" in name[1:-1]]


def test_entities_are_decoded_before_names_are_compared(imported):
    for name in (
        "330482-离婚登记.tsv",
        "330400-劳动模范先进人物.csv",
        "330421-独生子女证.csv",
        "330483-独生子女(系统导出).xls",
    ):
        it = imported(name)
        people = [one for record in it.records() for one in names(record)]
        assert not [one for one in people if "&" in one or ";" in one]


def test_fonds_and_list_stand_in_the_first_line(imported):
    assert names(imported("330483-结婚登记.csv").record("J009-002-0017-033")) == ["李德荣", "徐宝秀"]


def test_the_school_stands_in_the_title_of_the_sheet_and_the_year_of_leaving_is_the_event(imported):
    it = imported("330483-中学学籍.xlsx")
    schools = Counter(record.place_text for record in it.records())
    assert set(schools) == {"桐乡第一中学", "桐乡第二中学", "崇福中学", "濮院中学", "乌镇中学", "石门中学"}
    one = it.record("J013-ZY·XJ·1954·Y-0001-005")
    assert (names(one), one.event.first, one.event.last) == (["罗英淑"], 19540101, 19541231)
    assert not [record for record in it.records() if record.event is None]


def test_an_impossible_date_leaves_what_is_sure(imported):
    for name in EXPECTED:
        it = imported(name)
        flagged = [record for record in it.records() if "impossible_date" in record.flags]
        assert all(record.event is None or not record.event.is_day or record.persons for record in flagged)
    one = next(
        record
        for record in imported("330402-婚姻登记1950-2020.xlsx").records()
        if "1980.13.16" in record.cells
    )
    assert (one.event.first, one.event.last) == (19800101, 19801231)


def test_fifteen_and_eighteen_digits_are_one_person(imported):
    it = imported("330483-结婚登记.csv")
    lookup = Lookup(it.folder)
    for asked in ("330425196805283715", "330425680528371"):
        found = lookup.search(Query(id_number=asked)).found
        assert isinstance(found, tuple)
    some = [
        (record, person)
        for record in it.records()
        for person in record.persons
        if person.id_number and person.id_number not in record.cells
    ][:40]
    assert some
    for record, person in some:
        short = person.id_number[:6] + person.id_number[8:17]
        for asked in (short, person.id_number):
            assert record.archival_code in [one.code for one in lookup.search(Query(id_number=asked)).found]
    lookup.close()
