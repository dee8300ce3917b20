"""The same records under another file name, which would be found twice: noticed by a file's bytes, and by a sample of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from node_agent.index import Elsewhere, Part, Sample, Writing, likeness
from node_agent.record import Record, Records, one_by_one


class Passing:
    """The records of one file on their way: a sample of them, and what each is like, as a hash."""

    def __init__(self, *, is_new: bool, sampled: bool, kept: bool) -> None:
        """`is_new`: the index holds no file of that name."""
        self.is_new, self.sample = is_new, Sample()
        self._sampled, self._kept = sampled, kept
        self._hashes = array("q")

    def parts(self, parts: Iterator[Part]) -> Iterator[Part]:
        """The same parts, looked at as they pass, if there is a reason to."""
        if not (self._sampled or self._kept):
            return parts
        return (Part(part.name, part.headings, self._records(part.records)) for part in parts)

    def _records(self, records: Iterable[Record | Records]) -> Iterator[Record | Records]:
        for one in records:
            self.sample.take(one)
            if self._kept:
                self._hashes.extend([hash(likeness(record)) for record in one_by_one([one])])
            yield one

    def hashes(self) -> NDArray[np.int64]:
        """What the records are like; empty unless they were kept."""
        return np.array(self._hashes, dtype=np.int64)


class Duplicates:
    """The files of one run of the import so far. A dry run of several puts none of them into the index, and keeps what their
    records are like, eight bytes a record.
    """

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._names: dict[bytes, str] = {}  # of contents, by their digest
        self._kept: dict[str, NDArray[np.int64]] = {}

    def of_bytes(self, index: Writing, name: str, digest: bytes) -> str:
        """Why a file of these bytes is refused: another one was. "" when none was."""
        same = [*index.files_of(digest), *([self._names[digest]] if digest in self._names else [])]
        return _same_bytes(same[0]) if same and name not in same else ""

    def passing(self, index: Writing, name: str) -> Passing:
        """What the records of a file are to be led through."""
        held = {file.name for file in index.files()}
        others = bool(self._kept) or bool(held - {name})
        return Passing(is_new=name not in held, sampled=others, kept=self._keeps)

    def of_records(self, index: Writing, name: str, passed: Passing) -> str:
        """Why a file is refused whose records passed: most of them stand under other files. "" when they do not."""
        found = index.elsewhere(name, passed.sample.records)
        if not found.are_most and passed.is_new:
            found = self._in_this_run(name, passed.sample.records)
        return _same_records(found) if found.are_most else ""

    def _in_this_run(self, name: str, sample: list[Record]) -> Elsewhere:
        found = Elsewhere()
        hashes = np.array([hash(likeness(record)) for record in sample], dtype=np.int64)
        held = {file: np.isin(hashes, kept) for file, kept in self._kept.items()}
        for place in range(len(sample)):
            found.count([file for file, places in held.items() if places[place]], name)
        return found

    def add(self, name: str, digest: bytes, passed: Passing) -> None:
        """A file is done."""
        self._names[digest] = name
        if self._keeps:
            self._kept[name] = passed.hashes()


def _same_bytes(other: str) -> str:
    return (
        f"内容与“{other}”完全相同，再次导入会使每条记录出现两次；未作任何改动。无需导入，确需以此名另存请加 --allow-duplicate ·"
        f" the content is that of {other}, and every record would be found twice; nothing was changed."
        " It need not be imported; if this is meant, give --allow-duplicate"
    )


def _same_records(found: Elsewhere) -> str:
    ((other, _count),) = found.files.most_common(1)
    more = len(found.files) - 1
    return (
        f"抽查 {found.looked_up} 条记录，其中 {found.found} 条已在“{other}”{f'等 {more + 1} 个文件' if more else ''}中，再次导入会使其出现两次；"
        "未作任何改动。若是该目录的新版，请以原文件名导入，或先用 lantai-node remove 移除原文件；确需并存请加 --allow-duplicate ·"
        f" of {found.looked_up} records looked up {found.found} are there already under {other}{f' and {more} more' if more else ''},"
        " and would be found twice; nothing was changed. If this is a newer version of that catalogue, import it under that name, or"
        " take that file out first (lantai-node remove); if both are meant to stand, give --allow-duplicate"
    )
