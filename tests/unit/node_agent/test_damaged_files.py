"""Files that are damaged in the middle: every row is accounted for, and nothing ends the import."""

import os
import struct
import zipfile

import pytest

from node_agent.catalogue.files import CatalogueFile
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.mapping import FixedColumn, Mapping
from node_agent.catalogue.tables import NotACatalogueError
from node_agent.record import one_by_one
from tests.fakes.reports import adds_up

HEADER = "档号,男方姓名,女方姓名,登记日期,登记地点,备注"
NAME = "结婚登记.csv"


def row(number, remark=""):
    return f"J001-002-0001-{number:03},张三{'甲乙丙丁戊己庚辛'[number % 8]},李四,1985-05-01,崇福镇,{remark}"


def read(path):
    """(records, rows of each finding, the report) of a file."""
    found = []
    file = CatalogueFile(path, mapping=Mapping(), report=found.append)
    records = [record for part in file.parts() for record in one_by_one(part.records)]
    assert all(adds_up(table) for table in file.report.tables)
    assert file.report.total("taken") == len(records)
    rows = {}
    for one in found:
        rows.setdefault(one.finding, []).append(one.row)
    return records, rows, file.report


def written(tmp_path, *lines, end="\n"):
    path = tmp_path / NAME
    path.write_bytes(b"".join(line if isinstance(line, bytes) else (line + end).encode() for line in lines))
    return path


def test_a_cell_without_end_is_reported_and_not_taken_for_a_blank_row(tmp_path):
    records, rows, report = read(written(tmp_path, HEADER, row(1), row(2, "长" * 1_100_000), row(3)))
    assert [record.row for record in records] == [2, 4]
    assert rows == {Finding.WRONG_COLUMNS: [3]}
    assert report.total("read") == 4


def test_the_end_of_a_line_inside_a_cell_is_reported_and_not_taken_for_a_blank_row(tmp_path):
    records, rows, _report = read(written(tmp_path, HEADER, row(1), row(2).replace("张三", "张\r三"), row(3)))
    assert [record.row for record in records] == [2, 4]
    assert rows == {Finding.WRONG_COLUMNS: [3]}


