"""Copied pages: what was hidden is gone from the pixels, and nothing else of the source file travels."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pikepdf
import pypdfium2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, PngImagePlugin, TiffImagePlugin

from federation.reasons import Reason, Refusal
from federation.verify.report import Verdict
from node_agent.certificates.scans import LONG_SIDE, Rectangle, Scan, copy_pages
from tests.fakes.documents import Bureau

SECRET = (255, 0, 255)
WHERE = (100, 200, 300, 260)


def page(mode: str = "RGB", size: tuple[int, int] = (600, 800)) -> Image.Image:
    """A page with a third person: magenta, so that a single pixel of them that stays is seen."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).rectangle(WHERE, fill=SECRET)
    return image.convert(mode)


def hiding(
    size: tuple[int, int] = (600, 800), box: tuple[int, int, int, int] = WHERE, page: int = 1
) -> Rectangle:
    left, top, right, bottom = box
    return Rectangle(left / size[0], top / size[1], right / size[0], bottom / size[1], page)


def seen(jpeg: bytes) -> int:
    """How many pixels still show the third person: magenta, beyond the haze a source's own JPEG leaves around an edge."""
    pixels = np.asarray(Image.open(BytesIO(jpeg)).convert("RGB")).astype(int)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return int(((red > green + 110) & (blue > green + 110)).sum())


def copied(path: Path, **changes) -> list:
    return copy_pages(Scan(path=str(path), **changes))


@pytest.mark.parametrize(
    ("ending", "form"), [("png", "PNG"), ("jpg", "JPEG"), ("tif", "TIFF"), ("pdf", "PDF")]
)
def test_hidden_pixels_are_gone(tmp_path: Path, ending: str, form: str) -> None:
    path = tmp_path / f"page.{ending}"
    page().save(path, form)
    (open_page,), (hidden_page,) = copied(path), copied(path, hidden=(hiding(),))
    assert seen(open_page.jpeg) > 1000
    assert seen(hidden_page.jpeg) == 0
    assert hidden_page.redacted
    assert not open_page.redacted


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(left=st.integers(0, 500), top=st.integers(0, 700), width=st.integers(4, 90), height=st.integers(4, 90))
def test_hidden_pixels_are_gone_wherever_they_are(
    tmp_path: Path, left: int, top: int, width: int, height: int
) -> None:
    """Also at the edges, and when the page is drawn smaller than it was scanned."""
    size = (1800, 2400)
    box = (left * 3, top * 3, (left + width) * 3, (top + height) * 3)
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).rectangle(box, fill=SECRET)
    image.save(tmp_path / "page.png", compress_level=1)
    (made,) = copied(tmp_path / "page.png", hidden=(hiding(size, box),))
    assert max(made.width, made.height) == LONG_SIDE
    assert seen(made.jpeg) == 0


def test_the_text_behind_a_scan_does_not_travel(bureau: Bureau, tmp_path: Path) -> None:
    """A searchable PDF: picture above, recognised text below, people in its metadata."""
    source = bureau.pdf(bureau.decision("source:1"))
    assert "周羣軍" in pypdfium2.PdfDocument(source)[0].get_textpage().get_text_range()
    path = tmp_path / "source.pdf"
    with pikepdf.open(BytesIO(source)) as opened:
        opened.docinfo["/Author"] = "第三人王小明"
        opened.save(path)
    scan = Scan(path=str(path), hidden=(Rectangle(0, 0, 1, 1),))
    record = bureau.copy("leaves:1").statement.record
    plain = type(record)(archival_code=record.archival_code, category=record.category)
    statement = type(bureau.copy().statement)(record=plain, compared_on="2026-11-25")
    pdf = bureau.pdf(bureau.copy("leaves:1", statement=statement, scans=(scan,)))
    with pikepdf.open(BytesIO(pdf)) as opened:
        opened.save(
            tmp_path / "plain.pdf",
            compress_streams=False,
            object_stream_mode=pikepdf.ObjectStreamMode.disable,
        )
    everything = (tmp_path / "plain.pdf").read_bytes()
    text = "".join(one.get_textpage().get_text_range() for one in pypdfium2.PdfDocument(pdf))
    for gone in ("周羣軍", "王小明"):
        assert gone not in text
        assert gone.encode() not in everything
        assert gone.encode("utf-16-be") not in everything
    assert "与原件核对无异" in text.replace(" ", "")


