"""The Merkle tree of RFC 6962 and RFC 9162: hashes, roots, inclusion and consistency proofs and their verification.

Everything here works on hashes and sizes alone. Verification is strict: sizes within 63 bits, every hash of 32 bytes, no
hash missing and none left over.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from federation.tlog.flaws import EvidenceError, Flaw

HASH_BYTES = 32
LARGEST_SIZE = 2**63 - 1
"""Sizes are signed 64-bit numbers in SQLite and in the Go implementations."""
EMPTY_ROOT = sha256(b"").digest()

Span = tuple[int, int]
"""Leaves `[start, end)` whose hash is one node of a proof."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf (RFC 6962 2.1)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (RFC 6962 2.1)."""
    return sha256(b"\x01" + left + right).digest()


def tree_root(hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes; the root of no leaves is the hash of nothing.

    Pairing level by level and carrying a lone last hash upwards gives the tree of the RFC, which splits at the largest
    power of two.
    """
    if not hashes:
        return EMPTY_ROOT
    while len(hashes) > 1:
        paired = [
            sha256(b"\x01" + hashes[at] + hashes[at + 1]).digest() for at in range(0, len(hashes) - 1, 2)
        ]
        if len(hashes) % 2:
            paired.append(hashes[-1])
        hashes = paired
    return hashes[0]


def split(start: int, end: int) -> int:
    """Where the tree over `[start, end)` of two or more leaves splits: after the largest power of two below its size."""
    return start + (1 << ((end - start - 1).bit_length() - 1))


def inclusion_spans(index: int, size: int) -> list[Span]:
    """The nodes of the inclusion proof of leaf `index` in a tree of `size`, from the leaf's sibling upwards."""
    if not 0 <= index < size <= LARGEST_SIZE:
        raise EvidenceError(Flaw.UNKNOWN_ENTRY, f"index {index} in a tree of {size}")
    spans: list[Span] = []
    start, end = 0, size
    while end - start > 1:
        middle = split(start, end)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((start, middle))
            start = middle
    return spans[::-1]


def consistency_spans(old: int, new: int) -> list[Span]:
    """The nodes of the consistency proof between trees of `old` and `new` leaves, lowest first (RFC 9162 2.1.4.1)."""
    if not 0 < old <= new <= LARGEST_SIZE:
        raise EvidenceError(Flaw.NOT_CONSISTENT, f"no proof from size {old} to {new}")
    spans: list[Span] = []
    start, end = 0, new
    while old != end:
        middle = split(start, end)
        if old <= middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((start, middle))
            start = middle
    if start:  # the old tree is not a node the verifier has: its last piece comes first
        spans.append((start, end))
    return spans[::-1]


def _check_hashes(*hashes: bytes) -> None:
    for one in hashes:
        if len(one) != HASH_BYTES:
            raise EvidenceError(Flaw.MALFORMED_PROOF, f"a hash of {len(one)} bytes")


def is_subtree(start: int, end: int) -> bool:
    """Whether `[start, end)` is a node of some tree: aligned to the smallest power of two that is no less than its size."""
    return 0 <= start < end <= LARGEST_SIZE and start % (1 << (end - start - 1).bit_length()) == 0


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes, *, start: int = 0
) -> None:
    """Check that `leaf` is number `index` of the tree of `size` leaves with this root (RFC 9162 2.1.3.2).

    With `start` the tree is the subtree `[start, size)` of a larger one. Raises EvidenceError when it is not proven.
    """
    if not (is_subtree(start, size) and start <= index < size):
        raise EvidenceError(Flaw.NOT_INCLUDED, f"no leaf {index} in [{start}, {size})")
    _check_hashes(leaf, root, *proof)
    place, last, found = index - start, size - start - 1, leaf
    for one in proof:
        if last == 0:
            raise EvidenceError(Flaw.NOT_INCLUDED, "more hashes than the tree is high")
        if place & 1 or place == last:
            found = node_hash(one, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, one)
        place, last = place >> 1, last >> 1
    if last or found != root:
        raise EvidenceError(Flaw.NOT_INCLUDED)


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of `new` leaves begins with the tree of `old` leaves. Raises EvidenceError when not proven.

    From the empty tree nothing can be proven; a tree is consistent with itself when the roots are equal.
    """
    verify_subtree_consistency(0, old, new, old_root, new_root, proof)


def verify_subtree_consistency(
    start: int, end: int, size: int, part_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of `size` leaves holds the subtree `[start, end)`, as in Merkle Tree Certificates.

    For `start` 0 it is the consistency proof of RFC 9162 2.1.4.2. Raises EvidenceError when it is not proven.
    """
    if not (is_subtree(start, end) and end <= size <= LARGEST_SIZE):
        raise EvidenceError(Flaw.NOT_CONSISTENT, f"[{start}, {end}) in a tree of {size}")
    first, last, top = start, end - 1, size - 1
    if end == size and start == 0:
        if proof or part_root != root:
            raise EvidenceError(Flaw.NOT_CONSISTENT, f"two roots of size {end}")
        return
    _check_hashes(part_root, root, *proof)
    rest = list(proof)
    while first != last and (last & 1 or last == top):
        first, last, top = first >> 1, last >> 1, top >> 1
    if first == last:
        part = whole = part_root
    elif rest:
        part = whole = rest.pop(0)
    else:
        raise EvidenceError(Flaw.NOT_CONSISTENT, "the proof is empty")
    for one in rest:
        if top == 0:
            raise EvidenceError(Flaw.NOT_CONSISTENT, "more hashes than the tree is high")
        if last & 1 or last == top:
            if first < last:
                part = node_hash(one, part)
            whole = node_hash(one, whole)
            while not last & 1:
                first, last, top = first >> 1, last >> 1, top >> 1
        else:
            whole = node_hash(whole, one)
        first, last, top = first >> 1, last >> 1, top >> 1
    if top or part != part_root or whole != root:
        raise EvidenceError(Flaw.NOT_CONSISTENT)


class Frontier:
    """A growing tree kept as the roots of its perfect subtrees: every root on the way, with no leaf remembered."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        size = self.size
        while size & 1:
            leaf = node_hash(self._peaks.pop(), leaf)
            size >>= 1
        self._peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root of what was added so far."""
        if not self._peaks:
            return EMPTY_ROOT
        found = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            found = node_hash(peak, found)
        return found
