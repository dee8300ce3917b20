"""Documents are set with real fonts; where they are absent the tests skip by name (in CI they fail)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.documents import Bureau, need_fonts


@pytest.fixture(autouse=True)
def _fonts() -> None:
    need_fonts()


@pytest.fixture(scope="module")
def bureau(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bureau]:
    need_fonts()
    folder: Path = tmp_path_factory.mktemp("bureau")
    with Bureau(folder) as made:
        yield made


@pytest.fixture(scope="module")
def sealed(bureau: Bureau) -> bytes:
    """One document with a trusted time inside."""
    return bureau.pdf(bureau.decision("sealed:1"))
