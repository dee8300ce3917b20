"""Setting a document: sheets and copied pages to PDF/A-4f with typst, all values as data, no lost character.

Copied pages and attached files go to typst as files in memory: nothing of a person is written anywhere before the finished
document is kept, so that a process killed at any moment leaves nothing behind.
Fails closed three times: characters are checked against the fonts, typst refuses what it can not draw, and the text
read back from the finished page must hold every value that was given.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import msgspec
import pypdfium2
import segno
import typst

from federation.reasons import Reason, Refusal
from node_agent.certificates import fonts
from node_agent.certificates.attachments import Attachment
from node_agent.certificates.scans import CopiedPage

STANDARD: Final = "a-4f"
"""PDF/A-4 with embedded files (ISO 19005-4), which is PDF 2.0 as signatures with elliptic curves need."""

SEAL_SIDE_PT = 42 / 25.4 * 72
"""The seal's diameter: 42 mm, as Chinese institutions of county rank use."""

_TEMPLATES = Path(__file__).parent / "templates"
_OPEN_FILES = "/proc/self/fd"
"""Where a process finds its own open files under their descriptors, proc_pid_fd(5)."""

_PAGE_HEIGHT = 297 / 25.4 * 72
_COPY_BOX = (180 / 25.4 * 72, 250 / 25.4 * 72)
_BLANK = dict.fromkeys(map(ord, " \t\r\n\u00a0\u3000\ufffe\u200b\u00ad"))


@dataclass(frozen=True, slots=True)
class SealPlace:
    """Where the visible signature goes: page from 0, and its box in PDF points from the lower left corner."""

    page: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Set:
    """A document that is set but not signed."""

    pdf: bytes
    seal: SealPlace


class Typesetter:
    """Sets documents with one archive's fonts. Any thread may call; typst is entered by one at a time."""

    def __init__(self, font_folder: Path | None = None) -> None:
        self.fonts = fonts.load(font_folder)
        self._lock = threading.Lock()
        self._templates = {name: (_TEMPLATES / f"{name}.typ").read_bytes() for name in ("document", "seal")}

    def seal(self, name: str, purpose: str) -> bytes:
        """The drawing of a round seal, as a PDF of one page of its size."""
        self.fonts.check(name + purpose, "/seal")
        data = {"name": name, "purpose": purpose, "fonts": fonts.FAMILIES}
        with self._lock:
            drawing = _drawn(self._compiler("seal", data), 0)
        if name.translate(_BLANK) not in _text_of(drawing):
            raise Refusal(Reason.TEXT_NOT_KEPT, "/seal")
        return drawing

    def check(self, sheets: Sequence[dict[str, Any]]) -> None:
        """Refusal when a character of the sheets can not be shown to everyone alike."""
        self.fonts.check_all(sheets, "/sheets")

    def document(
        self,
        sheets: Sequence[dict[str, Any]],
        pages: Sequence[CopiedPage],
        attachments: Sequence[Attachment],
        *,
        number: str,
        compared: str,
        captions: Sequence[str],
        notes: Sequence[str],
        qr_text: str,
        qr_caption: Sequence[str],
        short_code: str = "",
        address: str = "",
        at: datetime,
    ) -> Set:
        """Set one document. `short_code` is printed as given, `address` as a second, small QR code. Refusal: private_use_character, missing_glyph, text_not_kept."""
        first = sheets[0]
        self.check(sheets)
        self.fonts.check_all([*captions, *notes, *qr_caption, number], "/captions")
        contents = [*(page.jpeg for page in pages), *(one.content for one in attachments)]
        with _in_memory(contents) as paths:
            data = {
                "fonts": fonts.FAMILIES,
                "title": first["title"],
                "archive": first["archive"],
                "number": number,
                "keywords": [number],
                "compared": compared,
                "sheets": sheets,
                "qr": qr_svg(qr_text),
                "qr_caption": list(qr_caption),
                "short_code": short_code,
                "address_qr": qr_svg(address) if address else "",
                "pages": [
                    _placed(page, paths[place], captions[place], notes[place])
                    for place, page in enumerate(pages)
                ],
                "attachments": [
                    {
                        "name": one.name,
                        "file": path,
                        "relationship": one.relationship,
                        "mime": one.mime,
                        "description": one.description,
                    }
                    for one, path in zip(attachments, paths[len(pages) :], strict=True)
                ],
            }
            with self._lock:
                pdf = _drawn(self._compiler("document", data), int(at.timestamp()))
                where = msgspec.json.decode(
                    self._compiler("document", data).query("<seal-place>", field="value", one=True)
                )
        _check_text_kept(pdf, sheets, [short_code])
        left = round(where["x"] - SEAL_SIDE_PT / 2)
        bottom = round(_PAGE_HEIGHT - where["y"] - SEAL_SIDE_PT)
        side = round(SEAL_SIDE_PT)
        return Set(pdf, SealPlace(where["page"] - 1, (left, bottom, left + side, bottom + side)))

    def _compiler(self, name: str, data: dict[str, Any]) -> typst.Compiler:
        """For one use: typst finds the template in memory once. It reads files by their descriptors; the disk is out of its reach."""
        return typst.Compiler(
            {"main.typ": self._templates[name]},  # type: ignore[type-var]  # its manual knows it, its types do not yet
            root=_OPEN_FILES,
            font_paths=self.fonts.fonts,
            ignore_system_fonts=True,
            sys_inputs={"data": msgspec.json.encode(data).decode()},
        )


