"""Reading and writing a list's file: one command at a time, whole or not at all, and never half of what was meant."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

_PATIENCE_S = 5.0
"""How long a command waits for another one that changes a list of the same folder; each takes milliseconds."""

NEXT_START = "运行中的网关下次启动时读取 · running gateways read it at their next start"
DRY_RUN = "试运行，未改动 · dry run, nothing was changed"
NO_CHANGE = "没有变化，未改动 · nothing would be different, nothing was changed"


class ListError(Exception):
    """A list can not be read or changed so; the message says why, in both languages, and repeats no secret."""


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """While no other command changes a list in the folder of `path`: two that read the same edition would each lose what the other
    adds. ListError when another one goes on for five seconds.
    """
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise ListError(
                        f"另一个命令正在改动 · another command is changing a list in {path.parent}"
                    ) from error
                time.sleep(0.02)
        yield
    finally:
        os.close(handle)


def read_file(path: Path, most: int) -> bytes:
    """A file of at most so many bytes, else ListError."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ListError(f"{path}: 超过 {most} 字节 · longer than {most} bytes")
    return content


def is_plain(text: str) -> bool:
    """Whether nothing in a text could steer a terminal, or hide; the wide space of Chinese names is no such thing."""
    return all(one.isprintable() or one == "\u3000" for one in text)


def shown(value: Any) -> str:
    """A value for people: what is not plain is written as its number."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(one if is_plain(one) else f"\\u{ord(one):04x}" for one in text)


def difference(
    name: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    show: Callable[[str, Any], str] = lambda _key, value: shown(value),
) -> Iterator[str]:
    """What becomes of one row, in lines: `+` new, `-` gone, `~` other than before; nothing where it stays as it is. `show` writes the
    value of a key for people.
    """
    if before == after:
        return
    old, new = before or {}, after or {}
    yield f"{'+' if before is None else '-' if after is None else '~'} {name}"
    for key in dict.fromkeys([*old, *new]):
        if before is None or after is None:
            yield f"    {key} = {show(key, (new or old)[key])}"
        elif old.get(key) != new.get(key):
            was, will_be = (show(key, row[key]) if key in row else "–" for row in (old, new))
            yield f"    {key}: {was} → {will_be}"
