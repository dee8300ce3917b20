"""The lines of a text file as bytes, whether they end in LF or, as an old Macintosh wrote them, in CR alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

_LF, _CR = b"\n", b"\r"


def line_end(head: bytes) -> bytes:
    """What ends the lines of a file that begins like this. A stray CR among lines that end in LF ends none."""
    return _CR if _CR in head and _LF not in head else _LF


def read_lines(handle: IO[bytes], end: bytes, together: int) -> Iterator[list[bytes]]:
    """The lines from here on, some that are so many bytes together at a time; those that end in CR are given as ended by
    LF.
    """
    if end == _LF:
        while lines := handle.readlines(together):
            yield lines
        return
    # each byte a character, and each end of a line LF
    with io.TextIOWrapper(handle, "latin-1", newline=None) as text:
        while texts := text.readlines(together):
            yield [line.encode("latin-1") for line in texts]
