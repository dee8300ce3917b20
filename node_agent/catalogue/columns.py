"""The plan made from a table's headings: in which columns each field stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from node_agent.catalogue.cells import text_of
from node_agent.catalogue.headings import field_of


@dataclass(slots=True)
class Columns:
    """Where each field stands; several columns may mean one field, the first filled one counts."""

    headings: tuple[str, ...]
    places: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(cls, headings: list[str], extra: dict[str, str]) -> Columns:
        """The plan; `extra` says what headings mean that nobody could understand (a mapping's)."""
        places: dict[str, list[int]] = {}
        unknown = []
        for place, heading in enumerate(headings):
            found = _canonical(extra.get(heading, "")) or field_of(heading)
            if found:
                places.setdefault(found, []).append(place)
            elif heading.strip():
                unknown.append(heading.strip())
        if "place" not in places and "place_else" in places:
            places["place"] = places.pop("place_else")
        return cls(tuple(headings), {key: tuple(value) for key, value in places.items()}, tuple(unknown))

    def called(self, places: Iterable[int]) -> str:
        """What stands in these columns: the names of their fields, or the headings of those that mean none."""
        fields = {place: name for name, places_of in self.places.items() for place in places_of}
        return " ".join(
            dict.fromkeys(
                [
                    fields.get(place) or self.headings[place].strip() or f"#{place + 1}"
                    for place in places
                    if place < len(self.headings)
                ]
            )
        )

    def has(self, name: str) -> bool:
        return name in self.places

    def value(self, cells: list[Any], name: str) -> Any:
        """The first filled cell of a field in a row, "" when there is none."""
        places = self.places.get(name)
        if places is not None:
            for place in places:
                cell = cells[place]
                if cell and (not isinstance(cell, str) or not cell.isspace()):
                    return cell
                if cell is not None and not isinstance(cell, str):
                    return cell  # a zero
        return ""

    def text(self, cells: list[Any], name: str) -> str:
        """`value` as text."""
        value = self.value(cells, name)
        return value if isinstance(value, str) else text_of(value)


_CANONICAL_FIELDS = {"birth_date": "birth", "other_id_number": "other_id", "event_date": "event"}


def _canonical(name: str) -> str:
    return _CANONICAL_FIELDS.get(name, name)
