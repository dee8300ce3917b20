"""A masked description of a record that may be the one asked for; all that leaves an archive before approval."""

from __future__ import annotations

import msgspec

from federation.levels import Levels


class Candidate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`ref` is opaque to everyone but its archive. `year` 0 = not known. `fingerprints` are keyed digests of the
    event: an equal one in two archives means copies of one record. `name_bits` is -log2 of the share of the
    archive's records that carry the name (term frequency), so that a rare name counts for more.
    """

    ref: str
    category: str
    masked_name: str
    masked_other_name: str = ""
    year: int = 0
    place: str = ""
    levels: Levels
    name_bits: float = 0.0
    fingerprints: tuple[bytes, ...] = ()
    is_copy: bool = False
    digitised: bool = False
