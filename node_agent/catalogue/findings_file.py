"""The CSV of all findings about one file, row by row, in both languages."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import IO, Self

from node_agent.catalogue.findings import SEVERITY, TEXTS, RowFinding

_HEADINGS = (
    "文件 file", "表 sheet", "行 row", "处理 outcome", "字段 field", "原因 reason", "说明", "meaning", "详情 detail",
)  # fmt: skip


class FindingsFile:
    """Written beside, and put in place only when the import is done. Without a folder it only counts."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self.path = _path(folder, name) if folder is not None else None
        self.rows = 0
        self._name = name
        self._handle: IO[str] | None = None

    def __enter__(self) -> Self:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._part = self.path.with_name(f"{self.path.name}.part")
            self._handle = self._part.open("w", encoding="utf-8-sig", newline="")
            self._csv = csv.writer(self._handle)
            self._csv.writerow(_HEADINGS)
        return self

    def take(self, found: RowFinding) -> None:
        """One finding more."""
        self.rows += 1
        if self._handle is not None:
            text = TEXTS[found.finding]
            self._csv.writerow(
                [
                    self._name,
                    found.table,
                    found.row,
                    SEVERITY[found.finding].value,
                    found.field,
                    found.finding.value,
                    text.zh,
                    text.en,
                    found.detail,
                ]
            )

    def keep(self) -> None:
        """The import is done: this file replaces the last one."""
        if self._handle is not None and self.path is not None:
            self._handle.close()
            self._handle = None
            self._part.replace(self.path)

    def __exit__(self, *_error: object) -> None:
        if self._handle is not None:
            self._handle.close()
            self._part.unlink(missing_ok=True)


def discard(folder: Path, name: str) -> Path | None:
    """Remove the findings about a file, which hold what its rows held; their path, None when there were none."""
    path = _path(folder, name)
    try:
        path.unlink()
    except FileNotFoundError:
        return None
    return path


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.findings.csv"
