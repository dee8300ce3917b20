"""What pydantic says of a wrong setting, in both languages. Add a kind of error here before leaving it in English alone."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from federation.process import environment

_TEXTS: dict[str, str] = {
    "missing": "缺少 · missing",
    "extra_forbidden": "不认识的键 · unknown key",
    "string_type": "应为文字 · must be text",
    "string_too_short": "不得为空 · must not be empty",
    "string_pattern_mismatch": "应符合 {pattern} · must match {pattern}",
    "int_type": "应为整数 · must be a whole number",
    "int_parsing": "应为整数 · must be a whole number",
    "int_from_float": "应为整数 · must be a whole number",
    "float_type": "应为数字 · must be a number",
    "float_parsing": "应为数字 · must be a number",
    "bool_type": "应为 true 或 false · must be true or false",
    "bool_parsing": "应为 true 或 false · must be true or false",
    "tuple_type": "应为列表 · must be a list",
    "dict_type": "应为表 · must be a table",
    "greater_than_equal": "不得小于 {ge} · must be at least {ge}",
    "less_than_equal": "不得大于 {le} · must be at most {le}",
    "value_error": "{error}",  # what our own validators say, which is in both languages
}
"""Error type of pydantic -> text, with what its context holds."""


def words(prefix: str, error: ValidationError) -> str:
    """All that is wrong, each with its key, or the variable of the environment (`prefix`) that overrides it."""
    return "; ".join(_one(environment.label(prefix, one["loc"]), one) for one in error.errors())


def _one(key: str, found: Any) -> str:
    text = _TEXTS.get(found["type"])
    said = found["msg"] if text is None else text.format(**found.get("ctx", {}))
    return f"{key}: {said}" if key else said
