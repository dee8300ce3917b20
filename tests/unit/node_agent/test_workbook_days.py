"""Days that a workbook keeps as plain numbers are counted from where the workbook begins to count: 1900 or 1904."""

import zipfile
from datetime import date

import pytest
import xlwt

from federation.dates import DateSpan
from node_agent.catalogue.day_zero import day_zero_of
from node_agent.catalogue.files import CatalogueFile
from node_agent.catalogue.mapping import Mapping
from node_agent.catalogue.tables import DAY_ZERO, DAY_ZERO_1904
from node_agent.record import one_by_one

HEADINGS = ("档号", "男方姓名", "男方出生日期", "女方姓名", "登记日期")
BORN, EVENT = date(1960, 2, 29), date(1985, 5, 1)


def rows(day_zero):
    """Three rows that say the same days: in cells formatted as dates, as plain numbers, and as the texts of these."""
    born, event = (BORN - day_zero).days, (EVENT - day_zero).days
    days = [(BORN, EVENT), (born, event), (str(born), str(event))]
    return [(f"J1-1-{number}", "张三", one, "李四", other) for number, (one, other) in enumerate(days)]


def read(path):
    file = CatalogueFile(path, mapping=Mapping())
    return [record for part in file.parts() for record in one_by_one(part.records)]


def as_xls(path, *, from_1904, day_zero):
    book = xlwt.Workbook()
    book.dates_1904 = from_1904
    sheet = book.add_sheet("S")
    as_day = xlwt.easyxf(num_format_str="YYYY-MM-DD")
    for number, cells in enumerate([HEADINGS, *rows(day_zero)]):
        for place, cell in enumerate(cells):
            sheet.write(number, place, cell, *([as_day] if isinstance(cell, date) else []))
    book.save(path)


OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def as_xlsx(path, *, from_1904, day_zero):
    def cell(reference, value):
        if isinstance(value, date):
            return f'<c r="{reference}" s="1"><v>{(value - day_zero).days}</v></c>'
        if isinstance(value, int):
            return f'<c r="{reference}"><v>{value}</v></c>'
        return f'<c r="{reference}" t="inlineStr"><is><t>{value}</t></is></c>'

    def row(number, values):
        cells = [cell(f"{column}{number}", value) for column, value in zip("ABCDE", values, strict=True)]
        return f'<row r="{number}">{"".join(cells)}</row>'

    below = "".join(row(number, cells) for number, cells in enumerate([HEADINGS, *rows(day_zero)], start=1))
    said = '<workbookPr date1904="1"/>' if from_1904 else "<workbookPr/>"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="a" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="a" Type="{OFFICE}/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="b" Type="{OFFICE}/styles" Target="styles.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}">{said}<sheets><sheet name="S" sheetId="1" r:id="a"/></sheets></workbook>',
        "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="14" applyNumberFormat="1"/></cellXfs></styleSheet>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{MAIN}"><sheetData>{below}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)


@pytest.mark.parametrize(("from_1904", "day_zero"), [(True, DAY_ZERO_1904), (False, DAY_ZERO)])
@pytest.mark.parametrize("write", [as_xls, as_xlsx])
def test_a_day_is_the_same_however_its_workbook_keeps_it(tmp_path, write, from_1904, day_zero):
    path = tmp_path / "结婚登记"
    write(path, from_1904=from_1904, day_zero=day_zero)
    records = read(path)
    assert [record.event for record in records] == [DateSpan.of_day(1985, 5, 1)] * 3
    assert [record.persons[0].birth for record in records] == [DateSpan.of_day(1960, 2, 29)] * 3
    assert records[1].cells[4] == str((EVENT - day_zero).days)  # as the archive wrote it


@pytest.mark.parametrize("keep", [4, 600, 5_000])
def test_a_workbook_that_is_cut_short_says_nothing(tmp_path, keep):
    path = tmp_path / "结婚登记.xls"
    as_xls(path, from_1904=True, day_zero=DAY_ZERO_1904)
    path.write_bytes(path.read_bytes()[:keep])
    assert day_zero_of(path) == DAY_ZERO
