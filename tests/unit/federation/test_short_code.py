"""The code on the paper: read as people type it, and never taken for another one because of a slip."""

import itertools

import pytest

from federation.short_code import ALPHABET, LENGTH, canonical, grouped, new


def test_a_code_is_random_and_has_at_least_sixty_bits():
    codes = {new() for _ in range(200)}
    assert len(codes) == 200
    assert all(len(code) == LENGTH and canonical(code) == code for code in codes)
    assert len(ALPHABET) ** (LENGTH - 1) >= 2**60
    assert all(len({code[place] for code in codes}) > 16 for place in range(LENGTH))


def test_the_check_character_stays_what_it_was():
    assert canonical("3KQ7M-X8D2R-9TWEZ")  # the example people see
    assert _right("0123456789ABCD") == "C"  # printed codes must be read for decades


def _right(start: str) -> str:
    (found,) = [character for character in ALPHABET if canonical(start + character)]
    return found


@pytest.mark.parametrize(
    "typed",
    [
        "{0}-{1}-{2}", "{0} {1} {2}", " {0}{1}{2}\n", "{0}－{1}—{2}", "{0}　{1}·{2}",
    ],
)  # fmt: skip
def test_it_is_read_as_people_write_it(typed):
    code = new()
    groups = grouped(code).split("-")
    for written in (groups, [group.lower() for group in groups], [_wide(group) for group in groups]):
        assert canonical(typed.format(*written)) == code


def _wide(text: str) -> str:
    return "".join(chr(ord(character) + 0xFEE0) for character in text)


def test_letters_that_look_like_digits_are_those_digits():
    code = next(code for code in iter(new, "") if "0" in code and "1" in code)
    assert canonical(code.replace("0", "O").replace("1", "l")) == code
    assert canonical(code.replace("0", "o").replace("1", "I")) == code


def test_one_wrong_character_is_always_noticed():
    code = new()
    for place, other in itertools.product(range(LENGTH), ALPHABET):
        wrong = code[:place] + other + code[place + 1 :]
        assert canonical(wrong) == (code if wrong == code else "")


def test_two_exchanged_characters_are_always_noticed():
    code = new()
    for left, right in itertools.combinations(range(LENGTH), 2):
        wrong = list(code)
        wrong[left], wrong[right] = code[right], code[left]
        assert canonical("".join(wrong)) == (code if code[left] == code[right] else "")


@pytest.mark.parametrize(
    "typed", ["", "钱伟明", "330402196303150018", "U" * 15, "0" * 14, "0" * 16, "0" * 100_000]
)
def test_what_is_no_code_is_none(typed):
    assert canonical(typed) == ""
