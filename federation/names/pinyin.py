"""Sound of a folded name: toneless syllables, a surname read as a surname, and fuzzy syllables.

Fuzzy syllables merge what clerks of the delta confuse. In general: zh/z, ch/c, sh/s, l/n, r/l, and -ng/-n after a, e
and i. Wu accent: h- before u is lost (黄 huang = 王 wang, 胡 hu = 吴 wu), 何 he joins them (o for e), f- before u
joins hu- (Jianghuai: 福 fu = 湖 hu).
"""

from __future__ import annotations

from functools import lru_cache

from federation.names.folding import fold
from federation.names.tables import rows

PINYIN_VERSION = 1
"""Raised with every change of the reading tables or of the fuzzy classes."""

_MEMO = 65_536

_READING: dict[str, str] = {char: syllable for syllable, chars in rows("pinyin") for char in chars}
_SURNAMES: dict[str, tuple[str, ...]] = {
    fold(surname): tuple(reading.split(" ")) for surname, reading in rows("own_surname_readings")
}

_EXACT_MERGES = {"he": "wu"}


def _fuzzy(syllable: str) -> str:
    if not syllable.isascii() or not syllable.isalpha():
        return syllable
    if syllable in _EXACT_MERGES:
        return _EXACT_MERGES[syllable]
    text = syllable
    if text[1:2] == "h" and text[0] in "zcs":
        text = text[0] + text[2:]
    if text.startswith(("hu", "fu")):
        text = "wu" if len(text) == 2 else "w" + text[2:]  # huang -> wang, hu -> wu
        text = {"wi": "wei", "wn": "wen"}.get(text, text)
    elif text[0] in "lr":
        text = "n" + text[1:]
    if text.endswith(("ang", "eng", "ing")):
        text = text[:-1]
    return text


_FUZZY = {
    syllable: _fuzzy(syllable)
    for syllable in {*_READING.values(), *(s for r in _SURNAMES.values() for s in r)}
}


@lru_cache(_MEMO)
def syllables(folded: str) -> tuple[str, ...]:
    """Toneless syllables, one per character; a character without a known reading stands for itself."""
    reading = _READING
    if len(folded) > 2 and (compound := _SURNAMES.get(folded[:2])) is not None:
        return (*compound, *[reading.get(char, char) for char in folded[2:]])
    if len(folded) > 1 and (surname := _SURNAMES.get(folded[0])) is not None:
        return (*surname, *[reading.get(char, char) for char in folded[1:]])
    return tuple([reading.get(char, char) for char in folded])


FUZZY_READING = {char: _FUZZY[syllable] for char, syllable in _READING.items()}
FUZZY_SURNAMES = {surname: tuple([_FUZZY[one] for one in reading]) for surname, reading in _SURNAMES.items()}


def fuzzy_syllables(folded: str) -> tuple[str, ...]:
    """`syllables` with confusable sounds merged. Not remembered: it is cheaper than looking it up among many names."""
    fuzzy = FUZZY_READING
    if len(folded) > 2 and (compound := FUZZY_SURNAMES.get(folded[:2])) is not None:
        return (*compound, *[fuzzy.get(char, char) for char in folded[2:]])
    if len(folded) > 1 and (surname := FUZZY_SURNAMES.get(folded[0])) is not None:
        return (*surname, *[fuzzy.get(char, char) for char in folded[1:]])
    return tuple([fuzzy.get(char, char) for char in folded])


SOUNDS = sorted({*FUZZY_READING.values(), *(one for reading in FUZZY_SURNAMES.values() for one in reading)})
"""Every fuzzy syllable there is."""
_FIRST_SOUND_CODE = 0xD800
"""The character that stands for the first of SOUNDS in a `sound_code`: no text holds half a surrogate pair."""
_CODE = {sound: chr(_FIRST_SOUND_CODE + place) for place, sound in enumerate(SOUNDS)}
_SOUND = {code: sound for sound, code in _CODE.items()}
_CODES = {char: _CODE[sound] for char, sound in FUZZY_READING.items()}
_SURNAME_CODES = {
    surname: "".join([_CODE[one] for one in reading]) for surname, reading in FUZZY_SURNAMES.items()
}
_SURNAME_FIRST = frozenset(surname[0] for surname in _SURNAME_CODES)


def sound_code(folded: str) -> str:
    """`fuzzy_syllables` as a string of one character a syllable: cheap to compute, to compare and to remember."""
    code = "".join(map(_CODES.get, folded, folded))
    return _surnamed(folded, code) if folded[:1] in _SURNAME_FIRST else code


def _surnamed(name: str, code: str) -> str:
    """The code of a name that may begin with a surname of a reading of its own."""
    if len(name) > 2 and (compound := _SURNAME_CODES.get(name[:2])) is not None:
        return compound + code[2:]
    if len(name) > 1 and (surname := _SURNAME_CODES.get(name[0])) is not None:
        return surname + code[1:]
    return code


def spelled(code: str) -> tuple[str, ...]:
    """The syllables of a `sound_code`."""
    return tuple(map(_SOUND.get, code, code))  # a character without a sound stands for itself
