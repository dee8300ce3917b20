"""Marks that are never seen: a text copied from a page or a message often brings some, and nobody can tell."""

from __future__ import annotations

import re

INVISIBLE = "\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\u2800\u3164\ufeff\uffa0"
"""For a class of a pattern: soft hyphen, joiners, spaces without width, marks of direction, the byte order mark, and the letters
of Hangul and Braille that are blank.
"""

_INVISIBLE = re.compile(f"[{INVISIBLE}]")


def visible(text: str) -> str:
    """The text without them; catalogues and questions are read alike."""
    return text if text.isascii() else _INVISIBLE.sub("", text)
