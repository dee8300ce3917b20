"""One cell by itself: whether it is filled, what it says as text, and whether it says yes."""

from __future__ import annotations

from datetime import date, datetime

from federation.keys import fold_certificate
from federation.names.invisible import visible
from node_agent.catalogue.names import clean_text

_YES = frozenset({"是", "y", "yes", "true", "t", "1", "已数字化", "有"})


def is_filled(cell: object) -> bool:
    return bool(cell.strip()) if isinstance(cell, str) else cell is not None


def text_of(cell: object) -> str:
    """A spreadsheet's value as text: whole numbers without a point, dates in ISO form."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "T" if cell else "F"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else repr(cell)
    if isinstance(cell, datetime):
        return cell.date().isoformat()
    if isinstance(cell, date):
        return cell.isoformat()
    return str(cell)


def quoted(cell: object) -> str:
    """A cell as a finding shows it: its beginning, in marks, so that no program takes it for a formula."""
    text = visible(" ".join(text_of(cell).split()))
    return f"“{text[:_SHOWN]}…”" if len(text) > _SHOWN else f"“{text}”"


_SHOWN = 40  # characters; the longest dates have some twenty


def cleaned(text: str) -> str:
    """The text without entities, control and invisible characters."""
    return clean_text(text)[0] if text else ""


def number_in(text: str) -> str:
    """A certificate number as written, "" where a placeholder stands in its place (无, ——, 不详, 000)."""
    return text if len(text) > _LONGEST_PLACEHOLDER or fold_certificate(text) else ""


_LONGEST_PLACEHOLDER = 8  # characters; what is longer is not looked into, for an import has millions


def says_yes(text: str) -> bool:
    return text.strip().lower() in _YES
