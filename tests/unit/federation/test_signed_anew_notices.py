"""Pages of notices of what was signed anew: what is read of them, and what spoils only itself."""

from __future__ import annotations

import json

import pytest

from federation.signed_anew import LARGEST_PAGE, MOST_NOTICES, Notice, Page, UnreadablePageError, read, write

ONE = Notice("01890000-0000-7000-8000-000000000000", "330483-2026-000001", "credential", "ab" * 32, 1)
OTHER = Notice("case-2", "330483-2026-000002", "qr", "cd" * 32, 2)
SAID = {"case_id": "case-2", "number": "330483-2026-000002", "form": "qr", "digest": "cd" * 32, "at_ms": 2}


def page(*notices: object, upto: object = 7) -> bytes:
    return json.dumps({"upto": upto, "notices": notices}).encode()


def test_what_is_written_is_read():
    assert read(write(7, [ONE, OTHER]), "330483") == Page(7, (ONE, OTHER))
    assert read(write(0, []), "330483") == Page(0, ())


def test_a_full_page_of_the_longest_notices_fits():
    longest = Notice("c" * 64, "330483-2026-" + "9" * 12, "credential", "ab" * 32, 2**53 - 1)
    data = write(2**53 - 1, [longest] * MOST_NOTICES)
    assert len(data) < LARGEST_PAGE // 4
    assert len(read(data, "330483").notices) == MOST_NOTICES


@pytest.mark.parametrize(
    "wrong",
    [
        1, None, [], {}, {**SAID, "at_ms": "2"}, {**SAID, "at_ms": 2.5}, {**SAID, "at_ms": True}, {**SAID, "at_ms": 0},
        {**SAID, "at_ms": -1}, {**SAID, "at_ms": 2**53}, {**SAID, "at_ms": 10**400}, {**SAID, "digest": "CD" * 32},
        {**SAID, "digest": "cd" * 31}, {**SAID, "digest": "cd" * 32 + "\n"}, {**SAID, "case_id": ""}, {**SAID, "case_id": "a" * 65},
        {**SAID, "case_id": "a\0"}, {**SAID, "form": "document"}, {**SAID, "form": ""},
        {**SAID, "number": "330400-2026-000002"}, {**SAID, "number": "330483-2026-"}, {**SAID, "number": "2026-1"},
    ],
)  # fmt: skip
def test_a_notice_that_is_none_spoils_only_itself(wrong):
    assert read(page(wrong, SAID), "330483") == Page(7, (OTHER,))


def test_a_field_of_a_later_version_is_passed_over():
    assert read(page({**SAID, "more": {"of": "it"}}), "330483") == Page(7, (OTHER,))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"\xff", page(upto=-1), page(upto=2**53), page(upto="7"), page(*[SAID] * (MOST_NOTICES + 1)),
        page() + b" " * LARGEST_PAGE, b"[" * 200_000, page({**SAID, "case_id": "\ud800"}), b'{"upto":1,"notices":[' + b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_page_is_named(data):
    with pytest.raises(UnreadablePageError):
        read(data, "330483")
