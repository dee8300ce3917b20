"""Archival codes (档号) of DA/T 13: fonds, class, volume and item joined by `-`, parts inside a class by `·`.

The original string is kept for display and seal; comparison uses one form: `·` for any dot inside the class, `-` for long
or full-width dashes, ASCII digits, upper case. Unique only inside one archive.
"""

from __future__ import annotations

_FORM: dict[int, int | None] = {
    **{ord(char): ord("·") for char in ".・•．‧∙⋅●"},
    **{ord(char): ord("-") for char in "－—–―‐‑−一ー"},
    **{0xFF10 + digit: ord("0") + digit for digit in range(10)},
    **{0xFF21 + letter: ord("A") + letter for letter in range(26)},
    **{0xFF41 + letter: ord("A") + letter for letter in range(26)},
    **dict.fromkeys(map(ord, " \t\u3000\u00a0\ufeff\u200b")),
}
del _FORM[ord("一")]  # a class may hold Han characters (办公室); only dashes are dashes

VOLUME_DIGITS, ITEM_DIGITS = 4, 3


def comparison_form(raw: str) -> str:
    """The form two writings of one code share."""
    return raw.translate(_FORM).upper()


def from_columns(fonds: str, series: str, volume: str, item: str) -> str:
    """A code kept in columns: fonds-series-volume-item, empty parts left out, volume padded to 4 digits, item to 3."""
    parts = [fonds.strip(), series.strip(), _padded(volume, VOLUME_DIGITS), _padded(item, ITEM_DIGITS)]
    return "-".join(part for part in parts if part)


def _padded(text: str, digits: int) -> str:
    text = text.strip().translate(_FORM)
    return text.zfill(digits) if text.isascii() and text.isdigit() else text
