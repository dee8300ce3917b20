"""The five calls of an index, whatever holds it: `put` for the importer, `scan fetch title prefix` for readers.

Readers have two more: `reading`, one state of the index for several calls, and `catalogue_row`, a record as it was written.

Matching keys, folding and scoring sit above these calls, so that what is found does not depend on what holds the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from node_agent.record import CatalogueRow, Record, Records


@dataclass(frozen=True, slots=True)
class Part:
    """One table of a file: a sheet, or the whole file. `records` may be a stream, of some side by side."""

    name: str
    headings: tuple[str, ...]
    records: Iterable[Record | Records]


@dataclass(slots=True)
class SourceCounts:
    """What an import did to the index. `removed` rows stood in the file's last version and no longer do."""

    imported: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0

    @property
    def before(self) -> int:
        """How many records the file had in the index."""
        return self.unchanged + self.updated + self.removed


@dataclass(frozen=True, slots=True)
class HeldTable:
    """One table of a file in the index; `records` are counted by category."""

    name: str
    records: dict[str, int]


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file the index was made of; `digest` is BLAKE2b of its bytes, 16 bytes long."""

    name: str
    digest: bytes
    tables: tuple[HeldTable, ...]

    @property
    def records(self) -> int:
        """How many records it has in the index."""
        return sum(self.categories.values())

    @property
    def categories(self) -> dict[str, int]:
        """The same by category."""
        counted: Counter[str] = Counter()
        for table in self.tables:
            counted.update(table.records)
        return dict(counted)


@dataclass(slots=True)
class Elsewhere:
    """How many records of a sample stand under other files, in all and under each."""

    looked_up: int = 0
    found: int = 0
    files: Counter[str] = field(default_factory=Counter)

    @property
    def are_most(self) -> bool:
        """Whether it is the greater part."""
        return self.found * 2 > self.looked_up

    def count(self, files: Iterable[str], own: str) -> None:
        """One record more, that these files have; one that its own file has already is nothing new."""
        held = set(files)
        self.looked_up += 1
        if held and own not in held:
            self.found += 1
            self.files.update(held)


Agree = Callable[[SourceCounts], None]
"""Asked when all is read and nothing is written yet; what it raises leaves the index as it was."""


def agreed(_counts: SourceCounts) -> None:
    """Whatever the file changes is meant."""


class Writing(Protocol):
    """What an importer may do."""

    def put(
        self, file_name: str, digest: bytes, parts: Iterable[Part], agree: Agree = agreed
    ) -> SourceCounts:
        """Make the index hold exactly these records for `file_name`; all or nothing, durable on return."""
        ...

    def remove(self, file_name: str) -> SourceCounts:
        """Make the index hold nothing of `file_name`, not even its name; all or nothing, durable on return."""
        ...

    def files(self) -> list[HeldFile]:
        """The files the index was made of, by name."""
        ...

    def files_of(self, digest: bytes) -> list[str]:
        """The files that were imported from bytes of this digest."""
        ...

    def elsewhere(self, file_name: str, sample: Sequence[Record]) -> Elsewhere:
        """How many of these records of a file stand under other files already."""
        ...


class Reading(Protocol):
    """What a reader may do. Packed values and record ids are the index's own numbers."""

    def scan(
        self,
        keys: Sequence[int],
        first_year: int = 0,
        last_year: int = 0,
        category: str = "",
        limit: int = 2_000,
    ) -> list[int]:
        """Packed values under any of `keys`, of the years given (0 = all) and undated, of one category or all."""
        ...

    def fetch(self, rids: Sequence[int]) -> dict[int, Record]:
        """The records of these ids; an id that is gone is left out."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """One state of the index for all calls of this thread inside."""
        ...

    def catalogue_row(self, rid: int) -> CatalogueRow | None:
        """The record of this id as the archive wrote it, for its own people; None when it is gone."""
        ...

    def title(self, words: str, limit: int = 20, after: int = 0) -> list[int]:
        """Record ids whose title holds every word, in record order from `after` on."""
        ...

    def prefix(self, code: str, limit: int = 50, after: str = "") -> list[int]:
        """Record ids whose archival code starts with `code`, in code order from `after` on."""
        ...
