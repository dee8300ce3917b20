"""The index against a list in memory that does the same the slow way, over any records and any changes of a file."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import string
import time

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace as replaced

from federation.dates import DateSpan
from federation.keys import Keyer
from federation.query import Query
from node_agent.index import (
    HeldFile,
    HeldTable,
    Lookup,
    Part,
    Reading,
    Writing,
    open_for_import,
    open_for_preview,
)
from node_agent.index.builder import record_keys
from node_agent.index.folder import DataFolder
from node_agent.index.opened import OpenIndex
from node_agent.index.packing import rid_of, year_in
from node_agent.index.titles import contains
from node_agent.record import Person, Record, Role
from tests.fakes.timing import is_held_up

QUICK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

names = st.text("钱錢伟偉明王芳李丽周羣群军", min_size=1, max_size=4)
years = st.one_of(st.none(), st.integers(1931, 2010))
codes = st.text("J012-", min_size=1, max_size=6)


@st.composite
def records(draw):
    year = draw(years)
    return Record(
        category=draw(st.sampled_from(["marriage", "student"])),
        archival_code=draw(codes),
        raw_code="",
        title=draw(st.text("钱伟明学籍登记 卡", max_size=8)),
        persons=tuple(Person(name, Role.SUBJECT) for name in draw(st.lists(names, min_size=1, max_size=2))),
        event=DateSpan.of_year(year) if year else None,
        place=draw(st.sampled_from(["", "330483", "330402"])),
        cells=(draw(st.text(string.printable, max_size=8)),),
    )


rows = st.lists(records(), max_size=30)


def put(folder, records, file="a.csv"):
    with open_for_import(folder) as importer:
        writing: Writing = importer
        return writing.put(file, bytes(16), [Part("", ("x",), records)])


def shown(record):
    """What must come back of a record, whatever its number."""
    return (
        record.category, record.archival_code, record.title, tuple(one.name for one in record.persons), record.event,
        record.place, record.cells,
    )  # fmt: skip


def fetched(lookup, rids):
    return sorted(map(repr, map(shown, lookup.fetch(rids).values())))


def expected(records):
    return sorted(repr(shown(one)) for one in records)


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("archive")


def check_against(folder, held, name, first, last, category, code, words):
    lookup: Reading = Lookup(folder)
    try:
        keyer = Keyer(DataFolder(folder).index_key())
        key = keyer.exact_name_key(name)
        found = lookup.scan([key], first, last, category)
        wanted = [
            one
            for one in held
            if key in record_keys(one, keyer)
            and (not category or one.category == category)
            and (not first or one.event is None or first <= one.event.first_year <= last)
        ]
        assert fetched(lookup, [rid_of(value) for value in found]) == expected(wanted)
        nobody = keyer.exact_name_key("无名氏")  # several keys are read by another statement than one
        assert sorted(lookup.scan([key, nobody], first, last, category)) == sorted(found)
        assert fetched(lookup, lookup.prefix(code, 100)) == expected(
            [one for one in held if one.archival_code.startswith(code)]
        )
        if words.strip():
            assert fetched(lookup, lookup.title(words, 100)) == expected(
                [one for one in held if contains(one.title, words)]
            )
        assert lookup.holdings().records == len(held)
    finally:
        lookup.close()


@QUICK
@given(
    first_version=rows.filter(bool), second_version=rows, name=names, span=st.integers(0, 40), start=st.integers(1931, 2000),
    category=st.sampled_from(["", "marriage", "student"]), code=codes, words=st.sampled_from(["伟明", "学籍", "登记 卡", "卡"]),
)  # fmt: skip
def test_every_call_gives_what_a_list_in_memory_gives(
    tmp_path_factory, first_version, second_version, name, span, start, category, code, words
):
    folder = tmp_path_factory.mktemp("archive")
    put(folder, first_version)
    check_against(folder, first_version, name, start, start + span, category, code, words)
    check_against(folder, first_version, name, 0, 0, category, code, words)
    put(folder, second_version)  # most of these are changes inside the file
    check_against(folder, second_version, name, start, start + span, category, code, words)


@QUICK
@given(held=rows.filter(bool), other=rows.filter(bool))
def test_counts_add_up_and_the_same_file_again_changes_nothing(tmp_path_factory, held, other):
    folder = tmp_path_factory.mktemp("archive")
    first = put(folder, held)
    assert (first.imported, first.updated, first.unchanged, first.removed) == (len(held), 0, 0, 0)
    stamp = DataFolder(folder).current().stat().st_mtime_ns
    again = put(folder, held)
    assert (again.imported, again.updated, again.unchanged, again.removed) == (0, 0, len(held), 0)
    assert DataFolder(folder).current().stat().st_mtime_ns == stamp
    changed = put(folder, other)
    assert changed.imported + changed.updated + changed.unchanged == len(other)
    assert changed.unchanged + changed.updated + changed.removed == len(held)


@QUICK
@given(
    held=rows.filter(bool), other=rows.filter(bool), name=names, category=st.sampled_from(["", "marriage"]), code=codes,
    words=st.sampled_from(["伟明", "登记 卡"]), is_large=st.booleans(),
)  # fmt: skip
def test_a_file_that_is_taken_out_leaves_what_the_others_hold(
    tmp_path_factory, held, other, name, category, code, words, is_large
):
    folder = tmp_path_factory.mktemp("archive")
    put(folder, other, "b.csv")
    put(folder, [*held, *(many(600) if is_large else [])], "a.csv")  # 600 are too many for a transaction
    check_taken_out(folder, "a.csv", {"b.csv": other})
    check_against(folder, other, name, 0, 0, category, code, words)
    put(folder, held, "c.csv")
    check_taken_out(folder, "b.csv", {"c.csv": held})
    check_against(folder, held, name, 0, 0, category, code, words)
    check_taken_out(folder, "c.csv", {})
    check_against(folder, [], name, 0, 0, category, code, words)
    put(folder, other, "a.csv")
    check_against(folder, other, name, 0, 0, category, code, words)


def check_taken_out(folder, file, left):
    """Takes a file out, sees that it is gone by its name, and that one that is not there changes nothing."""
    before = Lookup(folder).holdings()
    with open_for_preview(folder) as preview:
        (size,) = [one.records for one in preview.files() if one.name == file]
        assert preview.remove(file).removed == size
    with open_for_import(folder) as importer:
        writing: Writing = importer
        assert writing.remove(file).removed == size
        assert {one.name: one.records for one in writing.files()} == {
            name: len(records) for name, records in left.items()
        }
        after = Lookup(folder).holdings()
        assert (after.epoch, after.records) == (before.epoch + 1, before.records - size)
        assert writing.remove(file).removed == 0
    assert Lookup(folder).holdings().epoch == after.epoch


def test_files_are_told_with_their_tables_categories_and_bytes(folder):
    with open_for_import(folder) as importer:
        assert importer.files() == []
        marriages, students = many(3), [replaced(one, category="student") for one in many(2)]
        importer.put("b.xlsx", b"b" * 16, [Part("一", ("x",), marriages), Part("二", ("x",), students)])
        for records in (many(1), []):  # its last record is corrected away
            importer.put("a.csv", b"a" * 16, [Part("", ("x",), records)])
        files = importer.files()
    with open_for_preview(folder) as preview:
        assert preview.files() == files
    assert files == [
        HeldFile("a.csv", b"a" * 16, (HeldTable("", {}),)),
        HeldFile("b.xlsx", b"b" * 16, (HeldTable("一", {"marriage": 3}), HeldTable("二", {"student": 2}))),
    ]
    assert (files[1].records, files[1].categories) == (5, {"marriage": 3, "student": 2})


def many(count, name="钱伟明", file=""):
    return [
        Record(
            "marriage", f"J1-{file}{number:06d}", "", f"{name}结婚登记", (Person(name),), DateSpan.of_year(1980 + number % 20)
        )
        for number in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2_500])
def test_the_same_row_twice_in_a_file_is_two_records_whenever_it_came(folder, count):
    """As a first import, as a file beside others, and when the file comes again with one fewer or one more."""

    def one(number):
        return Record("marriage", f"J-{number}", "", "", (Person("王芳"),))

    several = [one(number) for number in range(count)]
    for file in ("a.csv", "b.csv"):
        assert put(folder, [*several, one(0), one(0)], file).imported == count + 2
        assert put(folder, [*several, one(0), one(0)], file).unchanged == count + 2
        fewer = put(folder, [*several, one(0)], file)
        assert (fewer.unchanged, fewer.removed) == (count + 1, 1)
        more = put(folder, [one(0), *several, one(0)], file)
        assert (more.unchanged, more.imported) == (count + 1, 1)
    assert len(Lookup(folder).prefix("J-0", limit=9)) == 6


def test_an_import_removes_what_killed_ones_left_and_nothing_of_others(folder):
    put(folder, many(3))
    current = DataFolder(folder).current().name
    others = [
        "archive.toml.new", "node.pem.new", "spoils.spill", "index.notes.spill", "index.3.sqlite.bak", "index.key.old",
        "index.3.sqlite.spill", "index.key.new", "index.key.12.new", "messenger.key.7.new", "node.key.9.new",
    ]  # fmt: skip
    left = [
        "CURRENT.new", "index.7.sqlite", "index.7.sqlite-wal", "index.7.sqlite-shm", "index.7.sqlite-journal",
        "index.7.sqlite.12.keys.spill", "index.7.sqlite.12.owners.spill", f"{current}.0.keys.spill",
        "index.key.13.new", "federation.key.14.new", "messenger.key.15.new",
    ]  # fmt: skip
    for name in (*others, *left):
        (folder / name).write_bytes(b"x")
    for name in ("index.key.13.new", "federation.key.14.new", "messenger.key.15.new", "node.key.9.new"):
        yesterday = time.time() - 90_000
        os.utime(folder / name, (yesterday, yesterday))

    def names():
        return {
            path.name for path in folder.iterdir() if path.name not in {f"{current}-wal", f"{current}-shm"}
        }

    before = names()
    put(folder, many(3))
    assert before - names() == set(left)
    assert names() <= before


DAY_S = 86_400


def test_an_index_put_back_from_a_backup_is_as_old_as_its_import(folder, tmp_path, monkeypatch):
    """A copy has the time of the copying: what was imported a month ago is not the catalogue of today."""
    real = time.time
    for days, count in (
        (30, 1_000),
        (20, 1_020),
        (10, 3_000),
    ):  # a first file, a change inside it, a new file
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda days=days: real() - days * DAY_S)
            put(folder, many(count))
        copied = tmp_path / f"put back {days}"
        shutil.copytree(folder, copied, copy_function=shutil.copyfile)
        assert Lookup(copied).holdings().age_s // DAY_S == days
    assert put(folder, many(3_000)).unchanged == 3_000
    assert Lookup(folder).holdings().age_s // DAY_S == 10
    put(folder, many(3_001))
    assert Lookup(folder).holdings().age_s < DAY_S


def test_an_index_that_does_not_tell_its_import_is_as_old_as_its_file(folder):
    put(folder, many(3))
    path = DataFolder(folder).current()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("delete from meta where name='imported_at'")
    path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
    before = time.time() - 5 * DAY_S
    os.utime(path, (before, before))
    assert Lookup(folder).holdings().age_s // DAY_S == 5
    put(folder, many(4))
    assert Lookup(folder).holdings().age_s < DAY_S


def test_another_file_is_left_alone_by_a_change_and_by_a_rebuild(folder):
    put(folder, many(700, "王芳", "b"), "b.csv")
    put(folder, many(20), "a.csv")  # small: inside the file
    epoch_small = Lookup(folder).holdings().epoch
    put(folder, many(5_000), "a.csv")  # large: a new file
    lookup = Lookup(folder)
    assert lookup.holdings().records == 5_700
    assert lookup.holdings().epoch > epoch_small
    assert len(lookup.prefix("J1-b", 1_000)) == 700
    put(folder, [], "a.csv")
    assert Lookup(folder).holdings().records == 700


def test_a_popular_name_spans_many_chunks_and_keeps_its_order_under_changes(folder):
    held = many(1_500)
    put(folder, held)
    put(folder, held[:700] + held[710:] + many(30, "钱伟明", "new"))
    lookup = Lookup(folder)
    keyer = Keyer(DataFolder(folder).index_key())
    values = lookup.scan([keyer.exact_name_key("钱伟明")], limit=10_000)
    assert len(values) == 1_520
    assert values == sorted(values)
    assert (
        lookup.scan([keyer.exact_name_key("钱伟明")], 1985, 1987, limit=40)
        == [value for value in values if 1985 <= year_in(value) <= 1987][:40]
    )
    assert len(lookup.scan([keyer.exact_name_key("錢偉明")], 1985, 1985, limit=10_000)) == sum(
        one.event.first_year == 1985 for one in [*held[:700], *held[710:], *many(30)]
    )


def test_a_row_is_given_as_it_was_written_also_after_a_change_and_a_rebuild(folder):
    [record] = many(1)
    household = msgspec.structs.replace(record, cells=("钱伟明", " ", "妻", "王芳", "", "女"))
    for more in (0, 1, 5_000):  # a new file, a change inside it, another file
        parts = [Part("甲", ("姓名", "备注", "与户主关系"), [household]), Part("乙", (), many(700 + more))]
        with open_for_import(folder) as importer:
            importer.put("a.csv", bytes([more % 256]) * 16, parts)
        lookup = Lookup(folder)
        rows = [lookup.catalogue_row(rid) for rid in range(1, lookup.holdings().records + 1)]
        [row] = [one for one in rows if one is not None and one.table == "甲"]
        assert (row.file, row.cells) == (
            "a.csv", (("姓名", "钱伟明"), ("与户主关系", "妻"), ("姓名", "王芳"), ("与户主关系", "女"))
        )  # fmt: skip
        assert {heading for one in rows if one.table == "乙" for heading, _text in one.cells} <= {""}
        assert lookup.catalogue_row(10**6) is None
        lookup.close()


@pytest.mark.parametrize("change", [2, 5_000], ids=["inside the file", "another file"])
def test_calls_inside_reading_see_one_state_of_the_index(folder, change):
    put(folder, many(600))
    lookup = Lookup(folder)
    with lookup.reading():
        rids = lookup.prefix("J1-", 1_000)
        put(folder, many(600)[change:] + many(change, "王芳", "new"))
        time.sleep(0.03)  # as long as a reader takes a state for the newest without looking
        found = lookup.fetch(rids)  # by numbers that mean other records in another file
        assert {one.archival_code for one in found.values()} == {one.archival_code for one in many(600)}
    time.sleep(0.03)
    assert len(lookup.prefix("J1-new", 10_000)) == change


@pytest.mark.parametrize("more", [2, 5_000], ids=["the same file", "another file"])
def test_reading_goes_on_after_a_fault_that_ended_its_transaction(folder, more):
    put(folder, many(600))
    lookup = Lookup(folder)
    with lookup.reading():
        lookup._index().connection.execute("rollback")  # as SQLite does when the disk fails
        put(folder, many(600 + more))
        time.sleep(0.03)
        assert len(lookup.prefix("J1-", 10_000)) == 600 + more
    assert len(lookup.prefix("J1-", 10_000)) == 600 + more


def test_a_record_that_is_corrected_while_it_is_searched_for_is_found(folder, monkeypatch):
    held = many(300)
    put(folder, held)
    lookup = Lookup(folder)
    read_rows = OpenIndex.rows

    def correcting(*asked):
        if held[7].title:  # between its key and its row
            held[7].title = ""
            put(folder, held)
        return read_rows(*asked)

    monkeypatch.setattr(OpenIndex, "rows", correcting)
    answer = lookup.search(Query(name="钱伟明", event=DateSpan.of_year(1987)), limit=100)
    assert "J1-000007" in {found.code for found in answer.found}


def test_the_deadline_is_honoured_inside_a_scan(folder):
    put(folder, many(20_000))
    lookup = Lookup(folder)

    def ask() -> None:
        assert lookup.search(Query(name="钱伟明"), deadline=time.monotonic() + 0.002).soft_timeout

    assert not is_held_up(ask, 0.1)
    assert not lookup.search(Query(name="钱伟明"), deadline=time.monotonic() + 30).soft_timeout


def test_readers_of_another_file_see_one_version_or_the_other_while_imports_go_on(folder):
    import threading

    put(folder, many(600))
    lookup = Lookup(folder)
    seen, stop, failures = set(), threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                answer = lookup.search(
                    Query(category="marriage", name="钱伟明", event=DateSpan.of_year(1985)), limit=1
                )
                seen.add((answer.epoch, answer.records))
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for size in (5_000, 600, 5_000, 590):
        put(folder, many(size))
    time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert not failures
    assert {records for _epoch, records in seen} <= {600, 5_000, 590}
    assert len({epoch for epoch, _records in seen}) > 1
