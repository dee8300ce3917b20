"""JSON as a verifier reads it: one meaning per text. Repeated names, NaN, halves of characters, deep nesting and bulk are
refused by name.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from federation.verify.report import VerificationReason, VerifyError

DEEPEST = 16
"""Levels of arrays and objects; the deepest document of ours has six."""


def loads(data: bytes | str, *, most: int) -> Any:
    """Parse at most `most` bytes (or characters). Raises VerifyError too_large, too_deep or malformed."""
    if len(data) > most:
        raise VerifyError(VerificationReason.TOO_LARGE, f"> {most}")
    try:
        text = data if isinstance(data, str) else data.decode()
        tree = _DECODER.decode(text)
        if _SURROGATE.search(text):  # half a character alone is no text: nobody could write what was read
            json.dumps(tree, ensure_ascii=False).encode()
    except RecursionError as error:
        raise VerifyError(VerificationReason.TOO_DEEP, f"> {DEEPEST}") from error
    except ValueError as error:
        raise VerifyError(VerificationReason.MALFORMED, "JSON") from error
    _not_deeper(tree, DEEPEST)
    return tree


def load_object(data: bytes | str, *, most: int) -> dict[str, Any]:
    """Like `loads`, for what must be one object."""
    tree = loads(data, most=most)
    if not isinstance(tree, dict):
        raise VerifyError(VerificationReason.MALFORMED, "JSON")
    return tree


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a name is repeated")
    return tree


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _not_deeper(tree: Any, left: int) -> None:
    inside = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for value in inside:
        if isinstance(value, dict | list):
            if left == 1:
                raise VerifyError(VerificationReason.TOO_DEEP, f"> {DEEPEST}")
            _not_deeper(value, left - 1)


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)