def test_nothing_of_the_camera_travels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "王小明的相机", 6
    page().save(tmp_path / "a.jpg", "JPEG", exif=exif, comment=b"wang xiaoming")
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "wang xiaoming")
    page().save(tmp_path / "b.png", "PNG", pnginfo=texts)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = "wang xiaoming"
    page().save(tmp_path / "c.tif", "TIFF", tiffinfo=tags)
    for name in ("a.jpg", "b.png", "c.tif"):
        (made,) = copied(tmp_path / name)
        assert b"xiaoming" not in made.jpeg
        again = Image.open(BytesIO(made.jpeg))
        assert not again.getexif()
        assert "comment" not in again.info
    turned = copied(tmp_path / "a.jpg")[0]
    assert (turned.width, turned.height) == (800, 600), (
        "what the camera said of the rotation is in the pixels"
    )


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16", "LA"])
def test_every_kind_of_pixel(tmp_path: Path, mode: str) -> None:
    image = Image.new("I;16", (60, 80), 40_000) if mode == "I;16" else page(mode)
    path = tmp_path / "page.tif"
    if mode in {"P", "RGBA", "LA"}:
        path = tmp_path / "page.png"
    image.save(path)
    (made,) = copied(path, hidden=(Rectangle(0, 0, 0.5, 0.5),))
    assert Image.open(BytesIO(made.jpeg)).mode in {"L", "RGB"}


def test_pages_of_a_file_are_chosen_and_hidden_one_by_one(tmp_path: Path) -> None:
    pages = [page(), page(), page()]
    pages[0].save(tmp_path / "three.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "three.pdf", save_all=True, append_images=pages[1:])
    for name in ("three.tif", "three.pdf"):
        made = copied(tmp_path / name, pages=(1, 3), hidden=(hiding(page=3),))
        assert [seen(one.jpeg) > 0 for one in made] == [True, False]
        assert [one.redacted for one in made] == [False, True]
        assert len(copied(tmp_path / name)) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"pages": (4,)},
        {"pages": (0,)},
        {"hidden": (hiding(page=4),)},
        {"hidden": (hiding(page=0),)},
        {"pages": (1,), "hidden": (hiding(page=2),)},
        {"hidden": (Rectangle(0.5, 0, 0.4, 1),)},
        {"hidden": (Rectangle(0, 0, 1.2, 1),)},
    ],
)
def test_pages_and_parts_that_do_not_exist_are_refused(bureau: Bureau, tmp_path: Path, changes: dict) -> None:
    """Hiding something on a page that is not there would leave it in the open on another."""
    page().save(tmp_path / "one.png")
    with pytest.raises(Refusal) as refused:
        bureau.scans.pages([Scan(path=str(tmp_path / "one.png"), **changes)])
    assert refused.value.reason is Reason.OUT_OF_RANGE


def test_a_certified_copy_with_hidden_parts_says_so_and_is_valid(bureau: Bureau, tmp_path: Path) -> None:
    page().save(tmp_path / "one.png")
    pdf = bureau.pdf(
        bureau.copy("hidden:1", scans=(Scan(path=str(tmp_path / "one.png"), hidden=(hiding(),)),))
    )
    text = pypdfium2.PdfDocument(pdf)[1].get_textpage().get_text_range().replace(" ", "")
    assert "遮盖" in text
    assert "与原件核对无异" in text
    assert "X032-ZY·JH·1990-0127-018" in text
    report = bureau.check(pdf)
    assert report.verdict is Verdict.VALID
    assert report.facts["pages"][0]["redacted"]
    picture = pypdfium2.PdfDocument(pdf)[1].render(scale=2).to_pil()
    out = BytesIO()
    picture.save(out, "PNG")
    assert seen(out.getvalue()) == 0
