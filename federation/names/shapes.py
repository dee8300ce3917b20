"""Look-alike characters: what a clerk or a reader of old handwriting takes for another."""

from __future__ import annotations

from federation.names.folding import fold
from federation.names.tables import rows

_ALIKE: dict[str, frozenset[str]] = {}
for _row in rows("own_shapes"):
    _group = frozenset(fold(char) for char in _row)
    for _char in _group:
        _ALIKE[_char] = _ALIKE.get(_char, frozenset()) | _group


def alike(one: str, other: str) -> bool:
    """Whether two folded characters look alike."""
    return other in _ALIKE.get(one, ())
