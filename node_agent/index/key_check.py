"""Whether the key at hand is the one an index was built with: under another one nothing would be found, and nobody told."""

from __future__ import annotations

import sqlite3
from typing import Any

from federation.keys import Keyer
from federation.names import fold
from node_agent.index import postings
from node_agent.index.packing import WHOLE_RANGE
from node_agent.index.payload import Codec

KEY_CHECK = "key_check"
_ROWS = 20


def fits(connection: sqlite3.Connection, keyer: Keyer, held: dict[str, Any]) -> bool:
    """Whether `keyer` has the key of the index; `held` is its `meta`."""
    kept = held.get(KEY_CHECK)
    if kept is not None:
        return bool(kept == keyer.check_value)
    return _finds_rows(connection, keyer, bytes(held["dictionary"]))


def _finds_rows(connection: sqlite3.Connection, keyer: Keyer, dictionary: bytes) -> bool:
    """The same of an index made before the check value was kept (the next change adds it): whether a name of its first
    rows stands under its key. One does by chance in 2**48 / keys; True when there is no name to look for.
    """
    codec = Codec(dictionary)
    payloads = connection.execute("select payload from rec limit ?", (_ROWS,)).fetchall()
    names = {fold(one.name) for (payload,) in payloads for one in codec.glimpse(payload).persons} - {""}
    return not names or any(
        postings.scan(connection, [(keyer.exact_name_key(name), *WHOLE_RANGE)], 0, 1, bounded=False)[0]
        for name in names
    )
