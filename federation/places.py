"""Administrative divisions of the delta, dated: 815 codes stood between 1980 and 2019, 350 still do.

A record names the division of its day; a question names today's. Two codes are one place when one renames or
succeeds the other. Codes are GB/T 2260; no code is ever called unknown because it is old.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from federation.levels import PlaceLevel
from federation.names import fold

_SUFFIXES = ("自治县", "地区", "新区", "县", "市", "区")
_LONGEST = 8


def _rows(name: str) -> list[list[str]]:
    text = resources.files("federation").joinpath(f"data/{name}.tsv").read_text("utf-8")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith(("#", "code"))]


def _stem(name: str) -> str:
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and len(name) > len(suffix) + 1:
            return name.removesuffix(suffix)
    return name


class _Gazetteer:
    def __init__(self) -> None:
        rows = [(code, name, int(first), int(last)) for code, name, first, last in _rows("divisions")]
        latest: dict[str, int] = {}
        for code, _name, _first, last in rows:
            latest[code] = max(latest.get(code, 0), last)
        self.codes = frozenset(latest)
        parent = {code: code for code in latest}

        def root(code: str) -> str:
            while parent[code] != code:
                code = parent[code]
            return code

        # 平湖县 332222 until 1982, 330422 until 1990, 平湖市 339012 until 1994, 330482 since: one place
        ended = {(code[:2], _stem(name), last + 1): code for code, name, _first, last in rows}
        for code, name, first, _last in rows:
            before = ended.get((code[:2], _stem(name), first))
            if before is not None and root(before) != root(code):
                older, newer = sorted((root(before), root(code)), key=lambda one: latest[one])
                parent[older] = newer
        self.current = {code: root(code) for code in latest}
        self.successors = {code: frozenset(new) for code, *new in _rows("division_successors")}
        named: dict[str, set[str]] = {}
        for code, name, _first, _last in rows:
            for word in {fold(name), fold(_stem(name))}:
                if len(word) > 1:
                    named.setdefault(word, set()).add(self.current[code])
        self.named = {word: next(iter(codes)) for word, codes in named.items() if len(codes) == 1}


_GAZETTEER = _Gazetteer()


def exists(code: str) -> bool:
    """Whether a code of two, four or six digits names a province, a city or a division of any year since 1980."""
    return code in _REGIONS


_REGIONS = frozenset(part for code in _GAZETTEER.codes for part in (code, code[:4], code[:2]))


def current(code: str) -> str:
    """Today's code of a division, or the code itself when nothing is known of it."""
    return _GAZETTEER.current.get(code, code)


@lru_cache(65_536)
def find(text: str) -> str:
    """Today's code of the division that free words name (桐乡县屠甸乡人民政府 → 330483), "" when none is known.

    A county beats the city around it; a word that named several places over the years names none.
    """
    words = fold(text)
    if len(words) == 6 and words.isascii() and words.isdigit():
        return current(words) if words in _GAZETTEER.codes else ""
    around = ""
    place = 0
    while place < len(words) - 1:
        for length in range(min(_LONGEST, len(words) - place), 1, -1):
            code = _GAZETTEER.named.get(words[place : place + length])
            if code is not None:
                if not code.endswith("00"):
                    return code
                around = around or code
                place += length - 1
                break
        place += 1
    return around


@lru_cache(65_536)
def relation(one: str, other: str) -> PlaceLevel:
    """How two division codes stand to each other; an empty code can not be compared."""
    if not one or not other:
        return PlaceLevel.NOT_COMPARED
    here, there = current(one), current(other)
    if here == there:
        return PlaceLevel.SAME
    successors = _GAZETTEER.successors
    if there in successors.get(one, ()) or here in successors.get(other, ()):
        return PlaceLevel.SUCCESSOR
    if in_region(here, there) or in_region(there, here):
        return PlaceLevel.SUCCESSOR
    return PlaceLevel.DIFFERENT


def in_region(code: str, region: str) -> bool:
    """Whether a division lies in a region given as a code or its first digits ("33", "3304", "330483").

    Two digits each name province, city and county: 330000 ends after 33, 331000 (台州) after 3310.
    """
    while len(region) > 2 and region.endswith("00"):
        region = region[:-2]
    return code.startswith(region)


_MUNICIPALITIES = frozenset({"11", "12", "31", "50"})
"""北京, 天津, 上海, 重庆: a province that is one city, whatever the next two digits of its districts and counties say."""


def city_of(code: str) -> str:
    """The first digits that all of today's divisions of one city begin with: four, of a municipality two."""
    today = current(code)
    return today[:2] if today[:2] in _MUNICIPALITIES else today[:4]
