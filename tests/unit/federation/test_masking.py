"""Masking shows no more than the first and the last character, and never changes what it shows."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.candidate import Candidate
from federation.levels import Levels
from federation.masking import mask_id, mask_name
from federation.wire.translate import candidate_from_wire, candidate_to_wire

HAN = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF) | st.sampled_from("𠮷𡘙𤭢錢偉羣")
NAMES = st.text(HAN, max_size=10)
MARKS = st.sampled_from(
    [" ", "\u3000", "·", "•", "\u200b", "\ufeff", "\ufe00", "\U000e0100", "\t", "\u0301", *"-－—_'’`´。●"]
)


@settings(deadline=None, max_examples=200)
@given(NAMES)
def test_at_most_the_first_and_the_last_are_shown_and_the_length_is_kept(name):
    shown = mask_name(name)
    assert len(shown) == len(name)
    open_places = [place for place, char in enumerate(shown) if char != "*"]
    assert open_places == ([] if len(name) < 2 else [0] if len(name) == 2 else [0, len(name) - 1])
    assert all(shown[place] == name[place] for place in open_places)


@settings(deadline=None, max_examples=300)
@given(NAMES, st.lists(st.tuples(st.integers(0, 10), MARKS), max_size=4))
def test_spaces_dots_dashes_and_invisible_characters_never_open_more(name, marks):
    written = name
    for place, mark in marks:
        written = written[:place] + mark + written[place:]
    letters = [char for char in mask_name(written) if unicodedata.category(char)[0] == "L"]
    plain = [char for char in mask_name(name) if char != "*"]
    assert letters == plain


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=15))
def test_any_text_can_be_masked_and_shows_at_most_two_letters(text):
    shown = mask_name(text)
    held = sum(unicodedata.category(char)[0] == "L" for char in shown)
    assert held <= 2 or any(0x2FF0 <= ord(char) < 0x3000 for char in text)
    assert not shown.strip("*") or set(shown) - {"*"} <= set(text)


def test_a_character_spelt_out_by_its_parts_is_one():
    assert mask_name("张⿰王英") == "张*"
    assert mask_name("张⿲王央王明") == "张*明"
    assert mask_name("张⿰王⿱艹央明") == "张*明"


@pytest.mark.parametrize("name", ["王" * 5_000, "王·" * 3_000, "王" + "\u0301" * 5_000 + "芳", "·" * 5_000])
def test_a_name_as_long_as_a_cell_travels_shortened_and_masked(name):
    told = Candidate(
        ref="r",
        category="marriage",
        masked_name="李*",
        masked_other_name=mask_name(name),
        levels=Levels(),
    )
    shown = candidate_from_wire(candidate_to_wire(told)).masked_other_name
    assert "*" in shown
    assert len(shown) <= 128


def test_characters_are_shown_as_they_were_written():
    assert mask_name("錢偉羣") == "錢*羣"
    assert mask_name("葛\U000e0100飾区") == "葛\U000e0100*区"


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from("0123456789X"), max_size=20))
def test_a_number_shows_its_area_and_its_end_but_never_the_birthday(number):
    shown = mask_id(number)
    assert len(shown) == len(number)
    if len(number) == 18:
        assert shown == number[:6] + "*" * 8 + number[14:]
    elif len(number) == 15:
        assert shown == number[:6] + "*" * 6 + number[12:]
    elif len(number) < 15:
        assert set(shown) <= {"*"}


@pytest.mark.parametrize("name", ["·", ".", " ． ", "・・"])
def test_a_name_of_nothing_but_dots_is_hidden_too(name):
    """A gateway drops what shows no sign of masking, and with it the whole of the archive's answer."""
    assert mask_name(name) == "*"
