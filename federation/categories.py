"""Record categories and purposes: closed, versioned lists that every member must read alike (data/categories.toml)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from federation.reasons import Text

Roles = Literal["subject", "parties", "family", "household"]


@dataclass(frozen=True, slots=True)
class Category:
    """One category. `sensitivity` is 1 low, 2 personal or 3 sensitive; `roles` says who the people in a row are."""

    key: str
    name: Text
    sensitivity: int
    roles: Roles


def _load() -> tuple[int, dict[str, Category], dict[str, Text]]:
    table = tomllib.loads(resources.files("federation").joinpath("data/categories.toml").read_text("utf-8"))
    categories = {
        key: Category(key, Text(row["zh"], row["en"]), row["sensitivity"], row["roles"])
        for key, row in table["category"].items()
    }
    purposes = {key: Text(row["zh"], row["en"]) for key, row in table["purpose"].items()}
    return table["version"], categories, purposes


VERSION, CATEGORIES, PURPOSES = _load()
