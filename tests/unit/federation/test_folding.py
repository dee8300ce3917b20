"""What a name is, for keys only: folding and sound."""

from hypothesis import given, settings
from hypothesis import strategies as st

from federation.keys import Keyer
from federation.names import (
    fold,
    fuzzy_syllables,
    sound_code,
    spelled,
    strip,
    surname_alternatives,
    surname_length,
    syllables,
)
from federation.names.tables import rows

HAN = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)
NAMES = st.text(HAN, min_size=1, max_size=6)
KEYER = Keyer(b"tests")

# one character of today, and what older print, clerks and the withdrawn scheme of 1977 have for it; written by hand
WRITTEN_OTHERWISE = [
    "峰峯",
    "群羣",
    "坤堃",
    "哲喆",
    "升昇",
    "升陞",
    "珍珎",
    "柏栢",
    "宁甯",
    "青靑",
    "清淸",
    "真眞",
    "静靜",
    "强強",
    "强彊",
    "吴吳",
    "吴呉",
    "吕呂",
    "黄黃",
    "德悳",
    "杰傑",
    "仙僊",
    "梅楳",
    "梁樑",
    "松枩",
    "岩巖",
    "姗姍",
    "彦彥",
    "户戶",
    "户戸",
    "建迠",
    "雪彐",
    "麟麐",
    "佑祐",
    "岳嶽",
    "年秊",
    "村邨",
    "丽麗",
    "恒恆",
    "卫衞",
    "郎郞",
    "信伩",
    "国國",
    "国囯",
    "华華",
    "钱錢",
    "伟偉",
    "陈陳",
    "张張",
    "刘劉",
    "杨楊",
    "赵趙",
    "孙孫",
    "马馬",
    "罗羅",
    "郑鄭",
    "谢謝",
    "许許",
    "邓鄧",
    "萧蕭",
    "冯馮",
    "军軍",
    "红紅",
    "兰蘭",
    "凤鳳",
    "云雲",
    "龙龍",
    "庆慶",
    "梦夢",
    "叶葉",
    "钟鍾",
    "钟鐘",
    "后後",
    "范範",
    "干乾",
    "干幹",
]


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=20))
def test_folding_twice_is_folding_once(text):
    assert fold(fold(text)) == fold(text)
    assert strip(strip(text)) == strip(text)


@settings(deadline=None, max_examples=200)
@given(st.text(HAN, max_size=12))
def test_folding_han_keeps_every_place(text):
    assert len(fold(text)) == len(text)
    assert strip(text) == text


def test_every_character_of_a_fold_class_has_the_keys_of_its_representative():
    for root, *members in rows("fold"):
        for member in members:
            assert fold(member) == fold(root), (root, member)
            assert KEYER.name_keys(f"王{member}明") == KEYER.name_keys(f"王{root}明"), (root, member)


def test_what_clerks_wrote_for_a_character_has_its_keys_in_both_directions():
    for one, other in WRITTEN_OTHERWISE:
        assert KEYER.name_keys(f"王{one}明") == KEYER.name_keys(f"王{other}明"), (one, other)
        assert KEYER.name_keys(f"王明{other}") == KEYER.name_keys(f"王明{one}"), (one, other)


@settings(deadline=None, max_examples=100)
@given(NAMES, st.sampled_from([" ", "\u3000", "·", "•", "\u200b", "\ufe00", "\U000e0100", "．"]), st.data())
def test_spaces_dots_and_selectors_do_not_count(name, mark, data):
    place = data.draw(st.integers(1, len(name)))
    assert KEYER.name_keys(name[:place] + mark + name[place:]) == KEYER.name_keys(name)


@settings(deadline=None, max_examples=200)
@given(NAMES)
def test_every_character_has_one_syllable_and_merging_is_only_of_sounds(name):
    folded = fold(name)
    sounds, fuzzy = syllables(folded), fuzzy_syllables(folded)
    assert len(sounds) == len(fuzzy) == len(folded)
    equal = {}
    for sound, merged in zip(sounds, fuzzy, strict=True):
        assert equal.setdefault(sound, merged) == merged


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        NAMES,
        st.text(max_size=6),
        st.sampled_from(["单于明", "曾曾", "曾", "欧阳", "欧阳明", "\ue000明", ""]),
    )
)
def test_the_code_of_a_sound_spells_its_syllables(name):
    folded = fold(name)
    assert spelled(sound_code(folded)) == fuzzy_syllables(folded)


def test_a_surname_is_read_as_a_surname_only_where_it_stands_as_one():
    assert syllables("曾曾")[0] == "zeng"
    assert syllables("单于明") == ("chan", "yu", "ming")
    assert syllables("单明") == ("shan", "ming")
    assert syllables("曾") != ("zeng",)


def test_the_other_spellings_of_a_surname_are_mutual():
    for forms in rows("own_surname_aliases"):
        for form in forms:
            for other in surname_alternatives(fold(form) + "明"):
                assert fold(form) + "明" in surname_alternatives(other)


def test_a_compound_surname_needs_a_given_name():
    assert surname_length("欧阳明") == 2
    assert surname_length("欧阳") == 1
    assert surname_length("") == 0
