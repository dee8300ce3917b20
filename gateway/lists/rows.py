"""Lists that people write by hand as TOML `[[row]]` tables, changed as a person would: the lines of one row and no other.

Operators keep comments in them, and a library that writes the tables anew sets a comment that stands above a row to the row
before it, so that it goes or stays with the wrong one (docs/decisions/0012). So lines are cut and put in here, and the outcome is read again: unless
it says exactly what was meant it is refused, and such a file is changed by hand.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.process.durable import put
from gateway.lists.files import DRY_RUN, NEXT_START, NO_CHANGE, ListError, alone


@dataclass(frozen=True, slots=True)
class _Entry:
    """`key = value` of a table: its lines [start, end), and what they say by themselves."""

    start: int
    end: int
    says: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Span:
    """The lines of one row: [start, end) with the comment right above it, [head, body) its heading and own keys."""

    start: int
    head: int
    body: int
    end: int


class Rows:
    """The text of a list of `[[kind]]` rows, each named by its `key`. Changing gives another one; ListError says why it can not."""

    def __init__(self, kind: str, key: str, content: bytes, path: Path) -> None:
        self.kind, self.key, self.path = kind, key, path
        try:
            self.text = content.decode()
            self.table = tomllib.loads(self.text)
        except ValueError as error:
            raise ListError(f"{path}: 不是合法的 TOML · not valid TOML: {error}") from error
        rows = self.table.get(kind, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ListError(f"{path}: {kind} 应写作 [[{kind}]] · {kind} must be [[{kind}]] tables")
        self.rows: list[dict[str, Any]] = rows
        self._newline = "\r\n" if "\r\n" in self.text else "\n"

    def named(self, name: str) -> dict[str, Any]:
        """The row of this name; ListError unless there is exactly one."""
        return self.rows[self._place(name)]

    def has(self, name: str) -> bool:
        return any(row.get(self.key) == name for row in self.rows)

    def added(self, row: Mapping[str, Any]) -> Rows:
        """With one more row at the end. A name that is there already is left to the list's reader to refuse."""
        lines = self._lines()
        if lines and lines[-1].strip():
            lines.append(self._newline)
        lines += [f"[[{self.kind}]]{self._newline}", *(self._line(key, value) for key, value in row.items())]
        return self._checked(lines, self._with([*self.rows, dict(row)]))

    def changed(self, name: str, values: Mapping[str, Any]) -> Rows:
        """With other values in one row; None takes a key out. What stands after a value as its comment stays there."""
        changed = self
        for key, value in values.items():
            changed = changed._changed(name, key, value)
        return changed

    def _changed(self, name: str, key: str, value: Any) -> Rows:
        place = self._place(name)
        span, row = self._spans()[place], dict(self.rows[place])
        entries = self._entries(span.head + 1, span.body)
        end = max((one.end for one in entries), default=span.head + 1)
        lines = self._put([one for one in entries if key in one.says], key, value, end)
        row[key] = value
        if value is None:
            del row[key]
        return self._checked(lines, self._with([*self.rows[:place], row, *self.rows[place + 1 :]]))

    def removed(self, name: str) -> Rows:
        """Without one row, and without the comment lines that stand right above it or between its keys."""
        place = self._place(name)
        lines, span = self._lines(), self._spans()[place]
        end = span.end
        while end < len(lines) and not lines[end].strip():
            end += 1
        left = [*lines[: span.start], *lines[end:]]
        while end == len(lines) and left and not left[-1].strip():
            left.pop()
        return self._checked(left, self._with([*self.rows[:place], *self.rows[place + 1 :]]))

    def with_top(self, key: str, value: Any) -> Rows:
        """With another value of a key that stands above all rows."""
        first = self._spans()[0].start if self.rows else len(self._lines())
        entries = [one for one in self._entries(0, first) if key in one.says]
        return self._checked(self._put(entries, key, value, first), {**self.table, key: value})

    def comments_of(self, name: str) -> int:
        """How many comment lines go with a row when it is removed."""
        span = self._spans()[self._place(name)]
        return sum(line.lstrip().startswith("#") for line in self._lines()[span.start : span.end])

    def _place(self, name: str) -> int:
        found = [place for place, row in enumerate(self.rows) if row.get(self.key) == name]
        if not found:
            raise ListError(f"没有 {name} · there is no [[{self.kind}]] with {self.key} = {name}")
        if len(found) > 1:
            raise ListError(
                f"{name} 出现多次，请先手工改正 · {name} stands there twice, mend it by hand first"
            )
        return found[0]

    def _with(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        others = {key: value for key, value in self.table.items() if key != self.kind}
        return {**others, self.kind: rows} if rows else others

    def _lines(self) -> list[str]:
        """Each with its end; the last one too, so that something can be put after it. A carriage return alone ends none."""
        lines = re.findall(r"[^\n]*\n|[^\n]+", self.text)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += self._newline
        return lines

    def _spans(self) -> list[_Span]:
        """Of each row, in their order. A comment at the very top of the file is the file's, not the first row's."""
        lines = self._lines()
        heading = re.compile(rf"\s*\[\[\s*{self.kind}\s*\]\]\s*(#.*)?\s*")
        heads = [number for number, line in enumerate(lines) if heading.fullmatch(line)]
        if len(heads) != len(self.rows):
            raise self._unusual()
        starts = []
        for head in heads:
            start = head
            while start > 0 and _is_comment(lines[start - 1]):
                start -= 1
            starts.append(start or head)
        spans = []
        for start, head, following in zip(starts, heads, [*starts[1:], len(lines)], strict=True):
            end = body = max(
                number + 1
                for number in range(head, following)
                if lines[number].strip() and not _is_comment(lines[number])
            )
            while end < following and _is_comment(lines[end]):
                end += 1
            spans.append(_Span(start, head, body, end))
        return spans

    def _entries(self, start: int, end: int) -> list[_Entry]:
        """The `key = value` from one line on, up to the first heading of another table."""
        lines, found = self._lines(), []
        while start < end:
            line = lines[start].strip()
            if line.startswith("["):
                break
            if not line or line.startswith("#"):
                start += 1
                continue
            for after in range(start + 1, end + 1):
                says = _read("".join(lines[start:after]))
                if says is not None:
                    found.append(_Entry(start, after, says))
                    start = after
                    break
            else:
                raise self._unusual()
        return found

    def _put(self, entries: list[_Entry], key: str, value: Any, end: int) -> list[str]:
        """All lines, with `key = value` where it stood, or at `end`; without it where the value is None."""
        lines = self._lines()
        for one in reversed(entries[1:]):
            del lines[one.start : one.end]
        start, after = (entries[0].start, entries[0].end) if entries else (end, end)
        old = "".join(lines[start:after])
        before = re.match(rf"\s*{re.escape(key)}\s*=[ \t]*", old)
        comment = _comment(old, entries[0].says) if entries else ""
        new = self._line(key, value, before.group() if before else "", comment)
        lines[start:after] = [] if value is None else [new]
        return lines

    def _line(self, key: str, value: Any, before: str = "", comment: str = "") -> str:
        return f"{before or f'{key} = '}{toml(value)}{comment}{self._newline}"

    def _checked(self, lines: list[str], meant: dict[str, Any]) -> Rows:
        text = "".join(lines)
        if _read(text) != meant:
            raise self._unusual()
        return Rows(self.kind, self.key, text.encode(), self.path)

    def _unusual(self) -> ListError:
        return ListError(
            f"[[{self.kind}]] 的写法特殊，此命令不敢改动，请手工修改"
            f" · [[{self.kind}]] is written in a way this command does not dare to change; change it by hand"
        )


def change(
    rows: tuple[str, str, Path],
    edit: Callable[[Rows], Rows],
    tell: Callable[[Rows, Rows], None],
    *,
    is_trial: bool,
) -> None:
    """Change the list `(kind, key, path)`: `edit` gives what it is to be, once the gateway's own reader has read that; `tell` says
    what is different. What they raise leaves the file as it is.
    """
    kind, key, path = rows
    with alone(path):
        before = Rows(kind, key, path.read_bytes() if path.exists() else b"", path)
        after = edit(before)
        if after is before:
            print(NO_CHANGE)
            return
        tell(before, after)
        if is_trial:
            print(DRY_RUN)
            return
        put(path, after.text.encode(), 0o600)
        print(NEXT_START)


def toml(value: Any) -> str:
    """A value as TOML 1.0 writes it in one line: text, whole numbers, yes and no, lists and tables of them."""
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL, which JSON leaves as it is
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(toml(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {toml(one)}' for key, one in value.items())}}}"
    return json.dumps(value)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _read(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except ValueError:  # also of a number too long to be one
        return None


def _comment(entry: str, says: dict[str, Any]) -> str:
    """The comment after a value, with the space before it."""
    last = entry.rstrip("\r\n").rfind("\n") + 1
    for found in re.finditer(r"[ \t]*#", entry[last:]):
        if _read(entry[: last + found.start()]) == says:
            return entry[last + found.start() :].rstrip("\r\n")
    return ""