@contextmanager
def _in_memory(contents: Iterable[bytes]) -> Iterator[list[str]]:
    """Files without a name and on no disk, memfd_create(2), gone with this process however it ends: their paths below
    `_OPEN_FILES`. Refusal(STORE_UNAVAILABLE) when there is no memory or no descriptor left.

    typst keeps every path it was ever given, and can not go on after 65,535 of them: those of descriptors come again.
    """
    with ExitStack() as stack:
        paths = []
        try:
            for content in contents:
                file = os.memfd_create("typesetting")
                stack.callback(os.close, file)
                left = memoryview(content)
                while left:
                    left = left[os.write(file, left) :]
                paths.append(f"/{file}")
        except OSError as error:
            raise Refusal(Reason.STORE_UNAVAILABLE) from error
        yield paths


def _drawn(compiler: typst.Compiler, timestamp: int) -> bytes:
    try:
        made = compiler.compile(format="pdf", pdf_standards=[STANDARD], timestamp=timestamp)
    except typst.TypstError as error:
        # typst's own message may quote the text it could not set: it goes no further
        reason = (
            Reason.PRIVATE_USE_CHARACTER if "private area" in " ".join(error.hints) else Reason.MISSING_GLYPH
        )
        raise Refusal(reason, "/sheets") from None
    assert isinstance(made, bytes)
    return made


def qr_svg(text: str, border: int = 0) -> str:
    """The QR code of a text (ISO/IEC 18004, level M) as SVG. Its quiet zone is `border` modules wide: none where the page
    around it is white, four where it stands alone.
    """
    out = BytesIO()
    segno.make(text, error="m", micro=False, boost_error=False).save(
        out, kind="svg", border=border, xmldecl=False, svgns=True, nl=False, omitsize=True
    )
    return out.getvalue().decode()


def _placed(page: CopiedPage, file: str, caption: str, note: str) -> dict[str, Any]:
    scale = min(_COPY_BOX[0] / page.width, _COPY_BOX[1] / page.height)
    return {
        "file": file,
        "width": page.width * scale,
        "height": page.height * scale,
        "alt": caption,
        "caption": caption,
        "note": note,
    }


def _check_text_kept(pdf: bytes, sheets: Sequence[dict[str, Any]], beside: Sequence[str]) -> None:
    """Every value must be read back from the page as it was given, but for spaces and line breaks."""
    read = _text_of(pdf)
    if any(one not in read for one in beside):
        raise Refusal(Reason.TEXT_NOT_KEPT, "/captions")
    for place, sheet in enumerate(sheets):
        values = [value for _, value in [*sheet["rows"], *sheet.get("facts", ())]]
        values += [cell for row in (sheet["table"] or {"rows": ()})["rows"] for cell in row]
        for number, value in enumerate(values):
            if value.translate(_BLANK) not in read:
                # such as a font's empty glyph: drawn as nothing, and read back as nothing
                lost = next((f" U+{ord(char):04X}" for char in value if char not in read), "")
                raise Refusal(Reason.TEXT_NOT_KEPT, f"/sheets/{place}/values/{number}{lost}")


def _text_of(pdf: bytes) -> str:
    document = pypdfium2.PdfDocument(pdf)
    try:
        return "".join(page.get_textpage().get_text_range() for page in document).translate(_BLANK)
    finally:
        document.close()
