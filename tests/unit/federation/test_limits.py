"""Who is counted as one, and whose requests are not forgotten over others'."""

import pytest

from federation.limits import RateLimit, line
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
