"""What is done for many at once gives what doing it for each gives."""

import random
import sqlite3
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.identity_number import canonical, check_digit
from federation.keys import Keyer
from federation.names import SOUNDS, fold, fold_text, fuzzy_syllables
from federation.names.folding import FOLD
from federation.names.many import NO_SOUND, fold_texts, sounds_of
from loadtest.people import write_csv
from node_agent.catalogue.files import CatalogueFile
from node_agent.catalogue.identity_numbers import read_numbers
from node_agent.catalogue.mapping import Mapping
from node_agent.catalogue.names import PLAIN_NAME, doubtful_cells, is_plain, odd_names
from node_agent.index import builder, postings, rows, schema
from node_agent.index.many_keys import ManyKeys
from node_agent.index.payload import digests_of, encode
from node_agent.index.seen import Seen
from node_agent.index.titles import bigrams
from node_agent.record import Person, Record, Records, one_by_one

TEXTS = st.lists(st.text("王錢偉·-（é_A1 \n\x1f\x07＇'＿&浠鐢", max_size=8), max_size=60)


@settings(deadline=None)
@given(TEXTS)
def test_texts_fold_alike_alone_and_together(texts):
    assert fold_texts(texts) == [fold_text(text) for text in texts]


def test_every_character_folds_alike_alone_and_among_all_others():
    chars = [chr(code) for code in FOLD]
    assert fold_texts(chars) == [fold_text(char) for char in chars]


@settings(deadline=None)
@given(
    st.lists(
        st.text("王曾单于欧阳明\ue000A𠮷", max_size=5)
        | st.sampled_from(["单于明", "曾曾", "曾", "欧阳", "欧阳明"])
    )
)
def test_names_sound_alike_alone_and_together(names):
    folded = list(map(fold, names))
    sounds, lengths = sounds_of(folded)
    assert lengths.tolist() == list(map(len, folded))
    expected = [one for name in folded for one in fuzzy_syllables(name)]
    assert [
        char if place == NO_SOUND else SOUNDS[place]
        for place, char in zip(sounds.tolist(), "".join(folded), strict=True)
    ] == expected


@settings(deadline=None)
@given(TEXTS)
def test_titles_have_the_same_terms_alone_and_together(titles):
    assert bigrams(titles) == [bigrams([title])[0] for title in titles]


def test_a_title_is_cut_into_overlapping_pairs_and_its_last_character():
    assert bigrams(["錢偉明", "王", "", "钱 A-伟明"]) == ["钱伟 伟明 明", "王", "", "钱A A伟 伟明 明"]


@settings(deadline=None)
@given(TEXTS)
def test_doubtful_cells_are_those_that_are_not_plain(cells):
    doubtful = doubtful_cells(cells)
    assert {place for place, cell in enumerate(cells) if not is_plain(cell)} <= doubtful
    if not any("\x1f" in cell for cell in cells):
        assert {place for place, cell in enumerate(cells) if not is_plain(cell)} == doubtful


@given(st.lists(st.text("王錢子女名婴㐂A𠮷 ", max_size=4), max_size=40))
def test_odd_names_are_those_that_are_not_plain(names):
    assert odd_names(names) == [
        place for place, name in enumerate(names) if name and not PLAIN_NAME.fullmatch(name)
    ]


def number(dice):
    born = f"{dice.choice([dice.randrange(1850, 2030), dice.randrange(10_000)]):04d}"
    born += f"{dice.randrange(14):02d}{dice.randrange(33):02d}"
    body = f"330402{born}{dice.choice([dice.randrange(1_000), 995, 996, 999]):03d}"
    spoilt = list(body)
    spoilt[dice.randrange(17)] = dice.choice("aX /:１ é")
    return dice.choice(
        [
            body + check_digit(body),
            body + dice.choice("0123456789Xx"),
            body[:6] + body[8:],
            "",
            "".join(spoilt),
        ]
    )


def test_identity_numbers_are_read_alike_alone_and_together():
    dice = random.Random(5)
    for size in (0, 1, 2, 3, 50, 5_000):
        texts = [number(dice) for _ in range(size)]
        read, alone = read_numbers(texts), list(map(canonical, texts))
        assert read.numbers == [one or "" for one in alone]
        assert read.wrong.tolist() == [
            text != "" and one is None for text, one in zip(texts, alone, strict=True)
        ]
        assert read.births.tolist() == [int(one[6:14]) if one else 0 for one in alone]


