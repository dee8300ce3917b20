"""Make federation/names/tables/{fold,pinyin}.tsv from opencc's and pypinyin's per-character data and our own lists.

fold.tsv: one class a line, its representative first. Classes are unions over one-to-many pairs (乾 干 幹), because keys
must meet whichever form a clerk chose; nothing is ever displayed through them.
pinyin.tsv: one toneless syllable a line with all representatives that read so first of all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import opencc
from pypinyin.constants import PINYIN_DICT

TABLES = Path(__file__).resolve().parent.parent / "federation/names/tables"
OPENCC_TABLES = ("TSCharacters", "TSCharactersExt", "HKVariants", "TWVariants", "JPShinjitaiCharacters")


def rows(path: Path) -> list[list[str]]:
    lines = path.read_text("utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def opencc_pairs(name: str) -> list[tuple[str, list[str]]]:
    """(character, its counterparts) of one of opencc's dictionaries, unpacked by opencc's own program."""
    base = Path(opencc.__file__).parent / "clib"
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "table.txt"
        source = base / f"share/opencc/{name}.ocd2"
        command = [
            str(base / "bin/opencc_dict"),
            "-i",
            str(source),
            "-o",
            str(text),
            "-f",
            "ocd2",
            "-t",
            "text",
        ]
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "LD_LIBRARY_PATH": str(base / "lib64")},
        )
        pairs = [line.split("\t") for line in text.read_text("utf-8").splitlines()]
    return [(left, right.split(" ")) for left, right in pairs if len(left) == 1]


class Classes:
    """Union-find over characters; of a class the plainest simplified character represents it."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self._better: set[str] = set()

    def find(self, char: str) -> str:
        while (parent := self._parent.setdefault(char, char)) != char:
            char = parent
        return char

    def join(self, better: str, other: str, *, simplified: bool) -> None:
        if simplified:
            self._better.add(better)
        self._parent[self.find(other)] = self.find(better)

    def _plainness(self, char: str) -> tuple[bool, bool, int]:
        try:
            char.encode("gb2312")
        except UnicodeEncodeError:
            return True, char not in self._better, ord(char)
        return False, char not in self._better, ord(char)

    def all(self) -> dict[str, list[str]]:
        grouped: dict[str, list[str]] = {}
        for char in self._parent:
            grouped.setdefault(self.find(char), []).append(char)
        classes = {}
        for members in grouped.values():
            root, *others = sorted(set(members), key=self._plainness)
            if others:
                classes[root] = sorted(others)
        return classes


def fold_classes() -> dict[str, list[str]]:
    classes = Classes()
    for name in OPENCC_TABLES:
        for char, counterparts in opencc_pairs(name):
            for other in counterparts:
                if len(other) == 1 and other != char:
                    classes.join(other, char, simplified=name == "TSCharacters")
    for name in ("own_variants", "own_simplified_1977"):
        for better, *others in rows(TABLES / f"{name}.tsv"):
            for other in others:
                if other != better:
                    classes.join(better, other, simplified=True)
    for code in [*range(0xF900, 0xFB00), *range(0x2F800, 0x2FA20), *range(0x2E80, 0x2FE0)]:
        char = chr(code)
        plain = unicodedata.normalize("NFKC", char)
        if len(plain) == 1 and plain != char:
            classes.join(plain, char, simplified=False)
    return classes.all()


def toneless(reading: str) -> str:
    reading = (
        reading.replace("ü", "v").replace("ǘ", "v").replace("ǚ", "v").replace("ǜ", "v").replace("ǖ", "v")
    )
    plain = unicodedata.normalize("NFD", reading.replace("ê", "e"))
    return "".join(char for char in plain if not unicodedata.combining(char))


def pinyin_lines(classes: dict[str, list[str]]) -> list[str]:
    folded_away = {member for members in classes.values() for member in members}
    syllables: dict[str, list[str]] = {}
    for code, readings in sorted(PINYIN_DICT.items()):
        char = chr(code)
        if char not in folded_away:
            syllables.setdefault(toneless(readings.split(",")[0]), []).append(char)
    for root, members in classes.items():  # a representative without a reading borrows a member's
        if ord(root) not in PINYIN_DICT:
            known = [member for member in members if ord(member) in PINYIN_DICT]
            if known:
                syllables.setdefault(toneless(PINYIN_DICT[ord(known[0])].split(",")[0]), []).append(root)
    return [f"{syllable}\t{''.join(chars)}" for syllable, chars in sorted(syllables.items())]


def main() -> int:
    classes = fold_classes()
    head = "# made by tools/build_tables.py; do not edit\n"
    fold = "\n".join("\t".join([root, *members]) for root, members in sorted(classes.items()))
    texts = {"fold.tsv": head + fold + "\n", "pinyin.tsv": head + "\n".join(pinyin_lines(classes)) + "\n"}
    if "--check" in sys.argv:
        stale = [name for name, text in texts.items() if (TABLES / name).read_text("utf-8") != text]
        if stale:
            print(f"not what tools/build_tables.py makes: {', '.join(stale)}")
        return 1 if stale else 0
    for name, text in texts.items():
        (TABLES / name).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
