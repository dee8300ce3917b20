"""Scanned pages of a record made ready to leave: read, redacted, and drawn anew as plain pixels.

What leaves is a fresh JPEG of the pixels that remain: rectangles over third persons are painted into the pixels before
encoding, and text layers, thumbnails, comments and camera data of the source do not exist in it. Reading is done in a
process of its own with bounds on memory and time (`ScanReader`), since files may be damaged or hostile.
"""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec

from federation.reasons import Reason, Refusal

MOST_BYTES = 64 << 20
"""Of one source file: a page of DA/T 31 at 300 dpi in colour is 26 MB uncompressed."""
MOST_PIXELS = 80_000_000
"""Of one page: A3 at 600 dpi is 70 million."""
MOST_PAGES = 200
LONG_SIDE = 2339
"""Pixels of the long side of a copied page: A4 at 200 dpi, the least DA/T 31-2017 asks of a scan."""
QUALITY = 78
PAINT = (58, 58, 58)

SECONDS_PER_FILE = 60.0
_MEMORY = 1 << 30


class Rectangle(msgspec.Struct, frozen=True):
    """A part of a page (from 1) to hide, in shares of its width and height from the top left corner (0 to 1)."""

    left: float
    top: float
    right: float
    bottom: float
    page: int = 1

    @property
    def is_part(self) -> bool:
        """Whether it hides anything, and only of the page."""
        return 0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """One source file, which pages of it are copied (from 1; empty = all), and what of them is hidden."""

    path: str
    pages: tuple[int, ...] = ()
    hidden: tuple[Rectangle, ...] = ()


class CopiedPage(msgspec.Struct, frozen=True):
    """A page as it leaves: JPEG bytes, its size in pixels, whether something was hidden, the SHA-256 of the bytes."""

    jpeg: bytes
    width: int
    height: int
    redacted: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.jpeg).hexdigest()


class ScanReader:
    """Copies pages in a child process that is bounded in memory and time; a new one is started when it dies. One at a time."""

    def __init__(self, seconds: float = SECONDS_PER_FILE) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def pages(self, scans: Sequence[Scan]) -> list[CopiedPage]:
        """All pages in order. Refusal: file_unreadable, file_too_large; the pointer names the scan and page."""
        copied: list[CopiedPage] = []
        for number, scan in enumerate(scans):
            _check(scan, f"/scans/{number}")
            copied += self._ask(scan, f"/scans/{number}")
            if len(copied) > MOST_PAGES:
                raise Refusal(Reason.FILE_TOO_LARGE, "/scans")
        return copied

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _ask(self, scan: Scan, pointer: str) -> list[CopiedPage]:
        with self._lock:
            child = self._child or self._start()
            watch = threading.Timer(self._seconds, child.kill)
            watch.start()
            try:
                assert child.stdin is not None
                assert child.stdout is not None
                child.stdin.write(_framed(msgspec.msgpack.encode(scan)))
                child.stdin.flush()
                answer = msgspec.msgpack.decode(_read(child.stdout))
            except (OSError, EOFError):  # out of memory, out of time, or crashed on the file
                self._stop()
                raise Refusal(Reason.FILE_UNREADABLE, pointer) from None
            finally:
                watch.cancel()
        if "reason" in answer:
            raise Refusal(Reason(answer["reason"]), pointer + answer["pointer"])
        return [CopiedPage(*page) for page in answer["pages"]]

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "node_agent.certificates.scans"]
        root = Path(__file__).resolve().parents[2]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
        return self._child

    def _stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for stream in (self._child.stdin, self._child.stdout):
                if stream is not None:
                    stream.close()
            self._child = None


def _check(scan: Scan, pointer: str) -> None:
    path = Path(scan.path)
    if not path.is_file():
        raise Refusal(Reason.FILE_UNREADABLE, pointer)
    if path.stat().st_size > MOST_BYTES:
        raise Refusal(Reason.FILE_TOO_LARGE, pointer)
    for place, one in enumerate(scan.hidden):
        # a part hidden on a page that is not copied was meant for another
        if not one.is_part or (scan.pages and one.page not in scan.pages):
            raise Refusal(Reason.OUT_OF_RANGE, f"{pointer}/hidden/{place}")


# in the child ----------------------------------------------------------------------------------------------------


def copy_pages(scan: Scan) -> list[CopiedPage]:
    """Read one file and draw its pages anew. Refusal as ScanReader.pages, the pointer relative to the scan."""
    path = Path(scan.path)
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Refusal(Reason.FILE_TOO_LARGE)
    draw = _pdf_pages if data[:1024].lstrip().startswith(b"%PDF-") else _image_pages
    copied = [
        _page(image, [one for one in scan.hidden if one.page == number])
        for number, image in draw(data, scan.pages)
    ]
    # each page and each part asked for must be there; with no choice of pages all are copied, numbered from 1
    there = set(scan.pages) if scan.pages else set(range(1, len(copied) + 1))
    if not copied or len(copied) != len(there) or any(one.page not in there for one in scan.hidden):
        raise Refusal(Reason.OUT_OF_RANGE, "/pages")
    return copied


