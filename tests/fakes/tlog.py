"""Trees in memory, events and logs for the tests of the evidence log. All people and codes are fictitious."""

from federation.tlog.checkpoint import ANY
from federation.tlog.event import Event, EventKind
from federation.tlog.merkle import leaf_hash
from federation.tlog.note import KeyKind, Signer
from federation.tlog.tiles import TILE_WIDTH, TiledTree, TilePath, extend

LEAVES = [leaf_hash(str(number).encode()) for number in range(1_200)]
LOG = Signer("log.example/330483", KeyKind.LOG, bytes(range(32)))
WITNESSES = [Signer(f"witness.example/{n}", KeyKind.WITNESS, bytes([n]) * 32) for n in (1, 2, 3)]
NOW_MS = 1_795_000_000_000


class MemoryTiles:
    """Tiles in a dictionary."""

    def __init__(self):
        self.tiles = {}

    def tile(self, level, number):
        return self.tiles.get((level, number), b"")

    def put_tile(self, level, number, data):
        self.tiles[level, number] = data


def tree_of(leaves):
    """A tree over leaf hashes, or over the first so many of LEAVES."""
    leaves = LEAVES[:leaves] if isinstance(leaves, int) else leaves
    store = MemoryTiles()
    extend(store, 0, leaves)
    return TiledTree(store, len(leaves))


def decided(number, request=None, **fields):
    """A decision about a case."""
    fields = {"digest": f"{number:064x}", "archive": "330483", "outcome": "approved"} | fields
    request = f"case-{number // 10}" if request is None else request
    return Event(EventKind.DECIDED, f"decision-{number}", NOW_MS + number, request, fields)


def tiles_of(size):
    """The last tile of every level a tree of `size` has: its partial tiles and the full ones they would follow."""
    level = 0
    while hashes := size >> (8 * level):
        number, width = divmod(hashes, TILE_WIDTH)
        yield TilePath(level, number, width) if width else TilePath(level, number - 1)
        level += 1


def check_entry(entry, proof, log):
    """The checkpoint under which an entry, erased or not, is in the log its proof speaks of; EvidenceError otherwise."""
    return proof.verify(leaf_hash(entry.commitment()), log, ANY).checkpoint