@settings(deadline=None)
@given(
    st.lists(
        st.lists(
            st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 40).map(lambda n: n << 14), max_size=200
        ),
        max_size=8,
    )
)
def test_numbers_are_seen_alike_alone_and_together(batches):
    together, held, place = Seen(), {}, 0
    for batch in batches:
        places = range(place + 1, place + 1 + len(batch))
        place += len(batch)
        expected = []
        for one, at in zip(batch, places, strict=True):
            expected.append(held.get(one, 0))
            held.setdefault(one, at)
        assert together.first_of(np.array(batch, dtype=np.int64), np.array(places)).tolist() == expected


def test_a_table_of_numbers_seen_grows_under_many():
    together = Seen()
    numbers = np.array([hash((one, "number")) for one in range(40_000)])
    for start in range(0, 40_000, 3_000):
        part = numbers[start : start + 3_000]
        assert not together.first_of(part, np.arange(start + 1, start + 1 + len(part))).any()
    assert together.first_of(numbers, np.full(40_000, 99_999)).tolist() == list(range(1, 40_001))


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_rows_go_in_by_the_hundred_and_all_of_them(count):
    connection = sqlite3.connect(":memory:")
    connection.execute("create table two(a, b)")
    rows.insert(connection, "two", (list(range(count)), [str(one) for one in range(count)]))
    assert connection.execute("select * from two").fetchall() == [(one, str(one)) for one in range(count)]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    file = tmp_path_factory.mktemp("people") / "people.csv"
    write_csv(file, 3_000, seed=8)
    (part,) = CatalogueFile(file, mapping=Mapping()).parts()
    return list(one_by_one(part.records))


def built(path, people, size):
    """Postings and rows of an index of these people, added `size` at a time."""
    one = builder.Builder(path, Keyer(b"secret"), 1)
    source = one.source("people.csv", "", bytes(16), "[]")
    for start in range(0, len(people), size):
        some = Records.of(people[start : start + size])
        encoded = encode(some)
        one.add(some, np.full(len(some), source), encoded, digests_of(some, encoded))
    one.finish()
    connection = sqlite3.connect(path)
    held = connection.execute("select rid, cat, year, place, flags, digest, code from rec").fetchall()
    found = [
        (h, value)
        for h, last, packed in connection.execute("select h, last, v from k order by h, last")
        for value in ((last,) if packed is None else array("q", packed))
    ]
    tally = connection.execute("select * from holdings").fetchall()
    connection.close()
    return held, found, tally


def test_an_index_is_the_same_whatever_the_batches_and_whether_keys_were_spilled(
    tmp_path, people, monkeypatch
):
    whole = built(tmp_path / "whole.sqlite", people, 2_000)
    assert whole[1] == sorted(set(whole[1]))
    monkeypatch.setattr(builder, "_SPILL_AT", 2_000)
    monkeypatch.setattr(builder, "BATCH", 500)
    assert built(tmp_path / "spilled.sqlite", people, 700) == whole
    assert not list(tmp_path.glob("*.spill"))


def test_the_postings_of_a_popular_name_stay_inside_their_pages(tmp_path, people):
    built(tmp_path / "popular.sqlite", people[:1] * 600, 2_000)
    connection = sqlite3.connect(tmp_path / "popular.sqlite")
    longest = connection.execute("select max(length(v)) from k").fetchone()[0]
    connection.close()
    assert longest == 8 * postings.CHUNK
    inside_a_page = (
        schema.PAGE - 12
    ) * 64 // 255 - 23  # https://www.sqlite.org/fileformat2.html, index b-trees
    assert longest + 4 + 6 + 8 <= inside_a_page  # beside the header, key and last value of the row


def test_keys_and_ranks_too_long_for_one_number_are_sorted_in_parts(tmp_path, people, monkeypatch):
    whole = built(tmp_path / "whole.sqlite", people, 2_000)
    monkeypatch.setattr(builder, "_WORD", 45)  # bits: a rank of 12, and 33 of a key
    assert built(tmp_path / "parts.sqlite", people, 2_000) == whole


def test_the_keys_of_many_records_are_those_of_each(people):
    keyer = Keyer(b"secret")
    odd = [
        "欧阳修远",
        "买买提艾力",
        "王",
        "李\ue000",
        "曾曾",
        "单于明",
        "A",
        "王AB",
        "𠮷明",
        "",
        "·",
        "王芳芳",
    ]
    records = people + [
        Record(
            "marriage",
            "J1",
            "",
            "",
            (Person(name, aliases=(name[::-1],)), Person("李明", aliases=("王\ud800",))),
        )
        for name in odd
    ]
    keys, owners = builder.matching_keys(Records.of(records), ManyKeys(keyer))
    of = {place: set() for place in range(len(records))}
    for key, owner in zip(keys.tolist(), owners.tolist(), strict=True):
        of[owner].add(key)
    assert [of[place] for place in range(len(records))] == [
        builder.record_keys(one, keyer) for one in records
    ]
