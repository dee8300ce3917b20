"""Folding: traditional, variant and 二简 characters to one representative; spaces, dots and width fall away.

One `str.translate` over one table: context-free on purpose, because a converter that looks at context folds the same
name differently in different company (measured: 0.3 us a name against 1.0 us of a converter).
"""

from __future__ import annotations

from functools import lru_cache

from federation.names.tables import rows

FOLD_VERSION = 1
"""Raised with every change of the fold tables or of these rules."""

_MEMO = 65_536  # names repeat: 张伟 stands some 290 times in a million rows

_DROPPED = " \t\r\n\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u202f\u205f\u2060\u3000\ufeff"
_DOTS = "·•・‧∙⋅●.．｡。＊*'’`´ʼ-－—_"
_SELECTORS = [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]


def _stripping() -> dict[int, int | None]:
    table: dict[int, int | None] = {ord(char): None for char in _DROPPED + _DOTS}
    table.update(dict.fromkeys(_SELECTORS))
    table.update({code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if chr(code) not in _DOTS})
    table.update({ord(char): ord(char.upper()) for char in "abcdefghijklmnopqrstuvwxyz"})
    table.update({0xFF41 + index: 0x41 + index for index in range(26)})
    return table


_STRIP = _stripping()
FOLD: dict[int, int | None] = dict(_STRIP)
"""Every character that folding changes, and what it becomes; None where it is dropped."""
for _root, *_members in rows("fold"):
    for _member in _members:
        FOLD[ord(_member)] = ord(_root)

_ALIASES: dict[str, tuple[str, ...]] = {}
for _forms in rows("own_surname_aliases"):
    _folded = [form.translate(FOLD) for form in _forms]
    for _form in _folded:
        _known = _ALIASES.get(_form, ())
        _ALIASES[_form] = tuple(dict.fromkeys((*_known, *(other for other in _folded if other != _form))))

_COMPOUND = frozenset(row[0].translate(FOLD) for row in rows("own_surname_readings") if len(row[0]) == 2)


@lru_cache(_MEMO)
def strip(text: str) -> str:
    """The name without spaces, dots and width, characters untouched: what must be equal for an exact match."""
    return text.translate(_STRIP)


@lru_cache(_MEMO)
def fold(text: str) -> str:
    """The representative form of a name or title; idempotent. Characters no table knows stand for themselves."""
    return text.translate(FOLD)


def fold_text(text: str) -> str:
    """The same for texts that hardly repeat, titles: nothing is remembered."""
    return text.translate(FOLD)


def surname_length(folded: str) -> int:
    """How many characters of a folded name are its surname: 2 for a compound surname with a given name, else 1."""
    return 2 if len(folded) > 2 and folded[:2] in _COMPOUND else min(1, len(folded))


def surname_alternatives(folded: str) -> tuple[str, ...]:
    """The same folded name under the other spellings of its surname (傅/付, 萧/肖); empty when there are none."""
    return tuple(alias + folded[1:] for alias in _ALIASES.get(folded[:1], ()))
