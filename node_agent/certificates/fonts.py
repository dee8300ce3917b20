"""The fonts documents are set in: where they lie, and which characters they have, so that none is lost or drawn as a box.

Noto Serif CJK first; BabelStone Han and Hanazono Mincho for the characters of names it lacks. Together they hold all of
GB 18030-2022 level 3 (URO and extensions A to F) and part of G and H.
"""

from __future__ import annotations

import struct
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import typst

from federation.reasons import Reason, Refusal

FAMILIES = ("Noto Serif CJK SC", "BabelStone Han", "HanaMinA", "HanaMinB")
"""Asked in this order for every character."""

REQUIRED = ("NotoSerifCJK-Regular.ttc", "NotoSerifCJK-Bold.ttc", "BabelStoneHan.ttf")
OPTIONAL = ("HanaMinA.ttf", "HanaMinB.ttf")

OWN_FOLDER = Path(sys.prefix) / "share/fonts/lantai"
"""Where `make setup` puts fonts that the system lacks."""

_SYSTEM_FOLDERS = (
    Path("/usr/share/fonts/opentype/noto"),
    Path("/usr/share/fonts/truetype/babelstone"),
    Path("/usr/share/fonts/truetype/hanazono"),
)
_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))


class FontsMissingError(Exception):
    """A font documents need is not there; the text says which, and what to do."""


@dataclass(frozen=True)
class FontSet:
    """Fonts ready for typesetting. `covered` holds every code point one of them has a glyph for."""

    fonts: typst.Fonts
    covered: frozenset[int]

    def check_all(self, value: object, pointer: str) -> None:
        """`check` of every text in a tree of objects and lists; the pointer leads to it."""
        for place, text in texts(value, pointer):
            self.check(text, place)

    def check(self, text: str, pointer: str) -> None:
        """Refusal when a character can not be shown to everyone alike; `pointer` ends with its code point, for the archive."""
        for char in text:
            if unicodedata.category(char) == "Co":
                raise Refusal(Reason.PRIVATE_USE_CHARACTER, f"{pointer} U+{ord(char):04X}")
            if ord(char) not in self.covered and not any(ord(char) in one for one in _SELECTORS):
                raise Refusal(Reason.MISSING_GLYPH, f"{pointer} U+{ord(char):04X}")


def find(folder: Path | None = None) -> dict[str, Path]:
    """Font files by name: all from `folder` if one is given, else from the system or from `make setup`."""
    folders = (folder,) if folder is not None else (*_SYSTEM_FOLDERS, OWN_FOLDER)
    found: dict[str, Path] = {}
    for name in (*REQUIRED, *OPTIONAL):
        for place in folders:
            if name not in found and (place / name).is_file():
                found[name] = place / name
    return found


@lru_cache(maxsize=4)
def load(folder: Path | None = None) -> FontSet:
    """The fonts, read once in a process. Raises FontsMissingError."""
    found = find(folder)
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        names = "、".join(missing)
        raise FontsMissingError(
            f"缺少字体 {names}：请运行 make setup，或安装 fonts-noto-cjk、fonts-babelstone-han（另荐 fonts-hanazono），"
            f"或在设置中以 fonts 指定字体文件夹 · fonts missing ({', '.join(missing)}): run make setup, or install "
            "fonts-noto-cjk and fonts-babelstone-han (and fonts-hanazono), or name their folder with the setting `fonts`"
        )
    covered: set[int] = set()
    for path in found.values():
        try:
            covered.update(code_points(path.read_bytes()))
        except (struct.error, IndexError, ValueError) as error:
            raise FontsMissingError(
                f"字体文件损坏 {path.name} · {path.name} is damaged; install it again"
            ) from error
    # typst takes folders: other fonts in these are known to it too, and never used, since it falls back on none
    folders = sorted({path.parent for path in found.values()})
    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=folders)
    # without a family typst would leave all text out and say nothing
    absent = {FAMILIES[0], FAMILIES[1]} - set(fonts.families())
    if absent:
        raise FontsMissingError(f"字体文件中没有 {min(absent)} · the font files do not hold {min(absent)}")
    return FontSet(fonts, frozenset(covered))


def code_points(font: bytes) -> Iterator[int]:
    """The code points a font has glyphs for: its Unicode `cmap` of format 12, else of format 4 (OpenType 1.9)."""
    start = struct.unpack(">I", font[12:16])[0] if font[:4] == b"ttcf" else 0
    (tables,) = struct.unpack_from(">H", font, start + 4)
    records = (struct.unpack_from(">4sIII", font, start + 12 + 16 * place) for place in range(tables))
    cmap = next(offset for tag, _, offset, _ in records if tag == b"cmap")
    (count,) = struct.unpack_from(">H", font, cmap + 2)
    encodings = [struct.unpack_from(">HHI", font, cmap + 4 + 8 * place) for place in range(count)]
    by_format = {
        struct.unpack_from(">H", font, cmap + offset)[0]: cmap + offset
        for platform, _, offset in encodings
        if platform in {0, 3}
    }
    if 12 in by_format:
        yield from _segmented_coverage(font, by_format[12])
    elif 4 in by_format:
        yield from _segment_mapping(font, by_format[4])
    else:
        raise ValueError("no Unicode cmap")


def _segmented_coverage(font: bytes, at: int) -> Iterator[int]:
    (groups,) = struct.unpack_from(">I", font, at + 12)
    for first, last, glyph in struct.iter_unpack(">III", font[at + 16 : at + 16 + 12 * groups]):
        yield from range(first + (glyph == 0), last + 1)


def _segment_mapping(font: bytes, at: int) -> Iterator[int]:
    (twice,) = struct.unpack_from(">H", font, at + 6)
    segments = twice // 2
    ends = struct.unpack_from(f">{segments}H", font, at + 14)
    starts = struct.unpack_from(f">{segments}H", font, at + 16 + twice)
    for first, last in zip(starts, ends, strict=True):
        yield from range(first, min(last, 0xFFFE) + 1)


def texts(value: object, pointer: str) -> Iterator[tuple[str, str]]:
    """The texts in a tree of objects and lists, each with the pointer to it."""
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from texts(one, f"{pointer}/{key}")
    elif isinstance(value, (list, tuple)):
        for place, one in enumerate(value):
            yield from texts(one, f"{pointer}/{place}")
