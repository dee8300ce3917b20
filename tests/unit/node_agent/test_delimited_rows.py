"""Rows of a delimited file that are cut many at once are those the csv module reads, whatever the file holds."""

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node_agent.catalogue import delimited, readers
from node_agent.catalogue.findings import Finding
from node_agent.catalogue.mapping import FixedColumn, Mapping
from node_agent.catalogue.tables import EvenRows, RowStream

LINES = st.lists(
    st.sampled_from(["王芳,1985,是", "a,b,c", ",,", "", '"a,b",c,d', '"一\n二",c,d', 'x"y,b,c', "a,b", "a,b,c,d", "\x1a", "a\rb,c,d", "\0a,b,c"]),
    max_size=30,
)  # fmt: skip


def read_at_once(text):
    """(number, cells, problem) of each row as the csv module gives them, the whole text before it."""
    reader = csv.reader(io.StringIO(text.replace("\0", "\x01"), newline="\n"))
    rows, before = [], 0
    while True:
        try:
            cells = next(reader)
        except csv.Error:
            rows.append((before + 1, [], Finding.WRONG_COLUMNS))
        except StopIteration:
            return rows
        else:
            if cells != ["\x1a"]:
                rows.append((before + 1, cells, None))
        before = reader.line_num


@settings(deadline=None, max_examples=300)
@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.integers(1, 60))
@example(["a,b,c", "a,b,c", '"一\n二",c,d', "a,b,c"], "\n", True, 6)
@example(["a,b,c", "a,b", "a,b,c,d", "a,b,c"], "\n", True, 60)
@example(["a,b,c", '"open', "a,b,c", "a,b,c"], "\n", True, 6)
def test_rows_are_those_of_the_csv_module(tmp_path_factory, lines, ending, ended, together):
    text = ending.join(lines) + (ending if ended else "")
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "_TOGETHER", together)  # bytes
        rows = list(RowStream(delimited._csv_rows(path, "utf-8", b"\n", ",", 0, {})))
    assert rows == read_at_once(text)


def test_a_clean_file_is_cut_many_rows_at_once(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("档号,姓名\n" + "J1,王芳\n" * 500, "utf-8")
    (table,) = readers.open_tables(path, Mapping())
    assert list(map(type, table.rows)) == [EvenRows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("together", [40, 256 * 1024])
def test_lines_that_end_in_cr_alone_are_lines(tmp_path, monkeypatch, encoding, together):
    monkeypatch.setattr(delimited, "_TOGETHER", together)
    lines = ["檔號,姓名", "J1,王芳", 'J2,"陳\n靜"', *[f"J{number},錢偉明" for number in range(3, 40)]]
    rows = []
    for end in ("\n", "\r"):
        path = tmp_path / "a.csv"
        path.write_bytes((end.join(lines) + end).replace("\n", end).encode(encoding))
        (table,) = readers.open_tables(path, Mapping())
        rows.append(
            [
                (number, [cell.replace("\r", "\n") for cell in cells], problem)
                for number, cells, problem in RowStream(table.rows)
            ]
        )
    assert rows[1] == rows[0]
    assert [number for number, _cells, _problem in rows[1]] == [1, 2, 3, *range(5, 42)]
    assert rows[1][2][1] == ["J2", "陳\n靜"]


def test_clean_lines_that_end_in_cr_alone_are_cut_many_at_once(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(("档号,姓名\r" + "J1,王芳\r" * 500).encode())
    (table,) = readers.open_tables(path, Mapping())
    assert list(map(type, table.rows)) == [EvenRows]


def test_a_file_that_begins_with_cr_alone_and_goes_on_with_lf_keeps_all_its_lines(tmp_path):
    path = tmp_path / "a.csv"
    old, new = "J1,王芳\r" * 80_000, "J2,王芳\n" * 3 + "J3,王芳\r\n" * 3
    path.write_bytes(("档号,姓名\r" + old + new).encode("gb18030"))
    (table,) = readers.open_tables(path, Mapping())
    rows = list(RowStream(table.rows))
    assert len(rows) == rows[-1][0] == 80_007
    assert all(len(cells) == 2 and problem is None for _number, cells, problem in rows)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_lines_of_fixed_width_may_end_in_cr_alone(tmp_path, end):
    path = tmp_path / "a.txt"
    path.write_bytes((f"J1  王芳{end}J2  陈静{end}").encode("gb18030"))
    mapping = Mapping(columns=(FixedColumn("档号", 1, 4), FixedColumn("姓名", 5, 4)))
    (table,) = readers.open_tables(path, mapping)
    assert list(table.rows) == [(1, ["J1", "王芳"], None), (2, ["J2", "陈静"], None)]


def test_lines_of_another_encoding_are_told_and_those_after_them_cut_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "_TOGETHER", 40)
    path = tmp_path / "a.csv"
    other = '"李\n明",李明\n'.encode("gb18030")  # a row of two lines
    path.write_bytes("档号,姓名\nJ1,王芳\n".encode() + other + "J3,陈静\n".encode() * 9)
    (table,) = readers.open_tables(path, Mapping(encoding="utf-8"))
    parts = list(table.rows)
    assert isinstance(parts[-1], EvenRows)
    rows = list(RowStream(parts))
    assert [number for number, _cells, _problem in rows] == [1, 2, 3, *range(5, 14)]
    assert [problem for _number, _cells, problem in rows] == [None] * 2 + [Finding.OTHER_ENCODING] + [
        None
    ] * 9
    assert rows[2][1] == ["李\n明", "李明"]


def test_a_stream_gives_rows_one_by_one_and_then_in_blocks():
    loose = [(number, [str(number)], None) for number in range(1, 4)]
    even = EvenRows(4, [["4", "5", "6"]])
    more = [(number, [str(number)], None) for number in range(7, 12)]

    def flat(blocks):
        return [row for one in blocks for row in (RowStream([one]) if isinstance(one, EvenRows) else one)]

    everything = flat([loose, even, more])
    for taken in range(12):
        for back in (False, True):
            stream = RowStream([*loose, even, *more])
            rows = [next(stream) for _ in range(taken)]
            if back and rows:
                stream.give_back(rows.pop())
            blocks = list(stream.blocks(2))
            assert rows + flat(blocks) == everything
            assert all(len(one) <= 2 for one in blocks if not isinstance(one, EvenRows))