@pytest.mark.parametrize("broken", ['"' + row(3), row(3).replace("李四", '"李四'), row(3, '"再婚')])
@pytest.mark.parametrize("closed", [None, 6], ids=["never closed", "closed by a later row's quote"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quote_without_an_end_costs_its_own_row_and_no_other(tmp_path, broken, closed, end):
    lines = [HEADER, *map(row, range(1, 9))]
    lines[3] = broken
    if closed is not None:
        lines[closed] = row(closed, '"补领"')
    records, rows, report = read(written(tmp_path, *lines, end=end))
    assert [record.row for record in records] == [2, 3, 5, 6, 7, 8, 9]
    assert rows == {Finding.WRONG_COLUMNS: [4]}
    assert report.total("read") == 9


def test_two_rows_made_one_by_their_quotes_are_two(tmp_path):
    records, rows, _report = read(written(tmp_path, HEADER, row(1, '"再婚'), row(2, '"补领"'), row(3)))
    assert [record.row for record in records] == [3, 4]
    assert rows == {Finding.WRONG_COLUMNS: [2]}


def test_cells_of_several_lines_stay_one_cell(tmp_path):
    lines = [HEADER.replace("男方姓名", '"男方\n姓名"'), *map(row, range(1, 5))]
    lines[2] = '"J001-002-\n0001-002"' + row(2)[16:]
    lines[3] = row(3, '"第一行\n\n第二行"')
    records, rows, _report = read(written(tmp_path, *lines))
    assert [record.row for record in records] == [3, 4, 6, 9]
    assert not rows
    assert records[2].cells[5] == "第一行\n\n第二行"


def test_rows_in_another_encoding_are_told_by_their_own_numbers_among_swallowed_ones(tmp_path):
    gbk = (row(3) + "\n").encode("gbk")
    records, rows, _report = read(written(tmp_path, HEADER, '"' + row(1), row(2), gbk, row(4)))
    assert [record.row for record in records] == [3, 4, 5]
    assert rows == {Finding.WRONG_COLUMNS: [2], Finding.OTHER_ENCODING: [4]}


def fields(path, mapping=None):
    """(row, reason, field, detail) of each finding about a file."""
    found = []
    file = CatalogueFile(path, mapping=mapping or Mapping(), report=found.append)
    for part in file.parts():
        list(part.records)
    return [(one.row, one.finding.value, one.field, one.detail) for one in found]


def damaged(text, *broken):
    """A line of UTF-8 in which the first byte of each of these words has become one that nothing begins with."""
    line = text.encode()
    for word in broken:
        line = line.replace(word.encode(), b"\xff" + word.encode()[1:])
    return line + b"\n"


@pytest.mark.parametrize(
    ("line", "finding", "field"),
    [
        (damaged(row(2), "李四"), "undecodable", "wife"),
        (damaged(row(2, "再婚"), "张三", "再婚"), "undecodable", "husband remark"),
        (damaged(row(2, "早已损坏\ufffd"), "李四"), "undecodable", "wife"),
        (damaged(row(2).replace("李四", '"李,四"'), "李,四"), "undecodable", "wife"),
        (damaged(row(2).replace("李四", '"王\n李四"'), "李四"), "undecodable", "wife"),
        (damaged(row(2).replace("崇福镇", "洲泉镇"), "洲泉镇"), "undecodable", "登记地点"),
        ((row(2) + "\n").encode("gbk"), "other_encoding", "husband wife 登记地点"),
        (row(2, '"甲\n').encode() + '乙"\n'.encode("gbk"), "other_encoding", "remark"),
        (row(2, '"甲\n').encode("gbk") + damaged('乙"', "乙"), "undecodable", "remark"),
    ],
    ids=["a cell", "two cells", "not what was lost before", "a cell with a delimiter", "the second line of a cell", "a heading", "all but ASCII", "a line of a cell", "the worse of two lines"],
)  # fmt: skip
def test_of_a_line_of_other_bytes_the_fields_are_named_and_not_what_stood_there(
    tmp_path, line, finding, field
):
    path = written(tmp_path, HEADER, row(1), line, *map(row, range(3, 9)))
    assert fields(path) == [(3, finding, field, "")]


def test_fields_are_named_in_a_file_of_gbk_and_among_swallowed_rows_too(tmp_path):
    lines = [(line + "\n").encode("gbk") for line in (HEADER, *map(row, range(1, 9)))]
    lines[3] = (row(3) + "\n").encode()
    lines[5] = lines[5].replace("四".encode("gbk"), b"\xff\xc4")
    assert fields(written(tmp_path, *lines)) == [
        (4, "other_encoding", "husband wife 登记地点", ""),
        (6, "undecodable", "wife", ""),
    ]
    lines[2] = b'"' + lines[2]
    assert fields(written(tmp_path, *lines)) == [
        (3, "wrong_columns", "", ""),
        (4, "other_encoding", "husband wife 登记地点", ""),
        (6, "undecodable", "wife", ""),
    ]


def test_a_damaged_line_that_can_not_be_cut_names_its_row_alone(tmp_path):
    line = damaged('"' + row(2), "李四")
    assert fields(written(tmp_path, HEADER, row(1), line, *map(row, range(3, 9)))) == [
        (3, "wrong_columns", "", "")
    ]


def test_of_a_line_of_fixed_width_the_fields_of_other_bytes_are_named(tmp_path):
    widths = (("档号", 12), ("姓名", 8), ("单位", 8), ("招工日期", 8))
    at = 1
    columns = []
    for heading, width in widths:
        columns.append(FixedColumn(heading, at, width))
        at += width

    def line(number, encoding="gbk", unit="棉纺厂"):
        texts = (f"J001-001-00{number}", "张三", unit, "19850501")
        return b"".join(
            text.encode(encoding).ljust(width) for text, (_heading, width) in zip(texts, widths, strict=True)
        )

    lines = [line(1), line(2).replace("三".encode("gbk"), b"\xff\xfd"), line(3, "utf-8", "厂"), line(4)]
    path = tmp_path / "招工.txt"
    path.write_bytes(b"\n".join(lines) + b"\n")
    mapping = Mapping(category="recruitment", columns=tuple(columns))
    assert fields(path, mapping) == [
        (2, "undecodable", "name", ""),
        (3, "other_encoding", "name 单位", ""),
    ]


def test_a_nul_near_the_beginning_does_not_make_a_catalogue_binary(tmp_path):
    records, rows, _report = read(
        written(tmp_path, HEADER, row(1).replace("张", "张\0"), *map(row, range(2, 9)))
    )
    assert len(records) == 8
    assert rows == {Finding.CONTROL_CHARACTERS: [2]}


def dbf(*records, counted=None):
    fields = b"".join(
        struct.pack("<11sc4xB15x", name.encode("gbk"), b"C", length)
        for name, length in (("档号", 20), ("姓名", 10))
    )
    head = struct.pack("<B3sIHH20x", 3, b"\x63\x01\x01", len(records) if counted is None else counted, 97, 31)
    return head + fields + b"\r" + b"".join(records)


def person(number):
    return b" " + f"J1-1-1-{number}".encode().ljust(20) + "张三".encode("gbk").ljust(10)


def test_a_dbf_file_cut_short_says_where_it_ends(tmp_path):
    path = tmp_path / "退伍军人.dbf"
    path.write_bytes(dbf(person(1), person(2)[:12], counted=4_000_000_000))
    records, rows, report = read(path)
    assert len(records) == 1
    assert rows[Finding.CUT_SHORT] == [2]
    assert report.total("quarantined") == 1


def test_a_dbf_file_cut_inside_its_header_is_none(tmp_path):
    path = tmp_path / "退伍军人.dbf"
    path.write_bytes(dbf(person(1))[:70].ljust(80, b"\1"))
    with pytest.raises(NotACatalogueError, match="DBF"):
        read(path)


def workbook(path, *cells):
    """A workbook of one sheet, whose header is `HEADER` and whose other cells are these (reference, text)."""
    inline = '<c r="{}" t="inlineStr"><is><t>{}</t></is></c>'
    header = "".join(
        inline.format(f"{'ABCDEF'[place]}1", text) for place, text in enumerate(HEADER.split(","))
    )
    below = "".join(
        f'<row r="{place.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")}">{inline.format(place, text)}</row>'
        for place, text in cells
    )
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="a" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="a" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="S" sheetId="1" r:id="a"/></sheets></workbook>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData><row r="1">{header}</row>{below}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return path


def test_a_cell_at_the_far_corner_of_a_sheet_is_told_and_does_not_end_the_process(tmp_path):
    path = workbook(tmp_path / "结婚登记.xlsx", ("A2", "J1-1-1-1"), ("XFD1048576", "x"))
    with pytest.raises(NotACatalogueError, match="too far apart"):
        read(path)


def test_a_number_without_end_in_a_sheet_is_a_wrong_date(tmp_path):
    path = workbook(tmp_path / "结婚登记.xlsx", ("A2", "J1-1-1-1"))
    text = '<row r="3"><c r="A3" t="inlineStr"><is><t>J1-1-1-2</t></is></c><c r="B3" t="inlineStr"><is><t>张三</t></is></c><c r="D3"><v>1e999</v></c></row></sheetData>'
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part.replace("</sheetData>", text))
    records, rows, _report = read(path)
    assert len(records) == 1
    assert rows[Finding.IMPOSSIBLE_DATE] == [3]


def test_a_pipe_is_no_file_to_wait_for(tmp_path):
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(NotACatalogueError, match="pipe"):
        read(tmp_path / NAME)
