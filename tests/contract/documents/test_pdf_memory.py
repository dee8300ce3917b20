"""A verified PDF leaves memory at once, however the verification ended: the garbage collector hardly runs."""

from __future__ import annotations

import gc
import sys

import pytest

from federation.verify.report import Verdict
from tests.fakes.documents import Bureau, need_fonts


def plain(*, pages: int = 1) -> bytes:
    """A PDF that nobody sealed, of a megabyte."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[4 0 R]>>" % pages,
        b"<</Length 1000000>>\nstream\n" + b"x" * 1_000_000 + b"\nendstream",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>",
    ]
    parts, offsets = [b"%PDF-1.7\n"], []
    for number, one in enumerate(objects, 1):
        offsets.append(sum(map(len, parts)))
        parts.append(b"%d 0 obj\n%s\nendobj\n" % (number, one))
    start = sum(map(len, parts))
    table = b"".join(b"%010d 00000 n \n" % one for one in offsets)
    parts.append(b"xref\n0 5\n0000000000 65535 f \n" + table)
    parts.append(b"trailer\n<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % start)
    return b"".join(parts)


def read_objects() -> int:
    """What pyHanko has read out of PDFs and somebody still holds."""
    return sum(str(type(one).__module__).startswith("pyhanko.pdf_utils") for one in gc.get_objects())


@pytest.fixture(scope="module")
def issued(tmp_path_factory):
    need_fonts()
    with Bureau(tmp_path_factory.mktemp("bureau")) as bureau:
        yield bureau, bureau.pdf()


@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [
        (lambda pdf: pdf, Verdict.VALID),
        (lambda pdf: pdf + b"\n", Verdict.INVALID),
        (lambda pdf: pdf[:400] + b"\0" + pdf[401:], Verdict.INVALID),
        (lambda pdf: pdf[: len(pdf) // 2], Verdict.INVALID),
        (lambda pdf: pdf.replace(b"/Pages", b"/Pagez"), Verdict.INVALID),
        (lambda _pdf: plain(), Verdict.INVALID),
        (lambda _pdf: plain(pages=5_000), Verdict.INVALID),
        (lambda _pdf: plain()[:-9], Verdict.INVALID),
    ],
)
def test_of_a_verified_pdf_nothing_stays(issued, spoil, verdict):
    bureau, pdf = issued
    bureau.check(pdf)  # whatever is read once for good
    data, trust = spoil(pdf) + b"", bureau.trust()
    data = bytes(bytearray(data))  # held by nobody else
    gc.collect()
    gc.disable()
    try:
        held, objects = sys.getrefcount(data), read_objects()
        assert bureau.check(data, trust).verdict is verdict
        assert sys.getrefcount(data) == held
        assert read_objects() <= objects
    finally:
        gc.enable()
