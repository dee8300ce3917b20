"""The tree, its proofs and its tiles: published vectors, the RFC's own definition, and what must never verify."""

import base64
import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.merkle import (
    EMPTY_ROOT,
    Frontier,
    inclusion_spans,
    is_subtree,
    leaf_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
)
from federation.tlog.tiles import TILE_BYTES, TiledTree, TilePath, extend
from tests.fakes.tlog import LEAVES, MemoryTiles, tiles_of, tree_of

VECTORS = Path(__file__).parents[5] / "shared" / "vectors" / "merkle" / "testdata"


def by_definition(hashes):
    """MTH of RFC 6962 2.1, word for word."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"").digest()
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return sha256(b"\x01" + by_definition(hashes[:k]) + by_definition(hashes[k:])).digest()


def bits(data):
    return base64.b64decode(data or "")


def vectors(kind):
    if not VECTORS.is_dir():
        pytest.skip("no ../shared/vectors/merkle")
    files = sorted((VECTORS / kind).rglob("*.json"))
    assert files
    for path in files:
        yield path.relative_to(VECTORS), json.loads(path.read_text())


def judged(verify, *arguments, **options):
    try:
        verify(*arguments, **options)
    except EvidenceError:
        return False
    return True


def test_published_inclusion_proofs():
    for path, case in vectors("inclusion"):
        proof = [bits(one) for one in case["proof"] or ()]
        leaf, root = bits(case["leafHash"]), bits(case["root"])
        assert (
            judged(verify_inclusion, case["leafIdx"], case["treeSize"], leaf, proof, root)
            is not case["wantErr"]
        ), path


def test_published_inclusion_proofs_in_subtrees():
    for path, case in vectors("subtreeinclusion"):
        proof = [bits(one) for one in case["proof"] or ()]
        leaf, root = bits(case["leafHash"]), bits(case["root"])
        assert (
            judged(verify_inclusion, case["leafIdx"], case["end"], leaf, proof, root, start=case["start"])
            is not case["wantErr"]
        ), path


def test_published_consistency_proofs():
    for path, case in vectors("consistency"):
        proof = [bits(one) for one in case["proof"] or ()]
        roots = bits(case["root1"]), bits(case["root2"])
        assert (
            judged(verify_consistency, case["size1"], case["size2"], *roots, proof) is not case["wantErr"]
        ), path


def test_published_consistency_proofs_of_subtrees():
    empty = 0
    for path, case in vectors("subtreeconsistency"):
        proof = [bits(one) for one in case["proof"] or ()]
        roots = bits(case["root1"]), bits(case["root2"])
        accepted = judged(verify_subtree_consistency, case["start"], case["end"], case["size"], *roots, proof)
        if case["start"] == case["end"]:
            empty += 1  # the vectors take an empty part as part of anything; here it proves nothing
            assert not accepted, path
        else:
            assert accepted is not case["wantErr"], path
    assert empty


def test_the_reference_roots_of_rfc_6962():
    entries = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    leaves = [leaf_hash(bytes.fromhex(entry)) for entry in entries]
    assert [tree_root(leaves[: size + 1]).hex() for size in range(8)] == roots
    assert tree_root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.integers(0, 1_200))
def test_every_way_to_a_root_agrees_with_the_definition(size):
    root = by_definition(LEAVES[:size])
    frontier = Frontier()
    for leaf in LEAVES[:size]:
        frontier.add(leaf)
    assert tree_root(LEAVES[:size]) == root == tree_of(size).root() == frontier.root()


@given(st.lists(st.integers(1, 400), max_size=6).filter(lambda parts: sum(parts) <= 1_200))
def test_batches_make_the_same_tiles_as_one_append(parts):
    store, size = MemoryTiles(), 0
    for part in parts:
        size = extend(store, size, LEAVES[size : size + part])
    whole = MemoryTiles()
    extend(whole, 0, LEAVES[:size])
    assert store.tiles == whole.tiles


@given(st.data())
def test_a_tree_proves_its_leaves_and_nothing_else(data):
    size = data.draw(st.integers(1, 1_200))
    index = data.draw(st.integers(0, size - 1))
    now = data.draw(st.integers(size, 1_200))
    tree = TiledTree(tree_of(now)._source, size)  # an older tree read from grown tiles
    root, proof = tree.root(), list(tree.inclusion(index))
    verify_inclusion(index, size, LEAVES[index], proof, root)
    other = data.draw(st.integers(0, size - 1).filter(lambda one: one != index)) if size > 1 else None
    if other is not None:
        assert not judged(verify_inclusion, other, size, LEAVES[index], proof, root)
        assert not judged(verify_inclusion, index, size, LEAVES[other], proof, root)
    assert not judged(verify_inclusion, index, size, LEAVES[index], [*proof, root], root)
    assert not judged(verify_inclusion, index, size, LEAVES[index], proof, flipped(root, data))
    if proof:
        spoiled = list(proof)
        at = data.draw(st.integers(0, len(proof) - 1))
        spoiled[at] = flipped(spoiled[at], data)
        assert not judged(verify_inclusion, index, size, LEAVES[index], spoiled, root)
        assert not judged(verify_inclusion, index, size, LEAVES[index], proof[:-1], root)
        assert not judged(verify_inclusion, index, size, LEAVES[index], proof[1:], root)


@given(st.data())
def test_a_tree_proves_its_past_and_no_other(data):
    new = data.draw(st.integers(1, 1_200))
    old = data.draw(st.integers(1, new))
    tree = tree_of(new)
    before, root, proof = tree_root(LEAVES[:old]), tree.root(), list(tree.consistency(old))
    verify_consistency(old, new, before, root, proof)
    assert not judged(verify_consistency, old, new, flipped(before, data), root, proof)
    assert not judged(verify_consistency, old, new, before, flipped(root, data), proof)
    assert not judged(verify_consistency, old, new, before, root, [*proof, root])
    forked = list(LEAVES[:new])
    at = data.draw(st.integers(0, old - 1))
    forked[at] = leaf_hash(b"another history")
    fork = tree_of(forked)
    assert not judged(verify_consistency, old, new, before, fork.root(), fork.consistency(old))


@given(st.data())
def test_parts_of_a_tree_are_proven_as_in_merkle_tree_certificates(data):
    size = data.draw(st.integers(1, 700))
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size).filter(lambda one: is_subtree(start, one)))
    part, root = tree_root(LEAVES[start:end]), tree_root(LEAVES[:size])
    index = data.draw(st.integers(start, end - 1))
    path = [
        tree_root(LEAVES[start:end][low:high]) for low, high in inclusion_spans(index - start, end - start)
    ]
    verify_inclusion(index, end, LEAVES[index], path, part, start=start)
    verify_subtree_consistency(start, end, size, part, root, by_draft(start, end, 0, size, known=True))
    assert not judged(
        verify_subtree_consistency,
        start,
        end,
        size,
        flipped(part, data),
        root,
        by_draft(start, end, 0, size, known=True),
    )


def by_draft(start, end, low, high, *, known):
    """SUBTREE_PROOF of draft-ietf-plants-merkle-tree-certs, over leaves [low, high)."""
    if (start, end) == (low, high):
        return [] if known else [tree_root(LEAVES[low:high])]
    middle = low + (1 << ((high - low - 1).bit_length() - 1))
    if end <= middle:
        return [*by_draft(start, end, low, middle, known=known), tree_root(LEAVES[middle:high])]
    if start >= middle:
        return [*by_draft(start, end, middle, high, known=known), tree_root(LEAVES[low:middle])]
    return [*by_draft(middle, end, middle, high, known=False), tree_root(LEAVES[low:middle])]


def flipped(data, draw):
    at = draw.draw(st.integers(0, len(data) * 8 - 1))
    changed = bytearray(data)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


@pytest.mark.parametrize("size", [-1, 0, 2**63, 2**64])
def test_sizes_beyond_reason_are_refused(size):
    root = LEAVES[0]
    assert not judged(verify_inclusion, 0, size, root, [], root)
    assert not judged(verify_consistency, 1, size, root, root, [])
    assert not judged(verify_consistency, size, size, EMPTY_ROOT, EMPTY_ROOT, [])


def test_hashes_of_another_length_are_refused():
    two = tree_of(2)
    for cut in (LEAVES[1][:31], LEAVES[1] + b"\0", b""):
        assert not judged(verify_inclusion, 0, 2, LEAVES[0], [cut], two.root())
    assert not judged(verify_inclusion, 0, 1, b"", [], b"")
    assert not judged(verify_inclusion, 0, 1, b"x", [], b"x")


def test_tiles_of_seventy_thousand_as_the_specification_counts_them():
    assert [str(path) for path in tiles_of(70_000)] == [
        "tile/0/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]
    assert [str(path) for path in tiles_of(256)] == ["tile/0/000", "tile/1/000.p/1"]
    assert list(tiles_of(0)) == []


def test_tile_addresses_have_one_spelling():
    assert str(TilePath(0, 1_234_067)) == "tile/0/x001/x234/067"
    assert str(TilePath(None, 5, 3)) == "tile/entries/005.p/3"
    for bad in (
        "tile/0/67", "tile/00/067", "tile/0/x000/067", "tile/0/001/067", "tile/0/067.p/0", "tile/0/067.p/256",
        "tile/0/067.p/07", "tile/64/xxx", "/tile/0/067", "tile/0/067/", "tile/entries/067.p/٣", "tile/0/x1/067",
        "tile/0/" + "x999/" * 40 + "999", "tile/0/067\n",
    ):  # fmt: skip
        with pytest.raises(EvidenceError) as caught:
            TilePath.parse(bad)
        assert caught.value.flaw is Flaw.UNKNOWN_ENTRY


@given(st.none() | st.integers(0, 63), st.integers(0, 2**48), st.integers(1, 256))
def test_tile_addresses_read_as_written(level, number, width):
    path = TilePath(level, number, width)
    assert TilePath.parse(str(path)) == path


def test_a_tile_cut_short_is_named_and_never_hashed():
    tree = tree_of(300)
    tree._source.tiles[0, 0] = tree._source.tiles[0, 0][: TILE_BYTES - 1]
    with pytest.raises(EvidenceError) as caught:
        tree.inclusion(7)
    assert caught.value.flaw is Flaw.LOG_DAMAGED
