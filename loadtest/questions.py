"""Questions about people who are in the archives' own indexes, and about people who are in none; with the truth beside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from node_agent.index import Lookup

# one simplified character, a form a clerk may have written instead; our own short list, for the `variant` kind only
_WRITTEN_OTHERWISE = dict(
    zip(
        "陈张刘杨黄赵吴孙马罗郑谢许邓萧冯国华伟强军红芳兰凤云龙庆梦丽",
        "陳張劉楊黃趙吳孫馬羅鄭謝許鄧蕭馮國華偉強軍紅芳蘭鳳雲龍慶夢麗",
        strict=True,
    )
)
_PURPOSES = {"marriage": "marriage_proof", "divorce": "divorce_proof", "student": "education_proof"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request body, and the archive that holds the record (None: nobody does)."""

    body: dict[str, Any]
    holder: str | None


class Questions:
    """Draws questions from the indexes under `folder/<archive code>`."""

    def __init__(self, folder: Path, codes: list[str], deadline_ms: int, most: int = 2_000) -> None:
        self._deadline_ms = deadline_ms
        self._people: list[tuple[str, str, str, str, int, int]] = []
        random = Random(0)
        for code in codes:
            lookup = Lookup(folder / code)
            records = lookup.holdings().records
            rids = random.sample(range(1, records + 1), min(records, most))
            for record in lookup.fetch(rids).values():
                person = next((one for one in record.persons if len(one.name) >= 2), None)
                if (
                    person is None
                    or record.event is None
                    or record.event.first_year != record.event.last_year
                ):
                    continue
                other = next((one.name for one in record.persons if one is not person and one.name), "")
                birth = person.birth.first_year if person.birth else record.event.first_year - 25
                self._people.append(
                    (code, record.category, person.name, other, birth, record.event.first_year)
                )
            lookup.close()
        if not self._people:
            raise ValueError("the archives hold nobody to ask about")

    def draw(self, kind: str, random: Random) -> Asked:
        """One question of a kind of the plan."""
        code, category, name, other, birth, year = random.choice(self._people)
        holder: str | None = code
        if kind == "variant":
            name = "".join(_WRITTEN_OTHERWISE.get(char, char) for char in name)
        elif kind == "absent":
            name, other, holder = (
                random.choice("褚卫蒋沈韩") + random.choice("㐂喦靇翀珅") + random.choice("垚犇骉麤"),
                "",
                None,
            )
        body = {
            "purpose": _PURPOSES.get(category, "other"),
            "category": category,
            "applicant": {"relation": "SELF"},
            "subject": {"name": name, "birth": str(birth), **({"other_name": other} if other else {})},
            "event": {"from": str(year - 2), "to": str(year + 2)},
            "deadline_ms": self._deadline_ms,
        }
        return Asked(body, holder)