def _image_pages(data: bytes, wanted: tuple[int, ...]) -> Iterator[tuple[int, Any]]:
    from PIL import Image, ImageFile, ImageOps, ImageSequence

    Image.MAX_IMAGE_PIXELS = None  # judged here, from the header, before anything is decoded
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(BytesIO(data), formats=("PNG", "JPEG", "TIFF")) as source:
            for number, frame in enumerate(ImageSequence.Iterator(source), 1):
                if number > MOST_PAGES or frame.width * frame.height > MOST_PIXELS:
                    raise Refusal(Reason.FILE_TOO_LARGE, f"/pages/{number}")  # noqa: TRY301
                if not wanted or number in wanted:
                    frame.draft("RGB", (LONG_SIDE, LONG_SIDE))
                    # the camera's rotation belongs to the pixels, since what says so is left behind
                    yield number, ImageOps.exif_transpose(frame)
    except (Refusal, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise many kinds
        raise Refusal(Reason.FILE_UNREADABLE) from error


def _pdf_pages(data: bytes, wanted: tuple[int, ...]) -> Iterator[tuple[int, Any]]:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise Refusal(Reason.FILE_UNREADABLE) from error
    try:
        if len(document) > MOST_PAGES:
            raise Refusal(Reason.FILE_TOO_LARGE, "/pages")
        for number in range(1, len(document) + 1):
            if wanted and number not in wanted:
                continue
            try:
                page = document[number - 1]
                width, height = page.get_size()
                if not (1 <= width <= 14400 and 1 <= height <= 14400):  # the largest page of ISO 32000
                    raise Refusal(Reason.FILE_TOO_LARGE, f"/pages/{number}")
                yield number, page.render(scale=LONG_SIDE / max(width, height)).to_pil()
            except pypdfium2.PdfiumError as error:
                raise Refusal(Reason.FILE_UNREADABLE, f"/pages/{number}") from error
    finally:
        document.close()


def _page(image: Any, hidden: Sequence[Rectangle]) -> CopiedPage:
    from PIL import Image, ImageDraw

    image = _on_white(image)
    longest = max(image.size)
    if longest > LONG_SIDE:
        size = tuple(max(1, round(side * LONG_SIDE / longest)) for side in image.size)
        image = image.resize(size, Image.Resampling.LANCZOS)
    brush = ImageDraw.Draw(image)
    paint = PAINT if image.mode == "RGB" else PAINT[0]
    for one in hidden:
        # whole pixels outwards, so that no edge of a letter stays
        box = (
            int(one.left * image.width) - 1,
            int(one.top * image.height) - 1,
            int(one.right * image.width) + 1,
            int(one.bottom * image.height) + 1,
        )
        brush.rectangle(box, fill=paint)
    plain = Image.frombytes(image.mode, image.size, image.tobytes())  # pixels and nothing else
    out = BytesIO()
    plain.save(out, "JPEG", quality=QUALITY, optimize=True, subsampling=0 if image.mode == "L" else 2)
    return CopiedPage(out.getvalue(), plain.width, plain.height, bool(hidden))


def _on_white(image: Any) -> Any:
    from PIL import Image

    if image.mode in {"1", "L"}:
        return image.convert("L")
    if image.mode.startswith("I"):  # 16 bit grey
        return image.point(lambda value: value / 256).convert("L")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image)
        image = ground
    return image.convert("RGB")


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(8, "big") + body


def _read(stream: Any) -> bytes:
    head = stream.read(8)
    body = stream.read(int.from_bytes(head, "big")) if len(head) == 8 else b""
    if len(head) < 8 or len(body) < int.from_bytes(head, "big"):
        raise EOFError
    return bytes(body)


def _serve() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            scan = msgspec.msgpack.decode(_read(sys.stdin.buffer), type=Scan)
        except EOFError:
            return
        try:
            answer: dict[str, Any] = {
                "pages": [(one.jpeg, one.width, one.height, one.redacted) for one in copy_pages(scan)]
            }
        except Refusal as refusal:
            answer = {"reason": refusal.reason.value, "pointer": refusal.pointer}
        except MemoryError:
            answer = {"reason": Reason.FILE_TOO_LARGE.value, "pointer": ""}
        sys.stdout.buffer.write(_framed(msgspec.msgpack.encode(answer)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
