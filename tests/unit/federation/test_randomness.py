"""Random bytes out of large pieces."""

import os

import pytest

from gateway.search.randomness import Randomness


@pytest.mark.parametrize("sizes", [[16] * 2_000, [1, 4_095, 1, 4_096, 4_097, 16], [10_000, 3]])
def test_every_byte_is_given_out_once_and_in_full(monkeypatch, sizes):
    read = []

    def urandom(size):
        piece = bytes((number * 7 + len(read) * 13) % 251 for number in range(size))
        read.append(piece)
        return piece

    monkeypatch.setattr(os, "urandom", urandom)
    random = Randomness()
    taken = [random.take(size) for size in sizes]
    assert [len(one) for one in taken] == sizes
    place, at = 0, 0  # each is the next of its piece, or the beginning of the next piece
    for one in taken:
        if read[place][at : at + len(one)] != one:
            place, at = place + 1, 0
        assert read[place][at : at + len(one)] == one
        at += len(one)
    assert place == len(read) - 1
