"""Who is counted as one, and whose requests are not forgotten over others'."""

import re

import pytest

from federation.http.limits import RateLimit, line
from federation.reasons import Refusal


def spend(limit: RateLimit, client: str) -> int:
    """How many requests a client has at once."""
    for taken in range(1_000):
        try:
            limit.take(client)
        except Refusal:
            return taken
    raise AssertionError("no end")


def test_strangers_of_any_number_do_not_give_a_platform_a_new_burst():
    limit = RateLimit(60, lambda: 0.0)
    assert spend(limit, "platform") == 10
    for number in range(10_001):
        limit.take_stranger(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert spend(limit, "platform") == 0


def test_all_addresses_of_one_line_share_one_bucket():
    limit = RateLimit(60, lambda: 0.0)
    for number in range(10):
        limit.take_stranger(f"2001:db8:1:2::{number:x}")
    with pytest.raises(Refusal):
        limit.take_stranger("2001:db8:1:2:ffff::1")
    limit.take_stranger("2001:db8:1:3::1")


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:DB8:0:1::9", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        (None, ""),
        ("/run/socket", "/run/socket"),
    ],
)
def test_a_stranger_is_counted_by_the_line(address, counted):
    assert line(address) == counted


@pytest.mark.parametrize("per_minute", [1, 3, 5, 6, 10, 60, 600])
def test_who_keeps_to_the_policy_that_is_told_is_never_refused_and_who_asks_more_at_once_is(per_minute):
    now = 0.0
    limit = RateLimit(per_minute, lambda: now)
    told = re.fullmatch(r'"default";q=(\d+);w=(\d+)', limit.headers(0)["RateLimit-Policy"])
    assert told is not None
    quota, window = int(told.group(1)), int(told.group(2))
    for _window in range(20):
        for _request in range(quota):
            limit.take("platform")
        now += window
    assert spend(limit, "platform") == quota
