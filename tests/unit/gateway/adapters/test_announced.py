"""Hours archives announced: counted, promised by, and remembered when the archive is silent because it is closed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from federation.service_hours import ServiceHours
from gateway.adapters.announced import FILE, AnnouncedHours
from gateway.search.ports import Manifest

HOUR = 3_600_000
THURSDAY = 1_768_440_600_000
"""2026-01-15 09:30 in Shanghai."""
OFFICE = ServiceHours.from_dict({"weekly": {"thu": ["08:30-11:30", "13:30-17:00"], "fri": ["08:30-17:00"]}})
PLAIN = Manifest("330483", "桐乡市档案馆", 1, 100, {})


class Announcing:
    """What archives announced in this life of the gateway."""

    def __init__(self):
        self.manifests = {}

    def __call__(self, archive):
        return self.manifests.get(archive)


@pytest.fixture
def said():
    return Announcing()


@pytest.fixture
def hours(said, tmp_path):
    return AnnouncedHours(said, tmp_path)


def test_who_announces_nothing_is_always_open(hours, said):
    assert hours.service_ms("330483", THURSDAY, THURSDAY + 24 * HOUR) == 24 * HOUR
    said.manifests["330483"] = PLAIN
    assert hours.done_ms("330483", THURSDAY, HOUR) == THURSDAY + HOUR


def test_service_time_leaves_out_lunch_and_night(hours, said):
    said.manifests["330483"] = replace(PLAIN, hours=OFFICE)
    assert hours.service_ms("330483", THURSDAY, THURSDAY + 24 * HOUR) == (2 + 3.5 + 1) * HOUR


@pytest.mark.parametrize(
    ("work_h", "done_h"), [(1, 1), (2, 2), (2.5, 4.5), (5.5, 7.5), (6, 23.5)], ids=str
)  # after lunch, and the next morning
def test_work_that_does_not_fit_before_closing_is_done_after_opening(hours, said, work_h, done_h):
    said.manifests["330483"] = replace(PLAIN, hours=OFFICE)
    assert hours.done_ms("330483", THURSDAY, round(work_h * HOUR)) == THURSDAY + done_h * HOUR


def test_nothing_is_promised_of_a_desk_that_never_opens(hours, said):
    said.manifests["330483"] = replace(PLAIN, hours=ServiceHours.from_dict({}))
    assert hours.done_ms("330483", THURSDAY, HOUR) is None
    assert hours.service_ms("330483", THURSDAY, THURSDAY + HOUR) == 0


def test_what_was_announced_outlives_the_gateway_until_the_archive_says_otherwise(hours, said, tmp_path):
    said.manifests["330483"] = replace(PLAIN, hours=OFFICE)
    hours.of("330483")
    hours.save()
    nobody = Announcing()
    again = AnnouncedHours(nobody, tmp_path)
    assert again.of("330483") == OFFICE
    assert again.of("330400") is None
    nobody.manifests["330483"] = PLAIN  # it announces none any more
    assert again.of("330483") is None
    again.save()
    assert AnnouncedHours(Announcing(), tmp_path).of("330483") is None


def test_saving_writes_only_what_changed(hours, said, tmp_path):
    hours.save()
    assert not (tmp_path / FILE).exists()
    said.manifests["330483"] = replace(PLAIN, hours=OFFICE)
    hours.of("330483")
    hours.save()
    stamp = (tmp_path / FILE).stat().st_mtime_ns
    hours.of("330483")
    hours.save()
    assert (tmp_path / FILE).stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    "kept",
    [
        b"", b"[]", b"{", b'{"330483": {"zone": "UTC"}}', b"\xff", b'{"330483": {"zone": "\xff"}}',
        b'{"330483": {"weekly": ' + b"[" * 20_000,
    ],
    ids=["empty", "a list", "torn", "another zone", "no UTF-8", "no UTF-8 inside", "too deep"],
)  # fmt: skip
def test_a_file_that_can_not_be_read_is_as_if_nothing_had_been_said(said, tmp_path, kept):
    (tmp_path / FILE).write_bytes(kept)
    assert AnnouncedHours(said, tmp_path).of("330483") is None
